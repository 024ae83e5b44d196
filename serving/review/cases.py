"""Cases for people and what they say of them: plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from models.ports import Contribution
from models.tagging import TagItem

Kind = Literal["review", "audit"]
"""``review``: the service did not decide. ``audit``: it accepted, and a person checks it."""
State = Literal["open", "claimed", "resolved"]
Saying = Literal["accept", "correct", "reject"]
Order = Literal["uncertain", "oldest"]
KINDS: Final[tuple[Kind, ...]] = ("review", "audit")
STATES: Final[tuple[State, ...]] = ("open", "claimed", "resolved")
SAYINGS: Final[tuple[Saying, ...]] = ("accept", "correct", "reject")
ORDERS: Final[tuple[Order, ...]] = ("uncertain", "oldest")


@dataclass(frozen=True, slots=True)
class Span:
    """Where in the item's words the tag shows: characters ``start`` to ``end`` (exclusive) of ``field``."""

    field: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A tag for an item as the service proposed it, with everything a person needs to judge it.

    ``unit``: what is independent of other units (the item's product type or text): an audit counts each once.
    ``promised``: the precision an accepted tag of the group is held to. ``facts``: proofs as text. ``prompt`` and
    ``model`` are empty where no LLM was asked.
    """

    kind: Kind
    item_id: str
    item: TagItem
    tag: str
    probability: float
    group: str
    unit: str
    release: str
    promised: float
    sources: tuple[str, ...] = ()
    evidence: Span | None = None
    reasons: tuple[Contribution, ...] = ()
    facts: tuple[str, ...] = ()
    prompt: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Word:
    """What one person said of a case, never changed afterwards; the newest word of a case counts.

    ``correction``: the tag the item carries instead, for ``correct`` only. ``time``: seconds since 1970.
    """

    saying: Saying
    person: str
    time: float
    correction: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """A proposal in the queue. ``claimed_by`` holds it until ``claimed_until``; both empty where nobody does."""

    id: int
    proposal: Proposal
    arrived: float
    state: State
    claimed_by: str = ""
    claimed_until: float = 0.0
    history: tuple[Word, ...] = ()

    @property
    def word(self) -> Word | None:
        """What counts of the history."""
        return self.history[-1] if self.history else None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which cases: empty fields do not ask. ``saying`` is what counts of a resolved case."""

    kind: Kind | None = None
    state: State | None = None
    saying: Saying | None = None
    group: str = ""
    release: str = ""
    item_id: str = ""
    person: str = ""
    """Who holds the case, or whose word on it counts."""
    order: Order = "uncertain"


@dataclass(frozen=True, slots=True)
class CasePage:
    """Cases in order; ``next_token`` asks for those after them, empty where there are none. ``total``: all that match
    now."""

    cases: tuple[Case, ...]
    next_token: str
    total: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """The case with the new word; ``unchanged`` where the same person had said just so. ``switched``: the group that
    this word switched to review, or empty."""

    case: Case
    unchanged: bool = False
    switched: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """A group's switch: to review (``on``) or back, by whom, when and why."""

    group: str
    on: bool
    person: str
    time: float
    reason: str
