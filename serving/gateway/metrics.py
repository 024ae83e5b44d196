"""Prometheus metrics of the gateway, of RPCs and of the observers themselves: names and labels in one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from serving.errors import NotReady
from serving.gateway.observe import Part
from serving.gateway.ports import Ask, Attempt, BreakerState, Outcome

OTHER: Final = "other"
"""Label of what comes after the bound on distinct values is reached."""
_BREAKER: Final[dict[BreakerState, int]] = {"closed": 0, "half_open": 1, "open": 2}
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0)
"""An LLM's answer: steps of at most two thirds, so that an interpolated p99 is off by less than its step."""
_SHORT: Final = (0.0001, 0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.008, 0.0125, 0.025, 0.05, 0.1)
"""The gateway's own time: fine around its bounds of 1 ms (p50) and 3 ms (p99)."""
_RPC: Final = (0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_PACE: Final = (1, 2, 5, 10, 20, 35, 50, 75, 100, 150, 200, 300, 500, 1_000)
_LENGTH: Final = (1, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1_024, 2_048)
_MOST_ASKS: Final = 4_096
"""Asks under way whose engine time is remembered; one that never ends would otherwise stay for ever."""


class Values:
    """The first ``most`` distinct values of a label, then `OTHER`: a caller cannot fill the memory."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def of(self, value: str) -> str:
        if value in self._known:
            return value
        if len(self._known) < self._most:
            self._known.add(value)
            return value
        return OTHER


M = TypeVar("M", Counter, Gauge, Histogram)


class Family(Generic[M]):
    """A metric's children by label values: the library's own lookup costs five times as much."""

    def __init__(self, metric: M) -> None:
        self._metric: M = metric
        self._children: dict[tuple[str, ...], M] = {}

    def __call__(self, *labels: str) -> M:
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._metric.labels(*labels)
        return child


class Metrics(Part):
    """Observes into ``registry``. Label values that a caller chooses are bounded: ``tenants`` and ``prompts``."""

    def __init__(self, registry: CollectorRegistry, tenants: int = 100, prompts: int = 100) -> None:
        self.registry = registry
        self._tenants, self._prompts, self._tasks = Values(tenants), Values(prompts), Values(20)
        self._engine_s: dict[Ask, float] = {}

        def counter(name: str, text: str, *labels: str) -> Family[Counter]:
            return Family(Counter(f"tandem_{name}", text, labels, registry=registry))

        def gauge(name: str, text: str, *labels: str) -> Family[Gauge]:
            return Family(Gauge(f"tandem_{name}", text, labels, registry=registry))

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Family[Histogram]:
            return Family(Histogram(f"tandem_{name}", text, labels, registry=registry, buckets=buckets))

        self._ask_s = histogram("llm_ask_seconds", "An ask, from call to answer or error.", _SECONDS, "task", "outcome")
        self._overhead_s = histogram("llm_overhead_seconds", "Of an ask, all but its engines' time.", _SHORT, "task")
        self._first_s = histogram("llm_first_token_seconds", "Until an engine's first token.", _SECONDS, "target")
        self._pace = histogram("llm_tokens_per_second", "Completion tokens per second of a call.", _PACE, "target")
        self._length = histogram("llm_output_tokens", "Completion tokens of an answer.", _LENGTH, "task", "prompt")
        self._running = gauge("llm_running", "Calls of a target under way.", "target")
        self._state = gauge("llm_breaker_state", "0 closed, 1 half open, 2 open.", "target")
        self._changes = counter("llm_breaker_changes", "Changes of a breaker's state.", "target", "state")
        self._cache = counter("llm_cache", "Asks by where the answer came from.", "task", "how")
        self._calls = counter("llm_calls", "Calls of engines that are served.", "target", "model", "error")
        self._shadow = counter("llm_shadow_calls", "Calls made to be compared, never served.", "target", "error")
        self._retries = counter("llm_retries", "Calls after an ask's first.", "task")
        self._repairs = counter("llm_repairs", "Second tries of an answer.", "model", "prompt")
        self._problems = counter("llm_problems", "Answers not believed.", "model", "prompt", "problem")
        self._errors = counter("llm_errors", "Asks that ended without an answer.", "task", "error")
        self._refusals = counter("llm_budget_refusals", "Asks over their budget.", "tenant", "task")
        self._tokens = counter("llm_tokens", "Tokens of all calls, shadow included.", "tenant", "task", "kind")
        self._cost = counter("llm_cost", "Cost of all calls, in the prices' currency.", "tenant", "task")
        self._rpc_s = histogram("rpc_seconds", "A gRPC call by its status code.", _RPC, "method", "code")
        self._failed = counter("observer_failures", "Exceptions inside an observer.", "part")
        self._dropped = counter("observer_dropped", "Entries there was no room for, or that no disk took.", "part")

    def attempted(self, ask: Ask, attempt: Attempt) -> None:
        tenant, task = self._tenants.of(ask.tenant), self._tasks.of(ask.task)
        if attempt.prompt_tokens:
            self._tokens(tenant, task, "prompt").inc(attempt.prompt_tokens)
        if attempt.completion_tokens:
            self._tokens(tenant, task, "completion").inc(attempt.completion_tokens)
        if attempt.cost:
            self._cost(tenant, task).inc(attempt.cost)
        if attempt.shadow:
            self._shadow(attempt.target, attempt.error).inc()
            return
        if ask in self._engine_s or len(self._engine_s) < _MOST_ASKS:
            self._engine_s[ask] = self._engine_s.get(ask, 0.0) + attempt.seconds
        self._calls(attempt.target, attempt.model, attempt.error).inc()
        prompt = self._prompts.of(ask.prompt)
        if attempt.repair:
            self._repairs(attempt.model, prompt).inc()
        if attempt.problem:
            self._problems(attempt.model, prompt, attempt.problem).inc()
        if not math.isnan(attempt.first_token_s):
            self._first_s(attempt.target).observe(attempt.first_token_s)
        if not attempt.error:
            self._length(task, prompt).observe(attempt.completion_tokens)
            if attempt.seconds > 0:
                self._pace(attempt.target).observe(attempt.completion_tokens / attempt.seconds)

    def ended(self, ask: Ask, outcome: Outcome) -> None:
        task = self._tasks.of(ask.task)
        engine_s = self._engine_s.pop(ask, 0.0)
        answer = outcome.answer
        if answer is not None:
            self._ask_s(task, "cached" if answer.cache else "answered").observe(outcome.seconds)
            self._cache(task, answer.cache or "miss").inc()
        else:
            self._ask_s(task, "cancelled" if outcome.error == "CancelledError" else "failed").observe(outcome.seconds)
            self._errors(task, outcome.error).inc()
            if outcome.error == "BudgetExceeded":
                self._refusals(self._tenants.of(ask.tenant), task).inc()
        self._overhead_s(task).observe(max(0.0, outcome.seconds - engine_s))
        if outcome.attempts > 1:
            self._retries(task).inc(outcome.attempts - 1)

    def breaker(self, target: str, state: BreakerState) -> None:
        self._state(target).set(_BREAKER[state])
        self._changes(target, state).inc()

    def queued(self, target: str, running: int) -> None:
        self._running(target).set(running)

    def rpc(self, method: str, code: str, seconds: float) -> None:
        """A gRPC call that ended with ``code`` (OK, NOT_FOUND, ...)."""
        self._rpc_s(method, code).observe(seconds)

    def failed(self, part: str) -> None:
        self._failed(part).inc()

    def dropped(self, part: str, how_many: int) -> None:
        self._dropped(part).inc(how_many)


class MetricsServer:
    """Prometheus' text format over HTTP, at the first free port of a range: each process of a machine has its own."""

    def __init__(self, registry: CollectorRegistry, host: str, first_port: int, ports: int) -> None:
        """Raises NotReady where no port of the range is free."""
        for port in range(first_port, first_port + ports):
            try:
                self._server, self._thread = start_http_server(port, host, registry)
            except OSError:
                continue
            self.port = int(self._server.server_port)
            return
        raise NotReady(
            f"no port of {first_port}-{first_port + ports - 1} on {host} is free for metrics; "
            "widen telemetry.metrics_ports, or set telemetry.metrics = false"
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
