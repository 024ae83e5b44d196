"""Which variables of a rule have values: every variable must be bound by a predicate that is not negated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from graph.errors import Problem
from graph.rules.names import shown
from graph.rules.syntax import Aggregate, Atom, Comparison, Place, Rule, Term, Variable


def unbound(rule: Rule) -> Iterator[tuple[Variable | None, Problem]]:
    """Each variable that nothing gives a value with the problem that this is; None for a body that binds nothing."""
    if not (rule.body or rule.negated or rule.aggregates):
        remedy = "add one, or write the fact itself"
        yield None, Problem(*rule.head.place, "a rule needs a predicate in its body", remedy)
        return
    from_body = _closed(_variables(rule.body), rule.comparisons)
    everything = bound_variables(rule)
    for variable in _ordered(rule.head.terms):
        if variable not in everything:
            message = f"variable {shown(variable)} of the head is bound by nothing"
            yield variable, Problem(*rule.head.place, message, "use it in a body predicate")
    for comparison in rule.comparisons:
        for variable in _ordered((comparison.left, comparison.right)):
            if variable not in everything:
                yield variable, _loose(variable, comparison, comparison.place)
    uses = _uses(rule)
    for atom in rule.negated:
        for variable in _ordered(atom.terms):
            if variable not in everything and uses[variable] > atom.terms.count(variable):
                yield variable, _loose(variable, f"not {atom}", atom.place)
    for aggregate in rule.aggregates:
        yield from _loose_in(aggregate, from_body, uses)


def bound_variables(rule: Rule) -> set[Variable]:
    """Variables that the body gives a value: in a literal that is not negated, equal to one of those, or a result."""
    results = {one.result for one in rule.aggregates}
    return _closed(_closed(_variables(rule.body), rule.comparisons) | results, rule.comparisons)


def lone_variables(rule: Rule, except_for: Collection[Variable | None]) -> Iterator[Problem]:
    """A problem for each named variable that occurs once: it joins nothing, so it is probably misspelt."""
    uses = _uses(rule)
    for place, variables in _occurrences(rule):
        for variable in variables:
            is_named = not variable.name.lstrip("?").startswith("_")
            if uses[variable] == 1 and is_named and variable not in except_for:
                remedy = "misspelt? write _ where any value will do"
                yield Problem(*place, f"{variable} occurs only once", remedy)


def _loose_in(
    aggregate: Aggregate, from_body: Collection[Variable], uses: Counter[Variable]
) -> Iterator[tuple[Variable, Problem]]:
    inside = Counter(term for atom in aggregate.body for term in atom.terms if isinstance(term, Variable))
    inside[aggregate.value] += 1
    place, value, result = aggregate.place, aggregate.value, aggregate.result

    def problem(variable: Variable, message: str, remedy: str) -> tuple[Variable, Problem]:
        return variable, Problem(*place, message, remedy)

    if result in inside:
        yield problem(
            result, f"{result} is the result of '{shown(aggregate)}' and used inside it", "rename one of the two"
        )
    if inside[value] == 1:
        yield problem(value, f"{value} does not occur between the braces of '{shown(aggregate)}'", "use it there")
    for variable in sorted(inside, key=str):
        if variable == result or uses[variable] == inside[variable] or (variable in from_body and variable != value):
            continue
        if variable == value:
            message = f"{value} of '{shown(aggregate)}' is also used outside it"
            yield problem(value, message, "aggregate over a variable of its own")
        else:
            message = f"{variable} is used inside and outside '{shown(aggregate)}' and bound by no body predicate"
            yield problem(variable, message, "use it in a body predicate, or rename it inside")


def _loose(variable: Variable, literal: object, place: Place) -> Problem:
    return Problem(
        *place, f"variable {shown(variable)} of '{shown(literal)}' is bound by nothing", "use it in a body predicate"
    )


def _closed(bound: set[Variable], comparisons: Iterable[Comparison]) -> set[Variable]:
    """``bound`` and whatever equals one of it or a constant."""
    bound, size = set(bound), -1
    while size < len(bound):
        size = len(bound)
        for comparison in comparisons:
            sides = (comparison.left, comparison.right)
            if comparison.operator == "=" and any(side in bound or not isinstance(side, Variable) for side in sides):
                bound.update(_ordered(sides))
    return bound


def _variables(atoms: Iterable[Atom]) -> set[Variable]:
    return {term for atom in atoms for term in atom.terms if isinstance(term, Variable)}


def _ordered(terms: Iterable[Term]) -> list[Variable]:
    return [term for term in dict.fromkeys(terms) if isinstance(term, Variable)]


def _occurrences(rule: Rule) -> Iterator[tuple[Place, list[Variable]]]:
    """Every place of the rule with the variables there, repeated as they are."""
    for atom in (rule.head, *rule.body, *rule.negated):
        yield atom.place, [term for term in atom.terms if isinstance(term, Variable)]
    for comparison in rule.comparisons:
        yield comparison.place, [one for one in (comparison.left, comparison.right) if isinstance(one, Variable)]
    for aggregate in rule.aggregates:
        yield aggregate.place, [aggregate.result, aggregate.value]
        for atom in aggregate.body:
            yield atom.place, [term for term in atom.terms if isinstance(term, Variable)]


def _uses(rule: Rule) -> Counter[Variable]:
    return Counter(variable for _, variables in _occurrences(rule) for variable in variables)
