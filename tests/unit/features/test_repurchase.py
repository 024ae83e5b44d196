"""Hazards and factors against estimating them in plain Python, one user and one session at a time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.ports import Event
from features.repurchase import (
    BIN_OF_DAY,
    BIN_STARTS,
    GAP_DAYS,
    HOUR_BUCKETS,
    LAST_DAY,
    Repurchase,
    fit,
    gap_bucket,
    hour_bucket,
)
from tests.unit.features import naive
from tests.unit.features.shop import START, catalog, event, events_of, histories, to_frame
from training.materialize import EventArrays, event_arrays

DAY = 86_400
ITEMS = 8
BINS = len(BIN_STARTS)
Basket = tuple[int, list[int]]


def baskets_by_user(events: EventArrays) -> list[list[Basket]]:
    """Each user's baskets (time, rows), in order: runs of events of one session, unknown items aside."""
    found: list[list[Basket]] = []
    for code in range(len(events.users)):
        window = events.user_slice(code)
        known = [
            (session, time, row)
            for session, time, row in zip(
                events.session[window].tolist(), events.time[window].tolist(), events.row[window].tolist()
            )
            if row >= 0
        ]
        runs = [list(run) for _, run in groupby(known, key=lambda one: one[0])]
        found.append([(run[0][1], [row for _, _, row in run]) for run in runs])
    return found


def chances(users: Sequence[Sequence[Basket]]) -> Iterator[tuple[int, int, float, bool]]:
    """(item, bin, weight, whether it was had again) of every item at every basket after its first.

    A basket of the same second as the last one with the item is a chance, and never a repeat.
    """
    sizes = [len(rows) for baskets in users for _, rows in baskets]
    mean = sum(sizes) / len(sizes)
    for baskets in users:
        last: dict[int, int] = {}
        for time, rows in baskets:
            weight = (len(rows) / mean) ** 0.75
            for item, before in last.items():
                yield item, naive.bin_of(time - before), weight, item in rows and before != time
            last |= dict.fromkeys(rows, time)


def estimated(users: Sequence[Sequence[Basket]], groups: Sequence[int]) -> tuple[list[list[float]], list[float]]:
    """Hazards [kinds + 1][bins] and factors [items], shrunk as the module says."""
    kinds = max(groups, default=-1) + 1
    kind_of = [group if group >= 0 else kinds for group in groups]
    repeats: defaultdict[tuple[int, int], float] = defaultdict(float)
    offered: defaultdict[tuple[int, int], float] = defaultdict(float)
    for item, at, weight, again in chances(users):
        repeats[kind_of[item], at] += again
        offered[kind_of[item], at] += weight
    overall = [
        sum(repeats[kind, at] for kind in range(kinds + 1))
        / max(1.0, sum(offered[kind, at] for kind in range(kinds + 1)))
        for at in range(BINS)
    ]
    hazard = []
    for kind in range(kinds + 1):
        had = sum(repeats[kind, at] for at in range(BINS))
        usual = sum(offered[kind, at] * overall[at] for at in range(BINS))
        rate = (had + 20) / (usual + 20)
        hazard.append(
            [(repeats[kind, at] + 200 * rate * overall[at]) / (offered[kind, at] + 200) for at in range(BINS)]
        )
    seen, expected = [0.0] * len(groups), [0.0] * len(groups)
    for item, at, weight, again in chances(users):
        seen[item] += again
        expected[item] += weight * hazard[kind_of[item]][at]
    return hazard, [(one + 5) / (other + 5) for one, other in zip(seen, expected)]


def lifts(of: Sequence[tuple[int, int]], kinds: int, buckets: int) -> list[list[float]]:
    """Log of each kind's share of a bucket over everybody's, from (kind, bucket) of all events; shrunk by 50 events."""
    found = []
    for kind in range(kinds):
        own = [bucket for one, bucket in of if one == kind]
        usual = [(sum(b == at for _, b in of) + 1) / (len(of) + buckets) for at in range(buckets)]
        found.append(
            [math.log((own.count(at) + 50 * usual[at]) / (len(own) + 50) / usual[at]) for at in range(buckets)]
        )
    return found


def fitted(events: Sequence[Event], groups: Sequence[int]) -> tuple[Repurchase, EventArrays]:
    arrays = event_arrays(to_frame(events), catalog(ITEMS))
    columns = (arrays.user, arrays.session, arrays.time, arrays.row)
    return fit(*columns, np.array(groups, np.int32)), arrays


groupings = st.lists(st.integers(-1, 2), min_size=ITEMS, max_size=ITEMS)


@given(st.lists(histories(ITEMS, steps=(1, 40_000, 11 * DAY, 55 * DAY)), max_size=3), groupings)
def test_hazards_and_factors_are_what_counting_finds(several: list[list[Event]], groups: list[int]) -> None:
    """Several users; unknown items, ties in time, sessions cut in two by others, items of no kind."""
    events = [
        Event(f"{user}{e.event_id}", f"u{user}", e.item_id, e.kind, e.value, e.timestamp, e.session_id)
        for user, own in enumerate(several)
        for e in own
    ]
    found, arrays = fitted(events, groups)
    users = baskets_by_user(arrays)
    kinds = max(groups) + 1
    assert found.kind.tolist() == [group if group >= 0 else kinds for group in groups]
    assert found.hazard.shape == (kinds + 1, BINS)
    if not any(users):
        assert (found.hazard == 0).all()
        assert (found.factor == 1).all()
        assert found.mean_size == 1.0
        assert not found.kind_hazard.any()
        assert not found.hour_lift.any()
        assert not found.gap_lift.any()
        return
    hazard, factor = estimated(users, groups)
    np.testing.assert_allclose(found.hazard, hazard, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.factor, factor, rtol=1e-12)
    kind_of = found.kind.tolist()
    # The same of kinds in place of items: each is a kind of its own then.
    by_kind = [[(time, [kind_of[row] for row in rows]) for time, rows in baskets] for baskets in users]
    kind_hazard, _ = estimated(by_kind, range(kinds + 1))
    np.testing.assert_allclose(found.kind_hazard, kind_hazard[: kinds + 1], rtol=1e-12, atol=1e-15)
    hours = [(kind_of[row], naive.hour_bucket(time)) for baskets in users for time, rows in baskets for row in rows]
    gaps = [
        (kind_of[row], naive.gap_bucket(time - before))
        for baskets in users
        for (before, _), (time, rows) in pairwise(baskets)
        for row in rows
    ]
    np.testing.assert_allclose(found.hour_lift, lifts(hours, kinds + 1, HOUR_BUCKETS), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.gap_lift, lifts(gaps, kinds + 1, len(GAP_DAYS)), rtol=1e-12, atol=1e-14)
    logs = [(kind_of[row], math.log(len(rows))) for baskets in users for _, rows in baskets for row in rows]
    usual = sum(size for _, size in logs) / len(logs)
    own = [[size for one, size in logs if one == kind] for kind in range(kinds + 1)]
    session_size = [(sum(sizes) + 50 * usual) / (len(sizes) + 50) for sizes in own]
    np.testing.assert_allclose(found.session_size, session_size, rtol=1e-12)
    sizes = [len(rows) for baskets in users for _, rows in baskets]
    assert found.mean_size == pytest.approx(sum(sizes) / len(sizes), rel=1e-15)


def test_bins_hold_the_days_from_their_start_to_the_next() -> None:
    assert [naive.bin_of(day * DAY) for day in range(LAST_DAY + 1)] == BIN_OF_DAY.tolist()
    assert BIN_OF_DAY[list(BIN_STARTS)].tolist() == list(range(BINS))
    assert naive.bin_of(9_999 * DAY) == BIN_OF_DAY[-1] == BINS - 1


@given(st.integers(0, 4_000_000_000))
def test_buckets_of_the_hour_tell_weekdays_from_weekends(time: int) -> None:
    assert hour_bucket(np.array([time])).tolist() == [naive.hour_bucket(time)]


def test_buckets_of_gaps_begin_at_their_days() -> None:
    seconds = [0, 1, 4_319, 4_320, 43_199, 43_200, 129_599, 129_600, 15 * DAY - 1, 15 * DAY, 900 * DAY]
    assert gap_bucket(np.array(seconds)).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 5, 6, 6]


def test_items_of_no_kind_share_the_last_hazard() -> None:
    events = [e for user in range(9) for e in events_of(f"u{user}", ["i0", "i1"] * 20)]
    found, _ = fitted(events, [-1] * ITEMS)
    assert found.hazard.shape == (1, BINS)
    assert set(found.kind.tolist()) == {0}
    # Every second day again, never on the next: bins of one and of two days.
    assert found.hazard[0, BIN_OF_DAY[1]] == 0
    assert found.hazard[0, BIN_OF_DAY[2]] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("events", [[], events_of("u", ["gone", "also gone"])], ids=["none", "of unknown items"])
def test_without_events_nothing_is_expected_again(events: list[Event]) -> None:
    found, _ = fitted(events, [0, 1, -1, 1, 0, 2, 2, -1])
    assert found.hazard.tolist() == [[0.0] * BINS] * 4
    assert found.mean_size == 1.0
    assert found.kind.tolist() == [0, 1, 3, 1, 0, 2, 2, 3]
    assert found.factor.tolist() == [1.0] * ITEMS


def test_a_catalog_without_items_can_be_fitted() -> None:
    none: npt.NDArray[np.int64] = np.empty(0, np.int64)
    found = fit(none, none, none, none, np.empty(0, np.int32))
    assert (found.hazard.shape, len(found.kind), len(found.factor)) == ((1, BINS), 0, 0)


def test_users_do_not_continue_each_others_histories() -> None:
    """The next user's first basket of the same item is no repeat, and no chance."""
    alone, _ = fitted([event(n, "i0", START + n * DAY, "s", user=f"u{n}") for n in range(50)], [0] * ITEMS)
    assert not alone.hazard.any()
    assert (alone.factor == 1).all()


def test_what_is_had_again_at_its_kinds_pace_has_a_factor_near_one_and_a_favourite_a_higher_one() -> None:
    """Two items of a kind: both had by all, one again every day, the other never."""
    events = [
        event(100 * user + n, item, START + n * DAY, f"{user}-{n}", user=f"u{user}")
        for user in range(30)
        for n, items in enumerate([["i0", "i1"]] + [["i0"]] * 20)
        for item in items
    ]
    found, _ = fitted(events, [0] * ITEMS)
    assert found.factor[0] > 1.0 > found.factor[1]
    assert found.factor[2:].tolist() == [1.0] * (ITEMS - 2)
