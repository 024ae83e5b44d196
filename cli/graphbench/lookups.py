"""How long one question takes: whether a fact holds, and its whole proof."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cli.graphbench.timing import collector_off, percentiles
from cli.graphbench.workloads import Workload
from graph.engine import RuleGraph
from graph.ports import Fact

LOOKUPS = 20_000
PROOFS = 5_000
_SEED = 7


def measure_lookups(workload: Workload, graph: RuleGraph) -> dict[str, Any]:
    """``holds_us`` and ``proof_us``, each {p50, p99, asked}, on facts drawn from all answers of the workload.

    Thread time, less what reading that clock takes.
    Half of the facts looked up hold; the others pair one fact's first argument with another one's last.
    """
    rng = np.random.default_rng(_SEED)
    facts = _drawn(workload, graph, LOOKUPS // 2, rng)
    others = [Fact(a.predicate, (*a.args[:-1], b.args[-1])) for a, b in zip(facts, facts[1:] + facts[:1])]
    asked = [fact for pair in zip(facts, others) for fact in pair]
    derived = [fact for fact in _drawn(workload, graph, 2 * PROOFS, rng) if graph.source_of(fact) is None]
    return {
        "holds_us": _each(graph.holds, asked),
        "proof_us": _each(graph.prove, derived[:PROOFS]),
    }


def _each(ask: Callable[[Fact], Any], facts: Sequence[Fact]) -> dict[str, float]:
    for fact in facts[:100]:
        ask(fact)
    clock = time.thread_time
    seconds, idle = np.empty(len(facts)), np.empty(1_000)
    with collector_off():
        for i in range(len(idle)):
            started = clock()
            idle[i] = clock() - started
        for i, fact in enumerate(facts):
            started = clock()
            ask(fact)
            seconds[i] = clock() - started
    return percentiles(seconds - np.median(idle), 1e-6)


def _drawn(workload: Workload, graph: RuleGraph, size: int, rng: np.random.Generator) -> list[Fact]:
    """Facts of the answers, each as likely as any other."""
    name = graph.names()
    columns = [(predicate, graph.columns(predicate)) for predicate in workload.answers]
    ends = np.cumsum([len(rows) for _, rows in columns])
    drawn = []
    for place in rng.integers(ends[-1], size=size).tolist():
        at = int(np.searchsorted(ends, place, side="right"))
        predicate, rows = columns[at]
        drawn.append(Fact(predicate, tuple(name[i] for i in rows[place - int(ends[at])].tolist())))
    return drawn
