"""Many observers as one, and the thread that does their slow work: none of it can fail or hold up a request."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Final, Generic, Protocol, TypeVar

from models.ports import LLMRequest
from serving.gateway.ports import Ask, Attempt, BreakerState, Outcome, Redacted, Redactor

_log = logging.getLogger("tandem.observe")
T = TypeVar("T")
_ID: Final = 256
"""Characters of an id that are kept."""
_IDS: Final = 4_096
"""Ids whose look-through is remembered: a tenant's comes with each of its asks, a request's several times."""
_WAY_S: Final = 1e-4


class Part:
    """An observer that takes no notice; the parts of `Observers` override what concerns them."""

    def asked(self, ask: Ask) -> None:
        """An ask has come in; the first call about it."""

    def rendered(self, ask: Ask, target: str, sent: LLMRequest) -> None:
        """See `serving.gateway.ports.Observer`, also for the other methods."""

    def attempted(self, ask: Ask, attempt: Attempt) -> None: ...

    def ended(self, ask: Ask, outcome: Outcome) -> None: ...

    def breaker(self, target: str, state: BreakerState) -> None: ...

    def queued(self, target: str, running: int) -> None: ...

    def judged(self, request_id: str, task: str, prompt: str, verdicts: Sequence[str]) -> None:
        """What guardrail and graph made of an answer: a verdict (accept, review, reject, abstain) for each proposal."""


def safe_id(redactor: Redactor, text: str) -> str:
    """An id for logs, traces and the context store: as it is, or a hash of it where it holds personal data.

    A placeholder in its place would make the requests of many people one.
    """
    return _safe_id(redactor.redact, text) if text else text


@lru_cache(_IDS)
def _safe_id(redact: Callable[[str], Redacted], text: str) -> str:
    if not redact(text).found:
        return text[:_ID]
    return f"id-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


class Failures(Protocol):
    """Counts what an observer lost: an exception of its own (``failed``) or work there was no room for."""

    def failed(self, part: str) -> None: ...

    def dropped(self, part: str, how_many: int) -> None: ...


class Observers(Part):
    """Tells every part in turn. A part that raises is counted and logged once; the others are told all the same."""

    def __init__(self, parts: Sequence[Part], failures: Failures | None = None) -> None:
        self._failures = failures
        self._logged: set[str] = set()
        self._asked = [part.asked for part in parts if type(part).asked is not Part.asked]
        self._rendered = [part.rendered for part in parts if type(part).rendered is not Part.rendered]
        self._attempted = [part.attempted for part in parts if type(part).attempted is not Part.attempted]
        self._ended = [part.ended for part in parts if type(part).ended is not Part.ended]
        self._breaker = [part.breaker for part in parts if type(part).breaker is not Part.breaker]
        self._queued = [part.queued for part in parts if type(part).queued is not Part.queued]
        self._judged = [part.judged for part in parts if type(part).judged is not Part.judged]

    def asked(self, ask: Ask) -> None:
        self._tell(self._asked, ask)

    def rendered(self, ask: Ask, target: str, sent: LLMRequest) -> None:
        self._tell(self._rendered, ask, target, sent)

    def attempted(self, ask: Ask, attempt: Attempt) -> None:
        self._tell(self._attempted, ask, attempt)

    def ended(self, ask: Ask, outcome: Outcome) -> None:
        self._tell(self._ended, ask, outcome)

    def breaker(self, target: str, state: BreakerState) -> None:
        self._tell(self._breaker, target, state)

    def queued(self, target: str, running: int) -> None:
        self._tell(self._queued, target, running)

    def judged(self, request_id: str, task: str, prompt: str, verdicts: Sequence[str]) -> None:
        self._tell(self._judged, request_id, task, prompt, verdicts)

    def _tell(self, parts: Sequence[Callable[..., None]], *what: object) -> None:
        for tell in parts:
            try:
                tell(*what)
            except Exception as error:
                self._failed(type(getattr(tell, "__self__", tell)).__name__, error)

    def _failed(self, part: str, error: Exception) -> None:
        if self._failures is not None:
            self._failures.failed(part)
        if part not in self._logged:
            self._logged.add(part)
            # Only the class: an exception's text may quote the request.
            _log.error("observer %s failed with %s; counted from now on, not logged again", part, type(error).__name__)


def give_way() -> None:
    """Between two pieces of a drain's work, a tenth of a millisecond of Python each: let the event loop in.

    Only a real sleep does. A thread that lets go of the interpreter and wants it back at once gets it before the other
    is awake, and the loop would wait for the switch interval, 5 ms.
    """
    time.sleep(_WAY_S)


class Drain(Generic[T]):
    """A bounded queue and the thread that empties it, in batches, a few times a second.

    ``put`` costs a deque's append: nothing is woken, so the event loop keeps the interpreter. What finds the queue full
    is dropped and counted. What was put in the last ``interval_s`` before a kill -9 is lost; ``close`` loses nothing.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[list[T]], None],
        most: int,
        failures: Failures | None = None,
        interval_s: float = 0.2,
    ) -> None:
        self._name, self._handle, self._most, self._failures = name, handle, most, failures
        self._interval_s = interval_s
        self._items: deque[T] = deque()
        self._handling = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"drain-{name}", daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        if len(self._items) >= self._most or self._ending.is_set():
            if self._failures is not None:
                self._failures.dropped(self._name, 1)
            return
        self._items.append(item)

    def flush(self) -> None:
        """Handle, in this thread, what was put so far."""
        with self._handling:
            batch = [self._items.popleft() for _ in range(len(self._items))]
            if not batch:
                return
            with self._counted(len(batch)):
                self._handle(batch)

    def close(self) -> None:
        """Handle the rest and end the thread."""
        self._ending.set()
        self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._ending.wait(self._interval_s):
            self.flush()

    @contextmanager
    def _counted(self, size: int) -> Iterator[None]:
        """A batch that cannot be handled (a full disk) is lost and counted; the thread lives on."""
        try:
            yield
        except Exception as error:
            _log.error("%s lost %d entries: %s: %s", self._name, size, type(error).__name__, error)
            if self._failures is not None:
                self._failures.dropped(self._name, size)
