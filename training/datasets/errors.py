"""Errors of dataset ingestion. A message names what failed, the value and the remedy, in one line."""

from __future__ import annotations

from collections.abc import Sequence


class IngestError(Exception):
    """Base of every error raised by `training.datasets`."""


class SourceUnreadable(IngestError):
    """A source is missing, of an unknown kind, damaged or empty: nothing of it could be read."""


class InvalidTable(IngestError):
    """The sources were read, and what they hold breaks the contract. Carries every problem found, not the first."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        listed = problems[0] if len(problems) == 1 else " ".join(f"({n}) {p}" for n, p in enumerate(problems, 1))
        super().__init__(listed if len(problems) == 1 else f"{len(problems)} problems: {listed}")


class WriteFailed(IngestError):
    """The workspace could not be written, or another ingest is writing it."""
