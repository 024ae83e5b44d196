"""How two things are related: shortest chains of two-place facts, each hop a fact. Knows networkx."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import networkx as nx

from graph.errors import NotDerived
from graph.ports import Fact, KnowledgeGraph, Proof


@dataclass(frozen=True, slots=True)
class Hop:
    """One fact of a path; ``forward`` where it leads from its first argument to its second."""

    proof: Proof
    forward: bool

    @property
    def fact(self) -> Fact:
        return self.proof.fact

    def __str__(self) -> str:
        first, second = self.fact.args
        arrow = f"--{self.fact.predicate}-->" if self.forward else f"<--{self.fact.predicate}--"
        return f"{first} {arrow} {second}" if self.forward else f"{second} {arrow} {first}"


def paths(
    graph: KnowledgeGraph, start: str, end: str, predicates: Iterable[str], most: int = 1
) -> list[tuple[Hop, ...]]:
    """The ``most`` shortest paths from ``start`` to ``end`` over facts of the two-place ``predicates``, shortest first.

    Facts are followed both ways. No path meets a thing twice. Of several facts between two things a hop is the one with
    the shortest proof, then the first by name. Yen's algorithm; the same answer on every run. Raises NotDerived where
    no path leads there, and UnknownPredicate.
    """
    edges: dict[tuple[str, str], list[Fact]] = {}
    net = nx.Graph()
    for predicate in sorted(set(predicates)):
        for fact in graph.query(Fact(predicate, ("?from", "?to"))):
            first, second = fact.args
            edges.setdefault((min(first, second), max(first, second)), []).append(fact)
            net.add_edge(first, second)
    for name in (start, end):
        if name not in net:
            raise NotDerived(f"no fact of these predicates names {name!r}; check its spelling or give more predicates")
    try:
        found = list(islice(_shortest(net, start, end), most))
    except nx.NetworkXNoPath:
        raise NotDerived(f"no path of facts leads from {start!r} to {end!r}; give more predicates or facts") from None
    return [tuple(_hop(graph, edges, *pair) for pair in pairwise(nodes)) for nodes in found]


def _shortest(net: nx.Graph, start: str, end: str) -> Iterator[list[str]]:
    if start == end:
        yield [start]
        return
    yield from nx.shortest_simple_paths(net, start, end)


def _hop(graph: KnowledgeGraph, edges: dict[tuple[str, str], list[Fact]], here: str, there: str) -> Hop:
    proofs = [graph.prove(fact) for fact in edges[min(here, there), max(here, there)]]
    best = min(proofs, key=lambda proof: (_height(proof), proof.fact))
    return Hop(best, best.fact.args == (here, there))


def _height(proof: Proof) -> int:
    """Steps from the lowest leaf up to what is proven; not recursive, for a proof may be deeper than Python's stack."""
    height, level = 0, {id(proof): proof}
    while level:
        level = {id(premise): premise for each in level.values() for premise in each.premises}
        height += 1
    return height
