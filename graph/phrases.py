"""What people say of themselves, as facts: "vegetarian, no dairy, love mexican food"."""

from __future__ import annotations

from functools import lru_cache

from graph.lexicon import Lexicon, Mention, Polarity
from graph.ports import Fact, KnowledgeGraph


def find_phrases(text: str, graph: KnowledgeGraph, user: str = "user") -> list[Fact]:
    """``says(user, phrase)`` and ``says_no(user, phrase)`` for the ontology's phrases in the text, without repeats.

    Pass the ontology, not an extension of it. What the text neither clearly states nor clearly negates says nothing.
    """
    reader = _reader(graph)  # type: ignore[arg-type]
    facts = (reader.fact(mention, user) for mention in reader.lexicon.mentions(text))
    return list(dict.fromkeys(fact for fact in facts if fact is not None))


class _Reader:
    def __init__(self, graph: KnowledgeGraph) -> None:
        self.lexicon = Lexicon(fact.args[0] for fact in graph.query(Fact("phrase", ("?phrase",))))
        self.restrictive = {
            fact.args[0]
            for predicate in ("phrase_diet", "phrase_avoids")
            for fact in graph.query(Fact(predicate, ("?phrase", "?what")))
        }
        ingredients = {fact.args[0] for fact in graph.query(Fact("property_kind", ("?property", "ingredient")))}
        needs = (fact.args for fact in graph.query(Fact("phrase_needs", ("?phrase", "?property"))))
        self.ingredients = {phrase for phrase, need in needs if need in ingredients}

    def fact(self, mention: Mention, user: str) -> Fact | None:
        negated = Fact("says_no", (user, mention.term))
        stated = Fact("says", (user, mention.term))
        if mention.polarity is Polarity.JOINED:
            # "Allergic to nuts and vegan", "no nuts and milk": the reading that restricts more is the safe one.
            if mention.term in self.restrictive:
                return stated
            return negated if mention.term in self.ingredients else None
        return {Polarity.STATED: stated, Polarity.NEGATED: negated}.get(mention.polarity)


# Graphs are immutable and hash by identity; a process has few ontologies.
@lru_cache(maxsize=4)
def _reader(graph: KnowledgeGraph) -> _Reader:
    return _Reader(graph)
