"""Candidates: who proposes what, how many, and that it is the same each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.candidates import Candidates, Source, retrieve, source_names, together_with
from features.events import history_of
from features.history import EVENT_KINDS, MAX_EVENTS, History
from features.items import ItemTable
from features.keys import item_keys
from features.ports import Event
from features.transforms import Profile, summarize
from tests.unit.features.shop import START, WEEK, bare_table, catalog, event, events_of, histories, table_of

DAY = 86_400
N = 40
NOW = START + 20 * WEEK


def crowd() -> list[Event]:
    """Baskets of neighbouring items, so that co-purchase and popularity have something to say."""
    rng = np.random.default_rng(1)
    events = []
    for user in range(30):
        for basket in range(6):
            first = int(rng.integers(0, N - 3))
            time = START + int(rng.integers(0, 19 * WEEK))
            events += [
                Event(f"{user}-{basket}-{k}", f"u{user}", f"i{first + k}", "purchase", 1.0, time, f"{user}.{basket}")
                for k in range(3)
            ]
    return events


TABLE, _ = table_of(catalog(N), crowd())


def candidates_of(
    history: History,
    limit: int,
    table: ItemTable = TABLE,
    now: int = NOW,
    repeats: bool = True,
    similar: npt.NDArray[np.int64] | None = None,
) -> Candidates:
    return retrieve(summarize(history, table, now), table, limit, similar, repeats)


def near_scores(profile: Profile) -> dict[int, float]:
    """Score by row of what was bought with the user's recent items."""
    scores = together_with(profile, TABLE, np.arange(N)).tolist()
    return {row: score for row, score in enumerate(scores) if score > 0}


@given(histories(N - 2), st.integers(0, 60), st.booleans(), st.lists(st.integers(-1, N - 1), max_size=20))
def test_candidates_are_distinct_known_items_within_the_limit(
    events: list[Event], limit: int, repeats: bool, similar: list[int]
) -> None:
    """Also where the index pads with -1 or names an item twice."""
    history = history_of(events)
    found = candidates_of(history, limit, repeats=repeats, similar=np.array(similar, np.int64))
    assert len(found) <= limit
    assert len(set(found.rows.tolist())) == len(found)
    assert ((found.rows >= 0) & (found.rows < N)).all()
    assert (found.sources > 0).all()
    if not repeats:
        bought = history_of([one for one in events if one.kind == "purchase"]).before(NOW)
        assert not set(TABLE.rows_of(bought.item).tolist()) & set(found.rows.tolist())
    again = candidates_of(history, limit, repeats=repeats, similar=np.array(similar, np.int64))
    assert found.rows.tobytes() == again.rows.tobytes()
    assert found.sources.tobytes() == again.sources.tobytes()
    assert found.copurchase.tobytes() == again.copurchase.tobytes()


def test_where_neighbours_are_of_users_they_fill_the_place_of_own_items() -> None:
    """Films: of twenty candidates three would be to somebody's taste and seventeen what everybody has seen."""
    history = history_of(events_of("u", ["i3", "i12", "i20", "i31"], NOW - 4 * DAY))

    def to_taste(table: ItemTable, repeats: bool) -> int:
        found = candidates_of(history, 20, table, repeats=repeats)
        return int((found.sources & Source.CO_PURCHASE > 0).sum())

    lived = replace(TABLE, lives=True)
    assert to_taste(lived, repeats=True) == to_taste(TABLE, repeats=True)
    assert to_taste(lived, repeats=False) > max(5, to_taste(TABLE, repeats=False))


@given(histories(N - 2), st.booleans())
def test_of_lives_the_score_is_a_share_of_the_highest_and_the_same_for_rows_from_elsewhere(
    events: list[Event], repeats: bool
) -> None:
    """Sums grow with what the user had: a newcomer's best would look like a veteran's worst."""
    lived = replace(TABLE, lives=True)
    profile = summarize(history_of(events), lived, NOW)
    every = together_with(profile, lived, np.arange(N))
    assert every.max() in (0.0, 1.0)
    summed = together_with(profile, TABLE, np.arange(N))
    if len(profile.recent_rows()) == len(replace(profile, lives=False).recent_rows()):
        assert np.argsort(-every, kind="stable").tolist() == np.argsort(-summed, kind="stable").tolist()
    found = retrieve(profile, lived, 20, repeats=repeats)
    assert found.copurchase.tobytes() == every[found.rows].tobytes()


@given(histories(N - 2))
def test_each_candidate_names_the_sources_that_proposed_it(events: list[Event]) -> None:
    limit = 20
    profile = summarize(history_of(events), TABLE, NOW)
    similar = np.array([3, 1, 4, 15, 9], np.int64)
    found = retrieve(profile, TABLE, limit, similar)
    near = near_scores(profile)
    by_again = sorted((-again, row) for row, again in zip(profile.rows.tolist(), profile.again.tolist()) if row >= 0)
    by_score = sorted((-score, row) for row, score in near.items())
    lists = {
        Source.REPEAT: ([row for _, row in by_again], 14),
        Source.CO_PURCHASE: ([row for _, row in by_score], 3),
        Source.SIMILAR: (similar.tolist(), 1),
        Source.POPULAR: (TABLE.popular_at(NOW).tolist(), limit),
    }
    for row, bits, score in zip(found.rows.tolist(), found.sources.tolist(), found.copurchase.tolist()):
        named = {source for source in Source if source & bits}
        assert named
        assert {source for source, (rows, share) in lists.items() if row in rows[:share]} <= named
        assert named <= {source for source, (rows, _) in lists.items() if row in rows}
        assert score == near.get(row, 0.0)
    assert lists[Source.REPEAT][0][:14] == found.rows[: min(14, len(by_again))].tolist()


def test_neighbours_are_summed_over_the_items_of_the_recent_sessions() -> None:
    mine = events_of("me", [f"i{row}" for row in (30, 1, 2, 3, 4, 5)])
    profile = summarize(history_of(mine), TABLE, NOW)
    expected: dict[int, float] = {}
    for row in (1, 2, 3, 4, 5):  # i30 is six sessions back
        for near, value in zip(TABLE.neighbours[row].tolist(), TABLE.similarity[row].tolist()):
            if near >= 0:
                expected[near] = expected.get(near, 0.0) + value
    assert near_scores(profile) == pytest.approx(expected)


def test_a_cold_user_gets_labelled_popular_items() -> None:
    found = candidates_of(History.empty(), 10)
    popular = TABLE.popular_at(NOW)
    assert len(popular) > 10
    assert found.rows.tolist() == popular[:10].tolist()
    assert set(found.sources.tolist()) == {int(Source.POPULAR)}
    assert source_names(int(found.sources[0])) == ("popular",)
    assert not found.copurchase.any()


def test_own_items_come_in_the_order_of_how_likely_they_are_had_again() -> None:
    """Also where that is not known, by row: before the first hazards nothing is likelier than anything else."""
    mine = history_of(events_of("me", ["i9", "i7", "i7", "i8", "i7", "i30"], step=9 * DAY))
    profile = summarize(mine, TABLE, NOW)
    again = dict(zip(profile.rows.tolist(), profile.again.tolist()))
    found = candidates_of(mine, 20)
    own = [row for row, bits in zip(found.rows.tolist(), found.sources.tolist()) if bits & Source.REPEAT]
    assert own[: len(again)] == sorted(again, key=lambda row: (-again[row], row)) == found.rows[:4].tolist()
    assert own[0] == 7
    bare = bare_table(N)
    assert candidates_of(mine, 20, bare).rows.tolist() == [7, 8, 9, 30]


def test_the_shares_of_the_sources_are_kept_where_there_is_enough_of_each() -> None:
    """Seventy per cent own items, then neighbours, similar ones, and what is popular."""
    mine = history_of(events_of("me", [f"i{row}" for row in range(30)]))
    similar = np.arange(N, dtype=np.int64)[::-1]
    found = candidates_of(mine, 20, similar=similar)
    profile = summarize(mine, TABLE, NOW)
    near = near_scores(profile)
    lists = (
        (profile.rows[np.lexsort((profile.rows, -profile.again))], 14),
        (np.array(sorted(near, key=lambda row: (-near[row], row))), 3),
        (similar, 1),
        (TABLE.popular_at(NOW), 20),
    )
    expected: list[int] = []
    for rows, share in lists:
        expected += [row for row in rows.tolist() if row not in expected][: min(share, 20 - len(expected))]
    assert found.rows.tolist() == expected
    assert len(expected) == 20


def test_a_user_of_forgotten_items_is_served_like_a_cold_one() -> None:
    gone = candidates_of(history_of(events_of("me", ["gone", "also gone"])), 10)
    assert gone.rows.tolist() == candidates_of(History.empty(), 10).rows.tolist()


def test_a_catalog_of_one_item_without_events_has_no_candidates_and_does_not_fail() -> None:
    table, _ = table_of(catalog(1), [])
    assert len(candidates_of(History.empty(), 10, table)) == 0
    mine = history_of(events_of("me", ["i0"]))
    found = candidates_of(mine, 10, table)
    assert (found.rows.tolist(), found.sources.tolist()) == ([0], [int(Source.REPEAT)])
    assert len(candidates_of(mine, 10, table, repeats=False)) == 0
    assert len(candidates_of(mine, 0, table)) == 0


def test_a_catalog_of_one_item_and_one_event_recommends_it() -> None:
    """From the day after, as long as four weeks remember it."""
    table, _ = table_of(catalog(1), events_of("someone", ["i0"]))
    days = {0: [], 1: [0], 7: [0], 28: [0], 29: [], 700: []}
    for day, wanted in days.items():
        assert candidates_of(History.empty(), 10, table, START + day * DAY).rows.tolist() == wanted


@pytest.mark.parametrize("kind", ["view", "click", "cart"])
def test_what_was_only_looked_at_may_be_recommended_where_nothing_is_had_twice(kind: str) -> None:
    looked = [event(0, "i3", NOW - DAY, kind=kind), event(1, "i4", NOW - DAY)]
    profile = summarize(history_of(looked), TABLE, NOW)
    found = retrieve(profile, TABLE, N, repeats=False)
    assert 3 in found.rows
    assert 4 not in found.rows
    assert 3 not in retrieve(profile, TABLE, N, new_only=True).rows
    # A shop without purchases has nothing else to tell what was had.
    anything = replace(TABLE, had_by=EVENT_KINDS)
    assert 3 not in retrieve(summarize(history_of(looked), anything, NOW), anything, N, repeats=False).rows


def test_what_was_had_long_ago_is_never_recommended_again() -> None:
    """Also where the events since have pushed the purchase out of the state."""
    first = [event(0, "i3", NOW - 9 * DAY), event(1, "i5", NOW - 9 * DAY, kind="view")]
    since = [event(2 + n, f"i{10 + n % 20}", NOW - 8 * DAY + n, kind="view") for n in range(MAX_EVENTS)]
    history = history_of(first).append(history_of(since))
    assert item_keys(["i3"])[0] not in history.item
    profile = summarize(history, TABLE, NOW)
    found = retrieve(profile, TABLE, N, repeats=False).rows
    assert 3 not in found
    assert 5 in found
    assert not {3, 5, *range(10, 30)} & set(retrieve(profile, TABLE, N, new_only=True).rows.tolist())


def test_keeping_some_candidates_keeps_their_columns_together() -> None:
    found = candidates_of(history_of(events_of("me", ["i1", "i2"])), 10)
    mask = np.arange(len(found)) % 2 == 0
    kept = found.keep(mask)
    assert kept.rows.tolist() == found.rows[mask].tolist()
    assert kept.sources.tolist() == found.sources[mask].tolist()
    assert kept.copurchase.tolist() == found.copurchase[mask].tolist()
