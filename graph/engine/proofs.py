"""Proofs of least height, read back from the records of a store."""

from __future__ import annotations

import numpy as np

from graph.engine import kernel as k
from graph.engine.rewrite import Grouping
from graph.engine.store import Store
from graph.ports import Fact, Proof


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
            rows = [row for _, row in sorted(zip(map(store.symbols.name, members), parents.tolist(), strict=True))]
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
        label, text = compiled.rule_shown(compiled.rules[why].number)
        return Proof(fact, label, text, premises)
