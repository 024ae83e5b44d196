"""The parts of the benchmark that need no network: they measure what they say, on real users, with a real ranker."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from features.workspace import Workspace
from serving import memory
from serving.bench import SOAK_REQUESTS, ratios
from serving.config import ServeConfig
from serving.growth import measure_growth, measure_offline, synthetic, synthetic_table
from serving.offline import known_users_services, stored_histories

CONFIG = ServeConfig(llm=None)


def nothing(*_: object) -> None:
    """No progress."""


def test_growth_measures_every_size_on_the_known_path(trained_workspace: Workspace) -> None:
    report = measure_growth(trained_workspace, CONFIG, nothing, sizes=(3_000, 6_000), requests=20)
    assert set(report["p50_ms"]) == set(report["p99_ms"]) == {"3000", "6000"}
    assert report["requests"] == 60
    assert all(0 < report["p50_ms"][size] <= report["p99_ms"][size] for size in report["p50_ms"])
    assert "synthetic" in report["catalog"]


def test_synthetic_users_have_histories_as_long_and_as_repetitive_as_their_own(trained_workspace: Workspace) -> None:
    real = known_users_services(trained_workspace, CONFIG)
    histories = dict(list(stored_histories(trained_workspace).items())[:10])
    services = synthetic(real, 100_000, histories)
    assert len(services.table) == 100_000
    for user, history in histories.items():
        made = services.store.history(user)
        assert len(made) == len(history)
        assert (made.time == history.time).all()
        assert (made.session == history.session).all()
        assert len(np.unique(made.item)) == len(np.unique(history.item))
        assert (services.table.rows_of(made.item) >= 0).all()


def test_synthetic_table_is_the_same_for_the_same_seed_and_has_counts() -> None:
    one, other = (
        synthetic_table(500, np.zeros(500, np.int32), 1_500_000_000, np.random.default_rng(3)) for _ in range(2)
    )
    assert one.frame.equals(other.frame)
    assert (one.neighbours == other.neighbours).all()
    now = 1_500_000_001
    assert np.array_equal(one.statistics(now), other.statistics(now), equal_nan=True)
    assert np.isfinite(one.statistics(now)[:, 0]).mean() > 0.9
    assert len(one.popular_at(now))


def test_offline_batch_scores_the_rows_it_reports(trained_workspace: Workspace) -> None:
    report = measure_offline(trained_workspace, CONFIG, nothing, rows=4_000)
    assert report["requests"] == 20
    assert 3_000 <= report["rows"] <= 4_000
    assert 0 < report["load_s"] < report["seconds"]
    assert report["seconds_per_million"] == pytest.approx(report["seconds"] * 1e6 / report["rows"])


# --- targets ---------------------------------------------------------------------------------------------------------


def figures(p50: float, p99: float, rps: float) -> dict[str, float]:
    return {"p50_ms": p50, "p95_ms": p99, "p99_ms": p99, "rps": rps}


def report_of(**parts: Any) -> dict[str, Any]:
    return {
        "recommend": {"1": figures(3.0, 9.0, 300.0), "16": figures(30.0, 60.0, 500.0)},
        "empty": {"1": figures(1.0, 2.0, 900.0), "16": figures(8.0, 10.0, 2_000.0)},
        **parts,
    }


def test_quick_parts_have_their_four_targets() -> None:
    found = ratios(report_of())
    assert {name: figure["value"] for name, figure in found.items()} == {
        "p50_over_empty_at_1": 3.0,
        "p99_ms_at_1": 9.0,
        "throughput_over_empty_at_16": 0.25,
        "p99_over_p50_at_16": 2.0,
    }
    assert all(figure["met"] for figure in found.values())


@pytest.mark.parametrize(
    ("call", "concurrency", "change", "missed"),
    [
        ("recommend", "1", figures(3.6, 9.0, 300.0), "p50_over_empty_at_1"),
        ("recommend", "1", figures(3.0, 10.1, 300.0), "p99_ms_at_1"),
        ("recommend", "16", figures(30.0, 60.0, 499.0), "throughput_over_empty_at_16"),
        ("recommend", "16", figures(30.0, 121.0, 500.0), "p99_over_p50_at_16"),
    ],
)
def test_a_figure_beyond_its_target_is_not_met(
    call: str, concurrency: str, change: dict[str, float], missed: str
) -> None:
    report = report_of()
    report[call][concurrency] = change
    assert [name for name, figure in ratios(report).items() if not figure["met"]] == [missed]


def test_parts_that_were_measured_have_targets_too() -> None:
    growth = {"p50_ms": {"100000": 1.0, "1000000": 1.4}}
    soak = {"requests": SOAK_REQUESTS, "rss_mib": [700.0, 1_000.0, 1_005.0, 1_010.0]}
    offline = {"seconds_per_million": 21.0}
    found = ratios(report_of(growth=growth, soak=soak, offline=offline))
    assert not found["p50_at_1000000_over_100000_items"]["met"]
    assert found["memory_after_50000_over_10000_requests"] == {"value": 1.01, "target": 1.02, "met": True}
    assert not found["offline_s_per_million_rows"]["met"]


def test_a_soak_that_ended_early_has_shown_nothing() -> None:
    soak = {"requests": SOAK_REQUESTS - 1, "rss_mib": [700.0, 1_000.0]}
    assert not ratios(report_of(soak=soak))["memory_after_50000_over_10000_requests"]["met"]


# --- memory ----------------------------------------------------------------------------------------------------------


def test_memory_is_that_of_the_processes_below_with_this_title() -> None:
    import os

    code = "import sys; held = bytearray(64 << 20); print('up', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        found = memory.descendants(os.getpid(), " ".join(command)[:40])
        assert process.pid in found
        assert 64 < memory.resident_mib([process.pid]) < 512
        assert memory.descendants(os.getpid(), "no such title") == []
        assert process.pid not in memory.descendants(process.pid, "")
        process.communicate("")
    assert memory.resident_mib([process.pid]) == 0
