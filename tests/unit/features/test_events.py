"""Events survive what happens to processes and stores, and are pushed once the store is there."""

from __future__ import annotations

import math
import multiprocessing
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.errors import InvalidEvent, StoreUnavailable
from features.events import Recorder, SqliteEventLog, day_session, history_of
from features.history import EVENT_KINDS, History
from features.keys import item_keys
from features.ports import EventLog, OnlineStore
from tests.unit.features.shop import START, event, events_of

ROOT = Path(__file__).parents[3]


class MemoryStore:
    """An online store in memory; while ``down`` it raises as a dead one does."""

    def __init__(self) -> None:
        self.rows: dict[str, History] = {}
        self.down = False

    def history(self, user_id: str) -> History:
        if self.down:
            raise StoreUnavailable("the store is down")
        return self.rows.get(user_id, History.empty())

    def push(self, histories: Mapping[str, History]) -> None:
        if self.down:
            raise StoreUnavailable("the store is down")
        self.rows.update(histories)

    def items(self, user_id: str) -> list[int]:
        found: list[int] = self.history(user_id).item.tolist()
        return found


def keys(*items: str) -> list[int]:
    found: list[int] = item_keys(items).tolist()
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events" / "events.db"


@pytest.fixture
def log(path: Path) -> Iterator[SqliteEventLog]:
    opened = SqliteEventLog(path)
    yield opened
    opened.close()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_the_fakes_and_the_log_are_what_the_ports_ask_for(log: SqliteEventLog, store: MemoryStore) -> None:
    event_log: EventLog = log
    online: OnlineStore = store
    assert event_log.of_user("u") == []
    assert len(online.history("u")) == 0


def test_events_are_there_after_the_file_is_opened_again(log: SqliteEventLog, path: Path) -> None:
    events = events_of("u", ["a", "b"])
    assert log.append(events) == 2
    log.close()
    again = SqliteEventLog(path)
    assert again.of_user("u") == events
    assert again.unpushed_users() == ["u"]
    again.close()


def test_a_log_of_an_earlier_version_keeps_its_events_and_takes_places_and_prices(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as db:
        db.execute(
            "CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, user_id TEXT "
            "NOT NULL, item_id TEXT NOT NULL, kind TEXT NOT NULL, value REAL NOT NULL, timestamp INTEGER NOT NULL, "
            "session_id TEXT NOT NULL, pushed INTEGER NOT NULL DEFAULT 0)"
        )
        db.execute(f"INSERT INTO events VALUES (1, 'e1', 'u', 'a', 'purchase', 1.0, {START}, 's', 0)")
    for _ in range(2):  # also where it was opened before
        log = SqliteEventLog(path)
        log.append([event(2, "b", START + 1, place="north", price=3.25)])
        first, second = log.of_user("u")
        assert (first.event_id, first.place, first.price) == ("e1", "", 0.0)
        assert (second.item_id, second.place, second.price) == ("b", "north", 3.25)
        log.close()


@pytest.mark.parametrize("price", [-0.5, math.nan, math.inf])
def test_an_event_of_an_impossible_price_is_refused(log: SqliteEventLog, price: float) -> None:
    with pytest.raises(InvalidEvent, match=r"'e1' has price .*; give a finite one"):
        log.append([event(1, "a", START, price=price)])
    assert log.of_user("u") == []


def test_an_event_that_comes_twice_counts_once(log: SqliteEventLog) -> None:
    first = event(1, "a", START)
    assert log.append([first, first]) == 1
    assert log.append([replace(first, item_id="changed"), event(2, "b", START)]) == 1
    assert [found.item_id for found in log.of_user("u")] == ["a", "b"]


def test_events_come_back_by_user_in_order_of_arrival(log: SqliteEventLog) -> None:
    users = [f"u{number}" for number in range(1_200)]  # more than one statement's placeholders
    late_first = [replace(event(n, f"i{n}", START - n), user_id=user) for n, user in enumerate(users * 2)]
    log.append(late_first)
    found = log.of_users([*users, "stranger"])
    assert list(found) == users
    assert [e.item_id for e in found["u7"]] == ["i7", "i1207"]
    log.mark_pushed(users[1:])
    assert log.unpushed_users() == ["u0"]
    log.mark_all_unpushed()
    assert log.unpushed_users() == sorted(users)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("kind", "stolen", "kind 'stolen'; use one of purchase"),
        ("value", float("nan"), "value nan; give a finite number"),
        ("value", float("inf"), "value inf; give a finite number"),
        ("timestamp", -1, "timestamp -1; give seconds"),
        ("timestamp", 1_700_000_000_000, "timestamp 1700000000000; give seconds"),
        ("event_id", "", "no event_id"),
        ("user_id", "", "no user_id"),
        ("item_id", "", "no item_id"),
    ],
)
def test_an_event_no_push_could_carry_is_refused_with_all_that_came_with_it(
    log: SqliteEventLog, store: MemoryStore, field: str, value: object, says: str
) -> None:
    bad = replace(event(2, "b", START), **{field: value})  # type: ignore[arg-type]
    with pytest.raises(InvalidEvent, match=says):
        Recorder(log, store, {}).record([event(1, "a", START), bad])
    assert log.frame().is_empty()


def test_training_reads_the_log_as_interactions(log: SqliteEventLog) -> None:
    log.append([event(1, "a", START, "s1", "rating", "u", 4.5, "north", 3.25)])
    row = log.frame().row(0, named=True)
    assert row.pop("timestamp").timestamp() == START
    told = {"value": 4.5, "session_id": "s1", "place": "north", "price": 3.25}
    assert row == {"user_id": "u", "item_id": "a", "event": "rating", **told}
    assert str(log.frame().schema["timestamp"]) == "Datetime(time_unit='us', time_zone='UTC')"


def test_a_log_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match=r"event log .* cannot be used.*check the disk"):
        SqliteEventLog(tmp_path / "file" / "events.db")
    (tmp_path / "damaged.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        SqliteEventLog(tmp_path / "damaged.db")


def test_a_failure_inside_a_transaction_undoes_it_and_the_log_goes_on(log: SqliteEventLog) -> None:
    log.append([event(1, "a", START)])

    def half() -> None:
        with log.transaction():
            log.mark_pushed(["u"])
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        half()
    assert log.unpushed_users() == ["u"]
    assert log.append([event(2, "b", START)]) == 1


def test_a_lock_that_does_not_come_free_is_an_outage_and_nothing_is_recorded(path: Path, log: SqliteEventLog) -> None:
    log._db.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        log.append([event(1, "a", START)])
    other.execute("ROLLBACK")
    other.close()
    assert log.of_user("u") == []
    assert log.append([event(1, "a", START)]) == 1


def test_a_recorded_event_is_seen_by_the_next_read(log: SqliteEventLog, store: MemoryStore) -> None:
    recorder = Recorder(log, store, {"u": history_of(events_of("u", ["old"]))})
    recorded = recorder.record([event(1, "new", START + 9)])
    assert (recorded.new, recorded.outage) == (1, "")
    assert store.items("u") == keys("old", "new")
    assert recorder.record([event(1, "new", START + 9)]).new == 0
    assert store.items("u") == keys("old", "new")


def test_a_user_outside_the_base_starts_with_the_logged_events(log: SqliteEventLog, store: MemoryStore) -> None:
    Recorder(log, store, {}).record([event(2, "b", START + 5), event(1, "a", START)])
    assert store.items("u") == keys("a", "b")
    assert store.history("u").time.tolist() == [START, START + 5]


def test_an_outage_of_the_store_keeps_the_events_and_says_so(log: SqliteEventLog, store: MemoryStore) -> None:
    recorder = Recorder(log, store, {})
    store.down = True
    recorded = recorder.record([event(1, "a", START)])
    assert (recorded.new, recorded.outage) == (1, "the store is down")
    assert [found.item_id for found in log.of_user("u")] == ["a"]
    store.down = False
    assert recorder.record([event(2, "b", START, user="other")]).outage == ""
    assert store.items("u") == keys("a")
    assert log.unpushed_users() == []


def test_a_crash_between_append_and_push_is_made_good_at_the_next_start(path: Path, store: MemoryStore) -> None:
    """The process is killed inside the push: the log holds the event, the store does not."""
    program = f"""
import os, signal
from pathlib import Path
from features.events import Recorder, SqliteEventLog
from features.ports import Event
class Dies:
    def push(self, histories): os.kill(os.getpid(), signal.SIGKILL)
log = SqliteEventLog(Path({str(path)!r}))
Recorder(log, Dies(), {{}}).record([Event("1", "u", "a", "purchase", 1.0, {START}, "s")])
"""
    died = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    log = SqliteEventLog(path)
    assert log.unpushed_users() == ["u"]
    recorder = Recorder(log, store, {})
    assert (recorder.push_pending(), recorder.push_pending()) == (1, 0)
    assert store.items("u") == keys("a")
    log.close()


def test_two_recorders_of_one_user_are_both_seen(path: Path, store: MemoryStore) -> None:
    base = {"u": history_of(events_of("u", ["old"]))}
    logs = [SqliteEventLog(path), SqliteEventLog(path)]
    one, two = (Recorder(log, store, base) for log in logs)
    one.record([event(1, "from one", START + 5)])
    two.record([event(2, "from two", START + 6)])
    one.record([event(3, "one again", START + 7)])
    assert store.items("u") == keys("old", "from one", "from two", "one again")
    for log in logs:
        log.close()


def _write(path: Path, writer: int, count: int) -> None:
    log = SqliteEventLog(path)
    recorder = Recorder(log, MemoryStore(), {})
    for number in range(count):
        recorder.record([event(number * 10 + writer, f"w{writer}", START + number, user=f"u{number % 3}")])
    log.close()


def test_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(path, writer, 25)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    log = SqliteEventLog(path)
    frame = log.frame()
    assert dict(frame["item_id"].value_counts().iter_rows()) == {f"w{n}": 25 for n in range(4)}
    assert log.unpushed_users() == []
    log.close()


def test_threads_of_one_recorder_lose_nothing(log: SqliteEventLog, store: MemoryStore) -> None:
    recorder = Recorder(log, store, {})
    outcomes: list[str] = []

    def write(writer: int) -> None:
        for number in range(20):
            try:
                outcomes.append(recorder.record([event(number * 10 + writer, f"w{writer}", START + number)]).outage)
            except Exception as error:
                outcomes.append(repr(error))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes == [""] * 80
    assert len(store.history("u")) == len(log.of_user("u")) == 80


def test_a_log_becomes_the_arrays_a_history_keeps() -> None:
    history = history_of([event(n, f"i{n}", START + n, f"s{n}", kind) for n, kind in enumerate(EVENT_KINDS)])
    assert history.kind.tolist() == list(range(len(EVENT_KINDS)))
    assert len(np.unique(history.session)) == len(EVENT_KINDS)
    assert len(history_of([])) == 0


def test_an_event_without_session_belongs_to_the_users_day() -> None:
    assert day_session("u", 86_399) == "u|1970-01-01"
    assert day_session("u", 86_400) == "u|1970-01-02"
