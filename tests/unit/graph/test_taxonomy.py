"""Wider categories of a vocabulary: they imply tags, and proofs say who told."""

from __future__ import annotations

import pytest

from graph import ontology
from graph.ports import Fact, Proof
from graph.tags import implied_tags, judge_tags
from graph.taxonomy import with_wider

PAIRS = [("oat", "drinks"), ("drinks", "groceries")]


def sources(proof: Proof) -> dict[str, str]:
    """Who told each told fact of a proof."""
    if proof.rule is None:
        return {str(proof.fact): proof.source}
    return {fact: source for premise in proof.premises for fact, source in sources(premise).items()}


@pytest.mark.parametrize("name", ["generic", "grocery"])
def test_accepted_label_implies_its_wider_ones_with_a_proof_that_names_the_vocabulary(name: str) -> None:
    graph = with_wider(ontology.load(name), PAIRS, "shop")
    implied = implied_tags(graph, "item", {"title": "Barista"}, ["oat"], "guardrail")
    assert list(implied) == ["drinks", "groceries"]
    told = sources(implied["groceries"])
    assert told["category_within(oat, drinks)"] == told["category_within(drinks, groceries)"] == "vocabulary 'shop'"
    assert told["accepted_tag(item, oat)"] == "guardrail"
    assert implied_tags(graph, "item", {}, ["drinks"], "guardrail").keys() == {"groceries"}


def test_what_the_ontology_knows_of_a_wider_category_holds_of_the_narrower_one() -> None:
    graph = with_wider(ontology.load("grocery"), [("Goat cheese", "CHEESE")], "shop")
    implied = implied_tags(graph, "item", {}, ["Goat cheese"], "guardrail")
    assert "CHEESE" in implied
    assert implied["dairy"].fact == Fact("implied_tag", ("item", "dairy"))


def test_what_contradicts_a_wider_category_vetoes_the_narrower_one_with_the_way_there() -> None:
    """Else the narrower tag could be accepted, and what it implies would be what a derived fact forbids."""
    graph = with_wider(ontology.load("grocery"), [("Chevre", "Goat cheese"), ("Goat cheese", "CHEESE")], "shop")
    judged = judge_tags(graph, "item", {"title": "Vegan spread"}, ["Chevre", "TEA"], "index")
    assert list(judged.conflicts) == ["Chevre"]
    assert judged.agreement == {"Chevre": -1.0}
    proof = judged.conflicts["Chevre"]
    assert proof.fact == Fact("conflict", ("item", "Chevre"))
    told = sources(proof)
    assert told["category_within(Goat cheese, CHEESE)"] == told["category_within(Chevre, Goat cheese)"]
    assert told["proposed_tag(item, CHEESE)"] == "index"
    assert "claims(item, vegan)" in told
    assert not judge_tags(graph, "item", {"title": "Spread"}, ["Chevre"], "index").conflicts


def test_words_that_speak_for_a_wider_category_speak_for_the_narrower_one() -> None:
    graph = with_wider(ontology.load("grocery"), [("Chevre", "CHEESE")], "shop")
    judged = judge_tags(graph, "item", {"title": "Fine cheddar spread"}, ["Chevre", "CHEESE", "TEA"], "index")
    assert judged.agreement == {"Chevre": 1.0, "CHEESE": 1.0}


def test_taxonomy_with_several_ways_up_and_a_ring_is_no_trouble() -> None:
    """A vocabulary has no ring, but the facts of an ontology beside it may close one."""
    pairs = [("a", "b"), ("b", "a"), ("a", "CHEESE"), ("b", "CHEESE")]
    graph = with_wider(ontology.load("grocery"), pairs, "shop")
    judged = judge_tags(graph, "item", {"title": "Vegan spread"}, ["a", "b"], "index")
    assert set(judged.conflicts) == {"a", "b"}
    assert {"a", "CHEESE"} <= implied_tags(graph, "item", {}, ["b"], "guardrail").keys()


def test_graph_without_wider_categories_is_the_ontology_s() -> None:
    graph = ontology.load("generic")
    assert with_wider(graph, [], "") is graph


def test_same_vocabulary_gives_the_same_version() -> None:
    """Masks made in training are compared with the graph that serving makes."""
    graph = ontology.load("generic")
    assert with_wider(graph, PAIRS, "shop").version == with_wider(graph, PAIRS[::-1], "shop").version != graph.version
