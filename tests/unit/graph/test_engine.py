"""The engine against a naive evaluator, its proofs, its layers and its determinism."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.engine import RuleGraph
from graph.errors import FactLimitExceeded, NotDerived, UnknownPredicate
from graph.ports import Fact, Proof
from graph.rules.reader import parse
from graph.rules.syntax import Program
from tests.unit.graph.programs import ARITY, facts, ground, naive_heights, programs

PATHS = """
.decl edge(from, to)
.decl path(from, to)
one: path(X, Y) :- edge(X, Y).
more: path(X, Z) :- path(X, Y), path(Y, Z).
"""


def model(graph: RuleGraph) -> set[Fact]:
    return {fact for name, n in ARITY.items() for fact in graph.query(Fact(name, tuple(f"?{i}" for i in range(n))))}


def height(proof: Proof) -> int:
    return 1 + max(map(height, proof.premises)) if proof.premises else 0


def chain(length: int) -> list[Fact]:
    return [Fact("edge", (f"n{i}", f"n{i + 1}")) for i in range(length)]


@settings(max_examples=300, deadline=None)
@given(programs, st.frozensets(facts, max_size=8))
def test_model_and_proof_heights_equal_the_naive_evaluation(program: Program, asserted: frozenset[Fact]) -> None:
    graph = RuleGraph.build(program, asserted)
    expected = naive_heights(program, set(asserted))
    assert model(graph) == set(expected)
    assert len(graph) == len(expected)
    assert {fact: height(graph.prove(fact)) for fact in expected} == expected


@settings(max_examples=200, deadline=None)
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


@settings(max_examples=300, deadline=None)
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
