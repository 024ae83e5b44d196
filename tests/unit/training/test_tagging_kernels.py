"""Kernel ridge and votes against what they stand for: a fit without the fold, and a count by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.workspace import Workspace
from training.tagging.datasets import TagData, offer_view
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


def test_offers_put_groups_together_and_items_of_no_group_count_for_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert offer_view(workspace, ["a"], np.array([0]), 1) == {}
    items = [f"i{number}" for number in range(6)]
    pairs = [(f"soup {number}", item) for number in range(20) for item in ("i0", "i1", "i5")]
    pairs += [(f"soap {number}", item) for number in range(20) for item in ("i2", "i3", "gone")]
    workspace.offers.parent.mkdir(parents=True)
    pl.DataFrame(pairs, ("offer_id", "item_id"), orient="row").write_parquet(workspace.offers)
    rows = offer_view(workspace, items, np.array([0, 1, 2, 3, 4, -1]), 5)["offer"]
    assert rows.shape[0] == 5
    alike = similarity(rows)
    assert min(alike[0, 1], alike[2, 3]) > 0.9
    assert abs(alike[:2, 2:4]).max() < 0.1
    assert not alike[4].any()
    none = offer_view(workspace, items, np.full(6, -1), 5)["offer"]
    assert not similarity(none).any()


def test_agreeing_in_offers_and_in_words_or_makers_counts_more_than_either() -> None:
    two = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    apart = np.eye(3, dtype=np.float32)

    def alike(text: np.ndarray, maker: np.ndarray, **more: np.ndarray) -> float:
        views = {"word": text, "maker": maker, "basket": apart, **more}
        mixes = {"text": {"word": 1.0}, "all": dict.fromkeys(views, 1.0)}
        data = TagData(
            "t",
            ("a", "b", "c"),
            ("", "", ""),
            ("x",),
            np.ones((3, 1)),
            views,
            mixes,
            {},
            np.zeros((3, 0), np.float32),
            (),
        )
        assert ("offer" in data.kernels) == bool(more)
        return float(data.kernels["both"][0, 1])

    alone = alike(apart, apart, offer=two)
    assert alone == pytest.approx(1.0)
    assert alike(two, apart) == alike(apart, two) == pytest.approx(1.0)
    assert alike(two, apart, offer=two) == alike(apart, two, offer=two) == pytest.approx(2.0 + 4.0)


def test_price_view_is_a_zero_row_where_nothing_was_sold() -> None:
    rows = price_view(np.array([0, 0, 1]), np.array([1.0, 1.2, np.nan]), 3)
    assert np.linalg.norm(rows[0]) == pytest.approx(1.0)
    assert not rows[1:].any()
