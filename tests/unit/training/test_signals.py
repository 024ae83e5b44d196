"""What events say: what was had, what was liked, and whether visits or users hold items together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.copurchase import MAX_SESSION
from features.history import EVENT_KINDS
from features.kernels import WEIGHT
from features.ports import Event
from features.transforms import LOW_WEIGHT, Profile, summarize
from tests.unit.features.shop import START, WEEK, catalog, event, events_of, table_of, to_frame
from training import signals
from training.materialize import EventArrays, event_arrays

DAY = 86_400


def arrays_of(events: Sequence[Event], items: int = 8) -> EventArrays:
    return event_arrays(to_frame(events), catalog(items))


def kinds_of(kind: str, many: int, user: str = "u") -> list[Event]:
    return [event(n, f"i{n % 8}", START + n * DAY, f"{kind}{n}", user=user, kind=kind) for n in range(many)]


def rated(values: Sequence[float], user: str = "u", start: int = START) -> list[Event]:
    return [
        Event(f"{user}{start}{n}", user, f"i{n}", "rating", value, start + n * DAY, f"{user}{start}{n}")
        for n, value in enumerate(values)
    ]


def test_purchases_and_ratings_make_an_item_had_and_looking_does_not() -> None:
    had = ("purchase", "rating")
    assert signals.had_by(arrays_of(kinds_of("view", 20) + kinds_of("purchase", 2, "v"))) == had
    assert signals.had_by(arrays_of(kinds_of("view", 20) + kinds_of("rating", 2, "v"))) == had
    assert signals.had_by(arrays_of(kinds_of("view", 20))) == EVENT_KINDS
    assert signals.had_by(arrays_of([])) == EVENT_KINDS


def test_one_purchase_changes_nothing_for_a_catalog_of_ratings_or_of_clicks() -> None:
    stray = [event(0, "i1", START, "stray", user="v", kind="purchase")]
    ratings = arrays_of(kinds_of("rating", 30) + stray)
    assert signals.counted(ratings).all(), "ratings still say what was had"
    clicks = arrays_of(kinds_of("click", 2_000) + stray)
    assert signals.counted(clicks).all(), "clicks still do"
    unknown = arrays_of(kinds_of("click", 20) + [event(0, "gone", START, "stray", user="v", kind="purchase")])
    assert signals.had_by(unknown) == EVENT_KINDS, "of an item the catalog does not know"


def test_a_rating_of_what_was_bought_before_is_not_had_a_second_time() -> None:
    def one(number: int, item: str, kind: str, user: str = "u") -> Event:
        return event(number, item, START + number * DAY, f"{user}{number}", user=user, kind=kind)

    events = [one(0, "i0", "purchase"), one(1, "i0", "rating"), one(2, "i1", "rating"), one(3, "i1", "purchase")]
    arrays = arrays_of(events + [one(4, "i0", "rating", "v")])
    assert signals.counted(arrays).tolist() == [True, False, True, True, True]
    assert signals.measure_repeats(arrays, signals.counted(arrays)) == np.float64(0.25)


def test_liked_is_the_median_rating_or_the_next_where_most_give_the_lowest() -> None:
    def least(values: Sequence[float]) -> float | None:
        return signals.liked_at(arrays_of(rated(values)))

    assert least([1, 2, 3, 4, 5]) == 3
    assert least([0, 0, 0, 1, 1]) == 1, "thumbs: a thumb down is no wish"
    assert least([4, 4, 4]) == 4, "who rates everything alike likes it all"
    assert signals.liked_at(arrays_of(events_of("u", ["i0"]))) is None
    thumbs = arrays_of(rated([0, 0, 0, 1, 1]))
    assert signals.liked(thumbs, signals.counted(thumbs)).tolist() == [False, False, False, True, True]


def test_films_belong_together_by_who_saw_them_and_groceries_by_basket() -> None:
    """Three films an evening are no basket; the same three products week by week are."""

    def evenings(items: Sequence[int]) -> list[Event]:
        return [
            event(3 * n + k, f"i{item}", START + n * WEEK, f"s{n}")
            for n in range(2)
            for k, item in enumerate(items[3 * n : 3 * n + 3])
        ]

    assert signals.lives(arrays_of(evenings([0, 1, 2, 3, 4, 5])))
    assert not signals.lives(arrays_of(evenings([0, 1, 2, 0, 1, 2])))
    assert signals.lives(arrays_of(events_of("u", ["i0", "i1", "i0", "i1"]))), "one item a visit"


def test_a_long_life_is_known_by_its_newest_items() -> None:
    items = MAX_SESSION + 30
    events = [
        event(n, f"i{items - 1 - n}", START + n * DAY, f"{user}{n}", user=user)
        for user in ("u", "v", "w")
        for n in range(items)
    ]
    table, _ = table_of(catalog(items), events)
    assert table.lives
    near = table.neighbours.max(axis=1) >= 0
    assert near[:MAX_SESSION].all(), "seen last"
    assert not near[MAX_SESSION:].any()


def test_what_somebody_rated_low_says_nothing_of_what_is_near_them() -> None:
    """Two users who saw the same and liked the opposite are told apart."""
    others = [rating for n in range(4) for rating in rated([5, 1, 4, 2, 5, 1, 4, 2], f"v{n}")]
    table, _ = table_of(catalog(8), others)
    assert table.liked_at == 3.0

    def seen(values: Sequence[float]) -> Profile:
        found = summarize(arrays_of(rated(values)).history(0), table, START + WEEK)
        assert sorted(found.had.tolist()) == [0, 1], "liked or not, it was had"
        return found

    assert seen([5, 1]).recent_rows().tolist() == [0]
    assert seen([1, 5]).recent_rows().tolist() == [1]
    assert seen([1, 1]).recent_rows().tolist() == []
    assert sorted(seen([4, 5]).recent_rows().tolist()) == [0, 1]
    weights = {int(row): float(own[WEIGHT]) for row, own in zip(seen([5, 1]).rows, seen([5, 1]).own)}
    assert weights == {0: 1.0, 1: LOW_WEIGHT}
    # Looked at again after it was rated low: a look is no dislike.
    looked = [*rated([1, 5]), event(9, "i0", START + 3 * DAY, "look", kind="view")]
    again = summarize(arrays_of(looked).history(0), table, START + WEEK)
    assert sorted(again.recent_rows().tolist()) == [0, 1]
