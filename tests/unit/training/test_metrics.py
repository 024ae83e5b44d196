"""Metrics against values worked out by hand and against a plain reference; intervals against what they must be."""

from __future__ import annotations

from math import log2

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.metrics import (
    all_metrics,
    beyond_accuracy,
    bootstrap,
    means,
    per_target,
    slices,
    worst_slice,
)
from training.protocols import ItemSets


def sets(members: list[set[int]]) -> ItemSets:
    owner = np.repeat(np.arange(len(members)), [len(own) for own in members])
    rows = np.array([row for own in members for row in own], np.int64)
    return ItemSets.build(owner, rows, len(members))


def naive(recommended: list[int], wanted: set[int], k: int) -> tuple[float, float, float]:
    """NDCG, recall and hit of one list as the definitions read."""
    shown = [item for item in recommended[:k] if item >= 0]
    gain = sum(1 / log2(place + 2) for place, item in enumerate(shown) if item in wanted)
    ideal = sum(1 / log2(place + 2) for place in range(min(k, len(wanted))))
    hits = sum(item in wanted for item in shown)
    return gain / ideal, hits / len(wanted), float(hits > 0)


def test_values_worked_out_by_hand() -> None:
    """Wanted {3, 5, 8}; hits at places 1 and 3 of three: DCG 1 + 1/2, ideal 1 + 1/log2(3) + 1/2."""
    found = per_target(np.array([[5, 7, 3, 8]]), sets([{3, 5, 8}]), 3)
    assert found["ndcg@3"][0] == pytest.approx(1.5 / (1.5 + 1 / log2(3)))
    assert found["recall@3"][0] == pytest.approx(2 / 3)
    assert found["phr@3"][0] == 1.0


def test_ideal_is_over_the_shorter_of_list_and_target() -> None:
    assert per_target(np.array([[4, 9, 1]]), sets([{4}]), 3)["ndcg@3"][0] == 1.0
    assert per_target(np.array([[4, 9, 1]]), sets([{4, 9, 1, 7, 8}]), 3)["ndcg@3"][0] == pytest.approx(1.0)
    assert per_target(np.array([[4, 9, 1]]), sets([{4, 9, 1, 7, 8}]), 3)["recall@3"][0] == pytest.approx(0.6)


def test_a_target_that_wants_nothing_has_no_value() -> None:
    found = per_target(np.array([[4], [4]]), sets([set(), {4}]), 1)
    assert np.isnan(found["ndcg@1"]).tolist() == np.isnan(found["phr@1"]).tolist() == [True, False]
    assert means(found) == {"ndcg@1": 1.0, "recall@1": 1.0, "phr@1": 1.0}
    assert means(per_target(np.array([[4]]), sets([set()]), 1))["recall@1"] is None


def test_repeat_and_explore_count_their_own_items_and_leave_out_targets_without() -> None:
    rows = np.array([[1, 2, 3], [7, 8, 9]])
    found = all_metrics(rows, sets([{1, 3}, {9}]), sets([{1, 2}, {5}]), ks=(3,))
    assert found["recall@3/repeat"][0] == 1.0
    assert np.isnan(found["recall@3/repeat"][1])
    assert found["ndcg@3/repeat"][0] == 1.0
    assert found["ndcg@3/explore"].tolist() == pytest.approx([0.5, 0.5])
    assert found["recall@3"].tolist() == [1.0, 1.0]


ROWS = st.lists(st.lists(st.integers(0, 12), min_size=0, max_size=8, unique=True), min_size=1, max_size=6)


@given(ROWS, st.data())
def test_metrics_equal_a_plain_reference(lists: list[list[int]], data: st.DataObject) -> None:
    wanted = [data.draw(st.sets(st.integers(0, 12), max_size=10)) for _ in lists]
    had = [data.draw(st.sets(st.integers(0, 12), max_size=10)) for _ in lists]
    rows = np.array([own + [-1] * (8 - len(own)) for own in lists], np.int64)
    found = all_metrics(rows, sets(wanted), sets(had), ks=(3, 8, 10))
    for k in (3, 8, 10):
        for number, own in enumerate(lists):
            parts = {
                "": wanted[number],
                "/repeat": wanted[number] & had[number],
                "/explore": wanted[number] - had[number],
            }
            for suffix, part in parts.items():
                got = [found[f"{metric}@{k}{suffix}"][number] for metric in ("ndcg", "recall", "phr")]
                assert np.isnan(got).all() if not part else got == pytest.approx(naive(own, part, k))


def test_interval_of_equal_values_is_a_point_and_nan_is_left_out() -> None:
    interval = bootstrap(np.array([0.25, np.nan, 0.25]), seed=1)
    assert (interval.mean, interval.low, interval.high, interval.n) == (0.25, 0.25, 0.25, 2)
    assert bootstrap(np.array([np.nan]), seed=1).to_dict() == {"mean": None, "low": None, "high": None, "n": 0}


def test_interval_is_that_of_the_normal_approximation_and_repeats_with_its_seed() -> None:
    values = np.random.default_rng(5).normal(0.1, 1.0, 2_000)
    interval = bootstrap(values, seed=1)
    error = values.std() / np.sqrt(len(values))
    # The quantile of 4,000 rounds has a standard error of about 0.04 of the mean's: four of those.
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.16 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.16 * error)
    assert bootstrap(values, seed=1) == interval
    assert bootstrap(values, seed=2) != interval


def test_drawing_in_parts_is_drawing_at_once() -> None:
    values = np.random.default_rng(5).random(50)
    assert bootstrap(values, seed=3, at_once=777) == bootstrap(values, seed=3)


def test_beyond_accuracy_worked_out_by_hand() -> None:
    """Four items, categories a a b ?; lists (0, 1, 2) and (0, 3): pairs aa ab ab, and none that is known."""
    rows = np.array([[0, 1, 2], [0, 3, -1]])
    found = beyond_accuracy(rows, sets([{0}, {0, 1}]), 8, np.array([0, 0, 1, -1, 0, 0, 0, 0]), 3)
    assert found["coverage@3"] == 4 / 8
    assert found["diversity@3"] == pytest.approx(2 / 3)
    # Owners of items 0..3: 2, 1, 0, 0 of two users; add one to both.
    bits = [-log2(3 / 3), -log2(2 / 3), -log2(1 / 3), -log2(1 / 3)]
    assert found["novelty@3"] == pytest.approx((2 * bits[0] + bits[1] + bits[2] + bits[3]) / 5)
    assert beyond_accuracy(rows, sets([{0}, {0, 1}]), 8, None, 3)["diversity@3"] is None
    nothing = beyond_accuracy(np.full((2, 3), -1), sets([{0}, {1}]), 8, np.zeros(8, np.int64), 3)
    assert nothing == {"coverage@3": 0.0, "diversity@3": None, "novelty@3": None}


def test_slices_name_the_worst_of_those_large_enough() -> None:
    users = [f"u{number}" for number in range(100)]
    table = pl.DataFrame(
        {
            "user_id": users[:90],
            "age": ["old"] * 40 + ["young"] * 45 + ["rare"] * 5,
            "spend": np.arange(90.0),
            "tags": [["a"]] * 90,
        }
    )
    values = np.r_[np.full(40, 0.5), np.full(45, 0.2), np.full(5, 0.0), np.full(10, 0.4)]
    found = slices(values, users, table, seed=1)
    assert set(found) == {"age", "spend"}
    assert {name: (round(part.mean, 6), part.n) for name, part in found["age"].items()} == {
        "old": (0.5, 40),
        "young": (0.2, 45),
        "rare": (0.0, 5),
        "unknown": (0.4, 10),
    }
    assert sorted(part.n for name, part in found["spend"].items() if name != "unknown") == [22, 22, 23, 23]
    worst = worst_slice({"age": found["age"]})
    assert worst is not None
    assert (worst["attribute"], worst["value"], worst["n"]) == ("age", "young", 45)
    assert worst_slice({"age": found["age"]}, least=46) is None


def test_no_attributes_no_slices() -> None:
    assert slices(np.ones(2), ["a", "b"], None, 1) == {}
    assert slices(np.ones(2), ["a", "b"], pl.DataFrame({"user_id": ["a"]}), 1) == {}
    strangers = pl.DataFrame({"user_id": ["x"], "age": ["old"]})
    assert slices(np.ones(2), ["a", "b"], strangers, 1) == {}
    assert worst_slice({}) is None
