"""One call of one engine: its slot, its money, what is sent, how long it may take, and what is learnt from it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import nan

from features.errors import StoreUnavailable
from models.errors import EngineLoading, EngineTimeout, EngineUnavailable, PromptTooLong, UnusableAnswer
from models.ports import LLMRequest, LLMResult
from serving.gateway.budget import Booking, Spending, Spent, bounds_of, day_of, prompt_bound, units
from serving.gateway.config import BudgetConfig
from serving.gateway.judge import Judge, Judged
from serving.gateway.ledger import Ledger, Reservation
from serving.gateway.ports import Ask, Attempt, Observer, Problem, Redactor
from serving.gateway.privacy import redact_of
from serving.gateway.targets import Target

_log = logging.getLogger(__name__)

_PATIENT_S = 1.0
"""Where nothing is known of a target, a caller with less time than this learns nothing of it when he gets no answer."""
_SLOW = 0.95
"""The quantile of answer lengths that a patient caller waits for."""
_BOUNDS = 1_024
"""Tenants and jobs whose accounts and limits are remembered."""
_STOPPING_S = 0.003
"""How long a cancelled engine call is waited for; it ends in the background where that is not enough."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is to be called, for whom, until when (the event loop's time).

    ``tenant`` and ``job`` pay; for a shadow they are not the ask's.
    """

    ask: Ask
    target: Target
    request: LLMRequest
    until: float
    tenant: str
    job: str
    shadow: bool = False
    repair: bool = False


class Resting(EngineUnavailable):
    """The target's breaker is open; nobody was asked."""


class Caller:
    """Makes engine calls. Holds those that were given up until they have ended."""

    def __init__(
        self,
        judge: Judge,
        observer: Observer,
        redactor: Redactor | None,
        ledger: Ledger | None,
        budgets: BudgetConfig,
        clock: Callable[[], float],
    ) -> None:
        self._judge = judge
        self._observer = observer
        self._redactor = redactor
        self._ledger = ledger
        self._clock = clock
        self._bounds = lru_cache(_BOUNDS)(partial(bounds_of, budgets))
        self._leftover: set[asyncio.Future[LLMResult]] = set()

    async def make(self, call: Call, spending: Spending) -> Judged:
        """The engine's answer, judged. Whatever happens, what it came to is booked and added to ``spending``.

        Raises BudgetExceeded before anything is sent, EngineTimeout at ``until``, EngineUnavailable, PromptTooLong, or
        ValueError for a schema the engine cannot enforce.
        """
        await self._enter(call)
        try:
            sent = self._outgoing(call)
            endpoint = not call.target.config.own_weights
            bound = prompt_bound(sent, call.target.estimator.template_tokens, with_schema=endpoint)
            reservation = await self._reserve(call, spending, bound, sent.max_tokens)
            if not call.target.breaker.admit():
                self._settle(reservation, Spent())
                raise Resting(f"LLM target {call.target.name!r} failed repeatedly and is given a rest")
            spending.attempts += 1
            self._observer.rendered(call.ask, call.target.name, sent)
            running = _Running(self, call, sent, bound, reservation, spending, self._clock())
            try:
                result = await self._within(call.target.provider(sent), call.until)
            except BaseException as error:
                # Cancelled when its time is up: a busy loop ended the whole ask before it came to end the call.
                late = isinstance(error, asyncio.CancelledError) and asyncio.get_running_loop().time() >= call.until
                running.failed(_Late() if late else error)
                raise _told(error, call, running.seconds) from error.__cause__
            return running.answered(result)
        finally:
            self._leave(call.target)

    async def aclose(self) -> None:
        """Wait for calls that were given up."""
        while self._leftover:
            await asyncio.wait(set(self._leftover))

    async def _enter(self, call: Call) -> None:
        """Take one of the target's slots, waiting for it if need be."""
        target = call.target
        if target.free.locked():
            try:
                async with asyncio.timeout_at(call.until):
                    await target.free.acquire()
            except TimeoutError:
                raise EngineTimeout(
                    f"LLM target {target.name!r} had {target.running} calls under way until no time was left: lower "
                    "the load or raise its max_concurrency"
                ) from None
        else:
            await target.free.acquire()  # does not wait
        target.running += 1
        self._observer.queued(target.name, target.running)

    def _leave(self, target: Target) -> None:
        target.running -= 1
        target.free.release()
        self._observer.queued(target.name, target.running)

    def _outgoing(self, call: Call) -> LLMRequest:
        target, request = call.target, call.request
        if not target.config.vendor or not target.config.redact:
            return request
        if self._redactor is None:
            raise EngineUnavailable(f"LLM target {target.name!r} is a vendor and nothing takes personal data out")
        clean = partial(redact_of, self._redactor, call.ask.personal)
        try:
            return replace(request, system=clean(request.system), user=clean(request.user))
        except Exception as error:
            _log.exception("redaction failed")
            raise EngineUnavailable("personal data could not be taken out of the prompt: no vendor is asked") from error

    async def _reserve(self, call: Call, spending: Spending, bound: int, max_tokens: int) -> Reservation | None:
        cost = units(call.target.config, bound, max_tokens)
        spending.check(bound + max_tokens, cost)
        if self._ledger is None:
            return None
        day = day_of(self._ledger.wall())
        booking = Booking(day, call.tenant, call.ask.task, call.job, call.target.name, call.target.model)
        bounds = self._bounds(call.tenant, call.job, day)
        try:
            return await self._ledger.reserve(booking, bound + max_tokens, cost, bounds)
        except StoreUnavailable as error:
            _log.error("%s", error)
            raise EngineUnavailable("the budgets of LLMs cannot be checked, so none is asked") from error

    async def _within(self, work: Awaitable[LLMResult], until: float) -> LLMResult:
        """The engine's answer. An engine that does not stop when cancelled cannot hold the caller up."""
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        # What asyncio.wait does for many, for one: a third of its time.
        waiter = loop.create_future()
        task.add_done_callback(lambda _: _wake(waiter))
        timer = loop.call_at(max(until, loop.time()), _wake, waiter)
        try:
            await waiter
            if task.done():
                return task.result()
            raise _Late
        finally:
            timer.cancel()
            if task.done():
                self._ended(task)
            else:
                await self._stop(task)

    async def _stop(self, task: asyncio.Future[LLMResult]) -> None:
        self._leftover.add(task)
        task.add_done_callback(self._ended)
        task.cancel()
        await asyncio.wait((task,), timeout=_STOPPING_S)

    def _ended(self, task: asyncio.Future[LLMResult]) -> None:
        self._leftover.discard(task)
        if not task.cancelled():
            task.exception()  # nobody waits for it: fetched, so that asyncio does not complain

    def _settle(self, reservation: Reservation | None, spent: Spent) -> None:
        if self._ledger is not None and reservation is not None:
            self._ledger.settle(reservation, spent)

    def _attempted(self, call: Call, attempt: Attempt) -> None:
        self._observer.attempted(call.ask, attempt)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Late(Exception):
    """The call's own limit passed."""


@dataclass(slots=True)
class _Running:
    """A call under way, and the books to be closed on it."""

    caller: Caller
    call: Call
    sent: LLMRequest
    bound: int
    reservation: Reservation | None
    spending: Spending
    started: float
    seconds: float = 0.0

    def answered(self, result: LLMResult) -> Judged:
        target, ask = self.call.target, self.call.ask
        self.seconds = seconds = self.caller._clock() - self.started
        target.breaker.succeeded()
        chars = len(self.sent.system) + len(self.sent.user)
        size = self.bound - target.estimator.template_tokens
        target.estimator.answered(ask.task, chars, size, result, seconds)
        cost = self._book(result.prompt_tokens, result.completion_tokens)
        problem: Problem = ""
        error = ""
        try:
            asked = ask if self.call.request is ask.request else replace(ask, request=self.call.request)
            judged = self.caller._judge.judge(asked, result)
            problem = judged.found
        except Exception as bug:
            error = type(bug).__name__
            _log.exception("the check of an answer to %r failed", ask.task)
            raise UnusableAnswer("the answer of the LLM could not be checked") from bug
        finally:
            self._note((result.prompt_tokens, result.completion_tokens), cost, error, problem, result.first_token_s)
        return judged

    def failed(self, error: BaseException) -> None:
        target, task = self.call.target, self.call.ask.task
        self.seconds = seconds = self.caller._clock() - self.started
        usage: tuple[int, int] | None = 0, 0
        problem: Problem = ""
        match error:
            case PromptTooLong() | ValueError() | EngineLoading():
                target.breaker.abandoned()
            case EngineUnavailable():
                usage = error.usage
                if usage is not None and any(usage):
                    problem = "refused"  # it worked and would not answer
                    target.breaker.succeeded()
                else:
                    target.breaker.failed(error.retry_after_s if error.retry_after_s > 0 else 0.0)
            case _Late() | EngineTimeout():
                usage = None
                chars = len(self.sent.system) + len(self.sent.user)
                # Learnt first: the estimate would forget by itself what it is compared with.
                patient = self._patient(chars, seconds)
                target.estimator.timed_out(task, chars, self.sent.max_tokens, seconds)
                target.breaker.failed() if patient else target.breaker.abandoned()
            case asyncio.CancelledError():
                usage = None
                target.breaker.abandoned()
            case _:
                usage = None
                target.breaker.failed()
        cost = self._assume() if usage is None else self._book(*usage) if any(usage) else 0.0
        name = "EngineTimeout" if isinstance(error, _Late) else type(error).__name__
        self._note(usage or (0, 0), cost, name, problem)

    def _patient(self, chars: int, seconds: float) -> bool:
        """Whether the target had as long as nearly every answer takes."""
        estimator = self.call.target.estimator
        expected = estimator.seconds(self.call.ask.task, chars, self.sent.max_tokens, _SLOW)
        return seconds >= (expected or _PATIENT_S) * 0.99

    def _book(self, prompt_tokens: int, completion_tokens: int) -> float:
        cost = units(self.call.target.config, prompt_tokens, completion_tokens)
        return self._close(Spent(1, prompt_tokens, completion_tokens, 0, cost), prompt_tokens, completion_tokens)

    def _assume(self) -> float:
        """Nobody knows what it came to: its worst case is what was reserved."""
        cost = units(self.call.target.config, self.bound, self.sent.max_tokens)
        tokens = self.bound + self.sent.max_tokens
        return self._close(Spent(1, 0, 0, tokens, cost), self.bound, self.sent.max_tokens)

    def _close(self, spent: Spent, prompt_tokens: int, completion_tokens: int) -> float:
        self.caller._settle(self.reservation, spent)
        self.reservation = None
        self.spending.add(spent, prompt_tokens, completion_tokens)
        return spent.units / 1e9

    def _note(
        self, tokens: tuple[int, int], cost: float, error: str, problem: Problem, first_token_s: float = nan
    ) -> None:
        self.caller._settle(self.reservation, Spent())
        target = self.call.target
        self.caller._attempted(
            self.call,
            Attempt(
                target=target.name,
                model=target.model,
                seconds=self.seconds,
                first_token_s=first_token_s,
                prompt_tokens=tokens[0],
                completion_tokens=tokens[1],
                cost=cost,
                error=error,
                problem=problem,
                shadow=self.call.shadow,
                repair=self.call.repair,
            ),
        )


def _told(error: BaseException, call: Call, seconds: float) -> BaseException:
    """The error the asker gets: ours, with a text that may go into a reply."""
    if isinstance(error, _Late):
        return EngineTimeout(f"LLM target {call.target.name!r} did not answer within {seconds * 1e3:.0f} ms")
    known = (EngineTimeout, EngineUnavailable, PromptTooLong, ValueError)
    if isinstance(error, known) or not isinstance(error, Exception):
        return error
    _log.error("LLM target %r failed", call.target.name, exc_info=error)
    return EngineUnavailable(f"LLM target {call.target.name!r} failed with {type(error).__name__}", usage=None)
