"""From interactions to arrays: the order of a History, nothing from the future, groups that say something."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given

from features.candidates import retrieve
from features.copurchase import TOP
from features.events import SqliteEventLog, history_of
from features.history import History
from features.items import ItemTable
from features.keys import place_key
from features.ports import Event
from features.transforms import assemble, summarize
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
from training.materialize import (
    affinity_attributes,
    build_item_table,
    event_arrays,
    load_events,
    neighbours_before,
    summary,
    training_view,
)
from training.ranking import CANDIDATES


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    return journey(tmp_path_factory.mktemp("journey"), 25)


def bits(history: History) -> list[bytes]:
    return [getattr(history, name).tobytes() for name in ("item", "time", "session", "kind", "value")]


def test_arrays_hold_every_event_of_every_user(real: Journey) -> None:
    assert list(real.events.users) == sorted(set(real.frame["user_id"].to_list()))
    assert summary(real.table, real.events)["events"] == len(real.frame)
    for code in (0, 7, len(real.events.users) - 1):
        mine = real.frame.filter(pl.col("user_id") == real.events.users[code])
        window = real.events.user_slice(code)
        assert (real.events.user[window] == code).all()
        ids = [real.table.item_ids[row] for row in real.events.row[window]]
        assert sorted(ids) == sorted(mine["item_id"].to_list())
        assert (real.table.keys[real.events.row[window]] == real.events.key[window]).all()


@given(histories())
def test_training_and_serving_keep_a_users_events_in_one_order(events: list[Event]) -> None:
    """Sorted once from a table, or appended as they come: the same arrays, also where times and sessions tie."""
    arrays = event_arrays(to_frame(events), catalog(12))
    appended = History.empty()
    for event in events:
        appended = appended.append(history_of([event]))
    trained = arrays.history(0) if events else History.empty()
    # Which of two events of one time and session came first is kept by arrival in both.
    assert bits(trained) == bits(appended)


def test_fractions_of_a_second_do_not_change_the_order() -> None:
    """A History knows seconds: within one, the session decides, not the microsecond."""
    frame = to_frame([Event(f"e{n}", "u", f"i{n}", "purchase", 1.0, START, f"s{n}") for n in range(6)])
    micros = pl.Series(np.arange(6)[::-1].copy() * 1_000).cast(pl.Duration("us"))
    shifted = frame.with_columns(timestamp=frame["timestamp"] + micros).sort("timestamp")
    one, other = (event_arrays(each, catalog(6)).history(0) for each in (frame, shifted))
    assert bits(one) == bits(other)


def test_items_outside_the_catalog_keep_their_key_and_have_no_row() -> None:
    arrays = event_arrays(to_frame(events_of("u", ["i1", "gone"])), catalog(3))
    assert sorted(arrays.row.tolist()) == [-1, 1]
    assert len(set(arrays.key.tolist())) == 2


def test_no_events_are_no_users() -> None:
    arrays = event_arrays(to_frame([]), catalog(3))
    assert (arrays.users, len(arrays.time), arrays.starts.tolist()) == ((), 0, [0])
    assert len(build_item_table(CONFIG, catalog(3), arrays)) == 3


def test_recorded_events_join_the_ingested_ones(tmp_path: Path) -> None:
    made = journey(tmp_path, 2)
    user = made.events.users[0]
    log = SqliteEventLog(made.workspace.events)
    log.append([replace(each, user_id=user) for each in events_of(user, [made.table.item_ids[0]], start=START)])
    log.append(events_of("new user", ["new item"]))
    log.close()
    frame = load_events(made.workspace)
    assert len(frame) == len(made.frame) + 2
    arrays = event_arrays(frame, made.items)
    assert set(arrays.users) == {*made.events.users, "new user"}
    assert frame.is_sorted("user_id")


def test_affinity_attributes_go_from_the_label_over_the_finest_to_the_coarsest() -> None:
    n = 4_000
    number = pl.Series(np.arange(n))
    items = pl.DataFrame(
        {
            "item_id": number.cast(pl.String),
            "code": number.cast(pl.String),
            "same": ["x"] * n,
            "brand": (number % 40).cast(pl.String),
            "type": (number % 900).cast(pl.String),
            "label": (number % 5).cast(pl.String),
            "size": (number % 7).cast(pl.String),
            "price": number.cast(pl.Float64),
        }
    )
    kinds = dict.fromkeys(items.columns[1:-1], "categorical") | {"price": "numeric"}
    config = replace(CONFIG, label_column="label", item_attributes=kinds)
    assert affinity_attributes(config, items) == ["label", "type", "brand"]
    assert affinity_attributes(replace(config, label_column=None), items) == ["type", "brand", "size"]
    assert affinity_attributes(replace(config, item_attributes={}), items) == []


def test_neighbours_come_from_purchases_where_there_are_any() -> None:
    baskets = [
        Event(f"{b}{n}", "u", item, kind, 1.0, START + b, f"s{b}")
        for b in range(3)
        for n, (item, kind) in enumerate([("i0", "purchase"), ("i1", "purchase"), ("i2", "view")])
    ]
    bought, _ = neighbours_before(event_arrays(to_frame(baskets), catalog(3)), 3, None, lives=False)
    assert [row[row >= 0].tolist() for row in bought] == [[1], [0], []]
    viewed = [replace(each, kind="view") for each in baskets]
    seen, _ = neighbours_before(event_arrays(to_frame(viewed), catalog(3)), 3, None, lives=False)
    assert [row[row >= 0].tolist() for row in seen] == [[1, 2], [0, 2], [0, 1]]
    early, _ = neighbours_before(event_arrays(to_frame(baskets), catalog(3)), 3, START + 2, lives=False)
    assert (early == -1).all()


def test_of_lives_each_item_has_more_neighbours_as_long_as_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    films = 60
    events = [
        Event(f"{user}{n}", user, f"i{n}", "purchase", 1.0, START + n, f"{user}{n}")
        for user in ("u", "v", "w")
        for n in range(films)
    ]
    arrays = event_arrays(to_frame(events), catalog(films))
    near = [(rows >= 0).sum(axis=1).max() for rows, _ in (neighbours_before(arrays, films, None, lives=True),)]
    assert near == [films - 1]
    monkeypatch.setattr("training.materialize.MOST_STORED", 30 * films)
    assert neighbours_before(arrays, films, None, lives=True)[0].shape == (films, 30)
    monkeypatch.setattr("training.materialize.MOST_STORED", 10 * films)
    assert neighbours_before(arrays, films, None, lives=True)[0].shape == (films, TOP)
    assert neighbours_before(arrays, films, None, lives=False)[0].shape == (films, TOP)


def future(real: Journey, user: int, time: int, place: str) -> pl.DataFrame:
    """What a leak would show: the user, others and old sessions buying much of what is rare from ``time`` on, in one
    place and for a price far off."""
    rare = real.items["item_id"].to_list()[::-7][:40]
    mine = real.frame.filter(pl.col("user_id") == real.events.users[user])
    sessions = ["planted", *mine["session_id"].unique().to_list()[:2]]
    planted = [
        Event(f"p{who}{offset}{n}", who, item, "purchase", 50.0, time + offset, session, place, FAR_OFF)
        for who in (real.events.users[user], real.events.users[-1 - user], "nobody yet")
        for offset in (0, 1, 3_600, 3 * WEEK)
        for session in sessions
        for n, item in enumerate(rare)
    ]
    return to_frame(planted).select(real.frame.columns).cast(real.frame.schema)


def served(
    real: Journey, table: ItemTable, history: History, time: int, place: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    profile = summarize(history, table, time, place_key(place))
    found = retrieve(profile, table, CANDIDATES)
    # Besides the candidates every item of the catalog, so that a leak has nowhere to hide.
    return found.rows, np.concatenate(
        (
            assemble(profile, table, found.rows, found.copurchase),
            assemble(profile, table, np.arange(len(real.items)), np.zeros(len(real.items))),
        )
    )


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_nothing_that_happens_later_moves_a_training_feature(real: Journey, part: float) -> None:
    """Candidates and all columns at a time, with and without purchases from that very second on."""
    user = 3
    time = int(np.quantile(real.events.time[real.events.user_slice(user)], part))
    place = str(real.frame.filter(pl.col("user_id") == real.events.users[user])["place"].mode().min())
    planted = pl.concat([real.frame, future(real, user, time, place)]).sort("user_id", "timestamp", "session_id")
    after = event_arrays(planted, real.items)
    before_table = training_view(real.table, real.events, time)
    after_table = training_view(build_item_table(real.workspace.config(), real.items, after), after, time)
    rows, matrix = served(real, before_table, real.events.history(user), time, place)
    code = after.users.index(real.events.users[user])
    later_rows, later_matrix = served(real, after_table, after.history(code), time, place)
    assert rows.tolist() == later_rows.tolist()
    assert matrix.tobytes() == later_matrix.tobytes()
    # The plant is there: a day later prices and sales show it, and a week later everything.
    assert moved(before_table, after_table, time + 86_400, place) >= OF_SALES
    _, shown = served(real, after_table, after.history(code), time + WEEK, place)
    _, without = served(real, before_table, real.events.history(user), time + WEEK, place)
    assert shown[-len(real.items) :].tobytes() != without[-len(real.items) :].tobytes()


def test_hazards_and_neighbours_of_a_view_are_those_of_what_came_before(real: Journey) -> None:
    """As if the table had been built on the day, from the events there were."""
    time = int(np.quantile(real.events.time, 0.4))
    past = event_arrays(real.frame.filter(pl.col("timestamp").dt.epoch("s") < time), real.items)
    then, view = (
        build_item_table(real.workspace.config(), real.items, past),
        training_view(real.table, real.events, time),
    )
    for name in ("neighbours", "similarity", "groups"):
        assert getattr(then, name).tobytes() == getattr(view, name).tobytes(), name
    for name in ("hazard", "kind", "factor", "kind_hazard", "hour_lift", "gap_lift", "session_size"):
        assert getattr(then.repurchase, name).tobytes() == getattr(view.repurchase, name).tobytes(), name
    assert then.repurchase.mean_size == view.repurchase.mean_size
    assert then.statistics(time).tobytes() == view.statistics(time).tobytes()
    assert then.kind_trends(time).tobytes() == view.kind_trends(time).tobytes()
    assert then.repurchase.hazard.any()
    whole = training_view(real.table, real.events, None)
    assert whole.neighbours.tobytes() == real.table.neighbours.tobytes()
    assert whole.repurchase.hazard.tobytes() == real.table.repurchase.hazard.tobytes()
    assert whole.repurchase.hazard.tobytes() != view.repurchase.hazard.tobytes()


def test_a_view_before_all_events_knows_no_neighbours_and_no_hazards(real: Journey) -> None:
    view = training_view(real.table, real.events, int(real.events.time.min()))
    assert (view.neighbours == -1).all()
    assert not view.repurchase.hazard.any()
    assert view.repurchase.hazard.shape == real.table.repurchase.hazard.shape
