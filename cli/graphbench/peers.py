"""What an engine must do to be measured; ours, and the registry of its peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol, TypeAlias

import numpy as np

from cli.graphbench.workloads import Kind, Workload
from graph.engine import RuleGraph, Table
from graph.rules.syntax import Term

Answer: TypeAlias = dict[str, list[tuple[Any, ...]]]
"""Facts by predicate; arguments are integers, or texts of a job that spells them."""


class Job(Protocol):
    """One workload for one engine."""

    def ready(self) -> Callable[[], Any]:
        """What derives everything, to be called once; what it uses up is prepared, which is not measured."""
        ...

    def count(self, derived: Any, /) -> int:
        """The facts of the workload's answers."""
        ...

    def fetch(self, derived: Any, /) -> Answer:
        """The workload's answers in Python, as lists of tuples."""
        ...

    def spelling(self, derived: Any, /) -> Sequence[str]:
        """The text of every integer in ``fetch``."""
        ...


class TandemJob:
    """Columns and names to the fixpoint, with proofs. ``spelt``: texts in and out instead of integers."""

    def __init__(self, workload: Workload, spelt: bool = False) -> None:
        self.workload = workload
        self.spelt = spelt
        name = workload.names.__getitem__
        self.names: Sequence[str] = () if spelt else workload.names
        self.tables = [
            Table(predicate, tuple(list(map(name, column.tolist())) if spelt else column.copy() for column in rows.T))
            for predicate, rows in workload.tables.items()
        ]

    def ready(self) -> Callable[[], RuleGraph]:
        return lambda: RuleGraph.build(self.workload.program, tables=self.tables, names=self.names)

    def count(self, derived: RuleGraph) -> int:
        return sum(map(derived.count, self.workload.answers))

    def columns(self, derived: RuleGraph) -> dict[str, Any]:
        """The workload's answers as arrays of ids."""
        return {predicate: derived.columns(predicate) for predicate in self.workload.answers}

    def fetch(self, derived: RuleGraph) -> Answer:
        columns = self.columns(derived)
        if self.spelt:
            names = np.array(derived.names(), object)
            columns = {predicate: names[rows] for predicate, rows in columns.items()}
        # By columns: a tuple of each row's values is made once, without a list before it.
        return {predicate: list(zip(*(column.tolist() for column in rows.T))) for predicate, rows in columns.items()}

    def spelling(self, derived: RuleGraph) -> Sequence[str]:
        return derived.names()


def vocabulary(workload: Workload) -> tuple[str, ...]:
    """The workload's names, then the program's constants that are none of them."""
    program = workload.program
    atoms = [atom for rule in program.rules for atom in (rule.head, *rule.body)]
    terms: list[Term] = [term for atom in atoms for term in atom.terms]
    terms += [term for rule in program.rules for c in rule.comparisons for term in (c.left, c.right)]
    constants = [term for term in terms if isinstance(term, str)]
    return tuple(dict.fromkeys((*workload.names, *(arg for fact, _ in program.facts for arg in fact.args), *constants)))


def spelt_out(job: Job, derived: Any) -> set[tuple[str, ...]]:
    """The answers as (predicate, texts …), to compare engines by."""
    spelling = job.spelling(derived)
    answers = job.fetch(derived).items()
    return {(predicate, *(spelling[place] for place in row)) for predicate, rows in answers for row in rows}


@dataclass(frozen=True, slots=True)
class Peer:
    """An engine beside ours: which kinds of workloads it derives, how a job is made, and the libraries it needs."""

    name: str
    kinds: tuple[Kind, ...]
    job: Callable[[Workload], Job]
    libraries: tuple[str, ...]

    @property
    def remedy(self) -> str | None:
        """The command that installs what is missing, None where nothing is."""
        absent = [library for library in self.libraries if find_spec(library) is None]
        return f"pip install {' '.join(absent)}" if absent else None


def _clingo(workload: Workload) -> Job:
    from cli.graphbench.clingo_peer import ClingoJob

    return ClingoJob(workload)


def _owlrl(workload: Workload) -> Job:
    from cli.graphbench.owlrl_peer import OwlrlJob

    return OwlrlJob(workload)


def _networkx(workload: Workload) -> Job:
    from cli.graphbench.networkx_peer import NetworkxJob

    return NetworkxJob(workload)


PEERS = (
    Peer("clingo", ("closure", "rdfs", "rules"), _clingo, ("clingo",)),
    Peer("owlrl", ("closure", "rdfs"), _owlrl, ("owlrl", "rdflib")),
    Peer("networkx", ("closure",), _networkx, ("networkx",)),
)
