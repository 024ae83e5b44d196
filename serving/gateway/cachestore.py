"""Where cached answers are kept for all replicas: the port of a store, what it holds, and the embedded one (SQLite)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from features.errors import StoreUnavailable
from features.sqlitefile import SqliteFile
from models.ports import LLMResult, Token
from serving.gateway.observe import give_way

_ROW_BYTES: Final = 256
"""What keys, columns and index entries of a row take beside its answer and vector, about."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One cached answer.

    ``group``: hash of scope, model and partition, within which a near question may be given it; "" for none.
    ``vector``: float32 [dimension] of norm 1, or None. ``expires``: seconds since 1970.
    """

    key: str
    release: str
    model: str
    result: LLMResult
    expires: float
    group: str = ""
    vector: npt.NDArray[np.float32] | None = None

    @property
    def size(self) -> int:
        """Bytes it is counted with, in memory and in a store."""
        tokens = sum(len(token.text) + 48 for token in self.result.tokens)
        return _ROW_BYTES + 4 * len(self.result.text) + tokens + (0 if self.vector is None else self.vector.nbytes)


class CacheStore(Protocol):
    """Answers by key, shared by replicas, bounded. Raises StoreUnavailable, and ValueError for a row it cannot read."""

    async def get(self, key: str) -> Row | None:
        """None where there is no such row; an expired one may still be told."""
        ...

    async def put(self, rows: Sequence[Row], now: float) -> None:
        """Keep the rows; expired ones go, then the oldest while bounds are passed."""
        ...

    async def learn(self) -> None:
        """Take notice of what other processes put; until then ``get`` may not find it."""
        ...

    async def meanings(self, after: int, most: int) -> tuple[list[Row], int]:
        """Rows with a vector that came after number ``after``, oldest first, at most the ``most`` newest of them; and
        the number to ask from next time."""
        ...

    async def purge(self, release: str, now: float) -> None:
        """Forget what expired and what other releases answered."""
        ...

    async def aclose(self) -> None: ...


def result_json(result: LLMResult) -> str:
    """A result as text; `read_result` gives an equal one."""
    tokens = [[token.text, token.logprob] for token in result.tokens]
    return json.dumps([result.text, result.prompt_tokens, result.completion_tokens, tokens], ensure_ascii=False)


def read_result(text: str | bytes) -> LLMResult:
    """What `result_json` wrote: a complete answer. Raises ValueError for anything else."""
    try:
        answer, prompt, completion, tokens = json.loads(text)
        return LLMResult(
            str(answer), "stop", int(prompt), int(completion), tuple(Token(str(t), float(p)) for t, p in tokens)
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"a cached answer cannot be read ({error}); it is asked again") from None


_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS answers (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    release TEXT NOT NULL,
    model TEXT NOT NULL,
    meaning TEXT NOT NULL,
    result TEXT NOT NULL,
    vector BLOB,
    expires REAL NOT NULL,
    size INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS answers_by_expiry ON answers (expires);
CREATE INDEX IF NOT EXISTS answers_with_meaning ON answers (seq) WHERE meaning != '';
CREATE TABLE IF NOT EXISTS totals (entries INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO totals SELECT 0, 0 WHERE NOT EXISTS (SELECT * FROM totals);
CREATE TRIGGER IF NOT EXISTS count_in AFTER INSERT ON answers BEGIN
    UPDATE totals SET entries = entries + 1, bytes = bytes + NEW.size;
END;
CREATE TRIGGER IF NOT EXISTS count_out AFTER DELETE ON answers BEGIN
    UPDATE totals SET entries = entries - 1, bytes = bytes - OLD.size;
END;
"""
_COLUMNS: Final = "key, release, model, meaning, result, vector, expires"
_KEYS: Final = "SELECT key, seq FROM answers WHERE seq > ? ORDER BY seq LIMIT ?"
_AT_ONCE: Final = 200
_OLDEST: Final = "DELETE FROM answers WHERE seq IN (SELECT seq FROM answers ORDER BY seq LIMIT ?)"


class SqliteStore:
    """One file, for all replicas of a machine.

    Reads are done where they are called (some 20 microseconds, and a writer never makes them wait: WAL); writes in a
    thread of their own. What keys there are is remembered, for most are not there: a read lets go of the interpreter,
    and the event loop would wait for its turn among the threads. A power cut may cost the newest answers, never the
    file.
    """

    def __init__(self, path: Path, entries: int, size: int) -> None:
        """``size``: bytes. Raises StoreUnavailable."""
        self._entries, self._bytes = entries, size
        self._writer = SqliteFile(path, _SCHEMA, "cache of answers")
        self._reader = SqliteFile(path, "", "cache of answers")
        with self._writer.guard():
            self._writer.db.execute("PRAGMA synchronous=NORMAL")  # a lost answer is asked again
            self._reader.db.execute("PRAGMA busy_timeout=50")  # milliseconds; a reader holds up its caller's event loop
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cache")
        self._known: set[int] = set()
        self._known_to = 0

    async def get(self, key: str) -> Row | None:
        """See CacheStore."""
        if _mark(key) not in self._known:
            return None
        with self._reader.guard():
            found = self._reader.db.execute(f"SELECT {_COLUMNS} FROM answers WHERE key = ?", (key,)).fetchone()
        return None if found is None else _row(found)

    async def put(self, rows: Sequence[Row], now: float) -> None:
        """See CacheStore."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._put, list(rows), now)

    async def learn(self) -> None:
        """See CacheStore."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._learn)

    async def meanings(self, after: int, most: int) -> tuple[list[Row], int]:
        """See CacheStore."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._meanings, after, most)

    async def purge(self, release: str, now: float) -> None:
        """See CacheStore."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._purge, release, now)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)
        self._reader.close()
        self._writer.close()

    def totals(self) -> tuple[int, int]:
        """Rows and bytes the file is counted to hold."""
        with self._reader.guard():
            entries, size = self._reader.db.execute("SELECT entries, bytes FROM totals").fetchone()
        return int(entries), int(size)

    def _put(self, rows: list[Row], now: float) -> None:
        db = self._writer.db
        with self._writer.transaction(), self._writer.guard():
            db.executemany("DELETE FROM answers WHERE key = ?", [(row.key,) for row in rows])
            db.executemany(
                f"INSERT OR IGNORE INTO answers ({_COLUMNS}, size) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [_values(row) for row in rows],
            )
            self._known.update(_mark(row.key) for row in rows)
            db.execute("DELETE FROM answers WHERE expires <= ?", (now,))
            while True:
                entries, size = db.execute("SELECT entries, bytes FROM totals").fetchone()
                if entries <= self._entries and size <= self._bytes:
                    return
                # So many of average size; the next round looks again.
                surplus = (size - self._bytes) * entries // max(1, size)
                db.execute(_OLDEST, (max(1, entries - self._entries, surplus),))

    def _learn(self) -> None:
        """All keys that came since the last time; of all of them again where many may have gone."""
        again = len(self._known) > 2 * self._entries
        known, known_to = (set[int](), 0) if again else (self._known, self._known_to)
        with self._writer.guard():
            while rows := self._writer.db.execute(_KEYS, (known_to, _AT_ONCE)).fetchall():
                known.update(_mark(key) for key, _ in rows)
                known_to = rows[-1][1]
                give_way()
        self._known, self._known_to = known, known_to

    def _meanings(self, after: int, most: int) -> tuple[list[Row], int]:
        with self._writer.guard():
            found = self._writer.db.execute(
                f"SELECT {_COLUMNS}, seq FROM answers WHERE meaning != '' AND seq > ? ORDER BY seq DESC LIMIT ?",
                (after, most),
            ).fetchall()
        return [_row(each[:-1]) for each in reversed(found)], max((int(each[-1]) for each in found), default=after)

    def _purge(self, release: str, now: float) -> None:
        with self._writer.transaction(), self._writer.guard():
            self._writer.db.execute("DELETE FROM answers WHERE release != ? OR expires <= ?", (release, now))


def _mark(key: str) -> int:
    """Enough of a key to tell that it is not there."""
    return int(key[:15], 16)


def _values(row: Row) -> tuple[object, ...]:
    vector = None if row.vector is None else row.vector.astype(np.float32).tobytes()
    return (row.key, row.release, row.model, row.group, result_json(row.result), vector, row.expires, row.size)


def _row(found: Sequence[object]) -> Row:
    key, release, model, group, result, vector, expires = found
    if not isinstance(expires, float) or not isinstance(vector, bytes | None):
        raise ValueError("a row of the cache holds other types than were written; it is asked again")
    return Row(
        str(key),
        str(release),
        str(model),
        read_result(str(result)),
        expires,
        str(group),
        None if vector is None else np.frombuffer(vector, np.float32),
    )


__all__ = ["CacheStore", "Row", "SqliteStore", "StoreUnavailable", "read_result", "result_json"]
