"""Wider categories that a vocabulary tells, as facts beside an ontology's own."""

from __future__ import annotations

from collections.abc import Iterable

from graph.ports import Fact, KnowledgeGraph


def with_wider(graph: KnowledgeGraph, wider: Iterable[tuple[str, str]], vocabulary: str) -> KnowledgeGraph:
    """``graph`` with (category, wider category) pairs; every proof that rests on one names the ``vocabulary``.

    A product of a category then stands in the wider ones too, with all that the ontology knows of them. The graph as it
    is where there are no pairs.
    """
    pairs = list(wider)
    if not pairs:
        return graph
    facts = [Fact("category_within", pair) for pair in pairs]
    facts += [Fact("category", (category,)) for category in dict.fromkeys(each for pair in pairs for each in pair)]
    return graph.extend(facts, f"vocabulary {vocabulary!r}")
