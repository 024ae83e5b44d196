"""A real engine's tokens per second, asked directly, through the gateway, and by a backfill's worker as it tags."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from features.workspace import Workspace
from models import tagging
from models.llm.registry import create
from models.ports import LLMEngine, LLMRequest, LLMResult
from models.tagging import TagItem
from serving.clock import RequestClock
from serving.config import ServeConfig
from serving.errors import NotReady
from serving.gateway.ports import Ask
from serving.gatewaybench import complete_gateway
from serving.load import load_services
from serving.messages import TagQuery
from serving.pipeline import tag
from serving.pipeline.verdicts import retrieve, tagger_of
from serving.services import Services
from serving.tagbench import newly_listed, sample_items

_ROUNDS: Final = 3
_PATIENCE_S: Final = 600.0
_JOB: Final = "bench"

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


def measure_engine(workspace: Workspace, config: ServeConfig, requests: int = 96, seed: int = 0) -> dict[str, float]:
    """``{"raw_tokens_per_s", "gateway_tokens_per_s", "ratio", "backfill_tokens_per_s", "backfill_ratio",
    "requests"}`` of the configured LLM on real Tag prompts.

    Prompts are those of a backfill over random catalog items in words that are new, as many at once as the engine
    takes. ``backfill``: whole products, embedded, asked about and judged, one job of them. The ways take turns and each
    has its best round, after one that is not counted; the gateway has its ledger, validation and cache, whose keys a
    round does not share with another. Raises NotReady where no LLM is configured, and what
    `models.llm.registry.create` raises.
    """
    if config.llm is None:
        raise NotReady("no LLM is configured ([llm] in the settings); there is no engine to measure")
    return asyncio.run(_measure(workspace, config, requests, seed))


async def _measure(workspace: Workspace, config: ServeConfig, requests: int, seed: int) -> dict[str, float]:
    assert config.llm is not None  # measure_engine has looked
    services = load_services(workspace, config)
    # What a cold engine's first answers take is no failure here.
    engine = create(config.llm.model_copy(update={"weights_dir": workspace.llm, "timeout_s": _PATIENCE_S}))
    try:
        return await compare(services, engine, config.llm.max_concurrency, requests, seed)
    finally:
        await engine.aclose()


async def compare(
    services: Services, engine: LLMEngine, together: int, requests: int, seed: int = 0
) -> dict[str, float]:
    """See `measure_engine`: of this engine, ``together`` requests at once."""
    items = [newly_listed(item) for item in sample_items(services, requests, seed)]
    prompts = await _prompts(services, items)
    with tempfile.TemporaryDirectory() as folder:
        async with complete_gateway(Path(folder), engine.generate, None) as gateway:

            async def through(request: LLMRequest) -> LLMResult:
                return (await gateway.ask(Ask("tag", request, _PATIENCE_S, tenant=request.system[-8:]))).result

            ways: dict[str, Callable[[LLMRequest], Coroutine[Any, Any, LLMResult]]]
            ways = {"raw": engine.generate, "gateway": through}
            await _tokens_per_s(engine.generate, prompts, together)
            best = dict.fromkeys([*ways, "backfill"], 0.0)
            for number in range(_ROUNDS):
                # Another output limit is another question to the cache, and the same work to the engine.
                asked = [_limited(request, request.max_tokens + number) for request in prompts]
                for name, way in ways.items():
                    best[name] = max(best[name], await _tokens_per_s(way, asked, together))
                tagged = await _backfilled_tokens_per_s(services, engine, items, together)
                best["backfill"] = max(best["backfill"], tagged)
    return {
        "raw_tokens_per_s": best["raw"],
        "gateway_tokens_per_s": best["gateway"],
        "ratio": best["gateway"] / best["raw"],
        "backfill_tokens_per_s": best["backfill"],
        "backfill_ratio": best["backfill"] / best["raw"],
        "requests": float(requests),
    }


async def _prompts(services: Services, items: Sequence[TagItem]) -> list[LLMRequest]:
    found, tagger = [], tagger_of(services)
    for item in items:
        seen = await retrieve(services, tagger, item)
        request = tagging.prompt(services.prompts["tag"].production, services.catalog, seen)
        if request is not None:
            found.append(request)
    return found


def _limited(request: LLMRequest, max_tokens: int) -> LLMRequest:
    return LLMRequest(request.system, request.user, max_tokens, request.json_schema, request.temperature, request.seed)


async def _backfilled_tokens_per_s(
    services: Services, engine: LLMEngine, items: Sequence[TagItem], together: int
) -> float:
    """Generated tokens of a job over ``items`` by its time, as `serving.batch` tags a partition of them."""
    tokens = 0

    async def counted(request: LLMRequest) -> LLMResult:
        nonlocal tokens
        answer = await engine.generate(request)
        tokens += answer.completion_tokens
        return answer

    with tempfile.TemporaryDirectory() as folder:
        async with complete_gateway(Path(folder), counted, None) as gateway:
            asking = replace(services, gateway=gateway)

            async def product(item: TagItem) -> None:
                query = TagQuery("", round(1e3 * _PATIENCE_S), "", item, 5, job=_JOB)
                await tag(asking, query, RequestClock(query.deadline_ms))

            started = time.perf_counter()
            await _together(product, items, together)
            return tokens / (time.perf_counter() - started)


async def _tokens_per_s(
    call: Callable[[LLMRequest], Coroutine[Any, Any, LLMResult]], requests: Sequence[LLMRequest], together: int
) -> float:
    """Generated tokens of all requests over the time until the last one is answered."""
    started = time.perf_counter()
    answers = await _together(call, requests, together)
    return sum(answer.completion_tokens for answer in answers) / (time.perf_counter() - started)


async def _together(call: Callable[[_Asked], Awaitable[_Answer]], asked: Sequence[_Asked], many: int) -> list[_Answer]:
    turns = asyncio.Semaphore(many)

    async def one(each: _Asked) -> _Answer:
        async with turns:
            return await call(each)

    return await asyncio.gather(*(one(each) for each in asked))
