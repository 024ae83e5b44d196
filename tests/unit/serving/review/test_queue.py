"""The review queue: one case each, one holder each, words that stay, and nothing lost."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import StoreUnavailable
from serving.errors import CaseTaken, InvalidRequest, NotFound
from serving.review.cases import Wanted, Word
from serving.review.queue import ReviewQueue
from tests.unit.serving.review.making import (
    LEASE_S,
    PROPOSAL,
    RELEASE,
    Clock,
    audited,
    cases,
    numbers,
    opened,
    proposal,
    say,
)

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Iterator[ReviewQueue]:
    found = opened(tmp_path / "review.db", clock)
    yield found
    found.close()


# --- cases -----------------------------------------------------------------------------------------------------------


def test_case_keeps_all_that_a_person_needs(queue: ReviewQueue) -> None:
    assert queue.put([PROPOSAL]) == 1
    (case,) = cases(queue)
    assert (case.proposal, case.arrived, case.state, case.history) == (PROPOSAL, 1_000.0, "open", ())
    assert queue.case(case.id) == case


def test_repeated_delivery_opens_no_second_case_and_another_release_does(queue: ReviewQueue) -> None:
    assert queue.put([PROPOSAL, PROPOSAL]) == 1
    assert queue.put([PROPOSAL]) == 0
    assert queue.put([proposal("item-1", release="r-2"), proposal("item-1", tag="MILK"), proposal("item-2")]) == 3


def test_decided_case_is_not_opened_again(queue: ReviewQueue) -> None:
    queue.put([PROPOSAL])
    (number,) = numbers(queue)
    say(queue, number, "accept")
    assert queue.put([PROPOSAL]) == 0
    assert numbers(queue, state="open") == []


def test_most_uncertain_case_comes_first_or_the_oldest(queue: ReviewQueue) -> None:
    queue.put([proposal(str(probability), probability=probability) for probability in (0.9, 0.52, 0.3, 0.45)])
    assert [case.proposal.item_id for case in cases(queue)] == ["0.52", "0.45", "0.3", "0.9"]
    assert [case.proposal.item_id for case in cases(queue, order="oldest")] == ["0.9", "0.52", "0.3", "0.45"]


@settings(max_examples=12)
@given(
    probabilities=st.lists(st.sampled_from([0.2, 0.4, 0.5, 0.6, 0.9]), min_size=1, max_size=12),
    size=st.integers(1, 5),
    order=st.sampled_from(["uncertain", "oldest"]),
)
def test_pages_hold_every_case_once_in_the_order_of_all(
    tmp_path_factory: pytest.TempPathFactory, probabilities: list[float], size: int, order: str
) -> None:
    queue = opened(tmp_path_factory.mktemp("pages") / "review.db")
    queue.put([proposal(str(n), probability=value) for n, value in enumerate(probabilities)])
    wanted = Wanted(order=order)  # type: ignore[arg-type]
    found, token = [], ""
    while True:
        page = queue.page(wanted, size, token)
        assert page.total == len(probabilities)
        found += [case.id for case in page.cases]
        token = page.next_token
        if not token:
            break
    expected = sorted(
        range(len(probabilities)), key=lambda n: (abs(probabilities[n] - 0.5) if order == "uncertain" else 0, n)
    )
    assert found == [n + 1 for n in expected]
    queue.close()


def test_filters_find_what_they_name(queue: ReviewQueue) -> None:
    queue.put([proposal("a"), proposal("b", group="MEAT"), proposal("c", kind="audit"), proposal("d", release="r-2")])
    a, b, c, d = numbers(queue, order="oldest")
    say(queue, b, "reject", "ben")
    queue.claim("anna", [c], LEASE_S)
    assert numbers(queue, group="MEAT") == [b]
    assert numbers(queue, kind="audit") == [c]
    assert numbers(queue, release="r-2") == [d]
    assert numbers(queue, item_id="a") == [a]
    assert numbers(queue, state="open", order="oldest") == [a, d]
    assert numbers(queue, state="claimed") == [c]
    assert numbers(queue, state="resolved") == [b]
    assert (numbers(queue, saying="reject"), numbers(queue, saying="accept")) == ([b], [])
    assert (numbers(queue, person="ben"), numbers(queue, person="anna")) == ([b], [c])


@pytest.mark.parametrize("token", ["nonsense", "bm9uZQ==", "W10=", "WyJ4IiwgMSwgMV0="])
def test_token_of_other_cases_is_refused(queue: ReviewQueue, token: str) -> None:
    with pytest.raises(InvalidRequest, match="page_token is none"):
        queue.page(Wanted(), 1, token)


def test_token_of_another_filter_is_refused(queue: ReviewQueue) -> None:
    queue.put([proposal("a"), proposal("b")])
    token = queue.page(Wanted(), 1).next_token
    with pytest.raises(InvalidRequest, match="request as it was"):
        queue.page(Wanted(state="open"), 1, token)


# --- claims ----------------------------------------------------------------------------------------------------------


def test_claimed_case_is_nobody_elses_until_its_lease_ends(queue: ReviewQueue, clock: Clock) -> None:
    queue.put([PROPOSAL])
    (case,) = queue.claim("anna", [1], LEASE_S)
    assert (case.state, case.claimed_by, case.claimed_until) == ("claimed", "anna", clock.now + LEASE_S)
    with pytest.raises(CaseTaken, match="case 1 is held by anna for 60 s more; claim another"):
        queue.claim("ben", [1], LEASE_S)
    with pytest.raises(CaseTaken, match="held by anna"):
        say(queue, 1, "accept", "ben")
    assert queue.claim_next("ben", Wanted(state="open"), 5, LEASE_S) == ()
    clock.now += LEASE_S
    assert queue.case(1).state == "open"
    assert [case.claimed_by for case in queue.claim_next("ben", Wanted(state="open"), 5, LEASE_S)] == ["ben"]


def test_holder_holds_longer_by_claiming_again(queue: ReviewQueue, clock: Clock) -> None:
    queue.put([PROPOSAL])
    queue.claim("anna", [1], LEASE_S)
    clock.now += LEASE_S / 2
    assert queue.claim("anna", [1], LEASE_S)[0].claimed_until == clock.now + LEASE_S


def test_cases_are_claimed_all_or_none(queue: ReviewQueue) -> None:
    queue.put([proposal("a"), proposal("b")])
    queue.claim("anna", [2], LEASE_S)
    with pytest.raises(CaseTaken):
        queue.claim("ben", [1, 2], LEASE_S)
    with pytest.raises(NotFound, match="no case 9"):
        queue.claim("ben", [1, 9], LEASE_S)
    assert queue.case(1).state == "open"


def test_next_claims_take_the_best_open_cases(queue: ReviewQueue) -> None:
    queue.put([proposal(str(value), probability=value) for value in (0.9, 0.5, 0.3)])
    taken = queue.claim_next("anna", Wanted(state="open"), 2, LEASE_S)
    assert [case.proposal.item_id for case in taken] == ["0.5", "0.3"]


def test_two_people_never_hold_one_case(tmp_path: Path) -> None:
    """Eight people at once, over two connections each of two replicas."""
    replicas = [opened(tmp_path / "review.db") for _ in range(2)]
    replicas[0].put([proposal(str(n)) for n in range(40)])
    start = threading.Barrier(8)

    def take(person: int) -> list[int]:
        start.wait()
        taken: list[int] = []
        while found := replicas[person % 2].claim_next(f"person {person}", Wanted(state="open"), 1, LEASE_S):
            taken += [case.id for case in found]
        return taken

    with ThreadPoolExecutor(8) as people:
        held = [number for taken in people.map(take, range(8)) for number in taken]
    assert sorted(held) == list(range(1, 41))
    for replica in replicas:
        replica.close()


def test_released_case_is_open_again_and_only_its_holder_releases_it(queue: ReviewQueue) -> None:
    queue.put([PROPOSAL])
    queue.claim("anna", [1], LEASE_S)
    with pytest.raises(CaseTaken, match="held by anna"):
        queue.release("ben", 1)
    assert queue.release("anna", 1)
    assert not queue.release("anna", 1)
    assert queue.case(1).state == "open"
    with pytest.raises(NotFound):
        queue.release("anna", 2)


# --- words -----------------------------------------------------------------------------------------------------------


def test_word_says_who_when_and_why_and_ends_the_claim(queue: ReviewQueue) -> None:
    queue.put([PROPOSAL])
    queue.claim("anna", [1], LEASE_S)
    answer = say(queue, 1, "correct", correction="MILK", reason="it is a drink", time=5.0)
    assert (answer.case.state, answer.case.claimed_by) == ("resolved", "")
    assert answer.case.word == Word("correct", "anna", 5.0, "MILK", "it is a drink")


def test_decided_case_is_changed_by_overruling_only_and_the_history_keeps_both(queue: ReviewQueue) -> None:
    queue.put([PROPOSAL])
    say(queue, 1, "accept")
    with pytest.raises(CaseTaken, match=r"case 1 was decided by anna: accept; .* overrule"):
        say(queue, 1, "reject", "ben")
    with pytest.raises(CaseTaken):
        queue.claim("ben", [1], LEASE_S)
    answer = say(queue, 1, "reject", "ben", overrule=True)
    assert [(word.saying, word.person) for word in answer.case.history] == [("accept", "anna"), ("reject", "ben")]
    assert numbers(queue, saying="reject") == [1]


def test_repeated_word_is_harmless(queue: ReviewQueue) -> None:
    queue.put([PROPOSAL])
    assert not say(queue, 1, "accept").unchanged
    assert say(queue, 1, "accept").unchanged
    assert len(queue.case(1).history) == 1


@pytest.mark.parametrize("table", ["words", "switches"])
@pytest.mark.parametrize("change", ["UPDATE {} SET person = 'eve'", "DELETE FROM {}"])
def test_what_was_said_cannot_be_changed_in_the_file_either(tmp_path: Path, table: str, change: str) -> None:
    queue = opened(tmp_path / "review.db")
    assert audited(queue, 0, 40) == ["GROCERY"]
    with sqlite3.connect(tmp_path / "review.db") as db, pytest.raises(sqlite3.IntegrityError, match="never"):
        db.execute(change.format(table))
    queue.close()


def test_unknown_case_is_not_found(queue: ReviewQueue) -> None:
    with pytest.raises(NotFound, match="there is no case 7"):
        say(queue, 7, "accept")


# --- kept ------------------------------------------------------------------------------------------------------------

KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from serving.review.cases import Word
from serving.review.config import ReviewConfig
from serving.review.desk import ReviewDesk
from tests.unit.serving.review.making import Clock, proposal
desk = ReviewDesk(Path(sys.argv[1]), ReviewConfig(), Clock())
async def answer():
    for n in range(30):
        assert await desk.put_up([proposal(f"item-{n}")], 30.0) == ""
asyncio.run(answer())
desk.queue.claim("anna", [1, 2], 60.0)
desk.resolve(1, Word("reject", "anna", 1.0), "r-1")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "review.db")], cwd=ROOT, timeout=120)
    assert ended.returncode == -9
    queue = opened(tmp_path / "review.db")
    found = cases(queue, order="oldest")
    assert [case.proposal.item_id for case in found] == [f"item-{n}" for n in range(30)]
    assert [(case.state, case.claimed_by) for case in found[:3]] == [
        ("resolved", ""),
        ("claimed", "anna"),
        ("open", ""),
    ]
    queue.close()


def test_other_replica_sees_what_one_wrote_at_once(queue: ReviewQueue, tmp_path: Path, clock: Clock) -> None:
    other = opened(tmp_path / "review.db", clock)
    queue.put([PROPOSAL])
    other.claim("anna", [1], LEASE_S)
    assert queue.case(1).claimed_by == "anna"
    other.resolve(1, Word("accept", "anna", 1.0), RELEASE)
    assert queue.case(1).state == "resolved"
    other.close()


def test_queue_that_cannot_be_opened_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "review.db").write_bytes(b"no database, and long enough to be taken for one" * 40)
    with pytest.raises(StoreUnavailable, match=r"review queue .*review\.db cannot be used"):
        opened(tmp_path / "review.db")
