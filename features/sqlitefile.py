"""One SQLite file as a log: durable, and safe for several threads and processes on one machine."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.errors import StoreUnavailable

_PATIENCE_S = 10
"""How long one process waits for another's transaction."""


class SqliteFile:
    """A connection with ``synchronous=FULL``: when a transaction's end returns, what it wrote survives a power cut.

    ``what`` names the file in errors. Raises StoreUnavailable where it cannot be read or written.
    """

    def __init__(self, path: Path, schema: str, what: str) -> None:
        self._path = path
        self._what = what
        # The connection has one transaction: threads take turns as processes do.
        self._turn = threading.RLock()
        with self.guard():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.db = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False)
            self._use_wal()
            self.db.execute("PRAGMA synchronous=FULL")
            self.db.executescript(schema)

    def _use_wal(self) -> None:
        """SQLite does not wait where several processes make a new file's journal at once: all but one would fail."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self.db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Translate what SQLite raises."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(
                f"the {self._what} {self._path} cannot be used ({error}); check the disk and the folder's permissions"
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the file's write lock, across processes; everything inside is kept or nothing is."""
        with self._turn:
            with self.guard():
                self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                with self.guard():
                    self.db.execute("COMMIT")
            finally:
                # Also after a COMMIT that failed: an open transaction would refuse every later one.
                if self.db.in_transaction:
                    with self.guard():
                        self.db.execute("ROLLBACK")

    def close(self) -> None:
        self.db.close()
