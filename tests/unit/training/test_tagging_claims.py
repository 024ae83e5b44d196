"""Tags of which an item may have several: certified by the item, counted by the tag, refused with too little gold."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import binomtest

from models.certify import POOLED, Bound, lower_bound
from training.tagging import report, several
from training.tagging.claims import Claims, certify_units, outcome, pooled, resplit, summary
from training.tagging.datasets import TagData
from training.tagging.resplits import broken
from training.tagging.summary import SYSTEM, WITH_GRAPH
from training.tagging.views import similarity, unit_rows


def claims(unit: list[int], probability: list[float], right: list[bool], units: int) -> Claims:
    gold = np.bincount(np.array(unit)[np.array(right, bool)], minlength=units)
    return Claims(units, np.array(unit), np.zeros(len(unit), np.int64), np.array(probability), np.array(right), gold)


def population(units: int, seed: int, tags: int = 3) -> Claims:
    """Probabilities that are honest: a tag of probability p is right with probability p."""
    rng = np.random.default_rng(seed)
    probability = rng.random(units * tags) ** 0.1
    right = rng.random(units * tags) < probability
    unit = np.repeat(np.arange(units), tags)
    return Claims(
        units, unit, np.tile(np.arange(tags), units), probability, right, np.bincount(unit[right], minlength=units)
    )


def test_unit_is_wrong_where_any_tag_that_is_accepted_is_wrong() -> None:
    found = claims([0, 0, 1, 2], [0.9, 0.8, 0.7, 0.6], [True, False, True, False], 4)
    top, worst = found.extremes()
    assert top.tolist() == [0.9, 0.7, 0.6, -inf]
    assert worst.tolist() == [0.8, -inf, 0.6, -inf]


@given(st.integers(0, 2**32), st.sampled_from([0.9, 0.95]))
def test_threshold_equals_a_plain_walk_down_the_grid(seed: int, precision: float) -> None:
    held = population(150, seed % 1_000, 2)
    certificate = certify_units(held, precision)
    expected = inf
    for threshold in certificate.config.grid():
        inside = held.probability >= threshold
        units = set(held.unit[inside].tolist())
        wrong = set(held.unit[inside & ~held.right].tolist())
        if float(lower_bound(len(units), len(wrong), 0.95)) < precision:
            break
        expected = float(threshold)
    assert certificate.threshold() == expected


def test_promise_for_units_is_broken_no_more_often_than_stated() -> None:
    """300 draws of gold from a population whose precision at every threshold is known."""
    whole = population(4_000, 3)
    top, worst = whole.extremes()
    rng = np.random.default_rng(4)
    broken = accepting = 0
    for _ in range(300):
        drawn = np.sort(rng.choice(whole.units, 300, replace=False))
        rows = np.isin(whole.unit, drawn)
        place = np.searchsorted(drawn, whole.unit[rows])
        held = Claims(300, place, whole.tag[rows], whole.probability[rows], whole.right[rows], whole.gold[drawn])
        threshold = certify_units(held, 0.9).threshold()
        accepting += threshold < inf
        broken += bool((worst >= threshold).sum() > 0.1 * (top >= threshold).sum()) and threshold < inf
    assert accepting > 100
    assert binomtest(broken, 300, 0.05, alternative="greater").pvalue > 0.001


def test_resplits_find_a_certificate_that_cannot_keep_its_promise() -> None:
    """Honest units pass; a fifth of these are wrong at the threshold that is promised to hold."""
    assert resplit(population(400, 5))["kept"]
    top = np.full(500, 0.9)
    worst = np.where(np.arange(500) < 100, 0.9, -inf)
    careless = broken(top, worst, 0.95, lambda _: Bound(0.9, 59, 59, 0, 0.95))
    assert careless["violations"] == careless["rounds"]
    assert not careless["kept"]


def test_too_few_units_cannot_accept_and_say_so() -> None:
    held = claims(list(range(50)), [0.99] * 50, [True] * 50, 50)
    certificate = certify_units(held, 0.95)
    assert certificate.threshold() == inf
    assert certificate.bounds[POOLED].reason == "50 of 50 units score 0.990 or more: 59 errorless are the least"


def test_numbers_worked_out_by_hand() -> None:
    """Four products: one right alone, one with a right and a wrong tag, one missed, one that has none."""
    asked = claims([0, 1, 1, 3], [0.9, 0.8, 0.7, 0.2], [True, True, False, False], 4)
    asked = replace(asked, gold=np.array([1, 1, 1, 0]))
    held = claims(list(range(160)), [0.75] * 130 + [0.72] * 30, [True] * 130 + [False] * 30, 160)
    found = outcome("it", 1, np.arange(4), held, asked, 1.0, 0.002)
    numbers = summary(["a"], np.arange(4), [found], ("it",))["methods"]["it"]
    assert numbers["accuracy"] == 0.5
    assert (numbers["precision"], numbers["recall"]) == pytest.approx((2 / 3, 2 / 3))
    assert numbers["coverage@0.95"] == pytest.approx(2 / 3)
    assert numbers["precision@0.95"] == 1.0
    assert numbers["units@0.95"] == 0.5
    assert numbers["latency_ms"] == pytest.approx(2.0)


def test_areas_and_calibration_have_intervals_over_clusters() -> None:
    """Copies of a product under one brand are no more witnesses: the intervals are those of one copy each."""
    held, asked = population(200, 6), population(100, 7)
    thrice = Claims(
        300,
        np.concatenate([asked.unit + 100 * copy for copy in range(3)]),
        np.tile(asked.tag, 3),
        np.tile(asked.probability, 3),
        np.tile(asked.right, 3),
        np.tile(asked.gold, 3),
    )
    told = []
    for found, clusters in ((asked, np.arange(100)), (thrice, np.arange(300) % 100)):
        one = outcome("it", 1, np.arange(found.units), held, found, 1.0, None)
        told.append(summary(["a", "b", "c"], clusters, [one], ())["methods"]["it"])
    once, copied = told
    for name in ("aurc", "augrc", "brier", "ece"):
        span, same = once["intervals"][name], copied["intervals"][name]
        assert span["low"] < once[name] < span["high"]
        assert span["n"] == same["n"] == 100
        assert same["high"] - same["low"] == pytest.approx(span["high"] - span["low"], rel=0.1)


def test_gain_over_a_sample_counts_the_units_of_both() -> None:
    held = claims(list(range(100)), [0.75] * 100, [True] * 100, 100)
    whole = claims([0, 1, 2, 3], [0.9] * 4, [True] * 4, 4)
    part = replace(claims([0, 1], [0.9, 0.2], [True, True], 2), gold=np.array([1, 1]))
    system = outcome("system", 1, np.arange(4), held, whole, 1.0, None)
    other = outcome("other", 1, np.array([1, 3]), held, part, 1.0, None)
    gain = summary(["a"], np.arange(4), [system, other], ("system",))["gain"]["system"]["other"]["recall"]
    assert (gain["mean"], gain["n"]) == (0.5, 2)


def test_pooled_vocabularies_count_every_claim_once() -> None:
    held = claims(list(range(100)), [0.75] * 100, [True] * 100, 100)
    asked = claims([0, 1], [0.9, 0.4], [True, True], 2)
    one = outcome("it", 1, np.arange(2), held, asked, 1.0, 0.0)
    both = pooled([(["a"], np.arange(2), [one]), (["b"], np.arange(2), [one])], ("it",))
    assert both["groups"] == 4
    assert both["seeds"] == [1]
    assert both["methods"]["it"]["recall"] == 0.5
    assert set(both["methods"]["it"]["certificate_by_tag"]) == {"a", "b"}


@pytest.fixture(scope="module")
def data() -> TagData:
    """200 items of three independent labels, each of which leaves two words in four."""
    rng = np.random.default_rng(2)
    gold = rng.random((200, 3)) < (0.5, 0.3, 0.2)
    spoken = [np.where(gold[:, [label]], rng.random((200, 4)) < 0.7, rng.random((200, 4)) < 0.05) for label in range(3)]
    rows = unit_rows(np.hstack([*spoken, rng.random((200, 4)) < 0.5]).astype(np.float32))
    alike = similarity(rows, unit_rows(np.repeat(np.eye(4, dtype=np.float32), 4, axis=1)))[:, :3]
    return TagData(
        "made",
        tuple(f"item {row}" for row in range(200)),
        ("",) * 200,
        ("a", "b", "c"),
        gold.astype(np.float64),
        {"meaning": rows},
        {"text": {"meaning": 1.0}, "all": {"meaning": 1.0}},
        {"meaning": alike},
        np.zeros((200, 1), np.float32),
        ("nothing",),
        several=True,
    )


def test_every_method_finds_what_words_say_and_the_graph_vetoes(data: TagData) -> None:
    graph = np.zeros((200, 3), np.float32)
    graph[:, 0] = -1.0
    found = {one.method: one for one in several.run_split(data, 9001, graph, folds=2)}
    assert set(found) == {"neighbours-10", "svm", "logistic", SYSTEM, "logistic-evidence", WITH_GRAPH}
    for one in found.values():
        confident = one.claims.right[one.claims.probability > 0.8]
        assert binomtest(int(confident.sum()), len(confident), 0.5, alternative="greater").pvalue < 0.01
    vetoed = found[WITH_GRAPH].claims
    assert not vetoed.probability[vetoed.tag == 0].any()
    assert vetoed.probability[vetoed.tag == 1].any()
    numbers = summary(data.labels, np.arange(200), list(found.values()), (SYSTEM, WITH_GRAPH))
    page = report.html({"datasets": {"made": numbers}})
    assert "cannot accept at certified 95 %" in page
    assert page.count("<svg") == 3


def test_terminal_shows_vocabularies_refusals_and_what_was_skipped(data: TagData) -> None:
    found = several.run_split(data, 9001, None, folds=2)
    own = summary(data.labels, np.arange(200), found, (SYSTEM,))
    whole = pooled([(data.labels, np.arange(200), found), (data.labels, np.arange(200), found)], (SYSTEM,))
    made = {**whole, "vocabularies": {"words": own}, "against_facts": {SYSTEM: 3}}
    shown = Console(file=StringIO(), width=160)
    shown.print(report.render({"datasets": {"made": made}, "skipped": {"other": "no folder other"}}))
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    for part in ("made/words", "cannot accept at certified 95 %", "skipped: no folder other", "broken over resplits"):
        assert part in text
    assert f"contradict them: {SYSTEM} 3" in " ".join(text.split())


def test_held_out_probabilities_do_not_depend_on_the_folds_own_gold(data: TagData) -> None:
    """A fold's answers, before the acceptor, are the same whatever its own gold says."""
    train, asked = np.arange(150), np.arange(150, 200)
    changed = data.counts.copy()
    changed[asked] = changed[asked][:, ::-1]
    method = several.guardrail
    first = method(data, None, 1)(train, asked)[SYSTEM]
    second = method(replace(data, counts=changed), None, 1)(train, asked)[SYSTEM]
    np.testing.assert_allclose(first.told, second.told, atol=1e-5)
    assert (first.right != second.right).any()
