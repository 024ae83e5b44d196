"""The benchmark of the graph engine: every engine gives the same answer, and what is left out is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.graphbench import catalogs
from cli.graphbench.catalogs import catalog, family, product_facts
from cli.graphbench.changes import measure_changes, measure_fallbacks
from cli.graphbench.clingo_peer import ClingoGroundingJob, ClingoJob, ClingoModelJob
from cli.graphbench.lookups import measure_lookups
from cli.graphbench.measure import GROWING, PEER_LIMIT_S, bench_graph, measure
from cli.graphbench.networkx_peer import NetworkxJob
from cli.graphbench.owlrl_peer import OwlrlJob
from cli.graphbench.peers import Answer, Job, Peer, TandemJob, spelt_out
from cli.graphbench.table import show_report
from cli.graphbench.targets import targets
from cli.graphbench.timing import BUDGET_S, RUNS, best_of
from cli.graphbench.workloads import Workload, chain, dag
from features.workspace import Workspace
from graph.items import item_facts
from graph.ontology import load
from graph.rules.reader import parse

needs_family = pytest.mark.skipif(
    not catalogs.FAMILY.is_dir(), reason=f"the real family data is not at {catalogs.FAMILY}"
)


def small_catalog(folder: Path) -> Workload:
    return catalog(Workspace(folder), products=60)


def answer_of(job: Job) -> set[tuple[str, ...]]:
    return spelt_out(job, job.ready()())


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GROWING)
def test_every_engine_derives_the_same_facts(name: str) -> None:
    workload = GROWING[name](400)
    ours = answer_of(TandemJob(workload))
    assert len(ours) >= 300
    assert answer_of(ClingoModelJob(workload)) == ours
    if workload.kind in ("closure", "rdfs"):
        assert answer_of(OwlrlJob(workload)) == ours
    if workload.kind == "closure":
        assert answer_of(NetworkxJob(workload)) == ours


@pytest.mark.parametrize("make", [ClingoJob, ClingoGroundingJob, ClingoModelJob, OwlrlJob, NetworkxJob])
def test_a_peers_count_is_the_size_of_the_answer(make: Callable[[Workload], Job]) -> None:
    workload = dag(300)
    ours = TandemJob(workload)
    job = make(workload)
    assert job.count(job.ready()()) == ours.count(ours.ready()()) == len(answer_of(ours))


def test_clingo_derives_the_catalogs_facts_on_integers_and_with_names(tmp_path: Path) -> None:
    workload = small_catalog(tmp_path)
    ours = answer_of(TandemJob(workload))
    assert answer_of(ClingoModelJob(workload)) == ours
    spelt = []
    for job in (TandemJob(workload, spelt=True), ClingoModelJob(workload, spelt=True)):
        found = job.fetch(job.ready()())
        spelt.append({(predicate, *row) for predicate, rows in found.items() for row in rows})
    assert spelt == [ours, ours]
    counted = ClingoJob(workload)
    assert counted.count(counted.ready()()) == len(ours)


@needs_family
def test_clingo_derives_the_facts_of_some_families() -> None:
    workload = family()
    assert workload is not None
    assert workload.told == 28_356
    some = replace(workload, tables={name: rows[:150] for name, rows in workload.tables.items()})
    ours = answer_of(TandemJob(some))
    assert len(ours) > some.told
    assert answer_of(ClingoModelJob(some)) == ours


def test_clingo_refuses_a_rule_it_would_read_otherwise() -> None:
    rules = ".decl edge(a, b)\n.decl leaf(a)\nleaf(Y) :- edge(_, Y), not edge(Y, _).\n"
    with pytest.raises(ValueError, match="extend ClingoJob"):
        ClingoJob(replace(chain(10), program=parse(rules)))


def test_family_is_left_out_where_its_facts_are_not_there(tmp_path: Path) -> None:
    assert family(tmp_path / "absent") is None


# --- workloads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("size", [1_000, 10_000])
def test_workloads_have_about_the_derived_facts_asked_for_and_are_drawn_alike_each_time(name: str, size: int) -> None:
    workload, again = GROWING[name](size), GROWING[name](size)
    graph = TandemJob(workload).ready()()
    assert 0.75 * size <= len(graph) - workload.told <= 1.25 * size
    assert {table: rows.tolist() for table, rows in workload.tables.items()} == {
        table: rows.tolist() for table, rows in again.tables.items()
    }


def test_products_that_read_alike_have_the_facts_each_would_have_alone() -> None:
    graph = load("grocery")
    beef = {"category": "BEEF", "title": "Ground beef", "product_type": "GROUND BEEF"}
    views = {"a": beef, "b": {"category": "CHEESE", "title": "Vegan cheese"}, "c": dict(beef)}
    alone = [fact for item, view in views.items() for fact in item_facts(graph, item, view)]
    assert product_facts(graph, views) == alone


# --- measuring -------------------------------------------------------------------------------------------------------


def test_a_timing_is_the_best_of_a_few_runs_each_prepared_anew() -> None:
    prepared: list[int] = []

    def ready() -> Callable[[], int]:
        prepared.append(len(prepared))
        return lambda: prepared[-1]

    timing, result = best_of(ready)
    assert (timing.runs, prepared, result) == (RUNS, list(range(RUNS)), RUNS - 1)
    assert 0 <= timing.cpu_s < BUDGET_S


class Wrong:
    """An engine with a wrong answer."""

    def __init__(self, workload: Workload) -> None:
        self.names = workload.names

    def ready(self) -> Callable[[], None]:
        return lambda: None

    def count(self, _: Any) -> int:
        return 7

    def fetch(self, _: Any) -> Answer:
        return {}

    def spelling(self, _: Any) -> Sequence[str]:
        return self.names


def peer(job: Callable[[Workload], Job], *libraries: str) -> Peer:
    return Peer("other", ("closure",), job, libraries)


def test_an_engine_that_answers_otherwise_ends_the_benchmark() -> None:
    with pytest.raises(typer.TyperException, match=r"other derives 7 facts of chain .* not 45"):
        measure(chain(45), {}, [peer(Wrong)])


def test_a_missing_library_is_reported_with_its_install_command() -> None:
    figures = measure(chain(45), {}, [peer(Wrong, "numpy", "no_such_library")])
    assert figures["other_s"] is None
    assert figures["skipped"] == {"other": "not installed; run: pip install no_such_library"}


def test_a_peer_is_not_asked_for_what_takes_too_long_by_its_smaller_size() -> None:
    smaller = {"derived": 20, "other_s": PEER_LIMIT_S}
    first = measure(chain(45), smaller, [peer(Wrong)])
    assert first["other_s"] is None
    assert first["skipped"]["other"].startswith("not asked: about 2")
    assert measure(chain(55), first, [peer(Wrong)])["skipped"] == {"other": "not asked: the smaller size took too long"}


def test_changes_and_lookups_of_a_catalog_are_measured_one_by_one(tmp_path: Path) -> None:
    workload = small_catalog(tmp_path)
    change = measure_changes(workload, products=30)
    assert set(change) == {"added_ms", "changed_ms", "deleted_ms"}
    lookup = measure_lookups(workload, TandemJob(workload).ready()())
    for figures in (*change.values(), *lookup.values()):
        assert 0 < figures["p50"] <= figures["p99"]
    assert [figures["asked"] for figures in change.values()] == [30, 30, 30]


def test_wide_changes_take_away_what_followed(tmp_path: Path) -> None:
    found = measure_fallbacks(small_catalog(tmp_path), size=45)
    # A chain of 9 edges without its fifth: the edge, and every path of 5 × 5 from before it to behind it.
    assert found["closure_edge"]["removed"] == 26
    assert found["taxonomy_top"]["removed"] > 10


# --- reports ---------------------------------------------------------------------------------------------------------


def test_targets_compare_what_was_measured_and_leave_out_the_rest() -> None:
    figures = {"derived": 100_000, "tandem_s": 1.0, "tandem_tuples_s": 2.0, "bytes_per_fact": 65.0, "owlrl_s": None}
    report = {"closure": {"100000": figures | {"clingo_s": 3.0, "clingo_tuples_s": 19.9}}}
    found = targets(report)
    assert {name: (figure["value"], figure["met"]) for name, figure in found.items()} == {
        "closure 100000: × clingo": (3.0, True),
        "closure 100000: × clingo, in Python": (9.95, False),
        "closure 100000: bytes a fact": (65.0, False),
    }


def test_growth_is_the_slowest_size_over_the_fastest() -> None:
    sizes = {"1000": 9e-3, "10000": 1e-2, "100000": 0.31}
    report = {
        "closure": {
            size: {"derived": int(size), "tandem_s": seconds, "tandem_tuples_s": seconds, "bytes_per_fact": 40.0}
            for size, seconds in sizes.items()
        }
    }
    growth = targets(report)["closure: time a fact over sizes, ×"]
    assert growth["value"] == pytest.approx(3.1)
    assert not growth["met"]


def test_a_whole_report_has_every_figure_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages: list[str] = []
    absent = tmp_path / "family"
    report = bench_graph(
        tmp_path, lambda stage, _: stages.append(stage), largest=1_000, products=60, family_facts=absent
    )
    assert str(absent) in report["skipped"]["family"]
    for name in GROWING:
        assert report[name]["1000"]["tandem_s"] > 0
        assert report[name]["1000"]["clingo_s"] > 0
    assert report["closure"]["1000"]["owlrl_s"] > 0
    assert report["closure"]["1000"]["networkx_s"] > 0
    assert "60 drawn products" in report["catalog"]["all"]["about"]
    assert {"tandem_names_s", "clingo_names_s"} <= set(report["catalog"]["all"])
    assert {"one product added, p99 ms", "point lookup, p99 µs"} <= set(report["targets"])
    assert stages[0] == "compiling"
    show_report(report)
    assert "Times faster than clingo" in capsys.readouterr().out
