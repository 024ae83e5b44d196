"""When a target rests and when it is tried again; how often anything is."""

from __future__ import annotations

from serving.gateway.breaker import Breaker, RetryBudget
from serving.gateway.config import BreakerConfig, RetryConfig
from serving.gateway.ports import BreakerState
from tests.unit.serving.gateways import Hand


class Bench:
    def __init__(self, **config: float) -> None:
        self.clock = Hand()
        self.states: list[BreakerState] = []
        self.breaker = Breaker(BreakerConfig.model_validate(config), self.clock, self.states.append)

    def call(self, *outcomes: bool) -> None:
        for ok in outcomes:
            assert self.breaker.admit()
            self.breaker.succeeded() if ok else self.breaker.failed()


def test_share_of_failures_opens_it() -> None:
    bench = Bench(min_calls=4, failure_share=0.5)
    bench.call(True, False, True)
    assert bench.breaker.ready
    bench.call(False)
    assert not bench.breaker.admit()
    assert bench.states == ["open"]


def test_few_calls_prove_nothing() -> None:
    bench = Bench(min_calls=3)
    bench.call(False, False)
    assert bench.breaker.ready


def test_failures_of_long_ago_are_forgotten() -> None:
    bench = Bench(min_calls=3, window_s=30.0)
    bench.call(False, False)
    bench.clock.now += 31.0
    bench.call(False)
    assert bench.breaker.ready


def test_after_its_rest_one_call_tries_and_its_success_closes_it() -> None:
    bench = Bench(rest_s=5.0)
    bench.call(False, False, False)
    bench.clock.now += 4.9
    assert not bench.breaker.admit()
    bench.clock.now += 0.2
    assert bench.breaker.admit()
    assert not bench.breaker.admit(), "one call at a time tries"
    bench.breaker.succeeded()
    assert bench.states == ["open", "half_open", "closed"]
    bench.call(True, False)
    assert bench.breaker.ready, "what was before the rest is forgotten"


def test_failed_try_doubles_the_rest_up_to_the_longest() -> None:
    bench = Bench(rest_s=5.0, longest_rest_s=12.0)
    bench.call(False, False, False)
    for rest in (5.0, 10.0, 12.0, 12.0):
        assert bench.breaker.rest_s == rest
        bench.clock.now += rest
        bench.call(False)


def test_abandoned_try_leaves_the_next_one_free() -> None:
    bench = Bench(rest_s=5.0)
    bench.call(False, False, False)
    bench.clock.now += 5.0
    assert bench.breaker.admit()
    bench.breaker.abandoned()
    assert bench.breaker.admit()


def test_rest_it_asks_for_is_given_at_once_and_not_for_ever() -> None:
    bench = Bench(longest_rest_s=60.0)
    assert bench.breaker.admit()
    bench.breaker.failed(3_600.0)
    assert (bench.breaker.rest_s, bench.breaker.ready) == (60.0, False)


def test_answers_of_calls_begun_before_it_opened_do_not_close_it() -> None:
    bench = Bench()
    assert bench.breaker.admit()
    bench.call(False, False, False)
    bench.breaker.succeeded()
    assert bench.breaker.state == "open"


def test_retries_come_from_a_share_of_the_asks() -> None:
    budget = RetryBudget(RetryConfig(share=0.25, burst=2.0))
    assert [budget.take() for _ in range(3)] == [True, True, False]
    for _ in range(4):
        budget.asked()
    assert [budget.take(), budget.take()] == [True, False]
    for _ in range(1_000):
        budget.asked()
    assert [budget.take() for _ in range(3)] == [True, True, False]
