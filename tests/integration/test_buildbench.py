"""The benchmark of ingest and training, on a slice of the data."""

from __future__ import annotations

import pytest

from cli.buildbench import TARGETS, BuildFailed, bench_build


def test_commands_are_run_and_their_time_and_memory_told() -> None:
    report = bench_build(options=["--households", "60"])
    assert report["train_s"] >= sum(report["stages_s"].values()) > report["features_s"] > 0
    assert report["ingest_and_features_s"] == report["ingest_s"] + report["features_s"]
    # A process that loads torch, LightGBM and a catalog holds more than a quarter of a GiB.
    assert report["peak_gib"] > 0.25
    assert report["met"] == {name: report[name] <= most for name, most in TARGETS.items()}


def test_a_command_that_fails_is_no_figure() -> None:
    with pytest.raises(BuildFailed, match="tandem ingest ended with"):
        bench_build(options=["--households", "none"])
