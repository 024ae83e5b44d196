"""Errors of the graph side. A message names what failed, the value and the remedy; serving maps classes to codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class GraphError(Exception):
    """Base of every error raised by `graph`."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One fault in a rules file: where it is (line and column count from 1), what it is, what to do about it."""

    file: str
    line: int
    column: int
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}; {self.remedy}"


class RuleSyntaxError(GraphError):
    """Rules that cannot be used as they are. ``problems`` holds every fault found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UnknownPredicate(GraphError):
    """A fact or pattern uses a predicate that is not declared, or not with that many arguments."""


class NotDerived(GraphError):
    """A proof was asked of a fact that does not hold."""


class OntologyError(GraphError):
    """An ontology or a fact file is missing or malformed, or does not fit the use made of it."""


class FactLimitExceeded(GraphError):
    """The closure under the rules would hold more facts than the graph is allowed to keep."""


class TimeLimitExceeded(GraphError):
    """The closure under the rules would take longer than the graph is allowed to."""


class NotANumber(GraphError):
    """A fact has a text where its predicate is declared with a number."""


class UnknownValue(GraphError):
    """A fact has a value that the enumerated type of its argument does not list."""
