"""Daily statistics against counting by hand, at any day, and their weekly long form against the daily ones."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import numpy.typing as npt
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from features.ports import Event
from features.schema import ITEM_STATS
from features.statistics import Activity, long_form
from tests.unit.features import naive
from tests.unit.features.shop import START, WEEK, activity_of, event

DAY = 86_400
ITEMS = 5
TODAY = START // DAY
NAMES = [column.name for column in ITEM_STATS]
Triple = tuple[int, int, int]
# Times a second before midnight, at it and amid a day; the last item never has an event.
times = st.builds(lambda day, second: day * DAY + second, st.integers(0, 130), st.sampled_from([0, 1, 40_000, DAY - 1]))
triples = st.lists(st.tuples(st.integers(0, 3), st.integers(0, ITEMS - 2), times), max_size=50)


def events_from(found: list[Triple]) -> list[Event]:
    return [event(n, f"i{item}", START + time, user=f"u{user}") for n, (user, item, time) in enumerate(found)]


def counted(events: list[Event], day: int) -> npt.NDArray[np.float64]:
    """[ITEMS, statistics] at the beginning of a day."""
    found = [naive.statistics([e for e in events if e.item_id == f"i{item}"], day * DAY) for item in range(ITEMS)]
    return np.array([[values[name] for name in NAMES] for values in found])


@given(triples, st.integers(-3, 250), st.randoms(use_true_random=False))
def test_statistics_of_any_day_are_what_counting_finds(found: list[Triple], offset: int, random: Random) -> None:
    """Whatever the order of the events."""
    events = events_from(found)
    activity = activity_of(events, ITEMS)
    values = activity.at(TODAY + offset, ITEMS)
    assert values.shape == (ITEMS, len(ITEM_STATS))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, counted(events, TODAY + offset), rtol=3e-7, atol=1e-7)
    assert int(activity.n.sum()) == len(events)
    shuffled = events.copy()
    random.shuffle(shuffled)
    assert activity_of(shuffled, ITEMS).at(TODAY + offset, ITEMS).tobytes() == values.tobytes()


@given(triples)
def test_entries_are_in_order_and_distinct(found: list[Triple]) -> None:
    activity = activity_of(events_from(found), ITEMS)
    pairs = list(zip(activity.day.tolist(), activity.row.tolist()))
    assert pairs == sorted(set(pairs))
    assert len(activity) == len({(time // DAY, item) for _, item, time in found})
    assert (activity.first <= activity.n).all()
    assert int(activity.first.sum()) == len({(user, item) for user, item, _ in found})
    assert {values.dtype for values in activity.arrays().values()} == {np.dtype(np.int32)}


@given(triples, triples, st.integers(0, 131))
def test_events_of_a_day_or_later_move_nothing_of_that_day(past: list[Triple], found: list[Triple], day: int) -> None:
    """No leak: what is planted from midnight on, by users known and new, is not seen until the next day."""
    past = [(user, item, time) for user, item, time in past if time < day * DAY]
    planted = [(user + 2, item, time % DAY + day * DAY + time // DAY // 100 * DAY) for user, item, time in found]
    before = activity_of(events_from(past), ITEMS).at(TODAY + day, ITEMS)
    after = activity_of(events_from(past + planted), ITEMS)
    assert after.at(TODAY + day, ITEMS).tobytes() == before.tobytes()
    if any(time // DAY == day for _, _, time in planted):
        assert after.at(TODAY + day + 1, ITEMS).tobytes() != before.tobytes()


def test_an_event_at_midnight_belongs_to_the_new_day() -> None:
    activity = activity_of(events_from([(0, 0, DAY - 1), (0, 1, DAY), (0, 2, 2 * DAY - 1)]), ITEMS)
    count = NAMES.index("i_count_1d")
    found = [np.nan_to_num(activity.at(TODAY + day, ITEMS)[:3, count], nan=-1).tolist() for day in range(4)]
    assert found == [[-1, -1, -1], [1, -1, -1], [0, 1, 1], [0, 0, 0]]


def test_windows_end_on_the_day_they_name() -> None:
    """An event counts on the last day of each window and no more on the next."""
    activity = activity_of(events_from([(0, 0, 0)]), ITEMS)
    for name, days in (("i_count_1d", 1), ("i_count_7d", 7), ("i_count_28d", 28), ("i_count_91d", 91)):
        at = NAMES.index(name)
        assert [activity.at(TODAY + day, ITEMS)[0, at] for day in (days, days + 1)] == [1.0, 0.0]


def test_a_user_who_comes_again_is_one_user_and_a_repeat() -> None:
    activity = activity_of(events_from([(0, 0, 0), (0, 0, 1), (1, 0, DAY), (0, 0, 3 * DAY)]), ITEMS)
    found = dict(zip(NAMES, activity.at(TODAY + 4, ITEMS)[0].tolist()))
    assert (found["i_count_all"], found["i_users"], found["i_reorder"]) == (4, 2, 0.5)
    assert found["i_age_days"] == 4


def test_no_events_know_nothing() -> None:
    activity = activity_of([], ITEMS)
    assert len(activity) == len(activity.weeks()) == 0
    assert np.isnan(activity.at(TODAY, ITEMS)).all()
    rows = long_form(activity, pl.Series([f"i{number}" for number in range(ITEMS)]))
    assert (rows.columns, len(rows)) == (["item_id", "event_timestamp", *NAMES[:-1]], 0)
    assert rows.schema["event_timestamp"] == pl.Datetime("us", "UTC")


@given(triples)
def test_the_last_long_row_at_a_week_is_the_statistics_of_that_day(found: list[Triple]) -> None:
    """Only changes are written; read by point in time they give every week day back, age apart."""
    activity = activity_of(events_from(found), ITEMS)
    rows = long_form(activity, pl.Series([f"i{number}" for number in range(ITEMS)]))
    assert rows.columns == ["item_id", "event_timestamp", *NAMES[:-1]]
    stamps = rows["event_timestamp"].dt.epoch("s").to_list()
    assert stamps == sorted(stamps)
    weeks = activity.weeks().tolist()
    if found:
        first, last = (pick(time for _, _, time in found) // WEEK for pick in (min, max))
        assert [day * DAY for day in weeks] == [START + number * WEEK for number in range(first + 1, last + 2)]
    for day in weeks:
        values = activity.at(day, ITEMS)[:, :-1]
        for item in range(ITEMS):
            past = [n for n, stamp in enumerate(stamps) if stamp <= day * DAY and rows["item_id"][n] == f"i{item}"]
            joined = rows.select(NAMES[:-1]).row(past[-1]) if past else (math.nan,) * (len(NAMES) - 1)
            assert np.array(joined, np.float32).tobytes() == values[item].tobytes()


def test_unchanged_statistics_are_written_once() -> None:
    activity = activity_of(events_from([(0, 0, 0), (1, 1, 20 * WEEK)]), ITEMS)
    rows = long_form(activity, pl.Series([f"i{number}" for number in range(ITEMS)]))
    stamps = rows.filter(pl.col("item_id") == "i0")["event_timestamp"].dt.epoch("s")
    # Counted; out of the 7, the 28 and the 91 days.
    assert ((stamps - START) // WEEK).to_list() == [1, 2, 5, 14]


def test_counts_are_of_the_rows_they_are_given() -> None:
    """User codes and rows multiply to one key: two of them must not meet."""
    user, row, time = np.array([0, 1, 1]), np.array([4, 0, 4]), np.array([START, START, START])
    activity = Activity.count(user, row, time, ITEMS)
    assert (activity.row.tolist(), activity.n.tolist(), activity.first.tolist()) == ([0, 4], [1, 2], [1, 2])
