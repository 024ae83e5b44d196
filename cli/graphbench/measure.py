"""One run of everything: each engine on each workload, then what the engine alone is measured by."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from cli.console import fail
from cli.graphbench.catalogs import FAMILY, PRODUCTS, catalog, family
from cli.graphbench.changes import measure_changes, measure_fallbacks
from cli.graphbench.lookups import measure_lookups
from cli.graphbench.peers import PEERS, Job, Peer, TandemJob
from cli.graphbench.targets import targets
from cli.graphbench.timing import RUNS, Timing, best_of
from cli.graphbench.university import university
from cli.graphbench.workloads import Workload, chain, dag, reachability, same_generation
from features.workspace import Workspace

SIZES = (1_000, 10_000, 100_000, 1_000_000)
"""Derived facts asked for; a workload's own figure says how many there are."""
GROWING = {"closure": dag, "chain": chain, "same_generation": same_generation, "reachability": reachability,
           "university": university}  # fmt: skip
PEER_LIMIT_S = 10.0
"""A peer is not asked for what should take it longer, judged by its next smaller size."""

Progress: TypeAlias = Callable[[str, float], None]
Figures: TypeAlias = dict[str, Any]


def bench_graph(
    workspace: Path,
    progress: Progress,
    largest: int = SIZES[-1],
    *,
    products: int = PRODUCTS,
    family_facts: Path = FAMILY,
) -> Figures:
    """Measures all workloads up to ``largest`` derived facts, then changes and lookups; ``products`` as in `catalog`.

    Returns workload → derived facts asked for ("all" where the data decide) → figures (see ``measure``); ``change``,
    ``fallback``, ``lookup``, ``targets`` (each {value, target, bound, met}), ``skipped``, ``warm_up_s`` and
    ``conditions``. Fails where an engine's answer has another size than ours.
    """
    load_before = os.getloadavg()[0]
    sizes = [size for size in SIZES if size <= largest]
    progress("compiling", 0.0)
    warm_up = best_of(TandemJob(dag(100)).ready, runs=1)[0]
    report: Figures = {"skipped": {peer.name: f"not installed; run: {peer.remedy}" for peer in PEERS if peer.remedy}}
    for i, (name, make) in enumerate(GROWING.items()):
        report[name] = {}
        for size in sizes:
            progress(f"{name} {size:,}", 0.6 * (i + sizes.index(size) / len(sizes)) / len(GROWING))
            report[name][str(size)] = measure(make(size), _last(report[name]))
    progress("family", 0.6)
    if workload := family(family_facts):
        report["family"] = {"all": measure(workload, {})}
    else:
        report["skipped"]["family"] = f"the family facts are not at {family_facts}"
    progress("catalog", 0.62)
    report |= _measure_catalog(catalog(Workspace(workspace), products), largest, progress)
    return report | {"targets": targets(report), "warm_up_s": warm_up.wall_s, "conditions": _conditions(load_before)}


def measure(workload: Workload, smaller: Figures, peers: Sequence[Peer] = PEERS) -> Figures:
    """One workload on every engine that has an answer; ``smaller``: the figures of the next smaller size.

    ``tandem_s`` (columns of integers to the fixpoint, with proofs), ``tandem_columns_s`` and ``tandem_tuples_s`` (the
    same with all answers in Python, as arrays and as lists of tuples), ``bytes_per_fact``; ``clingo_s`` (facts and
    rules read and grounded), ``clingo_grounding_s`` (grounding alone), ``clingo_tuples_s``; ``owlrl_s`` and
    ``networkx_s``; None where a peer was not asked, with the reason in ``skipped``.
    """
    figures, count = _measure_tandem(workload)
    for peer in peers:
        if workload.kind in peer.kinds:
            _measure_peer(peer, workload, count, figures, smaller)
    return figures


def _measure_tandem(workload: Workload) -> tuple[Figures, int]:
    """Our figures, and the number of facts in the answers."""
    job = TandemJob(workload)
    timing, graph = best_of(job.ready)
    columns = best_of(lambda: partial(job.columns, graph))[0]
    tuples = best_of(lambda: partial(job.fetch, graph))[0]
    # Its bytes with every index, also those that only changes read.
    graph.store.complete()
    figures = {
        "about": workload.about,
        "told": workload.told,
        "derived": len(graph) - workload.told,
        "tandem_s": timing.cpu_s,
        "tandem_wall_s": timing.wall_s,
        "tandem_columns_s": timing.cpu_s + columns.cpu_s,
        "tandem_tuples_s": timing.cpu_s + tuples.cpu_s,
        "bytes_per_fact": graph.nbytes / len(graph),
        "runs": {"tandem": timing.runs},
        "skipped": {},
    }
    return figures, job.count(graph)


def _measure_peer(peer: Peer, workload: Workload, count: int, figures: Figures, smaller: Figures) -> None:
    figures[f"{peer.name}_s"] = None
    before = smaller.get(f"{peer.name}_s")
    if peer.remedy:
        figures["skipped"][peer.name] = f"not installed; run: {peer.remedy}"
    elif smaller and before is None:
        figures["skipped"][peer.name] = "not asked: the smaller size took too long"
    elif before and (expected := before * figures["derived"] / smaller["derived"]) > PEER_LIMIT_S:
        figures["skipped"][peer.name] = f"not asked: about {expected:.0f} s by the smaller size"
    else:
        job = peer.job(workload)
        timing, derived = best_of(job.ready)
        _check(peer.name, workload, job.count(derived), count)
        figures |= {f"{peer.name}_s": timing.cpu_s, f"{peer.name}_wall_s": timing.wall_s}
        figures["runs"][peer.name] = timing.runs
        if peer.name == "clingo":
            figures |= _clingo_figures(workload, count)


def _clingo_figures(workload: Workload, count: int) -> Figures:
    from cli.graphbench.clingo_peer import ClingoGroundingJob, ClingoModelJob

    grounding = best_of(ClingoGroundingJob(workload).ready)[0]
    return {
        "clingo_grounding_s": grounding.cpu_s,
        "clingo_tuples_s": _in_python("clingo", ClingoModelJob(workload), workload, count).cpu_s,
    }


def _in_python(name: str, job: Job, workload: Workload, count: int) -> Timing:
    """Deriving and fetching as one."""

    def ready() -> Callable[[], Any]:
        run = job.ready()
        return lambda: job.fetch(run())

    timing, answer = best_of(ready)
    _check(name, workload, sum(map(len, answer.values())), count)
    return timing


def _measure_catalog(workload: Workload, largest: int, progress: Progress) -> Figures:
    figures = measure(workload, {})
    progress("catalog with names", 0.8)
    spelt = TandemJob(workload, spelt=True)
    timing, answer = best_of(lambda: lambda: spelt.fetch(spelt.ready()()))
    count = sum(map(len, answer.values()))
    del answer
    figures |= {"tandem_names_s": timing.cpu_s, "tandem_names_wall_s": timing.wall_s}
    if find_spec("clingo"):
        from cli.graphbench.clingo_peer import ClingoModelJob

        job = ClingoModelJob(workload, spelt=True)
        figures["clingo_names_s"] = _in_python("clingo", job, workload, count).cpu_s
    progress("lookups", 0.92)
    graph = TandemJob(workload).ready()()
    found: Figures = {"catalog": {"all": figures}, "lookup": measure_lookups(workload, graph)}
    del graph
    progress("changes", 0.94)
    return found | {
        "change": measure_changes(workload),
        "fallback": measure_fallbacks(workload, min(largest, 100_000)),
    }


def _check(name: str, workload: Workload, found: int, expected: int) -> None:
    if found != expected:
        fail(f"{name} derives {found} facts of {workload.name} ({workload.about}), not {expected}; one engine is wrong")


def _last(sizes: dict[str, Figures]) -> Figures:
    return next(reversed(sizes.values()), {})


def _conditions(load_before: float) -> Figures:
    libraries = ("numba", "numpy", *(library for peer in PEERS if not peer.remedy for library in peer.libraries))
    return {
        "measured": f"CPU seconds, best of at most {RUNS} runs, garbage collection off, compilation before (warm_up_s)",
        "cores": len(os.sched_getaffinity(0)),
        "load_before": load_before,
        "versions": {library: version(library) for library in libraries},
    }
