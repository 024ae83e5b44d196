"""Events: appended durably first, then pushed to the online store. The log is the truth, the store a view of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

import numpy as np
import polars as pl

from features.errors import InvalidEvent, StoreUnavailable
from features.history import EVENT_KINDS, History
from features.keys import KeyArray, item_keys, place_keys
from features.ports import Event, OnlineStore
from features.sqlitefile import SqliteFile

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    value REAL NOT NULL,
    timestamp INTEGER NOT NULL,
    session_id TEXT NOT NULL,
    place TEXT NOT NULL DEFAULT '',
    price REAL NOT NULL DEFAULT 0,
    pushed INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS events_by_user ON events (user_id, seq);
CREATE INDEX IF NOT EXISTS events_unpushed ON events (user_id) WHERE pushed = 0;
"""
_COLUMNS = "event_id, user_id, item_id, kind, value, timestamp, session_id, place, price"
_ADDED = {"place": "TEXT NOT NULL DEFAULT ''", "price": "REAL NOT NULL DEFAULT 0"}
"""Columns that logs of earlier versions lack."""
_MANY = 500
"""Placeholders per statement, below SQLite's limit on every build."""
_LAST_TIME = 253_402_300_799
"""The end of the year 9999: a later time is no time in seconds."""


class SqliteEventLog:
    """An append-only log in one SQLite file, safe for several threads and processes on one machine.

    Every append is one transaction with ``synchronous=FULL``: when it returns, the events survive a power cut. Raises
    StoreUnavailable where the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, _SCHEMA, "event log")
        self._db = self._file.db
        self._guard = self._file.guard
        with self._file.transaction(), self._guard():
            there = {row[1] for row in self._db.execute("PRAGMA table_info(events)")}
            for name, declared in _ADDED.items():
                if name not in there:
                    self._db.execute(f"ALTER TABLE events ADD COLUMN {name} {declared}")
        self.transaction = self._file.transaction
        """Hold the log's write lock, across processes; everything inside is kept or nothing is."""

    def append(self, events: Sequence[Event]) -> int:
        """Append events not seen before (by event_id), all or none; answers how many were new.

        Raises InvalidEvent where one cannot be a feature later: the log keeps nothing that a push would choke on.
        """
        for event in events:
            _check(event)
        with self.transaction():
            return self._insert(events)

    def _insert(self, events: Sequence[Event]) -> int:
        with self._guard():
            before = self._db.total_changes
            self._db.executemany(
                f"INSERT INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING",
                [
                    (e.event_id, e.user_id, e.item_id, e.kind, e.value, e.timestamp, e.session_id, e.place, e.price)
                    for e in events
                ],
            )
            return self._db.total_changes - before

    def of_user(self, user_id: str) -> list[Event]:
        return self.of_users([user_id]).get(user_id, [])

    def of_users(self, user_ids: Sequence[str]) -> dict[str, list[Event]]:
        """Events by user, in order of arrival; users without events are left out."""
        found: dict[str, list[Event]] = {}
        for start in range(0, len(user_ids), _MANY):
            some = list(user_ids[start : start + _MANY])
            marks = ",".join("?" * len(some))
            with self._guard():
                rows = self._db.execute(
                    f"SELECT {_COLUMNS} FROM events WHERE user_id IN ({marks}) ORDER BY seq", some
                ).fetchall()
            for row in rows:
                found.setdefault(row[1], []).append(Event(*row))
        return found

    def unpushed_users(self) -> list[str]:
        """Users with events the online store has not seen: a crash or an outage fell between append and push."""
        with self._guard():
            rows = self._db.execute("SELECT DISTINCT user_id FROM events WHERE pushed = 0 ORDER BY user_id").fetchall()
        return [row[0] for row in rows]

    def mark_pushed(self, user_ids: Sequence[str]) -> None:
        """All events of these users so far are in the online store."""
        for start in range(0, len(user_ids), _MANY):
            some = list(user_ids[start : start + _MANY])
            marks = ",".join("?" * len(some))
            with self._guard():
                self._db.execute(f"UPDATE events SET pushed = 1 WHERE pushed = 0 AND user_id IN ({marks})", some)

    def mark_all_unpushed(self) -> None:
        """The online store was written anew, without these events: the next push brings all of them."""
        with self.transaction(), self._guard():
            self._db.execute("UPDATE events SET pushed = 0 WHERE pushed = 1")

    def frame(self) -> pl.DataFrame:
        """All events as an interactions table: what training adds to the ingested ones."""
        with self._guard():
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM events ORDER BY seq").fetchall()
        schema = {
            "event_id": pl.String,
            "user_id": pl.String,
            "item_id": pl.String,
            "event": pl.String,
            "value": pl.Float64,
            "time": pl.Int64,
            "session_id": pl.String,
            "place": pl.String,
            "price": pl.Float64,
        }
        frame = pl.DataFrame(rows, schema=schema, orient="row")
        return frame.with_columns(
            timestamp=pl.from_epoch("time", time_unit="s").dt.cast_time_unit("us").dt.replace_time_zone("UTC")
        ).drop("time", "event_id")

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class Recorded:
    """``new`` events were appended; ``outage`` is empty, or why the online store does not show them yet."""

    new: int
    outage: str


class Recorder:
    """Writes events down and lets the next request of their users see them."""

    def __init__(self, log: SqliteEventLog, store: OnlineStore, base: Mapping[str, History]) -> None:
        """``base``: the materialized histories, before any logged event; users outside it start empty."""
        self._log = log
        self._store = store
        self._base = base

    def record(self, events: Sequence[Event]) -> Recorded:
        """Append, then push. Raises StoreUnavailable where the append failed: nothing was recorded then.

        Where only the push failed the events are kept, and pushed with the next record or at the next start.
        """
        new = self._log.append(events)
        try:
            self.push_pending()
        except StoreUnavailable as error:
            return Recorded(new, str(error))
        return Recorded(new, "")

    def push_pending(self) -> int:
        """Push the users whose events the online store lacks; answers how many.

        The log stays locked meanwhile, so that of two processes writing one user's events the later push holds both.
        """
        with self._log.transaction():
            users = self._log.unpushed_users()
            if users:
                logged = self._log.of_users(users)
                self._store.push(
                    {user: self._base.get(user, History.empty()).append(history_of(logged[user])) for user in users}
                )
                self._log.mark_pushed(users)
        return len(users)


def _check(event: Event) -> None:
    for name in ("event_id", "user_id", "item_id", "session_id"):
        if not getattr(event, name):
            raise InvalidEvent(f"event {event.event_id!r} of user {event.user_id!r} has no {name}; give it one")
    if event.kind not in EVENT_KINDS:
        raise InvalidEvent(f"event {event.event_id!r} has kind {event.kind!r}; use one of {', '.join(EVENT_KINDS)}")
    if not math.isfinite(event.value):
        raise InvalidEvent(f"event {event.event_id!r} has value {event.value!r}; give a finite number, such as 1")
    if not (math.isfinite(event.price) and event.price >= 0):
        raise InvalidEvent(f"event {event.event_id!r} has price {event.price!r}; give a finite one of 0 or more")
    if not 0 <= event.timestamp <= _LAST_TIME:
        raise InvalidEvent(f"event {event.event_id!r} has timestamp {event.timestamp}; give seconds since 1970")


def session_keys(session_ids: Sequence[str]) -> KeyArray:
    """64-bit keys of session ids within one user."""
    digest = b"".join(blake2b(session.encode(), digest_size=8).digest() for session in session_ids)
    return np.frombuffer(digest, "<i8").astype(np.int64)


def history_of(events: Sequence[Event]) -> History:
    """One user's events as arrays, in the order a History keeps."""
    if not events:
        return History.empty()
    return History.empty().append(
        History(
            item_keys([event.item_id for event in events]),
            np.array([event.timestamp for event in events], np.int64),
            session_keys([event.session_id for event in events]),
            np.array([EVENT_KINDS.index(event.kind) for event in events], np.uint8),
            np.array([event.value for event in events], np.float32),
            place_keys([event.place for event in events]),
            np.array([event.price or math.nan for event in events], np.float32),
        )
    )


def day_session(user_id: str, timestamp: int) -> str:
    """The session of an event that names none: the user's day, UTC."""
    return f"{user_id}|{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d}"
