"""A real engine's tokens per second, asked directly and through the gateway: what a backfill loses by going through."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from features.workspace import Workspace
from models import tagging
from models.llm.registry import create
from models.ports import LLMRequest, LLMResult
from serving.config import ServeConfig
from serving.errors import NotReady
from serving.gateway.ports import Ask
from serving.gatewaybench import complete_gateway
from serving.load import load_services
from serving.pipeline.verdicts import retrieve
from serving.services import Services
from serving.tagbench import sample_items

_ROUNDS: Final = 3
_PATIENCE_S: Final = 600.0


def measure_engine(workspace: Workspace, config: ServeConfig, requests: int = 96, seed: int = 0) -> dict[str, float]:
    """``{"raw_tokens_per_s", "gateway_tokens_per_s", "ratio", "requests"}`` of the configured LLM on real Tag prompts.

    Prompts are those of a backfill over random catalog items, as many at once as the engine takes. Both ways take turns
    and each has its best round, after one that is not counted; the gateway has its ledger, validation and cache, whose
    keys a round does not share with another. Raises NotReady where no LLM is configured, and what
    `models.llm.registry.create` raises.
    """
    if config.llm is None:
        raise NotReady("no LLM is configured ([llm] in the settings); there is no engine to measure")
    return asyncio.run(_measure(workspace, config, requests, seed))


async def _measure(workspace: Workspace, config: ServeConfig, requests: int, seed: int) -> dict[str, float]:
    assert config.llm is not None  # measure_engine has looked
    services = load_services(workspace, config)
    prompts = await _prompts(services, requests, seed)
    engine = create(config.llm.model_copy(update={"weights_dir": workspace.llm}))
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with complete_gateway(Path(folder), engine.generate, None) as gateway:

                async def through(request: LLMRequest) -> LLMResult:
                    return (await gateway.ask(Ask("tag", request, _PATIENCE_S, tenant=request.system[-8:]))).result

                ways: dict[str, Callable[[LLMRequest], Coroutine[Any, Any, LLMResult]]]
                ways = {"raw": engine.generate, "gateway": through}
                await _tokens_per_s(engine.generate, prompts, config.llm.max_concurrency)
                best = dict.fromkeys(ways, 0.0)
                for number in range(_ROUNDS):
                    # Another output limit is another question to the cache, and the same work to the engine.
                    asked = [_limited(request, request.max_tokens + number) for request in prompts]
                    for name, way in ways.items():
                        best[name] = max(best[name], await _tokens_per_s(way, asked, config.llm.max_concurrency))
    finally:
        await engine.aclose()
    return {
        "raw_tokens_per_s": best["raw"],
        "gateway_tokens_per_s": best["gateway"],
        "ratio": best["gateway"] / best["raw"],
        "requests": float(requests),
    }


async def _prompts(services: Services, requests: int, seed: int) -> list[LLMRequest]:
    found = []
    for item in sample_items(services, requests, seed):
        request = tagging.prompt(services.prompts["tag"].production, services.catalog, await retrieve(services, item))
        if request is not None:
            found.append(request)
    return found


def _limited(request: LLMRequest, max_tokens: int) -> LLMRequest:
    return LLMRequest(request.system, request.user, max_tokens, request.json_schema, request.temperature, request.seed)


async def _tokens_per_s(
    call: Callable[[LLMRequest], Coroutine[Any, Any, LLMResult]], requests: Sequence[LLMRequest], together: int
) -> float:
    """Generated tokens of all requests over the time until the last one is answered."""
    turns = asyncio.Semaphore(together)

    async def one(request: LLMRequest) -> int:
        async with turns:
            return (await call(request)).completion_tokens

    started = time.perf_counter()
    tokens = await asyncio.gather(*(one(request) for request in requests))
    return sum(tokens) / (time.perf_counter() - started)
