"""Asks, attempts and outcomes for tests of the observers, and fakes of the ports they need."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from models.ports import LLMRequest, LLMResult
from serving.gateway.observe import Part
from serving.gateway.ports import Answer, Ask, Attempt, Outcome, Redacted
from serving.messages import Usage


class MailRedactor:
    """Knows e-mail addresses and nothing else."""

    def redact(self, text: str, personal: bool = False) -> Redacted:  # noqa: ARG002
        clean, count = re.subn(r"\S+@\S+\w", "[EMAIL]", text)
        return Redacted(clean, {"email": count} if count else {})


class Clock:
    """Stands still until told otherwise."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def ask(task: str = "tag", prompt: str = "tag@1", **more: Any) -> Ask:
    request = more.pop("request", LLMRequest("You file products.", "Product: milk", 48))
    return Ask(task, request, budget_s=5.0, prompt=prompt, **more)


def attempt(**more: Any) -> Attempt:
    values: dict[str, Any] = {
        "target": "default",
        "model": "smol",
        "seconds": 0.2,
        "first_token_s": math.nan,
        "prompt_tokens": 100,
        "completion_tokens": 12,
        "cost": 0.001,
    }
    return Attempt(**{**values, **more})


def answered(text: str = '{"tags": ["MILK"]}', seconds: float = 0.201, **more: Any) -> Outcome:
    result = LLMResult(text, "stop", 100, 12)
    return Outcome(Answer(result, Usage(100, 12, 0.001, False, "smol"), "default", **more), "", seconds, 1)


def failed(error: str, seconds: float = 0.3, attempts: int = 1) -> Outcome:
    return Outcome(None, error, seconds, attempts)


def one_ask(observer: Part, asked: Ask, attempts: Sequence[Attempt], outcome: Outcome) -> None:
    """What the gateway tells of an ask, in its order."""
    observer.asked(asked)
    for number, each in enumerate(attempts):
        observer.rendered(asked, each.target, asked.request)
        observer.queued(each.target, number + 1)
        observer.attempted(asked, each)
        observer.queued(each.target, number)
    observer.ended(asked, outcome)
