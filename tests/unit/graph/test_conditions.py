"""What a proof rests on besides facts: what a ``not`` found absent, and the value of an aggregate with its group."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.engine import LiveGraph, RuleGraph
from graph.engine.proofs import MOST_MEMBERS
from graph.patterns import fact_text
from graph.picture import proof_svg
from graph.ports import Fact, Proof
from graph.rules.reader import parse
from graph.rules.syntax import Program
from graph.steps import steps
from tests.unit.graph.programs import stratified_facts, stratified_heights, stratified_programs

RULES = """
.decl user(user)
.decl bought(user, item)
.decl paid(user, price: number)
.decl barred(user)
.decl idle(user)
.decl free(user, item)
.decl twin(user)
.decl basket(user, items: number)
.decl dearest(user, price: number)
.decl all(items: number)
idle: idle(U) :- user(U), not bought(U, _).
free: free(U, I) :- bought(_, I), user(U), not bought(U, I), not barred(U), U != "Tom Cruise".
twin: twin(U) :- user(U), not bought(X, X).
basket: basket(U, N) :- user(U), N = count I { bought(U, I) }.
dearest: dearest(U, P) :- user(U), P = max Q { paid(U, Q), bought(U, _) }.
all: all(N) :- N = count I { bought(_, I) }.
"""
TOLD = [
    Fact("user", ("ann",)),
    Fact("user", ("Bob B",)),
    Fact("bought", ("ann", "milk")),
    Fact("bought", ("ann", "tea")),
    Fact("paid", ("ann", "2")),
    Fact("paid", ("ann", "10")),
]


def graph() -> RuleGraph:
    return RuleGraph.build(parse(RULES), TOLD, "till")


def test_a_negation_shows_what_was_absent_with_its_values() -> None:
    proof = graph().prove(Fact("free", ("Bob B", "tea")))
    assert proof.absent == (Fact("bought", ("Bob B", "tea")), Fact("barred", ("Bob B",)))
    assert proof.aggregates == ()
    assert list(proof.lines(spelt=fact_text)) == [
        'free("Bob B", tea)  [free]',
        "  bought(ann, tea)  (till)",
        '  user("Bob B")  (till)',
        '  not bought("Bob B", tea)  (no such fact)',
        '  not barred("Bob B")  (no such fact)',
    ]


def test_a_value_that_any_other_would_do_for_is_a_question_mark() -> None:
    assert graph().prove(Fact("idle", ("Bob B",))).absent == (Fact("bought", ("Bob B", "?")),)
    program = parse(RULES.replace("bought(X, X)", "bought(?x, ?x)"))
    twin = RuleGraph.build(program, TOLD).prove(Fact("twin", ("ann",)))
    assert twin.absent == (Fact("bought", ("?x", "?x")),)
    assert list(twin.lines())[-1] == "  not bought(?x, ?x)  (no such fact)"


def test_the_last_step_alone_tells_its_conditions_too() -> None:
    assert graph().reason(Fact("idle", ("Bob B",))).absent == (Fact("bought", ("Bob B", "?")),)


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        (Fact("basket", ("ann", "2")), "2 = count I { bought(ann, I) }"),
        (Fact("basket", ("Bob B", "0")), '0 = count I { bought("Bob B", I) }'),
        (Fact("dearest", ("ann", "10")), "10 = max Q { paid(ann, Q), bought(ann, _) }"),
        (Fact("all", ("2",)), "2 = count I { bought(_, I) }"),
    ],
)
def test_an_aggregate_shows_its_value_and_group(fact: Fact, text: str) -> None:
    proof = graph().prove(fact)
    assert proof.aggregates == (text,)
    assert proof.absent == ()  # that a count found nothing is in its value
    assert list(proof.lines(spelt=fact_text))[-1] == f"  {text}  (aggregate)"


def test_members_of_a_large_count_are_bounded_and_it_says_so() -> None:
    many = [Fact("bought", ("ann", f"item{i:04}")) for i in range(MOST_MEMBERS + 1)]
    some = RuleGraph.build(parse(RULES), [TOLD[0], *many[:-1]], "till")
    whole = some.prove(Fact("basket", ("ann", str(MOST_MEMBERS))))
    assert [premise.fact for premise in whole.premises] == [TOLD[0], *many[:-1]]
    assert whole.aggregates == (f"{MOST_MEMBERS} = count I {{ bought(ann, I) }}",)
    proof = some.extend(many[-1:], "till").prove(Fact("basket", ("ann", str(MOST_MEMBERS + 1))))
    assert [premise.fact for premise in proof.premises] == [TOLD[0], *many[:-1]]
    assert proof.aggregates == (f"{MOST_MEMBERS + 1} = count I {{ bought(ann, I) }}, the first {MOST_MEMBERS} shown",)


def test_conditions_follow_a_change() -> None:
    live = LiveGraph(graph())
    live.delete(TOLD[2:4])
    assert live.prove(Fact("idle", ("ann",))).absent == (Fact("bought", ("ann", "?")),)
    live.insert([Fact("bought", ("ann", "rice"))], "till")
    proof = live.prove(Fact("basket", ("ann", "1")))
    assert (proof.aggregates, proof.premises[1].fact) == (
        ("1 = count I { bought(ann, I) }",),
        Fact("bought", ("ann", "rice")),
    )


@settings(max_examples=100)
@given(stratified_programs(), st.frozensets(stratified_facts, max_size=8))
def test_what_is_absent_is_named_for_every_negation_and_does_not_hold(program: Program, told: frozenset[Fact]) -> None:
    closed = RuleGraph.build(program, told)
    rules = {rule.label: rule for rule in closed.program.rules}
    for fact in stratified_heights(closed.program, set(told)):
        proof = closed.prove(fact)
        if proof.rule is None:
            assert (proof.absent, proof.aggregates) == ((), ())
            continue
        rule = rules[proof.rule]
        assert [each.predicate for each in proof.absent] == [atom.predicate for atom in rule.negated]
        assert len(proof.aggregates) == len(rule.aggregates)
        for absent in proof.absent:
            args = tuple(f"?{place}" if arg == "?" else arg for place, arg in enumerate(absent.args))
            assert closed.query(Fact(absent.predicate, args)) == []
        for text, aggregate in zip(proof.aggregates, rule.aggregates):
            assert f" = {aggregate.function} {aggregate.value} {{ " in text


def shown() -> Proof:
    return graph().prove(Fact("free", ("Bob B", "tea")))


def test_a_picture_has_a_box_for_each_condition() -> None:
    drawn = ET.fromstring(proof_svg(shown()))
    space = "{http://www.w3.org/2000/svg}"
    groups = [g for g in drawn.iter(f"{space}g") if (rect := g.find(f"{space}rect")) is not None
              and rect.attrib["class"] == "condition"]  # fmt: skip
    titles = [group.findtext(f"{space}title") for group in groups]
    assert titles == ['not bought("Bob B", tea)\nno such fact', 'not barred("Bob B")\nno such fact']
    # A line to each of the two premises and of the two conditions, and the tip of arrows.
    assert len([path for path in drawn.iter(f"{space}path") if "marker-end" not in path.attrib]) == 5


def test_dot_shows_conditions_as_bare_text() -> None:
    pytest.importorskip("networkx", reason="drawing needs the extra 'serve'")
    from graph.view import proof_graph, to_dot

    dot = to_dot(proof_graph(shown()))
    assert '"not barred(Bob B)" [shape=plaintext, label="not barred(Bob B): no such fact"];' in dot
    assert '"not barred(Bob B)" -> "free(Bob B, tea)" [label="free"];' in dot
    counted = to_dot(proof_graph(graph().prove(Fact("basket", ("ann", "2")))))
    assert 'label="2 = count I { bought(ann, I) }: aggregate"];' in counted


def test_messages_keep_conditions() -> None:
    from protos.tandem.v1 import graph_pb2
    from serving.factmessages import fact_message, proof_of

    for proof in (shown(), graph().prove(Fact("basket", ("ann", "2")))):
        sent = [
            graph_pb2.ProofStep(
                fact=fact_message(each.fact), rule=each.rule or "", source=each.source, premises=premises,
                absent=map(fact_message, each.absent), aggregates=each.aggregates,
            )
            for each, premises in steps(proof)
        ]  # fmt: skip
        assert proof_of(sent) == proof


def test_json_of_the_command_line_has_them() -> None:
    from cli.graph import _as_json

    last = json.loads(json.dumps(_as_json(shown())))["steps"][-1]
    assert last["absent"][1] == {"predicate": "barred", "args": ["Bob B"]}
    assert "aggregates" not in last
    assert _as_json(graph().prove(Fact("basket", ("ann", "2"))))["steps"][-1]["aggregates"] == [
        "2 = count I { bought(ann, I) }"
    ]
