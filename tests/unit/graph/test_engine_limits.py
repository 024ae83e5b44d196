"""What the engine refuses, and that its arrays live as long as anything reads them."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from graph.engine import LiveGraph, RuleGraph, Table
from graph.engine.update import Limits
from graph.errors import FactLimitExceeded, OntologyError
from graph.ports import Fact, Proof
from graph.rules.reader import parse
from graph.rules.strata import stratify
from graph.rules.syntax import Aggregate, Atom, Comparison, Declaration, Program, Rule, Variable

PATHS = """
.decl edge(from, to)
.decl path(from, to)
one: path(X, Y) :- edge(X, Y).
more: path(X, Z) :- path(X, Y), edge(Y, Z).
"""
X, Y, Z = map(Variable, "XYZ")


def variables(count: int, name: str = "V") -> tuple[Variable, ...]:
    return tuple(Variable(f"{name}{i}") for i in range(count))


def program(rules: list[Rule], **arities: int) -> Program:
    declarations = {name: Declaration(name, tuple(f"a{i}" for i in range(n)), ("",) * n) for name, n in arities.items()}
    return Program(declarations, tuple(rules), strata=stratify(rules))


def chain(length: int) -> list[Fact]:
    return [Fact("edge", (f"n{i}", f"n{i + 1}")) for i in range(length)]


def steps(proof: Proof) -> Iterator[Proof]:
    yield proof
    for premise in proof.premises:
        yield from steps(premise)


def turned(arity: int) -> Program:
    terms = variables(arity)
    return program([Rule("turn", Atom("turned", terms[::-1]), (Atom("wide", terms),))], wide=arity, turned=arity)


def test_facts_of_64_arguments_join_and_65_are_refused() -> None:
    args = tuple(f"c{i}" for i in range(64))
    live = LiveGraph(RuleGraph.build(turned(64), [Fact("wide", args)]))
    assert live.prove(Fact("turned", args[::-1])).premises[0].fact.args == args
    assert len(live.update(delete=[Fact("wide", args)], insert=[Fact("wide", args[::-1])]).added) == 2
    with pytest.raises(OntologyError, match="predicate 'wide' has 65 arguments, and a record holds 64; split"):
        RuleGraph.build(turned(65))


def test_an_aggregate_with_a_group_wider_than_a_record_is_refused_by_its_rule() -> None:
    group = variables(64)
    counted = Aggregate(X, "count", Y, (Atom("wide", group), Atom("one", (Y,))))
    rule = Rule("tally", Atom("head", (X,)), (Atom("wide", group),), (), (), (counted,))
    with pytest.raises(OntologyError, match="an aggregate of rule 'tally' has a group of 64, and a record holds 64"):
        RuleGraph.build(program([rule], wide=64, one=1, head=1))


def test_an_aggregate_of_a_group_of_63_counts() -> None:
    group = variables(63)
    counted = Aggregate(X, "count", Y, (Atom("wide", (*group, Y)),))
    rule = Rule("tally", Atom("head", (X,)), (Atom("wide", (*group, Z)),), (), (), (counted,))
    args = tuple(f"c{i}" for i in range(63))
    graph = RuleGraph.build(program([rule], wide=64, head=1), [Fact("wide", (*args, end)) for end in "pq"])
    assert graph.query(Fact("head", ("?n",))) == [Fact("head", ("2",))]
    assert graph.extend([Fact("wide", (*args, "r"))], "more").query(Fact("head", ("?n",))) == [Fact("head", ("3",))]


def test_more_predicates_than_a_record_can_name_are_refused() -> None:
    with pytest.raises(OntologyError, match="65537 predicates, predicted ones and aggregates among them"):
        RuleGraph.build(program([], **{f"p{i}": 1 for i in range(32_768)}))


def alternating(layers: int) -> Program:
    """``p0`` holds of all, and each of the others where the one before does not."""
    first = Rule("0", Atom("p0", (X,)), (Atom("all", (X,)),))
    rest = [
        Rule(str(i), Atom(f"p{i}", (X,)), (Atom("all", (X,)),), negated=(Atom(f"p{i - 1}", (X,)),))
        for i in range(1, layers)
    ]
    return program([first, *rest], all=1, **{f"p{i}": 1 for i in range(layers)})


def test_255_layers_of_negation_are_kept_in_line_and_256_refused() -> None:
    live = LiveGraph(RuleGraph.build(alternating(255), [Fact("all", ("a",))]))
    change = live.update(insert=[Fact("p1", ("a",)), Fact("all", ("b",))])
    assert [live.holds(Fact(f"p{i}", ("a",))) for i in range(255)] == [True] + [i % 2 == 1 for i in range(1, 255)]
    assert [live.holds(Fact(f"p{i}", ("b",))) for i in range(255)] == [i % 2 == 0 for i in range(255)]
    assert len(change.added) == 127 + 1 + 128
    assert len(live.delete([Fact("p1", ("a",))]).added) == 127
    with pytest.raises(OntologyError, match="256 layers of negation and aggregates upon one another are more than 255"):
        RuleGraph.build(alternating(256))


def walk(length: int) -> Program:
    at = variables(length + 1)
    body = tuple(Atom("edge", pair) for pair in pairwise(at))
    return program([Rule("walk", Atom("far", (at[0], at[-1])), body)], edge=2, far=2)


def test_a_body_of_128_literals_is_joined_and_proven_and_129_are_refused() -> None:
    proof = RuleGraph.build(walk(128), chain(129)).prove(Fact("far", ("n1", "n129")))
    assert [premise.fact for premise in proof.premises] == chain(129)[1:]
    with pytest.raises(OntologyError, match="a body of rule 'walk' has 129 literals, more than 128; derive parts"):
        RuleGraph.build(walk(129))


def test_eight_counts_in_a_rule_each_may_be_none_and_nine_are_refused() -> None:
    def counting(count: int) -> Program:
        results, values = variables(count, "N"), variables(count)
        aggregates = tuple(
            Aggregate(result, "count", value, (Atom(f"e{i}", (X, value)),))
            for i, (result, value) in enumerate(zip(results, values, strict=True))
        )
        rule = Rule("tally", Atom("tally", (X, *results)), (Atom("all", (X,)),), (), (), aggregates)
        return program([rule], all=1, tally=count + 1, **{f"e{i}": 2 for i in range(count)})

    told = [Fact("all", ("a",)), Fact("e0", ("a", "x")), Fact("e5", ("a", "x")), Fact("e5", ("a", "y"))]
    graph = RuleGraph.build(counting(8), told)
    everything = Fact("tally", tuple(f"?{i}" for i in range(9)))
    assert graph.query(everything) == [Fact("tally", ("a", *"10000200"))]
    with pytest.raises(OntologyError, match="rule 'tally' counts 9 times, more than 8"):
        RuleGraph.build(counting(9))


def test_more_words_than_rows_can_be_numbered_by_are_refused_and_the_graph_stays() -> None:
    graph = RuleGraph.build(parse(PATHS), chain(20))
    words = graph.store.split + 2_000
    short = RuleGraph(graph.store, Limits(10**6, 60.0, words))
    live = LiveGraph(short)
    before, version = live.query(Fact("path", ("?x", "?y"))), live.version
    more = [Fact("edge", (f"m{i}", f"m{i + 1}")) for i in range(100)]
    for update in (lambda: short.extend(more, "test"), lambda: live.insert(more, "test")):
        with pytest.raises(FactLimitExceeded, match=f"fill the {words} words a graph can number; split the facts"):
            update()
    assert (live.query(Fact("path", ("?x", "?y"))), live.version) == (before, version)
    assert len(live.insert([Fact("edge", ("n20", "n21"))], "test").added) == 22


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Rule("r", Atom("p", (X,)), (Atom("q", (X,)),)), r"q\(X\) of rule 'r' fits no declaration"),
        (Rule("r", Atom("p", (X,)), (Atom("other", (X,)),)), "declare 'other' with 1 argument"),
        (Rule("r", Atom("p", (Y,)), (Atom("q", (X, X)),)), "a variable of rule 'r' is bound by nothing"),
        (Rule("r", Atom("p", (X,)), (Atom("q", (X, X)),), (Comparison("<", Y, "3"),)), "bound by nothing"),
    ],
)
def test_a_rule_that_the_language_does_not_admit_is_refused(rule: Rule, message: str) -> None:
    with pytest.raises(OntologyError, match=message):
        RuleGraph.build(program([rule], p=1, q=2))


@pytest.mark.parametrize("strata", [((0,),), ((0,), (0, 1)), ((0,), (1,)), ((0, 1, 2),)])
def test_strata_that_split_a_predicate_or_miss_a_rule_are_refused(strata: tuple[tuple[int, ...], ...]) -> None:
    rules = tuple(Rule(name, Atom("p", (X,)), (Atom(name, (X,)),)) for name in ("q", "r"))
    declarations = program([], p=1, q=1, r=1).declarations
    with pytest.raises(OntologyError, match="do not hold each of 2 rules once, and those of a predicate together"):
        RuleGraph.build(Program(declarations, rules, strata=strata))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.zeros((2, 70), np.int64), r"a column of 'edge' has the shape \(2, 70\)"),
        (["a", None], "holds None, which is no text"),
        (np.array([1.0, np.nan]), "holds 1.0, which is no text"),
        (["a", ["b"]], "a column of 'edge' holds unhashable"),
    ],
)
def test_a_column_of_anything_but_one_text_a_row_is_refused(column: object, message: str) -> None:
    with pytest.raises(OntologyError, match=message):
        RuleGraph.build(parse(PATHS), tables=[Table("edge", (column, column))], names=["a"])  # type: ignore[arg-type]


def test_an_argument_that_is_no_text_is_refused() -> None:
    graph = RuleGraph.build(parse(PATHS))
    with pytest.raises(OntologyError, match="a fact of 'edge' holds 7, which is no text"):
        graph.extend([Fact("edge", ("a", 7))], "test")  # type: ignore[arg-type]


def test_probabilities_of_every_other_row_are_read_as_such() -> None:
    values = np.linspace(0, 1, 6)
    table = Table("edge", (["a", "b", "c"], ["b", "c", "d"]), "model", values[::2])  # type: ignore[arg-type]
    graph = RuleGraph.build(parse(PATHS), tables=[table])
    assert graph.prove(Fact("~edge", ("b", "c"))).probability == pytest.approx(0.4)


def test_a_graph_is_neither_pickled_nor_copied_deep() -> None:
    graph = RuleGraph.build(parse(PATHS), chain(2))
    for attempt in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="addresses of this process; copy or send its program and facts"):
            attempt(graph)


def test_each_of_many_sources_is_told_of_its_facts_after_extension_and_compaction() -> None:
    facts = chain(3_000)
    graph = RuleGraph.build(program([], edge=2), tables=[
        Table("edge", ([fact.args[0]], [fact.args[1]]), f"source {i}") for i, fact in enumerate(facts[:1_500])
    ])  # fmt: skip
    live = LiveGraph(graph, most_words=0)
    for start in range(1_500, 3_000, 500):
        for i in range(start, start + 5):
            live.insert([facts[i]], f"source {i}")
        live.insert(facts[start + 5 : start + 500], f"source {start % 7}")
    for i, fact in enumerate(facts):
        own = i < 1_500 or i % 500 < 5
        assert live.source_of(fact) == f"source {i if own else i // 500 * 500 % 7}"
    held = live.snapshot().store
    assert len({*held.base.sources, *held.sources}) == len(held.base.sources) + len(held.sources)


def test_an_extension_outlives_what_it_was_laid_over() -> None:
    graph = RuleGraph.build(parse(PATHS), chain(60))
    for i in range(60, 70):
        graph = graph.extend([Fact("edge", (f"n{i}", f"n{i + 1}"))], f"step {i}")
        gc.collect()
        # Whatever was freed is written over.
        np.full(1 << 20, 0x7F7F7F7F, np.int32)
    whole = RuleGraph.build(parse(PATHS), chain(70))
    everything = Fact("path", ("?x", "?y"))
    assert graph.query(everything) == whole.query(everything)
    assert [step.fact for step in steps(graph.prove(Fact("path", ("n0", "n70"))))] == [
        step.fact for step in steps(whole.prove(Fact("path", ("n0", "n70"))))
    ]


def test_threads_read_and_extend_one_graph_at_once() -> None:
    rules = parse(PATHS + ".decl cost(from, of: number)\n.decl cheap(from)\ncheap(X) :- cost(X, N), N < 10.\n")
    prices = [Fact("cost", (f"n{i}", str(i))) for i in range(30)]
    graph = RuleGraph.build(rules, chain(30) + prices).extend([Fact("cost", ("n0", "50"))], "below")
    expected = graph.query(Fact("path", ("?x", "?y")))

    def work(worker: int) -> bool:
        right = True
        for turn in range(20):
            new, price = f"w{worker}t{turn}", f"{(worker + turn) % 20}.5"
            own = graph.extend([Fact("edge", ("n30", new)), Fact("cost", (new, price))], "worker")
            right &= len(own.query(Fact("path", ("?x", new)))) == 31
            right &= own.holds(Fact("cheap", (new,))) == (float(price) < 10)
            right &= own.prove(Fact("path", ("n0", new))).premises[0].fact == Fact("path", ("n0", "n30"))
            right &= graph.query(Fact("path", ("?x", "?y"))) == expected
        return right

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_threads_that_extend_a_graph_for_the_first_time_at_once_derive_the_same() -> None:
    rules = parse(PATHS)
    for _ in range(5):
        graph = RuleGraph.build(rules, chain(200))
        with ThreadPoolExecutor(8) as pool:
            grown = list(pool.map(lambda _, g=graph: g.extend([Fact("edge", ("new", "n0"))], "worker"), range(8)))
        # 201 edges in a row.
        assert [each.count("path") for each in grown] == [201 * 202 // 2] * 8


def test_a_program_is_not_mistaken_for_one_before_it() -> None:
    # Compiled tables are kept by identity, which a program that is gone leaves to another one.
    for i in range(40):
        rules = parse(f".decl p(a)\n.decl q{i}(a)\nq{i}(X) :- p(X).\n")
        assert RuleGraph.build(rules, [Fact("p", ("a",))]).holds(Fact(f"q{i}", ("a",)))


def test_rules_that_read_nothing_hold_always() -> None:
    graph = RuleGraph.build(program([Rule("r", Atom("p", ("a",)), (), negated=(Atom("q", (X, Y)),))], p=1, q=2))
    assert graph.holds(Fact("p", ("a",)))
    assert not graph.extend([Fact("q", ("a", "b"))], "test").holds(Fact("p", ("a",)))
