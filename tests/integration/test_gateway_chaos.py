"""Two endpoints that fail in every way at once: callers are answered in time, money is counted, nothing is left behind.

The endpoints run in this process, and a busy machine holds the event loop up: by how much is measured beside the asks,
and added to what a caller may wait.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from models.errors import EngineTimeout, EngineUnavailable, UnusableAnswer
from models.llm.registry import create
from models.ports import LLMRequest
from serving.errors import BudgetExceeded
from serving.gateway.config import GatewayConfig
from serving.gateway.gateway import Gateway
from serving.gateway.ledger import Ledger
from serving.gateway.ports import Answer, Ask
from serving.gateway.validate import AnswerValidator, problem_of
from tests.faults import FAULTS, INVENTED, Bill, Fault, FaultServer, mix
from tests.unit.serving.gateways import ListCache, Noting, Starring

REQUESTS = 2_000
CALLERS = 32
LABELS = ["dairy", "meat", "bread"]
SCHEMA = {
    "type": "object",
    "properties": {"tags": {"type": "array", "minItems": 1, "items": {"type": "string", "enum": LABELS}}},
    "required": ["tags"],
    "additionalProperties": False,
}
SHARES: dict[Fault, float] = {
    "hang": 0.02,
    "drip": 0.03,
    "busy": 0.05,
    "broken": 0.05,
    "cut": 0.04,
    "garbage": 0.03,
    "malformed": 0.04,
    "ramble": 0.04,
    "overrun": 0.02,
    "invent": 0.04,
    "refuse": 0.02,
}
POOR_TOKENS = 10_000
TICK_S = 0.002


@dataclass(frozen=True, slots=True)
class End:
    """How an ask ended. ``over_s``: beyond the caller's time and what the event loop was held up after it."""

    ask: Ask
    outcome: Answer | BaseException
    over_s: float


class Lag:
    """How late the event loop is, all the time."""

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []

    async def watch(self) -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(TICK_S)
            ended = time.perf_counter()
            self._late.append((ended, ended - started - TICK_S))

    def since(self, start: float) -> float:
        total = 0.0
        for ended, late in reversed(self._late):
            if ended < start:
                break
            total += late
        return total


def asks(chance: random.Random) -> Iterator[Ask]:
    """Questions of four tenants, one of them poor; a tenth was asked before."""
    texts: list[str] = []
    for number in range(REQUESTS):
        again = texts and chance.random() < 0.1
        text = chance.choice(texts) if again else f"Tag product {number}: {'a word or two ' * chance.randint(1, 6)}"
        texts.append(text)
        tenant = chance.choice(["rich", "richer", "richest", "poor"])
        request = LLMRequest("You tag.", text, 24, SCHEMA)
        yield Ask("tag", request, chance.uniform(0.02, 0.8), "tag@1", f"r{number}", tenant, f"u{number % 50}")


async def caller(gateway: Gateway, waiting: Iterator[Ask], lag: Lag, ends: list[End], chance: random.Random) -> None:
    started = ended = 0.0

    async def timed(ask: Ask) -> Answer:
        nonlocal started, ended
        started = time.perf_counter()
        try:
            return await gateway.ask(ask)
        finally:
            ended = time.perf_counter()

    for ask in waiting:
        task = asyncio.ensure_future(timed(ask))
        if chance.random() < 0.02:
            await asyncio.sleep(ask.budget_s / 3)
            task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        deadline = started + ask.budget_s
        await asyncio.sleep(2 * TICK_S)  # the watch notes what it saw
        ends.append(End(ask, outcome, ended - deadline - lag.since(deadline)))


def config(*servers: FaultServer) -> GatewayConfig:
    engine = {"engine": "openai", "model": "m", "timeout_s": 0.5, "max_concurrency": CALLERS}
    prices = {"price_per_1k_prompt": 1.0, "price_per_1k_completion": 3.0}
    first, second = ({**engine, "base_url": server.base_url} for server in servers)
    return GatewayConfig.model_validate(
        {
            "targets": {
                "vendor": {**first, "place": "vendor", **prices},
                "ours": {**second, "place": "in_house", "stream": False},
            },
            "routes": [{"targets": ["ours", "vendor"], "tenants": ["rich"]}, {"targets": ["vendor", "ours"]}],
            "shadows": [{"target": "ours", "share": 0.02}],
            "budgets": {"tenants": {"poor": {"tokens_per_day": POOR_TOKENS}}, "request": {"tokens": 2_000}},
            "breaker": {"min_calls": 8, "rest_s": 0.05, "longest_rest_s": 0.2},
            "retries": {"per_ask": 2, "backoff_ms": 10},
            "cache_by_tenant": False,
        }
    )


async def until_idle(*servers: FaultServer) -> None:
    async with asyncio.timeout(20):
        while any(server.running for server in servers):
            await asyncio.sleep(0.01)


@pytest.mark.timeout(300)
async def test_two_thousand_requests_among_every_fault_at_once(tmp_path: Path) -> None:
    chance = random.Random(6)
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    ends: list[End] = []
    watcher, cache, lag = Noting(), ListCache(), Lag()
    with FaultServer(mix(SHARES, 1), drip_s=0.1) as one, FaultServer(mix(SHARES, 2), drip_s=0.1) as two:
        tables = config(one, two)
        engines = {name: create(target) for name, target in tables.targets.items()}
        providers = {name: engine.generate for name, engine in engines.items()}
        ledger = Ledger(tmp_path / "ledger.db")
        gateway = Gateway(
            tables,
            providers,
            ledger=ledger,
            cache=cache,
            redactor=Starring(),
            validator=AnswerValidator(),
            observer=watcher,
        )
        watch = asyncio.create_task(lag.watch())
        waiting = asks(chance)
        await asyncio.gather(*(caller(gateway, waiting, lag, ends, chance) for _ in range(CALLERS)))
        watch.cancel()
        await until_idle(one, two)  # what was given up has hung up: the endpoints noticed
        await ledger.flush()
        spent = ledger.spent()
        states = gateway.states()
        held = dict(ledger.held)
        await gateway.aclose()
        for engine in engines.values():
            await engine.aclose()
        await asyncio.gather(watch, return_exceptions=True)
        assert asyncio.all_tasks() == tasks
        bills = one.bills + two.bills
        assert all(one.asked[fault] + two.asked[fault] for fault in FAULTS)
    assert set(threading.enumerate()) == threads
    assert [state.running for state in states] == [0, 0]
    assert held == {}
    check_ends(ends)
    check_cache(cache)
    check_books(bills, watcher, spent.sum().row(0, named=True))
    poor = spent.filter(tenant="poor").select("prompt_tokens", "completion_tokens", "assumed_tokens")
    assert sum(poor.sum().row(0)) <= POOR_TOKENS
    assert (len(watcher.asks), len(watcher.outcomes)) == (REQUESTS, REQUESTS)
    assert len(watcher.sent) == len(watcher.attempts)


def check_ends(ends: list[End]) -> None:
    kinds = Counter(type(end.outcome) for end in ends)
    expected = {Answer, EngineTimeout, EngineUnavailable, UnusableAnswer, BudgetExceeded, asyncio.CancelledError}
    # A resting target is told by a class of its own.
    assert all(any(issubclass(kind, known) for known in expected) for kind in kinds), kinds
    # How many are in time is the machine's affair; that there are some of each kind shows that all of it was tried.
    assert kinds[Answer] > REQUESTS / 10
    assert kinds[BudgetExceeded] > 10
    assert max(end.over_s for end in ends) <= 0.010, sorted(end.over_s for end in ends)[-20:]
    for end in ends:
        if isinstance(end.outcome, Answer):
            assert INVENTED not in end.outcome.result.text
            assert problem_of(end.ask, end.outcome.result) in ("", "truncated")
    assert sum(isinstance(end.outcome, Answer) and end.outcome.cache == "exact" for end in ends) > 5


def check_cache(cache: ListCache) -> None:
    assert len(cache.kept) > REQUESTS / 20
    for _, request, _, result in cache.kept:
        assert set(json.loads(result.text)["tags"]) <= set(LABELS)
        assert problem_of(Ask("tag", request, 1.0), result) == ""


def check_books(bills: list[Bill], watcher: Noting, spent: dict[str, int]) -> None:
    """What was reported is booked to the token; what the endpoints charge beyond that is covered by assumed tokens."""
    told = sum(attempt.prompt_tokens + attempt.completion_tokens for attempt in watcher.attempts)
    assert spent["prompt_tokens"] + spent["completion_tokens"] == told
    exact = [bill for bill in bills if bill.whole and bill.fault != "overrun"]
    charged = sum(bill.prompt_tokens + bill.completion_tokens for bill in bills)
    assert told + spent["assumed_tokens"] >= charged
    # The endpoint thinks an answer whole that its caller gave up in the last moment: those are assumed, so not told.
    known = Counter((a.prompt_tokens, a.completion_tokens) for a in watcher.attempts if a.prompt_tokens)
    whole = Counter((bill.prompt_tokens, bill.completion_tokens) for bill in exact)
    overrun = sum(bill.fault == "overrun" for bill in bills)
    assert (known - whole).total() <= overrun, "the gateway booked tokens that no endpoint reported"
    late = sum(attempt.error in ("EngineTimeout", "CancelledError") for attempt in watcher.attempts)
    assert (whole - known).total() <= late
    assert abs(sum(attempt.cost for attempt in watcher.attempts) - spent["cost"]) < 1e-6
