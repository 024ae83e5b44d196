"""Baselines keep the contract on any catalog, know nothing of the future, and equal what they are defined to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.ports import Event
from tests.unit.features.shop import START, catalog, events_of, to_frame
from training.baselines.base import Baskets, Recommender, fit_times, top, top_of_rows
from training.baselines.latent import ALS, ItemKNN
from training.baselines.popular import OwnCounts, Popular
from training.baselines.tifu import TifuConfig, TifuKNN
from training.baselines.trees import COLUMNS, count_tables
from training.baselines.tune import BASELINES, Baseline, baselines_for, latest, tune
from training.metrics import per_target
from training.protocols import DAY, IntArray, Protocol, next_basket
from training.ranking import Targets

N = 30
ITEMS = catalog(N)
SMALL: Mapping[str, Mapping[str, Any]] = {"als": {"factors": 4, "alpha": 1.0}}


def shopping(users: int, seed: int, prefix: str = "u", start: int = START, baskets: int = 8) -> list[Event]:
    """Users who prefer one half of the catalog, by their number; two to four items a basket."""
    rng = np.random.default_rng(seed)
    events = []
    for user in range(users):
        half = user % 2 * (N // 2)
        time = start + int(rng.integers(0, 20)) * DAY
        for basket in range(baskets):
            time += int(rng.integers(1, 12)) * DAY
            for item in rng.choice(N // 2, int(rng.integers(2, 5)), replace=False, p=_SHARES):
                name = f"{prefix}{user:03d}"
                events.append(
                    Event(
                        f"{name}-{basket}-{item}", name, f"i{half + item}", "purchase", 1.0, time, f"{name}-b{basket}"
                    )
                )
    return events


_SHARES = np.arange(N // 2, 0, -1) / np.arange(N // 2, 0, -1).sum()


@pytest.fixture(scope="module")
def shop() -> Protocol:
    return next_basket(to_frame(shopping(40, 1)), ITEMS)


def made(baseline: Baseline, protocol: Protocol, repeats: bool = True) -> Recommender:
    return baseline.build(Baskets(protocol), repeats, {**baseline.start, **SMALL.get(baseline.name, {})})


EVERY = pytest.mark.parametrize("baseline", BASELINES, ids=lambda baseline: baseline.name)


@EVERY
def test_lists_are_distinct_known_rows_and_the_same_every_time(baseline: Baseline, shop: Protocol) -> None:
    model = made(baseline, shop)
    rows = model.recommend(shop.test, 10)
    assert model.name == baseline.name
    assert rows.shape == (40, 10)
    assert rows.dtype == np.int64
    for own in rows.tolist():
        shown = [row for row in own if row >= 0]
        assert own == shown + [-1] * (10 - len(shown))
        assert len(set(shown)) == len(shown)
        assert all(row < N for row in shown)
    assert (made(baseline, shop).recommend(shop.test, 10) == rows).all()


@EVERY
def test_what_others_do_at_or_after_a_target_changes_nothing(baseline: Baseline, shop: Protocol) -> None:
    """New users (behind the others in the arrays) who buy at the last target's time and after it.

    Trees train on the protocol's targets, of whatever time, as the system does: for them the new users are too new to
    be targets, and can only be seen in counts.
    """
    late = int(shop.test.time.max())
    few = {"baskets": 3} if baseline.name == "lightgbm-counts" else {}
    planted = shopping(30, 2, prefix="z", start=late - (10 if few else 30) * DAY, **few)
    planted = [event for event in planted if event.timestamp >= late]
    assert planted
    later = next_basket(to_frame(shopping(40, 1) + planted), ITEMS)
    assert (later.events.time[: len(shop.events.time)] == shop.events.time).all()
    expected = made(baseline, shop).recommend(shop.test, 10)
    assert (made(baseline, later).recommend(shop.test, 10) == expected).all()


@pytest.mark.parametrize("name", ["p-topfreq", "gp-topfreq", "tifu-knn"])
def test_a_truncated_history_is_a_history_without_its_older_events(name: str) -> None:
    """One user's older baskets are hidden, or were never there. (Item-KNN and ALS learn from everybody's, so from the
    hidden ones too.)"""
    baseline = next(baseline for baseline in BASELINES if baseline.name == name)
    events = shopping(40, 1)
    whole = next_basket(to_frame(events), ITEMS)
    hidden = {f"u000-b{number}" for number in range(4)}
    short = next_basket(to_frame([event for event in events if event.session_id not in hidden]), ITEMS)
    mine, own = whole.test.take(whole.test.user == 0), short.test.take(short.test.user == 0)
    since = mine.start - own.start
    assert whole.events.row[since[0] : mine.start[0]].tolist() == short.events.row[: own.start[0]].tolist()
    seen = len(whole.had_sets(mine, since).rows)
    rows = made(baseline, whole).recommend(mine, seen, since)
    assert rows.tolist() == made(baseline, short).recommend(own, seen).tolist()
    assert rows.tolist() != made(baseline, whole).recommend(mine, seen).tolist()


def test_visible_histories_are_the_events_between_since_and_the_target(shop: Protocol) -> None:
    baskets = Baskets(shop)
    since = shop.test.start - 3
    owner, pair = baskets.histories(shop.test, since)
    for number in range(len(shop.test)):
        window = slice(int(since[number]), int(shop.test.start[number]))
        assert baskets.row[pair[owner == number]].tolist() == shop.events.row[window].tolist()


@EVERY
def test_an_empty_history_gets_what_is_popular(baseline: Baseline, shop: Protocol) -> None:
    model = made(baseline, shop)
    rows = model.recommend(shop.test, 6, shop.test.start)
    if baseline.name == "p-topfreq":
        assert (rows == -1).all()
        return
    days = model.parameters.get("days")
    assert (rows == Popular(Baskets(shop), True, days).recommend(shop.test, 6)).all()
    assert (rows >= 0).all()


@EVERY
def test_without_repeats_nothing_had_is_shown(baseline: Baseline, shop: Protocol) -> None:
    if baseline.own:
        assert baseline not in baselines_for(repeats=False)
        return
    rows = made(baseline, shop, repeats=False).recommend(shop.test, 10)
    assert not shop.had_sets(shop.test).contains(rows).any()
    assert (rows >= 0).sum(axis=1).min() == 10


def test_counts_are_those_of_the_visible_baskets(shop: Protocol) -> None:
    """Counted again basket by basket."""
    baskets, targets = Baskets(shop), shop.test
    since = np.where(np.arange(len(targets)) % 2, shop.since(targets) + 9, shop.since(targets))
    events = shop.events
    seen = 0
    for table in count_tables(baskets, targets, since):
        # Everybody's counts are as of the first target of the day's 24 hours, see fit_times.
        ends = np.cumsum(table.sizes)
        cut = int(targets.time[table.which].min())
        for number, start, end in zip(table.which, ends - table.sizes, ends):
            own: dict[int, list[int]] = {}
            window = range(int(since[number]), int(targets.start[number]))
            sessions = list(dict.fromkeys(int(events.session[at]) for at in window))
            for at in window:
                own.setdefault(int(events.row[at]), []).append(sessions.index(int(events.session[at])))
            n, bought = len(sessions), len(list(window))
            before = [(int(u), int(r), int(t)) for u, r, t in zip(events.user, events.row, events.time) if t < cut]
            for row, values in zip(table.rows[start:end], table.matrix[start:end]):
                mine = own.get(int(row), [])
                ago = [n - 1 - session for session in mine]
                expected = {
                    "own_baskets": len(mine),
                    "own_share": len(mine) / n,
                    **{f"own_in_last_{last}": sum(each < last for each in ago) for last in (3, 5, 10)},
                    "own_baskets_since_last": min(ago, default=np.nan),
                    "own_baskets_since_first": max(ago, default=np.nan),
                    "user_baskets": n,
                    "user_items": len(own),
                    "user_basket_size": bought / n,
                    "item_baskets": sum(r == row for _, r, _ in before),
                    "item_baskets_28_days": sum(r == row and t >= cut - 28 * DAY for _, r, t in before),
                    "item_baskets_7_days": sum(r == row and t >= cut - 7 * DAY for _, r, t in before),
                    "item_users": len({u for u, r, _ in before if r == row}),
                }
                assert tuple(expected) == COLUMNS
                np.testing.assert_allclose(values, np.array(list(expected.values()), np.float32), rtol=1e-6)
            assert set(own) <= set(table.rows[start:end].tolist())
            seen += 1
    assert seen == len(targets)


def test_trees_over_counts_learn_what_is_had_again(shop: Protocol) -> None:
    """More than chance, on targets they were not trained on: the shop's users want the head of their own half."""
    trees = next(made(baseline, shop) for baseline in BASELINES if baseline.name == "lightgbm-counts")
    wanted = shop.wanted_sets(shop.test)
    found = per_target(trees.recommend(shop.test, 5), wanted, 5)["recall@5"].mean()
    popular = per_target(Popular(Baskets(shop), True).recommend(shop.test, 5), wanted, 5)["recall@5"].mean()
    assert found > popular


@EVERY
def test_no_targets_no_lists(baseline: Baseline, shop: Protocol) -> None:
    nobody = shop.test.take(np.zeros(len(shop.test), bool))
    assert made(baseline, shop).recommend(nobody, 5).shape == (0, 5)


def protocol_of(contents: Mapping[str, list[list[str]]]) -> Protocol:
    events = [
        Event(f"{user}{n}{item}", user, item, "purchase", 1.0, START + n * DAY, f"{user}-{n}")
        for user, baskets in contents.items()
        for n, items in enumerate(baskets)
        for item in items
    ]
    return next_basket(to_frame(events), ITEMS)


def test_popularity_counts_baskets_before_the_target_and_in_the_window() -> None:
    protocol = protocol_of({"a": [["i1"], ["i1", "i2"], ["i2"], ["i2", "i3"], ["i9"]], "b": [["i4"]]})
    baskets = Baskets(protocol)
    # i2: 3 baskets; i1: 2; i3 and i4: 1, in order of rows. The target's own i9 is unknown.
    assert Popular(baskets, True).recommend(protocol.test, 6).tolist() == [[2, 1, 3, 4, -1, -1]]
    assert Popular(baskets, True, days=2).recommend(protocol.test, 3).tolist() == [[2, 3, -1]]
    assert Popular(baskets, False).recommend(protocol.test, 3).tolist() == [[4, -1, -1]]


def test_own_counts_break_ties_as_told() -> None:
    protocol = protocol_of(
        {"a": [["i5"], ["i1"], ["i3"], ["i3"], ["i9"]], "b": [["i1"], ["i1"]], "c": [["i7"]], "d": [["i7"]]}
    )
    baskets = Baskets(protocol)

    def rows(ties: Any, fallback: bool = False) -> list[int]:
        return [int(row) for row in OwnCounts(baskets, fallback, ties).recommend(protocol.test, 5)[0]]

    assert rows("first") == [3, 5, 1, -1, -1]
    assert rows("popular") == [3, 1, 5, -1, -1]
    assert rows("recent") == [3, 1, 5, -1, -1]
    assert rows("first", fallback=True) == [3, 5, 1, 7, -1]


def test_an_item_twice_in_a_basket_counts_once() -> None:
    protocol = protocol_of({"a": [["i1", "i1", "i1"], ["i2"], ["i2"], ["i3"], ["i9"]]})
    assert OwnCounts(Baskets(protocol), False).recommend(protocol.test, 3).tolist() == [[2, 1, 3]]


def naive_tifu(protocol: Protocol, config: TifuConfig, cut: int) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Every user's vector as of ``cut``, basket by basket as the paper defines it."""
    vectors = []
    events = protocol.events
    for user in range(len(events.users)):
        window = events.user_slice(user)
        kept = events.time[window] < cut
        times, rows = events.time[window][kept], events.row[window][kept]
        baskets = [set(rows[times == time].tolist()) for time in np.unique(times)]
        vector = np.zeros(N)
        groups = [baskets[max(0, end - config.group) : end] for end in range(len(baskets), 0, -config.group)]
        for distance, group in enumerate(groups):
            mean = np.zeros(N)
            for place, basket in enumerate(reversed(group)):
                for row in basket:
                    mean[row] += config.within**place / len(group)
            vector += config.across**distance * mean / len(groups)
        vectors.append(vector)
    return vectors


@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 50))
def test_tifu_knn_equals_its_definition(group: int, neighbours: int, seed: int) -> None:
    config = TifuConfig(group, 0.8, 0.6, 0.7, neighbours)
    protocol = next_basket(to_frame(shopping(8, seed, baskets=6)), ITEMS)
    targets = protocol.test.take(np.array([int(protocol.test.time.argmax())]))
    user, time = int(targets.user[0]), int(targets.time[0])
    vectors = naive_tifu(protocol, config, time)
    own = vectors[user]
    distances = sorted((float(((own - other) ** 2).sum()), n) for n, other in enumerate(vectors) if n != user)
    near = [vectors[n] for _, n in distances[:neighbours]]
    expected = config.alpha * own + (1 - config.alpha) * np.mean(near, axis=0)
    rows = TifuKNN(Baskets(protocol), True, config).recommend(targets, 6)[0]
    if len(distances) > neighbours and np.isclose(distances[neighbours - 1][0], distances[neighbours][0]):
        return
    assert expected[rows].tolist() == pytest.approx(np.sort(expected)[::-1][:6].tolist())


@pytest.mark.parametrize("weighting", ["cosine", "tfidf", "bm25"])
def test_item_knn_and_als_find_the_half_a_user_shops_in(weighting: Any, shop: Protocol) -> None:
    """Also where nothing had may be shown: what is left of the own half comes first."""
    baskets = Baskets(shop)
    half = (shop.test.user % 2 * (N // 2))[:, None]
    had = shop.had_sets(shop.test)
    for model in (ItemKNN(baskets, False, weighting, 20), ALS(baskets, False, factors=4, alpha=1.0, iterations=15)):
        first = model.recommend(shop.test, 1)
        left = N // 2 - had.sizes
        inside = (first >= half) & (first < half + N // 2)
        # An item of too few users has no neighbours: it may be missed.
        assert inside[left > 3].mean() > 0.9


@given(st.lists(st.integers(0, 400 * DAY), min_size=1, max_size=40), st.sampled_from([DAY, 7 * DAY]), st.booleans())
def test_fits_know_nothing_after_a_target_and_are_no_older_than_told(
    times: list[int], every: int, doubling: bool
) -> None:
    at = np.array(times, np.int64)
    cuts, group = fit_times(at, every, doubling)
    assert (cuts[group] <= at).all()
    assert set(cuts.tolist()) <= set(times)
    age = at - cuts[group]
    if doubling:
        assert len(cuts) <= 1 + np.log2(1 + (at.max() - at.min()) // every)
        assert (age <= np.maximum(every, at.max() - at + every)).all()
    else:
        assert (age < every).all()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(1, 14))
def test_top_is_by_score_then_row(scores: list[int], k: int) -> None:
    expected = sorted((row for row, score in enumerate(scores) if score), key=lambda row: (-scores[row], row))[:k]
    assert top(np.array(scores), k).tolist() == expected
    from scipy import sparse

    assert top_of_rows(sparse.csr_matrix([scores]), k)[0].tolist() == expected + [-1] * (k - len(expected))


class _Quality:
    """Shows the wanted items of the first ``good`` targets."""

    name = "quality"

    def __init__(self, baskets: Baskets, parameters: Mapping[str, Any]) -> None:
        self.parameters = parameters
        self._protocol = baskets.protocol

    def recommend(self, targets: Targets, k: int, since: IntArray | None = None) -> IntArray:
        assert since is None
        assert set(targets.start.tolist()) <= set(self._protocol.valid.start.tolist())
        rows = np.full((len(targets), k), -1, np.int64)
        for number in range(min(int(self.parameters["good"]), len(targets))):
            wanted = self._protocol.wanted(targets, number)[:k]
            rows[number, : len(wanted)] = wanted
        return rows


def test_tuning_asks_validation_takes_the_best_value_and_keeps_the_start_on_a_tie(shop: Protocol) -> None:
    baseline = Baseline(
        "quality",
        lambda baskets, _, chosen: _Quality(baskets, chosen),
        {"good": 2, "colour": "red"},
        {"good": (0, 5, 3), "colour": ("blue", "red")},
    )
    tuned = tune(baseline, Baskets(shop), True)
    assert tuned.recommender.parameters == {"good": 5, "colour": "red"}
    # Nothing is tried twice.
    assert len(tuned.tried) == len({tuple(sorted(tried.items())) for tried, _ in tuned.tried}) == 5


def test_tuning_sees_the_latest_targets_and_does_without_any(shop: Protocol) -> None:
    assert latest(shop.valid, 5).time.min() >= np.sort(shop.valid.time)[-5]
    assert len(latest(shop.valid, 5)) == 5
    few = next_basket(to_frame(events_of("u", ["i0"])), ITEMS)
    for baseline in BASELINES:
        assert tune(baseline, Baskets(few), True).tried == ()
