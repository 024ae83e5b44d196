"""Targets and groups: whole sessions, split by time, judged by what came before; and the ranker learns from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.candidates import retrieve
from features.ports import Event
from features.schema import RANKING_NAMES, schema_hash
from features.transforms import assemble, summarize
from models.ranker import RankerConfig, fit
from tests.unit.features.shop import START, WEEK, Journey, catalog, events_of, histories, journey, table_of, to_frame
from training.evaluate import baselines, per_target
from training.materialize import EventArrays, event_arrays
from training.ranking import (
    Groups,
    Targets,
    build_groups,
    choose,
    informative,
    measure_repeats,
    sessions,
    split_by_time,
    wanted,
)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    return journey(tmp_path_factory.mktemp("journey"), 25)


def names(events: EventArrays, targets: Targets) -> list[tuple[int, int]]:
    return list(zip(targets.user.tolist(), events.session[targets.start].tolist()))


@given(histories(), histories())
def test_every_session_is_one_target_with_all_its_items(one: list[Event], two: list[Event]) -> None:
    """Also where a user's sessions overlap in time, and where two users name theirs alike."""
    both = one + [Event(e.event_id, "v", e.item_id, e.kind, e.value, e.timestamp, e.session_id) for e in two]
    arrays = event_arrays(to_frame(both), catalog(12))
    targets = sessions(arrays)
    assert len(set(names(arrays, targets))) == len(targets) == len({(e.user_id, e.session_id) for e in both})
    order = list(zip(targets.user.tolist(), targets.time.tolist()))
    assert order == sorted(order)
    found = sorted(
        (arrays.users[targets.user[n]], int(targets.time[n]), [f"i{row}" for row in wanted(arrays, targets, n)])
        for n in range(len(targets))
    )
    catalogued = {f"i{number}" for number in range(12)}
    expected = []
    for user, session in {(e.user_id, e.session_id) for e in both}:
        mine = [e for e in both if (e.user_id, e.session_id) == (user, session)]
        items = {e.item_id for e in mine} & catalogued
        expected.append((user, min(e.timestamp for e in mine), sorted(items, key=lambda item: int(item[1:]))))
    assert found == sorted(expected)


def test_no_session_is_on_two_sides_of_the_split(real: Journey) -> None:
    targets = sessions(real.events)
    split = split_by_time(targets)
    assert split.train <= split.valid <= split.test
    windows = [(split.train, split.valid), (split.valid, split.test), (split.test, None)]
    sides = [choose(targets, first, last, 10**9, 0) for first, last in windows]
    seen = [set(names(real.events, side)) for side in sides]
    assert all(seen)
    assert not seen[0] & seen[1]
    assert not seen[1] & seen[2]
    assert not seen[0] & seen[2]
    assert sum(len(side) for side in sides) == int((targets.time >= split.train).sum())
    assert sides[0].time.max() < split.valid <= sides[1].time.min()
    assert sides[1].time.max() < split.test <= sides[2].time.min()
    # Quantiles: the shares are those asked for, to one session of each cut.
    assert len(sides[2]) == pytest.approx(0.05 * len(targets), abs=2)


@given(st.integers(0, 60), st.integers(0, 2**31))
def test_a_choice_is_the_same_for_the_same_seed_and_keeps_the_order(most: int, seed: int) -> None:
    n = 50
    numbers = np.arange(n)
    targets = Targets(numbers, START + numbers, numbers, numbers + 1)
    chosen = choose(targets, START + 5, START + 45, most, seed)
    again = choose(targets, START + 5, START + 45, most, seed)
    assert chosen.start.tolist() == again.start.tolist()
    assert len(chosen) == min(most, 40)
    assert (np.diff(chosen.start) > 0).all()
    assert ((chosen.time >= START + 5) & (chosen.time < START + 45)).all()


def test_another_seed_chooses_others() -> None:
    numbers = np.arange(1_000)
    targets = Targets(numbers, START + numbers, numbers, numbers + 1)
    one, two = (choose(targets, START, None, 100, seed).start.tolist() for seed in (1, 2))
    assert one != two


def test_groups_hold_what_serving_computes_at_the_same_moment(real: Journey) -> None:
    targets = choose(sessions(real.events), 0, None, 12, seed=4)
    groups = build_groups(real.events, real.table, targets, repeats=True)
    ends = np.cumsum(groups.sizes)
    assert groups.matrix.shape == (ends[-1], len(RANKING_NAMES))
    assert len(groups.relevance) == ends[-1]
    for number, (start, end) in enumerate(zip(ends - groups.sizes, ends)):
        time = int(targets.time[number])
        # Serving has this user's events only up to now.
        seen = real.events.history(int(targets.user[number])).before(time)
        profile = summarize(seen, real.table, time)
        found = retrieve(profile, real.table, 200)
        matrix = assemble(profile, real.table, found.rows, found.copurchase)
        assert matrix.tobytes() == groups.matrix[start:end].tobytes()
        bought = set(wanted(real.events, targets, number).tolist())
        assert groups.relevance[start:end].tolist() == [int(row in bought) for row in found.rows.tolist()]
        assert int(groups.relevance[start:end].sum()) + int(groups.missed[number]) == len(bought)


def test_no_targets_give_empty_groups_of_all_columns(real: Journey) -> None:
    groups = build_groups(real.events, real.table, choose(sessions(real.events), 0, 1, 10, 0), repeats=True)
    assert groups.matrix.shape == (0, len(RANKING_NAMES))
    assert (len(groups.relevance), len(groups.sizes), len(groups.missed)) == (0, 0, 0)


def test_only_targets_with_a_hit_inform() -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(6, 2)
    groups = Groups(matrix, np.array([0, 0, 1, 0, 0, 1], np.int32), np.array([2, 2, 0, 2], np.int32), np.arange(4))
    kept = informative(groups)
    assert kept.matrix.tolist() == matrix[2:].tolist()
    assert (kept.sizes.tolist(), kept.missed.tolist(), kept.relevance.tolist()) == ([2, 2], [1, 3], [1, 0, 0, 1])


def test_repeats_tell_groceries_from_films() -> None:
    films = event_arrays(to_frame(events_of("u", ["i0", "i1", "i2"]) + events_of("v", ["i0", "i1"])), catalog(3))
    assert measure_repeats(films) == 0.0
    milk = event_arrays(to_frame(events_of("u", ["i0", "i0", "i0", "i1"])), catalog(3))
    assert measure_repeats(milk) == pytest.approx(0.5)
    assert measure_repeats(event_arrays(to_frame([]), catalog(3))) == 0.0


def regular_shoppers(users: int = 40, weeks: int = 30, seed: int = 9) -> list[Event]:
    """Everybody buys milk (i0..i2) weekly, and each of eight own items exactly every fourth week, two a week.

    What comes next follows from the days since the last time; popularity and counts do not tell the eight apart.
    """
    rng = np.random.default_rng(seed)
    events = []
    for user in range(users):
        own = rng.choice(np.arange(3, 60), 8, replace=False)
        shift = int(rng.integers(0, 4))
        for week in range(weeks):
            due = own[2 * ((week + shift) % 4) :][:2]
            time = START + week * WEEK + user * 3_600
            events += [
                Event(f"{user}-{week}-{item}", f"u{user:02}", f"i{item}", "purchase", 1.0, time, f"{user}-{week}")
                for item in [int(rng.integers(0, 3)), *due.tolist()]
            ]
    return events


def test_a_pattern_that_predicts_perfectly_is_learned() -> None:
    """The ranker finds what is due and beats popularity and counting by more than their noise."""
    table, arrays = table_of(catalog(60), regular_shoppers())
    targets = sessions(arrays)
    split = split_by_time(targets, 0.5, 0.8, 0.9)
    train, valid, test = (
        informative(build_groups(arrays, table, choose(targets, first, last, 300, 1), repeats=True))
        for first, last in ((split.train, split.valid), (split.valid, split.test), (split.test, None))
    )
    config = RankerConfig(trees=60, min_leaf=20, threads=2)
    ranker = fit(
        config,
        RANKING_NAMES,
        (train.matrix, train.relevance, train.sizes),
        (valid.matrix, valid.relevance, valid.sizes),
        {"schema_hash": schema_hash()},
    )
    learned = per_target(ranker.predict(test.matrix), test, 10)["ndcg@10"]
    counted = {name: per_target(scores, test, 10)["ndcg@10"] for name, scores in baselines(test).items()}
    for name, baseline in counted.items():
        gain = learned - baseline
        # 99.9 % of a paired bootstrap would agree: the mean gain is more than 3.3 standard errors above nothing.
        assert gain.mean() > 3.3 * gain.std(ddof=1) / np.sqrt(len(gain)), name
    assert learned.mean() > 0.9
