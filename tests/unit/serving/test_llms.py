"""How long a process waits for the engines it opens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from models.errors import EngineTimeout
from models.ports import LLMRequest, LLMResult
from serving.gateway.config import GatewayConfig
from serving.gateway.gateway import Gateway
from serving.llms import _patient
from tests.fakes import FakeLLM
from tests.unit.serving.gateways import VENDOR, ask


class Burst:
    """An engine that answers nobody before all of a burst have asked and each call's own time has passed."""

    def __init__(self, many: int, seconds: float) -> None:
        self._all = asyncio.Barrier(many)
        self._inner = FakeLLM("yes", delay_s=seconds)

    async def generate(self, request: LLMRequest) -> LLMResult:
        await self._all.wait()
        return await self._inner.generate(request)


async def answers(settings: GatewayConfig, many: int) -> Sequence[object]:
    """What comes of ``many`` questions at once to an engine that takes longer for them than ``timeout_s``."""
    gateway = Gateway(settings, {"a": Burst(many, 0.3).generate}, {"a": "m"})
    asked = [gateway.ask(ask(f"cheese {at}?", budget_s=60.0)) for at in range(many)]
    return [type(found) for found in await asyncio.gather(*asked, return_exceptions=True)]


async def test_job_waits_for_a_busy_engine_that_a_caller_would_give_up() -> None:
    settings = GatewayConfig.model_validate({"targets": {"a": {"timeout_s": 0.1, "max_concurrency": 4}}})
    assert await answers(_patient(settings, {"a": object()}), 4) == [EngineTimeout] * 4
    assert EngineTimeout not in await answers(_patient(settings, {}), 4)


def test_patience_is_for_weights_loaded_here_and_shortens_nothing() -> None:
    tables = {"slow": {"timeout_s": 900.0}, "here": {"timeout_s": 5.0}, "there": {}, "vendor": VENDOR}
    settings = GatewayConfig.model_validate({"targets": tables})
    found = _patient(settings, {"there": object()})
    waits = {name: target.timeout_s for name, target in found.targets.items()}
    assert waits == {"slow": 900.0, "here": 600.0, "there": 30.0, "vendor": 30.0}
    for name, target in found.targets.items():
        assert target.model_copy(update={"timeout_s": 1.0}) == settings.targets[name].model_copy(
            update={"timeout_s": 1.0}
        )
    assert settings.targets["here"].timeout_s == pytest.approx(5.0)
