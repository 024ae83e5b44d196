"""Loads an ontology: rules beside tables of facts, one folder each under ``ontologies/``.

A folder holds ``*.rules`` (graph/rules), ``*.csv`` tables and, where it builds on others, a file ``extends`` with their
names. In a table the first column's header is a predicate of one argument and every further header a predicate
of two: the row ``BEEF,food,beef`` under ``category,category_kind,category_made_of`` states ``category("BEEF")``,
``category_kind("BEEF", food)`` and ``category_made_of("BEEF", beef)``. ``|`` separates several values in one cell, an
empty cell states nothing, and lines that start with ``#`` are comments.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from graph.engine import RuleGraph
from graph.errors import OntologyError
from graph.ports import Fact, KnowledgeGraph
from graph.rules.reader import parse_all
from graph.rules.syntax import Program

_FOLDER = Path(__file__).parent / "ontologies"


def known_ontologies() -> list[str]:
    """The names ``load`` takes."""
    return sorted(path.name for path in _FOLDER.iterdir() if any(path.glob("*.rules")))


@lru_cache(maxsize=8)
def load(name: str) -> KnowledgeGraph:
    """The ontology's closure under its rules, built once a process.

    Raises OntologyError for an unknown name or a malformed table, RuleSyntaxError for faulty rules.
    """
    if name not in known_ontologies():
        raise OntologyError(f"unknown ontology {name!r}; known are {', '.join(known_ontologies())}")
    return load_folder(_FOLDER / name)


def load_folder(folder: Path) -> RuleGraph:
    """An ontology from any folder of the layout above; errors as ``load``."""
    folders = list(dict.fromkeys(_with_extended(folder)))
    rules = [path for each in folders for path in sorted(each.glob("*.rules"))]
    program = parse_all((_short(path), path.read_text(encoding="utf-8")) for path in rules)
    tables = [path for each in folders for path in sorted(each.glob("*.csv"))]
    facts = dict(program.facts)
    for path in tables:
        for fact, source in _table(path, program):
            facts.setdefault(fact, source)
    return RuleGraph.build(Program(program.declarations, program.rules, tuple(facts.items())))


def load_facts(path: Path) -> list[Fact]:
    """Facts from a file: ``.tsv`` lines ``a<TAB>relation<TAB>b`` say relation(a, b); any other file is CSV under a
    header ``predicate,...`` with a predicate and its arguments in each row. Raises OntologyError naming the line.
    """
    rows = list(_rows(path, "\t" if path.suffix == ".tsv" else ","))
    if path.suffix == ".tsv":
        return [_triple(path, line, row) for line, row in rows]
    if not rows or rows[0][1][0] != "predicate":
        raise OntologyError(f"{path}: the first line must be a header 'predicate,argument,...'")
    facts = []
    for line, row in rows[1:]:
        while row and not row[-1]:
            row.pop()
        if len(row) < 2 or not all(row):
            raise OntologyError(f"{path}:{line}: {row} is not a fact; write a predicate and its arguments")
        facts.append(Fact(row[0], tuple(row[1:])))
    return facts


def _with_extended(folder: Path) -> Iterator[Path]:
    extends = folder / "extends"
    for name in extends.read_text(encoding="utf-8").split() if extends.exists() else ():
        yield from _with_extended(folder.parent / name)
    yield folder


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            # Quotes mean nothing in tab-separated triples.
            is_csv = delimiter == ","
            reader = csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if is_csv else csv.QUOTE_NONE)
            for row in reader:
                if row and not row[0].startswith("#"):
                    yield reader.line_num, [cell.strip() for cell in row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OntologyError(f"{path} cannot be read ({error}); give a UTF-8 text file") from error


def _triple(path: Path, line: int, row: list[str]) -> Fact:
    if len(row) != 3 or not all(row):
        raise OntologyError(f"{path}:{line}: {row} is not a triple; write 'a<TAB>relation<TAB>b'")
    return Fact(row[1], (row[0], row[2]))


def _table(path: Path, program: Program) -> Iterator[tuple[Fact, str]]:
    rows = _rows(path, ",")
    header = next(rows, (1, [""]))[1]
    for position, predicate in enumerate(header):
        declaration = program.declarations.get(predicate)
        wanted = 1 if position == 0 else 2
        if declaration is None or len(declaration.names) != wanted:
            raise OntologyError(f"{path}:1: column {predicate!r} is no predicate of {wanted} argument(s); declare it")
    for line, row in rows:
        if len(row) != len(header) or not row[0]:
            raise OntologyError(f"{path}:{line}: {len(row)} cells under {len(header)} columns; complete the row")
        source = f"{_short(path)}:{line}"
        yield Fact(header[0], (row[0],)), source
        for predicate, cell in zip(header[1:], row[1:], strict=True):
            for value in filter(None, cell.split("|")):
                yield Fact(predicate, (row[0], value)), source
