"""Keys that number items and places, and sets of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.keys import KeyIndex, distinct, item_keys

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(INT64 | st.integers(-2, 2) | st.sampled_from((-(2**63), 2**63 - 1))))
def test_distinct_numbers_are_those_of_a_set_in_order(numbers: list[int]) -> None:
    found = distinct(np.array(numbers, np.int64))
    assert found.dtype == np.int64
    assert found.tolist() == sorted(set(numbers))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 64, 1000])
def test_the_index_finds_every_key_and_no_other(count: int) -> None:
    keys = item_keys([f"i{number}" for number in range(count)])
    index = KeyIndex.of(keys)
    extremes = np.array([-(2**63), -1, 0, 1, 2**63 - 1], np.int64)
    for key in np.concatenate((keys, extremes, item_keys(["strange", "others"]))).tolist():
        at = int(index.starts[((key % 2**64) ^ (1 << 63)) >> (64 - index.bits)])
        while at < count and index.keys[at] < key:
            at += 1
        found = int(index.rows[at]) if at < count and index.keys[at] == key else -1
        assert found == (keys.tolist().index(key) if key in keys else -1)
    assert np.diff(index.keys).min(initial=1) > 0
