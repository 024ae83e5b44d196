"""What the gateway itself costs: the same calls with it and without it, in turns."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop

from models.ports import LLMRequest, LLMResult
from serving.gateway.cache import CacheConfig, TieredCache, open_store
from serving.gateway.config import GatewayConfig
from serving.gateway.gateway import Gateway
from serving.gateway.ledger import Ledger
from serving.gateway.ports import Ask, Observer, Provider
from serving.gateway.validate import AnswerValidator
from serving.llms import redactor
from serving.memory import keep_for_good
from serving.telemetry import TelemetryConfig, start

CONCURRENCY = (1, 8, 32)
_LABELS = [f"department {number} / type {number % 7}" for number in range(24)]
_SCHEMA = {
    "type": "object",
    "properties": {"tags": {"type": "array", "items": {"type": "string", "enum": _LABELS}, "minItems": 1}},
    "required": ["tags"],
    "additionalProperties": False,
}
_ANSWER = '{"tags": ["department 1 / type 1"]}'
_PROFILE = "Tag this product with what it is. " * 12


class Delay:
    """A provider in this process that answers after a time of its own for each question: ``low_s`` to ``high_s``.

    Were it the same for all, callers would march in step and wait for each other at every turn.
    """

    def __init__(self, low_s: float = 0.03, high_s: float = 0.07) -> None:
        self._low_s, self._high_s = low_s, high_s

    def of(self, request: LLMRequest) -> float:
        """Seconds this question takes, the same each time."""
        share = zlib.crc32(request.user.encode()) / 2**32
        return self._low_s + share * (self._high_s - self._low_s)

    async def __call__(self, request: LLMRequest) -> LLMResult:
        delay = self.of(request)
        await asyncio.sleep(delay)
        return LLMResult(_ANSWER, "stop", len(request.user) // 4, len(_ANSWER) // 4, (), delay / 2)


def measure_overhead(
    folder: Path,
    provider: Provider | None = None,
    observer: Observer | None = None,
    *,
    concurrency: Sequence[int] = CONCURRENCY,
    blocks: int = 6,
    block_s: float = 1.0,
) -> dict[str, dict[str, float]]:
    """Overhead by number of callers at once: ``{"32": {"p50_ms": ..., "p99_ms": ..., "cpu_ms": ..., "asks": ...}}``.

    The gateway runs with everything a service has: uvloop, as in Ray's workers; budgets in a ledger on disk (limits on
    everything, on the tenant and on the request); validation; the exact cache with its store (every question is new:
    looked up and kept); and, unless ``observer`` is given instead, metrics, monitors, log lines and contexts with the
    threads that write them.

    Callers ask one after the other. Blocks of ``block_s`` seconds take turns, bare provider and gateway; an overhead is
    the difference of the two quantiles over all blocks, so what both suffer (timers, the machine's other work) cancels.
    A block's callers begin together, a burst that a service may or may not see: ``steady_p50_ms`` and so on leave out
    each caller's first call of a block.
    ``provider`` defaults to `Delay`, whose own time is taken off each call first. Writes under ``folder``.
    """
    keep_for_good()
    with contextlib.ExitStack() as stack:
        if observer is None:
            telemetry = start(TelemetryConfig(metrics=False), folder, redactor(), "bench")
            observer = stack.enter_context(contextlib.closing(telemetry)).observer
        return uvloop.run(_measure(folder, provider or Delay(), observer, concurrency, blocks, block_s))


@contextlib.asynccontextmanager
async def complete_gateway(folder: Path, provider: Provider, observer: Observer | None) -> AsyncIterator[Gateway]:
    """A gateway of one target with ledger, validator and cache in ``folder``."""
    config = GatewayConfig.model_validate(
        {
            "targets": {"default": {"max_concurrency": 256, "price_per_1k_completion": 1.0}},
            "budgets": {
                "request": {"tokens": 100_000},
                "everything": {"tokens_per_day": 10**12},
                "tenant": {"tokens_per_day": 10**12, "cost_per_day": 1e9},
            },
        }
    )
    cache_config = CacheConfig(semantic=False)
    cache = TieredCache(cache_config, "bench", open_store(cache_config, folder / "cache.db"))
    await cache.start()
    gateway = Gateway(
        config,
        {"default": provider},
        ledger=Ledger(folder / "ledger.db"),
        cache=cache,
        validator=AnswerValidator(),
        observer=observer,
    )
    try:
        yield gateway
    finally:
        await gateway.aclose()
        await cache.aclose()


async def _measure(
    folder: Path, provider: Provider, observer: Observer | None, concurrency: Sequence[int], blocks: int, block_s: float
) -> dict[str, dict[str, float]]:
    figures: dict[str, dict[str, float]] = {}
    numbers = itertools.count()

    def own_s(request: LLMRequest) -> float:
        return provider.of(request) if isinstance(provider, Delay) else 0.0

    async def bare() -> float:
        request = _request(next(numbers))
        await provider(request)
        return own_s(request)

    async with complete_gateway(folder, provider, observer) as gateway:

        async def asked() -> float:
            number = next(numbers)
            request = _request(number)
            ask = Ask("tag", request, 30.0, "tag@1", f"r{number}", "acme", f"u{number}", personal=())
            answer = await gateway.ask(ask)
            if answer.usage.cached:
                raise RuntimeError("a new question was answered from the cache: the overhead would be a hit's")
            return own_s(request)

        for callers in concurrency:
            for call in (bare, asked):  # what is loaded at the first call is not measured
                await _block(call, callers, block_s / 4)
            pairs = [
                (await _block(bare, callers, block_s), await _block(asked, callers, block_s)) for _ in range(blocks)
            ]
            figures[str(callers)] = _figures([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    return figures


def _request(number: int) -> LLMRequest:
    return LLMRequest("You tag products.", f"{_PROFILE} number {number}", 60, _SCHEMA)


@dataclass(frozen=True, slots=True)
class _Block:
    """Seconds of each call beyond its provider's own, those of the callers' ``first`` calls and the ``later`` ones; and
    CPU seconds a call of the process."""

    first: list[float]
    later: list[float]
    cpu_s: float


async def _block(call: Callable[[], Awaitable[float]], callers: int, seconds: float) -> _Block:
    """So many callers at once for so long, all of whom begin together. ``call`` returns its provider's own seconds."""
    first: list[float] = []
    later: list[float] = []
    end = time.perf_counter() + seconds

    async def caller() -> None:
        taken = first
        while (started := time.perf_counter()) < end:
            own = await call()
            taken.append(time.perf_counter() - started - own)
            taken = later

    cpu = time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return _Block(first, later, (time.process_time() - cpu) / (len(first) + len(later)))


def _figures(bare: Sequence[_Block], asked: Sequence[_Block]) -> dict[str, float]:
    def quantiles(prefix: str, seconds: Callable[[_Block], list[float]]) -> dict[str, float]:
        without, within = (np.concatenate([seconds(block) for block in side]) * 1e3 for side in (bare, asked))
        if not (len(without) and len(within)):  # a provider that takes longer than a block
            return {}
        return {
            f"{prefix}p{share}_ms": float(np.percentile(within, share) - np.percentile(without, share))
            for share in (50, 95, 99)
        }

    return {
        **quantiles("", lambda block: block.first + block.later),
        **quantiles("steady_", lambda block: block.later),
        "cpu_ms": float(np.mean([block.cpu_s for block in asked]) - np.mean([block.cpu_s for block in bare])) * 1e3,
        "asks": float(sum(len(block.first) + len(block.later) for block in asked)),
    }
