"""One change of a store, layer by layer: condemn, restore, derive (see Update.run)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graph.engine import aggregates
from graph.engine import kernel as k
from graph.engine.limits import MAX_ARITY, MAX_WORDS
from graph.engine.memory import address
from graph.engine.rewrite import rule_of
from graph.engine.store import Store, empty_table, longer
from graph.errors import FactLimitExceeded, TimeLimitExceeded

_SLICE = 2_000_000
"""Steps between two looks at the clock: about 50 ms."""
_FEW = 64
"""So many facts an empty store has room for."""
_LIKELY = 10_000
"""Facts that reserving room for costs nothing."""
_FEW_KEYS = 1_000
"""Keys of indexes that room is made for: a table much wider than its keys leaves the processor's cache."""
_NO_PREMISES: k.Words = np.empty((0, 0), np.int32)


@dataclass(frozen=True, slots=True)
class Limits:
    """Most facts a graph may hold, most seconds one update of it may take, most words of its heaps."""

    facts: int
    seconds: float
    words: int = MAX_WORDS


class TooWide(Exception):
    """An update took more steps than it was given."""


class Update:
    """Changes a store in place; after an error ``roll_back`` leaves it as it was.

    Deleting is exact: what a lost fact was a premise of, in the proof kept, is lost with it (condemn), gets its lowest
    other proof where it has one (restore), and what follows is derived as for new facts. Facts that only a negation or
    an aggregate links to the change are treated alike, for layers above see what is new and gone below.
    """

    def __init__(self, store: Store, limits: Limits, max_steps: int | None = None) -> None:
        self.store = store
        self.limits = limits
        self.steps_left = max_steps
        self.steps = 0
        self.deadline = time.monotonic() + limits.seconds
        self.before = (store.counts.copy(), int(store.s[k.TOTAL]))
        compiled, s = store.compiled, store.s
        sizes = (compiled.most_slots, len(compiled.tables[k.STEPS]), max(compiled.most_body, 2), MAX_ARITY)
        self.scratch = np.zeros(sum(sizes) + 4, np.int32)
        at = address(self.scratch)
        for register, size in zip((k.ENV, k.CURSOR, k.MATCHED, k.KEY), sizes, strict=True):
            s[register] = at
            at += 4 * (size + 1)
        self.ahead = np.zeros(2 * k.AHEAD + (MAX_ARITY + 2) // 2 + 1, np.int64)
        s[k.SLOTS] = address(self.ahead)
        store.complete()
        self.lost: int | None = None
        self.lists: dict[int, k.Words] = {}
        self._place(k.QUEUE, np.empty((256, 2), np.int32))
        self._place(k.BUCKETS, np.full((64, 2), -1, np.int32))
        self._place(k.GONE, np.empty(64, np.int32))
        self._place(k.REPLACED, np.empty(64, np.int32))
        s[k.START] = s[k.SPLIT] + s[k.HEAP_USED]
        s[k.LIMIT] = limits.facts
        s[[k.GONE_COUNT, k.REPLACED_COUNT, k.QUEUED, k.CURRENT, k.WANTED]] = 0
        s[[k.TOP, k.PLAN, k.HOP]] = -1

    def tell(
        self, predicate: int, args: k.Words, why: k.Words, heights: k.Words | int = 0, premises: k.Words = _NO_PREMISES
    ) -> None:
        """Adds facts int32[n, arity], each with its reason: -1 - source for one told, or the rule of an aggregate."""
        arity = self.store.compiled.arities[predicate]
        if args.shape != (len(why), arity) or len(premises) not in (0, len(args)):
            raise ValueError(
                f"arguments {args.shape} with {len(why)} reasons and {len(premises)} premises; give {arity}"
            )
        rows = np.empty((len(args), arity + 2), np.int32)
        rows[:, 0], rows[:, 1], rows[:, 2:] = heights, why, args
        if len(rows) > _FEW:
            # With room for what a small graph will derive.
            facts = min(4 * len(rows), len(rows) + _LIKELY)
            self._reserve(facts, facts * self.store.compiled.sizes[predicate], 2 * min(len(rows), _FEW_KEYS))
        self.store.s[k.AT] = 0
        links = np.ascontiguousarray(premises, np.int32)
        addresses = address(rows), rows.shape[1], address(links), links.shape[1]
        self._drive(k.load, predicate, *addresses, len(rows))

    def withdraw(self, row: int) -> None:
        """Takes a row away; what it stands for comes back where something else proves it."""
        self._grow()
        k.withdraw(self.store.registers, row)

    def run(self) -> None:
        """Brings every layer in line with what was told and withdrawn."""
        compiled, s = self.store.compiled, self.store.s
        for number, layer in enumerate(compiled.layers):
            for grouping in layer.groupings:
                aggregates.recompute(self.store, self, grouping)
            if compiled.needs_numbers:
                self._read_numbers()
            s[k.LAYER] = number
            is_fresh = s[k.START] and s[k.HEAP_USED] + s[k.SPLIT] > s[k.START]
            if s[k.GONE_COUNT] or (compiled.has_negation[number] and is_fresh):
                self._phase(k.CONDEMN)
            if s[k.GONE_COUNT]:
                self._phase(k.RESTORE)
            self._phase(k.DERIVE)
        if s[k.GONE_COUNT]:
            self.lost = int(k.finish(self.store.registers))

    def roll_back(self) -> None:
        """The store as it was before this update."""
        store = self.store
        table, heads = empty_table(len(store.tables[0])), empty_table(len(store.tables[1]))
        k.roll_back(store.registers, address(table), address(heads))
        store.replace_tables(table, heads)
        store.counts[:], store.s[k.TOTAL] = self.before

    def gone(self) -> k.Words:
        """Rows of facts that no longer hold (after ``run``) or may not (during it)."""
        return self.lists[k.GONE][: self.store.s[k.GONE_COUNT] if self.lost is None else self.lost]

    def _phase(self, phase: int) -> None:
        s = self.store.s
        s[k.PHASE], s[k.PART] = phase, 0
        s[k.NEXT_PLAN] = s[k.LAST_PLAN] = 0
        # Restoring walks the list of what is gone, the other two first what this update has settled.
        s[k.AT] = 0 if phase == k.RESTORE else s[k.START]
        s[k.END] = s[k.SPLIT] + s[k.HEAP_USED]
        self._drive(k.advance)

    def _drive(self, function: Callable[..., int], *args: int) -> None:
        s, registers = self.store.s, self.store.registers
        while True:
            given = _SLICE if self.steps_left is None else min(_SLICE, self.steps_left)
            s[k.BUDGET] = given
            status = function(registers, *args)
            used = given - int(s[k.BUDGET])
            self.steps += used
            if self.steps_left is not None:
                self.steps_left -= used
            if status == k.DONE:
                return
            if status == k.FULL:
                self._grow()
            elif status == k.OVER_LIMIT:
                raise FactLimitExceeded(
                    f"more than {self.limits.facts} facts while deriving {self._blamed()}; "
                    "narrow that predicate's rules or raise max_facts"
                )
            if time.monotonic() > self.deadline:
                raise TimeLimitExceeded(
                    f"the closure was not complete after {self.limits.seconds:g} s and {int(s[k.TOTAL])} facts; "
                    "narrow the rules that derive most or raise max_seconds"
                )
            if self.steps_left is not None and self.steps_left <= 0:
                raise TooWide

    def _blamed(self) -> str:
        compiled, predicate = self.store.compiled, int(self.store.s[k.BLAMED])
        if not compiled.hidden[predicate]:
            return repr(compiled.names[predicate])
        return f"an aggregate of rule {compiled.program.rules[rule_of(compiled.names[predicate])].label!r}"

    def _read_numbers(self) -> None:
        below, numbers = self.numbers = self.store.symbols.numbers()
        self.store.s[k.NUMBERS_BELOW], self.store.s[k.BELOW_COUNT] = address(below), len(below)
        self.store.s[k.NUMBERS] = address(numbers)

    def _reserve(self, facts: int, words: int, keys: int) -> None:
        s, words = self.store.s, min(int(self.store.s[k.HEAP_USED]) + words, self._room())
        self.store.grow(heap=words, facts=int(s[k.FACTS]) + facts, keys=int(s[k.KEYS]) + keys)
        if s[k.QUEUED] + facts > s[k.QUEUE_SIZE]:
            self._place(k.QUEUE, longer(self.lists[k.QUEUE], int(s[k.QUEUED]) + facts))

    def _grow(self) -> None:
        """Doubles every array that is nearly full. FactLimitExceeded where rows have no numbers left."""
        store, s = self.store, self.store.s
        most = max(store.compiled.sizes)
        if s[k.HEAP_USED] + most > s[k.OVER_HEAP_SIZE]:
            if s[k.HEAP_USED] + most > self._room():
                raise FactLimitExceeded(
                    f"{int(s[k.TOTAL])} facts with their proofs and indexes fill the {self.limits.words} words a graph "
                    "can number; split the facts over several graphs"
                )
            store.grow(heap=min(2 * int(s[k.OVER_HEAP_SIZE]) + most, self._room()))
        store.grow(facts=int(s[k.FACTS]) + 1, keys=int(s[k.KEYS]) + most, moved=int(s[k.MOVED_COUNT]) + 1)
        for register, used in (
            (k.QUEUE, s[k.QUEUED]),
            (k.BUCKETS, s[k.WANTED]),
            (k.GONE, s[k.GONE_COUNT]),
            (k.REPLACED, s[k.REPLACED_COUNT]),
        ):
            if used >= len(self.lists[register]):
                fill = -1 if register == k.BUCKETS else 0
                self._place(register, longer(self.lists[register], 2 * int(used) + 2, fill))

    def _room(self) -> int:
        """Most words the layer's heap may have: rows number the base's first."""
        return self.limits.words - self.store.split

    def _place(self, register: int, values: k.Words) -> None:
        # The registers first: an error between the two must not leave them an address that is freed.
        self.store.s[register], self.store.s[register + 1] = address(values), len(values)
        self.lists[register] = values
