"""Proofs of least height, read back from the records of a store."""

from __future__ import annotations

import re
from collections import Counter
from heapq import nsmallest

import numpy as np

from graph.engine import kernel as k
from graph.engine.rewrite import HIDDEN, Grouping, PlainRule, group_of, result_name
from graph.engine.store import Store
from graph.ports import Fact, Proof
from graph.rules.syntax import Atom, Rule, Term, Variable, term_text

MOST_MEMBERS = 100
"""Members of a count that a proof shows, the first by name; a count of more says so."""


def prove(store: Store, row: int) -> Proof:
    """The proof kept of the fact at ``row``. A fact that is a premise twice is one object."""
    reader = _Records(store)
    premises: dict[int, list[int]] = {}
    stack = [row]
    while stack:
        at = stack.pop()
        if at not in premises:
            found = premises[at] = reader.premises(at)
            stack += found
    proofs: dict[int, Proof] = {}
    # Lowest first, not recursively: a proof may be deeper than Python's stack.
    for at in sorted(premises, key=reader.height):
        proofs[at] = reader.step(at, tuple([proofs[premise] for premise in premises[at]]))
    return proofs[row]


def last_step(store: Store, row: int) -> Proof:
    """The last step of the proof kept of the fact at ``row``, without its premises."""
    reader = _Records(store)
    reader.read(row)
    return reader.step(row, ())


def fact_at(store: Store, row: int) -> Fact:
    """The fact of a row."""
    words = store.record(row)
    predicate = words[0] & k.PREDICATE
    args = words[k.ARGS : k.ARGS + store.compiled.arities[predicate]]
    return Fact(store.compiled.names[predicate], tuple(store.symbols.texts(args)))


def probability_at(store: Store, row: int) -> float:
    """The probability of a predicted fact that was told."""
    words = store.record(row)
    at = store.compiled.premises_at(words[0] & k.PREDICATE)
    return float(np.array(words[at : at + 2], np.int32).view(np.float64)[0])


class _Records:
    """Records of one proof, each read once. Rows are those that stand for their facts now."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.kept: dict[int, list[int]] = {}
        # Below this row every one stands for its fact still.
        self.still = 0 if store.s[k.MOVED_COUNT] else store.split

    def height(self, row: int) -> int:
        return self.kept[row][k.HEIGHT]

    def read(self, row: int) -> list[int]:
        words = self.kept.get(row)
        if words is None:
            words = self.kept[row] = self.store.record(row)
        return words

    def premises(self, row: int) -> list[int]:
        """Rows of the visible premises: those of an aggregate are what its members or its witness rest on."""
        store, compiled = self.store, self.store.compiled
        words = self.read(row)
        if words[k.WHY] < 0:
            return []
        at = compiled.premises_at(words[k.HEAD] & k.PREDICATE)
        rule = compiled.rules[words[k.WHY]]
        if isinstance(rule, Grouping) and rule.function == "count":
            group = np.array([words[k.ARGS : k.ARGS + rule.arity - 1]], np.int32).reshape(1, -1)
            parents = store.collect(compiled.predicates[rule.values], group)
            members = store.arguments(compiled.predicates[rule.values], parents)[:, -1].tolist()
            named = zip(map(store.symbols.name, members), parents.tolist(), strict=True)
            rows = [row for _, row in nsmallest(MOST_MEMBERS, named)]
        else:
            count = 1 if isinstance(rule, Grouping) else len(rule.body)
            still, current = self.still, store.current
            rows = [parent if parent < still else current(parent) for parent in words[at : at + count]]
        visible: list[int] = []
        behind: dict[int, None] = {}
        for parent in rows:
            if compiled.hidden[self.read(parent)[k.HEAD] & k.PREDICATE]:
                behind.update(dict.fromkeys(self.premises(parent)))
            else:
                visible.append(parent)
        return visible + list(behind)

    def step(self, row: int, premises: tuple[Proof, ...]) -> Proof:
        store, compiled = self.store, self.store.compiled
        words = self.kept[row]
        predicate, why = words[k.HEAD] & k.PREDICATE, words[k.WHY]
        name, args = compiled.names[predicate], words[k.ARGS : k.ARGS + compiled.arities[predicate]]
        fact = Fact(name, tuple(store.symbols.texts(args)))
        if why < 0:
            probability = probability_at(store, row) if name.startswith("~") else None
            return Proof(fact, None, store.source(-1 - why), (), probability)
        rule = compiled.rules[why]
        label, text = compiled.rule_shown(rule.number)
        source = compiled.program.rules[rule.number]
        if not isinstance(rule, PlainRule) or not (source.negated or source.aggregates):
            return Proof(fact, label, text, premises)
        return Proof(fact, label, text, premises, None, *self.conditions(words, rule, source))

    def conditions(self, words: list[int], rule: PlainRule, source: Rule) -> tuple[tuple[Fact, ...], tuple[str, ...]]:
        """What the rule's ``not`` found absent, and its aggregates with their values, for the record that holds by
        it."""
        at = self.store.compiled.premises_at(words[k.HEAD] & k.PREDICATE)
        known: dict[Term, str] = {}
        for atom, parent in zip(rule.body, words[at:]):
            args = self.read(parent)[k.ARGS : k.ARGS + len(atom.terms)]
            known.update(zip(atom.terms, self.store.symbols.texts(args)))
        absent = [_absent(atom, known) for atom in rule.negated if not atom.predicate.startswith(HIDDEN)]
        results = {atom.predicate: atom.terms for atom in rule.negated}
        results |= {atom.predicate: atom.terms for atom in rule.body}
        aggregates = []
        for place, aggregate in enumerate(source.aggregates):
            terms = results[result_name(rule.number, place)]
            # Where a count found nothing, its result is no term of the body.
            value = known.get(terms[-1], "0") if isinstance(terms[-1], Variable) else terms[-1]
            group: dict[Term, Term] = dict(zip(group_of(source, aggregate), (known.get(t, t) for t in terms)))
            body = (
                Atom(atom.predicate, tuple(_written(group.get(t, t)) for t in atom.terms)) for atom in aggregate.body
            )
            text = f"{term_text(value)} = {aggregate.function} {aggregate.value} {{ {', '.join(map(str, body))} }}"
            if aggregate.function == "count" and int(value) > MOST_MEMBERS:
                text += f", the first {MOST_MEMBERS} shown"
            aggregates.append(text)
        return tuple(absent), tuple(aggregates)


def _absent(atom: Atom, known: dict[Term, str]) -> Fact:
    """The negated atom with what its variables stood for; ``?`` for one that means "for no value"."""
    uses = Counter(atom.terms)

    def spelt(term: Term) -> str:
        if isinstance(term, str):
            return term
        return known[term] if term in known else f"?{term.name.lstrip('?')}" if uses[term] > 1 else "?"

    return Fact(atom.predicate, tuple(map(spelt, atom.terms)))


def _written(term: Term) -> Term:
    """Variables that stand for ``_`` have numbers of their own inside."""
    return Variable("_") if isinstance(term, Variable) and re.fullmatch("_[0-9]+", term.name) else term
