"""Demand against counting in plain Python, and what it becomes when the catalog grows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalog import Catalog
from models.coldstart import Demand
from models.index import create_index
from tests.fakes import FakeEmbedder

N = 9
LABELS = [None if number % 4 == 3 else f"L{number % 3}" for number in range(N)]
ITEMS = pl.DataFrame(
    {
        "item_id": [f"i{number}" for number in range(N)],
        "title": [f"Thing {number}" for number in range(N)],
        "text": [None] * N,
        "category": LABELS,
    }
)
CATALOG = Catalog.build(ITEMS, "category", ["category"], FakeEmbedder(), create_index)
pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, N - 1)), max_size=40)


def build(found: list[tuple[int, int]], month: list[float] | None = None, reorder: float = 0.5) -> Demand:
    user, row = (np.array([pair[at] for pair in found], np.int64) for at in (0, 1))
    return Demand.build(CATALOG, user, row, np.array(month or [0.0] * N, np.float32), np.full(N, reorder, np.float32))


@given(pairs)
def test_demand_is_what_counting_finds(found: list[tuple[int, int]]) -> None:
    """Distinct users of items and labels, and how much likelier users of one label use the other."""
    demand = build(found)
    users = {user for user, _ in found}
    assert demand.users == len(users)
    of_item = [{user for user, row in found if row == number} for number in range(N)]
    assert demand.item_users.tolist() == [len(some) for some in of_item]
    of_label = [{user for user, row in found if LABELS[row] == label and label is not None} for label in CATALOG.labels]
    assert demand.label_users.tolist() == [len(some) for some in of_label]
    for one, first in enumerate(of_label):
        for other, second in enumerate(of_label):
            usual = len(first) * len(second) / max(1, len(users))
            assert demand.lift[one, other] == pytest.approx((len(first & second) + 1) / (usual + 1), rel=1e-6)
    for label, best in enumerate(demand.best_in_label):
        rows = [row for row in range(N) if LABELS[row] == CATALOG.labels[label]]
        assert best.tolist() == sorted(rows, key=lambda row: (-len(of_item[row]), row))


def test_what_is_not_known_of_an_item_counts_as_nothing() -> None:
    """Items without an event have NaN statistics; they are neither popular nor bought again."""
    demand = build([(0, 1)], [np.nan, 3.0, 0.0, 7.0, *[np.nan] * 5], np.nan)
    assert demand.item_recent.tolist() == [0, 3, 0, 7, 0, 0, 0, 0, 0]
    assert demand.reorder.tolist() == [0.0] * N
    assert demand.popular.tolist() == [3, 1, 0, 2, 4, 5, 6, 7, 8]


def test_no_events_are_no_demand() -> None:
    demand = build([])
    assert demand.users == 0
    assert not demand.item_users.any()
    assert not demand.label_users.any()
    assert (demand.lift == 1).all()


def test_user_codes_need_not_be_dense() -> None:
    one, other = build([(0, 1), (1, 2), (1, 1)]), build([(70_000, 1), (3, 2), (3, 1)])
    assert one.users == other.users == 2
    assert one.lift.tolist() == other.lift.tolist()


@given(pairs)
def test_a_saved_demand_comes_back(tmp_path_factory: pytest.TempPathFactory, found: list[tuple[int, int]]) -> None:
    path: Path = tmp_path_factory.mktemp("demand") / "demand.npz"
    demand = build(found, [float(number) for number in range(N)])
    demand.save(path)
    loaded = Demand.load(path, CATALOG)
    assert loaded.users == demand.users
    for name in ("item_users", "item_recent", "reorder", "label_users", "lift", "popular"):
        assert getattr(loaded, name).tobytes() == getattr(demand, name).tobytes(), name
    assert [best.tolist() for best in loaded.best_in_label] == [best.tolist() for best in demand.best_in_label]
