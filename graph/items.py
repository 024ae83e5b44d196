"""The one reading of a product: a catalog row, or a new product's title and text, to facts.

The table of properties, the proof of one item and the tag path all read products here, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from graph.lexicon import Lexicon, Mention, Polarity
from graph.ports import Fact, KnowledgeGraph


def item_facts(graph: KnowledgeGraph, item_id: str, attributes: Mapping[str, str | None]) -> list[Fact]:
    """What a product's attributes say, as facts of ``graph``'s vocabulary (pass the ontology, not an extension of it).

    Read are ``category``, ``department``, ``product_type``, ``title`` and ``text``; each may be absent or None. A
    product type that has a shelf of its own (``type_category``) stands there, whatever its category. Terms of the type
    become ``type_term``, terms of title and text ``text_term`` (a mention only) unless the text negates them, and
    "vegan" and the like become ``claims``.
    """
    reader = _reader(graph)  # type: ignore[arg-type]
    return list(dict.fromkeys(reader.facts(item_id, attributes)))


class _Reader:
    def __init__(self, graph: KnowledgeGraph) -> None:
        self.lexicon = Lexicon(fact.args[0] for fact in graph.query(Fact("term", ("?term",))))
        shelves = graph.query(Fact("type_category", ("?type", "?category")))
        self.shelves = {fact.args[0]: fact.args[1] for fact in shelves}
        self.claims: dict[str, list[str]] = {}
        for fact in graph.query(Fact("term_claims", ("?term", "?diet"))):
            self.claims.setdefault(fact.args[0], []).append(fact.args[1])

    def facts(self, item_id: str, attributes: Mapping[str, str | None]) -> Iterator[Fact]:
        yield Fact("product", (item_id,))
        product_type = attributes.get("product_type") or ""
        if category := self.shelves.get(product_type) or attributes.get("category"):
            yield Fact("in_category", (item_id, category))
        if department := attributes.get("department"):
            yield Fact("in_department", (item_id, department))
        for mention in self.lexicon.mentions(product_type):
            yield from self._mention("type_term", item_id, mention)
        for text in (attributes.get("title"), attributes.get("text")):
            for mention in self.lexicon.mentions(text or ""):
                yield from self._mention("text_term", item_id, mention)

    def _mention(self, predicate: str, item_id: str, mention: Mention) -> Iterator[Fact]:
        # An unclear mention may be a content, so it counts; it cannot be a claim.
        if mention.polarity is not Polarity.NEGATED:
            yield Fact(predicate, (item_id, mention.term))
        if mention.polarity is Polarity.STATED:
            for diet in self.claims.get(mention.term, ()):
                yield Fact("claims", (item_id, diet))


# Graphs are immutable and hash by identity; a process has few ontologies.
@lru_cache(maxsize=4)
def _reader(graph: KnowledgeGraph) -> _Reader:
    return _Reader(graph)
