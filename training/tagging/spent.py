"""What an LLM's answers take: tokens, seconds and money, by the item."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import isnan, nan
from typing import Any

from models.ports import LLMResult


@dataclass(frozen=True, slots=True)
class TimedResult(LLMResult):
    """An answer and its ``seconds``, NaN where they were not kept.

    While n questions run at once each of them counts an n-th of the time, so that all seconds add up to the time of
    all: what one answer among many takes of the engine, not how long somebody waited for it.
    """

    seconds: float = field(default=nan, compare=False)


@dataclass(frozen=True, slots=True)
class Price:
    """Money for 1,000 tokens read and for 1,000 written, in the settings' currency; a model in this process costs
    none."""

    prompt: float = 0.0
    completion: float = 0.0


@dataclass(frozen=True, slots=True)
class Spent:
    """Sums over the ``answers`` about ``items``; ``timed`` of them have ``seconds``. A failed answer is none: what it
    took is not known."""

    items: int
    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    timed: int = 0
    seconds: float = 0.0
    price: Price = Price()

    @staticmethod
    def of(results: Iterable[LLMResult], items: int) -> Spent:
        """The sums over the answers to one question about each item."""
        found = list(results)
        seconds = [one.seconds for one in found if isinstance(one, TimedResult) and not isnan(one.seconds)]
        return Spent(
            items,
            len(found),
            sum(one.prompt_tokens for one in found),
            sum(one.completion_tokens for one in found),
            len(seconds),
            sum(seconds),
        )

    def per_item(self) -> dict[str, Any]:
        """For the report: means by the item, and the seconds of one answer.

        ``latency_ms`` of an item counts all of its answers; both times are None unless every answer has its seconds.
        """
        items = max(1, self.items)
        known = self.answers > 0 and self.timed == self.answers
        money = self.prompt_tokens * self.price.prompt + self.completion_tokens * self.price.completion
        return {
            "answers": self.answers / items,
            "prompt_tokens": self.prompt_tokens / items,
            "completion_tokens": self.completion_tokens / items,
            "seconds_per_answer": self.seconds / self.answers if known else None,
            "latency_ms": 1_000.0 * self.seconds / items if known else None,
            "cost": money / 1_000.0 / items,
            "price_per_1k_prompt": self.price.prompt,
            "price_per_1k_completion": self.price.completion,
        }


def several_questions(parts: Sequence[Spent]) -> Spent:
    """Of several questions about the same items."""
    return replace(_sum(parts), items=parts[0].items)


def per_item(parts: Iterable[Spent | None]) -> dict[str, Any]:
    """`Spent.per_item` of a method over its splits; nothing of a method that asks no LLM."""
    found = [part for part in parts if part is not None]
    return _sum(found).per_item() if found else {}


def _sum(parts: Sequence[Spent]) -> Spent:
    return Spent(
        sum(part.items for part in parts),
        sum(part.answers for part in parts),
        sum(part.prompt_tokens for part in parts),
        sum(part.completion_tokens for part in parts),
        sum(part.timed for part in parts),
        sum(part.seconds for part in parts),
        parts[0].price,
    )
