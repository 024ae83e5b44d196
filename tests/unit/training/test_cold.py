"""Households in words: described by what came before the middle of their history, judged by what came after it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.ports import Event
from features.store import FeatureRepository
from models.catalog import Catalog
from models.index import create_index
from tests.fakes import FakeEmbedder
from tests.unit.features.shop import START, catalog, events_of, table_of, to_frame
from training.acceptance import enough
from training.cold import MIN_SESSIONS, ColdExamples, Household, households, lacking
from training.materialize import EventArrays, event_arrays

ITEMS = catalog(12)
CATALOG = Catalog.build(ITEMS, "category", ["category", "brand"], FakeEmbedder(), create_index)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> FeatureRepository:
    return FeatureRepository(tmp_path_factory.mktemp("features"), [])


def shoppers(users: int = 6) -> list[Event]:
    rng = np.random.default_rng(4)
    return [
        each
        for user in range(users)
        for each in events_of(f"u{user}", [f"i{n}" for n in rng.integers(0, 12, 20)], START + user * 999)
    ]


def read(events: EventArrays, repository: FeatureRepository, most: int = 100) -> list[Household]:
    return households(events, CATALOG, repository, most, seed=7)


def test_what_is_wanted_came_after_the_middle_and_users_with_few_sessions_are_left_out(
    repository: FeatureRepository,
) -> None:
    events = event_arrays(to_frame([*shoppers(), *events_of("seldom", ["i1"] * (MIN_SESSIONS - 1))]), ITEMS)
    people = read(events, repository)
    assert [events.users[person.user] for person in people] == [f"u{user}" for user in range(6)]
    for person in people:
        window = events.user_slice(person.user)
        time, row = events.time[window], events.row[window]
        assert person.cut == int(np.median(time))
        assert person.later == frozenset(row[time >= person.cut].tolist())
        assert person.words
    assert len(read(events, repository, most=2)) == 2
    assert read(events, repository) == people


def test_what_a_household_buys_later_is_in_none_of_its_words(repository: FeatureRepository) -> None:
    """The second half bought otherwise: the words stay, what is wanted does not.

    How usual each label is comes from all events, so the others' halves are swapped in kind: totals stay.
    """
    first = shoppers(2)
    later = {e.event_id: e.item_id for e in first if e.timestamp >= START + 12 * 86_400}
    swapped = dict(zip(later, reversed(later.values()), strict=True))
    second = [replace(e, item_id=swapped.get(e.event_id, e.item_id)) for e in first]
    one, other = (read(event_arrays(to_frame(events), ITEMS), repository) for events in (first, second))
    assert [person.words for person in one] == [person.words for person in other]
    assert [person.cut for person in one] == [person.cut for person in other]
    assert [person.later for person in one] != [person.later for person in other]


def test_demand_of_a_cut_has_the_statistics_of_the_days_before_it() -> None:
    """The guardrail's evidence reads the item table at the cut; planting from then on moves nothing of it."""
    events = shoppers(3)
    cut = START + 9 * 86_400 + 5_000
    planted = events + events_of("late", ["i3"] * 30, cut, step=60)
    before, after = (table_of(ITEMS, some)[0] for some in (events, planted))
    for name in ("i_count_28d", "i_reorder"):
        assert before.statistic(name, cut).tobytes() == after.statistic(name, cut).tobytes()
        assert before.statistic(name, cut + 86_400).tobytes() != after.statistic(name, cut + 86_400).tobytes()


def examples(people: int, right: tuple[bool, ...]) -> ColdExamples:
    """As many candidates of each person as ``right`` says."""
    group = np.repeat(np.arange(people), len(right))
    return ColdExamples(
        np.zeros((len(group), 1), np.float32), np.tile(right, people).astype(bool), group, np.zeros(len(group), int), {}
    )


@pytest.mark.parametrize(
    ("people", "right", "why"),
    [
        (0, (), "there are 0"),
        (9, (True, False), "at least 10 people with 8 sessions"),
        (12, (False, False), "later bought nothing of what"),
        (12, (True, True), "later bought all of what"),
        (10, (True, False), ""),
    ],
)
def test_why_there_is_no_guardrail_is_said(people: int, right: tuple[bool, ...], why: str) -> None:
    found = lacking(examples(people, right))
    assert why in found
    assert bool(found) == (not enough(examples(people, right)))
