"""Keys that number items and places, and sets of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.keys import distinct

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(INT64 | st.integers(-2, 2) | st.sampled_from((-(2**63), 2**63 - 1))))
def test_distinct_numbers_are_those_of_a_set_in_order(numbers: list[int]) -> None:
    found = distinct(np.array(numbers, np.int64))
    assert found.dtype == np.int64
    assert found.tolist() == sorted(set(numbers))
