"""Weekly snapshots against counting by hand, and their long form against the snapshots."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from features.schema import ITEM_STATS
from features.statistics import long_form, snapshots, weekly_counts
from tests.unit.features.shop import START, WEEK

ITEMS = 5
NAMES = [column.name for column in ITEM_STATS]
Triple = tuple[int, int, int]
triples = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, ITEMS - 2), st.integers(0, 9 * WEEK)), min_size=1, max_size=50
)


def frame_of(events: list[Triple]) -> pl.DataFrame:
    rows = sorted(((user, item, START + time) for user, item, time in events), key=lambda row: row[2])
    return pl.DataFrame(rows, schema={"user": pl.Int64, "item": pl.Int64, "time": pl.Int64}, orient="row")


def counted(events: list[Triple], item: int, time: int) -> list[float]:
    past = [(user, START + at) for user, which, at in events if which == item and START + at < time]
    if not past:
        return [math.nan] * len(ITEM_STATS)
    week = sum(at >= time - WEEK for _, at in past)
    month = sum(at >= time - 4 * WEEK for _, at in past)
    users = len({user for user, _ in past})
    return [
        week,
        month,
        len(past),
        users,
        (len(past) - users) / len(past),
        math.log((week + 1) / (month / 4 + 1)),
        (time - min(at for _, at in past)) / 86_400,
    ]


@given(triples, st.sampled_from([1, 2, 3, 60]))
def test_snapshots_hold_what_counting_finds(events: list[Triple], weeks: int) -> None:
    times, values = snapshots(weekly_counts(frame_of(events)), ITEMS, weeks)
    first, last = min(e[2] for e in events), max(e[2] for e in events)
    span = last // WEEK - first // WEEK + 1
    assert len(times) == min(weeks, span)
    assert times[-1] == START + (last // WEEK + 1) * WEEK
    assert (np.diff(times) == WEEK).all()
    assert values.shape == (len(times), ITEMS, len(ITEM_STATS))
    assert values.dtype == np.float32
    for position, time in enumerate(times.tolist()):
        expected = np.array([counted(events, item, time) for item in range(ITEMS)])
        np.testing.assert_allclose(values[position], expected, rtol=3e-7, atol=1e-7)


def test_an_event_at_the_start_of_a_week_belongs_to_that_week() -> None:
    times, values = snapshots(weekly_counts(frame_of([(0, 0, 0), (0, 1, WEEK - 1), (0, 2, WEEK)])), ITEMS, 60)
    assert times.tolist() == [START + WEEK, START + 2 * WEEK]
    assert np.nan_to_num(values[:, :3, 0], nan=-1).tolist() == [[1, 1, -1], [0, 0, 1]]


def test_no_events_give_one_snapshot_that_knows_nothing() -> None:
    times, values = snapshots(weekly_counts(frame_of([])), ITEMS, 60)
    assert times.tolist() == [0]
    assert values.shape == (1, ITEMS, len(ITEM_STATS))
    assert np.isnan(values).all()


@given(triples)
def test_the_last_long_row_at_a_time_is_the_snapshot_of_that_time(events: list[Triple]) -> None:
    """Only changes are written; read by point in time they give every snapshot back, age apart."""
    times, values = snapshots(weekly_counts(frame_of(events)), ITEMS, 60)
    ids = pl.Series("item_id", [f"i{number}" for number in range(ITEMS)])
    rows = long_form(times, values, ids)
    assert rows.columns == ["item_id", "event_timestamp", *NAMES[:-1]]
    stamps = rows["event_timestamp"].dt.epoch("s").to_list()
    for position, time in enumerate(times.tolist()):
        for item in range(ITEMS):
            past = [n for n, stamp in enumerate(stamps) if stamp <= time and rows["item_id"][n] == f"i{item}"]
            found = rows.select(NAMES[:-1]).row(past[-1]) if past else (math.nan,) * (len(NAMES) - 1)
            assert np.array(found, np.float32).tobytes() == values[position, item, :-1].tobytes()


def test_unchanged_statistics_are_written_once() -> None:
    times, values = snapshots(weekly_counts(frame_of([(0, 0, 0), (1, 1, 9 * WEEK)])), ITEMS, 60)
    rows = long_form(times, values, pl.Series([f"i{number}" for number in range(ITEMS)]))
    stamps = rows.filter(pl.col("item_id") == "i0")["event_timestamp"].dt.epoch("s")
    assert ((stamps - START) // WEEK).to_list() == [1, 2, 5]  # counted, a week old, out of the 28 days
