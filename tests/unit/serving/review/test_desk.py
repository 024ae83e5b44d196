"""The desk of a process: cases are written before an answer leaves, and switches of any process are obeyed."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from serving.review.cases import Word
from serving.review.commit import GroupCommit
from serving.review.config import ReviewConfig
from serving.review.desk import ReviewDesk
from tests.unit.serving.review.making import PROPOSAL, RELEASE, Clock, audited, cases, opened, proposal

PATIENCE_S = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "review.db"


@pytest.fixture
def ticks() -> Clock:
    return Clock()


@pytest.fixture
def desk(path: Path, ticks: Clock) -> Iterator[ReviewDesk]:
    found = ReviewDesk(path, ReviewConfig(), Clock(), ticks)
    yield found
    found.close()


async def test_cases_are_there_for_every_process_when_the_answer_leaves(desk: ReviewDesk, path: Path) -> None:
    assert await desk.put_up([PROPOSAL, proposal("item-2")], PATIENCE_S) == ""
    other = opened(path)
    assert [case.proposal for case in cases(other, order="oldest")] == [PROPOSAL, proposal("item-2")]
    other.close()


async def test_answers_at_once_lose_no_case(desk: ReviewDesk) -> None:
    problems = await asyncio.gather(*(desk.put_up([proposal(str(n))], PATIENCE_S) for n in range(300)))
    assert set(problems) == {""}
    assert {case.proposal.item_id for case in cases(desk.queue)} == {str(n) for n in range(300)}


async def test_answers_that_wait_in_line_lose_no_case(path: Path, desk: ReviewDesk) -> None:
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    answers = [asyncio.create_task(desk.put_up([proposal(str(n))], PATIENCE_S)) for n in range(50)]
    await asyncio.sleep(0)
    assert not any(answer.done() for answer in answers)
    blocker.execute("ROLLBACK")
    blocker.close()
    assert set(await asyncio.gather(*answers)) == {""}
    assert {case.proposal.item_id for case in cases(desk.queue)} == {str(n) for n in range(50)}


async def test_queue_that_is_behind_does_not_keep_the_answer_and_writes_later(path: Path, desk: ReviewDesk) -> None:
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    assert "not written yet" in await desk.put_up([PROPOSAL], 0.02)
    blocker.execute("ROLLBACK")
    blocker.close()
    desk.close()
    other = opened(path)
    assert [case.proposal for case in cases(other)] == [PROPOSAL]
    other.close()


async def test_queue_that_does_not_answer_is_said_and_breaks_nothing(path: Path) -> None:
    desk = ReviewDesk(path, ReviewConfig())
    desk.queue.close()
    assert "does not answer" in await desk.put_up([PROPOSAL], PATIENCE_S)


def test_switch_of_another_process_is_obeyed_within_a_quarter_of_a_second(
    desk: ReviewDesk, path: Path, ticks: Clock
) -> None:
    assert not desk.review_only("GROCERY")
    other = opened(path)
    assert audited(other, 0, 10) == ["GROCERY"]
    ticks.now += 0.25
    assert desk.review_only("GROCERY")
    assert not desk.review_only("MEAT")
    other.reset("GROCERY", "anna", "retrained")
    ticks.now += 0.25
    assert not desk.review_only("GROCERY")
    other.close()


def test_own_switch_and_reset_are_obeyed_by_the_next_tag(desk: ReviewDesk) -> None:
    desk.queue.put([proposal(str(n), kind="audit", unit=str(n)) for n in range(10)])
    answers = [desk.resolve(n, Word("reject", "anna", 1.0), RELEASE) for n in range(1, 11)]
    assert "GROCERY" in {answer.switched for answer in answers}
    assert desk.review_only("GROCERY")
    desk.reset("GROCERY", "anna", "retrained")
    assert not desk.review_only("GROCERY")


def test_start_knows_the_switches_and_keeps_them_where_the_queue_is_gone(path: Path, ticks: Clock) -> None:
    first = opened(path)
    audited(first, 0, 10)
    first.close()
    desk = ReviewDesk(path, ReviewConfig(), Clock(), ticks)
    assert desk.review_only("GROCERY")
    desk.queue.close()
    ticks.now += 10
    assert desk.review_only("GROCERY")


# --- group commit ----------------------------------------------------------------------------------------------------


class Slow:
    """A store whose first write waits until it is let go; writes of "bad" fail."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.written: list[list[str]] = []
        self.synced = threading.Event()

    def write(self, values: Sequence[str]) -> None:
        self.begun.set()
        assert self.go.wait(30)
        if "bad" in values:
            raise ValueError("no")
        self.written.append(list(values))

    def sync(self) -> None:
        self.synced.set()


@pytest.fixture
def slow() -> Slow:
    return Slow()


def test_what_comes_while_one_writes_is_written_together_in_order(slow: Slow) -> None:
    writer = GroupCommit(slow.write, slow.sync, 10)
    done = [writer.put(["a"])]
    assert slow.begun.wait(30)
    done += [writer.put([name]) for name in "bcd"]
    slow.go.set()
    for each in done:
        each.result(30)
    assert slow.written == [["a"], ["b", "c", "d"]]
    writer.close()
    assert slow.synced.is_set()


def test_failed_write_tells_its_callers_and_the_next_one_is_tried(slow: Slow) -> None:
    writer = GroupCommit(slow.write, slow.sync, 10)
    slow.go.set()
    with pytest.raises(ValueError, match="no"):
        writer.put(["bad"]).result(30)
    writer.put(["good"]).result(30)
    writer.close()


def test_more_than_may_wait_is_refused_and_close_writes_what_waits(slow: Slow) -> None:
    writer = GroupCommit(slow.write, slow.sync, 2)
    first = writer.put(["a"])
    assert slow.begun.wait(30)
    waiting = [writer.put([name]) for name in "bc"]
    with pytest.raises(queue.Full):
        writer.put(["d"])
    slow.go.set()
    writer.close()
    assert all(each.done() for each in [first, *waiting])
    with pytest.raises(RuntimeError, match="closed"):
        writer.put(["e"])


def test_what_is_written_goes_to_the_disk_within_the_time_it_may_take(slow: Slow) -> None:
    writer = GroupCommit(slow.write, slow.sync, 2, sync_s=0.01)
    slow.go.set()
    writer.put(["a"]).result(30)
    assert slow.synced.wait(30)
    slow.synced.clear()
    writer.follow()
    assert slow.synced.wait(30)
    writer.close()
