"""Answers given before: for an equal question at once, for a near one where that has been shown to be safe."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import marshal
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from features.errors import StoreUnavailable
from models.ports import LLMResult
from serving.gateway.cachestore import CacheStore, Row, SqliteStore
from serving.gateway.ports import Ask, Hit, Meaning
from serving.gateway.semantic import MeaningIndex
from serving.gateway.validate import valid_under

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_MIB: Final = 2**20
_MOST_WAITING: Final = 4_096
"""Answers that may wait to be written; the next one is kept in memory only."""
_BATCH: Final = 256
_GATHER_S: Final = 0.1
"""Answers of so long are written together: a transaction of its own for each costs more than all else here."""


class CacheConfig(BaseModel):
    """How many answers are kept, where, for how long, and when one serves for a near question."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["memory", "sqlite", "redis"] = "sqlite"
    """``memory``: each replica by itself. ``sqlite``: a file shared by the replicas of a machine. ``redis``: by all."""
    redis: str = Field(default="127.0.0.1:6379", pattern=r"^[^\s:,@/]+:\d+$")
    """host:port, read for kind ``redis`` only."""
    redis_tls: bool = False
    redis_password_env: str | None = None
    """NAME of the environment variable that holds the Redis password."""
    redis_timeout_ms: int = Field(default=100, ge=1)
    """Milliseconds a connect or an answer of Redis may take; then it is left alone for ``rest_s``."""
    ttl_s: float = Field(default=7 * 86_400.0, gt=0)
    """Seconds an answer is good for."""
    entries: int = Field(default=4_096, ge=0)
    """Answers in each process's memory; 0 keeps none there."""
    mib: int = Field(default=64, ge=1)
    """MiB of those."""
    stored_entries: int = Field(default=200_000, ge=1)
    """Answers in the file or in Redis; the oldest go first."""
    stored_mib: int = Field(default=512, ge=1)
    """MiB of those, by the count of their texts, tokens and vectors."""
    semantic: bool = True
    """Whether a near question may be given another's answer."""
    threshold: float = Field(default=0.9, ge=0.5, le=1.0)
    """Cosine from which on two questions are near. Chosen by `serving.cachebench` for at most 1 % false hits."""
    agreeing: int = Field(default=2, ge=1)
    """Near questions that must have been answered, all alike, before their answer serves another. One is not safe."""
    semantic_rows: int = Field(default=16_384, ge=1)
    """Vectors in each process's memory (1.5 KiB each for 384 dimensions)."""
    scope_rows: int = Field(default=4_096, ge=1)
    """Of one scope: what a look-up compares with."""
    sync_s: float = Field(default=1.0, gt=0)
    """Seconds after which it is known here what another process of the machine has put, and what near question
    another replica was asked."""
    rest_s: float = Field(default=5.0, gt=0)
    """Seconds a store that failed is not asked again: nobody waits for one that is down."""


def open_store(config: CacheConfig, path: Path) -> CacheStore | None:
    """The store ``config`` names; ``path`` is the file of kind ``sqlite``. None for ``memory``, and, logged, where the
    file cannot be opened: a cache is no reason not to serve."""
    if config.kind == "memory":
        return None
    if config.kind == "redis":
        from serving.gateway.cachestore_redis import RedisStore

        return RedisStore.open(config)
    try:
        return SqliteStore(path, config.stored_entries, config.stored_mib * _MIB)
    except StoreUnavailable as error:
        _log.warning("answers are cached in memory only: %s", error)
        return None


class TieredCache:
    """`serving.gateway.ports.Cache`: memory, behind it a store shared by replicas, beside both the near questions.

    Keys carry the release, so another release's answers are never found. ``clock``: seconds since 1970. Belongs to the
    event loop that uses it. `start` once before use, `aclose` after.
    """

    def __init__(
        self, config: CacheConfig, release: str, store: CacheStore | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._config, self._release, self._store, self._clock = config, release, store, clock
        self._memory: OrderedDict[str, Row] = OrderedDict()
        self._bytes = 0
        self._near = MeaningIndex(config.semantic_rows, config.scope_rows)
        self._waiting: list[Row] = []
        self._gathering: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._followed_at, self._followed_to = clock(), 0
        self._asked_again_at = -float("inf")

    async def start(self) -> None:
        """Forget other releases' answers and learn the near questions other replicas were asked."""
        if self._store is not None:
            await self._try(self._store.purge(self._release, self._clock()))
            await self._follow()

    async def get(self, ask: Ask, models: Sequence[str], partition: str = "") -> Hit | None:
        """See Cache. What the ask's own check refuses today is no hit, whatever it thought when it was kept."""
        self._follow_soon()
        keys = _keys(self._release, ask, models, partition)
        for model, key in zip(models, keys):
            row = await self._row(key)
            if row is not None and _passes(ask, row.result):
                return Hit(row.result, "exact", model)
        if ask.meaning is None or not self._config.semantic:
            return None
        for model in models:
            row = await self._near_row(ask, ask.meaning, _group(ask.meaning.scope, model, partition))
            if row is not None:
                return Hit(row.result, "semantic", model)
        return None

    def put(self, ask: Ask, model: str, result: LLMResult, partition: str = "") -> None:
        """See Cache. A cut-off or empty answer is not kept. Returns before the store has it: see `flush`."""
        if result.finish != "stop" or not result.text.strip():
            return
        meaning = ask.meaning if self._config.semantic else None
        row = Row(
            _keys(self._release, ask, (model,), partition)[0],
            self._release,
            model,
            result,
            self._clock() + self._config.ttl_s,
            "" if meaning is None else _group(meaning.scope, model, partition),
            None if meaning is None else meaning.vector,
        )
        self._remember(row)
        self._learn(row)
        if self._store is not None and len(self._waiting) < _MOST_WAITING:
            self._waiting.append(row)
            if self._gathering is None:
                self._gathering = asyncio.get_running_loop().call_later(_GATHER_S, self._start_writing)

    async def flush(self) -> None:
        """Returns once everything put so far is in the store, or was given up on, and no look at it is under way."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._start_writing()
        for task in (self._writing, self._following):
            if task is not None:
                await task

    async def aclose(self) -> None:
        """Write what waits and close the store."""
        await self.flush()
        if self._store is not None:
            await self._try(self._store.aclose())

    async def _row(self, key: str) -> Row | None:
        now = self._clock()
        if (row := self._memory.get(key)) is not None:
            if row.expires > now:
                self._memory.move_to_end(key)
                return row
            self._forget(key)
        if self._store is None or now < self._asked_again_at:
            return None
        row = await self._try(self._store.get(key))
        if row is None or row.expires <= now or row.release != self._release:
            return None
        self._remember(row)
        return row

    async def _near_row(self, ask: Ask, meaning: Meaning, group: str) -> Row | None:
        config = self._config
        for key in self._near.agreed(group, meaning.vector, config.threshold, config.agreeing, self._clock()):
            # The nearest may have been evicted everywhere; the next said the same.
            if (row := await self._row(key)) is not None:
                return row if _fits(ask, row.result) and _passes(ask, row.result) else None
        return None

    def _remember(self, row: Row) -> None:
        self._forget(row.key)
        self._memory[row.key] = row
        self._bytes += row.size
        while self._memory and (len(self._memory) > self._config.entries or self._bytes > self._config.mib * _MIB):
            self._forget(next(iter(self._memory)))

    def _forget(self, key: str) -> None:
        if (row := self._memory.pop(key, None)) is not None:
            self._bytes -= row.size

    def _learn(self, row: Row) -> None:
        if row.vector is not None and row.release == self._release:
            self._near.add(row.group, row.key, row.vector, row.result.text, row.expires)

    def _start_writing(self) -> None:
        self._gathering = None
        if self._writing is None or self._writing.done():  # one under way takes what has come meanwhile
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._waiting and self._store is not None:
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            if self._clock() >= self._asked_again_at:
                await self._try(self._store.put(batch, self._clock()))

    def _follow_soon(self) -> None:
        due = self._clock() >= self._followed_at + self._config.sync_s
        if due and self._store is not None and (self._following is None or self._following.done()):
            self._following = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        self._followed_at = self._clock()
        if self._store is None or self._followed_at < self._asked_again_at:
            return
        await self._try(self._store.learn())
        if not self._config.semantic:
            return
        told = await self._try(self._store.meanings(self._followed_to, self._config.semantic_rows))
        if told is not None:
            rows, self._followed_to = told
            for row in rows:
                self._learn(row)

    async def _try(self, call: Awaitable[_T]) -> _T | None:
        """None where the store fails, which is logged once; then nobody asks it for a while."""
        try:
            return await call
        except (StoreUnavailable, OSError, RuntimeError, ValueError) as error:
            if not isinstance(error, ValueError):
                self._asked_again_at = self._clock() + self._config.rest_s
            _log.warning("the cache of answers goes on without its store: %s", error)
            return None


def _fits(ask: Ask, result: LLMResult) -> bool:
    schema = ask.request.json_schema
    try:
        return schema is None or valid_under(result.text, schema)
    except ValueError:  # a schema that is none: the engine says so
        return False


def _passes(ask: Ask, result: LLMResult) -> bool:
    return ask.check is None or not ask.check(result)


def _keys(release: str, ask: Ask, models: Sequence[str], partition: str) -> list[str]:
    """One for each model: a hash of everything that decides what it would answer."""
    common = _common(release, ask, partition)
    keys = []
    for model in models:
        own = common.copy()
        own.update(model.encode())
        keys.append(own.hexdigest())
    return keys


@lru_cache(maxsize=256)  # by the ask itself, which is looked up first and kept later
def _common(release: str, ask: Ask, partition: str) -> hashlib.blake2b:
    asked = ask.request
    said = [asked.system, asked.user, asked.max_tokens, asked.temperature, asked.seed, asked.json_schema]
    return hashlib.blake2b(_bytes_of([release, partition, said]), digest_size=16)


def _bytes_of(said: list[Any]) -> bytes:
    """Different for what is different. marshal takes a seventh of the time of JSON, which knows more kinds of mappings;
    its version 0 writes equal values equally, whoever else refers to them."""
    try:
        return marshal.dumps(said, 0)
    except ValueError:
        return json.dumps(said, default=dict).encode()


def _group(scope: str, model: str, partition: str) -> str:
    return hashlib.blake2b(json.dumps([scope, model, partition]).encode(), digest_size=12).hexdigest()
