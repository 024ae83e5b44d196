"""Services under what was asserted: exchanged as a whole, properties of every item concerned made anew."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graph.items import item_facts
from graph.patterns import fact_text
from graph.ports import Fact, KnowledgeGraph, Proof
from models.text import catalog_view
from serving.errors import NotAsserted
from serving.factlog import LoggedFact, Told
from serving.knowledge import Knowledge, concerned, items_of, properties_of
from serving.services import Services

_log = logging.getLogger(__name__)
CATALOG = "catalog"
"""The source of what an item's own row says of it."""
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Recorded:
    """How many facts were written down, and how many the same source had asserted just so."""

    recorded: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Retracted:
    """How many facts were taken back, and which ones do not hold anyway."""

    retracted: int
    unknown: tuple[Fact, ...]


def with_facts(services: Services, logged: Sequence[LoggedFact]) -> Services:
    """New services in which these entries of the log hold; the old ones are not touched.

    Facts of predicates that the release's ontology does not have (any more) are left out, with a warning. Raises
    FactLimitExceeded where too much would follow.
    """
    if not logged:
        return services
    before = services.knowledge
    knowledge = before.after([entry for entry in logged if _is_declared(before.ontology, entry.told.fact)])
    knowledge = replace(knowledge, seq=max(entry.seq for entry in logged))
    changed = {entry.told.fact for entry in logged if before.word(entry.told.fact) != knowledge.word(entry.told.fact)}
    if not changed:
        return replace(services, knowledge=knowledge)
    graph = knowledge.graph(before, services.graph, sorted(changed))
    items = concerned(graph.program, changed)
    if items is None:
        # Something that holds of all items, or a rule that leads from one to another: every one is read anew.
        rows = np.arange(len(services.table))
        properties = properties_of(graph, *_read(services, knowledge, rows.tolist()))
    else:
        known = sorted(row for row in map(services.table.row_of, items) if row >= 0)
        properties = replace(services.properties, version=graph.version)
        if known:
            told = properties_of(graph, *_read(services, knowledge, known))
            properties = properties.with_items(np.array(known, np.int64), told)
    return replace(services, graph=graph, knowledge=knowledge, properties=properties)


def with_catalog(services: Services, items: Iterable[str]) -> KnowledgeGraph:
    """The graph with what the catalog says of these items; ids it does not know are passed over."""
    facts: list[Fact] = []
    for item in dict.fromkeys(items):
        if (row := services.table.row_of(item)) >= 0:
            facts += item_facts(services.graph, item, _view(services, row))
    return services.graph.extend(facts, CATALOG) if facts else services.graph


def about(services: Services, fact: Fact) -> KnowledgeGraph:
    """The graph with what the catalog says of the items that the fact names."""
    return with_catalog(services, items_of(services.graph.program, fact))


def retractions(services: Services, facts: Iterable[Fact], source: str) -> tuple[list[Told], tuple[Fact, ...]]:
    """The words that take back these facts (of ``source`` alone, where given), and the facts that nobody asserted.

    Raises UnknownPredicate, and NotAsserted for a fact that holds for another reason: taking it back would change
    nothing.
    """
    words: list[Told] = []
    unknown: list[Fact] = []
    for fact in dict.fromkeys(facts):
        said = services.knowledge.told.get(fact, {})
        taken = [name for name in said if not source or name == source]
        if taken:
            words += [Told(fact, name, retracted=True) for name in taken]
            continue
        graph = about(services, fact)
        if graph.holds(fact):
            raise NotAsserted(_why(services.knowledge, graph.prove(fact), source))
        unknown.append(fact)
    return words, tuple(unknown)


def _why(knowledge: Knowledge, proof: Proof, source: str) -> str:
    text = fact_text(proof.fact)
    if said := knowledge.told.get(proof.fact):
        return f"{text} was asserted by {', '.join(sorted(said))}, not by {source}; give that source, or none"
    if proof.rule is None and proof.source == CATALOG:
        return f"{text} is what the catalog says of the item; send the item with UpsertItems as it is"
    if proof.rule is None:
        return f"{text} is part of the release's ontology ({proof.source}); change it there and train again"
    told = sorted(fact_text(fact) for fact in _leaves(proof) if fact in knowledge.told)
    if not told:
        return f"{text} is derived by rule {proof.rule} from what no service asserted; Explain shows from what"
    more = "" if len(told) <= _NAMED else f" and {len(told) - _NAMED} more"
    return f"{text} is derived by rule {proof.rule}; retract what it follows from: {', '.join(told[:_NAMED])}{more}"


def _leaves(proof: Proof) -> set[Fact]:
    found: set[Fact] = set()
    seen, waiting = {proof.fact}, [proof]
    while waiting:
        current = waiting.pop()
        if not current.premises:
            found.add(current.fact)
        for premise in current.premises:
            if premise.fact not in seen:
                seen.add(premise.fact)
                waiting.append(premise)
    return found


def _is_declared(ontology: KnowledgeGraph, fact: Fact) -> bool:
    declared = ontology.program.declarations.get(fact.predicate.removeprefix("~"))
    if declared is not None and len(declared.names) == len(fact.args):
        return True
    _log.warning("asserted fact %.300r is left out: the release's ontology has no such predicate", str(fact))
    return False


def _read(
    services: Services, knowledge: Knowledge, rows: Sequence[int]
) -> tuple[frozenset[str], list[str], list[dict[str, str | None]]]:
    return (
        knowledge.items(),
        [services.table.item_ids[row] for row in rows],
        [_view(services, row) for row in rows],
    )


def _view(services: Services, row: int) -> dict[str, str | None]:
    return catalog_view(services.table.frame.row(row, named=True), services.config.label_column)
