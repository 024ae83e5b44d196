"""Units: what shares a text or a kind is one witness, and nothing else is."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from models.units import group_of_label, kinds_of, unit_of_row


def naive(texts: list[int], kinds: list[str | None]) -> list[set[int]]:
    """Items joined one pair at a time until nothing changes."""
    units = [{row} for row in range(len(texts))]
    for one in range(len(texts)):
        for other in range(one):
            if texts[one] == texts[other] or (kinds[one] and kinds[one] == kinds[other]):
                first = next(unit for unit in units if one in unit)
                second = next(unit for unit in units if other in unit)
                if first is not second:
                    units.remove(second)
                    first |= second
    return units


@given(st.lists(st.tuples(st.integers(0, 8), st.sampled_from([None, "", "a", "b", "c", "d"])), min_size=1, max_size=25))
def test_units_are_those_of_a_plain_joining(rows: list[tuple[int, str | None]]) -> None:
    texts, kinds = [text for text, _ in rows], [kind for _, kind in rows]
    unit = unit_of_row(np.array(texts, np.int32), kinds)
    found = {frozenset(np.flatnonzero(unit == number).tolist()) for number in np.unique(unit)}
    assert found == {frozenset(each) for each in naive(texts, kinds)}


def test_without_kinds_a_unit_is_a_text() -> None:
    assert unit_of_row(np.array([0, 1, 0, 2], np.int32)).tolist() == [0, 1, 0, 2]
    assert kinds_of(pl.DataFrame({"item_id": ["a"]})) is None


def test_label_belongs_to_the_department_most_of_its_items_stand_in() -> None:
    items = pl.DataFrame(
        {
            "category": ["CHEESE", "CHEESE", "CHEESE", "WINE", None, "TEA"],
            "department": ["DAIRY", "DAIRY", "DELI", "WINE SHOP", "DELI", None],
        }
    )
    assert group_of_label(items, "category") == {"CHEESE": "DAIRY", "WINE": "WINE SHOP"}
    assert group_of_label(items.drop("department"), "category") == {}
    assert group_of_label(items, "department") == {}
