"""Fitting on a protocol: views of the past, shortened histories, no leak through either; and the ranker learns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.candidates import retrieve
from features.history import History
from features.itemtags import PUBLISHED
from features.keys import NOWHERE, place_key
from features.ports import Event
from features.schema import RANKING_NAMES, TAG_COLUMNS, schema_hash
from features.transforms import assemble, summarize
from models import ranker
from models.blend import Blend
from models.ranker import VARIANTS, Binned, LightGBMRanker, Ranked, RankerConfig, fit
from tests.unit.features.shop import (
    CONFIG,
    FAR_OFF,
    OF_SALES,
    START,
    WEEK,
    Journey,
    catalog,
    events_of,
    histories,
    journey,
    moved,
    to_frame,
)
from training.config import TrainConfig
from training.evaluate import baselines, ranking_report
from training.fit import (
    PLACE_HIDDEN,
    SEARCH_TARGETS,
    SEARCH_TREES,
    SHORTENED,
    Tandem,
    Views,
    _training_targets,
    choose,
    fit_ranker,
)
from training.materialize import build_item_table, event_arrays, training_view
from training.metrics import bootstrap, per_target
from training.protocols import BUCKETS, Protocol, next_basket, next_items, temporal, truncated_at_random
from training.ranking import CANDIDATES, Groups, Targets, best_rows, build_groups, in_time, some

PROTOCOLS: dict[str, Callable[[pl.DataFrame, pl.DataFrame], Protocol]] = {
    "next basket": next_basket,
    "temporal": temporal,
}
QUICK = TrainConfig(
    llm=None,
    train_sessions=40,
    valid_sessions=20,
    search=False,
    ranker=RankerConfig(trees=8, min_leaf=5, threads=1),
)
LONGEST = max(high for _, high in BUCKETS if high is not None)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    return journey(tmp_path_factory.mktemp("journey"), 25)


@pytest.fixture(scope="module", params=list(PROTOCOLS))
def protocol(request: pytest.FixtureRequest, real: Journey) -> Protocol:
    return PROTOCOLS[request.param](real.frame, real.items)


@pytest.fixture(scope="module", params=[True, False], ids=["repeats", "no repeats"])
def fitted(request: pytest.FixtureRequest, real: Journey, protocol: Protocol) -> Tandem:
    return fit_ranker(QUICK, protocol, real.table, request.param, {"data_hash": "x"})


def all_targets(protocol: Protocol) -> Targets:
    parts = (protocol.train, protocol.valid, protocol.test)
    return Targets(*(np.concatenate(columns) for columns in zip(*(part.columns for part in parts))))


def test_a_view_is_the_newest_that_is_not_newer_than_the_time(real: Journey, protocol: Protocol) -> None:
    """And it holds the neighbours and hazards of what came before its own time."""
    events = protocol.events
    views = Views.build(real.table, events, all_targets(protocol).time)
    assert views.times == sorted(set(views.times))
    assert len(views.times) == len(views.tables) > 1
    for time, table in zip(views.times, views.tables, strict=True):
        then = training_view(real.table, events, time)
        assert table.neighbours.tobytes() == then.neighbours.tobytes()
        assert table.repurchase.hazard.tobytes() == then.repurchase.hazard.tobytes()
    moments = [*views.times, *(time - 1 for time in views.times), *(time + 1 for time in views.times), 0, 2**40]
    for moment in moments:
        older = [table for time, table in zip(views.times, views.tables, strict=True) if time <= moment]
        assert views.at(moment) is (older[-1] if older else views.nothing)
    assert (views.nothing.neighbours == -1).all()
    assert not views.nothing.repurchase.hazard.any()


def test_views_of_no_targets_know_nothing(real: Journey) -> None:
    views = Views.build(real.table, real.events, np.empty(0, np.int64))
    assert views.times == []
    assert views.at(2**40) is views.nothing


def groups_of(protocol: Protocol, views: Views, targets: Targets, since: npt.NDArray[np.int64]) -> Groups:
    """As the ranker's training data is built."""
    events = protocol.events

    def history(number: int) -> History:
        return events.seen(int(since[number]), int(targets.start[number]), int(targets.time[number]))

    return build_groups(history, views.at, targets, lambda number: protocol.wanted(targets, number), repeats=True)


def planted(real: Journey, name: str, users: list[str], time: int, place: str) -> pl.DataFrame:
    """What a leak would show: users known and new buy much of what is rare from ``time`` on, that day and later, in one
    place and for a price far off.

    In the temporal protocol also within sessions that began before; a next basket is one whole, at its first time.
    """
    rare = real.items["item_id"].to_list()[::-7][:40]
    mine = real.frame.filter(pl.col("user_id").is_in(users))["session_id"].unique().sort().to_list()
    sessions = ["~planted", *(mine[:2] if name == "temporal" else [])]
    plants = [
        Event(
            f"{who}{offset}{n}{session}",
            who,
            item,
            "purchase",
            50.0,
            time + offset,
            f"{session}{offset}{who}" if session == "~planted" else session,
            place,
            FAR_OFF,
        )
        for who in (*users, "nobody yet")
        for offset in (0, 1, 3_600, 3 * WEEK)
        for session in sessions
        for n, item in enumerate(rare)
    ]
    return to_frame(plants).select(real.frame.columns).cast(real.frame.schema)


@pytest.mark.parametrize("part", [0.05, 0.4, 0.9])
@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_nothing_that_happens_later_moves_a_training_feature(real: Journey, name: str, part: float) -> None:
    """Plants future events of a target's own user and of others: candidates, features and relevance stay bit for bit.

    Through everything training reads: histories, statistics of the day, prices, sales of places, kinds, and the
    neighbours and hazards of views.
    """
    protocol = PROTOCOLS[name](real.frame, real.items)
    every = all_targets(protocol)
    time = int(np.quantile(every.time, part, method="lower"))
    own = [protocol.events.users[user] for user in every.user[every.time == time][:1]]
    users = [*own, real.events.users[0], real.events.users[-1]]
    place = str(real.frame.filter(pl.col("user_id").is_in(own))["place"].mode().min())
    frame = pl.concat([real.frame, planted(real, name, users, time, place)])
    frame = frame.sort("user_id", "timestamp", "session_id", maintain_order=True)
    later = PROTOCOLS[name](frame, real.items)

    targets = every.take(every.time <= time)
    targets = replace(targets, place=np.full(len(targets), place_key(place)))  # all are asked where the plant is
    users_after = np.array([later.events.users.index(user) for user in protocol.events.users])[targets.user]
    shift = later.events.starts[users_after] - protocol.events.starts[targets.user]
    same = Targets(users_after, targets.time, targets.start + shift, targets.end + shift, targets.place)

    # The table is built of all events there are, as in training.
    table = build_item_table(real.workspace.config(), real.items, event_arrays(frame, real.items))
    before, after = (
        Views.build(each, events, every.time) for each, events in ((real.table, protocol.events), (table, later.events))
    )
    one = groups_of(protocol, before, targets, protocol.since(targets))
    other = groups_of(later, after, same, later.since(same))

    assert int((targets.time == time).sum())
    assert one.rows.tolist() == other.rows.tolist()
    assert one.matrix.tobytes() == other.matrix.tobytes()
    if name == "next basket":
        assert one.relevance.tolist() == other.relevance.tolist()
        assert one.missed.tolist() == other.missed.tolist()
    # The plant is there: a day later the statistics show it, and a later view its neighbours and hazards.
    assert table.statistics(time + 86_400).tobytes() != real.table.statistics(time + 86_400).tobytes()
    seen = training_view(table, later.events, time + 2)
    assert seen.neighbours.tobytes() != training_view(real.table, protocol.events, time + 2).neighbours.tobytes()
    assert moved(real.table, table, time + 86_400, place) >= OF_SALES
    assert not moved(real.table, table, time, place) & OF_SALES


def test_test_groups_are_what_serving_computes(fitted: Tandem, real: Journey) -> None:
    """From whole histories, with the view of the target's time."""
    protocol, views = fitted.protocol, fitted.views
    targets = in_time(some(all_targets(protocol), 16, seed=2))
    groups = fitted.groups(targets)
    served = event_arrays(real.frame, real.items)
    ends = np.cumsum(groups.sizes)
    asked = 0
    for number, (start, end) in enumerate(zip(ends - groups.sizes, ends)):
        time, user = int(targets.time[number]), int(targets.user[number])
        table = views.at(time)
        history = served.history(user).before(time)
        if protocol.name == "next_basket" and protocol.events.session[targets.start[number]] in history.session:
            continue  # moved behind a basket of the same second: a service cannot be asked between the two
        asked += 1
        profile = summarize(history, table, time, int(targets.place[number]))
        found = retrieve(profile, table, CANDIDATES, repeats=fitted.repeats)
        assert groups.rows[start:end].tolist() == found.rows.tolist()
        assert groups.matrix[start:end].tobytes() == assemble(profile, table, found.rows, found.copurchase).tobytes()
        wanted, had = (sets.of(number) for sets in (protocol.wanted_sets(targets), protocol.had_sets(targets)))
        if not fitted.repeats:
            wanted = np.setdiff1d(wanted, had)
            assert not set(found.rows.tolist()) & set(had.tolist())
        hits = set(found.rows.tolist()) & set(wanted.tolist())
        assert int(groups.relevance[start:end].sum()) == len(hits)
        assert int(groups.missed[number]) == len(wanted) - len(hits)
    assert asked > len(targets) // 2


def test_recommendations_are_the_best_scored_candidates(fitted: Tandem) -> None:
    protocol = fitted.protocol
    targets = some(protocol.test, 6, seed=3)
    groups = fitted.groups(targets)
    scores, ends = fitted.ranker.predict(groups.matrix), np.cumsum(groups.sizes)
    found = fitted.recommend(targets, 10)
    assert found.shape == (len(targets), 10)
    for number, (start, end) in enumerate(zip(ends - groups.sizes, ends)):
        best = groups.rows[start:end][np.argsort(-scores[start:end], kind="stable")[:10]]
        assert found[number].tolist() == [*best.tolist(), *[-1] * (10 - len(best))]
    # Without a history only what is popular is left, and more than there are candidates is padding.
    cold = fitted.recommend(targets, CANDIDATES + 5, targets.start)
    assert (cold[:, -5:] == -1).all()
    for number, time in enumerate(targets.time.tolist()):
        assert set(cold[number].tolist()) - {-1} <= set(fitted.views.at(time).popular_at(time).tolist())


def popular_first() -> Binned:
    """What teaches that popular items are wanted, whatever else there is."""
    matrix = np.random.default_rng(0).lognormal(size=(4_000, len(RANKING_NAMES))).astype(np.float32)
    popular = matrix[:, RANKING_NAMES.index("i_count_28d")].reshape(-1, 20)
    relevance = (popular == popular.max(axis=1, keepdims=True)).astype(np.int32).ravel()
    return Binned.of(RANKING_NAMES, (matrix, relevance, np.full(200, 20, np.int32)), threads=1)


def test_asked_for_new_items_it_orders_those_alone(fitted: Tandem) -> None:
    """By the ranker of such items where there is one, among the candidates of a catalog without repeats."""
    protocol, targets = fitted.protocol, some(fitted.protocol.test, 6, seed=3)
    assert fitted.new_items.ranker is (fitted.discovery or fitted.ranker)
    fitted = replace(fitted, discovery=Blend(fit(QUICK.ranker, popular_first(), {}, rounds=3)))
    new = fitted.new_items
    assert new.ranker is fitted.discovery is not fitted.ranker
    found = new.recommend(targets, 10)
    assert not protocol.had_sets(targets).contains(found).any()
    assert (found >= 0).all()
    groups = new.groups(targets)
    assert found.tolist() == best_rows(groups, new.ranker.predict(groups.matrix), 10).tolist()


def test_the_ranker_says_what_it_was_fitted_on(fitted: Tandem) -> None:
    manifest = fitted.ranker.manifest
    assert tuple(manifest["columns"]) == RANKING_NAMES
    assert manifest["schema_hash"] == schema_hash()
    assert manifest["protocol"] == fitted.protocol.name
    assert manifest["data_hash"] == "x"
    assert manifest["repeats"] is fitted.repeats
    short = int(40 * SHORTENED) if fitted.repeats else 40
    assert manifest["targets"] == {"train": 40 + short, "valid": min(20, len(fitted.protocol.valid))}
    assert fitted.parameters["trees"] == 8
    assert set(fitted.importance) <= set(RANKING_NAMES)


def test_parameters_are_chosen_among_the_variants(real: Journey) -> None:
    protocol = next_basket(real.frame, real.items)
    config = QUICK.model_copy(update={"search": True})
    chosen = fit_ranker(config, protocol, real.table, True, {}).parameters
    assert any(all(chosen[name] == value for name, value in variant.items()) for variant in VARIANTS)
    assert (chosen["trees"], chosen["learning_rate"]) == (8, QUICK.ranker.learning_rate)


def contradicting(train: int, valid: int, seed: int = 1) -> tuple[Ranked, npt.NDArray[np.bool_]]:
    """Groups of ten whose highest is wanted where they train and whose lowest where they validate.

    The second column tells the two apart: who trains on both gets both right.
    """
    rng = np.random.default_rng(seed)
    validates = np.arange(train + valid) >= train
    value = rng.normal(size=(train + valid, 10)).astype(np.float32)
    wanted = np.where(validates[:, None], -value, value)
    relevance = (wanted == wanted.max(axis=1, keepdims=True)).astype(np.int32)
    matrix = np.stack((value.ravel(), np.repeat(validates, 10).astype(np.float32)), axis=1)
    return (matrix, relevance.ravel(), np.full(train + valid, 10, np.int32)), validates


def test_what_validates_does_not_train_what_it_judges() -> None:
    """The figure is that of a ranker that takes the validation targets for training ones; a fit on all gets both."""
    ranked, validates = contradicting(300, 100)
    data = Binned.of(("value", "validates"), ranked, threads=1)
    config = QUICK.model_copy(update={"ranker": RankerConfig(trees=30, min_leaf=5, column_share=1, threads=1)})
    chosen, _, figure, judged = choose(config, data, ranked[2], validates, True, lambda *_: None)
    # One wanted of ten: by chance NDCG is the mean of 1 / log2(1 + rank), .454; the lowest place has .289.
    assert figure is not None
    assert figure < 0.4
    assert chosen == config.ranker
    # The ranker of that figure is given back.
    assert judged is not None
    assert judged.manifest["validation_ndcg@10"] == figure
    places = (-judged.predict(ranked[0]).reshape(-1, 10)).argsort(axis=1, kind="stable")[validates]
    hits = np.take_along_axis(ranked[1].reshape(-1, 10)[validates], places, axis=1)
    assert (hits / np.log2(np.arange(2, 12))).sum(axis=1).mean() < 0.4
    scores = fit(chosen, data, {}, rounds=30).predict(ranked[0]).reshape(-1, 10)
    first = ranked[1].reshape(-1, 10)[np.arange(len(scores)), scores.argmax(axis=1)]
    assert first[validates].mean() > 0.8
    assert first[~validates].mean() > 0.8


def test_rounds_grow_with_the_targets_up_to_the_configured_ones() -> None:
    """What was best on a part, at the final fit's smaller steps, times how much more there is."""
    ranked, _ = contradicting(SEARCH_TARGETS + 1_000, 0)
    validates = np.arange(len(ranked[2])) % 6 == 0
    data = Binned.of(("value", "validates"), ranked, threads=1)
    for trees in (40, 500):
        own = RankerConfig(trees=trees, min_leaf=5, learning_rate=0.1, column_share=1, threads=1)
        chosen, rounds, figure, _ = choose(
            QUICK.model_copy(update={"ranker": own}), data, ranked[2], validates, True, lambda *_: None
        )
        few = np.flatnonzero(~validates)
        rows = [np.flatnonzero(np.repeat(mask, 10)) for mask in (~validates, validates)]
        assert len(few) == SEARCH_TARGETS
        quick = fit(own.model_copy(update={"learning_rate": 0.3, "trees": SEARCH_TREES}), data.part(*rows), {})
        assert quick.manifest["rounds"] > 1
        steps = quick.manifest["rounds"] * 0.3 / 0.1 * len(validates) / SEARCH_TARGETS
        assert rounds == min(trees, math.ceil(steps))
        assert figure == quick.manifest["validation_ndcg@10"]
        assert chosen == own


def noted(monkeypatch: pytest.MonkeyPatch) -> dict[RankerConfig, float]:
    """What is tried from now on, with its figure on validation."""
    tried: dict[RankerConfig, float] = {}

    def noting(config: RankerConfig, *rest: Any) -> LightGBMRanker:
        fitted = fit(config, *rest)
        tried[config] = fitted.manifest["validation_ndcg@10"]
        return fitted

    monkeypatch.setattr(ranker, "fit", noting)
    return tried


@pytest.mark.parametrize("repeats", [True, False])
def test_where_nothing_is_had_twice_a_binary_objective_is_compared_too(
    monkeypatch: pytest.MonkeyPatch, repeats: bool
) -> None:
    ranked, validates = contradicting(200, 60)
    data = Binned.of(("value", "validates"), ranked, threads=1)
    tried = noted(monkeypatch)
    own = RankerConfig(trees=10, min_leaf=5, column_share=1, threads=1)
    config = QUICK.model_copy(update={"ranker": own, "search": True})
    chosen, _, figure, _ = choose(config, data, ranked[2], validates, repeats, lambda *_: None)
    assert {one.objective for one in tried} == ({"lambdarank"} if repeats else {"lambdarank", "binary"})
    best = max(tried, key=lambda one: tried[one])
    assert figure == tried[best]
    assert (chosen.objective, chosen.min_leaf) == (best.objective, best.min_leaf)


@pytest.mark.parametrize(("search", "train", "wide"), [(True, 200, True), (True, 5_000, False), ("wide", 5_000, True)])
def test_sizes_of_trees_are_compared_where_that_is_quick_or_asked_for(
    monkeypatch: pytest.MonkeyPatch, search: Any, train: int, wide: bool
) -> None:
    """Three levels of a value must be told apart: trees of few leaves cannot."""
    rng = np.random.default_rng(4)
    validates = np.arange(train + 100) >= train
    value = rng.normal(size=(train + 100, 10)).astype(np.float32)
    wanted = np.abs(value - 0.3)
    relevance = (wanted == wanted.min(axis=1, keepdims=True)).astype(np.int32)
    ranked = (value.reshape(-1, 1), relevance.ravel(), np.full(len(value), 10, np.int32))
    data = Binned.of(("value",), ranked, threads=1)
    tried = noted(monkeypatch)
    own = RankerConfig(trees=3, leaves=12, min_leaf=5, column_share=1, threads=1)
    config = QUICK.model_copy(update={"ranker": own, "search": search})
    chosen, _, figure, _ = choose(config, data, ranked[2], validates, True, lambda *_: None)
    assert {one.leaves for one in tried} == ({6, 12, 24} if wide else {12})
    best = max(tried, key=lambda one: tried[one])
    assert figure == tried[best]
    assert (chosen.leaves, chosen.min_leaf) == (best.leaves, best.min_leaf)


def test_without_anything_to_judge_by_all_rounds_are_taken() -> None:
    ranked, validates = contradicting(20, 0)
    data = Binned.of(("value", "validates"), ranked, threads=1)
    assert choose(QUICK, data, ranked[2], validates, True, lambda *_: None) == (QUICK.ranker, 8, None, None)


def test_the_ranker_is_fitted_on_validation_targets_too(real: Journey) -> None:
    """Whose wants move it, though the figure of its manifest is another ranker's."""
    protocol = next_basket(real.frame, real.items)
    emptied = replace(protocol, valid=protocol.valid.take(np.arange(len(protocol.valid)) < 2))
    config = QUICK.model_copy(update={"valid_sessions": 1_000})
    matrix = fit_ranker(config, protocol, real.table, True, {}).groups(protocol.test).matrix
    one, two = (fit_ranker(config, each, real.table, True, {}).ranker for each in (protocol, emptied))
    assert one.predict(matrix).tobytes() != two.predict(matrix).tobytes()
    assert 0 < one.manifest["validation_ndcg@10"] <= 1


@given(st.lists(histories(), min_size=1, max_size=3), st.integers(0, 2**31), st.sampled_from(list(PROTOCOLS)))
def test_shortened_histories_keep_within_bounds(several: list[list[Event]], seed: int, name: str) -> None:
    """They end at the target, begin with a session of its user, and hold no more sessions than the buckets allow."""
    events = [
        Event(e.event_id, f"u{number}", e.item_id, e.kind, e.value, e.timestamp, e.session_id)
        for number, own in enumerate(several)
        for e in own
    ]
    if not events:
        return
    protocol = PROTOCOLS[name](to_frame(events), catalog(12))
    for targets in (protocol.train, protocol.valid, protocol.test):
        since = truncated_at_random(protocol, targets, seed)
        assert since.tolist() == truncated_at_random(protocol, targets, seed).tolist()
        assert (since >= protocol.since(targets)).all()
        assert (since <= targets.start).all()
        for start, end in zip(since.tolist(), targets.start.tolist()):
            sessions = protocol.events.session[start:end]
            assert (np.diff(sessions) != 0).sum() + bool(len(sessions)) <= LONGEST
            if start < end and start not in protocol.events.starts:
                assert protocol.events.session[start] != protocol.events.session[start - 1]


def test_shortened_histories_have_all_lengths_of_the_buckets() -> None:
    events = [e for user in range(60) for e in events_of(f"u{user:02}", ["i0", "i1"] * 20, START + user)]
    protocol = next_basket(to_frame(events), catalog(3))
    lengths = protocol.train.start - truncated_at_random(protocol, protocol.train, 5)
    assert set(lengths.tolist()) == set(range(LONGEST + 1))
    # Five buckets, each drawn equally often: 600 draws, within four standard errors.
    for low, high in BUCKETS[:-1]:
        share = float(((lengths >= low) & (lengths <= (high or 0))).mean())
        assert abs(share - 0.2) < 4 * np.sqrt(0.2 * 0.8 / len(lengths))
    emptied = protocol.train.start - truncated_at_random(protocol, protocol.train, 5, empty=0.5)
    assert set(emptied[emptied != lengths].tolist()) == {0}, "the other lengths stay as they were drawn"
    share = float((emptied == 0).mean())
    assert abs(share - 0.6) < 4 * np.sqrt(0.6 * 0.4 / len(lengths))


@pytest.mark.parametrize("repeats", [True, False])
def test_where_nothing_is_had_twice_every_target_teaches_shortened_as_well(repeats: bool) -> None:
    """Half of those without any history: newcomers' lists are few habits and many targets short."""
    events = [
        e for user in range(30) for e in events_of(f"u{user:02}", [f"i{n % 60}" for n in range(30)], START + user)
    ]
    protocol = next_items(to_frame(events), catalog(60))
    nothing = build_item_table(CONFIG, catalog(60), protocol.events)
    targets, since = _training_targets(TrainConfig(llm=None), protocol, Views([], [], nothing), repeats)
    whole = since == protocol.since(targets)
    empty = since == targets.start
    assert len(targets) == len(protocol.train) * (1.2 if repeats else 2)
    if not repeats:
        assert 0.25 <= empty.mean() <= 0.35, "half of half, and what buckets draw empty"
        assert whole.mean() >= 0.5


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
    frame = to_frame(regular_shoppers())
    protocol = next_basket(frame, catalog(60))
    table = build_item_table(CONFIG, catalog(60), event_arrays(frame, catalog(60)))
    config = QUICK.model_copy(
        update={"train_sessions": 400, "valid_sessions": 40, "ranker": RankerConfig(trees=60, min_leaf=20, threads=1)}
    )
    system = fit_ranker(config, protocol, table, True, {})
    test = system.groups(protocol.test)
    wanted = system.wanted(protocol.test)
    learned = per_target(best_rows(test, system.ranker.predict(test.matrix), 10), wanted, 10)["ndcg@10"]
    counted = {
        name: per_target(best_rows(test, scores, 10), wanted, 10)["ndcg@10"]
        for name, scores in baselines(test, repeats=True).items()
    }
    for name, baseline in counted.items():
        gain = learned - baseline
        # 99.9 % of a paired bootstrap would agree: the mean gain is more than 3.3 standard errors above nothing.
        assert gain.mean() > 3.3 * gain.std(ddof=1) / np.sqrt(len(gain)), name
    assert learned.mean() > 0.9


@pytest.mark.parametrize(
    ("repeats", "names"), [(True, {"g-topfreq", "p-topfreq", "gp-topfreq"}), (False, {"g-topfreq"})]
)
def test_where_nothing_is_had_again_own_counts_are_no_baseline(repeats: bool, names: set[str]) -> None:
    """All would tie, in the order retrieval found them in; the gain is over what says something."""
    rng = np.random.default_rng(4)
    baskets = [(user, week, rng.choice(60, 3, replace=False).tolist()) for user in range(30) for week in range(12)]
    frame = to_frame(
        [
            Event(f"{user}-{week}-{n}", f"u{user:02}", f"i{n}", "purchase", 1.0, START + week * WEEK, f"{user}-{week}")
            for user, week, basket in baskets
            for n in basket
        ]
    )
    protocol = next_basket(frame, catalog(60))
    table = build_item_table(CONFIG, catalog(60), event_arrays(frame, catalog(60)))
    system = fit_ranker(QUICK, protocol, table, repeats, {})
    groups = system.groups(protocol.test)
    own = groups.matrix[:, RANKING_NAMES.index("ui_sessions")]
    assert bool(own.any()) == repeats
    report = ranking_report(system.ranker, groups, system.wanted(protocol.test), {}, 7, repeats)
    assert set(report["models"]) == {*names, "tandem"}
    assert report["gain"]["best_baseline"] in names


def test_training_targets_are_not_older_than_the_first_view(real: Journey) -> None:
    """Otherwise most of what the ranker sees first would have no neighbours and no hazards, unlike all it serves."""
    protocol = next_basket(real.frame, real.items)
    views = Views.build(real.table, protocol.events, all_targets(protocol).time)
    system = fit_ranker(QUICK.model_copy(update={"train_sessions": 10**6}), protocol, real.table, True, {})
    late = int((protocol.train.time >= views.times[0]).sum())
    assert 0 < late < len(protocol.train)
    assert system.ranker.manifest["targets"]["train"] == late + int(late * SHORTENED)


def shoppers_of_a_tag(users: int = 150, visits: int = 8, seed: int = 3) -> list[Event]:
    """Everybody buys two items of one tag at a visit, any of its thirty: baskets do not tell what goes together."""
    rng = np.random.default_rng(seed)
    return [
        Event(
            f"{user}-{visit}-{item}",
            f"u{user:03}",
            f"i{user % 6 * 30 + item}",
            "purchase",
            1.0,
            START + visit * WEEK + user * 3_600,
            f"{user}-{visit}",
        )
        for user in range(users)
        for visit in range(visits)
        for item in rng.choice(30, 2, replace=False).tolist()
    ]


def fitted_with_tags(folder: Path, tags: list[str]) -> Tandem:
    """The system on a catalog without categories, told the tags of its items."""
    items = catalog(180).with_columns(pl.lit(None, pl.String).alias("category"), brand=pl.lit(None, pl.String))
    rows = [(f"i{number}", tag, 0.7, "review") for number, tag in enumerate(tags)]
    pl.DataFrame(rows, dict(PUBLISHED), orient="row").write_parquet(folder / "part-00000.parquet")
    frame = to_frame(shoppers_of_a_tag())
    protocol = next_basket(frame, items)
    table = build_item_table(CONFIG, items, event_arrays(frame, items), folder)
    config = QUICK.model_copy(
        update={
            "train_sessions": 1_000,
            "valid_sessions": 150,
            "ranker": RankerConfig(trees=40, min_leaf=20, threads=1),
        }
    )
    # Nothing is bought again: what somebody had says nothing of an item but by its tag.
    return fit_ranker(config, protocol, table, False, {})


def test_published_tags_that_predict_are_kept_and_what_they_gain_is_said(tmp_path: Path) -> None:
    system = fitted_with_tags(tmp_path, [f"tag {number // 30}" for number in range(180)])
    assert system.tags is not None
    gain, tagged, plain = system.tags
    assert tagged is system
    assert gain.low > 0
    assert system.ranker.manifest["tags"] == {"kept": True, "validation": {"ndcg@10": gain.to_dict()}}
    assert tagged.importance["t_affinity"] > 0
    assert plain.importance["t_affinity"] == plain.importance["t_probability"] == 0
    targets = system.protocol.test
    both = [per_target(one.recommend(targets, 10), one.wanted(targets), 10)["ndcg@10"] for one in (tagged, plain)]
    assert bootstrap(both[0] - both[1], seed=1).low > 0


def test_published_tags_that_say_nothing_are_not_used(tmp_path: Path) -> None:
    """That the ranker may use tags at all is what the test above shows."""
    shuffled = np.random.default_rng(4).permutation(180) // 30
    system = fitted_with_tags(tmp_path, [f"tag {tag}" for tag in shuffled])
    assert system.tags is not None
    gain, _, plain = system.tags
    assert plain is system
    assert gain.low <= 0
    columns = [column.name for column in TAG_COLUMNS]
    assert sum(system.importance[column] for column in columns) == 0
    assert system.ranker.manifest["tags"]["kept"] is False


def test_without_published_tags_nothing_is_compared(fitted: Tandem) -> None:
    assert fitted.tags is None
    assert "tags" not in fitted.ranker.manifest
    assert fitted.importance["t_affinity"] == 0


def test_a_fifth_of_the_training_targets_tell_no_place(real: Journey, protocol: Protocol) -> None:
    """And no target of the days after a date does: nobody knows where somebody will be."""
    views = Views.build(real.table, protocol.events, all_targets(protocol).time)
    targets, _ = _training_targets(QUICK, protocol, views, True)
    hidden = float((targets.place == NOWHERE).mean())
    if protocol.name == "temporal":
        assert hidden == 1.0
        return
    assert hidden == pytest.approx(PLACE_HIDDEN, abs=0.05)
    assert (protocol.test.place != NOWHERE).all()
    assert (protocol.test.anywhere.place == NOWHERE).all()
    at = protocol.test.start
    assert protocol.test.place.tolist() == protocol.events.place[at].tolist()
