"""Prices and what is sold where, as of any day; the columns made of them are checked in test_transforms."""

from __future__ import annotations

import dataclasses
import math
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.items import ItemTable
from features.keys import NOWHERE, KeyArray, place_key, place_keys
from features.places import PlaceActivity, PlaceDay, RowIndex
from features.ports import Event
from tests.unit.features.shop import START, bare_table, event, histories, places_of

DAY = 86_400
TODAY = START // DAY
ITEMS = 12
KIND = np.zeros(ITEMS, np.int64)


def sold(number: int, item: str, days: float, place: str, price: float = 0.0) -> Event:
    return event(number, item, START + int(days * DAY), place=place, price=price)


def test_an_unnamed_place_is_nowhere_and_names_have_keys_of_their_own() -> None:
    keys = place_keys(["north", "", "south", "north"]).tolist()
    assert keys[1] == place_key("") == NOWHERE
    assert keys[0] == keys[3] == place_key("north") != keys[2] == place_key("south")
    assert NOWHERE not in (keys[0], keys[2])
    assert place_keys([]).tolist() == []


def test_a_day_knows_what_came_before_it() -> None:
    events = [sold(0, "i1", 0, "north", 2.0), sold(1, "i1", 1, "south", 4.0), sold(2, "i2", 1, "north")]
    activity = places_of(events, ITEMS)

    def at(day: int, place: str) -> tuple[list[int], list[float], list[float]]:
        here = activity.here(activity.at(TODAY + day, ITEMS, KIND, 1), place_key(place))
        assert here is not None
        return here.last.tolist(), here.price.tolist(), here.kinds.tolist()

    assert at(0, "north")[0] == [-1, -1]
    last, price, kinds = at(1, "north")
    assert last == [TODAY, -1]
    assert kinds == pytest.approx([2 ** (-1 / 3)])
    assert price[0] == math.log(2.0)
    assert math.isnan(price[1])
    last, _, kinds = at(2, "north")
    assert last == [TODAY, TODAY + 1]
    assert kinds == pytest.approx([2 ** (-2 / 3) + 2 ** (-1 / 3)])
    assert at(2, "south")[:2] == ([TODAY + 1], [math.log(4.0)])


def test_usual_prices_move_slowly_and_recent_ones_at_once() -> None:
    events = [sold(n, "i1", n, "north", 2.0) for n in range(60)] + [
        sold(60 + n, "i1", 60, "south", 1.0) for n in (0, 1)
    ]
    day = places_of(events, ITEMS).at(TODAY + 61, ITEMS, KIND, 1)
    assert math.exp(day.recent[1]) == pytest.approx(2.0 * 0.5 ** (1 - 0.7**2), rel=1e-6)
    assert math.exp(day.usual[1]) == pytest.approx(2.0 * 0.5 ** ((1 - 0.97**2) / (1 - 0.97**62)), rel=1e-6)
    assert np.isnan(day.usual[[0, 2]]).all()


def test_nothing_is_known_of_a_place_that_never_sold_and_of_nowhere() -> None:
    activity = places_of([sold(0, "i1", 0, "", 2.0), sold(1, "i2", 0, "north")], ITEMS)
    day = activity.at(TODAY + 1, ITEMS, KIND, 1)
    assert activity.here(day, place_key("south")) is None
    assert activity.here(day, NOWHERE) is None
    assert not np.isnan(day.usual[1])


def test_without_places_and_prices_nothing_is_kept() -> None:
    activity = places_of([event(0, "i1", START), event(1, "i2", START)], ITEMS)
    assert len(activity) == len(activity.places) == len(activity.rows) == 0
    day = activity.at(TODAY + 1, ITEMS, KIND, 1)
    assert np.isnan(day.usual).all()
    assert activity.here(day, place_key("north")) is None


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_price_is_not_told(price: float) -> None:
    activity = PlaceActivity.count(
        place_keys(["north"]), np.array([1]), np.array([START]), np.array([price], np.float32), ITEMS
    )
    assert np.isnan(activity.price).all()
    assert np.isnan(activity.at(TODAY + 1, ITEMS, KIND, 1).usual).all()


@given(histories(ITEMS, steps=(40_000, 7 * 3_600)), st.integers(0, 9), st.randoms(use_true_random=False))
def test_neither_the_order_of_events_nor_later_ones_move_a_day(events: list[Event], days: int, random: object) -> None:
    """Planted later events change no bit of what a day knows of the places and items that were there before."""
    day = TODAY + days
    before = [one for one in events if one.timestamp // DAY < day]
    shuffled = events.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (places_of(some, ITEMS) for some in (before, shuffled))
    now, later = (each.at(day, ITEMS, KIND, 1) for each in (one, other))
    if len(one):
        assert now.usual.tobytes() == later.usual.tobytes()
        assert now.recent.tobytes() == later.recent.tobytes()
    for key in one.places:
        mine, planted = one.here(now, int(key)), other.here(later, int(key))
        if mine is None:
            assert planted is None
            continue
        assert planted is not None
        known = np.isin(planted.rows, mine.rows)
        for name in ("rows", "last", "price"):
            assert getattr(mine, name).tobytes() == getattr(planted, name)[known].tobytes()
        assert (planted.last[~known] == -1).all()
        assert mine.kinds.tobytes() == planted.kinds.tobytes()


@given(histories(ITEMS, steps=(40_000, 7 * 3_600)), st.lists(st.integers(0, 80), min_size=2, max_size=5))
def test_a_day_that_goes_on_from_an_earlier_one_is_the_same_to_the_bit(events: list[Event], days: list[int]) -> None:
    activity = places_of(events, ITEMS)
    before = None
    for day in sorted(days):
        before, anew = (activity.at(TODAY + day, ITEMS, KIND, 1, start) for start in (before, None))
        for name in ("usual", "recent", "last", "price", "sums"):
            assert getattr(before, name).tobytes() == getattr(anew, name).tobytes(), name
        assert before.end == anew.end
        for key in activity.places.tolist():
            one, other = activity.here(before, key), activity.here(anew, key)
            assert (one is None) == (other is None) == (key == NOWHERE)
            assert one is None or other is None or one.kinds.tobytes() == other.kinds.tobytes()


def test_a_table_knows_a_day_whatever_days_it_was_asked_for_before() -> None:
    events = [sold(n, f"i{n % ITEMS}", n / 3, "north", 1.0 + n % 5) for n in range(90)]
    asked = bare_table(ITEMS, events)
    for days in (9, 3, 30, 17, 2, 4, 5, 6, 7, 8, 30, 17, 9):
        now = START + days * DAY
        one, other = asked.prices(now), bare_table(ITEMS, events).prices(now)
        assert one.usual.tobytes() == other.usual.tobytes()
        mine, anew = asked.here(now, place_key("north")), bare_table(ITEMS, events).here(now, place_key("north"))
        assert mine is not None
        assert anew is not None
        assert mine.kinds.tobytes() == anew.kinds.tobytes()
    assert len(asked._place_days) <= 8


def test_a_saved_table_knows_its_places_and_a_longer_one_too(tmp_path: Path) -> None:
    table = bare_table(ITEMS, [sold(0, "i1", 0, "north", 2.0), sold(1, "i2", 0, "south", 3.0)])
    table.save(tmp_path / "table")
    loaded = ItemTable.load(tmp_path / "table")
    more = loaded.extended(loaded.frame.head(1).with_columns(item_id=loaded.frame["item_id"].head(1) + "-new"))
    for each in (table, loaded, more):
        here = each.here(START + DAY, place_key("south"))
        assert here is not None
        assert (here.rows.tolist(), here.last.tolist(), here.price.tolist()) == ([2], [TODAY], [math.log(3.0)])
        assert each.prices(START + DAY).usual[:3].tolist()[1:] == [math.log(2.0), math.log(3.0)]
    assert math.isnan(more.prices(START + DAY).usual[ITEMS])


def shop(seed: int, places: int, items: int, events: int, days: int) -> PlaceActivity:
    random = np.random.default_rng(seed)
    return PlaceActivity.count(
        place_keys([str(place) for place in range(places)])[random.integers(0, places, events)],
        random.integers(0, items, events),
        START + random.integers(0, days, events) * DAY,
        random.lognormal(size=events).astype(np.float32),
        items,
    )


def kinds_of_all(activity: PlaceActivity, day: int, kind: KeyArray, kinds: int) -> npt.NDArray[np.float64]:
    """Events of every place and kind [places, kinds], halved every three days: all entries of 60 days, one by one."""
    owner = np.repeat(np.arange(len(activity.places)), np.diff(activity.starts))
    fresh, sold = [2.0 ** (-age / 3.0) for age in range(61)], np.zeros((len(activity.places), kinds))
    for at, pair, n in zip(activity.day.tolist(), activity.pair.tolist(), activity.n.tolist(), strict=True):
        if day - 60 <= at < day:
            sold[owner[pair], kind[activity.rows[pair]]] += n * fresh[day - at]
    return sold


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 9), st.integers(-3, 170))
def test_what_a_place_sold_of_each_kind_is_the_sum_over_all_events_to_the_bit(
    seed: int, places: int, kinds: int, days: int
) -> None:
    kind = np.random.default_rng(seed).integers(0, kinds, 20)
    activity = shop(seed, places, 20, 400, 100)
    state, expected = activity.at(TODAY + days, 20, kind, kinds), kinds_of_all(activity, TODAY + days, kind, kinds)
    for at, key in enumerate(activity.places.tolist()):
        for _ in range(2):  # the second time it is at hand
            here = activity.here(state, key)
            assert here is not None
            assert here.kinds.tobytes() == expected[at].tobytes()


def held(value: object) -> int:
    """Bytes of all arrays in it."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if dataclasses.is_dataclass(value):
        return sum(held(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, dict):
        value = list(value.values())
    return sum(map(held, value)) if isinstance(value, list | tuple) else 0


def test_a_day_grows_with_what_was_sold_not_with_places_times_kinds() -> None:
    places, items, kinds = 3_000, 6_000, 3_000
    activity, kind = shop(1, places, items, 20_000, 50), np.arange(items) % kinds
    state = activity.at(TODAY + 50, items, kind, kinds)
    for key in activity.places.tolist():
        assert activity.here(state, key) is not None
    assert held(state) < 100 * (len(activity) + items) < places * kinds


def test_threads_that_ask_for_the_same_places_get_the_same() -> None:
    kinds = 40
    activity, kind = shop(2, 60, 400, 5_000, 80), np.arange(400) % kinds
    expected = kinds_of_all(activity, TODAY + 80, kind, kinds)
    wrong: list[int] = []

    def ask(state: PlaceDay, seed: int) -> None:
        for at in np.random.default_rng(seed).integers(0, len(expected), 300).tolist():
            here = activity.here(state, int(activity.places[at]))
            if here is None or here.kinds.tobytes() != expected[at].tobytes():
                wrong.append(at)

    for _ in range(5):
        state = activity.at(TODAY + 80, 400, kind, kinds)
        threads = [threading.Thread(target=ask, args=(state, seed)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@given(st.lists(st.sets(st.integers(0, 3_000), min_size=1, max_size=300), max_size=6))
def test_the_index_finds_the_rows_of_every_place_and_no_others(sold_at: list[set[int]]) -> None:
    starts = np.cumsum([0, *(len(rows) for rows in sold_at)])
    index = RowIndex.of(starts, np.array([row for rows in sold_at for row in sorted(rows)], np.int32))
    for place, rows in enumerate(sold_at):
        ordered, shift = sorted(rows), int(index.shift[place])
        own = index.starts[int(index.first[place]) : int(index.first[place + 1])].tolist()
        for row in (*ordered, *range(0, 3_200, 7)):
            bucket = row >> shift
            near = ordered[own[bucket] : own[bucket + 1]] if bucket + 1 < len(own) else []
            assert near.count(row) == (row in rows)
        assert len(own) <= 4 * len(rows) + 2  # an index no larger than what it is of
