"""Types of arguments: a rule may not use one value as two types, nor derive what a closed type does not hold.

Types are open names (``person``) but for two kinds that are closed: ``number``, and types enumerated by ``.type``. An
argument without a type fits every other, so what comes from one may not enter a closed type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from graph.errors import Problem
from graph.rules.names import did_you_mean
from graph.rules.syntax import Atom, Comparison, Declaration, Place, Rule, Term, Variable, term_text

NUMBER = "number"
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_EQUALITIES = ("=", "!=")
_SHOWN = 8


def mistyped(kind: str, value: str, types: Mapping[str, Sequence[str]]) -> tuple[str, str] | None:
    """What is wrong with a constant where ``kind`` is declared, and the remedy; None where nothing is."""
    if kind == NUMBER:
        fits = _NUMBER.fullmatch(value) is not None
        return None if fits else (f"{value!r} is no number", "write a decimal number such as 3 or -2.5")
    values = types.get(kind)
    if values is None or value in values:
        return None
    more = ", ..." if len(values) > _SHOWN else ""
    known = f"type {kind} is one of {', '.join(map(term_text, values[:_SHOWN]))}{more}"
    return f"{value!r} is not of type {kind}", did_you_mean(value, values) or known


def type_problems(
    rule: Rule, signature: Callable[[Atom], Declaration | None], types: Mapping[str, Sequence[str]]
) -> Iterator[Problem]:
    """Every use of a value as two types, or of one that its type does not hold. Atoms without signature are skipped."""
    return _RuleTypes(rule, signature, types).problems()


@dataclass(frozen=True, slots=True)
class _Kind:
    """The type of a variable, and the variable and argument that say so."""

    name: str
    variable: Variable
    where: str


class _RuleTypes:
    """One rule's variables, those equated by ``=`` taken together, with the type of each."""

    def __init__(
        self, rule: Rule, signature: Callable[[Atom], Declaration | None], types: Mapping[str, Sequence[str]]
    ) -> None:
        self.rule = rule
        self.signature = signature
        self.types = types
        self.leader: dict[Term, Term] = {}
        for comparison in rule.comparisons:
            if comparison.operator == "=":
                self._unite(comparison.left, comparison.right)
        self.kinds: dict[Term, _Kind] = {}

    def problems(self) -> Iterator[Problem]:
        yield from self._arguments(self.rule.body)
        for aggregate in self.rule.aggregates:
            where = f"result of {aggregate.function}"
            yield from self._use(aggregate.result, NUMBER, where, aggregate.place)
        # What is bound above has its type for certain; what is below only asks for one.
        given = dict(self.kinds)
        yield from self._arguments(self.rule.negated)
        for aggregate in self.rule.aggregates:
            yield from self._arguments(aggregate.body)
            if aggregate.function != "count":
                yield from self._numeric(aggregate.value, self.kinds, aggregate.function, aggregate.place)
        yield from self._arguments([self.rule.head])
        yield from self._derived(given)
        for comparison in self.rule.comparisons:
            if comparison.operator in _EQUALITIES:
                yield from self._compared(comparison)
            else:
                for side in (comparison.left, comparison.right):
                    yield from self._numeric(side, given, comparison.operator, comparison.place)

    def _find(self, term: Term) -> Term:
        while (above := self.leader.get(term, term)) != term:
            term = above
        return term

    def _unite(self, left: Term, right: Term) -> None:
        left, right = self._find(left), self._find(right)
        if left != right:
            # A constant leads its class, so that a variable equal to one is known to be it.
            low, high = (right, left) if isinstance(left, str) else (left, right)
            if isinstance(low, Variable):
                self.leader[low] = high

    def _arguments(self, atoms: Iterable[Atom]) -> Iterator[Problem]:
        for atom in atoms:
            declaration = self.signature(atom)
            if declaration is None:
                continue
            for term, name, kind in zip(atom.terms, declaration.names, declaration.types):
                if kind:
                    yield from self._use(term, kind, f"{name} of {declaration.predicate}", atom.place)

    def _use(self, term: Term, kind: str, where: str, place: Place) -> Iterator[Problem]:
        leader = self._find(term)
        if isinstance(leader, str):
            if fault := mistyped(kind, leader, self.types):
                yield Problem(*place, f"{where}: {fault[0]}", fault[1])
        elif isinstance(term, Variable):
            first = self.kinds.setdefault(leader, _Kind(kind, term, where))
            if first.name != kind:
                also = "also" if first.variable == term else f"equals {first.variable}"
                message = f"{term} is of type {kind} ({where}) and {also} of type {first.name} ({first.where})"
                yield Problem(*place, message, "use two variables or correct the declaration")

    def _derived(self, given: Mapping[Term, _Kind]) -> Iterator[Problem]:
        """The head may not fill a closed type from arguments of no type."""
        declaration = self.signature(self.rule.head)
        for term, name, kind in zip(self.rule.head.terms, *_columns(declaration)):
            is_closed = kind == NUMBER or kind in self.types
            leader = self._find(term)
            if is_closed and isinstance(leader, Variable) and leader not in given:
                place, predicate = self.rule.head.place, self.rule.head.predicate
                message = f"{term} is of type {kind} ({name} of {predicate}) but nothing in the body says so"
                yield Problem(*place, message, f"declare the argument it comes from as '{kind}'")

    def _compared(self, comparison: Comparison) -> Iterator[Problem]:
        left, right = (self._find(side) for side in (comparison.left, comparison.right))
        one, other = self.kinds.get(left), self.kinds.get(right)
        if one and other and one.name != other.name:
            message = f"'{comparison}' compares type {one.name} ({one.where}) with type {other.name} ({other.where})"
            yield Problem(*comparison.place, message, "compare values of one type")
        if comparison.operator == "!=":
            for kind, constant in ((one, right), (other, left)):
                if kind and isinstance(constant, str) and (fault := mistyped(kind.name, constant, self.types)):
                    yield Problem(*comparison.place, f"{kind.where}: {fault[0]}", fault[1])

    def _numeric(self, side: Term, kinds: Mapping[Term, _Kind], what: str, place: Place) -> Iterator[Problem]:
        leader = self._find(side)
        if isinstance(leader, str):
            if fault := mistyped(NUMBER, leader, self.types):
                yield Problem(*place, f"{what} takes numbers and {fault[0]}", fault[1])
            return
        kind = kinds.get(leader)
        if kind is None or kind.name != NUMBER:
            declared = f"type {kind.name} ({kind.where})" if kind else "no declared type"
            remedy = f"declare the argument it comes from as '{NUMBER}'"
            yield Problem(*place, f"{what} takes numbers and {side} is of {declared}", remedy)


def _columns(declaration: Declaration | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (declaration.names, declaration.types) if declaration else ((), ())
