"""Random Datalog programs and a naive evaluator that shares no code with the engine."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

from hypothesis import strategies as st

from graph.ports import Fact
from graph.rules.syntax import Aggregate, Atom, Comparison, Declaration, Function, Program, Rule, Term, Variable

ARITY = {"p": 1, "q": 2, "r": 2, "s": 3}
CONSTANTS = ("a", "b", "c")
DECLARATIONS = {name: Declaration(name, tuple("xyz"[:n]), ("",) * n) for name, n in ARITY.items()}
_VARIABLES = tuple(Variable(name) for name in "XYZ")
_terms: st.SearchStrategy[Term] = st.one_of(st.sampled_from(_VARIABLES), st.sampled_from(CONSTANTS))

facts = st.sampled_from(sorted(ARITY)).flatmap(
    lambda name: st.tuples(*[st.sampled_from(CONSTANTS)] * ARITY[name]).map(lambda args: Fact(name, args))
)

# Programs in three strata: a rule's positive atoms are of its head's level or lower ones, what it negates or counts is
# of lower ones only.
LEVELS = {"p": 0, "q": 0, "r": 1, "s": 1, "t": 2, "u": 2}
STRATIFIED_ARITY = {"p": 1, "q": 2, "r": 2, "s": 3, "t": 2, "u": 1}
NUMBERS = ("a", "b", "2", "10", "2.0")
_FUNCTIONS: tuple[Function, ...] = ("count", "min", "max")
_STRATIFIED = {name: Declaration(name, tuple("xyz"[:n]), ("",) * n) for name, n in STRATIFIED_ARITY.items()}
_ANY: st.SearchStrategy[Term] = st.one_of(st.sampled_from(_VARIABLES), st.sampled_from(NUMBERS))

stratified_facts = st.sampled_from(sorted(STRATIFIED_ARITY)).flatmap(
    lambda name: st.tuples(*[st.sampled_from(NUMBERS)] * STRATIFIED_ARITY[name]).map(lambda args: Fact(name, args))
)


@st.composite
def _atoms(draw: st.DrawFn) -> Atom:
    name = draw(st.sampled_from(sorted(ARITY)))
    return Atom(name, tuple(draw(_terms) for _ in range(ARITY[name])))


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    body = tuple(draw(st.lists(_atoms(), min_size=1, max_size=3)))
    bound = sorted({t for atom in body for t in atom.terms if isinstance(t, Variable)}, key=str)
    safe: st.SearchStrategy[Term] = st.sampled_from([*bound, *CONSTANTS])
    name = draw(st.sampled_from(sorted(ARITY)))
    head = Atom(name, tuple(draw(safe) for _ in range(ARITY[name])))
    compare = st.builds(Comparison, st.sampled_from(["=", "!="]), safe, safe)
    return Rule("rule", head, body, tuple(draw(st.lists(compare, max_size=2))))


programs = st.lists(rules(), max_size=5).map(
    lambda made: Program(
        DECLARATIONS, tuple(Rule(f"rule{i}", r.head, r.body, r.comparisons) for i, r in enumerate(made))
    )
)


@st.composite
def _stratified_rule(draw: st.DrawFn) -> Rule:
    name = draw(st.sampled_from(sorted(LEVELS)))
    at_most = sorted(other for other in LEVELS if LEVELS[other] <= LEVELS[name])
    below = sorted(other for other in LEVELS if LEVELS[other] < LEVELS[name])

    def atom(names: Sequence[str], terms: st.SearchStrategy[Term]) -> Atom:
        chosen = draw(st.sampled_from(names))
        return Atom(chosen, tuple(draw(terms) for _ in range(STRATIFIED_ARITY[chosen])))

    least = draw(st.integers(0, 1)) if below else 1
    body = tuple(atom(at_most, _ANY) for _ in range(draw(st.integers(least, 2))))
    bound: list[Term] = sorted({t for each in body for t in each.terms if isinstance(t, Variable)}, key=str)
    aggregates: list[Aggregate] = []
    if below:
        for i in range(draw(st.integers(0 if body else 1, 2))):
            function = draw(st.sampled_from(_FUNCTIONS))
            inside: list[Term] = [*bound, Variable(f"V{i}"), Variable(f"W{i}"), *NUMBERS]
            members = [atom(below, st.sampled_from(inside)) for _ in range(draw(st.integers(1, 2)))]
            wide = draw(st.sampled_from([other for other in below if STRATIFIED_ARITY[other] > 1]))
            free = [draw(st.sampled_from(inside)) for _ in range(STRATIFIED_ARITY[wide] - 1)]
            members.append(Atom(wide, (*free, Variable(f"V{i}"))))
            aggregates.append(Aggregate(Variable(f"N{i}"), function, Variable(f"V{i}"), tuple(members)))
    bound += [aggregate.result for aggregate in aggregates]
    safe: st.SearchStrategy[Term] = st.sampled_from([*bound, *NUMBERS])
    local: st.SearchStrategy[Term] = st.sampled_from([*bound, *NUMBERS, Variable("L")])
    negated = []
    for i in range(draw(st.integers(0, 2)) if below else 0):
        made = atom(below, local)
        renamed = tuple(Variable(f"L{i}") if term == Variable("L") else term for term in made.terms)
        negated.append(Atom(made.predicate, renamed))
    head = Atom(name, tuple(draw(safe) for _ in range(STRATIFIED_ARITY[name])))
    compare = st.builds(Comparison, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), safe, safe)
    comparisons = tuple(draw(st.lists(compare, max_size=2)))
    return Rule("rule", head, body, comparisons, tuple(negated), tuple(aggregates))


@st.composite
def stratified_programs(draw: st.DrawFn) -> Program:
    """Programs with negation, aggregates and comparisons, in three strata."""
    made = [replace(rule, label=f"rule{i}") for i, rule in enumerate(draw(st.lists(_stratified_rule(), max_size=6)))]
    strata = tuple(
        tuple(i for i, rule in enumerate(made) if LEVELS[rule.head.predicate] == level) for level in range(3)
    )
    return Program(_STRATIFIED, tuple(made), (), strata)


def guessed(program: Program, name: str) -> Program:
    """The program with what is predicted of a predicate in its place."""

    def put(atoms: Sequence[Atom]) -> tuple[Atom, ...]:
        return tuple(replace(atom, predicate=f"~{name}") if atom.predicate == name else atom for atom in atoms)

    made = [
        replace(
            rule,
            head=put([rule.head])[0],
            body=put(rule.body),
            negated=put(rule.negated),
            aggregates=tuple(replace(aggregate, body=put(aggregate.body)) for aggregate in rule.aggregates),
        )
        for rule in program.rules
    ]
    return replace(program, rules=tuple(made))


def ground(rule: Rule) -> list[tuple[Fact, tuple[Fact, ...]]]:
    """Every instance of the rule over all constants whose comparisons hold."""
    variables = sorted({t for atom in (rule.head, *rule.body) for t in atom.terms if isinstance(t, Variable)}, key=str)
    instances = []
    for values in product(CONSTANTS, repeat=len(variables)):
        value = dict(zip(variables, values, strict=True))

        def put(term: Term, value: dict[Variable, str] = value) -> str:
            return value[term] if isinstance(term, Variable) else term

        def fact(atom: Atom, value: dict[Variable, str] = value) -> Fact:
            return Fact(atom.predicate, tuple(put(t, value) for t in atom.terms))

        if all((put(c.left) == put(c.right)) == (c.operator == "=") for c in rule.comparisons):
            instances.append((fact(rule.head), tuple(fact(atom) for atom in rule.body)))
    return instances


def naive_heights(program: Program, asserted: set[Fact]) -> dict[Fact, int]:
    """Every fact of the least model with the least height of a proof, by applying every instance until none adds."""
    instances = [instance for rule in program.rules for instance in ground(rule)]
    heights = dict.fromkeys(asserted, 0)
    while True:
        new = {
            head: 1 + max(heights[premise] for premise in premises)
            for head, premises in instances
            if head not in heights and all(premise in heights for premise in premises)
        }
        if not new:
            return heights
        heights |= new


_Values = dict[Variable, str]
_ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def stratified_heights(program: Program, asserted: set[Fact]) -> dict[Fact, int]:
    """Every fact of the stratified model with the least height of a proof: stratum by stratum, every rule until none
    adds a fact or lowers a height. A count is as high as its highest member, a minimum or maximum as its witness.
    """
    heights = dict.fromkeys(asserted, 0)
    for stratum in program.strata:
        changed = True
        while changed:
            changed = False
            for head, _, height in [step for number in stratum for step in steps(program.rules[number], heights)]:
                if height < heights.get(head, height + 1):
                    heights[head] = height
                    changed = True
    return heights


def steps(rule: Rule, heights: Mapping[Fact, int]) -> list[tuple[Fact, tuple[Fact, ...], int]]:
    """What the rule concludes from facts: the head, what its positive atoms matched, the height of the proof."""
    found = []
    for values, matched in _matches(rule.body, heights, {}):
        tops = [heights[fact] for fact in matched]
        for aggregate in rule.aggregates:
            _equate(rule, values)
            result = _aggregate(aggregate, values, heights)
            if result is None or values.setdefault(aggregate.result, result[0]) != result[0]:
                break
            tops.append(result[1])
        else:
            _equate(rule, values)
            if all(_compares(c, values) for c in rule.comparisons) and not any(
                list(_matches((atom,), heights, values)) for atom in rule.negated
            ):
                found.append((_put(rule.head, values), matched, 1 + max(tops, default=0)))
    return found


def _matches(
    atoms: Sequence[Atom], heights: Mapping[Fact, int], values: _Values
) -> Iterator[tuple[_Values, tuple[Fact, ...]]]:
    if not atoms:
        yield dict(values), ()
        return
    for fact in [fact for fact in heights if fact.predicate == atoms[0].predicate]:
        own = dict(values)
        if all(_put_term(t, own, arg) == arg for t, arg in zip(atoms[0].terms, fact.args, strict=True)):
            for more, rest in _matches(atoms[1:], heights, own):
                yield more, (fact, *rest)


def _put_term(term: Term, values: _Values, default: str) -> str:
    return values.setdefault(term, default) if isinstance(term, Variable) else term


def _value(term: Term, values: _Values) -> str:
    return values[term] if isinstance(term, Variable) else term


def _put(atom: Atom, values: _Values) -> Fact:
    return Fact(atom.predicate, tuple(_value(term, values) for term in atom.terms))


def _equate(rule: Rule, values: _Values) -> None:
    """Binds what ``=`` alone binds."""
    for _ in rule.comparisons:
        for c in rule.comparisons:
            if c.operator == "=":
                for one, other in ((c.left, c.right), (c.right, c.left)):
                    if isinstance(one, Variable) and not (isinstance(other, Variable) and other not in values):
                        values.setdefault(one, _value(other, values))


def _number(text: str) -> float | None:
    return float(text) if text.replace(".", "", 1).isdigit() else None


def _compares(comparison: Comparison, values: _Values) -> bool:
    left, right = _value(comparison.left, values), _value(comparison.right, values)
    if comparison.operator in ("=", "!="):
        return (left == right) == (comparison.operator == "=")
    a, b = _number(left), _number(right)
    return a is not None and b is not None and _ORDER[comparison.operator](a, b)


def _aggregate(aggregate: Aggregate, values: _Values, heights: Mapping[Fact, int]) -> tuple[str, int] | None:
    tops: dict[str, int] = {}
    for own, matched in _matches(aggregate.body, heights, {k: v for k, v in values.items() if k != aggregate.value}):
        top = max(heights[fact] for fact in matched)
        tops[own[aggregate.value]] = min(top, tops.get(own[aggregate.value], top))
    if aggregate.function == "count":
        return str(len(tops)), max(tops.values(), default=0)
    sign = -1 if aggregate.function == "max" else 1
    numbers = sorted((sign * n, len(t), t) for t in tops if (n := _number(t)) is not None)
    return (numbers[0][2], tops[numbers[0][2]]) if numbers else None
