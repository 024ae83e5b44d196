"""Answers that come token by token: what is known of them early, and what ends them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from models.errors import EngineTimeout, EngineUnavailable
from models.llm import LLMConfig
from models.llm.registry import create
from models.ports import LLMEngine, LLMRequest
from tests.faults import FAULTS, FaultServer

ASK = LLMRequest("You echo.", "hello there", 10)


@asynccontextmanager
async def asking(server: FaultServer, *, stream: bool = True, timeout_s: float = 5.0) -> AsyncIterator[LLMEngine]:
    with server:
        engine = create(
            LLMConfig(engine="openai", model="m", base_url=server.base_url, stream=stream, timeout_s=timeout_s)
        )
        try:
            yield engine
        finally:
            await engine.aclose()


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_time_to_the_first_token_is_known_before_the_last_comes() -> None:
    async with asking(FaultServer("drip", drip_s=0.05)) as engine:
        started = time.perf_counter()
        result = await engine.generate(ASK)
        taken = time.perf_counter() - started
    # Six pieces, the finish and the usage come 50 ms apart.
    assert 0.05 <= result.first_token_s <= taken - 6 * 0.05 + 0.001
    assert (result.text, result.finish, result.completion_tokens) == ("you said: hello there", "stop", 6)


async def test_without_a_stream_it_is_not_known() -> None:
    async with asking(FaultServer(), stream=False) as engine:
        assert math.isnan((await engine.generate(ASK)).first_token_s)


async def test_both_ways_give_the_same_answer_and_usage() -> None:
    async with asking(FaultServer()) as streamed, asking(FaultServer(), stream=False) as whole:
        assert await streamed.generate(ASK) == await whole.generate(ASK)


async def test_cut_stream_is_unavailable_and_what_it_cost_unknown() -> None:
    async with asking(FaultServer("cut")) as engine:
        with pytest.raises(EngineUnavailable) as caught:
            await engine.generate(ASK)
    assert caught.value.usage is None


async def test_answer_that_does_not_end_is_cut_off_here() -> None:
    server = FaultServer("overrun")
    async with asking(server) as engine:
        result = await engine.generate(ASK)
        assert (result.finish, result.completion_tokens, len(result.text)) == ("length", 10, 40)
        assert result.prompt_tokens >= server_tokens(ASK)
        await settled(lambda: server.running == 0)


def server_tokens(request: LLMRequest) -> int:
    return -(-len(request.system) // 4) - (-len(request.user) // 4)


async def test_refusal_says_what_it_cost() -> None:
    for stream in (True, False):
        async with asking(FaultServer("refuse"), stream=stream) as engine:
            with pytest.raises(EngineUnavailable, match="declined to answer") as caught:
                await engine.generate(ASK)
        assert caught.value.usage == (server_tokens(ASK), 0)


@pytest.mark.parametrize(("header", "seconds"), [(3, 3.0), (0.5, 0.5), (None, math.nan)])
async def test_too_many_requests_tell_when_to_come_back(header: float | None, seconds: float) -> None:
    async with asking(FaultServer("busy", retry_after_s=header)) as engine:
        with pytest.raises(EngineUnavailable, match="429") as caught:
            await engine.generate(ASK)
    assert caught.value.retry_after_s == pytest.approx(seconds, nan_ok=True)
    assert caught.value.usage == (0, 0), "nothing was begun"


async def test_connection_is_used_again() -> None:
    server = FaultServer()
    async with asking(server) as engine:
        for _ in range(5):
            await engine.generate(ASK)
        assert server.connections == 1


async def test_cancelled_requests_hang_up_and_leave_the_engine_whole() -> None:
    server = FaultServer(lambda body: "hang" if body["messages"][-1]["content"].startswith("slow") else "answer")
    async with asking(server) as engine:
        for pause in (0.0, 0.0, 0.002, 0.005, 0.01, 0.02):
            calls = [asyncio.create_task(engine.generate(replace(ASK, user=f"slow {n}"))) for n in range(40)]
            await asyncio.sleep(pause)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        await settled(lambda: server.running == 0)
        answers = await asyncio.gather(*(engine.generate(ASK) for _ in range(40)))
        assert {answer.finish for answer in answers} == {"stop"}


@pytest.mark.parametrize("stream", [True, False])
async def test_every_fault_is_an_answer_or_an_error_of_ours(stream: bool) -> None:
    for fault in FAULTS:
        async with asking(FaultServer(fault, drip_s=0.001), stream=stream, timeout_s=0.2) as engine:
            (outcome,) = await asyncio.gather(engine.generate(ASK), return_exceptions=True)
        if isinstance(outcome, BaseException):
            assert isinstance(outcome, EngineTimeout | EngineUnavailable)
