"""Rules as values: Datalog with typed predicates, comparisons, stratified negation and aggregation.

``check`` admits only programs that an engine can evaluate as they are: every predicate declared and used with its
arity and types, every variable bound, no negation or aggregation through recursion. Namespaces and predicted literals
are gone by then: a predicate of namespace ``family`` is spelt ``family.mother``, and what models predict of a predicate
``p`` is a predicate of its own, spelt ``~p`` (see ``predicted``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from graph.ports import Fact

Place: TypeAlias = tuple[str, int, int]
"""File, line and column, the latter two from 1."""
_NOWHERE: Place = ("", 0, 0)

Operator: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">="]
Function: TypeAlias = Literal["count", "min", "max"]


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a rule."""

    name: str

    def __str__(self) -> str:
        return self.name


Term: TypeAlias = Variable | str
_NAME = r"[a-z][A-Za-z0-9_]*(?:-[A-Za-z0-9_]+)*"
_BARE = re.compile(rf"{_NAME}|-?[0-9]+(?:\.[0-9]+)?")
_LABEL = re.compile(rf"{_NAME}(?:\.{_NAME})*")


def term_text(term: Term) -> str:
    """The term as rules spell it."""
    if isinstance(term, Variable):
        return term.name
    return term if _BARE.fullmatch(term) else quoted(term)


def quoted(text: str) -> str:
    """The text as a string of the rule language."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True, slots=True)
class Atom:
    """A predicate over terms, with the place it was written at."""

    predicate: str
    terms: tuple[Term, ...]
    place: Place = field(default=_NOWHERE, compare=False)

    def __str__(self) -> str:
        written = f"{self.predicate}({', '.join(map(term_text, self.terms))})"
        return f"predicted {written[1:]}" if is_predicted(self.predicate) else written


@dataclass(frozen=True, slots=True)
class Comparison:
    """``=`` and ``!=`` compare two terms as text; the four others compare numbers (arguments of type ``number``)."""

    operator: Operator
    left: Term
    right: Term
    place: Place = field(default=_NOWHERE, compare=False)

    def __str__(self) -> str:
        return f"{term_text(self.left)} {self.operator} {term_text(self.right)}"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """``result = function value { body }``: over the distinct values of ``value`` for which ``body`` holds.

    Variables of ``body`` that also occur outside it (in the head, the rule's other literals) are the group; they are
    bound outside. ``count`` of nothing is 0; ``min`` and ``max`` (numbers only) of nothing let the rule not fire.
    """

    result: Variable
    function: Function
    value: Variable
    body: tuple[Atom, ...]
    place: Place = field(default=_NOWHERE, compare=False)

    def __str__(self) -> str:
        return f"{self.result} = {self.function} {self.value} {{ {', '.join(map(str, self.body))} }}"


@dataclass(frozen=True, slots=True)
class Rule:
    """``head`` holds wherever all of ``body`` holds, none of ``negated`` does, and comparisons and aggregates are true.

    ``label`` names the rule in proofs. ``message`` (for rules of constraints) tells what is wrong, with ``{X}`` for the
    value of a head variable ``X``. A variable that occurs only in one negated atom means "for no value".
    """

    label: str
    head: Atom
    body: tuple[Atom, ...]
    comparisons: tuple[Comparison, ...] = ()
    negated: tuple[Atom, ...] = ()
    aggregates: tuple[Aggregate, ...] = ()
    message: str = ""

    def __str__(self) -> str:
        literals = [*map(str, self.body), *(f"not {atom}" for atom in self.negated)]
        literals += [*map(str, self.aggregates), *map(str, self.comparisons)]
        message = f' {term_text(self.message + " ")[:-2]}"' if self.message else ""
        return f"{self.head}{message} :- {', '.join(literals)}."


@dataclass(frozen=True, slots=True)
class Declaration:
    """A predicate's argument names and types; an empty type fits every other, ``number`` is a decimal number.

    ``is_constraint``: what is derived of the predicate is a violation, and its rules carry a message.
    """

    predicate: str
    names: tuple[str, ...]
    types: tuple[str, ...]
    place: Place = field(default=_NOWHERE, compare=False)
    is_constraint: bool = False

    def __str__(self) -> str:
        arguments = [f"{name}: {kind}" if kind else name for name, kind in zip(self.names, self.types)]
        return f".{'constraint' if self.is_constraint else 'decl'} {self.predicate}({', '.join(arguments)})"


@dataclass(frozen=True, slots=True)
class Program:
    """Checked rules. ``facts`` come with the ``file:line`` that states them.

    ``strata[i]`` are the numbers of the rules to close under together, after strata 0 … i-1: a rule stands above every
    rule whose head it negates or aggregates over, and never below one whose head it uses. Empty means: all in one.
    ``types`` holds the values of the enumerated types; every other type is open.
    """

    declarations: dict[str, Declaration]
    rules: tuple[Rule, ...]
    facts: tuple[tuple[Fact, str], ...] = ()
    strata: tuple[tuple[int, ...], ...] = ()
    types: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        """The program as text that reads back as itself, but for places (and so for labels that are places)."""
        lines = [f".type {name} = {', '.join(map(term_text, values))}" for name, values in self.types.items()]
        lines += [str(declared) for name, declared in self.declarations.items() if not is_predicted(name)]
        lines += [f"{Atom(fact.predicate, fact.args)}." for fact, _ in self.facts]
        lines += [f"{rule.label}: {rule}" if _LABEL.fullmatch(rule.label) else str(rule) for rule in self.rules]
        return "\n".join([*lines, ""])


def predicted(predicate: str) -> str:
    """The predicate that holds what models predict of ``predicate``, and what follows from such predictions."""
    return f"~{predicate}"


def is_predicted(predicate: str) -> bool:
    """Whether facts of the predicate rest on a prediction."""
    return predicate.startswith("~")
