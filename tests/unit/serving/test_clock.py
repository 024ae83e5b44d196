"""A request's time: what it was spent on, what fell back, and when there is none left."""

from __future__ import annotations

import time

import pytest

from serving.clock import RequestClock
from serving.errors import DeadlineExceeded
from serving.messages import Degradation, Usage


def test_stages_are_listed_in_order_and_sum_up_to_no_more_than_the_total() -> None:
    clock = RequestClock(1_000)
    for name in ("features", "ranking", "ranking"):
        with clock.stage(name):
            time.sleep(0.002)
    header = clock.header("r1", "release-1")
    assert [stage.name for stage in header.stages] == ["features", "ranking", "ranking", "total"]
    *parts, total = (stage.ms for stage in header.stages)
    assert all(part >= 2 for part in parts)
    assert sum(parts) <= total


def test_stage_that_fails_is_timed_all_the_same() -> None:
    clock = RequestClock(1_000)
    with pytest.raises(ValueError, match="broken"), clock.stage("ranking"):
        raise ValueError("broken")
    assert [stage.name for stage in clock.header("r", "x").stages] == ["ranking", "total"]


def test_degraded_stages_reach_the_header() -> None:
    clock = RequestClock(1_000)
    clock.degrade("llm", "no time")
    clock.degrade("features", "no store")
    header = clock.header("r1", "release-1", Usage(3, 4))
    assert header.degraded == (Degradation("llm", "no time"), Degradation("features", "no store"))
    assert (header.request_id, header.release, header.usage) == ("r1", "release-1", Usage(3, 4))


def test_header_without_an_llm_counts_no_tokens() -> None:
    assert RequestClock(1).header("r", "x").usage == Usage()


def test_deadline_is_told_apart_from_time_left() -> None:
    clock = RequestClock(60_000)
    clock.check("ranking")
    assert 59 < clock.remaining_s <= 60


def test_deadline_that_passed_names_the_stage_and_the_remedy() -> None:
    clock = RequestClock(1)
    time.sleep(0.003)
    assert clock.remaining_s < 0
    with pytest.raises(DeadlineExceeded, match=r"deadline of 1 ms passed before ranking; allow more time"):
        clock.check("ranking")
