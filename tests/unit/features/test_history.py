"""A user's state: what it keeps, in which order, and what of it a moment may see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import SchemaMismatch
from features.events import history_of
from features.history import EVENT_KINDS, MAX_EVENTS, History
from features.keys import item_keys
from features.ports import Event
from tests.unit.features.shop import START, event, histories

FIELDS = ("item", "time", "session", "kind", "value", "place", "price")
OLDER = ("forgotten", "forgotten_kinds")


def assert_same(one: History, other: History) -> None:
    for name in (*FIELDS, *OLDER):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype, name
        assert a.tobytes() == b.tobytes(), name


def rows(history: History) -> list[tuple[float, ...]]:
    """A price that was not told as -1: NaN is unlike itself."""
    told = replace(history, price=np.nan_to_num(history.price, nan=-1.0))
    return list(zip(*(getattr(told, name).tolist() for name in FIELDS)))


@given(histories())
def test_a_decoded_history_is_the_encoded_one(events: list[Event]) -> None:
    history = history_of(events)
    assert_same(History.decode(history.encode()), history)


def test_no_bytes_are_an_empty_history() -> None:
    assert len(History.decode(b"")) == 0
    assert_same(History.decode(History.empty().encode()), History.empty())


WHOLE = history_of([event(0, "a", START), event(1, "b", START + 1)]).encode()


@pytest.mark.parametrize(
    "blob",
    [WHOLE[:-1], WHOLE + b"\0", WHOLE[:5], b"TUH0" + WHOLE[4:], WHOLE[:4] + b"\x09\0\0\0" + WHOLE[8:], b"{}"],
    ids=["cut", "longer", "short", "magic", "count", "json"],
)
def test_a_damaged_history_is_refused_with_the_remedy(blob: bytes) -> None:
    with pytest.raises(SchemaMismatch, match="tandem train"):
        History.decode(blob)


def test_an_event_at_exactly_now_is_not_seen() -> None:
    history = history_of([event(number, "a", START + number) for number in range(3)])
    assert [len(history.before(START + offset)) for offset in range(-1, 5)] == [0, 0, 1, 2, 3, 3]


@given(histories(), st.integers(0, 21))
def test_before_is_a_filter_by_time(events: list[Event], slot: int) -> None:
    now = START + slot * 40_000
    seen = [event for event in events if event.timestamp < now]
    assert_same(history_of(events).before(now), history_of(seen))


@given(histories(), st.data())
def test_events_in_parts_give_the_order_of_all_at_once(events: list[Event], data: st.DataObject) -> None:
    """Late ones find their place; those of one time and session stay in order of arrival."""
    history = History.empty()
    left = events
    while left:
        size = data.draw(st.integers(1, len(left)))
        history, left = history.append(history_of(left[:size])), left[size:]
    assert_same(history, history_of(events))
    ordered = list(zip(history.time.tolist(), history.session.tolist()))
    assert ordered == sorted(ordered)
    assert sorted(rows(history)) == sorted(rows(history_of(events)))


def test_only_the_newest_events_are_kept() -> None:
    old = history_of([event(number, f"i{number}", START + number) for number in range(MAX_EVENTS)])
    new = history_of([event(number, f"n{number}", START + MAX_EVENTS + number) for number in range(3)])
    both = old.append(new)
    assert len(both) == MAX_EVENTS
    assert both.time.tolist() == list(range(START + 3, START + MAX_EVENTS + 3))
    late = old.append(history_of([event(0, "late", START - 1)]))
    assert rows(late) == rows(old)
    assert late.forgotten.tolist() == item_keys(["late"]).tolist()


def test_items_of_events_that_left_are_remembered_with_their_kinds() -> None:
    """However the events came, and through bytes: what was seen once is seen for good."""
    n = MAX_EVENTS + 5
    kinds = ("view", "purchase", "view", "cart", "view")
    events = [
        event(number, "often" if number in (1, 2) else f"i{number}", START + number, kind=kinds[number % 5])
        for number in range(n)
    ]
    left = {"often": 1 << 0 | 1 << 1, "i0": 1 << 1, "i3": 1 << 3, "i4": 1 << 1}
    keys = item_keys(list(left))
    expected = sorted(zip(keys.tolist(), left.values()))
    whole = history_of(events[:MAX_EVENTS]).append(history_of(events[MAX_EVENTS:]))
    parts = history_of(events[:3000])
    for at in range(3000, n, 300):
        parts = History.decode(parts.append(history_of(events[at : at + 300])).encode())
    for history in (whole, parts):
        assert list(zip(history.forgotten.tolist(), history.forgotten_kinds.tolist())) == expected
    assert_same(parts, whole)
    # A moment later than that, as training asks for it of all events at once.
    assert_same(whole.before(START + n), whole)


def test_a_training_history_is_bounded_at_its_own_time() -> None:
    n = MAX_EVENTS + 10
    everything = History(
        np.arange(n, dtype=np.int64),
        START + np.arange(n, dtype=np.int64),
        np.zeros(n, np.int64),
        np.zeros(n, np.uint8),
        np.ones(n, np.float32),
        np.zeros(n, np.int64),
        np.ones(n, np.float32),
    )
    seen = everything.before(START + MAX_EVENTS + 5)
    assert seen.item.tolist() == list(range(5, MAX_EVENTS + 5))
    assert seen.forgotten.tolist() == [0, 1, 2, 3, 4]
    assert seen.forgotten_kinds.tolist() == [1] * 5


def test_codes_of_kinds_are_what_stored_histories_hold() -> None:
    """Append to this list; a change of order would turn stored purchases into views."""
    assert EVENT_KINDS[:5] == ("purchase", "view", "click", "cart", "rating")
