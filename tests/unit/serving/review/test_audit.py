"""The audit: a fair sample, a rule that seldom switches a group that keeps its promise and soon one that does not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta, binomtest

from models.certify import lower_bound
from serving.errors import NotFound
from serving.review.audit import enough, evidence, find, sampled
from serving.review.queue import ReviewQueue
from tests.unit.serving.review.making import Clock, audited, numbers, opened, proposal, say

PROMISE = 0.95


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[ReviewQueue]:
    found = opened(tmp_path / "review.db")
    yield found
    found.close()


# --- the sample ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.5])
def test_sample_has_the_rate_it_states(rate: float) -> None:
    chosen = sum(sampled(str(item), f"tag {item % 7}", "r", rate) for item in range(20_000))
    assert binomtest(chosen, 20_000, rate).pvalue > 1e-3


def test_sample_is_the_same_every_time_and_grows_with_the_rate() -> None:
    ids = [str(item) for item in range(2_000)]
    few = {item for item in ids if sampled(item, "t", "r", 0.1)}
    assert few == {item for item in ids if sampled(item, "t", "r", 0.1)}
    assert few < {item for item in ids if sampled(item, "t", "r", 0.3)}
    assert few != {item for item in ids if sampled(item, "t", "another release", 0.1)}
    assert not any(sampled(item, "t", "r", 0.0) for item in ids)
    assert all(sampled(item, "t", "r", 1.0) for item in ids)


def test_sample_does_not_confuse_neighbouring_fields() -> None:
    pairs = [("ab", "c"), ("a", "bc")]
    differ = [sampled(*pairs[0], str(n), 0.5) != sampled(*pairs[1], str(n), 0.5) for n in range(200)]
    assert any(differ)


# --- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("audits", "wrong"), [(0, 0), (1, 1), (30, 0), (30, 3), (400, 21)])
def test_evidence_is_the_mean_likelihood_ratio_of_what_breaks_the_promise(audits: int, wrong: int) -> None:
    allowed = 1 - PROMISE
    prior = beta(1, 0.5 / allowed)

    def weighted(error: float) -> float:
        ratio = wrong * math.log(error / allowed) + (audits - wrong) * math.log((1 - error) / (1 - allowed))
        return math.exp(ratio) * float(prior.pdf(error)) / float(prior.sf(allowed))

    expected = quad(weighted, allowed, 1, limit=200)[0] if audits else 1.0
    assert evidence(audits, wrong, PROMISE) == pytest.approx(expected, rel=1e-6)


def test_expected_evidence_of_one_more_audit_is_no_more_where_the_promise_is_kept() -> None:
    """The property (a supermartingale) that lets one look after every audit."""
    for error in (0.0, 0.01, 0.05):
        for audits, wrong in ((0, 0), (10, 2), (60, 3), (300, 25)):
            now = evidence(audits, wrong, PROMISE)
            then = error * evidence(audits + 1, wrong + 1, PROMISE) + (1 - error) * evidence(audits + 1, wrong, PROMISE)
            assert then <= now * (1 + 1e-9)


@lru_cache(maxsize=1)
def limits(horizon: int) -> tuple[int, ...]:
    """After each number of audits the fewest wrong ones that switch the group."""
    found, least = [], 0
    for audits in range(1, horizon + 1):
        while least <= audits and not find(audits, least, PROMISE, 0.95).switches:
            least += 1
        while least > 0 and find(audits, least - 1, PROMISE, 0.95).switches:
            least -= 1
        found.append(least)
    return tuple(found)


def ever_switched(error: float, horizon: int) -> float:
    """The exact probability that a group with this share of wrong tags is switched within so many audits."""
    alive, switched = np.zeros(horizon + 2), 0.0
    alive[0] = 1.0
    for least in limits(horizon):
        alive[1:] = alive[1:] * (1 - error) + alive[:-1] * error
        alive[0] *= 1 - error
        switched += float(alive[least:].sum())
        alive[least:] = 0.0
    return switched


@pytest.mark.parametrize("error", [0.0, 0.01, 0.02, 0.025])
def test_group_that_keeps_its_promise_with_room_is_seldom_switched_however_long_it_is_audited(error: float) -> None:
    assert ever_switched(error, 1_400) <= 0.05
    assert enough(PROMISE, 0.95) < 1_400


def test_group_at_the_edge_of_its_promise_is_not_called_broken_before_there_is_enough() -> None:
    least = enough(PROMISE, 0.95)
    exact, alive = 0.0, np.zeros(least + 1)
    alive[0] = 1.0
    for count in limits(1_400)[: least - 1]:
        alive[1:] = alive[1:] * PROMISE + alive[:-1] * (1 - PROMISE)
        alive[0] *= PROMISE
        exact += float(alive[count:].sum())
        alive[count:] = 0.0
    assert exact <= 0.05


def test_group_that_breaks_its_promise_is_switched_soon() -> None:
    def within(error: float, audits: int) -> float:
        alive, switched = np.zeros(audits + 2), 0.0
        alive[0] = 1.0
        for least in limits(1_400)[:audits]:
            alive[1:] = alive[1:] * (1 - error) + alive[:-1] * error
            alive[0] *= 1 - error
            switched += float(alive[least:].sum())
            alive[least:] = 0.0
        return switched

    assert within(0.3, 50) > 0.95
    assert within(0.2, 100) > 0.95
    assert within(0.1, 600) > 0.95
    assert ever_switched(0.06, 1_400) > 0.95


@pytest.mark.parametrize("promise", [0.9, 0.95, 0.98])
def test_enough_audits_show_the_promise_for_half_the_errors_it_allows(promise: float) -> None:
    audits = enough(promise, 0.95)
    wrong = np.random.default_rng(7).binomial(audits, (1 - promise) / 2, 20_000)
    shown = float((lower_bound(np.full(20_000, audits), wrong, 0.95) >= promise).mean())
    assert shown > 0.97


def test_few_audits_decide_nothing_and_say_so() -> None:
    for audits, wrong in ((0, 0), (1, 1), (58, 0), (20, 2)):
        finding = find(audits, wrong, PROMISE, 0.95)
        assert (finding.standing, finding.switches) == ("too few", False)
    assert find(59, 0, PROMISE, 0.95).standing == "kept"
    assert math.isnan(find(0, 0, PROMISE, 0.95).precision)


# --- the switch ------------------------------------------------------------------------------------------------------


def test_broken_group_goes_to_review_and_says_why(queue: ReviewQueue) -> None:
    assert audited(queue, 10, 10) == ["GROCERY"]
    (figures,) = queue.figures("r-1")
    assert (figures.finding.standing, figures.cases) == ("broken", 20)
    change = queue.switched()["GROCERY"]
    assert change.person == "audit"
    assert "refute a precision of 0.95" in change.reason
    assert figures.switched == change


def test_group_that_cannot_show_its_promise_goes_to_review_once_there_is_enough(tmp_path: Path) -> None:
    queue = opened(tmp_path / "review.db", promise=0.6)
    least = enough(0.6, 0.95)
    assert audited(queue, round(0.62 * least), least - 1 - round(0.62 * least), promised=0.6) == []
    assert audited(queue, 1, 0, start=least, promised=0.6) == ["GROCERY"]
    assert "do not show a precision of 0.6" in queue.switched()["GROCERY"].reason
    queue.close()


def test_groups_stand_for_themselves(queue: ReviewQueue) -> None:
    audited(queue, 30, 0)
    assert audited(queue, 0, 10, start=100, group="MEAT") == ["MEAT"]
    assert set(queue.switched()) == {"MEAT"}
    assert [figures.group for figures in queue.figures("r-1")] == ["GROCERY", "MEAT"]


def test_unit_counts_once_by_its_first_judged_case(queue: ReviewQueue) -> None:
    queue.put([proposal(str(n), kind="audit", unit="one kind") for n in range(10)])
    for number in numbers(queue, order="oldest")[1:]:
        assert say(queue, number, "reject").switched == ""
    finding = queue.figures("r-1")[0].finding
    assert (finding.audited, finding.wrong) == (1, 1)
    say(queue, 1, "accept")
    assert queue.figures("r-1")[0].finding.wrong == 0


def test_corrected_tag_counts_as_wrong_and_what_nobody_judged_as_pending(queue: ReviewQueue) -> None:
    queue.put([proposal(str(n), kind="audit", unit=str(n)) for n in range(3)])
    say(queue, 1, "correct", correction="MILK")
    figures = queue.figures("r-1")[0]
    assert (figures.finding.audited, figures.finding.wrong, figures.pending) == (1, 1, 2)


def test_reviewed_tags_say_nothing_of_accepted_ones(queue: ReviewQueue) -> None:
    queue.put([proposal(str(n), unit=str(n)) for n in range(30)])
    for number in numbers(queue):
        say(queue, number, "reject")
    assert (queue.figures("r-1"), queue.switched()) == ((), {})


def test_words_on_another_release_do_not_switch_this_ones_group(queue: ReviewQueue) -> None:
    assert audited(queue, 0, 40, release="r-0") == []
    assert queue.figures("r-0")[0].finding.standing == "broken"


def test_person_resets_a_group_and_its_audit_begins_anew(queue: ReviewQueue) -> None:
    audited(queue, 0, 10)
    change = queue.reset("GROCERY", "anna", "retrained")
    assert (change.on, change.person, change.reason) == (False, "anna", "retrained")
    assert queue.switched() == {}
    assert queue.figures("r-1")[0].finding.audited == 0
    assert audited(queue, 0, 2, start=100) == []
    assert audited(queue, 0, 8, start=200) == ["GROCERY"]


def test_group_that_is_not_switched_cannot_be_reset(queue: ReviewQueue) -> None:
    audited(queue, 0, 10)
    with pytest.raises(NotFound, match="group 'MEAT' is not switched to review; switched: GROCERY"):
        queue.reset("MEAT", "anna", "why not")


def test_undone_word_can_switch_too_and_switches_outlive_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    queue = opened(tmp_path / "review.db", clock)
    audited(queue, 10, 0)
    switched = [say(queue, number, "reject", overrule=True).switched for number in numbers(queue, order="oldest")]
    assert [group for group in switched if group] == ["GROCERY"]
    queue.close()
    again = opened(tmp_path / "review.db", clock)
    assert set(again.switched()) == {"GROCERY"}
    again.close()
