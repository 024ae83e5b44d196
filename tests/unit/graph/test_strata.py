"""Strata: rules are closed under together only where nothing they negate or aggregate is among them."""

from __future__ import annotations

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.errors import RuleSyntaxError
from graph.rules.reader import parse
from graph.rules.strata import recursions, stratify
from graph.rules.syntax import Aggregate, Atom, Rule, Variable

X, N, Y = Variable("X"), Variable("N"), Variable("Y")
NAMES = "abcdef"


def declared(text: str) -> str:
    return "".join(f".decl {name}(x: number)\n" for name in "edpqrst") + text


def test_a_positive_program_is_one_stratum_whatever_its_recursion() -> None:
    assert parse(declared("p(X) :- e(X). q(X) :- p(X). p(X) :- q(X). r(X) :- r(X), q(X).")).strata == ((0, 1, 2, 3),)
    assert parse(declared("e(1).")).strata == ()


def test_negation_and_aggregation_of_what_is_derived_stand_above_it_and_of_what_is_told_do_not() -> None:
    program = parse(
        declared(
            "t(X) :- s(X), q(X).\n"  # 0: uses stratum 2
            "s(X) :- e(X), not r(X).\n"  # 1
            "r(N) :- N = count Y { p(Y) }.\n"  # 2
            "p(X) :- e(X), not d(X).\n"  # 3: d is never derived
            "q(X) :- p(X), e(X).\n"  # 4
        )
    )
    assert program.strata == ((3, 4), (2,), (0, 1))


def test_all_rules_for_a_predicate_share_its_stratum() -> None:
    assert parse(declared("p(X) :- e(X). p(X) :- e(X), not q(X). q(X) :- d(X).")).strata == ((2,), (0, 1))


def test_predictions_are_strata_of_their_own() -> None:
    program = parse(declared("p(X) :- predicted q(X), not p(X). q(X) :- p(X). p(X) :- e(X)."))
    assert [rule.head.predicate for rule in program.rules] == ["~p", "q", "p"]
    assert program.strata == ((1, 2), (0,))


@pytest.mark.parametrize(
    ("text", "cycles"),
    [
        ("p(X) :- e(X), not p(X).", ["p -not-> p"]),
        ("p(X) :- e(X), not q(X).\nq(X) :- p(X).", ["p -not-> q -> p"]),
        ("p(X) :- e(X), not q(X).\nq(X) :- e(X), not p(X).", ["p -not-> q -not-> p", "q -not-> p -not-> q"]),
        ("p(N) :- N = count Y { q(Y) }.\nq(X) :- r(X).\nr(X) :- p(X).", ["p -count-> q -> r -> p"]),
        ("p(N) :- N = max Y { e(Y), p(Y) }.", ["p -max-> p"]),
        ("p(X) :- predicted q(X), not predicted p(X).", ["predicted p -not-> predicted p"]),
        ("p(X) :- q(X), e(X).\nq(X) :- p(X).\nr(X) :- p(X), not q(X).\ns(X) :- r(X), not s(X).", ["s -not-> s"]),
    ],
)
def test_a_circle_through_negation_or_aggregation_is_shown(text: str, cycles: list[str]) -> None:
    with pytest.raises(RuleSyntaxError) as caught:
        parse(declared(text))
    assert [problem.message.rpartition(": ")[2] for problem in caught.value.problems] == cycles
    assert all("break the circle" in problem.remedy for problem in caught.value.problems)


def test_the_circle_is_told_at_the_literal_that_closes_it() -> None:
    with pytest.raises(RuleSyntaxError) as caught:
        parse(declared("p(X) :- e(X),\n    not q(X).\nq(X) :- p(X)."), "f")
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (9, 9)
    assert problem.message == "'not q(X)' needs all of 'q', which rests on 'p': p -not-> q -> p"


def rule(head: str, positive: list[str], negative: list[str], aggregated: list[str]) -> Rule:
    return Rule(
        head,
        Atom(head, (X,)),
        tuple(Atom(name, (X,)) for name in ["e", *positive]),
        negated=tuple(Atom(name, (X,)) for name in negative),
        aggregates=tuple(Aggregate(N, "count", Y, (Atom(name, (Y,)),)) for name in aggregated),
    )


names = st.lists(st.sampled_from(NAMES), max_size=2)
few = st.lists(st.sampled_from(NAMES), max_size=1)
programs = st.lists(st.builds(rule, st.sampled_from(NAMES), names, few, few), max_size=7)


@given(programs)
def test_strata_are_the_least_there_are_and_circles_are_those_of_the_graph(rules: list[Rule]) -> None:
    """Against networkx: a strict edge inside a component is a circle; else a level counts strict edges below."""
    derived = {one.head.predicate for one in rules}
    uses = nx.MultiDiGraph()
    uses.add_nodes_from(derived)
    for one in rules:
        strict = [*one.negated, *(atom for each in one.aggregates for atom in each.body)]
        edges = [(atom.predicate, 0) for atom in one.body] + [(atom.predicate, 1) for atom in strict]
        uses.add_edges_from((name, one.head.predicate, {"step": step}) for name, step in edges if name in derived)
    component = {name: i for i, names in enumerate(nx.strongly_connected_components(uses)) for name in names}
    circular = any(step and component[a] == component[b] for a, b, step in uses.edges(data="step"))
    assert bool(list(recursions(rules))) == circular
    if circular:
        return
    level = dict.fromkeys(derived, 0)
    for _ in derived:
        for a, b, step in uses.edges(data="step"):
            level[b] = max(level[b], level[a] + step)
    expected = [[i for i, one in enumerate(rules) if level[one.head.predicate] == at] for at in range(len(rules))]
    assert stratify(rules) == tuple(tuple(numbers) for numbers in expected if numbers)
