"""What the gateway is asked, what it answers, and the parts it is made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from models.ports import LLMRequest, LLMResult
from serving.messages import Usage

Provider = Callable[[LLMRequest], Awaitable[LLMResult]]
"""One engine, wherever it runs. Raises EngineTimeout, EngineUnavailable, PromptTooLong; cancelling stops the work."""

Problem = Literal["", "malformed", "schema", "taxonomy", "unknown_id", "truncated", "refused", "unsafe", "empty"]
"""What is wrong with an answer, as it is counted; "" is nothing."""

Check = Callable[[LLMResult], Problem]
"""What the task itself demands of an answer beyond its JSON schema: labels of the taxonomy, ids of the catalog."""


@dataclass(frozen=True, slots=True, eq=False)
class Meaning:
    """What an answer depends on, for the semantic cache.

    ``scope``: answers are shared within it only (task, prompt version, what else must be equal, e.g. the vocabulary).
    ``vector``: float32 [dimension] of L2 norm 1, of the words that may be near instead of equal.
    """

    scope: str
    vector: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """One question to an LLM and everything that decides who answers it.

    ``budget_s``: seconds until the caller needs the answer. ``prompt``: name@version of the template. ``tenant``,
    ``user`` and ``job`` (of a backfill) may be empty; ``user`` only ever leaves as a hash. ``check``: None believes
    whatever the schema allows. ``meaning``: None asks the exact cache only. ``personal``: the parts of the
    prompt that a person wrote, as they stand there; None where nobody knows, and all of it may be.
    """

    task: str
    request: LLMRequest
    budget_s: float
    prompt: str = ""
    request_id: str = ""
    tenant: str = ""
    user: str = ""
    job: str = ""
    check: Check | None = None
    meaning: Meaning | None = None
    personal: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An LLM's result and what it cost this request.

    ``usage`` counts every engine call made for it (retries, repair), not only the last. ``target``: who answered.
    ``problem`` is "truncated" or nothing: an answer with any other is never given.
    """

    result: LLMResult
    usage: Usage
    target: str = ""
    cache: Literal["", "exact", "semantic"] = ""
    attempts: int = 1
    repaired: bool = False
    problem: Problem = ""


_USAGE = "tandem_usage"


def note_usage(error: BaseException, usage: Usage) -> None:
    """Keep with an error what the ask that ends with it has cost."""
    setattr(error, _USAGE, usage)


def usage_of(error: BaseException) -> Usage:
    """What the ask that raised this had cost by then; nothing where the gateway did not raise it."""
    usage: Usage = getattr(error, _USAGE, Usage())
    return usage


@dataclass(frozen=True, slots=True)
class Hit:
    """A cached result and how it was found; ``model``: who had answered."""

    result: LLMResult
    how: Literal["exact", "semantic"]
    model: str


class Cache(Protocol):
    """Answers kept for equal or near questions of one release. Never raises: a broken store is a miss, logged."""

    async def get(self, ask: Ask, models: Sequence[str], partition: str = "") -> Hit | None:
        """The answer one of ``models`` gave, the first named first. ``partition`` keeps tenants apart."""
        ...

    def put(self, ask: Ask, model: str, result: LLMResult, partition: str = "") -> None:
        """Keep a complete, valid answer; the gateway calls it for nothing else. Nobody waits: a store elsewhere is
        written to later."""
        ...


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text without personal data; ``found``: how often by kind (email, phone, card, address, name)."""

    text: str
    found: Mapping[str, int] = field(default_factory=dict)


class Redactor(Protocol):
    """Takes personal data out of a text, leaving placeholders such as ``[EMAIL]``."""

    def redact(self, text: str, personal: bool = False) -> Redacted:
        """``personal``: what people wrote of themselves, in which names that nothing announces are looked for too."""
        ...


class Validator(Protocol):
    """Tells what is wrong with an answer, and what to ask for instead. Pure; called on every answer."""

    def problem(self, ask: Ask, result: LLMResult) -> Problem:
        """ "" for an answer that fits ``ask.request`` (schema, length) and passes ``ask.check``."""
        ...

    def mend(self, ask: Ask, result: LLMResult) -> LLMResult | None:
        """The same answer without what can be taken off it here (a code fence, text around the JSON); None if nothing
        can be."""
        ...

    def repair(self, ask: Ask, result: LLMResult, problem: Problem) -> LLMRequest | None:
        """What to ask the engine once more; None where asking again is pointless."""
        ...


class Moderator(Protocol):
    """Tells what may not be said to a customer."""

    def unsafe(self, text: str) -> str:
        """The kind of it (profanity, hate), or "" for a text that may be shown."""
        ...


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of an engine.

    ``error``: class name of what it raised, "" where it answered. ``first_token_s``: NaN where the engine does not
    tell. ``shadow``: called to be compared, never served. ``repair``: the second try of an answer.
    """

    target: str
    model: str
    seconds: float
    first_token_s: float
    prompt_tokens: int
    completion_tokens: int
    cost: float
    error: str = ""
    problem: Problem = ""
    shadow: bool = False
    repair: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an ask ended. ``answer`` or ``error`` (class name; BudgetExceeded, EngineTimeout, EngineUnavailable, ...)."""

    answer: Answer | None
    error: str
    seconds: float
    attempts: int


BreakerState = Literal["closed", "open", "half_open"]


class Observer(Protocol):
    """Is told what happens in the gateway: metrics, traces, logs, quality monitors, the context store. Never raises."""

    def asked(self, ask: Ask) -> None:
        """Told first of all."""
        ...

    def attempted(self, ask: Ask, attempt: Attempt) -> None:
        """Told once for each ``rendered``."""
        ...

    def ended(self, ask: Ask, outcome: Outcome) -> None:
        """Told once for each ``asked``, last of all; a caller that went away has the error CancelledError."""
        ...

    def breaker(self, target: str, state: BreakerState) -> None: ...

    def queued(self, target: str, running: int) -> None:
        """How many calls of a target are under way, told at every change."""
        ...

    def rendered(self, ask: Ask, target: str, sent: LLMRequest) -> None:
        """What is sent, after redaction, just before it is."""
        ...
