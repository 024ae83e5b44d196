"""A graph that changes against one evaluated from scratch."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.engine import Change, LiveGraph, RuleGraph
from graph.engine import kernel as k
from graph.engine.update import Limits, Update
from graph.errors import FactLimitExceeded, TimeLimitExceeded, UnknownPredicate, UnknownValue
from graph.ports import Fact, Proof
from graph.rules.syntax import Atom, Declaration, Program, Rule, Variable, is_predicted
from tests.unit.graph.programs import (
    STRATIFIED_ARITY,
    guessed,
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


# Most steps of an update and most words of a layer: none, some, and as many as there are by default.
limits = st.sampled_from([None, 0, 1, 3, 8, 20, 50, 120, 300])


def model(graph: RuleGraph | LiveGraph, guess: str = "") -> set[Fact]:
    names = [(name, n) for name, n in STRATIFIED_ARITY.items()] + [(f"~{guess}", STRATIFIED_ARITY.get(guess, 0))]
    patterns = [Fact(name, tuple(f"?{i}" for i in range(n))) for name, n in names if name != "~"]
    return {fact for pattern in patterns for fact in graph.query(pattern)}


def put(facts: frozenset[Fact], guess: str) -> set[Fact]:
    return {Fact(f"~{guess}", fact.args) if fact.predicate == guess else fact for fact in facts}


def split(facts: set[Fact]) -> tuple[list[Fact], list[tuple[Fact, float]]]:
    """Facts to assert, and predictions."""
    guesses = [(Fact(fact.predicate[1:], fact.args), 0.5) for fact in facts if is_predicted(fact.predicate)]
    return [fact for fact in facts if not is_predicted(fact.predicate)], guesses


def derived(data: st.DataObject, graph: RuleGraph | LiveGraph, guess: str = "") -> set[Fact]:
    """Up to two facts that follow: told too, they get a lower proof, which chance alone seldom gives."""
    follows = sorted(fact for fact in model(graph, guess) if graph.prove(fact).rule is not None)
    return set(data.draw(st.frozensets(st.sampled_from(follows), max_size=2))) if follows else set()


def whole(graph: RuleGraph | LiveGraph, guess: str) -> tuple[str, int, dict[Fact, Proof]]:
    return graph.version, len(graph), {fact: graph.prove(fact) for fact in model(graph, guess)}


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


@settings(max_examples=200)
@given(
    stratified_programs(),
    st.frozensets(stratified_facts, max_size=8),
    changes,
    limits,
    limits,
    st.sampled_from("pqs"),
    st.data(),
)
def test_updates_that_become_evaluations_and_compacted_layers_equal_evaluation_from_scratch(
    program: Program,
    start: frozenset[Fact],
    updates: list[tuple[frozenset[Fact], frozenset[Fact]]],
    most_steps: int | None,
    most_words: int | None,
    guess: str,
    data: st.DataObject,
) -> None:
    program = guessed(program, guess)
    told = put(start, guess)
    asserted, predicted = split(told)
    built = RuleGraph.build(program, asserted, predicted=predicted)
    live = LiveGraph(built, most_steps=most_steps, most_words=most_words)
    before = model(live, guess)
    for deleted, inserted in ((put(lost, guess), put(new, guess)) for lost, new in updates):
        inserted |= derived(data, live, guess)
        asserted, predicted = split(inserted)
        change = live.update(delete=deleted, insert=asserted, predicted=predicted, source="later")
        told = (told - deleted) | inserted
        expected = stratified_heights(program, told)
        assert model(live, guess) == set(expected)
        assert len(live) == len(expected)
        assert heights(live, set(expected)) == expected
        assert (set(change.added), set(change.removed)) == (set(expected) - before, before - set(expected))
        layer = int(live.snapshot().store.s[k.HEAP_USED])
        assert most_steps != 0 or layer == 0, "an update of no steps is an evaluation"
        assert most_words is None or layer <= most_words, "a layer longer than that is compacted"
        before = set(expected)
    asserted, predicted = split(told)
    scratch = RuleGraph.build(program, asserted, predicted=predicted)
    assert live.version == scratch.version
    leaves = [live.prove(Fact(f"~{fact.predicate}", fact.args)) for fact, _ in predicted]
    assert {leaf.probability for leaf in leaves} <= {0.5}
    assert all(leaf.rule is None for leaf in leaves)


@settings(max_examples=100)
@given(
    stratified_programs(),
    st.frozensets(stratified_facts, max_size=8),
    changes,
    changes,
    st.sampled_from("pqs"),
    st.data(),
)
def test_an_update_that_runs_out_of_time_at_any_step_leaves_the_graph_as_it_was(
    program: Program,
    start: frozenset[Fact],
    earlier: list[tuple[frozenset[Fact], frozenset[Fact]]],
    updates: list[tuple[frozenset[Fact], frozenset[Fact]]],
    guess: str,
    data: st.DataObject,
) -> None:
    program = guessed(program, guess)
    asserted, predicted = split(put(start, guess))
    live = LiveGraph(RuleGraph.build(program, asserted, predicted=predicted))
    told = put(start, guess)
    for deleted, inserted in ((put(lost, guess), put(new, guess)) for lost, new in earlier):
        asserted, predicted = split(inserted)
        live.update(delete=deleted, insert=asserted, predicted=predicted, source="earlier")
        told = (told - deleted) | inserted
    reached = live.snapshot()
    before = whole(reached, guess)
    for deleted, inserted in ((put(lost, guess), put(new, guess)) for lost, new in updates):
        inserted |= derived(data, reached, guess)
        other = put(data.draw(st.frozensets(stratified_facts, min_size=1, max_size=4)), guess)
        turn = data.draw(st.integers(0, 6))
        asserted, predicted = split(inserted)
        for steps in range(400):
            # No time at all: the first look at the clock, which comes after so many steps, ends the update.
            late = LiveGraph(RuleGraph(reached.store, Limits(10**6, -1.0)), most_steps=steps)
            try:
                late.update(delete=deleted, insert=asserted, predicted=predicted, source="later")
            except TimeLimitExceeded:
                assert whole(late, guess) == before
                if steps % 7 == turn:
                    # What is left of the broken update must not be seen by another one.
                    after = LiveGraph(RuleGraph(late.snapshot().store, Limits(10**6, 60.0)))
                    after.update(insert=split(other)[0], predicted=split(other)[1])
                    assert heights(after, model(after, guess)) == stratified_heights(program, told | other)
                continue
            break
        expected = stratified_heights(program, (told - deleted) | inserted)
        assert heights(late, model(late, guess)) == expected
    assert whole(reached, guess) == before


@settings(max_examples=200)
@given(
    stratified_programs(),
    st.frozensets(stratified_facts, max_size=8),
    changes,
    st.integers(1, 40),
    limits,
    limits,
    st.data(),
)
def test_an_update_past_any_fact_limit_leaves_the_graph_as_it_was(
    program: Program,
    start: frozenset[Fact],
    updates: list[tuple[frozenset[Fact], frozenset[Fact]]],
    most_facts: int,
    most_steps: int | None,
    most_words: int | None,
    data: st.DataObject,
) -> None:
    graph = RuleGraph.build(program, start)
    told = set(start)
    spare = Limits(len(graph) + most_facts, 60.0)
    live = LiveGraph(RuleGraph(graph.store, spare), most_steps=most_steps, most_words=most_words)
    for deleted, new in updates:
        before, inserted = whole(live, ""), new | derived(data, live)
        try:
            live.update(delete=deleted, insert=inserted, source="later")
        except FactLimitExceeded:
            assert whole(live, "") == before
        else:
            told = (told - deleted) | inserted
        expected = stratified_heights(program, told)
        assert heights(live, model(live)) == expected


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


@pytest.mark.parametrize("steps", range(0, 20, 2))
def test_indexes_forget_an_update_that_ran_out_of_time(steps: int) -> None:
    live = LiveGraph(RuleGraph.build(PATHS, edges("pq")))
    live.insert(edges("bc"), "earlier")
    late = LiveGraph(RuleGraph(live.snapshot().store, Limits(100, -1.0)), most_steps=steps)
    with pytest.raises(TimeLimitExceeded):
        late.insert(edges("bd", "be", "bf", "dg"), "late")
    again = LiveGraph(RuleGraph(late.snapshot().store, Limits(100, 60.0)))
    again.insert(edges("ab"), "again")
    assert again.query(Fact("path", ("a", "?x"))) == [Fact("path", tuple(pair)) for pair in ("ab", "ac")]


@pytest.mark.parametrize("order", [1, -1])
def test_an_update_that_is_done_can_still_be_undone(order: int) -> None:
    """As where the interrupt of a user arrives with the last step."""
    told = [*edges("ab", "bd", "ac", "cd"), Fact("path", ("a", "d")), Fact("path", ("c", "d"))]
    graph = RuleGraph.build(PATHS, told)
    store = graph.store.copy()
    update = Update(store, graph.limits)
    gone = [Fact("path", ("a", "d")), Fact("path", ("c", "d")), *edges("bd")]
    for fact in gone[::order]:
        update.withdraw(store.find(store.compiled.predicates[fact.predicate], store.symbols.get(fact.args)))
    update.run()
    left = RuleGraph(store, graph.limits)
    assert {fact for fact in told if not left.holds(fact)} == set(edges("bd"))
    update.roll_back()
    undone = RuleGraph(store, graph.limits)
    facts = [fact for name in ("edge", "path") for fact in graph.query(Fact(name, ("?x", "?y")))]
    assert [undone.prove(fact) for fact in facts] == [graph.prove(fact) for fact in facts]
    assert (len(undone), undone.version) == (len(graph), graph.version)


def test_an_update_stands_though_its_layer_cannot_be_compacted_in_time() -> None:
    graph = RuleGraph.build(PATHS, [Fact("edge", (f"n{i}", f"n{i + 1}")) for i in range(300)])
    live = LiveGraph(RuleGraph(graph.store, Limits(10**6, 0.0)), most_words=0)
    for pair in ("xx", "yy", "zz"):
        assert live.insert(edges(pair), "test").added == (*edges(pair), Fact("path", tuple(pair)))
    assert len(live) == len(graph) + 6
    assert live.snapshot().store.split == graph.store.split, "no evaluation ends in no time"


def test_what_is_inserted_may_be_read_from_the_graph_as_it_goes() -> None:
    live = LiveGraph(RuleGraph.build(PATHS, edges("ab", "bc")))
    turned = (Fact("edge", (b, a)) for a, b in ("ab", "bc", "cd") if live.holds(Fact("edge", (a, b))))
    finished = threading.Thread(target=live.insert, args=(turned, "turned"), daemon=True)
    finished.start()
    finished.join(60)
    assert not finished.is_alive(), "the graph waits for itself"
    assert live.query(Fact("edge", ("?x", "?y"))) == edges("ab", "ba", "bc", "cb")


def test_a_fact_that_is_refused_leaves_the_graph_as_it_was() -> None:
    declarations = {"sort": Declaration("sort", ("item", "kind"), ("", "kind"))}
    live = LiveGraph(RuleGraph.build(Program(declarations, (), types={"kind": ("food", "toy")})))
    version = live.version
    with pytest.raises(UnknownValue, match="kind of sort: 'drink' is not of type kind"):
        live.insert([Fact("sort", ("milk", "food")), Fact("sort", ("tea", "drink"))], "test")
    assert (len(live), live.version) == (0, version)


def test_readers_are_answered_while_layers_are_compacted_and_updates_evaluated_anew() -> None:
    chain = [Fact("edge", (f"n{i}", f"n{i + 1}")) for i in range(30)]
    live = LiveGraph(RuleGraph.build(PATHS, chain), most_steps=200, most_words=2_000)
    sizes = {len(RuleGraph.build(PATHS, chain)), len(RuleGraph.build(PATHS, chain[:15] + chain[16:]))}
    seen: set[int] = set()
    faults: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                seen.add(len(live))
                moment = live.snapshot()
                seen.add(len(moment.query(Fact("path", ("?x", "?y")))) + moment.count("edge"))
                assert len(moment.prove(Fact("path", ("n0", "n5"))).premises) == 2
        except BaseException as fault:
            faults.append(fault)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(60):
        live.delete([chain[15]])
        live.insert([chain[15]], "back")
    done.set()
    for reader in readers:
        reader.join()
    assert faults == []
    assert seen <= sizes
