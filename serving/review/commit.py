"""Group commit: callers wait in line until what they gave is written, what several gave meanwhile at once."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

_log = logging.getLogger(__name__)
Value = TypeVar("Value")
_TOGETHER: Final = 256
_SYNC_S: Final = 1.0
"""How long what is written may wait for the disk itself."""


class GroupCommit(Generic[Value]):
    """One thread that writes what others give it, in order, and one that brings it to the disk behind them.

    ``write`` is given some callers' values and raises where none of them is kept; ``sync`` follows ``sync_s`` seconds
    later and keeps nobody waiting. At most ``most`` calls wait. The threads start with the first call and end with
    ``close``.
    """

    def __init__(
        self, write: Callable[[Sequence[Value]], object], sync: Callable[[], None], most: int, sync_s: float = _SYNC_S
    ) -> None:
        self._write = write
        self._sync = sync
        self._sync_s = sync_s
        self._waiting: queue.Queue[tuple[Sequence[Value], Future[None]] | None] = queue.Queue(most)
        self._starting = threading.Lock()
        self._threads: tuple[threading.Thread, threading.Thread] | None = None
        self._unsynced, self._closed = threading.Event(), threading.Event()

    def put(self, values: Sequence[Value]) -> Future[None]:
        """Done once the values are written. Raises queue.Full where too many calls wait, RuntimeError once closed."""
        with self._starting:
            self._start()
            done: Future[None] = Future()
            self._waiting.put_nowait((values, done))
        return done

    def follow(self) -> None:
        """Have ``sync`` follow what the caller wrote itself."""
        if not self._unsynced.is_set():
            with self._starting:
                self._start()
            self._unsynced.set()

    def _start(self) -> None:
        if self._closed.is_set():
            raise RuntimeError("nothing is written any more: this writer was closed")
        if self._threads is None:
            self._threads = (
                threading.Thread(target=self._run, name="review", daemon=True),
                threading.Thread(target=self._follow, name="review-disk", daemon=True),
            )
            for thread in self._threads:
                thread.start()

    def close(self) -> None:
        """Write what waits and bring it to the disk, then end."""
        with self._starting:
            if self._closed.is_set():
                return
            self._closed.set()
        if self._threads is not None:
            writing, following = self._threads
            self._waiting.put(None)
            writing.join()
            self._unsynced.set()
            following.join()

    def _run(self) -> None:
        ends = False
        while not ends:
            calls = [self._waiting.get()]
            while len(calls) < _TOGETHER and not self._waiting.empty():
                calls.append(self._waiting.get_nowait())
            ends = None in calls
            self._commit([call for call in calls if call is not None])
            self._unsynced.set()

    def _commit(self, calls: Sequence[tuple[Sequence[Value], Future[None]]]) -> None:
        if not calls:
            return
        try:
            self._write([value for values, _ in calls for value in values])
        except Exception as error:
            for _, done in calls:
                done.set_exception(error)
        else:
            for _, done in calls:
                done.set_result(None)

    def _follow(self) -> None:
        while True:
            self._unsynced.wait()
            ends = self._closed.wait(self._sync_s) and not self._writes()
            self._unsynced.clear()
            try:
                self._sync()
            except Exception as error:
                _log.error("what was put up for review may not be on the disk yet: %s", error, exc_info=error)
            if ends:
                return

    def _writes(self) -> bool:
        return self._threads is not None and self._threads[0].is_alive()
