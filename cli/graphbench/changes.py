"""What an update costs: one product of a catalog, and changes so wide that evaluating anew is cheaper."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from cli.graphbench.peers import TandemJob
from cli.graphbench.timing import best_of, collector_off, percentiles
from cli.graphbench.workloads import Workload, chain
from graph.engine import LiveGraph
from graph.ports import Fact

PRODUCTS = 500
_WARM = 20
_SEED = 7
_SOURCE = "bench"


def measure_changes(catalog: Workload, products: int = PRODUCTS) -> dict[str, Any]:
    """``added_ms``, ``changed_ms`` and ``deleted_ms`` of one product, each {p50, p99, asked}, thread time.

    Added is a product with the facts of one drawn from the catalog; changed is one that moves to another shelf;
    deleted is one with all its facts. What follows is current when the call returns.
    """
    live = LiveGraph(TandemJob(catalog).ready()())
    rng = np.random.default_rng(_SEED)
    drawn = rng.permutation(len(catalog.tables["product"]))[: products + _WARM]
    told = _facts_of(catalog, catalog.tables["product"][drawn, 0].tolist())
    shelves = sorted({fact.args[1] for facts in told for fact in facts if fact.predicate == "in_category"})
    added, changed, deleted = [], [], []
    with collector_off():
        for i, facts in enumerate(told):
            copies = [Fact(fact.predicate, (f"new {i}", *fact.args[1:])) for fact in facts]
            added.append(_thread_s(partial(live.insert, copies, _SOURCE)))
            stands = [fact for fact in facts if fact.predicate == "in_category"]
            moved = [Fact("in_category", (facts[0].args[0], shelves[rng.integers(len(shelves))]))]
            changed.append(_thread_s(partial(live.update, delete=stands, insert=moved, source=_SOURCE)))
            left = [*(fact for fact in facts if fact.predicate != "in_category"), *moved]
            deleted.append(_thread_s(partial(live.delete, left)))
    found = {"added_ms": added, "changed_ms": changed, "deleted_ms": deleted}
    return {name: percentiles(seconds[_WARM:], 1e-3) for name, seconds in found.items()}


def measure_fallbacks(catalog: Workload, size: int) -> dict[str, Any]:
    """Wide changes: ``closure_edge``, the middle edge of a chain whose closure has ``size`` facts, and
    ``taxonomy_top``, the narrower kinds of a property taken from it. Each {update_s, evaluation_s, removed}.
    """
    small = chain(size)
    middle = small.tables["edge"][len(small.tables["edge"]) // 2]
    edge = Fact("edge", tuple(small.names[place] for place in middle.tolist()))
    kinds = [fact for fact, _ in catalog.program.facts if fact.predicate == "is_a"]
    top = Counter(fact.args[1] for fact in kinds).most_common(1)[0][0]
    return {
        "closure_edge": _fallback(small, [edge]),
        "taxonomy_top": _fallback(catalog, [fact for fact in kinds if fact.args[1] == top]),
    }


def _fallback(workload: Workload, taken: list[Fact]) -> dict[str, float]:
    job = TandemJob(workload)
    evaluation, graph = best_of(job.ready)
    update, change = best_of(lambda: partial(LiveGraph(graph).delete, taken))
    return {"update_s": update.cpu_s, "evaluation_s": evaluation.cpu_s, "removed": len(change.removed)}


def _facts_of(catalog: Workload, products: list[int]) -> list[list[Fact]]:
    """The facts told of each product, by its place in the names."""
    wanted: dict[int, list[Fact]] = {place: [] for place in products}
    for predicate, rows in catalog.tables.items():
        for row in rows[np.isin(rows[:, 0], products)].tolist():
            wanted[row[0]].append(Fact(predicate, tuple(catalog.names[place] for place in row)))
    return list(wanted.values())


def _thread_s(call: Callable[[], Any]) -> float:
    started = time.thread_time()
    call()
    return time.thread_time() - started
