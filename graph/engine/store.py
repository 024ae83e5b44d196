"""The facts of a graph: a base that is never written, and a layer over it of what one graph has besides.

Copying a store copies the layer alone, so an extension costs what is new, and any number of graphs share a base.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from graph.engine import kernel as k
from graph.engine.limits import MAX_ARITY
from graph.engine.memory import address
from graph.engine.plan import Compiled
from graph.engine.symbols import Symbols

_SMALL = 64
_WORDS, _LONGS = np.int32, np.int64
_FACTS, _KEYS, _MOVED = range(3)
_REGISTERS = (k.TABLE, k.HEADS, k.MOVED)  # each with its size behind it


@dataclass(frozen=True, slots=True)
class Arrays:
    """Records, the hash table of facts, the hash table of index keys."""

    heap: k.Words
    table: k.Longs
    heads: k.Longs


class Base:
    """Settled facts shared by many stores, and what queries need of them, made when first asked for."""

    def __init__(self, arrays: Arrays, symbols: Symbols, sources: tuple[str, ...], steps: int) -> None:
        self.arrays = arrays
        self.symbols = symbols
        self.sources = sources
        self.source_ids = {source: i for i, source in enumerate(sources)}
        self.steps = steps  # what evaluating it took
        self.late_heads = np.empty(0, _LONGS)
        self._completing = threading.Lock()
        self._rows: tuple[k.Words, list[int]] | None = None
        self._sorted: dict[tuple[int, int], tuple[k.Words, k.Words]] = {}

    def complete(self, compiled: Compiled) -> None:
        """Enters the facts in the late indexes, once: nobody reads them before (see plan.py)."""
        with self._completing:
            size, heap, key = len(self.arrays.heap) // 16 + _SMALL, self.arrays.heap, np.empty(MAX_ARITY, _WORDS)
            while not len(self.late_heads):
                heads = empty_table(size)
                program = address(compiled.registers)
                keys = k.complete(program, address(heap), len(heap), address(heads), size, address(key))
                if keys >= 0:
                    self.late_heads = _rehashed(heads, keys * 27 // 20 + 4)
                size *= 4

    def rows(self, compiled: Compiled, predicate: int) -> k.Words:
        """Every row of a predicate, int32[n], also those that a layer over the base took away."""
        if self._rows is None:
            self._rows = _rows_by_predicate(compiled, self.arrays.heap)
        rows, starts = self._rows
        return rows[starts[predicate] : starts[predicate + 1]]

    def rows_with(self, compiled: Compiled, predicate: int, position: int, symbol: int) -> k.Words:
        """Rows of a predicate with a symbol at a position, by binary search in an order kept from the first time on."""
        kept = self._sorted.get((predicate, position))
        if kept is None:
            rows = self.rows(compiled, predicate)
            values = self.arrays.heap[rows + np.int32(k.ARGS + position)]
            order = np.argsort(values, kind="stable")
            kept = self._sorted[predicate, position] = (values[order], rows[order])
        values, rows = kept
        first = int(values.searchsorted(np.int32(symbol)))
        last = int(values.searchsorted(np.int32(symbol), "right"))
        return rows[first:last]


class Store:
    """A program's facts. The layer and its registers ``s`` change in place during an update; see kernel.py.

    Reading is safe from many threads while nobody changes the layer.
    """

    def __init__(self, compiled: Compiled, base: Base, heap: k.Words, tables: list[k.Longs], counts: k.Longs) -> None:
        self.compiled = compiled
        self.base = base
        self.symbols = Symbols(base.symbols)
        self.sources: list[str] = []
        self.source_ids: dict[str, int] = {}
        self.heap = heap
        self.tables = tables  # of facts, of index keys, of moved rows; see ``_place_table``
        self.counts = counts
        self.s = compiled.registers.copy()
        self.registers = address(self.s)
        arrays = base.arrays
        self.split = self.s[k.SPLIT] = len(arrays.heap)
        self.s[k.BASE_HEAP] = address(arrays.heap)
        self.s[k.BASE_TABLE], self.s[k.BASE_HEADS] = address(arrays.table), address(arrays.heads)
        self.s[k.BASE_TABLE_SIZE], self.s[k.BASE_HEADS_SIZE] = len(arrays.table), len(arrays.heads)
        self.s[k.COUNTS] = address(counts)
        self._place_heap(heap)
        for i, table in enumerate(tables):
            self._place_table(i, table)
        self._place_late()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a graph's registers hold addresses of this process; copy or send its program and facts instead"
        )

    @classmethod
    def empty(cls, compiled: Compiled) -> Store:
        """A store without facts."""
        nothing = Arrays(np.empty(0, _WORDS), np.empty(0, _LONGS), np.empty(0, _LONGS))
        store = cls(compiled, Base(nothing, compiled.symbols, (), 0), *_layer(), np.zeros(len(compiled.names), _LONGS))
        store.symbols = compiled.symbols.flat()
        return store

    def copy(self) -> Store:
        """A store of its own with the same facts; the base is shared."""
        used = int(self.s[k.HEAP_USED])
        heap = np.empty(len(self.heap), _WORDS)
        heap[:used] = self.heap[:used]
        twin = Store(self.compiled, self.base, heap, [table.copy() for table in self.tables], self.counts.copy())
        twin.symbols, twin.sources, twin.source_ids = self.symbols.copy(), self.sources.copy(), self.source_ids.copy()
        counted = slice(k.HEAP_USED, k.TOTAL + 1)
        twin.s[counted] = self.s[counted]
        return twin

    def frozen(self, steps: int) -> Store:
        """The facts of a store over an empty base as a base of their own. This store is of no use afterwards."""
        if self.split:
            raise ValueError("only a store over an empty base can become a base; evaluate its facts anew")
        # Shrunk where it lies: this store is used up.
        heap = self.heap
        heap.resize(int(self.s[k.HEAP_USED]), refcheck=False)
        table = self._rehashed(_FACTS, int(self.s[k.FACTS]) * 27 // 20 + 4)
        heads = self._rehashed(_KEYS, int(self.s[k.KEYS]) * 27 // 20 + 4)
        base = Base(Arrays(heap, table, heads), self.symbols, tuple(self.sources), steps)
        frozen = Store(self.compiled, base, *_layer(), self.counts)
        frozen.s[k.TOTAL] = self.s[k.TOTAL]
        return frozen

    def grow(self, heap: int = 0, facts: int = 0, keys: int = 0, moved: int = 0) -> None:
        """Makes room in the layer for so many words, facts, index keys and moved rows in all."""
        if heap > len(self.heap):
            self._place_heap(longer(self.heap, heap))
        # The kernel asks for more where a table is 7/10 full, that of moved rows where it is half full.
        for i, wanted, share in ((_FACTS, facts, 0.7), (_KEYS, keys, 0.7), (_MOVED, moved, 0.5)):
            if wanted >= len(self.tables[i]) * share:
                self._place_table(i, self._rehashed(i, 3 * wanted + _SMALL))

    def complete(self) -> None:
        """Readies the indexes that only changes read."""
        if self.split and not self.s[k.LATE_HEADS_SIZE]:
            self.base.complete(self.compiled)
            self._place_late()

    def replace_tables(self, facts: k.Longs, keys: k.Longs) -> None:
        """Other tables of facts and keys for the layer."""
        self._place_table(_FACTS, facts)
        self._place_table(_KEYS, keys)

    def source_id(self, source: str) -> int:
        """The number of a source, a new one where it has none."""
        found = self.base.source_ids.get(source)
        if found is None:
            found = self.source_ids.get(source)
        if found is None:
            found = self.source_ids[source] = len(self.base.sources) + len(self.sources)
            self.sources.append(source)
        return found

    def source(self, number: int) -> str:
        first = len(self.base.sources)
        return self.base.sources[number] if number < first else self.sources[number - first]

    def find(self, predicate: int, args: Sequence[int]) -> int:
        """The row of a fact that holds, or -1; -1 among the arguments is in no fact."""
        row: int
        if len(args) == 2:
            row = k.find_pair(self.registers, predicate, *args)
        else:
            key = array("i", args)
            row = k.find_fact(self.registers, predicate, key.buffer_info()[0])
        return row

    def record(self, row: int) -> list[int]:
        """All words of a row."""
        heap, at = (self.base.arrays.heap, row) if row < self.split else (self.heap, row - self.split)
        words: list[int] = heap[at : at + self.compiled.sizes[heap.item(at) & k.PREDICATE]].tolist()
        return words

    def current(self, row: int) -> int:
        """The row that stands for the fact of ``row`` now: another one where a lower proof was found since."""
        words = self.record(row)
        if row < self.split and not self.s[k.MOVED_COUNT]:
            return row
        if row >= self.split and not words[0] & k.DEAD:
            return row
        predicate = words[0] & k.PREDICATE
        return self.find(predicate, words[k.ARGS : k.ARGS + self.compiled.arities[predicate]])

    def rows(self, predicate: int, pattern: Sequence[int]) -> k.Words:
        """Rows that hold and match a pattern (-1 matches all): of the base, then of the layer, as they were settled."""
        compiled = self.compiled
        given = [(i, symbol) for i, symbol in enumerate(pattern) if symbol >= 0]
        below = [self.base.rows_with(compiled, predicate, *each) for each in given] if self.split else []
        rows = min(below, key=len) if below else self.base.rows(compiled, predicate)
        wanted = array("i", pattern)
        return _gathered(
            k.matching,
            (self.registers, predicate, address(rows), len(rows), self.split, wanted.buffer_info()[0]),
            room=len(rows) + 64,
        )

    def rows_since(self, predicate: int, start: int) -> k.Words:
        """Rows of a predicate that hold, of the layer from row ``start`` on."""
        anything = array("i", [-1] * self.compiled.arities[predicate])
        return _gathered(k.matching, (self.registers, predicate, 0, 0, start, anything.buffer_info()[0]))

    def fresh_rows(self) -> k.Words:
        """Rows of facts that hold and did not before the last update."""
        return _gathered(k.fresh_rows, (self.registers,))

    def collect(self, predicate: int, keys: k.Words) -> k.Words:
        """Rows of a predicate that hold and begin with any of the keys int32[n, positions] its index is by."""
        positions = tuple(range(keys.shape[1]))
        index = self.compiled.index_of[predicate, positions]
        return _gathered(k.collect, (self.registers, index, address(keys), keys.shape[1], len(keys)))

    def words(self, rows: k.Words, offset: int) -> k.Words:
        """One word of each row's record, int32[n]."""
        if not self.s[k.HEAP_USED]:
            found: k.Words = self.base.arrays.heap[rows + np.int32(offset)]
            return found
        below = rows < self.split
        out = np.empty(len(rows), _WORDS)
        out[below] = self.base.arrays.heap[rows[below] + np.int32(offset)]
        out[~below] = self.heap[rows[~below] + np.int32(offset - self.split)]
        return out

    def arguments(self, predicate: int, rows: k.Words) -> k.Words:
        """Arguments int32[n, arity] of rows of a predicate."""
        out = np.empty((len(rows), self.compiled.arities[predicate]), _WORDS)
        for position in range(out.shape[1]):
            out[:, position] = self.words(rows, k.ARGS + position)
        return out

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that hold facts, proofs and indexes; names and what queries made excluded."""
        arrays = self.base.arrays
        late = self.base.late_heads
        tables = sum(table.nbytes for table in (arrays.table, arrays.heads, late, *self.tables, self.counts))
        return arrays.heap.nbytes + self.heap.nbytes + tables

    def _place_heap(self, heap: k.Words) -> None:
        """Another heap for the layer. The one before must outlive the registers that name it."""
        self.s[k.OVER_HEAP], self.s[k.OVER_HEAP_SIZE] = address(heap), len(heap)
        self.heap = heap

    def _place_table(self, i: int, table: k.Longs) -> None:
        register = _REGISTERS[i]
        self.s[register], self.s[register + 1] = address(table), len(table)
        self.tables[i] = table

    def _place_late(self) -> None:
        heads = self.base.late_heads
        self.s[k.LATE_HEADS], self.s[k.LATE_HEADS_SIZE] = address(heads), len(heads)

    def _rehashed(self, i: int, size: int) -> k.Longs:
        return _rehashed(self.tables[i], size, k.rehash_moved if i == _MOVED else k.rehash)


def empty_table(size: int) -> k.Longs:
    """A hash table of so many slots."""
    return np.full(size, k.NOTHING, _LONGS)


def _rehashed(table: k.Longs, size: int, copy: Callable[..., None] = k.rehash) -> k.Longs:
    other = empty_table(size)
    copy(address(table), len(table), address(other), size)
    return other


def longer(array_: k.Words, size: int, fill: int = 0) -> k.Words:
    """The array with room for ``size`` rows."""
    grown = np.full((size, *array_.shape[1:]), fill, _WORDS) if fill else np.empty((size, *array_.shape[1:]), _WORDS)
    grown[: len(array_)] = array_
    return grown


def _layer() -> tuple[k.Words, list[k.Longs]]:
    return np.empty(16 * _SMALL, _WORDS), [empty_table(4 * _SMALL), empty_table(4 * _SMALL), empty_table(_SMALL)]


def _gathered(function: Callable[..., int], args: tuple[int, ...], room: int = 256) -> k.Words:
    """Rows that a kernel function writes to a buffer, in a second go where the first guess was too short."""
    while True:
        out = np.empty(room, _WORDS)
        count = int(function(*args, address(out), room))
        if count <= room:
            return out[:count]
        room = count


def _rows_by_predicate(compiled: Compiled, heap: k.Words) -> tuple[k.Words, list[int]]:
    counts = np.zeros(len(compiled.names) + 1, _LONGS)
    args = compiled.registers[k.PREDICATES], address(heap), len(heap), address(counts)
    k.rows_by_predicate(*args, 0)
    starts = np.concatenate([[0], np.cumsum(counts[:-1])])
    rows = np.empty(int(starts[-1]), _WORDS)
    counts[:] = starts
    k.rows_by_predicate(*args, address(rows))
    return rows, starts.tolist()
