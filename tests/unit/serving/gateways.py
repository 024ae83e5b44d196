"""What tests of the gateway share: asks, targets that do as they are told, an observer that notes, a clock by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from models.ports import LLMRequest, LLMResult
from serving.gateway.config import GatewayConfig
from serving.gateway.gateway import Gateway
from serving.gateway.ports import Ask, Attempt, BreakerState, Hit, Outcome, Provider, Redacted

VENDOR = {"engine": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1", "place": "vendor", "redact": False}


def ask(text: str = "cheese?", budget_s: float = 5.0, max_tokens: int = 20, **fields: Any) -> Ask:
    schema = fields.pop("schema", None)
    task = fields.pop("task", "tag")
    return Ask(task, LLMRequest("be brief", text, max_tokens, schema), budget_s, **fields)


class Noting:
    """An Observer that keeps what it is told."""

    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self.attempts: list[Attempt] = []
        self.outcomes: list[Outcome] = []
        self.breakers: list[tuple[str, BreakerState]] = []
        self.sent: list[tuple[str, LLMRequest]] = []
        self.most: dict[str, int] = {}

    def asked(self, ask: Ask) -> None:
        self.asks.append(ask)

    def attempted(self, ask: Ask, attempt: Attempt) -> None:  # noqa: ARG002
        self.attempts.append(attempt)

    def ended(self, ask: Ask, outcome: Outcome) -> None:  # noqa: ARG002
        self.outcomes.append(outcome)

    def breaker(self, target: str, state: BreakerState) -> None:
        self.breakers.append((target, state))

    def queued(self, target: str, running: int) -> None:
        self.most[target] = max(self.most.get(target, 0), running)

    def rendered(self, ask: Ask, target: str, sent: LLMRequest) -> None:  # noqa: ARG002
        self.sent.append((target, sent))


class ListCache:
    """A Cache of equal requests, that keeps what it was given."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, LLMRequest, str, LLMResult]] = []

    async def get(self, ask: Ask, models: Sequence[str], partition: str = "") -> Hit | None:
        for wanted in models:
            for model, request, where, result in self.kept:
                if (model, request, where) == (wanted, ask.request, partition):
                    return Hit(result, "exact", model)
        return None

    def put(self, ask: Ask, model: str, result: LLMResult, partition: str = "") -> None:
        self.kept.append((model, ask.request, partition, result))


class Starring:
    """A Redactor of one word."""

    def redact(self, text: str, personal: bool = False) -> Redacted:  # noqa: ARG002
        return Redacted(text.replace("Rosa", "[NAME]"), {"name": text.count("Rosa")})


class Watched:
    """A provider that never answers and notes whether it was let finish."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.ended = ""

    async def __call__(self, _: LLMRequest) -> LLMResult:
        self.started.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        raise AssertionError("nobody waited that long")


class Hand:
    """A clock that is set by hand."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def gateway(providers: dict[str, Provider], tables: dict[str, Any] | None = None, **parts: Any) -> Gateway:
    """A gateway of these providers, in this order. ``tables`` is the rest of its configuration; targets it does not
    describe are in house. A retry comes at once."""
    tables = dict(tables or {})
    targets = {name: tables.get("targets", {}).get(name, {}) for name in providers}
    retries = {"backoff_ms": 0.0, **tables.get("retries", {})}
    config = GatewayConfig.model_validate({**tables, "targets": targets, "retries": retries})
    return Gateway(config, providers, {name: f"{name}-model" for name in providers}, **parts)


def fails_first(times: int, error: Exception, text: str = "yes") -> Callable[[LLMRequest], str | Exception]:
    """For FakeLLM: an error so often, then an answer."""
    left = [times]

    def answer(_: LLMRequest) -> str | Exception:
        left[0] -= 1
        return error if left[0] >= 0 else text

    return answer
