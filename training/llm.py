"""Asking an LLM many questions in a training run: bounded in flight, one failed answer is one answer less."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from models.errors import ModelError
from models.ports import LLMEngine, LLMRequest, LLMResult

_log = logging.getLogger(__name__)
_IN_FLIGHT = 16


async def ask_all(
    llm: LLMEngine, requests: Mapping[int, LLMRequest], progress: Callable[[float], None]
) -> dict[int, LLMResult]:
    """Answers by the requests' numbers; failed ones are left out and counted in the log."""
    gate = asyncio.Semaphore(_IN_FLIGHT)
    results: dict[int, LLMResult] = {}
    failures: list[str] = []

    async def ask(number: int, request: LLMRequest) -> None:
        async with gate:
            try:
                results[number] = await llm.generate(request)
            except ModelError as error:
                failures.append(str(error))
            progress((len(results) + len(failures)) / len(requests))

    await asyncio.gather(*(ask(number, request) for number, request in requests.items()))
    if failures:
        _log.warning("%d of %d LLM answers failed, the first: %s", len(failures), len(requests), failures[0])
    return dict(sorted(results.items()))
