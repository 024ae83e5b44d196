"""The gateway's own time is measured for what it is, over a provider here and over HTTP."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from models.llm import LLMConfig
from models.llm.registry import create
from models.ports import LLMRequest, LLMResult
from serving.gateway.gateway import Silent
from serving.gateway.ports import Ask
from serving.gatewaybench import Delay, measure_overhead
from tests.faults import FaultServer

PAUSE_S = 0.02


class Lingering(Silent):
    """An observer that takes its time."""

    def asked(self, ask: Ask) -> None:  # noqa: ARG002
        time.sleep(PAUSE_S)


def test_time_the_gateway_takes_is_found(tmp_path: Path) -> None:
    short = {"concurrency": (1,), "blocks": 3, "block_s": 0.2}
    plain = measure_overhead(tmp_path / "plain", Delay(0.001, 0.005), **short)["1"]  # type: ignore[arg-type]
    slow = measure_overhead(tmp_path / "slow", Delay(0.001, 0.005), Lingering(), **short)["1"]  # type: ignore[arg-type]
    quantiles = {f"p{share}_ms" for share in (50, 95, 99)}
    assert set(plain) == {*quantiles, *(f"steady_{name}" for name in quantiles), "cpu_ms", "asks"}
    assert slow["steady_p50_ms"] >= PAUSE_S * 1e3
    assert plain["asks"] >= 3
    assert slow["p50_ms"] >= PAUSE_S * 1e3
    assert plain["p50_ms"] < slow["p50_ms"]


@pytest.mark.parametrize("stream", [True, False])
def test_over_http_it_is_measured_too(tmp_path: Path, stream: bool) -> None:
    with FaultServer() as server:
        engine = create(LLMConfig(engine="openai", model="m", base_url=server.base_url, stream=stream))
        figures = measure_overhead(tmp_path, engine.generate, concurrency=(4,), blocks=1, block_s=0.3)
        assert set(figures) == {"4"}
        assert figures["4"]["asks"] >= 4
        assert server.asked["answer"] > figures["4"]["asks"]


def test_delay_of_a_question_is_its_own_and_always_the_same() -> None:
    provider = Delay(0.01, 0.02)
    questions = [LLMRequest("", f"{number}", 5) for number in range(200)]
    delays = [provider.of(question) for question in questions]
    assert delays == [provider.of(question) for question in questions]
    assert 0.01 <= min(delays) < 0.011
    assert 0.019 < max(delays) <= 0.02
    started = time.perf_counter()
    result = asyncio.run(provider(questions[0]))
    assert isinstance(result, LLMResult)
    assert time.perf_counter() - started >= delays[0] * 0.99
