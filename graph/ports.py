"""What the rest of Tandem may ask of a knowledge graph. Values are immutable; nothing here knows an engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, order=True)
class Fact:
    """A ground atom such as ``daughter(malia, barack_obama)``.

    In a query pattern an argument that starts with ``?`` is a variable; two equal variables must match equal values.
    """

    predicate: str
    args: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.predicate}({', '.join(self.args)})"


@dataclass(frozen=True, slots=True)
class Proof:
    """A well-founded derivation of ``fact``.

    ``rule`` is None for an asserted fact, whose ``source`` says who said so; for a derived one ``source`` is the rule.
    """

    fact: Fact
    rule: str | None
    source: str
    premises: tuple[Proof, ...] = ()

    def lines(self, indent: int = 0) -> Iterator[str]:
        """The proof as indented text, one fact a line, premises below what they prove."""
        why = f"[{self.rule}]" if self.rule else f"({self.source})"
        yield f"{'  ' * indent}{self.fact}  {why}"
        for premise in self.premises:
            yield from premise.lines(indent + 1)


class KnowledgeGraph(Protocol):
    """A set of facts closed under rules. Immutable: ``extend`` answers a new graph and leaves this one as it was."""

    @property
    def version(self) -> str:
        """A content hash of rules and asserted facts; equal content gives an equal version on any machine."""
        ...

    def holds(self, fact: Fact) -> bool:
        """Whether the fact is asserted or derived."""
        ...

    def query(self, pattern: Fact) -> list[Fact]:
        """All facts matching the pattern, sorted. Raises UnknownPredicate for a predicate no rule or fact names."""
        ...

    def prove(self, fact: Fact) -> Proof:
        """A shortest proof. Raises NotDerived where the fact does not hold."""
        ...

    def extend(self, facts: Iterable[Fact], source: str) -> KnowledgeGraph:
        """This graph with more asserted facts and all that follows from them; cost grows with what is new."""
        ...
