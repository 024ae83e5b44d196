"""What services assert beside the release's ontology, and whom it concerns. Immutable: a request keeps what it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import numpy as np

from graph.errors import FactLimitExceeded
from graph.ports import Fact, KnowledgeGraph
from graph.properties import PropertyTable
from graph.rules.names import did_you_mean
from graph.rules.syntax import Atom, Declaration, Program, Rule, Term, is_predicted
from graph.wants import USER
from serving.errors import InvalidRequest
from serving.factlog import LoggedFact, Told

MAX_TOLD: Final = 100_000
"""Facts that services may have asserted at once; each replica holds them and what follows from them."""
ITEM: Final = "item"
"""The type of arguments that are ids of the catalog, and what pipelines call an item without one."""
_USER: Final = "user"
_SOURCES: Final = 16
"""Sources whose facts get a layer of their own in the graph, and so their name in every proof."""
_OTHERS: Final = "a service"
_MASKS: Final = frozenset({"contains", "serves", "may_contain", "contents_known"})
"""What graph.properties reads of the graph for an item."""
_READING: Final = frozenset({"term", "type_category", "term_claims", "property"})
"""What graph.items and graph.properties read of the graph for all items."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The release's ``ontology`` and what services told since, by fact and source, up to entry ``seq`` of the log."""

    ontology: KnowledgeGraph
    seq: int = 0
    told: Mapping[Fact, Mapping[str, LoggedFact]] = field(default_factory=dict)
    most: int = MAX_TOLD

    def after(self, logged: Sequence[LoggedFact]) -> Knowledge:
        """With further entries of the log. Raises FactLimitExceeded."""
        told = dict(self.told)
        for entry in logged:
            said = dict(told.pop(entry.told.fact, {}))
            said.pop(entry.told.source, None)
            if not entry.told.retracted:
                said[entry.told.source] = entry
            if said:
                told[entry.told.fact] = said
        if len(told) > self.most:
            raise FactLimitExceeded(
                f"services would have asserted {len(told)} facts, at most {self.most} are kept; retract some, or make "
                "them a table of the ontology and train again"
            )
        return replace(self, seq=max([self.seq, *(entry.seq for entry in logged)]), told=told)

    def word(self, fact: Fact) -> Told | None:
        """What the graph holds of the fact: the first word of those who assert it; None where no service does."""
        said = self.told.get(fact)
        return min(said.values(), key=lambda word: word.seq).told if said else None

    def graph(self, before: Knowledge, graph: KnowledgeGraph, changed: Iterable[Fact]) -> KnowledgeGraph:
        """``graph``, made of what was told ``before``, with what ``changed``. Raises what ``extend`` raises.

        What is new is laid over it; where something went or is told otherwise, all is laid over the ontology anew.
        """
        changed = list(changed)
        if any(before.word(fact) is not None for fact in changed):
            graph, changed = self.ontology, list(self.told)
        by_source: dict[str, list[Told]] = {}
        for fact in changed:
            if (word := self.word(fact)) is not None:
                by_source.setdefault(word.source, []).append(word)
        named = sorted(by_source, key=lambda source: (-len(by_source[source]), source))[:_SOURCES]
        rest = [word for source, words in by_source.items() if source not in named for word in words]
        for source in sorted(named):
            graph = _extended(graph, by_source[source], source)
        return _extended(graph, rest, _OTHERS) if rest else graph

    def says(self, told: Told) -> bool:
        """Whether the same source has asserted the fact just so."""
        word = self.told.get(told.fact, {}).get(told.source)
        return word is not None and word.told == told

    def items(self) -> frozenset[str]:
        """Ids of the items that something was told about, whether the catalog knows them or not."""
        return frozenset(item for fact in self.told for item in items_of(self.ontology.program, fact))

    def provenance(self, fact: Fact) -> str:
        """Who asserted the fact, and when, the first one first; empty where no service did."""
        words = sorted(self.told.get(fact, {}).values(), key=lambda word: word.seq)
        return "; ".join(
            f"{word.told.source}, {datetime.fromtimestamp(word.time, UTC).isoformat(timespec='seconds')}"
            for word in words
        )


def _extended(graph: KnowledgeGraph, told: Sequence[Told], source: str) -> KnowledgeGraph:
    return graph.extend(
        [each.fact for each in told if each.probability is None],
        source,
        predicted=[(each.fact, each.probability) for each in told if each.probability is not None],
    )


def check(graph: KnowledgeGraph, fact: Fact) -> None:
    """That a service may assert the fact of this graph. Raises UnknownPredicate and InvalidRequest with the remedy."""
    graph.holds(fact)  # refuses what nobody declared
    declared = graph.program.declarations[fact.predicate.removeprefix("~")]
    if declared.is_constraint:
        raise InvalidRequest(f"{fact}: {fact.predicate} is derived where a constraint is broken; assert what breaks it")
    for name, kind, arg in zip(declared.names, declared.types, fact.args):
        if not arg or arg.startswith("?"):
            raise InvalidRequest(f"{fact}: {name} is {arg!r}; a fact holds names, neither variables nor nothing")
        if (kind, arg) in ((_USER, USER), (ITEM, ITEM)):
            raise InvalidRequest(f"{fact}: {arg!r} is what requests call whoever has no id; give the id")
        values = graph.program.types.get(kind)
        if values is not None and arg not in values:
            remedy = did_you_mean(arg, values) or f"give one of {', '.join(values[:20])}"
            raise InvalidRequest(f"{fact}: {arg!r} is no {kind}; {remedy}")
        if kind == "number" and not _is_number(arg):
            raise InvalidRequest(f"{fact}: {name} is {arg!r}; give a decimal number")


def types_of(program: Program, predicate: str) -> tuple[str, ...]:
    """The types of the predicate's arguments, also where it holds predictions; none where nobody declared it."""
    declared: Declaration | None = program.declarations.get(predicate)
    if declared is None and is_predicted(predicate):
        declared = program.declarations.get(predicate[1:])
    return declared.types if declared is not None else ()


def items_of(program: Program, fact: Fact) -> Iterator[str]:
    """The arguments of the fact that are item ids, by its predicate's declaration."""
    for kind, arg in zip(types_of(program, fact.predicate), fact.args):
        if kind == ITEM:
            yield arg


def concerned(program: Program, facts: Iterable[Fact]) -> frozenset[str] | None:
    """Items whose properties may change with these facts; None means every item's may.

    A fact matters to properties where rules lead from its predicate to one of them. It matters to its own item only
    where no rule leads from one item to another, or from an item to what holds of all.
    """
    reach = _reach(program)
    items: set[str] = set()
    for fact in facts:
        if fact.predicate not in reach.all:
            continue
        if fact.predicate not in reach.local:
            return None
        items.update(items_of(program, fact))
    return frozenset(items)


def properties_of(
    graph: KnowledgeGraph, told: frozenset[str], ids: Sequence[str], views: Sequence[Mapping[str, str | None]]
) -> PropertyTable:
    """Properties of catalog items (``ids`` with their ``views``); of those in ``told`` by their ids, so that what was
    asserted of them counts."""
    own = [row for row, item in enumerate(ids) if item in told]
    of_own = PropertyTable.build(graph, [views[row] for row in own], [ids[row] for row in own])
    if len(own) == len(ids):
        return of_own
    return PropertyTable.of_items(graph, views).with_items(np.array(own, np.int64), of_own)


@dataclass(frozen=True, slots=True)
class _Reach:
    """Predicates from which rules lead to properties: ``all``, and those whose facts matter to their own item only."""

    all: frozenset[str]
    local: frozenset[str]


@lru_cache(maxsize=4)
def _reach_of(rules: tuple[Rule, ...], types: tuple[tuple[str, tuple[str, ...]], ...]) -> _Reach:
    kinds = dict(types)
    found = _leading_to(rules, _MASKS | _READING)
    general = set(_READING)
    general.update(name for name in found if ITEM not in kinds.get(name, ()))
    for rule in rules:
        atoms = [rule.head, *_body(rule)]
        if len({term for atom in atoms for term in _items_in(kinds, atom)}) > 1:
            general.update(atom.predicate for atom in atoms)
    # What leads to something general is general itself.
    return _Reach(found, found - _leading_to(rules, frozenset(general)))


def _reach(program: Program) -> _Reach:
    # Rules are values: every program of the same rules has the same answer.
    return _reach_of(program.rules, tuple((name, each.types) for name, each in program.declarations.items()))


def _leading_to(rules: Sequence[Rule], goals: frozenset[str]) -> frozenset[str]:
    found = set(goals)
    while True:
        more = {atom.predicate for rule in rules if rule.head.predicate in found for atom in _body(rule)} - found
        if not more:
            return frozenset(found)
        found |= more


def _body(rule: Rule) -> Iterator[Atom]:
    yield from rule.body
    yield from rule.negated
    for aggregate in rule.aggregates:
        yield from aggregate.body


def _items_in(kinds: Mapping[str, tuple[str, ...]], atom: Atom) -> Iterator[Term]:
    for kind, term in zip(kinds.get(atom.predicate, ()), atom.terms):
        if kind == ITEM:
            yield term


def _is_number(text: str) -> bool:
    try:
        return float(text) not in (float("inf"), float("-inf")) and float(text) == float(text)
    except ValueError:
        return False
