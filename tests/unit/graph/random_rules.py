"""Random programs that use every construct of the rule language and that the language admits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from graph.ports import Fact
from graph.rules.syntax import (
    Aggregate,
    Atom,
    Comparison,
    Declaration,
    Function,
    Program,
    Rule,
    Term,
    Variable,
    predicted,
)

_DERIVED = 4
TYPES: dict[str, tuple[str, ...]] = {"kind": ("food", "pet goods", "Non-Food", "-1")}
SIGNATURES = {
    "user": ("user",),
    "price": ("item", "number"),
    "shop.bought": ("user", "item"),
    "shop.of": ("item", "kind", ""),
    **{f"shop.derived{i}": ("user", "number", "item") for i in range(_DERIVED)},
}
CONSTRAINT = "refused"
DECLARATIONS = {
    name: Declaration(name, tuple(f"argument{i}" for i in range(len(types))), types)
    for name, types in SIGNATURES.items()
} | {CONSTRAINT: Declaration(CONSTRAINT, ("user", "item"), ("user", "item"), is_constraint=True)}
_TOLD = [name for name in SIGNATURES if "derived" not in name]

# A string of the language stands on one line.
_texts = st.text(st.characters(exclude_characters="\n", codec="utf-8"), max_size=6)
_numbers = st.from_regex(r"-?[0-9]{1,3}(\.[0-9]{1,2})?", fullmatch=True)
_words = st.sampled_from(["ann", "not", "predicted", "count", "low-fat", "x1"])


def _constants(kind: str) -> st.SearchStrategy[str]:
    if kind in TYPES:
        return st.sampled_from(TYPES[kind])
    return _numbers if kind == "number" else st.one_of(_texts, _words, _numbers)


@dataclass
class _Body:
    """A body in the making; ``bound`` are its variables by type."""

    atoms: list[Atom] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    negated: list[Atom] = field(default_factory=list)
    aggregates: list[Aggregate] = field(default_factory=list)
    bound: dict[str, list[Variable]] = field(default_factory=dict)


def _new_variable(kind: str, number: int) -> Variable:
    return Variable(f"{'?' if number % 2 else ''}{kind.capitalize() or 'Any'}{number}")


def _atom(draw: st.DrawFn, name: str, variables: dict[str, list[Variable]]) -> Atom:
    terms: list[Term] = []
    for kind in DECLARATIONS[name].types:
        known = variables.get(kind, [])
        terms.append(draw(st.one_of(st.sampled_from(known), _constants(kind)) if known else _constants(kind)))
    return Atom(name, tuple(terms))


@st.composite
def _rules(draw: st.DrawFn, level: int) -> Rule:
    below = [*_TOLD, *(f"shop.derived{i}" for i in range(level))]
    body = _Body()
    pool = {kind: [_new_variable(kind, i) for i in range(2)] for kind in ("user", "item", "number", "kind", "")}
    recursive = [*below, f"shop.derived{level}"] if level < _DERIVED else below
    for _ in range(draw(st.integers(1, 3))):
        body.atoms.append(_atom(draw, draw(st.sampled_from(recursive)), pool))
    for atom in body.atoms:
        for term, kind in zip(atom.terms, SIGNATURES[atom.predicate]):
            if isinstance(term, Variable) and term not in body.bound.setdefault(kind, []):
                body.bound[kind].append(term)
    for i in range(draw(st.integers(0, 2))):
        known = {**body.bound, "": [Variable(f"_none{i}")]}
        body.negated.append(_atom(draw, draw(st.sampled_from(below)), known))
    _add_aggregates(draw, body, below)
    _add_comparisons(draw, body)
    head = CONSTRAINT if level == _DERIVED else f"shop.derived{level}"
    return _finished(draw, head, body)


def _add_aggregates(draw: st.DrawFn, body: _Body, below: list[str]) -> None:
    for i in range(draw(st.integers(0, 2))):
        function: Function = draw(st.sampled_from(["count", "min", "max"]))
        value, result = Variable(f"Value{i}"), Variable(f"Result{i}")
        counted = [Atom("price", (Variable(f"Other{i}"), value))]
        counted += [_atom(draw, draw(st.sampled_from(below)), body.bound) for _ in range(draw(st.integers(0, 1)))]
        body.aggregates.append(Aggregate(result, function, value, tuple(counted)))
        body.comparisons.append(Comparison(">=", result, draw(_numbers)))


def _add_comparisons(draw: st.DrawFn, body: _Body) -> None:
    for kind, variables in body.bound.items():
        if draw(st.booleans()):
            left = draw(st.sampled_from(variables))
            right = draw(st.one_of(st.sampled_from(variables), _constants(kind)))
            operators = ["=", "!=", "<", "<=", ">", ">="] if kind == "number" else ["=", "!="]
            body.comparisons.append(Comparison(draw(st.sampled_from(operators)), left, right))


def _finished(draw: st.DrawFn, name: str, body: _Body) -> Rule:
    head, message = _atom(draw, name, body.bound), ""
    if name == CONSTRAINT:
        asked = [f"{{{term}}}" for term in head.terms if isinstance(term, Variable)]
        message = "why: " + draw(_texts).replace("{", "").replace("}", "") + " ".join(asked)
    rule = Rule(
        "", head, tuple(body.atoms), tuple(body.comparisons), tuple(body.negated), tuple(body.aggregates), message
    )
    return _with_lone_variables_named_so(_predicted(rule) if draw(st.booleans()) else rule)


def _predicted(rule: Rule) -> Rule:
    first, *rest = rule.body
    guessed = replace(first, predicate=predicted(first.predicate))
    return replace(rule, head=replace(rule.head, predicate=predicted(rule.head.predicate)), body=(guessed, *rest))


def _with_lone_variables_named_so(rule: Rule) -> Rule:
    uses = Counter(_variables(rule))

    def put(atom: Atom) -> Atom:
        return replace(atom, terms=tuple(named(term) for term in atom.terms))

    def named(term: Term) -> Term:
        return Variable(f"_{term.name.lstrip('?')}") if isinstance(term, Variable) and uses[term] == 1 else term

    return replace(
        rule,
        body=tuple(map(put, rule.body)),
        negated=tuple(map(put, rule.negated)),
        aggregates=tuple(replace(one, body=tuple(map(put, one.body))) for one in rule.aggregates),
    )


def _variables(rule: Rule) -> Iterator[Variable]:
    inside = [atom for one in rule.aggregates for atom in one.body]
    terms: list[Term] = [term for atom in (rule.head, *rule.body, *rule.negated, *inside) for term in atom.terms]
    terms += [side for comparison in rule.comparisons for side in (comparison.left, comparison.right)]
    terms += [side for one in rule.aggregates for side in (one.result, one.value)]
    return (term for term in terms if isinstance(term, Variable))


@st.composite
def _facts(draw: st.DrawFn) -> Fact:
    name = draw(st.sampled_from(_TOLD))
    return Fact(name, tuple(draw(_constants(kind)) for kind in SIGNATURES[name]))


@st.composite
def admitted_programs(draw: st.DrawFn) -> Program:
    """A program of up to eight labelled rules, in strata by construction; places and strata are left empty."""
    levels = draw(st.lists(st.integers(0, _DERIVED), max_size=8))
    rules = tuple(replace(draw(_rules(level)), label=f"shop.rule{i}") for i, level in enumerate(levels))
    facts = tuple((fact, "") for fact in draw(st.lists(_facts(), max_size=4)))
    return Program(DECLARATIONS, rules, facts, types=TYPES)
