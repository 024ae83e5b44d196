"""A fact as it travels: with what it rests on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from graph.errors import OntologyError
from graph.ports import Fact, KnowledgeGraph
from graph.rules.syntax import is_predicted, predicted

Kind: TypeAlias = Literal["asserted", "derived", "predicted"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_SHOWN: Final = 20
"""Faults of a file that one error lists."""


@dataclass(frozen=True, slots=True, order=True)
class Statement:
    """A fact, its kind, who said it (of a derived fact: the rule) and, of a prediction, the probability."""

    fact: Fact
    kind: Kind = "asserted"
    source: str = ""
    probability: float | None = None


class BadRow(Exception):
    """One row that states no fact; the text says what it holds and what to write instead."""


class Faults:
    """The rows of a file that cannot be read, collected so that one run shows them all."""

    def __init__(self, file: object) -> None:
        self._file = file
        self._found: list[str] = []

    def add(self, place: object, fault: BadRow) -> None:
        """``place``: a line from 1, or where else the row is."""
        self._found.append(f"{self._file}:{place}: {fault}")

    def check(self) -> None:
        """Raises OntologyError naming every fault, the first ones in full."""
        if self._found:
            more = [f"and {len(self._found) - _SHOWN:,} more"] if len(self._found) > _SHOWN else []
            raise OntologyError("\n".join([*self._found[:_SHOWN], *more]))


def statement(
    predicate: object, args: Sequence[object], kind: object = "", source: object = "", probability: object = None
) -> Statement:
    """A statement from what a file holds, checked; ``kind`` defaults to asserted. Raises BadRow."""
    texts = [part for part in (predicate, *args, source) if not isinstance(part, str)]
    if texts:
        raise BadRow(f"{texts[0]!r} is a {type(texts[0]).__name__}, no text; write every name as text")
    if not predicate or not args:
        raise BadRow(f"{[predicate, *args]!r} is not a fact; write a predicate and its arguments")
    kind = kind or "asserted"
    if kind not in KINDS:
        raise BadRow(f"{kind!r} is no kind of fact; write one of {', '.join(KINDS)}")
    chance = _probability(probability)
    if (chance is not None) != (kind == "predicted"):
        raise BadRow(
            f"the kind is {kind!r} and the probability {probability!r}; "
            "a predicted fact has one between 0 and 1, no other has"
        )
    fact = Fact(cast("str", predicate), tuple(cast("Sequence[str]", args)))
    return Statement(fact, kind, cast("str", source), chance)


def _probability(value: object) -> float | None:
    if value is None or value == "":
        return None
    try:
        chance = float(cast("Any", value))
    except (TypeError, ValueError):
        chance = math.nan
    if not 0 <= chance <= 1:
        raise BadRow(f"probability {value!r} is no number between 0 and 1; correct it")
    return chance


def statements_of(graph: KnowledgeGraph, arities: Mapping[str, int], kinds: Iterable[Kind] = KINDS) -> list[Statement]:
    """The facts of these predicates (name → number of arguments), sorted by predicate, each with what it rests on.

    A prediction is spelt with its plain predicate and kind ``predicted``. Raises UnknownPredicate.
    """
    wanted = frozenset(kinds)
    found: list[Statement] = []
    for predicate in sorted(arities):
        pattern = Fact(predicate, tuple(f"?{place}" for place in range(arities[predicate])))
        found.extend(each for each in _told(graph, graph.query(pattern)) if each.kind in wanted)
    return found


def _told(graph: KnowledgeGraph, facts: Iterable[Fact]) -> Iterator[Statement]:
    for fact in facts:
        proof = graph.reason(fact)
        probability = proof.probability
        if is_predicted(fact.predicate) and probability is not None:
            yield Statement(Fact(fact.predicate[1:], fact.args), "predicted", proof.source, probability)
        elif proof.rule is None:
            yield Statement(fact, "asserted", proof.source)
        else:
            yield Statement(fact, "derived", proof.rule)


def told_as(each: Statement) -> Fact:
    """The fact as a graph holds it: what is predicted of ``p`` stands under ``~p``."""
    if each.kind != "predicted":
        return each.fact
    return Fact(predicted(each.fact.predicate), each.fact.args)
