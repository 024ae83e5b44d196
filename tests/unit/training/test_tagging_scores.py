"""Numbers about confidences: worked out by hand, and intervals that know what a cluster is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from training.tagging.scores import augrc, aurc, brier, ece, macro, of_confidences, ratio, reliability, resampled

CONFIDENCE = np.array([0.9, 0.8, 0.7, 0.6])
RIGHT = np.array([True, False, True, False])


def test_areas_worked_out_by_hand() -> None:
    """Risks 0, 1/2, 1/3, 1/2 at coverages 1/4 to 1."""
    assert aurc(CONFIDENCE, RIGHT) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert augrc(CONFIDENCE, RIGHT) == pytest.approx((0 + 1 / 4 + 1 / 4 + 2 / 4) / 4)


def test_areas_are_least_for_the_order_that_puts_every_wrong_one_last() -> None:
    best = np.array([0.9, 0.1, 0.8, 0.2])
    assert aurc(best, RIGHT) < aurc(CONFIDENCE, RIGHT)
    assert augrc(best, RIGHT) < augrc(CONFIDENCE, RIGHT)


def test_calibration_worked_out_by_hand() -> None:
    confidence = np.array([0.15, 0.15, 0.95, 0.95])
    right = np.array([False, False, True, False])
    assert np.array(reliability(confidence, right)) == pytest.approx(np.array([[0.15, 0.0, 2], [0.95, 0.5, 2]]))
    assert ece(confidence, right) == pytest.approx((0.15 + 0.45) / 2)
    assert brier(confidence, right) == pytest.approx((0.15**2 * 2 + 0.05**2 + 0.95**2) / 4)


def test_macro_averages_count_a_rare_label_as_much_as_a_common_one() -> None:
    gold, label = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])
    assert macro(label, gold) == (0.75, 0.5)


def test_interval_of_copies_is_that_of_the_originals() -> None:
    """Ten copies of every cluster are no more witnesses: the interval must not shrink."""
    rng = np.random.default_rng(1)
    values, cluster = (rng.random(50) < 0.7).astype(float), np.arange(50)
    once = ratio(values, np.ones(50), cluster, 3)
    copied = ratio(np.repeat(values, 10), np.ones(500), np.repeat(cluster, 10), 3)
    assert (once.low, once.high) == pytest.approx((copied.low, copied.high))
    assert once.high - once.low > 0.1


def test_ratio_of_nothing_is_unknown() -> None:
    assert np.isnan(ratio(np.zeros(3), np.zeros(3), np.arange(3), 1).mean)


def made(types: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidences that are honest, whether each is right, and whose cluster it is: one row a cluster."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(3, 1, types)
    return confidence, rng.random(types) < confidence, np.arange(types)


def test_resampled_statistics_have_their_value_inside_and_copies_are_no_witnesses() -> None:
    """Every type is tested under three seeds with the same answer: the intervals are those of one seed."""
    confidence, right, cluster = made(200, 2)
    once = resampled(of_confidences(confidence, right), cluster, 3)
    thrice = np.tile(np.arange(200), 3)
    copied = resampled(of_confidences(confidence[thrice], right[thrice]), cluster[thrice], 3)
    assert set(once) == {"aurc", "augrc", "brier", "ece"}
    for name, span in once.items():
        assert 0.0 <= span.low < span.mean < span.high <= 1.0
        assert (copied[name].low, copied[name].high) == pytest.approx((span.low, span.high), abs=2e-3)
        assert copied[name].n == span.n == 200


def test_rows_of_one_cluster_are_drawn_together() -> None:
    """Were rows drawn one by one, both halves of a cluster would not come and go together."""
    cluster = np.repeat(np.arange(50), 2)
    seen = []

    def counted(rows: np.ndarray) -> float:
        times = np.bincount(rows, minlength=100)
        seen.append(bool((times[::2] == times[1::2]).all()))
        return 0.5

    resampled({"it": counted}, cluster, 1)
    assert len(seen) > 100
    assert all(seen)


def test_resampled_mean_has_the_interval_of_its_ratio() -> None:
    confidence, _, cluster = made(300, 4)
    expected = ratio(confidence, np.ones(300), cluster, 1)
    found = resampled({"mean": lambda rows: float(confidence[rows].mean())}, cluster, 2)["mean"]
    assert found.mean == pytest.approx(expected.mean)
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.15 * width)


def test_interval_of_areas_covers_what_a_large_sample_has() -> None:
    """100 samples of 150 clusters: covered no more seldom than 95 % allows, by the exact binomial test."""
    whole, right, _ = made(200_000, 5)
    truth = {name: measure(np.arange(200_000)) for name, measure in of_confidences(whole, right).items()}
    covered = dict.fromkeys(("aurc", "augrc", "brier"), 0)
    for seed in range(100):
        confidence, own, cluster = made(150, 100 + seed)
        for name, span in resampled(of_confidences(confidence, own), cluster, seed).items():
            if name in covered:
                covered[name] += span.low <= truth[name] <= span.high
    for many in covered.values():
        assert binomtest(many, 100, 0.95, alternative="less").pvalue > 0.001


def test_resampled_nothing_is_unknown() -> None:
    assert np.isnan(resampled(of_confidences(np.zeros(0), np.zeros(0, bool)), np.zeros(0, int), 1)["ece"].mean)
