"""Rules that the kernel fires in a loop of its own (``kernel.hop``), and names that it tells apart by their hashes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.engine import RuleGraph
from graph.engine.symbols import Symbols, distinct
from graph.errors import FactLimitExceeded
from graph.ports import Fact, Proof
from graph.rules.reader import parse
from tests.unit.graph.programs import stratified_heights


def height(proof: Proof) -> int:
    return 0 if proof.rule is None else 1 + max(map(height, proof.premises), default=0)


SHAPES = """
.decl stated(s, p, o)
.decl triple(s, p, o)
.decl tagged(s)
.decl pair(s, o)
told: triple(S, P, O) :- stated(S, P, O).
same: triple(O, same, S) :- triple(S, same, O).
wider: triple(S, Q, O) :- triple(P, below, Q), triple(S, P, O).
chain: triple(P, below, R) :- triple(P, below, Q), triple(Q, below, R).
itself: triple(P, below, P) :- triple(_, P, _).
typed: triple(S, is, C) :- triple(P, for, C), triple(S, P, _).
fixed: pair(a, S) :- triple(S, p, c), stated(S, q, a).
tagged: tagged(S) :- triple(S, same, S), triple(S, p, _).
pair: pair(O, S) :- tagged(S), triple(S, p, O).
"""
_triples = st.frozensets(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(["p", "q", "below", "same", "for"]),
        st.sampled_from(["a", "c", "p", "q"]),
    ),
    max_size=10,
)


@settings(max_examples=100)
@given(_triples)
def test_rules_with_constants_and_three_arguments_equal_the_naive_evaluation(
    triples: frozenset[tuple[str, str, str]],
) -> None:
    told = {Fact("stated", triple) for triple in triples}
    program = parse(SHAPES)
    graph = RuleGraph.build(program, told)
    expected = stratified_heights(program, told)
    assert {fact: height(graph.prove(fact)) for fact in expected} == expected
    assert len(graph) == len(expected)


def test_tables_that_fill_up_while_a_rule_fires_grow_and_the_limit_is_kept() -> None:
    # Each of few rows concludes thousands, so every array grows within the firing of one row.
    program = parse(
        ".decl p(x)\n.decl q(x)\n.decl r(x, n, y)\n.decl s(y)\nr(X, one, Y) :- p(X), q(Y).\ns(Y) :- r(a0, one, Y)."
    )
    told = [Fact("p", (f"a{i}",)) for i in range(5)] + [Fact("q", (f"b{i}",)) for i in range(5_000)]
    graph = RuleGraph.build(program, told)
    assert len(graph) == 5_005 + 25_000 + 5_000
    assert graph.query(Fact("r", ("a3", "?n", "b4999"))) == [Fact("r", ("a3", "one", "b4999"))]
    assert graph.prove(Fact("s", ("b17",))).premises[0].fact == Fact("r", ("a0", "one", "b17"))
    assert len(RuleGraph.build(program, told, max_facts=35_006)) == len(graph)
    with pytest.raises(FactLimitExceeded, match="more than 20000 facts while deriving 'r'"):
        RuleGraph.build(program, told, max_facts=20_000)


@pytest.mark.parametrize("count", [1, 999, 1_001, 50_000])
def test_hashes_are_told_apart(count: int) -> None:
    hashes = np.random.default_rng(count).permutation(np.arange(-count, count, dtype=np.int64) * 0x9E3779B97F4A7C1)[
        :count
    ]
    assert distinct(hashes)
    if count > 1:
        hashes[count // 3] = hashes[-1]
        assert not distinct(hashes)
    assert distinct(np.empty(0, np.int64))


def test_a_name_that_is_no_text_is_told_among_many() -> None:
    names = [f"n{i}" for i in range(70_000)]
    with pytest.raises(TypeError, match="7, which is no text"):
        Symbols().add_all([*names, 7])  # type: ignore[list-item]
    assert len(np.unique(Symbols().add_all(names))) == len(names)
    assert Symbols().add_all([*names, "n5"]).tolist()[-1] == 5
