"""The one way to an LLM: within the caller's time, cached by release and prompt, each failure a reason to fall back."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from models.errors import EngineTimeout, EngineUnavailable
from models.ports import LLMRequest, LLMResult
from serving.messages import Usage

_FAILURES = 3
_REST_S = 5.0
_PATIENT_S = 1.0
"""A caller with less time than this learns nothing of an LLM: his timeout must not take it from all the others."""

Provider = Callable[[LLMRequest], Awaitable[LLMResult]]


@dataclass(frozen=True, slots=True)
class Answer:
    """An LLM's result and what it cost this request."""

    result: LLMResult
    usage: Usage


@dataclass(frozen=True, slots=True)
class Prices:
    """Cost of 1,000 tokens."""

    prompt: float = 0.0
    completion: float = 0.0


class Gateway:
    """Asks one provider. Answers are cached by (release, request): equal prompts of one release are asked once.

    Only complete answers are cached: an error or a cut-off text never is.
    """

    def __init__(
        self, provider: Provider | None, release: str, model: str, prices: Prices | None = None, entries: int = 4_096
    ) -> None:
        self._provider = provider
        self._release = release
        self._model = model
        self._prices = prices or Prices()
        self._entries = entries
        self._failures = 0
        self._closed_until = 0.0
        self._cache: OrderedDict[tuple[str, LLMRequest, str], LLMResult] = OrderedDict()

    async def ask(self, request: LLMRequest, budget_s: float) -> Answer:
        """Raises EngineTimeout where ``budget_s`` seconds do not suffice, EngineUnavailable, PromptTooLong."""
        key = (self._release, replace(request, json_schema=None), repr(request.json_schema))
        if (cached := self._cache.get(key)) is not None:
            self._cache.move_to_end(key)
            return Answer(cached, Usage(cached=True, model=self._model))
        if self._provider is None:
            raise EngineUnavailable("no LLM is configured")
        if budget_s <= 0:
            raise EngineTimeout("no time was left to ask the LLM")
        if time.monotonic() < self._closed_until:
            raise EngineUnavailable("the LLM failed repeatedly and is given a rest")
        try:
            async with asyncio.timeout(budget_s):
                result = await self._provider(request)
        except TimeoutError:
            if budget_s >= _PATIENT_S:
                self._failed()
            raise EngineTimeout(f"the LLM did not answer within {budget_s * 1e3:.0f} ms") from None
        except (EngineTimeout, EngineUnavailable):
            self._failed()
            raise
        self._failures = 0
        if result.finish == "stop" and self._entries:
            self._cache[key] = result
            while len(self._cache) > self._entries:
                self._cache.popitem(last=False)
        cost = (result.prompt_tokens * self._prices.prompt + result.completion_tokens * self._prices.completion) / 1e3
        return Answer(result, Usage(result.prompt_tokens, result.completion_tokens, cost, False, self._model))

    def _failed(self) -> None:
        """After a few failures in a row stop asking for a while: a caller should not wait for what will not come."""
        self._failures += 1
        if self._failures >= _FAILURES:
            self._closed_until = time.monotonic() + _REST_S
            self._failures = 0
