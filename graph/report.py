"""What a check of the graph against real data found: measures, faults, and disagreements with their proofs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from graph.patterns import fact_text
from graph.ports import Proof


@dataclass(frozen=True, slots=True)
class Measure:
    """``count`` of ``of`` cases are so."""

    name: str
    count: int
    of: int

    @property
    def share(self) -> float:
        """``count / of``; 1 of no cases."""
        return self.count / self.of if self.of else 1.0

    def __str__(self) -> str:
        return f"{self.name}: {self.count:,} of {self.of:,} ({self.share:.1%})"


@dataclass(frozen=True, slots=True)
class Finding:
    """What the data and the graph say of ``subject``, and why the graph says so.

    ``stated`` is empty where the data have no say, ``proof`` None where the graph derives nothing.
    """

    subject: str
    stated: str
    derived: str
    proof: Proof | None = None

    def lines(self) -> Iterator[str]:
        """The finding, and the proof below it."""
        stated = f"stated {self.stated}, " if self.stated else ""
        yield f"{self.subject}: {stated}derived {self.derived}"
        if self.proof is not None:
            yield from self.proof.lines(1, fact_text)


@dataclass(frozen=True, slots=True)
class Report:
    """``faults`` are what must never be: where there is one, the check failed.

    ``disagreements`` are between data and graph: listed, not judged. ``findings`` are news: the data do not state them.
    """

    subject: str
    measures: tuple[Measure, ...]
    faults: tuple[Finding, ...] = ()
    disagreements: tuple[Finding, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no fault was found."""
        return not self.faults

    def measure(self, name: str) -> Measure:
        """The measure of this name. Raises KeyError."""
        return {measure.name: measure for measure in self.measures}[name]

    def lines(self, limit: int | None = None) -> Iterator[str]:
        """The report as text: every fault, at most ``limit`` disagreements and findings (None: all), with proofs."""
        yield self.subject
        yield from (f"  {measure}" for measure in self.measures)
        yield from (f"  {note}" for note in self.notes)
        for name, found, shown in (
            ("faults", self.faults, self.faults),
            ("disagreements", self.disagreements, self.disagreements[:limit]),
            ("findings", self.findings, self.findings[:limit]),
        ):
            yield f"{len(found):,} {name}" + (f", {len(shown)} shown" if len(shown) < len(found) else "")
            for one in shown:
                yield from (f"  {line}" for line in one.lines())

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values: everything, proofs as lines of text."""
        return {
            "subject": self.subject,
            "ok": self.ok,
            "measures": [
                {"name": measure.name, "count": measure.count, "of": measure.of, "share": measure.share}
                for measure in self.measures
            ],
            "notes": list(self.notes),
            "faults": [_as_json(fault) for fault in self.faults],
            "disagreements": [_as_json(disagreement) for disagreement in self.disagreements],
            "findings": [_as_json(finding) for finding in self.findings],
        }


def _as_json(finding: Finding) -> dict[str, Any]:
    return {
        "subject": finding.subject,
        "stated": finding.stated,
        "derived": finding.derived,
        "proof": list(finding.proof.lines(spelt=fact_text)) if finding.proof is not None else [],
    }
