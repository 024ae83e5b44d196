"""Turns the rules of a program into plain ones: positive and negated atoms and comparisons, layer above layer.

``N = count V { body }`` of a rule becomes two predicates that nobody outside the engine sees: the values of each group,
which plain rules derive in a layer below, and the result for each group, which the engine computes in a layer between
(graph/engine/aggregates.py). The rule then reads the result as an ordinary atom; a second rule stands for groups
without any value, whose count is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from graph.rules.syntax import Aggregate, Atom, Comparison, Function, Program, Rule, Term, Variable

HIDDEN = "#"
"""First letter of predicates that only the engine sees; no written predicate starts with it."""
TRUE = f"{HIDDEN}true"
"""A predicate of no arguments that always holds: the body of a rule that has no positive atom."""


@dataclass(frozen=True, slots=True)
class PlainRule:
    """A rule without aggregates or ``=``. ``number`` is that of the program's rule it stands for; ``rise`` is what a
    proof by it adds to the height of its highest premise (0 for what proofs do not show).
    """

    number: int
    head: Atom
    body: tuple[Atom, ...]
    negated: tuple[Atom, ...]
    comparisons: tuple[Comparison, ...]
    rise: int


@dataclass(frozen=True, slots=True)
class Grouping:
    """One aggregate: ``values`` holds (group …, value), ``results`` gets (group …, result)."""

    number: int
    function: Function
    values: str
    results: str
    arity: int


@dataclass(frozen=True, slots=True)
class Layer:
    """What is closed together: rules, or groupings that are computed from the layers below."""

    rules: tuple[PlainRule, ...] = ()
    groupings: tuple[Grouping, ...] = ()


def layers_of(program: Program) -> list[Layer]:
    """The program's strata as layers of plain rules. The first has no negation: facts told settle in it."""
    layers: list[Layer] = []
    for stratum in program.strata or (tuple(range(len(program.rules))),):
        rules = [(number, program.rules[number]) for number in stratum]
        values, groupings = _values(rules)
        if groupings:
            layers += [Layer(rules=tuple(values)), Layer(groupings=tuple(groupings))]
        plain = tuple(made for number, rule in rules for made in _plain(number, rule))
        if not layers and any(rule.negated for rule in plain):
            layers.append(Layer())
        layers.append(Layer(rules=plain))
    return layers


def _values(rules: list[tuple[int, Rule]]) -> tuple[list[PlainRule], list[Grouping]]:
    values, groupings = [], []
    for number, rule in rules:
        for at, aggregate in enumerate(rule.aggregates):
            group = group_of(rule, aggregate)
            name = result_name(number, at)
            head = Atom(f"{name}.values", (*group, aggregate.value))
            values += _without_equalities(PlainRule(number, head, aggregate.body, (), (), rise=0))
            groupings.append(Grouping(number, aggregate.function, head.predicate, name, len(group) + 1))
    return values, groupings


def _plain(number: int, rule: Rule) -> list[PlainRule]:
    """The rule with its aggregates read as atoms: one for each choice of counts that are 0."""
    choices = [(False, True) if aggregate.function == "count" else (False,) for aggregate in rule.aggregates]
    made: list[PlainRule] = []
    for choice in product(*choices):
        body, negated, comparisons = list(rule.body), list(rule.negated), list(rule.comparisons)
        for at, (aggregate, is_zero) in enumerate(zip(rule.aggregates, choice, strict=True)):
            group = group_of(rule, aggregate)
            if is_zero:
                negated.append(Atom(result_name(number, at), (*group, Variable(f"{HIDDEN}{at}"))))
                comparisons.append(Comparison("=", aggregate.result, "0"))
            else:
                body.append(Atom(result_name(number, at), (*group, aggregate.result)))
        body = body or [Atom(TRUE, ())]
        plain = PlainRule(number, rule.head, tuple(body), tuple(negated), tuple(comparisons), rise=1)
        made += _without_equalities(plain)
    return made


def result_name(number: int, at: int) -> str:
    """The hidden predicate with the results of a rule's aggregate, by their places."""
    return f"{HIDDEN}{number}.{at}"


def rule_of(hidden: str) -> int:
    """The number of the rule whose aggregate a hidden predicate serves."""
    return int(hidden.removeprefix(HIDDEN).split(".")[0])


def group_of(rule: Rule, aggregate: Aggregate) -> tuple[Variable, ...]:
    """Variables of the aggregate's body that occur elsewhere in the rule, in order of appearance."""
    outside: set[Term] = {aggregate.result}
    for atom in (rule.head, *rule.body, *rule.negated):
        outside.update(atom.terms)
    for comparison in rule.comparisons:
        outside.update((comparison.left, comparison.right))
    for other in rule.aggregates:
        if other is not aggregate:
            outside.update((other.result, *(term for atom in other.body for term in atom.terms)))
    inside = (term for atom in aggregate.body for term in atom.terms)
    return tuple(dict.fromkeys(term for term in inside if isinstance(term, Variable) and term in outside))


def _without_equalities(rule: PlainRule) -> list[PlainRule]:
    """The rule with equal terms made one, or nothing where its equalities contradict one another."""
    equal: dict[Variable, Term] = {}

    def resolve(term: Term) -> Term:
        while isinstance(term, Variable) and term in equal:
            term = equal[term]
        return term

    def substitute(atom: Atom) -> Atom:
        return Atom(atom.predicate, tuple(map(resolve, atom.terms)), atom.place)

    for comparison in rule.comparisons:
        if comparison.operator != "=":
            continue
        left, right = resolve(comparison.left), resolve(comparison.right)
        if left == right:
            continue
        if isinstance(left, Variable):
            equal[left] = right
        elif isinstance(right, Variable):
            equal[right] = left
        else:
            return []
    rest = tuple(
        Comparison(c.operator, resolve(c.left), resolve(c.right), c.place)
        for c in rule.comparisons
        if c.operator != "="
    )
    body, negated = tuple(map(substitute, rule.body)), tuple(map(substitute, rule.negated))
    return [PlainRule(rule.number, substitute(rule.head), body, negated, rest, rule.rise)]
