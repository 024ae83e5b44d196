"""A graph that changes against one evaluated from scratch."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.engine import Change, LiveGraph, RuleGraph
from graph.errors import FactLimitExceeded, UnknownPredicate
from graph.ports import Fact, Proof
from graph.rules.syntax import Atom, Declaration, Program, Rule, Variable
from tests.unit.graph.programs import (
    STRATIFIED_ARITY,
    stratified_facts,
    stratified_heights,
    stratified_programs,
)

X, Y, Z = map(Variable, "XYZ")
PATHS = Program(
    {name: Declaration(name, ("from", "to"), ("", "")) for name in ("edge", "path")},
    (
        Rule("one", Atom("path", (X, Y)), (Atom("edge", (X, Y)),)),
        Rule("more", Atom("path", (X, Z)), (Atom("path", (X, Y)), Atom("edge", (Y, Z)))),
    ),
)

changes = st.lists(
    st.tuples(st.frozensets(stratified_facts, max_size=4), st.frozensets(stratified_facts, max_size=4)),
    min_size=1,
    max_size=5,
)


def model(graph: RuleGraph | LiveGraph) -> set[Fact]:
    names = STRATIFIED_ARITY.items()
    return {fact for name, n in names for fact in graph.query(Fact(name, tuple(f"?{i}" for i in range(n))))}


def heights(graph: RuleGraph | LiveGraph, facts: set[Fact]) -> dict[Fact, int]:
    known: dict[Fact, int] = {}

    def height(proof: Proof) -> int:
        if proof.rule is None:
            return 0
        return known.setdefault(proof.fact, 1 + max(map(height, proof.premises), default=0))

    return {fact: height(graph.prove(fact)) for fact in facts}


def edges(*pairs: str) -> list[Fact]:
    return [Fact("edge", tuple(pair)) for pair in pairs]


@settings(max_examples=200)
@given(stratified_programs(), st.frozensets(stratified_facts, max_size=8), changes)
def test_updates_equal_evaluation_from_scratch(
    program: Program, start: frozenset[Fact], updates: list[tuple[frozenset[Fact], frozenset[Fact]]]
) -> None:
    told = set(start)
    live = LiveGraph(RuleGraph.build(program, start))
    before = model(live)
    for deleted, inserted in updates:
        change = live.update(delete=deleted, insert=inserted, source="later")
        told = (told - deleted) | inserted
        expected = stratified_heights(program, told)
        assert model(live) == set(expected)
        assert len(live) == len(expected)
        assert heights(live, set(expected)) == expected
        assert (set(change.added), set(change.removed)) == (set(expected) - before, before - set(expected))
        before = set(expected)
    assert live.version == RuleGraph.build(program, told).version


def test_deleting_keeps_what_another_proof_holds() -> None:
    live = LiveGraph(RuleGraph.build(PATHS, edges("ab", "bd", "ac", "cd")))
    change = live.delete(edges("bd"))
    assert change == Change((), (Fact("edge", ("b", "d")), Fact("path", ("b", "d"))))
    assert [p.fact for p in live.prove(Fact("path", ("a", "d"))).premises][1] == Fact("edge", ("c", "d"))


def test_deleting_a_cycle_leaves_nothing_that_proves_itself() -> None:
    live = LiveGraph(RuleGraph.build(PATHS, edges("ab", "bc", "ca")))
    live.delete(edges("ab"))
    assert live.query(Fact("path", ("?x", "?y"))) == [Fact("path", tuple(pair)) for pair in ("ba", "bc", "ca")]


def test_deleting_what_nobody_told_changes_nothing_and_an_unknown_predicate_is_refused() -> None:
    live = LiveGraph(RuleGraph.build(PATHS, edges("ab")))
    assert live.delete([Fact("path", ("a", "b")), *edges("xy")]) == Change((), ())
    with pytest.raises(UnknownPredicate):
        live.delete([Fact("pth", ("a", "b"))])


def test_a_wide_update_is_evaluated_anew_with_the_same_result() -> None:
    chain = [Fact("edge", (f"n{i}", f"n{i + 1}")) for i in range(400)]
    live = LiveGraph(RuleGraph.build(PATHS, chain))
    snapshot = live.snapshot()
    change = live.delete([chain[200]])
    assert len(change.removed) == 1 + 201 * 200
    assert len(live) == len(RuleGraph.build(PATHS, chain[:200] + chain[201:]))
    assert live.insert([chain[200]], "back").added == change.removed
    assert len(snapshot) == len(live)


def test_an_update_past_the_limit_leaves_the_graph_as_it_was() -> None:
    live = LiveGraph(RuleGraph.build(PATHS, edges("ab", "bc", "cd"), max_facts=20))
    before, version = live.query(Fact("path", ("?x", "?y"))), live.version
    with pytest.raises(FactLimitExceeded):
        live.update(delete=edges("bc"), insert=edges("da", "ac", "de", "ef", "fg"))
    assert live.query(Fact("path", ("?x", "?y"))) == before
    assert live.version == version
    assert live.delete(edges("cd")).removed == (
        Fact("edge", ("c", "d")),
        *(Fact("path", (start, "d")) for start in "abc"),
    )
    assert set(live.insert(edges("cd"), "again").added) == {*edges("cd"), *(Fact("path", (s, "d")) for s in "abc")}


def test_readers_see_an_update_whole_or_not_at_all() -> None:
    live = LiveGraph(RuleGraph.build(PATHS, edges("ab")))
    torn: list[list[Fact]] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            found = live.query(Fact("path", ("a", "?x")))
            if len(found) not in (1, 3):
                torn.append(found)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(200):
        live.insert(edges("bc", "cd"), "writer")
        live.delete(edges("bc", "cd"))
    done.set()
    for reader in readers:
        reader.join()
    assert torn == []


def test_a_prediction_is_inserted_and_deleted_as_such() -> None:
    live = LiveGraph(RuleGraph.build(PATHS))
    guess = Fact("~edge", ("a", "b"))
    assert live.insert([], "model", predicted=[(Fact("edge", ("a", "b")), 0.75)]) == Change((guess,), ())
    assert live.prove(guess).probability == 0.75
    assert live.query(Fact("path", ("?x", "?y"))) == []
    assert live.delete([guess]) == Change((), (guess,))
