"""One ask on its way through the targets of its route: who next, until when, and whether to ask again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from dataclasses import dataclass, replace

from models.errors import EngineLoading, EngineTimeout, EngineUnavailable, PromptTooLong, UnusableAnswer
from models.ports import LLMRequest
from serving.errors import BudgetExceeded
from serving.gateway.breaker import RetryBudget
from serving.gateway.budget import Spending
from serving.gateway.calls import Call, Caller, Resting
from serving.gateway.config import RetryConfig
from serving.gateway.judge import Judge, Judged
from serving.gateway.ports import Ask
from serving.gateway.routing import Plan
from serving.gateway.targets import Target

_log = logging.getLogger(__name__)

_SLOW = 0.95
"""The quantile of answer lengths that a target is given time for where others could be asked."""
_SPARE = 0.25
"""Of the time left, kept for the next target at least: what hangs must not take it all."""
_AFTER_REST_S = 0.005
"""Timers may come a little early."""


@dataclass(frozen=True, slots=True)
class AskingServices:
    """What all asks share."""

    caller: Caller
    judge: Judge
    retries: RetryConfig
    budget: RetryBudget


class Asking:
    """One ask on its way through its targets."""

    def __init__(self, services: AskingServices, ask: Ask, plan: Plan, deadline: float, spending: Spending) -> None:
        self._services = services
        self._ask = ask
        self._deadline = deadline
        self._spending = spending
        self._chars = len(ask.request.system) + len(ask.request.user)
        self._queue = deque(plan.targets.ordered)
        if len(self._queue) > 1:
            # Whoever has a call to spare comes first; the order of the route decides among them.
            self._queue = deque(sorted(self._queue, key=lambda target: target.free.locked()))
        self._plan = plan
        self._failed: list[Target] = []
        self._done: list[Target] = []
        self._calls = 0
        self._repairs = 1
        self._failure: Exception | None = None
        self._passed: Exception | None = None

    async def judged(self) -> tuple[Target, Judged, bool]:
        """Who answered, what, and whether it had to be repaired. Raises what `Gateway.ask` raises."""
        while True:
            if (answered := await self._round()) is not None:
                return answered
            if not await self._rested():
                raise self._failure or self._passed or EngineUnavailable("no LLM target could be asked")

    async def _round(self) -> tuple[Target, Judged, bool] | None:
        """Ask one target after the other until one answers, none is left, or enough calls were made."""
        while self._queue and self._calls <= self._services.retries.per_ask:
            target = self._queue.popleft()
            if (reason := self._unfit(target)) is not None:
                self._passed = self._passed or reason
                continue
            if target in self._failed and not await self._may_retry():
                break
            before = self._spending.attempts
            try:
                return target, *await self._asked(target)
            except Resting as error:
                self._passed = self._passed or error
            except (BudgetExceeded, EngineLoading, EngineTimeout, PromptTooLong, UnusableAnswer, ValueError) as error:
                self._failure = error  # asking the same target again would bring the same
                self._done.append(target)
            except EngineUnavailable as error:
                self._failure = error
                if self._spending.attempts > before:
                    self._failed.append(target)
                    self._queue.append(target)
                else:  # nobody was asked, nor will be
                    self._done.append(target)
            self._calls += self._spending.attempts > before
        return None

    async def _rested(self) -> bool:
        """Wait for the first target to end its rest, if the ask is a job's and has the time: nobody sits and waits for
        it, and an item passed over for a pause of seconds would stay without its answer."""
        resting = [target for target in self._plan.targets.ordered if target not in self._done]
        pause = min((target.breaker.rest_s for target in resting), default=0.0)
        if not self._ask.job or self._calls > self._services.retries.per_ask or not 0.0 < pause < self._left():
            return False
        await asyncio.sleep(pause + _AFTER_REST_S)
        self._queue.extend(target for target in resting if target not in self._queue)
        return True

    async def _asked(self, target: Target) -> tuple[Judged, bool]:
        ask, request = self._ask, self._ask.request
        judged = await self._call(target, request)
        repaired = judged.mended
        if judged.problem and self._repairs:
            again = self._services.judge.repair(ask, judged)
            if again is not None and self._unfit(target) is None:
                self._repairs -= 1
                second = await self._repair(
                    target, replace(again, max_tokens=min(again.max_tokens, request.max_tokens))
                )
                if second is not None and not second.problem:
                    return second, True
        if judged.problem and judged.problem != "truncated":
            raise UnusableAnswer(f"LLM target {target.name!r} gave no usable answer ({judged.problem})")
        return judged, repaired

    async def _repair(self, target: Target, request: LLMRequest) -> Judged | None:
        try:
            return await self._call(target, request, repair=True)
        except (BudgetExceeded, PromptTooLong, EngineTimeout, EngineUnavailable, ValueError) as error:
            _log.info("repair by %s: %s", target.name, error)
            return None

    async def _call(self, target: Target, request: LLMRequest, *, repair: bool = False) -> Judged:
        ask = self._ask
        call = Call(ask, target, request, self._until(target), ask.tenant, ask.job, repair=repair)
        return await self._services.caller.make(call, self._spending)

    def _unfit(self, target: Target) -> Exception | None:
        """Why a target need not be asked now."""
        if not target.breaker.ready:
            return EngineUnavailable(
                f"LLM target {target.name!r} failed repeatedly and is given a rest of {target.breaker.rest_s:.1f} s"
            )
        expected = self._expected(target)
        if expected > (left := self._left()):
            return EngineTimeout(
                f"LLM target {target.name!r} needs about {expected:.1f} s and {max(left, 0.0):.1f} s are left: allow "
                "more time or ask for less"
            )
        return None if left > 0 else EngineTimeout("no time was left to ask the LLM")

    def _until(self, target: Target) -> float:
        """A call may take all the time left but what the next target would need, and a quarter at least for that."""
        now = self._now()
        until = min(self._deadline, now + target.config.timeout_s)
        for following in self._queue:
            if following not in self._failed and self._unfit(following) is None:
                spare = max(self._expected(following, _SLOW), _SPARE * (self._deadline - now))
                return min(until, max(self._deadline - spare, now + self._expected(target, _SLOW)))
        return until

    async def _may_retry(self) -> bool:
        """Wait a little before asking who has failed; False where there were too many retries, or no time is left."""
        if not self._services.budget.take():
            return False
        longest = self._services.retries.backoff_ms / 1e3 * 2 ** (len(self._failed) - 1)
        pause = longest * random.uniform(0.5, 1.0)
        if pause >= self._left():
            return False
        await asyncio.sleep(pause)
        return True

    def _expected(self, target: Target, share: float = 0.5) -> float:
        return target.estimator.seconds(self._ask.task, self._chars, self._ask.request.max_tokens, share)

    def _left(self) -> float:
        return self._deadline - self._now()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
