"""How long an answer is expected to take."""

from __future__ import annotations

from math import nan

import pytest

from models.ports import LLMResult
from serving.gateway.config import TargetConfig
from serving.gateway.estimate import Estimator, Lengths
from tests.unit.serving.gateways import Hand


def result(tokens: int, prompt: int = 100, first: float = nan) -> LLMResult:
    return LLMResult("x", "stop", prompt, tokens, (), first)


def seen(estimator: Estimator, count: int, *, tokens: int = 50, first: float = 0.2, seconds: float = 1.2) -> None:
    for _ in range(count):
        estimator.answered("tag", 400, 400, result(tokens, first=first), seconds)


def test_nothing_is_expected_of_what_nobody_knows() -> None:
    assert Estimator(TargetConfig(), Hand()).seconds("tag", 400, 50) == 0.0


def test_configured_speed_holds_until_it_was_observed() -> None:
    estimator = Estimator(TargetConfig(output_tokens_per_s=10.0, prompt_tokens_per_s=100.0), Hand())
    assert estimator.seconds("tag", 400, 50, 1.0) == pytest.approx(100 / 100 + 50 / 10)
    seen(estimator, 2)
    assert estimator.seconds("tag", 400, 50) == pytest.approx(100 / 100 + 50 / 10)
    seen(estimator, 1)
    assert estimator.seconds("tag", 400, 50) == pytest.approx(0.2 + 1.0)


def test_prompt_and_output_take_their_own_time() -> None:
    estimator = Estimator(TargetConfig(), Hand())
    seen(estimator, 10)  # 500 tokens/s read, 50 tokens/s written
    assert estimator.seconds("tag", 4_000, 50) == pytest.approx(2.0 + 1.0)
    assert estimator.seconds("tag", 400, 10) == pytest.approx(0.2 + 0.2), "max_tokens bounds the length"


def test_without_a_time_to_the_first_token_all_of_it_is_writing() -> None:
    estimator = Estimator(TargetConfig(), Hand())
    seen(estimator, 10, first=nan)
    assert estimator.seconds("tag", 4_000, 50) == pytest.approx(1.2)


def test_length_is_the_quantile_asked_for_of_its_task() -> None:
    estimator = Estimator(TargetConfig(), Hand())
    for tokens in range(1, 101):
        estimator.answered("tag", 400, 400, result(tokens), tokens * 0.01)
    assert estimator.seconds("tag", 400, 500, 0.5) == pytest.approx(0.49, abs=0.1)
    assert estimator.seconds("tag", 400, 500, 0.95) == pytest.approx(0.93, abs=0.1)
    assert estimator.seconds("other", 400, 500, 0.95) == 0.0


def test_it_follows_a_target_that_slows_down_and_forgets_one_nobody_asks() -> None:
    clock = Hand()
    estimator = Estimator(TargetConfig(), clock)
    seen(estimator, 10)
    seen(estimator, 50, first=0.4, seconds=2.4)
    assert estimator.seconds("tag", 400, 50) == pytest.approx(2.4, rel=0.05)
    clock.now += 31.0
    assert estimator.seconds("tag", 400, 50) == 0.0


def test_timeouts_slow_it_down_and_hasty_ones_do_not() -> None:
    estimator = Estimator(TargetConfig(), Hand())
    seen(estimator, 10)
    estimator.timed_out("tag", 400, 50, 0.5)
    assert estimator.seconds("tag", 400, 50) == pytest.approx(1.2)
    for _ in range(100):
        estimator.timed_out("tag", 400, 50, 5.0)
    assert estimator.seconds("tag", 400, 50) == pytest.approx(5.0, rel=0.05)


def test_template_that_adds_more_tokens_than_configured_is_learnt() -> None:
    estimator = Estimator(TargetConfig(template_tokens=10), Hand())
    estimator.answered("tag", 40, 40, result(5, prompt=75), 1.0)
    assert estimator.template_tokens == 35


def test_quantiles_are_of_the_last_answers() -> None:
    lengths = Lengths()
    assert lengths.quantile(0.5) is None
    for tokens in [1] * 300 + [9] * 272:
        lengths.add(tokens)
    assert lengths.quantile(0.0) == lengths.quantile(1.0) == 9
