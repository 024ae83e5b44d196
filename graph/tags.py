"""What the graph says of tags proposed for a product: agreement, contradiction, implication, each with its proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from graph.errors import UnknownPredicate
from graph.items import item_facts
from graph.ports import Fact, KnowledgeGraph, Proof
from graph.rules.message import filled
from graph.rules.syntax import Program


@dataclass(frozen=True, slots=True)
class TagJudgement:
    """``agreement``: 1 for a tag whose contents or purpose the product's own words mention, -1 for a contradicted one;

    a tag the graph has no view of is absent. ``conflicts``: the proof of each contradiction, its rule named with the
    message of the constraint: ``contents-against-diet: the product contains what vegan forbids``.
    """

    agreement: Mapping[str, float]
    conflicts: Mapping[str, Proof]


def judge_tags(
    graph: KnowledgeGraph, item_id: str, attributes: Mapping[str, str | None], tags: Sequence[str], source: str
) -> TagJudgement:
    """Judge proposed ``tags`` of a product with these attributes (see items.item_facts); ``source`` proposed them."""
    product = graph.extend(item_facts(graph, item_id, attributes), "product text")
    proposed = product.extend([Fact("proposed_tag", (item_id, tag)) for tag in tags], source)
    conflicts: dict[str, Proof] = {}
    for fact in proposed.query(Fact("conflict", (item_id, "?tag"))):
        conflicts[fact.args[1]] = _with_message(graph.program, proposed.prove(fact))
    contents = {fact.args[1] for fact in product.query(Fact("may_contain", (item_id, "?x")))}
    purposes = {fact.args[1] for fact in product.query(Fact("serves", (item_id, "?x")))}
    agreement: dict[str, float] = {}
    for tag in tags:
        if tag in conflicts:
            agreement[tag] = -1.0
        elif contents & _values(graph, "category_contains", tag) or purposes & _values(graph, "category_for", tag):
            agreement[tag] = 1.0
    return TagJudgement(agreement, conflicts)


def implied_tags(
    graph: KnowledgeGraph, item_id: str, attributes: Mapping[str, str | None], accepted: Sequence[str], source: str
) -> dict[str, Proof]:
    """Tags that follow from accepted ones, by name in order, each with its proof."""
    product = graph.extend(item_facts(graph, item_id, attributes), "product text")
    product = product.extend([Fact("accepted_tag", (item_id, tag)) for tag in accepted], source)
    found = {fact.args[1]: product.prove(fact) for fact in product.query(Fact("implied_tag", (item_id, "?tag")))}
    return {tag: proof for tag, proof in sorted(found.items()) if tag not in accepted}


def _with_message(program: Program, proof: Proof) -> Proof:
    rule = next((rule for rule in program.rules if rule.label == proof.rule), None)
    return replace(proof, rule=f"{rule.label}: {filled(rule, proof.fact.args)}") if rule else proof


def _values(graph: KnowledgeGraph, predicate: str, first: str) -> set[str]:
    try:
        return {fact.args[1] for fact in graph.query(Fact(predicate, (first, "?x")))}
    except UnknownPredicate:
        # An ontology without knowledge of its categories (generic) has no view of them.
        return set()
