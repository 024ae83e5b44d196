"""Facts as RDF Turtle. The one file that knows rdflib.

A two-place fact is the triple of its arguments, a one-place fact an ``rdf:type``. What RDF has no place for (further
arguments, kind, source, probability) stands on a node of type ``t:Fact``; a prediction stands there only, for a triple
would assert it. Names are kept percent-encoded in IRIs of ours. Of other IRIs the last part is the name, of literals
the text; two IRIs that would share a name, and blank nodes, are refused: what they are could not be told apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from rdflib import RDF, Graph, Literal, Namespace, URIRef
from rdflib.term import Node

from graph.errors import OntologyError
from graph.exchange.statement import BadRow, Faults, Statement, statement

_ENTITY: Final = "urn:tandem:entity:"
_PREDICATE: Final = "urn:tandem:predicate:"
_FACT: Final = "urn:tandem:fact:"
_TERMS: Final = Namespace("urn:tandem:terms:")
_ARGUMENT: Final = "urn:tandem:terms:argument"


def read(path: Path) -> list[Statement]:
    graph = Graph()
    try:
        graph.parse(data=path.read_bytes(), format="turtle")
    except (SyntaxError, ValueError, AssertionError) as error:
        raise OntologyError(f"{path} is no Turtle ({' '.join(str(error).split())}); correct it there") from error
    names = _Names()
    faults = Faults(path)
    found: dict[tuple[str, tuple[str, ...]], list[Statement]] = {}
    nodes = set(graph.subjects(RDF.type, _TERMS.Fact))
    for node in sorted(nodes, key=str):
        try:
            each = _described(graph, node, path.name)
        except BadRow as fault:
            faults.add(f" {node}", fault)
            continue
        found.setdefault((each.fact.predicate, each.fact.args), []).append(each)
    for triple in sorted(graph, key=lambda parts: [part.n3() for part in parts]):
        if triple[0] in nodes:
            continue
        try:
            predicate, args = _plain(triple, names)
            if (predicate, args) not in found:
                found[predicate, args] = [statement(predicate, args, "", path.name)]
        except BadRow as fault:
            faults.add(f" {' '.join(part.n3() for part in triple)}", fault)
    faults.check()
    return sorted(each for told in found.values() for each in told)


def write(path: Path, statements: Sequence[Statement]) -> None:
    graph = Graph()
    for prefix, base in (("e", _ENTITY), ("p", _PREDICATE), ("f", _FACT), ("t", str(_TERMS))):
        graph.bind(prefix, base)
    for each in statements:
        for triple in _triples(each):
            graph.add(triple)
    path.write_bytes(graph.serialize(format="turtle", encoding="utf-8"))


def _triples(each: Statement) -> Iterator[tuple[Node, Node, Node]]:
    fact = each.fact
    predicate = URIRef(_PREDICATE + quote(fact.predicate, safe=""))
    entities = [URIRef(_ENTITY + quote(name, safe="")) for name in fact.args]
    if each.kind != "predicted" and len(entities) == 2:
        yield entities[0], predicate, entities[1]
    elif each.kind != "predicted" and len(entities) == 1:
        yield entities[0], RDF.type, predicate
    # Named by its content: equal files for equal facts, and files can be merged.
    content = "\x1f".join((fact.predicate, *fact.args, each.kind, each.source, repr(each.probability)))
    node = URIRef(_FACT + hashlib.sha256(content.encode()).hexdigest()[:32])
    yield node, RDF.type, _TERMS.Fact
    yield node, _TERMS.predicate, predicate
    for place, entity in enumerate(entities, 1):
        yield node, URIRef(f"{_ARGUMENT}{place}"), entity
    yield node, _TERMS.kind, Literal(each.kind)
    yield node, _TERMS.source, Literal(quote(each.source, safe=" /:.,()"))
    if each.probability is not None:
        yield node, _TERMS.probability, Literal(repr(each.probability))


def _described(graph: Graph, node: Node, file: str) -> Statement:
    args: list[str] = []
    while (value := graph.value(node, URIRef(f"{_ARGUMENT}{len(args) + 1}"))) is not None:
        args.append(_own(value, _ENTITY))
    predicate = graph.value(node, _TERMS.predicate)
    if predicate is None:
        raise BadRow("the fact has no t:predicate; add it")
    kind, source, probability = (graph.value(node, term) for term in (_TERMS.kind, _TERMS.source, _TERMS.probability))
    return statement(
        _own(predicate, _PREDICATE),
        args,
        str(kind or ""),
        unquote(str(source)) if source else file,
        None if probability is None else str(probability),
    )


def _own(node: Node, base: str) -> str:
    text = str(node)
    if not text.startswith(base):
        raise BadRow(f"{node.n3()} where an IRI of {base} belongs; correct it")
    return unquote(text.removeprefix(base), errors="strict")


class _Names:
    """Names of IRIs, one to one."""

    def __init__(self) -> None:
        self._owner: dict[tuple[bool, str], str] = {}

    def of(self, node: Node, is_predicate: bool) -> str:
        text = str(node)
        if isinstance(node, Literal):
            return text
        if not isinstance(node, URIRef):
            raise BadRow("a blank node has no name that lasts; give it an IRI")
        base = _PREDICATE if is_predicate else _ENTITY
        if text.startswith(base):
            name = unquote(text.removeprefix(base))
        else:
            name = unquote(text.rstrip("/#").replace("#", "/").rpartition("/")[2].rpartition(":")[2])
        if not name and not text.startswith(base):
            raise BadRow(f"<{text}> has no last part to be its name; rename it")
        owner = self._owner.setdefault((is_predicate, name), text)
        if owner != text:
            raise BadRow(f"<{text}> and <{owner}> would both be named {name!r}; rename one of them")
        return name


def _plain(triple: tuple[Node, Node, Node], names: _Names) -> tuple[str, tuple[str, ...]]:
    subject, relation, target = triple
    if relation == RDF.type:
        return names.of(target, is_predicate=True), (names.of(subject, is_predicate=False),)
    return names.of(relation, is_predicate=True), (
        names.of(subject, is_predicate=False),
        names.of(target, is_predicate=False),
    )
