"""One line of JSON per ask: who asked what of whom, at what cost. No text of prompts or answers, no key, no user."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

from serving.gateway.observe import Drain, Failures, Part, give_way, safe_id
from serving.gateway.ports import Ask, Attempt, Outcome, Redactor
from serving.messages import Usage

_MOST: Final = 20_000
"""Lines waiting for the disk; at about a kilobyte each."""
_ASKS: Final = 4_096


class AskLog(Part):
    """Writes to ``sink`` in a thread of its own. Ids are callers' texts: see `safe_id`."""

    def __init__(
        self,
        sink: Callable[[str], None],
        redactor: Redactor,
        clock: Callable[[], float] = time.time,
        failures: Failures | None = None,
    ) -> None:
        self._sink, self._redactor, self._clock = sink, redactor, clock
        self._calls: dict[Ask, list[Attempt]] = {}
        self._drain: Drain[tuple[float, Ask, Outcome, list[Attempt]]] = Drain("log", self._write, _MOST, failures)

    def attempted(self, ask: Ask, attempt: Attempt) -> None:
        if not attempt.shadow and (ask in self._calls or len(self._calls) < _ASKS):
            self._calls.setdefault(ask, []).append(attempt)

    def ended(self, ask: Ask, outcome: Outcome) -> None:
        self._drain.put((self._clock(), ask, outcome, self._calls.pop(ask, [])))

    def flush(self) -> None:
        self._drain.flush()

    def close(self) -> None:
        self._drain.close()

    def _write(self, batch: list[tuple[float, Ask, Outcome, list[Attempt]]]) -> None:
        for at, ask, outcome, calls in batch:
            give_way()
            self._sink(json.dumps(self._line(at, ask, outcome, calls), ensure_ascii=False))

    def _line(self, at: float, ask: Ask, outcome: Outcome, calls: list[Attempt]) -> dict[str, Any]:
        last, answer = calls[-1] if calls else None, outcome.answer
        usage = answer.usage if answer is not None else _spent(calls)
        return {
            "time": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
            "request_id": safe_id(self._redactor, ask.request_id),
            "task": ask.task,
            "tenant": safe_id(self._redactor, ask.tenant),
            "job": safe_id(self._redactor, ask.job),
            "prompt": ask.prompt,
            "target": answer.target if answer is not None else last.target if last is not None else "",
            "model": usage.model,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cost": usage.cost,
            "cache": answer.cache if answer is not None else "",
            "attempts": outcome.attempts,
            "repaired": answer.repaired if answer is not None else False,
            "problem": last.problem if last is not None else "",
            "error": outcome.error,
            "ms": round(outcome.seconds * 1e3, 3),
        }


def _spent(calls: list[Attempt]) -> Usage:
    """What an ask without an answer cost."""
    return Usage(
        sum(call.prompt_tokens for call in calls),
        sum(call.completion_tokens for call in calls),
        sum(call.cost for call in calls),
        model=calls[-1].model if calls else "",
    )


class LogFile:
    """Lines in a file of bounded size: full, it is moved to ``.1`` and so on, and the oldest goes. Raises OSError."""

    def __init__(self, path: Path, most_bytes: int, files: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._handler = _Rotating(path, maxBytes=most_bytes, backupCount=files, encoding="utf-8")

    def __call__(self, line: str) -> None:
        self._handler.emit(logging.LogRecord("tandem.llm", logging.INFO, "", 0, line, None, None))

    def close(self) -> None:
        self._handler.close()


class _Rotating(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's
        """Let the writer know: logging's own way is a trace on standard error."""
        raise
