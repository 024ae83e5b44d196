"""What is measured: programs with facts, as integers that are places in a list of names. Same size, same facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graph.rules.reader import parse
from graph.rules.syntax import Program, is_predicted

Rows: TypeAlias = NDArray[np.int64]
"""Distinct facts of one predicate [n, arity]."""
Kind: TypeAlias = Literal["closure", "rdfs", "rules"]

_SEED = 7
_EDGES_A_NODE = 3


@dataclass(frozen=True, slots=True)
class Workload:
    """A program, facts for it, and the predicates whose facts are its answer.

    ``kind`` tells which peers have an answer of their own: the transitive closure ``path`` of ``edge``, RDFS entailment
    of ``stated`` as ``triple``, or rules in general. ``about`` says in a line what the facts are.
    """

    name: str
    about: str
    kind: Kind
    program: Program
    tables: dict[str, Rows]
    names: tuple[str, ...]

    @property
    def answers(self) -> tuple[str, ...]:
        """Predicates that rules derive, in the order of their declarations."""
        heads = {rule.head.predicate for rule in self.program.rules}
        return tuple(name for name in self.program.declarations if name in heads and not is_predicted(name))

    @property
    def told(self) -> int:
        """Facts told: the program's own and those of the tables."""
        return len(self.program.facts) + sum(map(len, self.tables.values()))


CLOSURE = """
.decl edge(from, to)
.decl path(from, to)
one:  path(X, Y) :- edge(X, Y).
more: path(X, Z) :- path(X, Y), edge(Y, Z).
"""
SAME_GENERATION = """
.decl parent(parent, child)
.decl same(one, other)
siblings: same(X, Y) :- parent(P, X), parent(P, Y), X != Y.
cousins:  same(X, Y) :- parent(A, X), same(A, B), parent(B, Y).
"""
REACHABLE = """
.decl start(node)
.decl edge(from, to)
.decl reached(node)
first: reached(X) :- start(X).
hop:   reached(Y) :- reached(X), edge(X, Y).
"""


def chain(size: int) -> Workload:
    """The transitive closure, of about ``size`` facts, of one chain: as many rounds as there are nodes."""
    nodes = max(2, round((1 + (1 + 8 * size) ** 0.5) / 2))
    about = f"transitive closure of a chain of {nodes - 1} edges"
    return Workload("chain", about, "closure", parse(CLOSURE), {"edge": _chain(nodes)}, _numbered(nodes))


def dag(size: int) -> Workload:
    """The transitive closure, of about ``size`` facts, of a random acyclic graph with 3 edges a node."""
    nodes = _nodes_for(size)
    edges = _random_dag(nodes)
    about = f"transitive closure of a random acyclic graph of {nodes} nodes and {len(edges)} edges"
    return Workload("closure", about, "closure", parse(CLOSURE), {"edge": edges}, _numbered(nodes))


def same_generation(size: int) -> Workload:
    """Pairs of one generation, about ``size``, in a tree whose nodes have 2 to 6 children.

    Program and trees as in Shkapsky et al., "Big Data Analytics with Datalog Queries on Spark" (SIGMOD 2016).
    """
    rng = np.random.default_rng(_SEED)
    parents: list[Rows] = []
    level, nodes, pairs = np.zeros(1, np.int64), 1, 0
    while pairs < size:
        above = np.repeat(level, rng.integers(2, 7, len(level)))
        # The last generation is cut where the pairs are enough.
        above = above[: round((1 + (1 + 4 * (size - pairs)) ** 0.5) / 2)]
        level = np.arange(nodes, nodes + len(above), dtype=np.int64)
        parents.append(np.column_stack([above, level]))
        nodes, pairs = nodes + len(above), pairs + len(above) * (len(above) - 1)
    about = f"pairs of one generation in a random tree of {nodes} nodes"
    tables = {"parent": np.concatenate(parents)}
    return Workload("same_generation", about, "rules", parse(SAME_GENERATION), tables, _numbered(nodes))


def reachability(size: int) -> Workload:
    """What one node reaches along a chain of ``size`` hops: one new fact a round."""
    tables = {"start": np.zeros((1, 1), np.int64), "edge": _chain(size + 1)}
    about = f"nodes reached along a chain of {size} hops"
    return Workload("reachability", about, "rules", parse(REACHABLE), tables, _numbered(size + 1))


def _chain(nodes: int) -> Rows:
    return np.column_stack([np.arange(nodes - 1), np.arange(1, nodes)]).astype(np.int64)


def _numbered(nodes: int) -> tuple[str, ...]:
    return tuple(f"n{i}" for i in range(nodes))


def _random_dag(nodes: int) -> Rows:
    """Distinct edges from lower to higher nodes, each as likely as any other."""
    drawn = np.random.default_rng((_SEED, nodes)).integers(0, nodes, (_EDGES_A_NODE * nodes, 2))
    return np.unique(np.sort(drawn[drawn[:, 0] != drawn[:, 1]], axis=1), axis=0)


def _closure_size(nodes: int, edges: Rows) -> int:
    """Pairs of the closure, by sets of reached nodes as bits."""
    reached = [0] * nodes
    for start, end in edges[::-1].tolist():
        reached[start] |= reached[end] | 1 << end
    return sum(map(int.bit_count, reached))


def _nodes_for(size: int) -> int:
    """Nodes of the random graph whose closure is nearest to ``size``: bisection, though the closure grows unevenly."""
    found: dict[int, int] = {}

    def reaches(nodes: int) -> bool:
        found[nodes] = _closure_size(nodes, _random_dag(nodes))
        return found[nodes] >= size

    high = 8
    while not reaches(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return min(found, key=lambda nodes: abs(found[nodes] - size))
