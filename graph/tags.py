"""What the graph says of tags proposed for a product: agreement, contradiction, implication, each with its proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from graph.errors import UnknownPredicate
from graph.items import item_facts
from graph.ports import Fact, KnowledgeGraph, Proof
from graph.rules.message import filled
from graph.rules.syntax import Program

_TEXT: Final = "product text"
_SAID: Final = ("category", "department", "product_type")
"""What a seller may say of a product beside its words."""
_WORDS: Final = "\0words"
"""No product's id ends with it: names have no control characters."""


@dataclass(frozen=True, slots=True)
class TagJudgement:
    """``agreement``: 1 for a tag whose contents or purpose the product's own words mention, -1 for a contradicted one;

    a tag the graph has no view of is absent. ``conflicts``: the proof of each contradiction, its rule named with the
    message of the constraint: ``contents-against-diet: the product contains what vegan forbids``. ``doubts``: the proof
    of what a diet excludes and the product may contain; such a tag may be right, and is no conflict.
    """

    agreement: Mapping[str, float]
    conflicts: Mapping[str, Proof]
    doubts: Mapping[str, Proof] = field(default_factory=dict)


def judge_tags(
    graph: KnowledgeGraph, item_id: str, attributes: Mapping[str, str | None], tags: Sequence[str], source: str
) -> TagJudgement:
    """Judge proposed ``tags`` of a product with these attributes (see items.item_facts); ``source`` proposed them."""
    knowledge = _knowledge(graph)  # type: ignore[arg-type]
    above = {tag: _ways_up(knowledge.parents, tag) for tag in tags}
    told = dict.fromkeys([*tags, *(wider for ways in above.values() for wider in ways)])
    proposed = [(Fact("proposed_tag", (item_id, tag)), source) for tag in told]
    facts, by_words = item_facts(graph, item_id, attributes), item_id
    if any(attributes.get(name) for name in _SAID):
        # What the seller says a product is must not speak for a tag: the product's words do. They are read as a second
        # product beside it, for one extension costs half of two.
        by_words = f"{item_id}{_WORDS}"
        facts += item_facts(graph, by_words, {name: value for name, value in attributes.items() if name not in _SAID})
    product = graph.extend(facts, _TEXT, others=proposed)
    conflicts: dict[str, Proof] = {}
    if product.count("conflict"):  # seldom; cheaper than the question
        for fact in product.query(Fact("conflict", (item_id, "?tag"))):
            conflicts[fact.args[1]] = _with_message(graph.program, product.prove(fact))
        conflicts = {**_of_narrower(product, conflicts, item_id, above), **conflicts}
        conflicts = {tag: conflicts[tag] for tag in tags if tag in conflicts}
    contents = {fact.args[1] for fact in product.query(Fact("may_contain", (item_id, "?x")))}
    doubts: dict[str, Proof] = {}
    for tag in tags:
        if tag not in conflicts and (excluded := knowledge.excludes.get(tag, frozenset()) & contents):
            doubts[tag] = product.prove(Fact("may_contain", (item_id, min(excluded))))
    if by_words != item_id:
        contents = {fact.args[1] for fact in product.query(Fact("may_contain", (by_words, "?x")))}
    purposes = {fact.args[1] for fact in product.query(Fact("serves", (by_words, "?x")))}
    agreement: dict[str, float] = {}
    for tag in tags:
        if tag in conflicts:
            agreement[tag] = -1.0
        elif any(
            contents & knowledge.contains.get(each, frozenset()) or purposes & knowledge.serves.get(each, frozenset())
            for each in (tag, *above[tag])
        ):
            agreement[tag] = 1.0
    return TagJudgement(agreement, conflicts, doubts)


def implied_tags(
    graph: KnowledgeGraph, item_id: str, attributes: Mapping[str, str | None], accepted: Sequence[str], source: str
) -> dict[str, Proof]:
    """Tags that follow from accepted ones, by name in order, each with its proof."""
    told = [(Fact("accepted_tag", (item_id, tag)), source) for tag in accepted]
    product = graph.extend(item_facts(graph, item_id, attributes), _TEXT, others=told)
    found = {fact.args[1]: product.prove(fact) for fact in product.query(Fact("implied_tag", (item_id, "?tag")))}
    return {tag: proof for tag, proof in sorted(found.items()) if tag not in accepted}


def _of_narrower(
    product: KnowledgeGraph, conflicts: Mapping[str, Proof], item_id: str, above: Mapping[str, Mapping[str, str]]
) -> dict[str, Proof]:
    """What contradicts a wider category contradicts a tag below it, which would imply that category."""
    found = {}
    for tag, ways in above.items():
        at = wider = next((each for each in ways if each in conflicts), tag)
        if wider != tag:
            way = []
            while at != tag:
                way.append(product.prove(Fact("category_within", (ways[at], at))))
                at = ways[at]
            rule = f"wider-conflict: {wider}, which {tag} is within, cannot be true"
            premises = (conflicts[wider], *reversed(way))
            found[tag] = Proof(Fact("conflict", (item_id, tag)), rule, "wider-conflict", premises)
    return found


def _ways_up(parents: Mapping[str, frozenset[str]], category: str) -> dict[str, str]:
    """All wider categories, the nearest first, each with the one below it that leads there."""
    ways: dict[str, str] = {}
    level = [category]
    while level:
        steps = {wider: at for at in level for wider in sorted(parents.get(at, ())) if wider not in ways}
        steps.pop(category, None)
        ways |= steps
        level = list(steps)
    return ways


def _with_message(program: Program, proof: Proof) -> Proof:
    rule = next((rule for rule in program.rules if rule.label == proof.rule), None)
    return replace(proof, rule=f"{rule.label}: {filled(rule, proof.fact.args)}") if rule else proof


@dataclass(frozen=True, slots=True)
class _Knowledge:
    """What a category contains and serves, what a diet excludes, what a category is directly within; nothing where an
    ontology has no such view."""

    contains: Mapping[str, frozenset[str]]
    serves: Mapping[str, frozenset[str]]
    excludes: Mapping[str, frozenset[str]]
    parents: Mapping[str, frozenset[str]]


# Graphs are immutable and hash by identity; a process has few, and a new one where a service asserts facts.
@lru_cache(maxsize=4)
def _knowledge(graph: KnowledgeGraph) -> _Knowledge:
    names = ("category_contains", "category_for", "diet_excludes", "category_within")
    return _Knowledge(*(_table(graph, name) for name in names))


def _table(graph: KnowledgeGraph, predicate: str) -> dict[str, frozenset[str]]:
    try:
        facts = graph.query(Fact(predicate, ("?first", "?second")))
    except UnknownPredicate:
        return {}
    found: dict[str, set[str]] = {}
    for fact in facts:
        found.setdefault(fact.args[0], set()).add(fact.args[1])
    return {first: frozenset(second) for first, second in found.items()}
