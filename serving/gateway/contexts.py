"""The context store: what an LLM was told for a request and what it answered, without personal data, for a while."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from features.sqlitefile import SqliteFile
from models.ports import LLMRequest
from serving.gateway.observe import Drain, Failures, Part, give_way, safe_id
from serving.gateway.ports import Ask, Outcome, Redactor
from serving.gateway.privacy import redact_of

_SCHEMA = """
CREATE TABLE IF NOT EXISTS contexts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id TEXT NOT NULL,
    time REAL NOT NULL,
    task TEXT NOT NULL,
    tenant TEXT NOT NULL,
    prompt TEXT NOT NULL,
    target TEXT NOT NULL,
    system TEXT NOT NULL,
    user TEXT NOT NULL,
    parameters TEXT NOT NULL,
    answer TEXT,
    model TEXT NOT NULL DEFAULT '',
    cache TEXT NOT NULL DEFAULT '',
    error TEXT NOT NULL DEFAULT '',
    verdicts TEXT NOT NULL DEFAULT '[]'
);
CREATE INDEX IF NOT EXISTS by_request ON contexts (request_id);
CREATE INDEX IF NOT EXISTS by_time ON contexts (time);
"""
_SWEEP: Final = 500
"""Rows written between two looks at what is too old or too many."""
_AT_ONCE: Final = 50
"""Entries of one transaction: other replicas wait for it."""
_TEXTS: Final = 1_000
"""Redacted texts remembered: system texts, and what the cache answers again and again."""
_WHAT: Final = "context store"


class ContextConfig(BaseModel):
    """How long contexts are kept, and how many."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = True
    """False keeps none."""
    days: float = Field(default=7.0, gt=0)
    """Days after which a context is deleted."""
    most: int = Field(default=50_000, ge=1)
    """Contexts kept; the oldest make room, at least once in 500 written. About 3 kB each."""
    queue: int = Field(default=2_000, ge=1)
    """Contexts that may wait for the disk; what comes then is dropped and counted (tandem_observer_dropped_total)."""


@dataclass(frozen=True, slots=True)
class Context:
    """One call of an LLM, texts redacted. ``time``: seconds since 1970. ``parameters``: max_tokens, temperature, seed
    and JSON schema. ``answer`` None: there was none. ``verdicts``: what was made of it, in the reply's order."""

    request_id: str
    time: float
    task: str
    tenant: str
    prompt: str
    target: str
    system: str
    user: str
    parameters: dict[str, Any]
    answer: str | None
    model: str
    cache: str
    error: str
    verdicts: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Rendered:
    time: float
    ask: Ask
    target: str
    sent: LLMRequest


@dataclass(frozen=True, slots=True, eq=False)
class _Ended:
    time: float
    ask: Ask
    outcome: Outcome


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    request_id: str
    task: str
    verdicts: tuple[str, ...]


class ContextStore(Part):
    """One SQLite file, shared by the replicas of a machine. Redacting and writing happen in a thread of its own.

    Asks without a request id are not kept: nobody could ask for them. ``clock``: seconds since 1970. Raises
    StoreUnavailable where the file cannot be made.
    """

    def __init__(
        self,
        path: Path,
        config: ContextConfig,
        redactor: Redactor,
        clock: Callable[[], float] = time.time,
        failures: Failures | None = None,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._file = SqliteFile(path, _SCHEMA, _WHAT)
        # A diagnosis may lose its last rows in a power cut; the disk is not to be kept busy for it.
        self._file.db.execute("PRAGMA synchronous=NORMAL")
        self._config, self._redactor, self._clock = config, redactor, clock
        self._unswept = _SWEEP
        self._clean = lru_cache(_TEXTS)(partial(redact_of, redactor))
        self._drain: Drain[_Rendered | _Ended | _Judged] = Drain("contexts", self._write, config.queue, failures)

    def rendered(self, ask: Ask, target: str, sent: LLMRequest) -> None:
        if ask.request_id:
            self._drain.put(_Rendered(self._clock(), ask, target, sent))

    def ended(self, ask: Ask, outcome: Outcome) -> None:
        if ask.request_id:
            self._drain.put(_Ended(self._clock(), ask, outcome))

    def judged(self, request_id: str, task: str, prompt: str, verdicts: Sequence[str]) -> None:  # noqa: ARG002 - a port's
        if request_id:
            self._drain.put(_Judged(request_id, task, tuple(verdicts)))

    def flush(self) -> None:
        """Write what waits."""
        self._drain.flush()

    def close(self) -> None:
        self._drain.close()
        self._file.close()

    def _write(self, batch: list[_Rendered | _Ended | _Judged]) -> None:
        for start in range(0, len(batch), _AT_ONCE):
            self._write_some(batch[start : start + _AT_ONCE])
        self._unswept += len(batch)
        if self._unswept >= _SWEEP:
            self._unswept = 0
            with self._file.transaction(), self._file.guard():
                self._sweep()

    def _write_some(self, batch: list[_Rendered | _Ended | _Judged]) -> None:
        with self._file.transaction(), self._file.guard():
            for each in batch:
                give_way()
                if isinstance(each, _Rendered):
                    self._insert(each.time, each.ask, each.target, each.sent)
                elif isinstance(each, _Ended):
                    self._end(each)
                else:
                    self._file.db.execute(
                        "UPDATE contexts SET verdicts = ? WHERE seq = "
                        "(SELECT max(seq) FROM contexts WHERE request_id = ? AND task = ?)",
                        (json.dumps(each.verdicts), safe_id(self._redactor, each.request_id), each.task),
                    )

    def _insert(self, at: float, ask: Ask, target: str, sent: LLMRequest) -> int:
        parameters = {
            "max_tokens": sent.max_tokens,
            "temperature": sent.temperature,
            "seed": sent.seed,
            "json_schema": sent.json_schema,
        }
        cursor = self._file.db.execute(
            "INSERT INTO contexts (request_id, time, task, tenant, prompt, target, system, user, parameters) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                safe_id(self._redactor, ask.request_id),
                at,
                ask.task,
                safe_id(self._redactor, ask.tenant),
                ask.prompt,
                target,
                self._clean(ask.personal, sent.system),
                self._clean(ask.personal, sent.user),
                json.dumps(parameters),
            ),
        )
        return int(cursor.lastrowid or 0)

    def _end(self, each: _Ended) -> None:
        """The answer belongs to the last call made for the ask; a cached one had none, so it gets a row of its own."""
        answer, ask = each.outcome.answer, each.ask
        if answer is not None and answer.cache:
            row: int | None = self._insert(each.time, ask, answer.target, ask.request)
        else:
            row = self._file.db.execute(
                "SELECT max(seq) FROM contexts WHERE request_id = ? AND task = ?",
                (safe_id(self._redactor, ask.request_id), ask.task),
            ).fetchone()[0]
        if row is None:
            return
        self._file.db.execute(
            "UPDATE contexts SET answer = ?, model = ?, cache = ?, error = ? WHERE seq = ?",
            (
                self._clean(each.ask.personal, answer.result.text) if answer is not None else None,
                answer.usage.model if answer is not None else "",
                answer.cache if answer is not None else "",
                each.outcome.error,
                row,
            ),
        )

    def _sweep(self) -> None:
        self._file.db.execute("DELETE FROM contexts WHERE time < ?", (self._clock() - self._config.days * 86_400,))
        self._file.db.execute(
            "DELETE FROM contexts WHERE seq <= (SELECT seq FROM contexts ORDER BY seq DESC LIMIT 1 OFFSET ?)",
            (self._config.most,),
        )


def read_contexts(path: Path, request_id: str, redactor: Redactor) -> list[Context]:
    """The calls kept for a request, oldest first; none where none was made, or they were deleted for their age.

    ``redactor``: the store's, for an id that holds personal data is kept as a hash. Raises StoreUnavailable.
    """
    if not path.exists():
        return []
    names = [each.name for each in fields(Context)]
    file = SqliteFile(path, _SCHEMA, _WHAT)
    try:
        with file.guard():
            rows = file.db.execute(
                f"SELECT {', '.join(names)} FROM contexts WHERE request_id = ? ORDER BY seq",
                (safe_id(redactor, request_id),),
            ).fetchall()
    finally:
        file.close()
    return [_context(dict(zip(names, row))) for row in rows]


@dataclass(frozen=True, slots=True)
class Results:
    """What a prompt version was worth among the contexts kept: ``asks`` put to an engine, how many were ``answered``,
    and how often each verdict was given on what its answers proposed."""

    prompt: str
    asks: int
    answered: int
    verdicts: Mapping[str, int]


def results_by_prompt(path: Path, task: str) -> list[Results]:
    """A/B: every version of a task's prompt that was asked with, by name. Raises StoreUnavailable."""
    if not path.exists():
        return []
    file = SqliteFile(path, _SCHEMA, _WHAT)
    try:
        with file.guard():
            # Of an ask that was retried or repaired the last call is what came of it.
            asks = file.db.execute(
                "SELECT prompt, count(*), sum(answer IS NOT NULL) FROM contexts WHERE seq IN (SELECT max(seq) FROM "
                "contexts WHERE task = ? AND cache = '' GROUP BY request_id) GROUP BY prompt ORDER BY prompt",
                (task,),
            ).fetchall()
            given = file.db.execute(
                "SELECT prompt, value, count(*) FROM contexts, json_each(verdicts) WHERE task = ? GROUP BY 1, 2",
                (task,),
            ).fetchall()
    finally:
        file.close()
    verdicts: dict[str, dict[str, int]] = {}
    for prompt, verdict, count in given:
        verdicts.setdefault(prompt, {})[verdict] = count
    return [Results(prompt, count, answered, verdicts.get(prompt, {})) for prompt, count, answered in asks]


def _context(row: dict[str, Any]) -> Context:
    parameters, verdicts = json.loads(row["parameters"]), tuple(json.loads(row["verdicts"]))
    return Context(**{**row, "parameters": parameters, "verdicts": verdicts})
