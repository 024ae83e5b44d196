"""A request's time: how much the caller left, where it went, and which stages fell back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from serving.errors import DeadlineExceeded
from serving.messages import Degradation, Header, Stage, Usage


class Spans(Protocol):
    """Traces stages beside timing them (`serving.gateway.tracing.Tracing`)."""

    def stage(self, name: str) -> AbstractContextManager[None]: ...


class RequestClock:
    """Counts from arrival. One per request, handed down the pipeline. ``spans`` None traces nothing."""

    def __init__(self, deadline_ms: int, spans: Spans | None = None) -> None:
        self._spans = spans
        self._arrival = time.perf_counter()
        self._deadline = self._arrival + deadline_ms / 1e3
        self._stages: list[Stage] = []
        self._degraded: list[Degradation] = []

    @property
    def remaining_s(self) -> float:
        """Seconds left to the caller's deadline; negative once it has passed."""
        return self._deadline - time.perf_counter()

    def check(self, stage: str) -> None:
        """Raises DeadlineExceeded where no time is left to start ``stage``."""
        if self.remaining_s <= 0:
            raise DeadlineExceeded(
                f"the deadline of {(self._deadline - self._arrival) * 1e3:.0f} ms passed before {stage}; "
                "allow more time or ask for less"
            )

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; a stage that runs twice is listed twice."""
        started = time.perf_counter()
        try:
            with self._spans.stage(name) if self._spans is not None else nullcontext():
                yield
        finally:
            self._stages.append(Stage(name, (time.perf_counter() - started) * 1e3))

    def degrade(self, stage: str, cause: str) -> None:
        """Note that a stage was answered by its fallback."""
        self._degraded.append(Degradation(stage, cause))

    def header(self, request_id: str, release: str, usage: Usage | None = None) -> Header:
        """What the reply carries of this request; adds the total as the last stage."""
        total = Stage("total", (time.perf_counter() - self._arrival) * 1e3)
        return Header(request_id, release, (*self._stages, total), tuple(self._degraded), usage or Usage())
