"""Which baskets are predicted, from what: ties, leaks, truncations, and catalogs a protocol cannot be run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.ports import Event
from tests.unit.features.shop import START, catalog, event, events_of, histories, to_frame
from training.protocols import (
    BUCKETS,
    DAY,
    ItemSets,
    Protocol,
    next_basket,
    next_items,
    next_wish,
    normalise,
    ranges,
    temporal,
    truncated,
)
from training.ranking import Targets

ITEMS = catalog(12)


def history_of(protocol: Protocol, targets: Targets, number: int) -> list[int]:
    """Rows of one target's history, in order, by the times alone: what ``History.before`` would leave."""
    user, time = int(targets.user[number]), int(targets.time[number])
    window = protocol.events.user_slice(user)
    rows, times = protocol.events.row[window], protocol.events.time[window]
    return [int(row) for row in rows[times < time]]


def baskets_of(user: str, contents: Sequence[Sequence[str]], times: Sequence[int], names: Sequence[str]) -> list[Event]:
    return [
        Event(f"{user}{name}{item}", user, item, "purchase", 1.0, time, name)
        for items, time, name in zip(contents, times, names)
        for item in items
    ]


def test_last_basket_is_tested_the_one_before_validates_and_earlier_ones_train() -> None:
    protocol = next_basket(to_frame(events_of("u", ["i0", "i1", "i2", "i3", "i4"])), ITEMS)
    assert [protocol.wanted(protocol.test, 0).tolist(), history_of(protocol, protocol.test, 0)] == [[4], [0, 1, 2, 3]]
    assert [protocol.wanted(protocol.valid, 0).tolist(), history_of(protocol, protocol.valid, 0)] == [[3], [0, 1, 2]]
    # The first basket has no history, so it teaches nothing.
    assert [protocol.wanted(protocol.train, n).tolist() for n in range(len(protocol.train))] == [[1], [2]]
    assert len(next_basket(to_frame(events_of("u", ["i0", "i1", "i2", "i3", "i4"])), ITEMS, train=1).train) == 1


def test_users_with_three_baskets_are_history_and_no_targets() -> None:
    events = events_of("u", ["i0", "i1", "i2", "i3"]) + events_of("v", ["i0", "i1", "i2"])
    protocol = next_basket(to_frame(events), ITEMS)
    assert [protocol.events.users[user] for user in protocol.test.user] == ["u"]
    assert "v" in protocol.events.users


def test_baskets_of_the_same_second_are_ordered_by_their_id_and_do_not_see_each_other() -> None:
    """Under session keys (hashes) any order could come out; "11" < "12" < "9" is the order of strings."""
    names = ["9", "12", "10", "11"]
    events = baskets_of("u", [["i9"], ["i2"], ["i0"], ["i1"]], [START] * 4, names)
    protocol = next_basket(to_frame(events), ITEMS)
    assert protocol.wanted(protocol.test, 0).tolist() == [9]
    assert history_of(protocol, protocol.test, 0) == [0, 1, 2]
    assert history_of(protocol, protocol.valid, 0) == [0, 1]
    assert protocol.had_sets(protocol.test).of(0).tolist() == [0, 1, 2]


def test_basket_is_at_its_first_time_even_where_another_one_interrupts_it() -> None:
    events = [
        *events_of("u", ["i0", "i1"], START - 10 * DAY),
        event(1, "i2", START, "a"),
        event(2, "i3", START + 10, "b"),
        event(3, "i4", START + 20, "a"),
    ]
    protocol = next_basket(to_frame(events), ITEMS)
    assert protocol.wanted(protocol.test, 0).tolist() == [3]
    assert protocol.wanted(protocol.valid, 0).tolist() == [2, 4]
    assert history_of(protocol, protocol.test, 0) == [0, 1, 2, 4]


@given(st.lists(histories(), min_size=1, max_size=3))
def test_no_target_sees_its_own_basket_or_a_later_one(several: list[list[Event]]) -> None:
    events = [
        Event(e.event_id, f"u{number}", e.item_id, e.kind, e.value, e.timestamp, e.session_id)
        for number, own in enumerate(several)
        for e in own
    ]
    if not events:
        return
    for make in (next_basket, next_items, temporal):
        protocol = make(to_frame(events), ITEMS)
        for targets in (protocol.train, protocol.valid, protocol.test):
            for number in range(len(targets)):
                start, end = int(targets.start[number]), int(targets.end[number])
                first = int(protocol.events.starts[targets.user[number]])
                time = int(targets.time[number])
                assert (protocol.events.time[first:start] < time).all()
                assert (protocol.events.time[start:end] >= time).all()
                assert len(protocol.wanted(targets, number))
                assert protocol.wanted(targets, number).tolist() == protocol.wanted_sets(targets).of(number).tolist()
                # What the times alone leave is what the range says.
                assert len(history_of(protocol, targets, number)) == start - first


def test_of_every_life_the_newest_tenth_is_tested_the_one_before_validates_and_earlier_ones_train() -> None:
    """Also of who came once: a film lover rates two hundred in one sitting."""
    films = catalog(40)
    sitting = [event(n, f"i{n}", START + n * 60, "once") for n in range(40)]
    protocol = next_items(to_frame(sitting), films)
    assert protocol.wanted(protocol.test, 0).tolist() == [36, 37, 38, 39]
    assert history_of(protocol, protocol.test, 0) == list(range(36))
    assert protocol.wanted(protocol.valid, 0).tolist() == [32, 33, 34, 35]
    train = [protocol.wanted(protocol.train, number)[0] for number in range(len(protocol.train))]
    assert sorted(train) == [4, 8, 12, 16, 20, 24, 28], "the first four had nothing before them"
    assert len(next_items(to_frame(sitting), films, train=2).train) == 2
    assert protocol.test.time.tolist() == [START + 36 * 60]


def test_next_items_of_a_short_life_are_single_ones_and_the_first_is_none() -> None:
    events = events_of("u", ["i0", "i1", "i2"]) + events_of("v", ["i5"])
    protocol = next_items(to_frame(events), ITEMS)
    assert protocol.wanted_sets(protocol.test).rows.tolist() == [2]
    assert protocol.wanted_sets(protocol.valid).rows.tolist() == [1]
    assert not len(protocol.train)
    assert next_items(to_frame(events_of("v", ["i5"])), ITEMS).reason is not None


def test_next_items_never_begin_between_events_whose_order_nobody_knows() -> None:
    """By the day: two of a day are wanted together, and a life of one day has no target."""
    days = [event(n, f"i{n}", START + n // 2 * DAY, f"s{n // 2}") for n in range(8)]
    protocol = next_items(to_frame(days), ITEMS)
    assert protocol.wanted(protocol.test, 0).tolist() == [6, 7]
    assert history_of(protocol, protocol.test, 0) == list(range(6))
    assert protocol.wanted_sets(protocol.valid).rows.tolist() == [4, 5]
    assert protocol.wanted_sets(protocol.train).rows.tolist() == [2, 3]
    one_day = [event(n, f"i{n}", START, "s") for n in range(8)]
    assert not len(next_items(to_frame(one_day), ITEMS).test)


def test_groceries_are_asked_for_baskets_also_where_nothing_is_to_be_shown_again() -> None:
    weekly = to_frame(events_of("u", ["i0", "i1", "i0", "i1", "i0", "i1"]))
    films = to_frame(events_of("u", ["i0", "i1", "i2", "i3", "i4", "i5"]))
    assert [next_wish(weekly, ITEMS, repeats).name for repeats in (True, False)] == ["next_basket"] * 2
    assert [next_wish(films, ITEMS, repeats).name for repeats in (True, False)] == ["next_basket", "next_items"]


def test_views_and_carts_that_lead_to_a_purchase_are_no_history_of_its_target() -> None:
    """Else all there is to learn is that people buy what they put into the cart a second ago."""
    before = [event(0, "i0", START, "first")]
    led_to = [event(n, "i1", START + DAY + n, "s", kind) for n, kind in ((1, "view"), (2, "cart"))]
    looked = [event(5, "i3", START + DAY + 5, "s", "view")]
    bought = [event(3, "i1", START + DAY + 3, "s"), event(6, "i2", START + DAY + 6, "s")]
    protocol = next_items(to_frame(before + led_to + looked + bought), ITEMS)
    assert protocol.wanted(protocol.valid, 0).tolist() == [1]
    assert history_of(protocol, protocol.valid, 0) == [0], "not what was looked at in the same session"
    assert protocol.wanted(protocol.test, 0).tolist() == [2]
    assert history_of(protocol, protocol.test, 0) == [0, 1, 1, 1], "what was bought before, and what led there"
    same_second = [event(4, "i2", START + DAY + 3, "s", "view")]
    protocol = next_items(to_frame(before + led_to + same_second + looked + bought), ITEMS)
    assert sorted(history_of(protocol, protocol.test, 0)) == [0, 1, 1, 1, 2], "never between events of the same second"


def test_views_of_another_visit_are_history() -> None:
    visits = [
        event(0, "i0", START, "first"),
        event(1, "i1", START + DAY, "second", "view"),
        event(2, "i1", START + 2 * DAY, "third"),
    ]
    protocol = next_items(to_frame(visits), ITEMS)
    assert protocol.wanted(protocol.test, 0).tolist() == [1]
    assert history_of(protocol, protocol.test, 0) == [0, 1]


@given(histories())
def test_planted_later_events_change_no_earlier_target(events: list[Event]) -> None:
    """Whatever a household does after its last basket, the targets before stay as they were."""
    if not events:
        return
    before = next_basket(to_frame(events), ITEMS)
    # The first purchase ever would end the counting of everything else.
    kind = "purchase" if any(e.kind == "purchase" for e in events) else "view"
    later = [event(900 + n, f"i{n}", START + 10_000 * DAY + n * DAY, f"later{n}", kind) for n in range(4)]
    after = next_basket(to_frame(events + later), ITEMS, train=10**6)
    known = {(int(t), repr(history_of(after, after.train, n))) for n, t in enumerate(after.train.time)}
    for number in range(len(before.test)):
        assert (int(before.test.time[number]), repr(history_of(before, before.test, number))) in known


def test_only_purchases_count_where_there_are_any() -> None:
    views = [event(50 + n, "i7", START + n * DAY + 60, f"u-s{n}", kind="view") for n in range(4)]
    protocol = next_basket(to_frame(events_of("u", ["i0", "i1", "i2", "i3"]) + views), ITEMS)
    assert protocol.wanted(protocol.test, 0).tolist() == [3]
    assert protocol.had_sets(protocol.test).of(0).tolist() == [0, 1, 2]
    rated = [event(n, f"i{n}", START + n * DAY, f"s{n}", kind="rating") for n in range(4)]
    assert len(next_basket(to_frame(rated), ITEMS).test) == 1


def test_what_was_rated_low_is_had_and_not_wanted() -> None:
    """The median of these stars is 4: nobody wanted what they gave less, and all was seen."""
    stars = [
        ("i0", 1),
        ("i1", 2),
        ("i2", 3),
        ("i3", 4),
        ("i4", 5),
        ("i5", 5),
        ("i1", 5),
        ("i2", 1),
        ("i6", 5),
        ("i7", 4),
    ]
    rated = [
        replace(event(n, item, START + n // 2 * DAY, f"s{n // 2}", kind="rating"), value=float(value))
        for n, (item, value) in enumerate(stars)
    ]
    protocol = next_basket(to_frame(rated), ITEMS)
    wanted = [protocol.wanted_sets(part).of(0).tolist() for part in (protocol.train, protocol.valid, protocol.test)]
    assert wanted == [[4, 5], [1], [6, 7]]
    assert protocol.had_sets(protocol.test).of(0).tolist() == [0, 1, 2, 3, 4, 5]
    # The first basket, of one and two stars, is no basket that anybody wanted.
    assert protocol.had_sets(protocol.train).of(0).tolist() == [0, 1, 2, 3]


def test_one_basket_a_user_has_no_next_basket_and_says_so_and_temporal_still_runs() -> None:
    events = [event(n, "i0", START + n * DAY, "s", user=f"u{n}") for n in range(20)]
    protocol = next_basket(to_frame(events), ITEMS)
    assert len(protocol.test) == len(protocol.valid) == len(protocol.train) == 0
    assert protocol.reason is not None
    assert "4 baskets" in protocol.reason
    week = temporal(to_frame(events), ITEMS)
    assert week.reason is None
    assert week.facts["without_history"] == len(week.test) == 7


def test_temporal_wants_the_days_after_the_cut_from_what_came_before_it() -> None:
    events = events_of("u", [f"i{n % 5}" for n in range(30)]) + [event(99, "i9", START + 29 * DAY, "v0", user="v")]
    protocol = temporal(to_frame(events), ITEMS, train=2)
    cut = protocol.facts["cut"]
    assert cut == START + 29 * DAY + 1 - 7 * DAY
    assert [protocol.events.users[user] for user in protocol.test.user] == ["u", "v"]
    assert protocol.wanted(protocol.test, 0).tolist() == [0, 1, 2, 3, 4]
    assert protocol.had_sets(protocol.test).sizes.tolist() == [5, 0]
    assert sorted(set(protocol.train.time.tolist())) == [cut - 3 * 7 * DAY, cut - 2 * 7 * DAY]
    assert set(protocol.valid.time.tolist()) == {cut - 7 * DAY}
    # A basket open at the cut: known up to it, wanted after it.
    spanning = [event(1, "i1", START, "s"), event(2, "i2", START + 100, "s")]
    halves = temporal(to_frame(spanning), ITEMS, cut=START + 50)
    assert (halves.had_sets(halves.test).of(0).tolist(), halves.wanted(halves.test, 0).tolist()) == ([1], [2])


@pytest.mark.parametrize("days_later", [10, 40, 900])
def test_one_event_long_after_all_others_moves_no_week(days_later: int) -> None:
    """An export and then a live event: the weeks that teach and judge are those in which people bought."""
    export = [one for user in range(5) for one in events_of(f"u{user}", [f"i{n % 5}" for n in range(60)], START + user)]
    late = event(1, "i1", START + (60 + days_later) * DAY, "late", user="u0")
    usual, found = (temporal(to_frame(events), ITEMS, train=4) for events in (export, [*export, late]))
    assert found.reason is None
    assert len(found.test) == len(usual.test) == len(found.valid) == 5
    assert len(found.train) == len(usual.train) == 20
    assert START + 46 * DAY < found.facts["cut"] <= START + 60 * DAY
    assert (found.train.time < found.valid.time.min()).all()
    assert (found.valid.time + 7 * DAY <= found.facts["cut"]).all()


def test_a_closed_shop_is_passed_over_and_a_single_week_says_that_nothing_can_be_learned() -> None:
    open_days = [n for n in range(60) if not 30 <= n < 47]
    events = [event(n, f"i{n % 5}", START + n * DAY, f"s{n}") for n in open_days]
    weeks = temporal(to_frame(events), ITEMS, train=10)
    starts = [weeks.facts["cut"], *weeks.valid.time.tolist(), *weeks.train.time.tolist()[::-1]]
    assert len(starts) == 6
    assert all(earlier <= later - 7 * DAY for earlier, later in zip(starts[1:], starts))
    alone = temporal(to_frame(events_of("u", ["i0", "i1", "i2"])), ITEMS)
    assert alone.reason is not None
    assert "nothing to learn from" in alone.reason


def test_truncated_histories_are_the_newest_baskets_of_the_same_targets() -> None:
    events = [e for user in range(40) for e in events_of(f"u{user}", ["i0", "i1", "i2"] * 10, START + user)]
    protocol = next_basket(to_frame(events), ITEMS)
    buckets = truncated(protocol, protocol.test, seed=3)
    assert [bucket.name for bucket in buckets] == ["0", "1-2", "3-5", "6-10", "11-25", "26+"]
    for bucket, (low, high) in zip(buckets, BUCKETS):
        assert bucket.which.tolist() == list(range(40))
        targets = protocol.test.take(bucket.which)
        # One event a basket, so events are baskets.
        assert (targets.start - bucket.since == bucket.length).all()
        assert (bucket.since >= protocol.since(targets)).all()
        assert bucket.length.min() >= low
        assert bucket.length.max() <= (29 if high is None else high)
    assert set(truncated(protocol, protocol.test, seed=3)[2].length.tolist()) == {3, 4, 5}


def test_lengths_of_lives_are_items_however_few_visits_they_came_in() -> None:
    """All in one sitting, and looked at before: counted in visits every history would have one length."""
    looks = [event(n, f"i{n}", START + 60 * n - 20, "sitting", "view") for n in range(30)]
    bought = [event(100 + n, f"i{n}", START + 60 * n, "sitting") for n in range(30)]
    films = catalog(30)
    protocol = next_items(to_frame(looks + bought), films)
    buckets = truncated(protocol, protocol.test, seed=3, least=1)
    assert [bucket.name for bucket in buckets] == ["0", "1-2", "3-5", "6-10", "11-25", "26+"]
    for bucket in buckets[:-1]:
        seen = protocol.had_sets(protocol.test.take(bucket.which), bucket.since)
        assert seen.sizes.tolist() == bucket.length.tolist()
    assert protocol.had_sets(protocol.test, buckets[-1].since).sizes.tolist() == [27]


def test_buckets_that_few_reach_are_left_out() -> None:
    events = [e for user in range(40) for e in events_of(f"u{user}", ["i0"] * 5, START + user)]
    events += events_of("long", ["i0"] * 50)
    protocol = next_basket(to_frame(events), ITEMS)
    buckets = truncated(protocol, protocol.test, seed=3)
    assert [bucket.name for bucket in buckets] == ["0", "1-2", "3-5"]
    assert {len(bucket.which) for bucket in buckets} == {41}


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 6)), max_size=30), st.integers(0, 2**31))
def test_item_sets_equal_python_sets(pairs: list[tuple[int, int]], seed: int) -> None:
    owner = np.array([pair[0] for pair in pairs], np.int64)
    rows = np.array([pair[1] for pair in pairs], np.int64)
    sets = ItemSets.build(owner, rows, 5)
    naive = [{row for target, row in pairs if target == number and row >= 0} for number in range(5)]
    assert [set(sets.of(number).tolist()) for number in range(5)] == naive
    assert all((np.diff(sets.of(number)) > 0).all() for number in range(5))
    rng = np.random.default_rng(seed)
    asked = rng.integers(-1, 9, (5, 6))
    assert sets.contains(asked).tolist() == [[int(row) in naive[n] for row in asked[n]] for n in range(5)]
    other = ItemSets.build(np.repeat(np.arange(5), 3), rng.integers(0, 7, 15), 5)
    kept = sets.keep(sets.inside(other))
    assert [set(kept.of(n).tolist()) for n in range(5)] == [naive[n] & set(other.of(n).tolist()) for n in range(5)]
    which = rng.integers(0, 5, 4)
    assert [set(sets.take(which).of(n).tolist()) for n in range(4)] == [naive[number] for number in which]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), max_size=8))
def test_ranges_lists_every_number_of_every_range(bounds: list[tuple[int, int]]) -> None:
    start = np.array([first for first, _ in bounds], np.int64)
    end = start + np.array([size for _, size in bounds], np.int64)
    assert ranges(start, end).tolist() == [number for a, b in zip(start, end) for number in range(a, b)]


@pytest.mark.parametrize("shift", [0, 1])
def test_normalised_times_rise_by_basket_within_a_user(shift: int) -> None:
    events = baskets_of("u", [["i0", "i1"], ["i2"], ["i3"]], [START, START, START + shift], ["a", "b", "c"])
    frame = normalise(to_frame(events))
    times = frame["timestamp"].dt.epoch("s").to_list()
    assert times == [START, START, START + 1, START + 2]
    assert frame["item_id"].to_list() == ["i0", "i1", "i2", "i3"]
