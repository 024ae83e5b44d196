"""Bottom-up evaluation of rules to their least model, keeping a shortest proof of every fact.

Facts are settled in order of proof height (0 for an asserted fact, one more than its highest premise for a derived
one), each newly settled fact firing only the rules it can take part in: semi-naive evaluation, scheduled as in Knuth's
generalisation of Dijkstra's algorithm (1977), so the first proof kept of a fact is one of least height. Premises are
always lower than what they prove, which makes every proof well-founded.

``extend`` lays a small layer of facts over the graph: nothing below is copied or touched. A fact below that the new
facts prove by a lower proof is settled again in the upper layer, so a proof is as short as after evaluating everything
from scratch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from operator import itemgetter
from typing import Any, TypeAlias

from graph.errors import FactLimitExceeded, NotDerived, UnknownPredicate
from graph.plans import Plan, Positions, Row, compile_rule
from graph.ports import Fact, Proof
from graph.rules.reader import nearest
from graph.rules.syntax import Program

DEFAULT_MAX_FACTS = 2_000_000

_Key: TypeAlias = tuple[str, Row]
# (height, number of the rule or -1, premises of the rule or the source of an asserted fact). A plain tuple: a graph
# holds millions of these.
_Entry: TypeAlias = tuple[int, int, Any]
_ASSERTED = -1


class _Rules:
    """A program compiled once and shared by a graph and all its extensions."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.arity = {name: len(declaration.names) for name, declaration in program.declarations.items()}
        self.plans: dict[str, list[Plan]] = {name: [] for name in self.arity}
        # The first argument is what queries most often give.
        indexes: dict[str, dict[Positions, None]] = {name: {(0,): None} for name, n in self.arity.items() if n > 1}
        for number, rule in enumerate(program.rules):
            for predicate, plan in compile_rule(number, rule):
                self.plans[predicate].append(plan)
                for name, positions in plan.indexes:
                    indexes[name][positions] = None
        self.indexes: dict[str, list[tuple[Positions, Any]]] = {
            name: [(positions, itemgetter(*positions)) for positions in found] for name, found in indexes.items()
        }


class _Layer:
    """Facts of one evaluation: entries by predicate and row, and hash indexes on the argument positions joins ask."""

    __slots__ = ("count", "entries", "indexes", "rules")

    def __init__(self, rules: _Rules) -> None:
        self.rules = rules
        self.entries: dict[str, dict[Row, _Entry]] = {}
        self.indexes: dict[tuple[str, Positions], dict[Any, list[Row]]] = {}
        self.count = 0

    def put(self, predicate: str, row: Row, entry: _Entry, is_new: bool) -> None:
        """Keeps the entry; a row some layer already has must not enter the indexes twice."""
        self.entries.setdefault(predicate, {})[row] = entry
        if not is_new:
            return
        self.count += 1
        for positions, key_of in self.rules.indexes.get(predicate, ()):
            self.indexes.setdefault((predicate, positions), {}).setdefault(key_of(row), []).append(row)


class RuleGraph:
    """A knowledge graph under rules (implements ports.KnowledgeGraph). Immutable; safe to read from many threads."""

    def __init__(self, rules: _Rules, layers: tuple[_Layer, ...], max_facts: int) -> None:
        self._rules = rules
        self._layers = layers  # the newest first
        self._max_facts = max_facts

    @classmethod
    def build(
        cls, program: Program, facts: Iterable[Fact] = (), source: str = "asserted", max_facts: int = DEFAULT_MAX_FACTS
    ) -> RuleGraph:
        """The least model of the program's rules over its own facts and ``facts``.

        Raises UnknownPredicate for an undeclared fact and FactLimitExceeded past ``max_facts`` facts in all.
        """
        empty = cls(_Rules(program), (), max_facts)
        return empty._settle([*program.facts, *((fact, source) for fact in facts)])

    @property
    def program(self) -> Program:
        """The rules and declarations this graph is closed under."""
        return self._rules.program

    @cached_property
    def version(self) -> str:
        """sha256 over declarations, rules and asserted facts, each sorted; labels count, for proofs show them."""
        program = self.program
        lines = [f"decl {d.predicate} {' '.join(d.names)}" for d in program.declarations.values()]
        lines += [f"rule {rule.label}: {rule}" for rule in program.rules]
        lines += ["\x1f".join(("fact", predicate, *row)) for predicate, row in self._asserted()]
        digest = hashlib.sha256()
        for line in sorted(lines):
            digest.update(line.encode() + b"\x1e")
        return digest.hexdigest()

    def __len__(self) -> int:
        """The number of facts, asserted and derived."""
        return sum(layer.count for layer in self._layers)

    def holds(self, fact: Fact) -> bool:
        """Whether the fact is asserted or derived. Raises UnknownPredicate as ``query`` does."""
        self._check(fact)
        return self.has(fact.predicate, fact.args)

    def query(self, pattern: Fact) -> list[Fact]:
        """All facts matching the pattern (arguments that start with ``?`` are variables), sorted."""
        self._check(pattern)
        fixed = [(i, arg) for i, arg in enumerate(pattern.args) if not arg.startswith("?")]
        first: dict[str, int] = {}
        same = [(first.setdefault(arg, i), i) for i, arg in enumerate(pattern.args) if arg.startswith("?")]
        return sorted(
            Fact(pattern.predicate, row)
            for row in self._candidates(pattern, fixed)
            if all(row[i] == arg for i, arg in fixed) and all(row[i] == row[j] for i, j in same)
        )

    def prove(self, fact: Fact) -> Proof:
        """A proof of least height. Raises NotDerived where the fact does not hold."""
        self._check(fact)
        goal = (fact.predicate, fact.args)
        if not self.has(*goal):
            raise NotDerived(f"{fact} does not hold in this graph; query its predicate to see what does")
        needed: dict[_Key, _Entry] = {}
        stack = [goal]
        while stack:
            key = stack.pop()
            if key not in needed:
                entry = needed[key] = self._entry(key)
                if entry[1] != _ASSERTED:
                    stack.extend(entry[2])
        proofs: dict[_Key, Proof] = {}
        # Lowest first, not recursively: a proof may be deeper than Python's stack.
        for key, (_, number, why) in sorted(needed.items(), key=lambda item: item[1][0]):
            if number == _ASSERTED:
                proofs[key] = Proof(Fact(*key), None, why)
            else:
                rule = self.program.rules[number]
                proofs[key] = Proof(Fact(*key), rule.label, str(rule), tuple(proofs[premise] for premise in why))
        return proofs[goal]

    def extend(self, facts: Iterable[Fact], source: str) -> RuleGraph:
        """This graph with more asserted facts and all that follows; the cost grows with what is new.

        Raises UnknownPredicate and FactLimitExceeded as ``build`` does.
        """
        return self._settle([(fact, source) for fact in facts])

    # What plans read (plans.Store). Lists are never changed while a plan iterates: facts settle between firings.

    def rows(self, predicate: str) -> Iterator[Row]:
        """Every row of the predicate, once."""
        for i, layer in enumerate(self._layers):
            for row in layer.entries.get(predicate, ()):
                # A row that a lower layer has too is there only for its lower proof.
                if not any(row in below.entries.get(predicate, ()) for below in self._layers[i + 1 :]):
                    yield row

    def lookup(self, predicate: str, positions: Positions, key: Any) -> Sequence[Row]:
        """Rows with ``key`` at ``positions``; only positions that some rule joins on."""
        found: list[Row] | None = None
        shared = True
        for layer in self._layers:
            index = layer.indexes.get((predicate, positions))
            if index and (rows := index.get(key)):
                if found is None:
                    found = rows
                else:
                    found = found + rows if shared else [*found, *rows]
                    shared = False
        return found or ()

    def has(self, predicate: str, row: Row) -> bool:
        """Whether the row is in any layer."""
        return any(row in layer.entries.get(predicate, ()) for layer in self._layers)

    def _asserted(self) -> Iterator[_Key]:
        for layer in self._layers:
            for predicate, entries in layer.entries.items():
                for row, entry in entries.items():
                    if entry[1] == _ASSERTED:
                        yield predicate, row

    def _entry(self, key: _Key) -> _Entry:
        for layer in self._layers:
            if entry := layer.entries.get(key[0], {}).get(key[1]):
                return entry
        raise NotDerived(f"{Fact(*key)} does not hold")

    def _candidates(self, pattern: Fact, fixed: list[tuple[int, str]]) -> Iterable[Row]:
        if len(fixed) == len(pattern.args):
            return [pattern.args] if self.has(pattern.predicate, pattern.args) else []
        given = {i for i, _ in fixed}
        usable = [p for p, _ in self._rules.indexes.get(pattern.predicate, ()) if given.issuperset(p)]
        if not usable:
            return self.rows(pattern.predicate)
        positions = max(usable, key=len)
        key = tuple(pattern.args[i] for i in positions)
        return self.lookup(pattern.predicate, positions, key if len(key) > 1 else key[0])

    def _check(self, fact: Fact) -> None:
        arity = self._rules.arity.get(fact.predicate)
        if arity is None:
            raise UnknownPredicate(f"{fact}: predicate {fact.predicate!r} is not declared; {self._nearest(fact)}")
        if arity != len(fact.args):
            names = ", ".join(self.program.declarations[fact.predicate].names)
            raise UnknownPredicate(f"{fact} has {len(fact.args)} arguments; write {fact.predicate}({names})")

    def _nearest(self, fact: Fact) -> str:
        return nearest(fact.predicate, self._rules.arity)

    def _settle(self, facts: list[tuple[Fact, str]]) -> RuleGraph:
        for fact, _ in facts:
            self._check(fact)
        own = _Layer(self._rules)
        graph = RuleGraph(self._rules, (own, *self._layers), self._max_facts)
        _Evaluation(graph, own).run(sorted(facts))
        return graph


class _Evaluation:
    """Settles facts into a graph's newest layer, lowest proof first."""

    def __init__(self, graph: RuleGraph, own: _Layer) -> None:
        self.graph = graph
        self.own = own
        self.below = [layer.entries for layer in graph._layers[1:]]
        self.room = graph._max_facts - len(graph)
        self.waiting: dict[_Key, _Entry] = {}
        self.buckets: list[list[_Key]] = [[]]

    def run(self, facts: list[tuple[Fact, str]]) -> None:
        for fact, source in facts:
            self._offer((fact.predicate, fact.args), (0, _ASSERTED, source))
        height = 0
        while height < len(self.buckets):
            settled = [key for key in self.buckets[height] if self.waiting.get(key, (-1,))[0] == height]
            self.buckets[height] = []
            for key in settled:
                entry = self.waiting.pop(key)
                self.own.put(*key, entry, is_new=self._known(key) is None)
            for predicate, row in settled:
                for plan in self.graph._rules.plans[predicate]:
                    self._fire(plan, row, height)
            height += 1

    def _fire(self, plan: Plan, row: Row, height: int) -> None:
        head, predicates = plan.head, plan.predicates

        def emit(head_row: Row, matched: list[Row]) -> None:
            key = (head, head_row)
            known = self._known(key)
            # No proof that uses a fact of this height is lower than height + 1.
            if known is not None and known[0] <= height + 1:
                return
            premises = tuple(zip(predicates, matched))
            above = 1 + max([self.graph._entry(premise)[0] for premise in premises])
            if known is None or above < known[0]:
                self._offer(key, (above, plan.rule, premises))

        plan.run(self.graph, row, emit)

    def _known(self, key: _Key) -> _Entry | None:
        predicate, row = key
        own = self.own.entries.get(predicate)
        if own is not None and (entry := own.get(row)):
            return entry
        for entries in self.below:
            if (rows := entries.get(predicate)) is not None and (entry := rows.get(row)):
                return entry
        return None

    def _offer(self, key: _Key, entry: _Entry) -> None:
        height = entry[0]
        best = self.waiting.get(key) or self._known(key)
        if best is not None and best[0] <= height:
            return
        self.waiting[key] = entry
        while len(self.buckets) <= height:
            self.buckets.append([])
        self.buckets[height].append(key)
        if self.own.count + len(self.waiting) > self.room:
            raise FactLimitExceeded(
                f"more than {self.graph._max_facts} facts while deriving {key[0]!r}; "
                "narrow that predicate's rules or raise max_facts"
            )
