"""The engine against a naive evaluator, its proofs, its layers and its determinism."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.engine import RuleGraph, Table
from graph.errors import (
    FactLimitExceeded,
    NotANumber,
    NotDerived,
    OntologyError,
    TimeLimitExceeded,
    UnknownPredicate,
    UnknownValue,
)
from graph.ports import Fact, Proof
from graph.rules.reader import parse
from graph.rules.syntax import Aggregate, Atom, Comparison, Declaration, Program, Rule, Variable
from tests.unit.graph.programs import (
    ARITY,
    STRATIFIED_ARITY,
    facts,
    ground,
    naive_heights,
    programs,
    steps,
    stratified_facts,
    stratified_heights,
    stratified_programs,
)

PATHS = """
.decl edge(from, to)
.decl path(from, to)
one: path(X, Y) :- edge(X, Y).
more: path(X, Z) :- path(X, Y), path(Y, Z).
"""


X, Y, N, V = map(Variable, "XYNV")


def declare(**types: str) -> dict[str, Declaration]:
    return {
        name: Declaration(name, tuple(text.split()), tuple("number" if t == "n" else "" for t in text.split()))
        for name, text in types.items()
    }


def model(graph: RuleGraph, arity: dict[str, int] = ARITY) -> set[Fact]:
    return {fact for name, n in arity.items() for fact in graph.query(Fact(name, tuple(f"?{i}" for i in range(n))))}


def height(proof: Proof) -> int:
    return 0 if proof.rule is None else 1 + max(map(height, proof.premises), default=0)


def chain(length: int) -> list[Fact]:
    return [Fact("edge", (f"n{i}", f"n{i + 1}")) for i in range(length)]


@settings(max_examples=150)
@given(programs, st.frozensets(facts, max_size=8))
def test_model_and_proof_heights_equal_the_naive_evaluation(program: Program, asserted: frozenset[Fact]) -> None:
    graph = RuleGraph.build(program, asserted)
    expected = naive_heights(program, set(asserted))
    assert model(graph) == set(expected)
    assert len(graph) == len(expected)
    assert {fact: height(graph.prove(fact)) for fact in expected} == expected


LINEAR = """
.decl edge(from, to)
.decl start(node)
.decl path(from, to)
.decl reached(node)
.decl back(to, from)
one: path(X, Y) :- edge(X, Y).
more: path(X, Z) :- path(X, Y), edge(Y, Z).
first: reached(X) :- start(X).
on: reached(Y) :- edge(X, Y), reached(X).
turned: back(Y, X) :- reached(X), path(X, Y).
"""
_pairs = st.frozensets(st.tuples(*[st.sampled_from("abcdef")] * 2), max_size=12)


@settings(max_examples=100)
@given(_pairs, _pairs, st.frozensets(st.sampled_from("abcdef"), max_size=2))
def test_linear_rules_over_facts_told_and_derived_equal_the_naive_evaluation(
    edges: frozenset[tuple[str, str]], paths: frozenset[tuple[str, str]], starts: frozenset[str]
) -> None:
    # One node has more successors than the engine looks ahead for at once.
    told = {Fact("edge", pair) for pair in edges} | {Fact("edge", ("a", f"n{i}")) for i in range(40)}
    told |= {Fact("path", pair) for pair in paths} | {Fact("start", (node,)) for node in starts}
    program = parse(LINEAR)
    graph = RuleGraph.build(program, told)
    expected = stratified_heights(program, told)
    assert {fact: height(graph.prove(fact)) for fact in expected} == expected
    assert len(graph) == len(expected)
    # A change reads indexes that the evaluation did without.
    extended = graph.extend([Fact("edge", ("n7", "b"))], "later")
    expected = stratified_heights(program, told | {Fact("edge", ("n7", "b"))})
    assert {fact: height(extended.prove(fact)) for fact in expected} == expected
    assert len(extended) == len(expected)


@settings(max_examples=100)
@given(programs, st.frozensets(facts, max_size=8))
def test_every_step_of_a_proof_is_an_instance_of_its_rule(program: Program, asserted: frozenset[Fact]) -> None:
    graph = RuleGraph.build(program, asserted)
    instances = {rule.label: set(ground(rule)) for rule in program.rules}

    def check(proof: Proof, above: tuple[Fact, ...]) -> None:
        assert proof.fact not in above, "a proof must not rest on what it proves"
        if proof.rule is None:
            assert proof.fact in asserted
        else:
            assert (proof.fact, tuple(p.fact for p in proof.premises)) in instances[proof.rule]
        for premise in proof.premises:
            check(premise, (*above, proof.fact))

    for fact in model(graph):
        check(graph.prove(fact), ())


@settings(max_examples=150)
@given(programs, st.lists(st.frozensets(facts, max_size=5), min_size=2, max_size=4))
def test_extending_equals_evaluating_from_scratch(program: Program, parts: list[frozenset[Fact]]) -> None:
    layered = RuleGraph.build(program, parts[0])
    below = model(layered)
    first = layered
    for part in parts[1:]:
        layered = layered.extend(part, "later")
    whole = RuleGraph.build(program, frozenset().union(*parts))
    assert model(layered) == model(whole)
    assert len(layered) == len(whole)
    assert layered.version == whole.version
    assert all(height(layered.prove(f)) == height(whole.prove(f)) for f in model(whole))
    assert model(first) == below, "the graph below must stay as it was"


def test_extension_shows_a_shorter_proof_of_a_fact_below() -> None:
    base = RuleGraph.build(parse(PATHS), chain(8))
    goal = Fact("path", ("n0", "n8"))
    extended = base.extend([Fact("edge", ("n0", "n8"))], "shortcut")
    assert height(base.prove(goal)) == 4  # halving: eight edges are three levels of `more` over one of `one`
    assert height(extended.prove(goal)) == 1
    assert extended.prove(goal).premises[0].source == "shortcut"


def test_proof_names_rules_and_sources() -> None:
    graph = RuleGraph.build(parse(PATHS + "edge(a, b).\n", "paths.rules"), [Fact("edge", ("b", "c"))], source="upload")
    assert list(graph.prove(Fact("path", ("a", "c"))).lines()) == [
        "path(a, c)  [more]",
        "  path(a, b)  [one]",
        "    edge(a, b)  (paths.rules:6)",
        "  path(b, c)  [one]",
        "    edge(b, c)  (upload)",
    ]


def test_the_reason_of_a_fact_is_the_last_step_of_its_proof() -> None:
    graph = RuleGraph.build(parse(PATHS), chain(3), source="upload")
    for fact in (Fact("edge", ("n0", "n1")), Fact("path", ("n0", "n3"))):
        whole, last = graph.prove(fact), graph.reason(fact)
        assert (last.fact, last.rule, last.source, last.premises) == (fact, whole.rule, whole.source, ())
    with pytest.raises(NotDerived):
        graph.reason(Fact("path", ("n3", "n0")))


def test_a_proof_deeper_than_the_python_stack_is_built() -> None:
    program = parse(PATHS.replace("path(X, Y), path(Y, Z)", "path(X, Y), edge(Y, Z)"))
    graph = RuleGraph.build(program, [Fact("edge", ("n0", "n1")), *chain(400)[1:]])
    proof = graph.prove(Fact("path", ("n0", "n400")))
    depth = 0
    while proof.premises:
        proof, depth = proof.premises[0], depth + 1
    assert depth == 400


def test_query_matches_constants_and_repeated_variables_sorted() -> None:
    graph = RuleGraph.build(parse(PATHS), [Fact("edge", pair) for pair in [("b", "a"), ("a", "b"), ("a", "c")]])
    assert graph.query(Fact("path", ("?x", "?x"))) == [Fact("path", ("a", "a")), Fact("path", ("b", "b"))]
    assert graph.query(Fact("edge", ("a", "?x"))) == [Fact("edge", ("a", "b")), Fact("edge", ("a", "c"))]
    assert graph.query(Fact("edge", ("?x", "c"))) == [Fact("edge", ("a", "c"))]


def test_unknown_predicate_is_refused_with_the_nearest_name() -> None:
    graph = RuleGraph.build(parse(PATHS))
    with pytest.raises(UnknownPredicate, match="did you mean 'path'"):
        graph.query(Fact("paths", ("?x", "?y")))
    with pytest.raises(UnknownPredicate, match=r"write edge\(from, to\)"):
        graph.extend([Fact("edge", ("a",))], "test")


def test_proof_of_what_does_not_hold_is_refused() -> None:
    with pytest.raises(NotDerived, match=r"path\(a, b\) does not hold"):
        RuleGraph.build(parse(PATHS)).prove(Fact("path", ("a", "b")))


def test_closure_stops_at_the_fact_limit() -> None:
    with pytest.raises(FactLimitExceeded, match="more than 100 facts while deriving 'path'"):
        RuleGraph.build(parse(PATHS), chain(50), max_facts=100)
    small = RuleGraph.build(parse(PATHS), chain(5), max_facts=25)
    with pytest.raises(FactLimitExceeded):
        small.extend([Fact("edge", ("n5", "n0"))], "test")


def test_equality_binds_and_a_contradiction_derives_nothing() -> None:
    graph = RuleGraph.build(
        parse(".decl p(a)\n.decl q(a, b)\nq(X, Y) :- p(X), Y = hit.\nq(X, X) :- p(X), X = a, X = b.\np(a). p(b).")
    )
    assert graph.query(Fact("q", ("?x", "?y"))) == [Fact("q", ("a", "hit")), Fact("q", ("b", "hit"))]


@settings(max_examples=150)
@given(stratified_programs(), st.lists(st.frozensets(stratified_facts, max_size=6), min_size=1, max_size=3))
def test_negation_aggregates_and_comparisons_equal_the_naive_evaluation(
    program: Program, parts: list[frozenset[Fact]]
) -> None:
    graph = RuleGraph.build(program, parts[0])
    for part in parts[1:]:
        graph = graph.extend(part, "later")
    told = frozenset().union(*parts)
    expected = stratified_heights(program, set(told))
    assert model(graph, STRATIFIED_ARITY) == set(expected)
    assert len(graph) == len(expected)
    assert {fact: height(graph.prove(fact)) for fact in expected} == expected


@settings(max_examples=100)
@given(stratified_programs(), st.frozensets(stratified_facts, max_size=8))
def test_a_proof_shows_facts_that_hold_and_what_the_positive_atoms_matched(
    program: Program, told: frozenset[Fact]
) -> None:
    graph = RuleGraph.build(program, told)
    expected = stratified_heights(program, set(told))
    concluded = {rule.label: {(head, matched) for head, matched, _ in steps(rule, expected)} for rule in program.rules}
    bodies = {rule.label: len(rule.body) for rule in program.rules}
    for fact in expected:
        proof = graph.prove(fact)
        assert all(premise.fact in expected for premise in proof.premises)
        if proof.rule is None:
            assert fact in told
        else:
            matched = tuple(premise.fact for premise in proof.premises[: bodies[proof.rule]])
            assert (fact, matched) in concluded[proof.rule]


def test_a_count_shows_its_members_and_a_minimum_its_witness() -> None:
    sells = Atom("sells", (X, Y, V))
    program = Program(
        declare(shop="s", sells="s what price", range="s much", least="s price"),
        (
            Rule("range", Atom("range", (X, N)), (Atom("shop", (X,)),), (), (), (Aggregate(N, "count", Y, (sells,)),)),
            Rule("least", Atom("least", (X, N)), (), (), (), (Aggregate(N, "min", V, (sells,)),)),
        ),
        strata=((), (0, 1)),
    )
    sold = [Fact("sells", ("a", "milk", "10")), Fact("sells", ("a", "tea", "9.5")), Fact("sells", ("a", "tea", "12"))]
    graph = RuleGraph.build(program, [Fact("shop", ("a",)), Fact("shop", ("b",)), *sold], "till")
    assert graph.query(Fact("range", ("?s", "?n"))) == [Fact("range", ("a", "2")), Fact("range", ("b", "0"))]
    shop, milk, tea = graph.prove(Fact("range", ("a", "2"))).premises
    assert (shop.fact, milk.fact) == (Fact("shop", ("a",)), sold[0])
    assert tea.fact in sold[1:]
    assert graph.prove(Fact("least", ("a", "9.5"))).premises == (graph.prove(sold[1]),)
    assert graph.prove(Fact("range", ("b", "0"))).premises == (graph.prove(Fact("shop", ("b",))),)


def test_numbers_compare_by_value_and_texts_by_no_order() -> None:
    program = Program(
        declare(price="item n", cheap="item"),
        (Rule("cheap", Atom("cheap", (X,)), (Atom("price", (X, N)),), (Comparison("<", N, "10"),)),),
    )
    prices = [Fact("price", pair) for pair in (("a", "9.5"), ("b", "10"), ("c", "100"), ("d", "-3"))]
    graph = RuleGraph.build(program, prices)
    assert graph.query(Fact("cheap", ("?x",))) == [Fact("cheap", ("a",)), Fact("cheap", ("d",))]
    later = graph.extend([Fact("price", ("e", "2")), Fact("price", ("f", "9.5"))], "later")
    latest = later.extend(
        [Fact("price", ("g", "100")), Fact("price", ("h", "2")), Fact("price", ("i", "10.5"))], "last"
    )
    assert [fact.args[0] for fact in latest.query(Fact("cheap", ("?x",)))] == ["a", "d", "e", "f", "h"]


def test_numbers_of_the_graph_below_and_of_an_extension_compare_with_one_another() -> None:
    program = Program(
        declare(price="item n", dearer="item item"),
        (
            Rule(
                "dearer",
                Atom("dearer", (X, Y)),
                (Atom("price", (X, N)), Atom("price", (Y, V))),
                (Comparison(">", N, V),),
            ),
        ),
    )
    prices = {"a": "5", "b": "07", "c": "-1", "d": "6.5", "e": "5.0"}
    graph = RuleGraph.build(program, [])
    for item, price in prices.items():
        graph = graph.extend([Fact("price", (item, price))], item)
    values = {item: float(price) for item, price in prices.items()}
    expected = [Fact("dearer", (x, y)) for x in values for y in values if values[x] > values[y]]
    assert graph.query(Fact("dearer", ("?x", "?y"))) == sorted(expected)


def test_text_where_a_number_belongs_is_refused() -> None:
    program = Program({"price": Declaration("price", ("item", "amount"), ("", "number"))}, ())
    with pytest.raises(NotANumber, match="amount of price: 'cheap' is no number; write a decimal"):
        RuleGraph.build(program, [Fact("price", ("tea", "cheap"))])
    with pytest.raises(NotANumber, match="'1e3' is no number"):
        RuleGraph.build(program, tables=[Table("price", (["tea"], ["1e3"]))])


def test_a_value_that_an_enumerated_type_does_not_list_is_refused() -> None:
    program = parse(".type kind = food, toy.\n.decl sort(item, of: kind)\nsort(ball, toy).\n")
    with pytest.raises(UnknownValue, match="of of sort: 'tyo' is not of type kind; did you mean 'toy'"):
        RuleGraph.build(program, [Fact("sort", ("car", "tyo"))])
    with pytest.raises(UnknownValue, match="type kind is one of food, toy"):
        RuleGraph.build(program, tables=[Table("sort", (["car", "milk"], ["toy", "drink"]))])
    graph = RuleGraph.build(program, tables=[Table("sort", (["car", "milk"], ["toy", "food"]))])
    with pytest.raises(UnknownValue):
        graph.extend([Fact("sort", ("tea", "drink"))], "test")
    with pytest.raises(UnknownValue, match="of of ~sort"):
        graph.extend([], "model", predicted=[(Fact("sort", ("tea", "drink")), 0.5)])
    assert graph.extend([Fact("sort", ("tea", "food"))], "test").holds(Fact("sort", ("tea", "food")))


def test_predictions_enter_a_rule_only_where_it_names_them() -> None:
    program = Program(
        declare(vegan="item", safe="item", likely_safe="item"),
        (
            Rule("safe", Atom("safe", (X,)), (Atom("vegan", (X,)),)),
            Rule("likely", Atom("~safe", (X,)), (Atom("~vegan", (X,)),)),
        ),
    )
    tofu, kale = Fact("vegan", ("tofu",)), Fact("vegan", ("kale",))
    graph = RuleGraph.build(program, [kale], "label", predicted=[(tofu, 0.9)])
    assert graph.query(Fact("safe", ("?x",))) == [Fact("safe", ("kale",))]
    assert graph.query(Fact("~safe", ("?x",))) == [Fact("~safe", ("tofu",))]
    assert not graph.holds(tofu)
    leaf = graph.prove(Fact("~safe", ("tofu",))).premises[0]
    assert (leaf.fact, leaf.probability) == (Fact("~vegan", ("tofu",)), 0.9)
    assert list(graph.prove(Fact("~safe", ("tofu",))).lines())[1] == "  ~vegan(tofu)  (label, predicted: 0.9)"
    with pytest.raises(OntologyError, match="not in 0 … 1"):
        graph.extend([], "model", predicted=[(kale, 1.5)])
    with pytest.raises(OntologyError, match="without a probability"):
        graph.extend([Fact("~vegan", ("kale",))], "model")


def test_violations_carry_their_message_and_proof() -> None:
    declarations = declare(claims="p d", has="p x", conflict="p x")
    declarations["conflict"] = Declaration("conflict", ("p", "x"), ("", ""), is_constraint=True)
    body = (Atom("claims", (X, "vegan")), Atom("has", (X, Y)))
    rule = Rule("no-milk", Atom("conflict", (X, Y)), body, message="{X} says vegan and has {Y}")
    graph = RuleGraph.build(
        Program(declarations, (rule,)), [Fact("claims", ("bar", "vegan")), Fact("has", ("bar", "milk"))]
    )
    [(fact, message, proof)] = graph.violations()
    assert (fact, message) == (Fact("conflict", ("bar", "milk")), "bar says vegan and has milk")
    assert [premise.fact.predicate for premise in proof.premises] == ["claims", "has"]


def test_tables_of_texts_and_of_places_in_names_tell_the_same_facts() -> None:
    names = [f"n{i}" for i in range(50)]
    starts, ends = np.arange(49), np.arange(1, 50)
    by_ids = RuleGraph.build(parse(PATHS), tables=[Table("edge", (starts, ends))], names=names)
    texts = (names[:-1], pl.Series(names[1:]))
    by_text = RuleGraph.build(parse(PATHS), tables=[Table("edge", texts)])
    one_by_one = RuleGraph.build(parse(PATHS), chain(49))
    assert by_ids.version == by_text.version == one_by_one.version
    spelt = by_ids.names()
    pairs = {tuple(spelt[i] for i in row) for row in by_ids.columns("path").tolist()}
    assert pairs == {fact.args for fact in one_by_one.query(Fact("path", ("?x", "?y")))}
    assert by_ids.count("path") == len(pairs) == 49 * 50 // 2


@pytest.mark.parametrize("size", [3, 5_000])
def test_names_may_repeat_and_may_be_constants_of_the_program(size: int) -> None:
    program = parse('.decl edge(from, to)\n.decl seen(node)\nseen(X) :- edge("n1", X).\nseen("hub") :- edge(_, _).\n')
    names = [f"n{i}" for i in range(size)]
    for given_names in (names, [*names, "hub"], [*names, "n1"], ["n1", *names]):
        places = np.array([i for i, name in enumerate(given_names) if name == "n1"])
        tables = [Table("edge", (places, np.full(len(places), given_names.index("n2"))))]
        graph = RuleGraph.build(program, tables=tables, names=given_names)
        assert graph.query(Fact("edge", ("?a", "?b"))) == [Fact("edge", ("n1", "n2"))]
        assert graph.query(Fact("seen", ("?a",))) == [Fact("seen", ("hub",)), Fact("seen", ("n2",))]
        assert len(set(graph.names())) == len(graph.names()) == size + 1
        assert all(not graph.holds(Fact("seen", (name,))) for name in ("n0", "unheard of"))


def test_malformed_tables_are_refused() -> None:
    with pytest.raises(OntologyError, match=r"columns of 'edge' have \[1, 2\] rows"):
        RuleGraph.build(parse(PATHS), tables=[Table("edge", (["a"], ["b", "c"]))])
    with pytest.raises(UnknownPredicate, match=r"has 1 columns; give edge\(from, to\)"):
        RuleGraph.build(parse(PATHS), tables=[Table("edge", (["a"],))])
    with pytest.raises(OntologyError, match="places 0 to 7 of 2 names"):
        RuleGraph.build(parse(PATHS), tables=[Table("edge", (np.array([0, 7]), np.array([1, 1])))], names=["a", "b"])


def test_facts_of_eight_arguments_join_and_are_found() -> None:
    terms = tuple(Variable(f"A{i}") for i in range(8))
    declarations = declare(wide="a b c d e f g h", back="a b c d e f g h")
    program = Program(declarations, (Rule("back", Atom("back", terms[::-1]), (Atom("wide", terms),)),))
    graph = RuleGraph.build(program, [Fact("wide", tuple("abcdefgh"))])
    assert graph.query(Fact("back", ("?a", "g", *("?" + c for c in "cdefgh")))) == [Fact("back", tuple("hgfedcba"))]


def test_closure_stops_at_the_time_limit() -> None:
    with pytest.raises(TimeLimitExceeded, match="raise max_seconds"):
        RuleGraph.build(parse(PATHS), chain(2000), max_seconds=0.0)


def test_a_proof_of_many_thousand_steps_is_built_and_printed() -> None:
    program = parse(".decl edge(a, b)\n.decl reach(a)\nstep: reach(Y) :- reach(X), edge(X, Y).\nreach(n0).\n")
    graph = RuleGraph.build(program, chain(20_000))
    assert sum(1 for _ in graph.prove(Fact("reach", ("n20000",))).lines()) == 40_001


def test_source_of_tells_who_told_a_fact() -> None:
    graph = RuleGraph.build(parse(PATHS), chain(2), "map")
    assert graph.source_of(Fact("edge", ("n0", "n1"))) == "map"
    assert graph.source_of(Fact("path", ("n0", "n2"))) is None
    with pytest.raises(NotDerived):
        graph.source_of(Fact("path", ("n2", "n0")))


def test_models_proofs_and_version_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "from graph.ontology import load; from graph.ports import Fact; from graph.items import item_facts\n"
        "g = load('grocery'); e = g.extend(item_facts(g, 'p', {'category': 'FROZEN PIZZA', 'text': 'vegan'}), 's')\n"
        "print(e.version, e.query(Fact('may_contain', ('p', '?x'))))\n"
        "[print(*e.prove(f).lines(), sep='\\n') for f in e.query(Fact('may_contain', ('p', '?x')))]"
    )
    root = Path(__file__).resolve().parents[3]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "12345")
    }
    assert len(outputs) == 1
    assert "may_contain(p, pork)" in outputs.pop()
