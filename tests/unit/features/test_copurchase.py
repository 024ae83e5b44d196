"""Neighbours against counting pairs by hand, ties included."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.copurchase import MAX_SESSION, neighbours

ITEMS = 6


def counted(baskets: list[set[int]], items: int, top: int, min_pairs: int) -> tuple[list[list[int]], list[list[float]]]:
    count = Counter(item for basket in baskets for item in basket)
    pairs = Counter(pair for basket in baskets for pair in permutations(basket, 2))
    scale = {item: np.float32(1) / np.sqrt(np.float32(count[item])) for item in count}
    rows, values = [], []
    for item in range(items):
        found = [
            (-(np.float32(n) * scale[a] * scale[b]), b) for (a, b), n in pairs.items() if a == item and n >= min_pairs
        ]
        best = sorted(found)[:top]
        rows.append([b for _, b in best] + [-1] * (top - len(best)))
        values.append([float(-negative) for negative, _ in best] + [0.0] * (top - len(best)))
    return rows, values


@given(
    st.lists(st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=8), min_size=1, max_size=25),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_neighbours_are_what_counting_finds(baskets: list[list[int]], top: int, min_pairs: int) -> None:
    """An item twice in a basket counts once; equal similarities fall by row number."""
    session = np.repeat(np.arange(len(baskets)), [len(basket) for basket in baskets])
    item = np.concatenate([np.array(basket) for basket in baskets])
    shuffle = np.random.default_rng(0).permutation(len(item))
    rows, values = neighbours(session[shuffle], item[shuffle], ITEMS, top, min_pairs)
    expected_rows, expected_values = counted([set(basket) for basket in baskets], ITEMS, top, min_pairs)
    assert rows.tolist() == expected_rows
    np.testing.assert_allclose(values, np.array(expected_values, np.float32), rtol=2e-7)
    assert rows.dtype == np.int32
    assert values.dtype == np.float32


def test_ties_fall_by_row_number() -> None:
    baskets = [[0, 5, 2, 4]] * 3
    session = np.repeat(np.arange(3), 4)
    rows, values = neighbours(session, np.concatenate([np.array(basket) for basket in baskets]), ITEMS, 2)
    assert rows[0].tolist() == [2, 4]
    assert rows[5].tolist() == [0, 2]
    np.testing.assert_allclose(values[0], 1.0, rtol=2e-7)
    assert rows[1].tolist() == [-1, -1]


def test_a_giant_session_counts_with_its_first_items() -> None:
    n = MAX_SESSION + 20
    session = np.repeat(np.arange(3), n)
    rows, _ = neighbours(session, np.tile(np.arange(n)[::-1], 3), n, 2)
    assert (rows[:MAX_SESSION] >= 0).all()
    assert (rows[MAX_SESSION:] == -1).all()


def test_no_events_give_no_neighbours() -> None:
    rows, values = neighbours(np.empty(0, np.int64), np.empty(0, np.int64), 3)
    assert (rows == -1).all()
    assert (values == 0).all()
    assert rows.shape == (3, 24)
