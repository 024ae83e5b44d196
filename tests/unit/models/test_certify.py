"""The certificate: exact where it can be worked out, kept as often as it states, silent where gold is too little."""

from __future__ import annotations

import json
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from models.certify import POOLED, Certificate, CertifyConfig, certify, least_errorless, lower_bound
from models.errors import ArtifactMismatch

CONFIG = CertifyConfig(precision=0.95, start=0.9, stop=0.1, step=0.1)


def test_the_least_errorless_units_are_those_of_the_literature() -> None:
    assert least_errorless(0.95, 0.95) == 59
    assert least_errorless(0.98, 0.95) == 149


@given(st.integers(1, 400), st.data())
def test_bound_is_where_the_binomial_tail_meets_the_confidence(n: int, data: st.DataObject) -> None:
    """Clopper and Pearson's definition, by the binomial distribution itself instead of the beta quantile."""
    wrong = data.draw(st.integers(0, n - 1))
    low = float(lower_bound(n, wrong, 0.95))
    assert binom.cdf(wrong, n, 1.0 - low) == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize(("units", "accepts"), [(58, False), (59, True)])
def test_one_errorless_unit_decides_whether_anything_may_be_accepted(units: int, accepts: bool) -> None:
    bound = certify(np.ones(units), np.ones(units, bool), CONFIG).bounds[POOLED]
    assert (bound.threshold < inf) == accepts
    if not accepts:
        assert bound.reason == "58 gold units: 59 without an error are the least for 95%"


def test_testing_stops_at_the_first_threshold_that_fails_even_where_a_later_one_would_pass() -> None:
    """200 right units at .9, 100 wrong ones at .8, a thousand right ones at .7: only the first may count."""
    scores = np.repeat([0.9, 0.8, 0.7], [200, 100, 10_000])
    right = np.repeat([True, False, True], [200, 100, 10_000])
    bound = certify(scores, right, CONFIG).bounds[POOLED]
    assert bound.threshold == pytest.approx(0.9)
    assert (bound.accepted, bound.wrong) == (200, 0)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=300), st.randoms())
def test_thresholds_equal_a_plain_walk_down_the_grid(units: list[tuple[float, bool]], random: object) -> None:
    del random
    scores, right = np.array([unit[0] for unit in units]), np.array([unit[1] for unit in units])
    config = CertifyConfig(precision=0.6, confidence=0.8, start=0.9, stop=0.1, step=0.05)
    expected = inf
    for threshold in config.grid():
        inside = scores >= threshold
        if float(lower_bound(int(inside.sum()), int((~right[inside]).sum()), 0.8)) < 0.6:
            break
        expected = float(threshold)
    assert certify(scores, right, config).threshold() == expected


def test_promise_is_broken_no_more_often_than_stated_where_the_truth_is_known() -> None:
    """600 draws of gold from a population whose precision at every threshold is known exactly.

    Precision at threshold t is 1 - (1 - t) / 2 for uniform scores that are their own probability: 95 % holds from
    t = 0.9 on, and the grid goes far below, so that every certificate is tempted.
    """
    rng = np.random.default_rng(5)
    config = CertifyConfig(precision=0.95, start=0.94, stop=0.5, step=0.01)
    broken = 0
    for _ in range(600):
        scores = rng.random(4_000)
        right = rng.random(4_000) < scores
        threshold = certify(scores, right, config).threshold()
        broken += threshold < inf and 1.0 - (1.0 - threshold) / 2.0 < 0.95
    assert binomtest(broken, 600, 0.05, alternative="greater").pvalue > 0.001


def test_promise_is_tight_where_the_truth_lies_just_below_it() -> None:
    """Precision 94.99 % at every threshold: the one hypothesis is true, and the exact level of its test is known."""
    rng = np.random.default_rng(8)
    most = max(wrong for wrong in range(100) if float(lower_bound(1_000, wrong, 0.95)) >= 0.95)
    level = binom.cdf(most, 1_000, 0.0501)
    assert 0.03 < level <= 0.05
    broken = sum(
        certify(np.full(1_000, 0.9), rng.random(1_000) >= 0.0501, CONFIG).threshold() < inf for _ in range(1_000)
    )
    assert binomtest(broken, 1_000, level).pvalue > 0.001


def test_counting_items_of_a_cluster_as_units_breaks_the_promise() -> None:
    """Why the unit matters: forty items a cluster share one judgement, and the same bound is broken far too often."""
    rng = np.random.default_rng(6)
    config = CertifyConfig(precision=0.95, start=0.98, stop=0.5, step=0.005)
    broken = {"units": 0, "items": 0}
    for _ in range(150):
        scores = rng.random(400)
        right = rng.random(400) < scores
        for name, times in (("units", 1), ("items", 40)):
            threshold = certify(np.repeat(scores, times), np.repeat(right, times), config).threshold()
            broken[name] += threshold < inf and 1.0 - (1.0 - threshold) / 2.0 < 0.95
    assert binomtest(broken["units"], 150, 0.05, alternative="greater").pvalue > 0.001
    assert broken["items"] > 30


def test_small_groups_share_a_threshold_and_large_ones_have_their_own() -> None:
    config = CertifyConfig(precision=0.95, start=0.9, stop=0.1, step=0.1, own_units=300)
    scores = np.full(700, 0.95)
    groups = ["snacks"] * 400 + ["olives"] * 150 + ["herbs"] * 150
    right = np.array([index >= 100 for index in range(700)])
    certificate = certify(scores, right, config, groups)
    assert set(certificate.bounds) == {"snacks", POOLED}
    assert certificate.threshold("snacks") == inf
    assert "100 of 400 units at 0.9 are wrong" in str(certificate.bounds["snacks"].reason)
    assert certificate.threshold("olives") == certificate.threshold("herbs") == certificate.bounds[POOLED].threshold
    assert certificate.accepts(np.array([0.95, 0.95, 0.0, np.nan]), ["snacks", "olives", "olives", "new"]).tolist() == [
        False,
        True,
        False,
        False,
    ]


def test_certificate_survives_its_manifest_and_an_edited_one_is_refused() -> None:
    certificate = certify(np.full(100, 0.95), np.ones(100, bool), CONFIG, ["a"] * 100)
    stored = json.loads(json.dumps(certificate.to_dict()))
    assert Certificate.from_dict(stored) == certificate
    stored["bounds"][POOLED]["wrong"] = 20
    with pytest.raises(ArtifactMismatch, match="20 wrong of 100"):
        Certificate.from_dict(stored)
    with pytest.raises(ArtifactMismatch, match="cannot be read"):
        Certificate.from_dict({"bounds": {}})


def test_bad_gold_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        certify(np.array([np.nan]), np.array([True]), CONFIG)
    with pytest.raises(ValueError, match="2 scores and 1 judgements"):
        certify(np.array([0.5, 0.5]), np.array([True]), CONFIG)
