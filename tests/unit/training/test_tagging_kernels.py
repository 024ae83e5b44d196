"""Kernel ridge and votes against what they stand for: a fit without the fold, and a count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from training.tagging.kernels import ridge, ridge_held_out, votes
from training.tagging.views import company_view, price_view, similarity, unit_rows, value_view


def problem(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = unit_rows(rng.normal(size=(n, 12)).astype(np.float32))
    return rows, np.eye(7, dtype=np.float32)[rng.integers(0, 7, n)], rng.integers(0, 4, n)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_held_out_scores_are_those_of_fits_without_the_fold(seed: int) -> None:
    rows, shares, fold = problem(60, seed)
    kernel = similarity(rows)
    found = ridge_held_out(kernel, shares, fold, 0.3)
    for number in np.unique(fold):
        held = fold == number
        own = ridge(kernel[np.ix_(~held, ~held)], shares[~held], kernel[np.ix_(held, ~held)], 0.3)
        np.testing.assert_allclose(found[held], own, atol=2e-5)


def test_held_out_scores_do_not_depend_on_the_folds_own_gold() -> None:
    rows, shares, fold = problem(60, 4)
    changed = shares.copy()
    changed[fold == 2] = shares[fold == 2][:, ::-1]
    first, second = (ridge_held_out(similarity(rows), gold, fold, 0.3) for gold in (shares, changed))
    np.testing.assert_allclose(first[fold == 2], second[fold == 2], atol=2e-5)
    assert np.abs(first[fold != 2] - second[fold != 2]).max() > 0.01


def test_votes_weigh_by_similarity_and_leave_out_whom_they_must() -> None:
    shares = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    alike = np.array([[0.9, 0.5, 0.8, -np.inf]], np.float32)
    found, nearest = votes(alike, shares)
    weight = np.exp(6.0 * (np.array([0.9, 0.5, 0.8]) - 0.9))
    np.testing.assert_allclose(found[0], [weight[:2].sum() / weight.sum(), weight[2] / weight.sum(), 0.0], rtol=1e-5)
    np.testing.assert_allclose(nearest[0], [0.9, 0.8, 0.0], rtol=1e-6)


def test_value_view_compares_groups_by_shared_values() -> None:
    rows = value_view(np.array([0, 0, 1, 2, 2]), ["a", "a", "a", "b", None], 4)
    alike = similarity(rows)
    assert alike[0, 1] == pytest.approx(1.0)
    assert alike[0, 2] == 0.0
    assert not alike[3].any()


def test_company_view_puts_substitutes_together_that_never_meet() -> None:
    """Two milks are never bought together; both are with bread, and neither is with batteries."""
    rng = np.random.default_rng(3)
    baskets = []
    for number in range(400):
        food = number % 2 == 0
        baskets += [(number, 0 if rng.random() < 0.5 else 1), (number, 2), (number, 3)] if food else []
        baskets += [] if food else [(number, 4), (number, 5)]
    place, group = np.array(baskets).T
    alike = similarity(company_view(group, place, 6))
    assert alike[0, 1] > 0.8
    assert abs(alike[0, 4]) < 0.2


def test_price_view_is_a_zero_row_where_nothing_was_sold() -> None:
    rows = price_view(np.array([0, 0, 1]), np.array([1.0, 1.2, np.nan]), 3)
    assert np.linalg.norm(rows[0]) == pytest.approx(1.0)
    assert not rows[1:].any()
