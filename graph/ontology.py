"""Loads an ontology: rules beside tables of facts, one folder each under ``ontologies/``.

A folder holds ``*.rules`` (graph/rules), ``*.csv`` tables and, where it builds on others, a file ``extends`` with their
names. In a table the first column's header is a predicate of one argument and every further header a predicate
of two: the row ``BEEF,food,beef`` under ``category,category_kind,category_made_of`` states ``category("BEEF")``,
``category_kind("BEEF", food)`` and ``category_made_of("BEEF", beef)``. ``|`` separates several values in one cell, an
empty cell states nothing, and lines that start with ``#`` are comments. Values must be of the types declared.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from graph import exchange
from graph.engine import RuleGraph
from graph.errors import OntologyError
from graph.ports import Fact, KnowledgeGraph
from graph.rules.check import fact_problems
from graph.rules.names import nearest
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
    if not rules:
        raise OntologyError(f"{folder} holds no *.rules file; give the folder of an ontology")
    program = parse_all([(_short(path), _text(path)) for path in rules])
    tables = [path for each in folders for path in sorted(each.glob("*.csv"))]
    facts = dict(program.facts)
    faults: list[str] = []
    for path in tables:
        for fact, source in _table(path, program, faults):
            facts.setdefault(fact, source)
    if faults:
        raise OntologyError("\n".join(faults))
    return RuleGraph.build(replace(program, facts=tuple(facts.items())))


def load_facts(path: Path, program: Program | None = None) -> list[Fact]:
    """The asserted facts of a file in any format of graph/exchange; they must fit the declarations of ``program``.

    Raises OntologyError naming every bad row.
    """
    stated = exchange.importable(exchange.read(path), ("asserted",))[0]
    if program is not None:
        faults = [f"{each.source}: {fault}" for each in stated for fault in misfits(program, each.fact)]
        if faults:
            raise OntologyError("\n".join(faults))
    return [each.fact for each in stated]


def misfits(program: Program, fact: Fact) -> list[str]:
    """Why the fact may not be stated under the program's declarations, each with its remedy; empty where it may."""
    declaration = program.declarations.get(fact.predicate)
    if declaration is None:
        return [f"predicate {fact.predicate!r} is not declared; {nearest(fact.predicate, program.declarations)}"]
    if len(fact.args) != len(declaration.names):
        counts = f"{len(fact.args)} argument(s) and takes {len(declaration.names)}"
        return [f"{fact} has {counts}; write {fact.predicate}({', '.join(declaration.names)})"]
    return [f"{message}; {remedy}" for message, remedy in fact_problems(declaration, fact.args, program.types)]


def _with_extended(folder: Path, below: tuple[Path, ...] = ()) -> Iterator[Path]:
    extends = folder / "extends"
    if folder in below:
        raise OntologyError(f"{extends} leads back to itself; let one ontology extend the other, not each other")
    for name in extends.read_text(encoding="utf-8").split() if extends.exists() else ():
        if not (folder.parent / name).is_dir():
            raise OntologyError(f"{extends} names {name!r}, but {folder.parent / name} is no folder; correct the name")
        yield from _with_extended(folder.parent / name, (*below, folder))
    yield folder


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OntologyError(f"{path} cannot be read ({error}); give a UTF-8 text file") from error


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            for row in reader:
                if row and not row[0].startswith("#"):
                    yield reader.line_num, [cell.strip() for cell in row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OntologyError(f"{path} cannot be read ({error}); give a UTF-8 text file") from error


def _table(path: Path, program: Program, faults: list[str]) -> Iterator[tuple[Fact, str]]:
    """The table's facts with their ``file:line``; what is wrong with its rows goes to ``faults``."""
    rows = _rows(path)
    header = next(rows, (1, [""]))[1]
    for position, predicate in enumerate(header):
        declaration = program.declarations.get(predicate)
        wanted = 1 if position == 0 else 2
        if declaration is None or len(declaration.names) != wanted:
            raise OntologyError(f"{path}:1: column {predicate!r} is no predicate of {wanted} argument(s); declare it")
    for line, row in rows:
        if len(row) != len(header) or not row[0]:
            faults.append(f"{path}:{line}: {len(row)} cells under {len(header)} columns; complete the row")
            continue
        for fact in _cells(header, row):
            faults.extend(f"{path}:{line}: {fault}" for fault in misfits(program, fact))
            yield fact, f"{_short(path)}:{line}"


def _cells(header: list[str], row: list[str]) -> Iterator[Fact]:
    yield Fact(header[0], (row[0],))
    for predicate, cell in zip(header[1:], row[1:], strict=True):
        for value in filter(None, cell.split("|")):
            yield Fact(predicate, (row[0], value))
