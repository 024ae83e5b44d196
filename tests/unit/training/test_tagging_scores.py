"""Numbers about confidences: worked out by hand, and intervals that know what a cluster is."""

from __future__ import annotations

import numpy as np
import pytest

from training.tagging.scores import augrc, aurc, brier, ece, macro, ratio, reliability

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
