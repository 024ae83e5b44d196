"""Groups: what serving would offer at each target's time, judged by what was wanted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.candidates import retrieve
from features.events import history_of
from features.history import History
from features.ports import Event
from features.schema import RANKING_NAMES
from features.transforms import assemble, summarize
from tests.unit.features.shop import START, Journey, catalog, event, events_of, histories, journey, table_of, to_frame
from training.config import TrainConfig
from training.fit import repeats_of
from training.materialize import event_arrays, training_view
from training.protocols import Protocol, next_basket, temporal
from training.ranking import CANDIDATES, Groups, Targets, build_groups, in_time, informs, some
from training.signals import counted, measure_repeats

DAY = 86_400


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    return journey(tmp_path_factory.mktemp("journey"), 25)


def known_before(protocol: Protocol, targets: Targets, number: int) -> History:
    since = int(protocol.since(targets)[number])
    return protocol.events.seen(since, int(targets.start[number]), int(targets.time[number]))


@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize("name", ["next basket", "temporal"])
def test_groups_hold_what_serving_computes_at_the_same_moment(real: Journey, name: str, repeats: bool) -> None:
    """Training slices arrays by a protocol's ranges, serving has all events until now: bit for bit the same."""
    protocol = next_basket(real.frame, real.items) if name == "next basket" else temporal(real.frame, real.items)
    events, targets = protocol.events, in_time(some(protocol.train, 12, seed=4))
    view = training_view(real.table, events, int(np.median(targets.time)))

    groups = build_groups(
        lambda number: known_before(protocol, targets, number),
        lambda time: view if time >= np.median(targets.time) else real.table,
        targets,
        lambda number: protocol.wanted(targets, number),
        repeats,
    )

    served = event_arrays(real.frame, real.items)
    ends = np.cumsum(groups.sizes)
    assert groups.matrix.shape == (ends[-1], len(RANKING_NAMES))
    assert len(groups.relevance) == len(groups.rows) == ends[-1]
    for number, (start, end) in enumerate(zip(ends - groups.sizes, ends)):
        time = int(targets.time[number])
        table = view if time >= np.median(targets.time) else real.table
        # Serving has this user's events only up to now, from bytes.
        seen = History.decode(served.history(int(targets.user[number])).before(time).encode())
        if events.session[targets.start[number]] in seen.session:
            continue  # moved behind a basket of the same second
        profile = summarize(seen, table, time, int(targets.place[number]))
        found = retrieve(profile, table, CANDIDATES, repeats=repeats)
        matrix = assemble(profile, table, found.rows, found.copurchase)
        assert matrix.tobytes() == groups.matrix[start:end].tobytes()
        assert found.rows.tolist() == groups.rows[start:end].tolist()
        bought = set(protocol.wanted(targets, number).tolist())
        assert groups.relevance[start:end].tolist() == [int(row in bought) for row in found.rows.tolist()]
        assert int(groups.relevance[start:end].sum()) + int(groups.missed[number]) == len(bought)


@st.composite
def visits(draw: st.DrawFn) -> list[Event]:
    """Sessions as a web shop logs them: events minutes apart, sessions that overlap, or that all have the same date."""
    found: list[Event] = []
    for user in range(draw(st.integers(1, 3))):
        for number in range(draw(st.integers(4, 7))):
            begins = START + DAY * draw(st.integers(0, 3)) + 60 * draw(st.integers(0, 20))
            for _ in range(draw(st.integers(1, 4))):
                time = begins + 60 * draw(st.integers(0, 15))
                item = f"i{draw(st.integers(0, 11))}"
                kind = draw(st.sampled_from(["purchase", "purchase", "view"]))
                found.append(event(len(found), item, time, f"u{user}-{number}", user=f"u{user}", kind=kind))
    if draw(st.booleans()):
        found = [replace(one, timestamp=one.timestamp // DAY * DAY) for one in found]
    return found


@given(visits())
def test_sessions_that_last_and_overlap_train_on_what_serving_sees(events: list[Event]) -> None:
    """A protocol puts a basket at its first time; a service knows each event at its own. Features must not tell."""
    items, frame = catalog(12), to_frame(events)
    table, raw = table_of(items, events)
    protocol = next_basket(frame, items)
    for targets in (protocol.train, protocol.valid, protocol.test):
        for number in range(len(targets)):
            time, own = int(targets.time[number]), protocol.events.session[targets.start[number]]
            served = History.decode(raw.history(int(targets.user[number])).before(time).encode())
            if own in served.session:
                continue  # moved behind a basket of the same second: a service cannot be asked between the two
            trained = known_before(protocol, targets, number)
            assert trained.encode() == served.encode()
            profile, same = summarize(trained, table, time), summarize(served, table, time)
            assert profile.own.tobytes() == same.own.tobytes()
            had = set(protocol.had_sets(targets).of(number).tolist())
            assert had == set(profile.had.tolist())


@given(histories(), st.integers(0, 21))
def test_events_from_the_targets_time_on_move_nothing_of_it(events: list[Event], slot: int) -> None:
    """A history that reaches past the target is cut at its time: what it wants cannot be seen."""
    table, _ = table_of(catalog(12), events_of("v", ["i1", "i2", "i1", "i3"]))
    time = START + slot * 40_000
    one = np.array([0])
    targets = Targets(one, np.array([time]), one, one, one)

    def groups(history: History) -> Groups:
        return build_groups(lambda _: history, lambda _: table, targets, lambda _: np.array([1, 2]), repeats=True)

    whole, cut = (groups(history_of(some)) for some in (events, [e for e in events if e.timestamp < time]))
    assert whole.matrix.tobytes() == cut.matrix.tobytes()
    assert whole.rows.tolist() == cut.rows.tolist()


def test_no_targets_give_empty_groups_of_all_columns(real: Journey) -> None:
    none = np.empty(0, np.int64)
    groups = build_groups(
        lambda _: History.empty(),
        lambda _: real.table,
        Targets(none, none, none, none, none),
        lambda _: none,
        repeats=True,
    )
    assert groups.matrix.shape == (0, len(RANKING_NAMES))
    assert (len(groups.rows), len(groups.relevance), len(groups.sizes), len(groups.missed)) == (0, 0, 0, 0)
    assert informs(groups).tolist() == []
    assert len(groups.keep(informs(groups)).sizes) == 0


def test_a_user_without_history_is_offered_what_is_popular_and_all_else_is_missed(real: Journey) -> None:
    one = np.array([0])
    time = int(real.events.time.max())
    targets = Targets(one, np.array([time]), one, one, one)
    popular = real.table.popular_at(time)[:CANDIDATES]
    unpopular = int(np.setdiff1d(np.arange(len(real.table)), real.table.popular_at(time))[0])
    groups = build_groups(
        lambda _: History.empty(),
        lambda _: real.table,
        targets,
        lambda _: np.sort(np.array([int(popular[3]), unpopular])),
        repeats=True,
    )
    assert groups.rows.tolist() == popular.tolist()
    assert np.flatnonzero(groups.relevance).tolist() == [3]
    assert (groups.sizes.tolist(), groups.missed.tolist()) == ([len(popular)], [1])


def numbered(n: int) -> Targets:
    numbers = np.arange(n)
    return Targets(numbers, START + (numbers * 7) % n, numbers, numbers + 1, numbers % 3)


@given(st.integers(0, 60), st.integers(0, 2**31))
def test_a_choice_is_the_same_for_the_same_seed_and_keeps_the_order(most: int, seed: int) -> None:
    chosen, again = some(numbered(50), most, seed), some(numbered(50), most, seed)
    assert chosen.start.tolist() == again.start.tolist()
    assert len(chosen) == min(most, 50)
    assert (np.diff(chosen.start) > 0).all()


def test_another_seed_chooses_others() -> None:
    one, two = (some(numbered(1_000), 100, seed).start.tolist() for seed in (1, 2))
    assert one != two


def test_targets_in_time_are_the_same_ones() -> None:
    ordered = in_time(numbered(50))
    assert (np.diff(ordered.time) >= 0).all()
    assert sorted(ordered.user.tolist()) == list(range(50))
    assert (ordered.time == numbered(50).time[ordered.user]).all()


def test_only_targets_with_a_hit_inform() -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(6, 2)
    relevance = np.array([0, 0, 1, 0, 0, 1], np.int32)
    groups = Groups(matrix, np.arange(6), relevance, np.array([2, 2, 0, 2], np.int32), np.arange(4, dtype=np.int32))
    assert informs(groups).tolist() == [False, True, False, True]
    kept = groups.keep(informs(groups))
    assert kept.matrix.tolist() == matrix[2:].tolist()
    assert kept.rows.tolist() == [2, 3, 4, 5]
    assert (kept.sizes.tolist(), kept.missed.tolist(), kept.relevance.tolist()) == ([2, 2], [1, 3], [1, 0, 0, 1])
    assert kept.keep(informs(kept)) is kept


def test_repeats_tell_groceries_from_films() -> None:
    def measured(events: list[Event]) -> float:
        arrays = event_arrays(to_frame(events), catalog(3))
        return measure_repeats(arrays, counted(arrays))

    assert measured(events_of("u", ["i0", "i1", "i2"]) + events_of("v", ["i0", "i1"])) == 0.0
    assert measured(events_of("u", ["i0", "i0", "i0", "i1"])) == pytest.approx(0.5)
    assert measured([]) == 0.0


def test_looking_before_buying_and_two_of_one_kind_repeat_nothing() -> None:
    """A bookshop that logs views and carts: 66 % of its events are of an item the user met before."""
    shop = [
        event(10 * number + step, f"i{number}", START + number * DAY + step, f"s{number}", kind=kind)
        for number in range(3)
        for step, kind in enumerate(("view", "cart", "purchase", "purchase"))
    ]
    arrays = event_arrays(to_frame(shop), catalog(3))
    assert measure_repeats(arrays, counted(arrays)) == 0.0
    assert not repeats_of(TrainConfig(llm=None), arrays)
    assert repeats_of(TrainConfig(llm=None), event_arrays(to_frame(events_of("u", ["i0", "i0"])), catalog(3)))
