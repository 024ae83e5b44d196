"""What is believed of an answer before anybody sees it."""

from __future__ import annotations

from dataclasses import dataclass

from models.ports import LLMRequest, LLMResult
from serving.gateway.ports import Ask, Moderator, Problem, Validator


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer as it may be used: ``problem`` is what is still wrong with it, ``found`` what was before a mend."""

    result: LLMResult
    problem: Problem
    found: Problem

    @property
    def mended(self) -> bool:
        return self.found != self.problem


class NoValidator:
    """For what has no schema: an answer is whole and passes the ask's own check, or it is not."""

    def problem(self, ask: Ask, result: LLMResult) -> Problem:
        """See Validator."""
        if result.finish == "length":
            return "truncated"
        return "" if ask.check is None else ask.check(result)

    def mend(self, ask: Ask, result: LLMResult) -> LLMResult | None:  # noqa: ARG002
        """See Validator; nothing is mended."""
        return None

    def repair(self, ask: Ask, result: LLMResult, problem: Problem) -> LLMRequest | None:  # noqa: ARG002
        """See Validator; nothing is asked again."""
        return None


class Judge:
    """Validates, mends what can be mended here, and withholds what may not be said."""

    def __init__(self, validator: Validator, moderator: Moderator | None) -> None:
        self._validator = validator
        self._moderator = moderator

    def judge(self, ask: Ask, result: LLMResult) -> Judged:
        """Pure, for any text an engine may give."""
        found = problem = self._validator.problem(ask, result)
        if found and (mended := self._validator.mend(ask, result)) is not None:
            problem = self._validator.problem(ask, mended)
            if not problem:
                result = mended
            else:
                problem = found
        if problem in ("", "truncated") and self._moderator is not None and self._moderator.unsafe(result.text):
            found = problem = "unsafe"
        return Judged(result, problem, found)

    def repair(self, ask: Ask, judged: Judged) -> LLMRequest | None:
        """What to ask once more; None where that is pointless."""
        if judged.problem == "unsafe":
            return None
        return self._validator.repair(ask, judged.result, judged.problem)
