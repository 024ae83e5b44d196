"""Quality monitors: silent while nothing changed, an alarm when a prompt breaks, and over when it is repaired."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.errors import UnusableAnswer
from models.ports import LLMRequest
from models.tagging import choice_schema
from serving.gateway import Gateway
from serving.gateway.metrics import Metrics
from serving.gateway.monitors import MonitorConfig, Monitors, Quality, stability_index, wilson
from serving.gateway.observe import Observers
from serving.gateway.ports import Ask
from serving.gateway.validate import AnswerValidator
from tests.fakes import FakeLLM
from tests.unit.serving.observed import Clock, answered, ask, attempt, failed, one_ask


def monitors(clock: Clock | None = None, lengths: dict[str, list[int]] | None = None, **config: float) -> Monitors:
    return Monitors(MonitorConfig.model_validate(config), clock or Clock(), lengths)


def found(of: Monitors, monitor: str, prompt: str = "tag@1") -> Quality | None:
    return next((each for each in of.quality() if (each.monitor, each.prompt) == (monitor, prompt)), None)


def alarms(of: Monitors) -> set[tuple[str, str]]:
    return {(each.monitor, each.prompt) for each in of.quality() if each.alarm}


def test_nothing_is_said_of_few_answers() -> None:
    watch = monitors(least=30)
    for _ in range(29):
        one_ask(watch, ask(), [attempt(problem="malformed")], failed("EngineUnavailable"))
    assert watch.quality() == []
    one_ask(watch, ask(), [attempt(problem="malformed")], failed("EngineUnavailable"))
    assert alarms(watch) == {("malformed", "tag@1"), ("completion", "tag@1")}


def test_shares_are_of_answers_given_and_of_asks_put_to_an_engine() -> None:
    watch = monitors(least=1)
    one_ask(watch, ask(), [attempt(problem="schema"), attempt(repair=True)], answered())
    one_ask(watch, ask(), [attempt(error="EngineTimeout")], failed("EngineTimeout"))
    one_ask(watch, ask(), [attempt(), attempt(shadow=True, problem="schema")], answered())
    one_ask(watch, ask(), [], failed("BudgetExceeded", attempts=0))
    one_ask(watch, ask(), [], answered(cache="exact"))
    one_ask(watch, ask(), [], failed("CancelledError"))
    malformed, completion = found(watch, "malformed"), found(watch, "completion")
    assert malformed is not None
    assert completion is not None
    assert malformed.value == pytest.approx(1 / 3)
    assert completion.value == pytest.approx(2 / 3)
    assert (malformed.count, completion.count) == (3, 3)


def test_an_alarm_ends_when_the_window_has_passed() -> None:
    clock = Clock()
    watch = monitors(clock, window_s=600, slices=20)
    for _ in range(50):
        one_ask(watch, ask(), [attempt(problem="malformed")], failed("EngineUnavailable"))
    assert ("malformed", "tag@1") in alarms(watch)
    clock.now += 300
    for _ in range(50):
        one_ask(watch, ask(), [attempt()], answered())
    quality = found(watch, "malformed")
    assert quality is not None
    assert quality.count == 100
    clock.now += 330
    quality = found(watch, "malformed")
    assert quality is not None
    assert (quality.count, quality.alarm) == (50, False)
    clock.now += 601
    assert watch.quality() == []


def test_prompts_of_one_task_are_judged_apart() -> None:
    watch = monitors()
    for _ in range(60):
        one_ask(watch, ask(prompt="tag@1"), [attempt()], answered())
        one_ask(watch, ask(prompt="tag@2"), [attempt(problem="schema")], failed("EngineUnavailable"))
    assert alarms(watch) == {("malformed", "tag@2"), ("completion", "tag@2")}


def _lengths(seed: int, mean: float, n: int) -> list[int]:
    return [int(each) for each in np.random.default_rng(seed).poisson(mean, n)]


def test_answers_that_become_longer_are_noticed_and_equal_ones_are_not() -> None:
    reference = _lengths(1, 20, 200)
    alike, longer = monitors(lengths={"tag": reference}), monitors(lengths={"tag": reference})
    for tokens, many in zip(_lengths(2, 20, 200), _lengths(3, 40, 200)):
        one_ask(alike, ask(), [attempt(completion_tokens=tokens)], answered())
        one_ask(longer, ask(), [attempt(completion_tokens=many)], answered())
    assert alarms(alike) == set()
    assert alarms(longer) == {("length", "tag@1")}


def test_an_alarm_of_lengths_is_rare_when_nothing_changed() -> None:
    """Of 300 windows of 30 answers drawn as their reference: at one in 1,000, four or more come once in 5,000 runs."""
    false = 0
    for seed in range(300):
        watch = monitors(lengths={"tag": _lengths(2 * seed, 25, 100)})
        for tokens in _lengths(2 * seed + 1, 25, 30):
            watch.attempted(ask(), attempt(completion_tokens=tokens))
        false += ("length", "tag@1") in alarms(watch)
    assert false <= 3


def test_without_a_reference_the_first_good_answers_of_the_task_are_it() -> None:
    watch = monitors(reference=100)
    for tokens in _lengths(1, 20, 100):
        one_ask(watch, ask(prompt="tag@1"), [attempt(completion_tokens=tokens)], answered())
    for tokens in _lengths(2, 90, 60):
        one_ask(watch, ask(prompt="tag@2"), [attempt(completion_tokens=tokens)], answered())
    assert alarms(watch) == {("length", "tag@2")}


def test_a_shift_of_verdicts_is_noticed() -> None:
    watch = monitors(reference=200)
    for _ in range(100):
        watch.judged("r", "tag", "tag@1", ["accept", "review", "reject"])
    assert alarms(watch) == set()
    for _ in range(40):
        watch.judged("r", "tag", "tag@2", ["reject", "reject", "abstain"])
    assert alarms(watch) == {("verdicts", "tag@2")}


def test_the_index_grows_with_the_shift_and_chance_shrinks_with_the_counts() -> None:
    reference = [100, 200, 700]
    equal, small, large = ([10, 20, 70], [20, 20, 60], [60, 20, 20])
    indexes = [stability_index(seen, reference)[0] for seen in (equal, small, large)]
    assert indexes[0] < 0.01 < indexes[1] < 0.25 < indexes[2]
    few, many = stability_index(equal, reference)[1], stability_index([10 * each for each in equal], reference)[1]
    # chi2(2) at .999 is 13.816; the approximation is a little on the safe side.
    assert 13.816 <= few / (1 / 100 + 1 / 1000) <= 14.3
    assert many < few
    assert stability_index([50], [50]) == (0.0, 0.0)


def test_wilson_interval_agrees_with_the_published_example() -> None:
    """Brown, Cai and DasGupta (2001) print the interval of 0 of n as [0, z^2 / (n + z^2)]."""
    low, high = wilson(0, 30)
    assert low == 0.0
    assert high == pytest.approx(1.96**2 / (30 + 1.96**2))
    assert wilson(0, 0) == (0.0, 1.0)


# --- the case: a broken prompt behind a healthy engine --------------------------------------------------------

SCHEMA = choice_schema("tags", ["MILK", "CHEESE"], 1)


def engine_answer(request: LLMRequest) -> str:
    """The engine is well; the broken prompt lost the instruction to answer with JSON."""
    return '{"tags": ["MILK"]}' if "JSON" in request.system else "Sure! Here is a poem about milk."


async def test_a_broken_prompt_raises_the_alarm_while_the_infrastructure_is_green() -> None:
    registry = CollectorRegistry()
    metrics, watch = Metrics(registry), monitors()
    registry.register(watch)
    observer = Observers([metrics, watch], metrics)
    gateway = Gateway.single(FakeLLM(engine_answer).generate, "fake", validator=AnswerValidator(), observer=observer)

    async def tag(prompt: str, system: str) -> bool:
        request = LLMRequest(system, "Product: milk", 48, SCHEMA)
        try:
            await gateway.ask(Ask("tag", request, budget_s=20.0, prompt=prompt))
        except UnusableAnswer:
            return False
        return True

    def sample(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"tandem_{name}", labels)

    def alarm(monitor: str, prompt: str) -> float | None:
        return sample("quality_alarm", monitor=monitor, task="tag", prompt=prompt)

    assert all([await tag("tag@good", "Answer with JSON only.") for _ in range(40)])
    assert (alarm("malformed", "tag@good"), alarm("completion", "tag@good")) == (0.0, 0.0)
    assert not any(await asyncio.gather(*(tag("tag@broken", "Be creative.") for _ in range(40))))
    await gateway.aclose()
    assert (alarm("malformed", "tag@broken"), alarm("completion", "tag@broken")) == (1.0, 1.0)
    assert (alarm("malformed", "tag@good"), alarm("completion", "tag@good")) == (0.0, 0.0)
    # All else is green: no engine failed or was late, no breaker moved, nobody waits, no observer failed.
    told = [each for family in registry.collect() for each in family.samples]
    assert {each.labels["error"] for each in told if each.name == "tandem_llm_calls_total"} == {""}
    assert {each.labels["error"] for each in told if each.name == "tandem_llm_errors_total"} == {"UnusableAnswer"}
    assert not [each for each in told if each.name.startswith(("tandem_llm_breaker", "tandem_observer"))]
    assert sample("llm_running", target="default") == 0
