"""Graphs for drawing."""

from __future__ import annotations

import pytest

from graph.ontology import load
from graph.ports import Fact, Proof

pytest.importorskip("networkx", reason="drawing needs the extra 'serve'")
from graph.view import facts_graph, proof_graph, to_dot


def test_proof_is_drawn_from_asserted_boxes_up_to_its_conclusion() -> None:
    facts = [Fact("daughter", ("malia", "barack")), Fact("full_sister", ("sasha", "malia"))]
    goal = Fact("daughter", ("sasha", "barack"))
    drawn = proof_graph(load("family").extend(facts, "a friend").prove(goal))
    assert [node for node in drawn if drawn.out_degree(node) == 0] == [goal]
    assert {node for node in drawn if drawn.in_degree(node) == 0} == set(facts)
    dot = to_dot(drawn)
    assert dot == to_dot(drawn)
    assert '  "full_sister(sasha, malia)" [shape=box];' in dot
    assert '"child(sasha, barack)" -> "daughter(sasha, barack)" [label="female-child"];' in dot


def test_facts_are_drawn_as_labelled_edges_and_quotes_are_escaped() -> None:
    graph = load("family").extend([Fact("son", ('"Al"', "bo")), Fact("child", ('"Al"', "bo"))], "test")
    drawn = facts_graph(graph, ["son", "child"])
    assert drawn.number_of_edges() == 2
    assert '"\\"Al\\"" -> "bo" [label="son"];' in to_dot(drawn)


def test_predicted_fact_is_dashed() -> None:
    guess = Proof(Fact("~child", ("a", "b")), None, "a model", probability=0.5)
    assert to_dot(proof_graph(guess)).splitlines()[2] == '  "~child(a, b)" [shape=box, style=dashed];'
