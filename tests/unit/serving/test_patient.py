"""Training, trials and evaluations ask through a gateway: what they cost is booked and bounded, and nothing leaks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from features.workspace import Workspace
from models.errors import EngineUnavailable, UnusableAnswer
from models.llm import LLMConfig
from models.ports import LLMRequest
from serving.config import ServeConfig
from serving.gateway.budget import read_spent
from serving.patient import PatientEngine, open_patient, price_per_1k
from tests.faults import FaultServer
from training.llm import ask_all

SCHEMA = {
    "type": "object",
    "properties": {"tags": {"type": "array", "minItems": 1, "items": {"type": "string", "enum": ["dairy", "meat"]}}},
    "required": ["tags"],
    "additionalProperties": False,
}


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def request(text: str = "whole milk") -> LLMRequest:
    return LLMRequest("Choose.", text, 32, SCHEMA)


def opened(
    server: FaultServer, place: Workspace, *, judged: bool = True, task: str = "train", **settings: Any
) -> PatientEngine:
    model = LLMConfig(engine="openai", model="m", base_url=server.base_url)
    return open_patient(place, ServeConfig.model_validate(settings), model, task, judged=judged)


async def test_what_training_asks_is_in_the_books(server: FaultServer, place: Workspace) -> None:
    engine = opened(server, place, llm_cost_per_1k_prompt=1.0, llm_cost_per_1k_completion=2.0)
    answers = await ask_all(engine, {number: request(f"item {number}") for number in range(40)}, lambda _: None)
    await engine.aclose()
    assert len(answers) == 40
    (row,) = read_spent(place.llm_spend, 2).to_dicts()
    prompt, completion = (
        sum(getattr(bill, each) for bill in server.bills) for each in ("prompt_tokens", "completion_tokens")
    )
    assert (row["task"], row["job"], row["calls"]) == ("train", "train", 40)
    assert (row["prompt_tokens"], row["completion_tokens"]) == (prompt, completion)
    assert row["cost"] == pytest.approx(prompt / 1e3 + 2 * completion / 1e3)
    priced = ServeConfig(llm_cost_per_1k_prompt=1.0, llm_cost_per_1k_completion=2.0)
    assert price_per_1k(place, priced, LLMConfig(engine="openai", model="m", base_url="http://it")) == (1.0, 2.0)
    assert price_per_1k(place, ServeConfig(), LLMConfig()) == (0.0, 0.0)
    assert server.connections == 0


async def test_a_job_that_has_spent_its_budget_asks_no_more(server: FaultServer, place: Workspace) -> None:
    settings: dict[str, Any] = {"gateway": {"budgets": {"jobs": {"train": {"tokens_total": 2_000}}}}}
    requests = {number: request(f"item {number}") for number in range(60)}
    engine = opened(server, place, **settings)
    answers = await ask_all(engine, requests, lambda _: None)
    await engine.aclose()
    spent = sum(bill.prompt_tokens + bill.completion_tokens for bill in server.bills)
    assert 0 < len(answers) < 60
    assert spent <= 2_000
    # And neither does the next run, whatever it is asked.
    again = opened(server, place, gateway={"budgets": {"jobs": {"train": {"tokens_total": spent}}}})
    with pytest.raises(EngineUnavailable, match="train"):
        await again.generate(request())
    await again.aclose()


async def test_a_vendor_sees_no_personal_data_in_training_either(server: FaultServer, place: Workspace) -> None:
    engine = opened(server, place)
    await engine.generate(request("ask jane.roe@example.com"))
    await engine.aclose()
    assert [bill.user for bill in server.bills] == ["ask [EMAIL]"]


async def test_answers_are_judged_where_the_service_would_and_as_they_come_where_they_are_measured(
    place: Workspace,
) -> None:
    with FaultServer("malformed") as server:
        judged = opened(server, place)
        with pytest.raises(UnusableAnswer):
            await judged.generate(request())
        await judged.aclose()
        repaired = len(server.bills)
        raw = opened(server, place, judged=False, task="trial")
        result = await raw.generate(request())
        await raw.aclose()
    assert repaired == 2
    assert len(server.bills) == 3
    with pytest.raises(ValueError):
        json.loads(result.text)
    assert {row["task"]: row["calls"] for row in read_spent(place.llm_spend, 2).to_dicts()} == {"train": 2, "trial": 1}


async def test_a_target_of_the_settings_lends_its_prices_and_its_place(server: FaultServer, place: Workspace) -> None:
    target = {"engine": "openai", "model": "m", "base_url": server.base_url, "place": "in_house"}
    other = {**target, "model": "other", "price_per_1k_prompt": 9.0}
    settings: dict[str, Any] = {"gateway": {"targets": {"big": other, "small": {**target, "price_per_1k_prompt": 3.0}}}}
    model = LLMConfig(engine="openai", model="m", base_url=server.base_url)
    assert price_per_1k(place, ServeConfig.model_validate(settings), model) == (3.0, 0.0)
    engine = opened(server, place, **settings)
    await engine.generate(request("jane.roe@example.com"))
    await engine.aclose()
    # In house: nothing is taken out.
    assert [bill.user for bill in server.bills] == ["jane.roe@example.com"]
    (row,) = read_spent(place.llm_spend, 2).to_dicts()
    assert row["cost"] == pytest.approx(server.bills[0].prompt_tokens * 3.0 / 1e3)


async def test_a_broken_endpoint_leaves_answers_out_and_ends(place: Workspace) -> None:
    with FaultServer("broken") as server:
        engine = opened(server, place, gateway={"retries": {"backoff_ms": 1}})
        assert await ask_all(engine, {number: request() for number in range(12)}, lambda _: None) == {}
        await engine.aclose()
        # After some failures it is left alone: not every question is tried.
        assert server.asked["broken"] < 3 * 12
