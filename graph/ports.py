"""What the rest of Tandem may ask of a knowledge graph. Values are immutable; nothing here knows an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from graph.rules.question import Question
    from graph.rules.syntax import Program


MOST_SECONDS = 30.0
"""What a question may take where nothing else is asked."""


@dataclass(frozen=True, slots=True, order=True)
class Fact:
    """A ground atom such as ``daughter(malia, barack_obama)``; a predicate that starts with ``~`` holds predictions.

    In a query pattern an argument that starts with ``?`` is a variable; two equal variables must match equal values.
    """

    predicate: str
    args: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.predicate}({', '.join(self.args)})"


@dataclass(frozen=True, slots=True)
class Proof:
    """A well-founded derivation of ``fact``.

    ``rule`` is None for a told fact, whose ``source`` says who said so, with the ``probability`` a model gave a
    predicted one; for a derived fact ``source`` is the rule.

    ``absent`` are the facts whose absence the rule's ``not`` asks for, with ``?`` where it says "for no value".
    ``aggregates`` are the rule's, each with its value and group: ``2 = count I { bought(ann, I) }``.
    """

    fact: Fact
    rule: str | None
    source: str
    premises: tuple[Proof, ...] = ()
    probability: float | None = None
    absent: tuple[Fact, ...] = ()
    aggregates: tuple[str, ...] = ()

    def conditions(self, spelt: Callable[[Fact], str] = str) -> Iterator[tuple[str, str]]:
        """What the last step rests on besides its premises: each as text with what makes it true."""
        yield from ((f"not {spelt(fact)}", "no such fact") for fact in self.absent)
        yield from ((text, "aggregate") for text in self.aggregates)

    def lines(self, indent: int = 0, spelt: Callable[[Fact], str] = str) -> Iterator[str]:
        """The proof as indented text, one fact a line as ``spelt``, premises and conditions below what they prove."""
        waiting: list[tuple[Proof | tuple[str, str], int]] = [(self, indent)]
        while waiting:
            proof, depth = waiting.pop()
            if isinstance(proof, tuple):
                yield f"{'  ' * depth}{proof[0]}  ({proof[1]})"
                continue
            why = f"[{proof.rule}]" if proof.rule else f"({proof.source})"
            if proof.probability is not None:
                why = f"({proof.source}, predicted: {proof.probability:g})"
            yield f"{'  ' * depth}{spelt(proof.fact)}  {why}"
            below: list[Proof | tuple[str, str]] = [*proof.premises, *proof.conditions(spelt)]
            waiting.extend((each, depth + 1) for each in reversed(below))


class KnowledgeGraph(Protocol):
    """A set of facts closed under rules. Immutable: ``extend`` answers a new graph and leaves this one as it was."""

    @property
    def program(self) -> Program:
        """The rules and declarations this graph is closed under."""
        ...

    @property
    def version(self) -> str:
        """A content hash of rules and asserted facts; equal content gives an equal version on any machine."""
        ...

    def count(self, predicate: str) -> int:
        """The number of facts of a predicate. Raises UnknownPredicate."""
        ...

    def holds(self, fact: Fact) -> bool:
        """Whether the fact is asserted or derived."""
        ...

    def query(self, pattern: Fact) -> list[Fact]:
        """All facts matching the pattern, sorted. Raises UnknownPredicate for a predicate no rule or fact names."""
        ...

    def answers(
        self, question: Question, *, within: Mapping[str, Sequence[str]] | None = None, seconds: float = MOST_SECONDS
    ) -> list[tuple[str, ...]]:
        """The distinct answers to a question of several literals: values of its variables, sorted. ``within`` leaves
        some variables only these values. Raises FactLimitExceeded, and TimeLimitExceeded after ``seconds``."""
        ...

    def prove(self, fact: Fact) -> Proof:
        """A shortest proof. Raises NotDerived where the fact does not hold."""
        ...

    def reason(self, fact: Fact) -> Proof:
        """The last step of a shortest proof, premises left out. Raises NotDerived where the fact does not hold."""
        ...

    def extend(
        self,
        facts: Iterable[Fact],
        source: str,
        *,
        predicted: Iterable[tuple[Fact, float]] = (),
        others: Iterable[tuple[Fact, str]] = (),
    ) -> KnowledgeGraph:
        """This graph with more asserted and ``predicted`` facts (with their probabilities) and all that follows from
        them; ``others`` have sources of their own. Cost grows with what is new."""
        ...
