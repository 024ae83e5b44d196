"""The way to an LLM: in the caller's time, asked once per prompt and release, left alone while it fails."""

from __future__ import annotations

import asyncio
import time

import pytest

from models.errors import EngineTimeout, EngineUnavailable, PromptTooLong
from models.ports import LLMRequest, LLMResult
from serving.gateway import Gateway, Prices, Provider
from tests.fakes import FakeLLM

SCHEMA = {"type": "object", "properties": {"tags": {"type": "array"}}}


def request(user: str = "cheese?", max_tokens: int = 20) -> LLMRequest:
    return LLMRequest("be brief", user, max_tokens, SCHEMA)


def gateway(provider: Provider | None, release: str = "r1", prices: Prices | None = None, entries: int = 8) -> Gateway:
    return Gateway(provider, release, "fake-model", prices, entries)


async def test_first_answer_counts_tokens_and_cost() -> None:
    answer = await gateway(FakeLLM("yes").generate, prices=Prices(2.0, 10.0)).ask(request(), 1.0)
    assert answer.result.text == "yes"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (15, 3)
    assert answer.usage.cost == pytest.approx(15 * 0.002 + 3 * 0.01)
    assert (answer.usage.cached, answer.usage.model) == (False, "fake-model")


async def test_equal_prompt_is_asked_once_and_its_tokens_are_counted_once() -> None:
    llm = FakeLLM("yes")
    one = gateway(llm.generate, prices=Prices(2.0, 10.0))
    first = await one.ask(request(), 1.0)
    again = await one.ask(request(), 1.0)
    assert len(llm.requests) == 1
    assert again.result == first.result
    assert (again.usage.prompt_tokens, again.usage.completion_tokens, again.usage.cost) == (0, 0, 0.0)
    assert (again.usage.cached, again.usage.model) == (True, "fake-model")


@pytest.mark.parametrize(
    "other",
    [
        LLMRequest("be long", "cheese?", 20, SCHEMA),
        LLMRequest("be brief", "milk?", 20, SCHEMA),
        LLMRequest("be brief", "cheese?", 19, SCHEMA),
        LLMRequest("be brief", "cheese?", 20, None),
        LLMRequest("be brief", "cheese?", 20, SCHEMA, temperature=1.0),
        LLMRequest("be brief", "cheese?", 20, SCHEMA, seed=1),
    ],
)
async def test_whatever_changes_an_answer_is_part_of_the_key(other: LLMRequest) -> None:
    llm = FakeLLM("yes")
    one = gateway(llm.generate)
    await one.ask(request(), 1.0)
    await one.ask(other, 1.0)
    assert len(llm.requests) == 2


async def test_answer_of_one_release_is_not_given_for_another() -> None:
    llm = FakeLLM("yes")
    first, second = gateway(llm.generate, "r1"), gateway(llm.generate, "r2")
    second._cache = first._cache  # shared on purpose: the release must be in the key
    await first.ask(request(), 1.0)
    assert not (await second.ask(request(), 1.0)).usage.cached
    assert len(llm.requests) == 2


async def test_cut_off_answer_is_not_kept() -> None:
    llm = FakeLLM("a long answer")
    one = gateway(llm.generate)
    for _ in range(2):
        answer = await one.ask(request(max_tokens=3), 1.0)
        assert (answer.result.finish, answer.usage.cached) == ("length", False)
    assert len(llm.requests) == 2


async def test_error_is_not_kept() -> None:
    answers: list[str | Exception] = [PromptTooLong("too long"), "yes"]
    one = gateway(FakeLLM(lambda _: answers.pop(0)).generate)
    with pytest.raises(PromptTooLong):
        await one.ask(request(), 1.0)
    assert (await one.ask(request(), 1.0)).result.text == "yes"


async def test_least_recently_used_answer_makes_room() -> None:
    llm = FakeLLM("yes")
    one = gateway(llm.generate, entries=2)
    for user in ("a", "b", "a", "c", "a", "b"):
        await one.ask(request(user), 1.0)
    assert [asked.user for asked in llm.requests] == ["a", "b", "c", "b"]


async def test_cache_of_no_entries_keeps_nothing() -> None:
    llm = FakeLLM("yes")
    one = gateway(llm.generate, entries=0)
    for _ in range(2):
        assert not (await one.ask(request(), 1.0)).usage.cached
    assert len(llm.requests) == 2


async def test_slow_llm_is_given_up_within_the_budget() -> None:
    started = time.perf_counter()
    with pytest.raises(EngineTimeout, match="within 50 ms"):
        await gateway(FakeLLM("yes", delay_s=30).generate).ask(request(), 0.05)
    assert time.perf_counter() - started < 1.0


@pytest.mark.parametrize("budget", [0.0, -1.0])
async def test_no_budget_asks_nobody(budget: float) -> None:
    llm = FakeLLM("yes")
    with pytest.raises(EngineTimeout, match="no time"):
        await gateway(llm.generate).ask(request(), budget)
    assert not llm.requests


async def test_cached_answer_needs_no_budget_and_no_llm() -> None:
    llm = FakeLLM("yes")
    one = gateway(llm.generate)
    await one.ask(request(), 1.0)
    await llm.aclose()
    assert (await one.ask(request(), 0.0)).usage.cached


async def test_without_an_llm_it_says_so() -> None:
    with pytest.raises(EngineUnavailable, match="no LLM is configured"):
        await gateway(None).ask(request(), 1.0)


@pytest.mark.parametrize("failure", [EngineUnavailable("dead"), EngineTimeout("the engine's own limit")])
async def test_llm_that_fails_repeatedly_is_not_asked_for_a_while(failure: Exception) -> None:
    llm = FakeLLM(lambda _: failure)
    one = gateway(llm.generate)
    for _ in range(3):
        with pytest.raises(type(failure)):
            await one.ask(request(), 1.0)
    for _ in range(5):
        with pytest.raises(EngineUnavailable, match="given a rest"):
            await one.ask(request(), 1.0)
    assert len(llm.requests) == 3


async def test_slow_llm_is_given_a_rest_too() -> None:
    one = gateway(FakeLLM("yes", delay_s=30).generate)
    late = await asyncio.gather(*(one.ask(request(f"{number}"), 1.0) for number in range(3)), return_exceptions=True)
    assert [type(error) for error in late] == [EngineTimeout] * 3
    with pytest.raises(EngineUnavailable, match="given a rest"):
        await one.ask(request(), 1.0)


async def test_hasty_callers_do_not_take_the_llm_from_the_others() -> None:
    one = gateway(FakeLLM("yes", delay_s=0.05).generate)
    for _ in range(5):
        with pytest.raises(EngineTimeout):
            await one.ask(request(), 0.01)
    assert (await one.ask(request(), 5.0)).result.text == "yes"


async def test_one_answer_in_between_starts_the_count_again() -> None:
    dead = EngineUnavailable("dead")
    answers: list[str | Exception] = [dead, dead, "yes", dead, dead, "yes", "yes"]
    one = gateway(FakeLLM(lambda _: answers.pop(0)).generate, entries=0)
    for expected in (False, False, True, False, False, True, True):
        if expected:
            assert (await one.ask(request(), 1.0)).result.text == "yes"
        else:
            with pytest.raises(EngineUnavailable):
                await one.ask(request(), 1.0)


async def test_prompt_that_is_too_long_is_the_callers_fault_and_rests_nothing() -> None:
    answers: list[str | Exception] = [*[PromptTooLong("long")] * 5, "yes"]
    one = gateway(FakeLLM(lambda _: answers.pop(0)).generate)
    for _ in range(5):
        with pytest.raises(PromptTooLong):
            await one.ask(request(), 1.0)
    assert (await one.ask(request(), 1.0)).result.text == "yes"


class Watched:
    """A provider that notes whether it was let finish."""

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


async def test_caller_that_goes_away_stops_the_llm_and_counts_as_no_failure() -> None:
    watched = Watched()
    one = gateway(watched)
    for _ in range(4):
        call = asyncio.create_task(one.ask(request(), 20.0))
        await watched.started.wait()
        watched.started.clear()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert watched.ended == "cancelled"


async def test_budget_that_runs_out_stops_the_llm() -> None:
    watched = Watched()
    with pytest.raises(EngineTimeout):
        await gateway(watched).ask(request(), 0.01)
    assert watched.ended == "cancelled"


async def test_many_callers_are_served_at_once() -> None:
    one = gateway(FakeLLM("yes", delay_s=0.05).generate)
    started = time.perf_counter()
    answers = await asyncio.gather(*(one.ask(request(f"{number}"), 5.0) for number in range(20)))
    assert len(answers) == 20
    assert time.perf_counter() - started < 0.9
