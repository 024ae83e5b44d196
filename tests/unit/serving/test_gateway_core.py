"""The way of one ask: in the caller's time, by whoever can, believed only as far as it was checked."""

from __future__ import annotations

import asyncio
import json
import math
import time
from dataclasses import replace
from typing import Any

import pytest

from models.errors import EngineLoading, EngineTimeout, EngineUnavailable, PromptTooLong, UnusableAnswer
from models.ports import LLMRequest, LLMResult
from serving.errors import BudgetExceeded
from serving.gateway.gateway import Gateway
from serving.gateway.ports import Ask, Problem, Provider
from serving.gateway.validate import AnswerValidator
from tests.fakes import FakeLLM
from tests.unit.serving.gateways import VENDOR, ListCache, Noting, Starring, Watched, ask, fails_first, gateway

DEAD = EngineUnavailable("dead")
SCHEMA = {
    "type": "object",
    "properties": {"tags": {"type": "array", "minItems": 1, "items": {"enum": ["dairy", "meat"]}}},
    "required": ["tags"],
    "additionalProperties": False,
}


def answer_of(*tags: str) -> str:
    return json.dumps({"tags": tags})


async def test_first_answer_counts_tokens_and_cost() -> None:
    prices = {"price_per_1k_prompt": 2.0, "price_per_1k_completion": 10.0}
    one = Gateway.single(FakeLLM("yes").generate, "fake-model", target=prices)
    answer = await one.ask(ask())
    assert answer.result.text == "yes"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (15, 3)
    assert answer.usage.cost == pytest.approx(15 * 0.002 + 3 * 0.01)
    assert (answer.usage.cached, answer.usage.model, answer.target) == (False, "fake-model", "default")
    assert (answer.attempts, answer.problem) == (1, "")


async def test_no_time_asks_nobody() -> None:
    llm = FakeLLM("yes")
    for budget in (0.0, -1.0):
        with pytest.raises(EngineTimeout, match="no time"):
            await gateway({"a": llm.generate}).ask(ask(budget_s=budget))
    assert not llm.requests


async def test_without_an_llm_it_says_so() -> None:
    with pytest.raises(EngineUnavailable, match="no LLM is configured"):
        await Gateway.single(None).ask(ask())


async def test_next_target_answers_where_the_first_fails_in_both_directions() -> None:
    for first, second in (({}, VENDOR), (VENDOR, {})):
        dead, alive = FakeLLM(lambda _: DEAD), FakeLLM("yes")
        tables = {"targets": {"a": first, "b": second}}
        answer = await gateway({"a": dead.generate, "b": alive.generate}, tables).ask(ask())
        assert (answer.target, answer.attempts) == ("b", 2)


async def test_target_that_fails_once_is_asked_again() -> None:
    llm = FakeLLM(fails_first(1, DEAD))
    assert (await gateway({"a": llm.generate}).ask(ask())).attempts == 2


async def test_calls_of_an_ask_are_capped() -> None:
    llm = FakeLLM(lambda _: DEAD)
    tables = {"retries": {"per_ask": 3}, "breaker": {"min_calls": 100}}
    with pytest.raises(EngineUnavailable, match="dead"):
        await gateway({"a": llm.generate}, tables).ask(ask())
    assert len(llm.requests) == 4


async def test_retries_of_all_asks_together_are_a_share_of_them() -> None:
    llm = FakeLLM(lambda _: DEAD)
    tables = {"retries": {"per_ask": 1, "share": 0.25, "burst": 2}, "breaker": {"min_calls": 1_000}}
    one = gateway({"a": llm.generate}, tables)
    for _ in range(40):
        with pytest.raises(EngineUnavailable):
            await one.ask(ask())
    # The two that may come at once, and a quarter of the asks: the bucket was full when the first came.
    assert len(llm.requests) == 40 + 2 + 9


async def test_engine_that_still_loads_is_passed_over_and_not_held_to_have_failed() -> None:
    loading, other = FakeLLM(lambda _: EngineLoading("loading")), FakeLLM("yes")
    watcher = Noting()
    one = gateway({"a": loading.generate, "b": other.generate}, observer=watcher)
    for _ in range(5):
        assert (await one.ask(ask())).target == "b"
    assert (len(loading.requests), watcher.breakers) == (5, [])
    with pytest.raises(EngineLoading):
        await gateway({"a": loading.generate}).ask(ask())
    assert len(loading.requests) == 6


async def test_too_long_a_prompt_goes_to_a_target_with_more_room_and_is_not_retried() -> None:
    small, large = FakeLLM(lambda _: PromptTooLong("long")), FakeLLM("yes")
    assert (await gateway({"small": small.generate, "large": large.generate}).ask(ask())).target == "large"
    with pytest.raises(PromptTooLong):
        await gateway({"small": small.generate}).ask(ask())
    assert len(small.requests) == 2


async def test_caller_is_not_kept_beyond_his_time() -> None:
    started = time.perf_counter()
    with pytest.raises(EngineTimeout, match="did not answer within"):
        await gateway({"a": FakeLLM("yes", delay_s=30).generate}).ask(ask(budget_s=0.05))
    assert time.perf_counter() - started < 1.0


async def test_engine_that_cannot_be_cancelled_does_not_keep_the_caller() -> None:
    released = asyncio.Event()

    async def stubborn(_: LLMRequest) -> LLMResult:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        return LLMResult("too late", "stop", 1, 1)

    one = gateway({"a": stubborn})
    started = time.perf_counter()
    with pytest.raises(EngineTimeout):
        await one.ask(ask(budget_s=0.05))
    assert time.perf_counter() - started < 1.0
    released.set()
    await one.aclose()


async def test_what_hangs_leaves_time_for_the_next() -> None:
    hanging = Watched()
    answer = await gateway({"a": hanging, "b": FakeLLM("yes").generate}).ask(ask(budget_s=0.4))
    assert (answer.target, hanging.ended) == ("b", "cancelled")


async def test_request_that_cannot_finish_is_not_started() -> None:
    llm = FakeLLM("x" * 50)
    one = gateway({"a": llm.generate}, {"targets": {"a": {"output_tokens_per_s": 100.0}}})
    await one.ask(ask(max_tokens=100))
    with pytest.raises(EngineTimeout, match=r"needs about 0\.5 s and 0\.2 s are left"):
        await one.ask(ask(budget_s=0.2, max_tokens=100))
    assert len(llm.requests) == 1


async def test_slow_target_is_passed_over_for_one_that_is_in_time() -> None:
    slow, fast = FakeLLM("x" * 50), FakeLLM("yes")
    providers: dict[str, Provider] = {"slow": slow.generate, "fast": fast.generate}
    one = gateway(providers, {"targets": {"slow": {"output_tokens_per_s": 100.0}}})
    assert (await one.ask(ask(max_tokens=100))).target == "slow"
    assert (await one.ask(ask(budget_s=0.2, max_tokens=100))).target == "fast"


async def test_target_that_fails_repeatedly_rests_and_the_next_takes_over() -> None:
    watcher = Noting()
    dead, alive = FakeLLM(lambda _: DEAD), FakeLLM("yes")
    one = gateway({"a": dead.generate, "b": alive.generate}, observer=watcher)
    for _ in range(6):
        await one.ask(ask())
    assert len(dead.requests) == 3
    assert watcher.breakers == [("a", "open")]
    assert [attempt.error for attempt in watcher.attempts if attempt.target == "a"] == ["EngineUnavailable"] * 3


async def test_hasty_callers_do_not_take_the_llm_from_the_others() -> None:
    one = gateway({"a": FakeLLM("yes", delay_s=0.05).generate})
    for _ in range(5):
        with pytest.raises(EngineTimeout):
            await one.ask(ask(budget_s=0.01))
    assert (await one.ask(ask())).result.text == "yes"


async def test_patient_callers_timeouts_open_the_breaker() -> None:
    one = gateway({"a": FakeLLM("yes", delay_s=30).generate})
    late = await asyncio.gather(*(one.ask(ask(f"{n}", 1.0)) for n in range(3)), return_exceptions=True)
    assert [type(error) for error in late] == [EngineTimeout] * 3
    with pytest.raises(EngineUnavailable, match="given a rest"):
        await one.ask(ask())


async def test_endpoint_that_asks_to_be_left_alone_is() -> None:
    llm = FakeLLM(lambda _: EngineUnavailable("429", retry_after_s=60.0))
    one = gateway({"a": llm.generate})
    for _ in range(3):
        with pytest.raises(EngineUnavailable):
            await one.ask(ask())
    assert len(llm.requests) == 1


async def test_job_waits_for_a_resting_target_and_a_user_does_not() -> None:
    answers: list[str | Exception] = [DEAD, DEAD, DEAD, "yes"]
    tables = {"breaker": {"rest_s": 0.1}, "retries": {"per_ask": 0}}
    one = gateway({"a": FakeLLM(lambda _: answers.pop(0)).generate}, tables)
    for _ in range(3):
        with pytest.raises(EngineUnavailable, match="dead"):
            await one.ask(ask())
    for hurried in (ask(), ask(job="backfill", budget_s=0.02)):
        with pytest.raises(EngineUnavailable, match="given a rest"):
            await one.ask(hurried)
    assert (await one.ask(ask(job="backfill"))).result.text == "yes"


async def test_job_does_not_wait_for_what_will_not_come() -> None:
    llm = FakeLLM(lambda _: DEAD)
    one = gateway({"a": llm.generate}, {"breaker": {"rest_s": 0.02, "min_calls": 1}, "retries": {"per_ask": 2}})
    with pytest.raises(EngineUnavailable, match="dead"):
        await one.ask(ask(job="backfill"))
    assert len(llm.requests) == 3


async def test_caller_that_goes_away_stops_the_llm_and_harms_nobody() -> None:
    watched, watcher = Watched(), Noting()
    one = gateway({"a": watched}, observer=watcher)
    for _ in range(4):
        call = asyncio.create_task(one.ask(ask(budget_s=20.0)))
        await watched.started.wait()
        watched.started.clear()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert watched.ended == "cancelled"
    assert watcher.breakers == []
    assert [outcome.error for outcome in watcher.outcomes] == ["CancelledError"] * 4


async def test_full_target_hands_on_to_the_next() -> None:
    slow, other = FakeLLM("slow", delay_s=0.2), FakeLLM("other")
    tables = {"targets": {"a": {"max_concurrency": 2}}}
    watcher = Noting()
    one = gateway({"a": slow.generate, "b": other.generate}, tables, observer=watcher)
    answers = await asyncio.gather(*(one.ask(ask(f"{n}")) for n in range(5)))
    assert sorted(answer.target for answer in answers) == ["a", "a", "b", "b", "b"]
    assert watcher.most["a"] == 2


async def test_only_target_lets_callers_wait_for_their_turn() -> None:
    one = gateway({"a": FakeLLM("yes", delay_s=0.02).generate}, {"targets": {"a": {"max_concurrency": 2}}})
    answers = await asyncio.gather(*(one.ask(ask(f"{n}")) for n in range(8)))
    assert len(answers) == 8
    late = await asyncio.gather(*(one.ask(ask(f"{n}", 0.03)) for n in range(8)), return_exceptions=True)
    assert {type(one) for one in late if isinstance(one, Exception)} == {EngineTimeout}


async def test_bad_answer_is_asked_for_once_more() -> None:
    answers = ["no idea", answer_of("dairy")]
    llm = FakeLLM(lambda _: answers.pop(0))
    watcher = Noting()
    one = gateway({"a": llm.generate}, validator=AnswerValidator(), observer=watcher)
    answer = await one.ask(ask(schema=SCHEMA, max_tokens=60))
    assert (answer.result.text, answer.repaired, answer.attempts) == (answer_of("dairy"), True, 2)
    assert [(attempt.repair, attempt.problem) for attempt in watcher.attempts] == [(False, "malformed"), (True, "")]
    assert answer.usage.completion_tokens == len("no idea") + len(answer_of("dairy"))


async def test_bad_answers_end_at_the_cap_with_one_repair() -> None:
    first, second = FakeLLM("no idea"), FakeLLM("nor have I")
    cache = ListCache()
    one = gateway({"a": first.generate, "b": second.generate}, validator=AnswerValidator(), cache=cache)
    with pytest.raises(UnusableAnswer, match="malformed"):
        await one.ask(ask(schema=SCHEMA))
    assert (len(first.requests), len(second.requests), cache.kept) == (2, 1, [])


async def test_what_can_be_mended_here_costs_no_call() -> None:
    fenced = f"```json\n{answer_of('meat')}\n```"
    llm = FakeLLM(fenced)
    answer = await gateway({"a": llm.generate}, validator=AnswerValidator()).ask(ask(schema=SCHEMA, max_tokens=60))
    assert (json.loads(answer.result.text), answer.repaired, answer.attempts) == ({"tags": ["meat"]}, True, 1)


async def test_invented_id_never_leaves() -> None:
    def known(result: LLMResult) -> Problem:
        return "" if set(json.loads(result.text)["tags"]) <= {"dairy"} else "unknown_id"

    loose = {**SCHEMA, "properties": {"tags": {"type": "array", "items": {"type": "string"}}}}
    one = gateway({"a": FakeLLM(answer_of("unicorn")).generate}, validator=AnswerValidator())
    with pytest.raises(UnusableAnswer, match="unknown_id"):
        await one.ask(ask(schema=loose, check=known, max_tokens=60))


async def test_cut_off_answer_is_given_as_such_and_not_kept() -> None:
    cache = ListCache()
    answer = await gateway({"a": FakeLLM("a long answer").generate}, cache=cache).ask(ask(max_tokens=3))
    assert (answer.result.text, answer.problem, cache.kept) == ("a l", "truncated", [])


async def test_what_may_not_be_said_is_withheld() -> None:
    class Prudish:
        def unsafe(self, text: str) -> str:
            return "profanity" if "damn" in text else ""

    with pytest.raises(UnusableAnswer, match="unsafe"):
        await gateway({"a": FakeLLM("damn good").generate}, moderator=Prudish()).ask(ask())


async def test_check_that_breaks_is_an_error_and_its_call_is_noted() -> None:
    watcher = Noting()

    def broken(_: LLMResult) -> Problem:
        raise KeyError("tags")

    with pytest.raises(UnusableAnswer, match="could not be checked"):
        await gateway({"a": FakeLLM("yes").generate}, observer=watcher).ask(ask(check=broken))
    assert [attempt.error for attempt in watcher.attempts] == ["KeyError"]


async def test_engine_that_raises_what_it_should_not_is_unavailable() -> None:
    async def broken(_: LLMRequest) -> LLMResult:
        raise RuntimeError("socket 17 at /srv/secret")

    with pytest.raises(EngineUnavailable) as caught:
        await gateway({"a": broken}).ask(ask())
    assert "secret" not in str(caught.value)


async def test_output_is_bounded_by_task() -> None:
    llm = FakeLLM("x" * 100)
    tables = {"budgets": {"max_output_tokens": {"tag": 5}, "max_output_tokens_default": 10}}
    one = gateway({"a": llm.generate}, tables)
    assert len((await one.ask(ask(max_tokens=50))).result.text) == 5
    assert len((await one.ask(ask(max_tokens=50, task="other"))).result.text) == 10


async def test_request_may_spend_so_much_and_no_more() -> None:
    llm = FakeLLM(lambda _: "no idea")
    tables = {"budgets": {"request": {"tokens": 15 + 64 + 20}}, "retries": {"per_ask": 5}}
    one = gateway({"a": llm.generate, "b": llm.generate}, tables, validator=AnswerValidator())
    with pytest.raises(BudgetExceeded, match="a request may take 99 tokens: 22 are spent"):
        await one.ask(ask(schema=SCHEMA))
    assert len(llm.requests) == 1


async def test_vendor_sees_no_name_and_the_house_does() -> None:
    vendor, ours = FakeLLM("yes"), FakeLLM("yes")
    tables = {"targets": {"vendor": {**VENDOR, "redact": True}}}
    watcher = Noting()
    one = gateway({"vendor": vendor.generate}, tables, redactor=Starring(), observer=watcher)
    await one.ask(ask("I am Rosa"))
    await gateway({"ours": ours.generate}, redactor=Starring()).ask(ask("I am Rosa"))
    assert [request.user for request in vendor.requests + ours.requests] == ["I am [NAME]", "I am Rosa"]
    assert watcher.sent == [("vendor", vendor.requests[0])]
    with pytest.raises(ValueError, match="'vendor' is a vendor: give the gateway a redactor"):
        gateway({"vendor": vendor.generate}, tables)


class TestCache:
    async def test_equal_ask_is_answered_from_the_cache_at_no_cost(self) -> None:
        llm = FakeLLM("yes")
        watcher = Noting()
        one = gateway({"a": llm.generate}, cache=ListCache(), observer=watcher)
        await one.ask(ask())
        await llm.aclose()
        again = await one.ask(ask(budget_s=0.0))  # needs no time either
        assert (again.result.text, again.cache, again.attempts) == ("yes", "exact", 0)
        assert (again.usage.cached, again.usage.model, again.usage.prompt_tokens) == (True, "a-model", 0)
        assert len(watcher.outcomes) == 2

    async def test_error_is_not_kept(self) -> None:
        cache = ListCache()
        one = gateway({"a": FakeLLM(fails_first(1, PromptTooLong("long"))).generate}, cache=cache)
        with pytest.raises(PromptTooLong):
            await one.ask(ask())
        assert cache.kept == []
        await one.ask(ask())
        assert len(cache.kept) == 1

    async def test_stand_in_is_neither_kept_nor_read(self) -> None:
        cache = ListCache()
        tables = {"targets": {"b": {"cache": False}}}
        one = gateway(
            {"a": FakeLLM(fails_first(1, DEAD)).generate, "b": FakeLLM("small").generate}, tables, cache=cache
        )
        assert (await one.ask(ask())).target == "b"
        assert (await one.ask(ask())).target == "a"
        assert [kept[0] for kept in cache.kept] == ["a-model"]

    async def test_tenant_gets_no_answer_of_another(self) -> None:
        llm = FakeLLM("yes")
        one = gateway({"a": llm.generate}, cache=ListCache())
        for tenant in ("x", "y", "x"):
            await one.ask(ask(tenant=tenant))
        assert len(llm.requests) == 2

    async def test_store_that_hangs_keeps_nobody_beyond_his_time(self) -> None:
        class Hanging(ListCache):
            async def get(self, *_: Any) -> None:
                await asyncio.sleep(30)

        started = time.perf_counter()
        with pytest.raises(EngineTimeout):
            await gateway({"a": FakeLLM("yes").generate}, cache=Hanging()).ask(ask(budget_s=0.05))
        assert time.perf_counter() - started < 1.0


async def test_states_tell_how_targets_fare() -> None:
    watched = Watched()
    tables = {"targets": {"a": {"max_concurrency": 5, "output_tokens_per_s": 40.0}, "b": VENDOR}}
    one = gateway({"a": watched, "b": FakeLLM(lambda _: DEAD).generate}, {**tables, "retries": {"per_ask": 0}})
    call = asyncio.create_task(one.ask(ask()))
    await watched.started.wait()
    ours, theirs = one.states()
    assert (ours.name, ours.model, ours.engine, ours.place) == ("a", "a-model", "vllm", "in_house")
    assert (ours.running, ours.max_concurrency, ours.output_tokens_per_s, ours.breaker) == (1, 5, 40.0, "closed")
    assert (theirs.engine, theirs.place, theirs.running) == ("openai", "vendor", 0)
    assert math.isnan(theirs.output_tokens_per_s)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert one.states()[0].running == 0


async def test_closed_gateway_says_so_and_leaves_nothing_running() -> None:
    before = asyncio.all_tasks()
    shadow = Watched()
    tables = {"routes": [{"targets": ["a"]}], "shadows": [{"target": "s"}]}
    one = gateway({"a": FakeLLM("yes").generate, "s": shadow}, tables)
    await one.ask(ask(request_id="r1"))
    await shadow.started.wait()
    await one.aclose()
    assert shadow.ended == "cancelled"
    assert asyncio.all_tasks() == before
    with pytest.raises(EngineUnavailable, match="closed"):
        await one.ask(ask())


async def test_every_ask_is_noted_once_and_every_rendering_has_its_attempt() -> None:
    watcher = Noting()
    llm = FakeLLM(fails_first(1, DEAD))
    one = gateway({"a": llm.generate}, observer=watcher)
    await one.ask(ask())
    with pytest.raises(EngineTimeout):
        await one.ask(replace(ask(), budget_s=0.0))
    assert (len(watcher.asks), len(watcher.outcomes)) == (2, 2)
    assert (len(watcher.sent), len(watcher.attempts), watcher.outcomes[0].attempts) == (2, 2, 2)
    assert isinstance(watcher.asks[0], Ask)
