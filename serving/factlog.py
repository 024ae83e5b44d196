"""What services assert of the world, written down: an append-only log that a start reads from its beginning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from features.sqlitefile import SqliteFile
from graph.ports import Fact

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    predicate TEXT NOT NULL,
    args TEXT NOT NULL,
    source TEXT NOT NULL,
    probability REAL,
    retracted INTEGER NOT NULL,
    time REAL NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Told:
    """One word of one source on one fact: asserted (a prediction with its ``probability``) or taken back."""

    fact: Fact
    source: str
    probability: float | None = None
    retracted: bool = False


@dataclass(frozen=True, slots=True)
class LoggedFact:
    """What was told, its number in the log and when, in seconds since 1970 by the wall."""

    seq: int
    told: Told
    time: float


class SqliteFactLog:
    """The log in one SQLite file, safe for several threads and processes on one machine.

    What ``append`` returned for is on disk. Raises StoreUnavailable where the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, _SCHEMA, "log of asserted facts")

    def append(self, told: Sequence[Told], time: float) -> int:
        """Append all of it or none, as told at ``time``; answers the number of the first entry."""
        first = 0
        with self._file.transaction(), self._file.guard():
            for each in told:
                row = (each.fact.predicate, json.dumps(each.fact.args), each.source, each.probability, each.retracted)
                cursor = self._file.db.execute(
                    "INSERT INTO facts (predicate, args, source, probability, retracted, time) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (*row, time),
                )
                first = first or int(cursor.lastrowid or 0)
        return first

    def newest(self) -> int:
        """The number of the newest entry, 0 for an empty log; microseconds, so it can be asked often."""
        with self._file.guard():
            return int(self._file.db.execute("SELECT coalesce(max(seq), 0) FROM facts").fetchone()[0])

    def after(self, seq: int) -> list[LoggedFact]:
        """Every entry after number ``seq``, in order."""
        with self._file.guard():
            rows = self._file.db.execute(
                "SELECT seq, predicate, args, source, probability, retracted, time FROM facts WHERE seq > ? "
                "ORDER BY seq",
                (seq,),
            ).fetchall()
        return [
            LoggedFact(number, Told(Fact(predicate, tuple(json.loads(args))), source, probability, bool(retracted)), at)
            for number, predicate, args, source, probability, retracted, at in rows
        ]

    def close(self) -> None:
        self._file.close()
