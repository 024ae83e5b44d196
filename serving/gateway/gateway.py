"""The one way to an LLM: who is asked, in what time, at what cost, and what is believed of the answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from models.errors import EngineTimeout, EngineUnavailable
from models.ports import LLMRequest
from serving.gateway.asking import Asking, AskingServices
from serving.gateway.breaker import RetryBudget
from serving.gateway.budget import UNIT, Spending
from serving.gateway.calls import Call, Caller, Resting
from serving.gateway.config import DEFAULT_TARGET, GatewayConfig, TargetConfig
from serving.gateway.judge import Judge, NoValidator
from serving.gateway.ledger import Ledger
from serving.gateway.ports import (
    Answer,
    Ask,
    Attempt,
    BreakerState,
    Cache,
    Hit,
    Moderator,
    Observer,
    Outcome,
    Provider,
    Redactor,
    Validator,
    note_usage,
)
from serving.gateway.routing import Plan, Router
from serving.gateway.targets import Target, TargetState, VendorTarget, make_targets
from serving.messages import Usage

_log = logging.getLogger(__name__)

_GRACE_S = 0.004
"""What the gateway itself may take beyond a caller's time, to end calls and close the books."""


class Silent:
    """An Observer that tells nobody."""

    def asked(self, ask: Ask) -> None: ...

    def attempted(self, ask: Ask, attempt: Attempt) -> None: ...

    def ended(self, ask: Ask, outcome: Outcome) -> None: ...

    def breaker(self, target: str, state: BreakerState) -> None: ...

    def queued(self, target: str, running: int) -> None: ...

    def rendered(self, ask: Ask, target: str, sent: LLMRequest) -> None: ...


class Gateway:
    """Answers asks from the cache or by the targets of their route, one after the other. For one event loop.

    ``providers`` and ``models`` (what a release calls each model) are by target name. Raises ValueError where a target
    has no provider, or sends prompts to a vendor with nothing to take personal data out of them.
    """

    def __init__(
        self,
        config: GatewayConfig,
        providers: Mapping[str, Provider],
        models: Mapping[str, str] | None = None,
        *,
        ledger: Ledger | None = None,
        cache: Cache | None = None,
        redactor: Redactor | None = None,
        validator: Validator | None = None,
        moderator: Moderator | None = None,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._observer = observer or Silent()
        self.targets = make_targets(config, providers, models or {}, self._observer, clock)
        for target in self.targets.ordered:
            if isinstance(target, VendorTarget) and target.config.redact and redactor is None:
                raise ValueError(
                    f"target {target.name!r} is a vendor: give the gateway a redactor, or set redact = false"
                )
        self._router = Router(config, self.targets)
        self._cache = cache
        self._ledger = ledger
        judge = Judge(validator or NoValidator(), moderator)
        self._caller = Caller(judge, self._observer, redactor, ledger, config.budgets, clock)
        self._services = AskingServices(self._caller, judge, config.retries, RetryBudget(config.retries))
        self._clock = clock
        self._shadows: set[asyncio.Task[None]] = set()
        self._closed = False

    @classmethod
    def single(cls, provider: Provider | None, model: str = "", **parts: Any) -> Gateway:
        """A gateway of one in-house target, or of none; ``parts`` are the constructor's, ``target`` the target's."""
        target = TargetConfig(**parts.pop("target", {}))
        if provider is None:
            return cls(GatewayConfig(), {}, **parts)
        config = GatewayConfig(targets={DEFAULT_TARGET: target}, **parts.pop("config", {}))
        return cls(config, {DEFAULT_TARGET: provider}, {DEFAULT_TARGET: model}, **parts)

    async def ask(self, ask: Ask) -> Answer:
        """The answer within ``ask.budget_s`` seconds (and 10 ms), or an error as clear.

        Raises EngineTimeout, EngineUnavailable, PromptTooLong, UnusableAnswer (every answer had a problem),
        BudgetExceeded, or ValueError for a schema no target can enforce. `usage_of` tells what an error has cost.
        """
        started = self._clock()
        ask = self._with_bounded_output(ask)
        spending = Spending(self._config.budgets.request)
        self._observer.asked(ask)
        answer: Answer | None = None
        name = ""
        try:
            answer = await self._answer(ask, spending)
        except BaseException as error:
            note_usage(error, _usage(spending))
            name = type(error).__name__ if not isinstance(error, Resting) else EngineUnavailable.__name__
            raise
        finally:
            self._observer.ended(ask, Outcome(answer, name, self._clock() - started, spending.attempts))
        return answer

    def states(self) -> tuple[TargetState, ...]:
        """How each target fares now."""
        return tuple(target.state for target in self.targets.ordered)

    async def aclose(self) -> None:
        """Cancel shadow calls, wait for what runs in the background, and write what is settled."""
        self._closed = True
        for task in self._shadows:
            task.cancel()
        while self._shadows:
            await asyncio.wait(set(self._shadows))
        await self._caller.aclose()
        if self._ledger is not None:
            await self._ledger.aclose()

    def _with_bounded_output(self, ask: Ask) -> Ask:
        budgets = self._config.budgets
        most = budgets.max_output_tokens.get(ask.task, budgets.max_output_tokens_default)
        if ask.request.max_tokens <= most:
            return ask
        return replace(ask, request=replace(ask.request, max_tokens=most))

    async def _answer(self, ask: Ask, spending: Spending) -> Answer:
        now = asyncio.get_running_loop().time()
        deadline = now + ask.budget_s
        if self._closed:
            raise EngineUnavailable("the gateway is closed: the service stops")
        plan = self._router.plan(ask)
        kept = plan.kept
        partition = ask.tenant if self._config.cache_by_tenant else ""
        try:
            async with asyncio.timeout_at(max(deadline, now) + _GRACE_S):
                if (hit := await self._hit(ask, kept, partition)) is not None:
                    return Answer(hit.result, Usage(cached=True, model=hit.model), cache=hit.how, attempts=0)
                if ask.budget_s <= 0:
                    raise EngineTimeout("no time was left to ask the LLM")
                self._services.budget.asked()
                self._start_shadows(ask, plan)
                target, judged, repaired = await Asking(self._services, ask, plan, deadline, spending).judged()
        except TimeoutError:
            raise EngineTimeout(f"the LLM did not answer within {ask.budget_s * 1e3:.0f} ms") from None
        if self._cache is not None and not judged.problem and target in kept:
            self._cache.put(ask, target.model, judged.result, partition)
        usage = _usage(spending, target.model)
        return Answer(judged.result, usage, target.name, "", spending.attempts, repaired, judged.problem)

    async def _hit(self, ask: Ask, kept: Sequence[Target], partition: str) -> Hit | None:
        if self._cache is None or not kept:
            return None
        models = tuple(dict.fromkeys(target.model for target in kept))
        return await self._cache.get(ask, models, partition)

    def _start_shadows(self, ask: Ask, plan: Plan) -> None:
        for target in plan.shadows.ordered:
            if not target.free.locked() and len(self._shadows) < self._config.max_shadows:
                task = asyncio.get_running_loop().create_task(self._shadow(ask, target))
                self._shadows.add(task)
                task.add_done_callback(self._shadows.discard)

    async def _shadow(self, ask: Ask, target: Target) -> None:
        until = asyncio.get_running_loop().time() + target.config.timeout_s
        call = Call(ask, target, ask.request, until, tenant="", job="shadow", shadow=True)
        try:
            await self._caller.make(call, Spending(self._config.budgets.request))
        except Exception as error:
            _log.info("shadow of %s: %s", target.name, error)


def _usage(spending: Spending, model: str = "") -> Usage:
    return Usage(spending.prompt_tokens, spending.completion_tokens, spending.spent.units / UNIT, False, model)
