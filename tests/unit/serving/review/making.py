"""Proposals, queues on a hand-moved clock, and short ways to say things of a case."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.ports import Contribution
from models.tagging import TagItem
from serving.review.cases import Case, Proposal, Resolved, Saying, Span, Wanted, Word
from serving.review.config import ReviewConfig
from serving.review.queue import ReviewQueue

RELEASE = "r-1"
LEASE_S = 60.0
PROPOSAL = Proposal(
    "review",
    "item-1",
    TagItem("Cheddar block 8 oz", "aged", {"brand": "Farm"}),
    "CHEESES",
    0.7,
    "GROCERY",
    "kind CHEDDAR",
    RELEASE,
    0.95,
    ("llm", "neighbours"),
    Span("title", 0, 7, "Cheddar"),
    (Contribution("vote_share", 0.5, 1.25),),
    ("contains(item-1, dairy)  [cheese]",),
    "tag@abc",
    "small-model",
)


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


def opened(path: Path, clock: Clock | None = None, **config: Any) -> ReviewQueue:
    return ReviewQueue(path, ReviewConfig(**config), clock or Clock())


def proposal(item_id: str, **fields: Any) -> Proposal:
    return replace(PROPOSAL, item_id=item_id, **fields)


def cases(queue: ReviewQueue, **wanted: Any) -> tuple[Case, ...]:
    return queue.page(Wanted(**wanted), 1_000).cases


def numbers(queue: ReviewQueue, **wanted: Any) -> list[int]:
    return [case.id for case in cases(queue, **wanted)]


def say(
    queue: ReviewQueue, number: int, saying: Saying, person: str = "anna", *, overrule: bool = False, **fields: Any
) -> Resolved:
    return queue.resolve(number, Word(saying, person, fields.pop("time", 1.0), **fields), RELEASE, overrule=overrule)


def audited(queue: ReviewQueue, right: int, wrong: int, start: int = 0, **fields: Any) -> list[str]:
    """So many audited units judged so; the groups that were switched on the way."""
    total = right + wrong
    found = [proposal(f"audited-{start + n}", kind="audit", unit=f"unit {start + n}", **fields) for n in range(total)]
    queue.put(found)
    waiting = numbers(queue, kind="audit", state="open", order="oldest")[-total:]
    switched = [say(queue, number, "accept" if n < right else "reject").switched for n, number in enumerate(waiting)]
    return [group for group in switched if group]
