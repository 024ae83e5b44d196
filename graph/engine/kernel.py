"""The loops of evaluation, compiled by numba: one interpreter of join plans over facts kept as records.

A fact is a record of 32-bit words in one array, the heap: its predicate and state, the height of its proof, why it
holds, its arguments, the premises of its proof, and for each index of its predicate the next fact with the same key. A
row is the position of a record, so a row is a fact's name for as long as the fact keeps its proof.

Rows stand in two heaps. That of the base is never written and shared by many graphs; that of the layer over it belongs
to one of them and grows. Rows below ``s[SPLIT]`` are of the base; what happens to those is noted in ``moved``.

Facts are settled in order of proof height, each firing the plans it can take part in (Knuth's generalisation of
Dijkstra's algorithm, 1977): a list of rows for each height, and no cost for a round. Every function that may run long
stops where an array is full or the budget of steps is spent, with all it needs to go on in its registers ``s``.

Tables of code (see plan.py), heaps, hash tables and what an update needs are found through addresses in ``s`` too.

One file on purpose: numba's cache of compiled code knows when this file changed, not when one it imports did.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# ruff: noqa: SIM102, SIM110  (generators do not compile)

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from graph.engine.memory import doubles, fetch, longs, pair, words

Words: TypeAlias = NDArray[np.int32]
Longs: TypeAlias = NDArray[np.int64]

# Registers that hold addresses and sizes. Of the program: predicates [n + 1, 5], indexes [n, 5], rules [n, 2],
# plans [n, 13], plans_of [3 kinds of trigger, layers, predicates, 3], steps [n, 10], and lists those point into.
PREDICATES, INDEXES, RULES, PLANS, PLANS_OF, STEPS, LISTS, LAYERS, PREDICATE_COUNT, INDEX_BITS = range(10)
# Of the base: heap, hash table of facts, hash table of index keys (newest row with the key).
SPLIT, BASE_HEAP, BASE_TABLE, BASE_TABLE_SIZE, BASE_HEADS, BASE_HEADS_SIZE = range(10, 16)
# Of the layer over it: the same, a hash table of base rows that are gone, and the number of facts by predicate.
OVER_HEAP, OVER_HEAP_SIZE, TABLE, TABLE_SIZE, HEADS, HEADS_SIZE, MOVED, MOVED_SIZE, COUNTS = range(16, 25)
# Of an update: bindings of the plan that fires, rows waiting [n, 2: row, next] in lists by height [n, 2: first, last],
# rows taken away, rows replaced by one with a lower proof, and the values of symbols (NaN for what is no number).
(
    ENV, CURSOR, MATCHED, KEY, QUEUE, QUEUE_SIZE, BUCKETS, BUCKETS_SIZE, GONE, GONE_SIZE, REPLACED, REPLACED_SIZE,
    NUMBERS_BELOW, BELOW_COUNT, NUMBERS,
) = range(25, 40)  # fmt: skip
# Registers that count.
(
    HEAP_USED, FACTS, KEYS, MOVED_COUNT, TOTAL, QUEUED, GONE_COUNT, REPLACED_COUNT,
) = range(40, 48)  # fmt: skip
# Registers that say where an update stands.
(
    LIMIT, START, LAYER, PHASE, PART, AT, END, CURRENT, TOP, ROW, NEXT_PLAN, LAST_PLAN, PLAN, STEP, DOWN, BUDGET,
    WANTED, BLAMED, SLOTS, HOP,
) = range(48, 68)  # fmt: skip
# Of the base again: a hash table of the keys of late indexes, which only changes read (see plan.py).
LATE_HEADS, LATE_HEADS_SIZE = range(68, 70)
REGISTERS = 70
AHEAD = 16
FAR = 1 << 16  # slots of a table that no longer lies in the processor's own cache

# Columns of the program's tables.
P_ARITY, P_SIZE, P_PREMISES, P_NEXT, P_INDEX, P_WIDTH = 0, 1, 2, 3, 4, 5
I_PREDICATE, I_NEXT, I_LIST, I_COUNT, I_LATE, I_WIDTH = 0, 1, 2, 3, 4, 5
R_RISE, R_BODY, R_WIDTH = 0, 1, 2
(
    PLAN_RULE, PLAN_STEP, PLAN_ATOM, PLAN_BINDS, PLAN_BIND, PLAN_CHECKS, PLAN_CHECK, PLAN_CONSTANTS, PLAN_CONSTANT,
    PLAN_GUARDS, PLAN_GUARD, PLAN_HOP, PLAN_ALIKE, PLAN_WIDTH,
) = range(14)  # fmt: skip
S_KIND, S_BACK, S_WHAT, S_ATOM, S_KEYS, S_KEY, S_BINDS, S_BIND, S_CHECKS, S_CHECK, S_WIDTH = range(11)

# Where ``hop`` takes a word from.
OF_TRIGGER, OF_PROBED, CONSTANT = 0, 1, 2

# Kinds of steps, and of triggers.
PROBE, MEMBER, ABSENT, COMPARE, EMIT = 0, 1, 2, 3, 4
POSITIVE, NEGATED, GOAL = 0, 1, 2
UNEQUAL, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL = 0, 1, 2, 3, 4

# Words of a record. The first holds the predicate, the layer that fired it last (from bit 16) and its state.
HEAD, HEIGHT, WHY, ARGS = 0, 1, 2, 3
PREDICATE, LAYER_SHIFT, LAYER_MASK = 0xFFFF, 16, 0xFF
SETTLED, DYING, DEAD, EXISTED, REPLACES = 1 << 24, 1 << 25, 1 << 26, 1 << 27, 1 << 28

# Phases of an update, layer by layer.
CONDEMN, RESTORE, DERIVE = 0, 1, 2
# How a function ended.
DONE, FULL, PAUSED, OVER_LIMIT = 0, 1, 2, 3

NOTHING = -1
_NEVER = 1 << 40
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_ONE = np.uint64(1)
_SHIFT = np.uint64(32)
_LOW = 0xFFFFFFFF


@njit(cache=True, nogil=True)
def mix(seed, key, n):
    """A 32-bit hash of ``n`` words, as uint64."""
    h = (np.uint64(seed) + _ONE) * _MULTIPLIER
    if n > 0:
        h = (h ^ (h >> _SHIFT) ^ np.uint64(key[0])) * _MULTIPLIER
    if n > 1:
        h = (h ^ (h >> _SHIFT) ^ np.uint64(key[1])) * _MULTIPLIER
    for i in range(2, n):
        h = (h ^ (h >> _SHIFT) ^ np.uint64(key[i])) * _MULTIPLIER
    h = (h ^ (h >> _SHIFT)) * _MULTIPLIER
    return h >> _SHIFT


@njit(cache=True, nogil=True)
def mix_few(seed, a, b, c, n):
    """As ``mix`` for one word to three."""
    h = (np.uint64(seed) + _ONE) * _MULTIPLIER
    h = (h ^ (h >> _SHIFT) ^ np.uint64(a)) * _MULTIPLIER
    if n > 1:
        h = (h ^ (h >> _SHIFT) ^ np.uint64(b)) * _MULTIPLIER
    if n > 2:
        h = (h ^ (h >> _SHIFT) ^ np.uint64(c)) * _MULTIPLIER
    h = (h ^ (h >> _SHIFT)) * _MULTIPLIER
    return h >> _SHIFT


@njit(cache=True, nogil=True)
def key_mix(s, index, key, n):
    """As ``mix`` for a key of an index. The number of the index is part of it, so no two indexes share an entry."""
    bits = np.uint64(s[INDEX_BITS])
    return (mix(index, key, n) >> bits << bits) | np.uint64(index)


@njit(cache=True, nogil=True)
def home(tag, size):
    """The slot a tag belongs in. It grows with the tag: a table is grown by one walk from its start to its end."""
    return np.int64((tag * np.uint64(size)) >> _SHIFT)


@njit(cache=True, nogil=True)
def entry(tag, row):
    return np.int64((tag << _SHIFT) | np.uint64(row))


@njit(cache=True, nogil=True)
def tag_of(item):
    return np.uint64(item) >> _SHIFT


@njit(cache=True, nogil=True)
def row_tag(row):
    return (np.uint64(row) * _MULTIPLIER) >> _SHIFT


@njit(cache=True, nogil=True)
def free_slot(table, size, tag):
    slot = home(tag, size)
    while table[slot] != NOTHING:
        slot += 1
        if slot == size:
            slot = 0
    return slot


@njit(cache=True, nogil=True)
def rehash(old_address, old_size, address, size):
    """Copies the entries of one table into an empty other one."""
    old, table = longs(old_address), longs(address)
    for slot in range(old_size):
        if old[slot] != NOTHING:
            table[free_slot(table, size, tag_of(old[slot]))] = old[slot]


@njit(cache=True, nogil=True)
def rehash_moved(old_address, old_size, address, size):
    """As ``rehash`` for a table of moved rows."""
    old, table = longs(old_address), longs(address)
    for slot in range(old_size):
        if old[slot] != NOTHING:
            table[free_slot(table, size, row_tag(old[slot] & _LOW))] = old[slot]


@njit(cache=True, nogil=True)
def arity_of(s, predicate):
    return words(s[PREDICATES])[predicate * P_WIDTH + P_ARITY]


@njit(cache=True, nogil=True)
def size_of(s, predicate):
    return words(s[PREDICATES])[predicate * P_WIDTH + P_SIZE]


@njit(cache=True, nogil=True)
def has_args(heap, at, key, n):
    for i in range(n):
        if heap[at + ARGS + i] != key[i]:
            return False
    return True


@njit(cache=True, nogil=True)
def moved_state(s, row):
    """DYING or DEAD for a base row that the layer over it took away, else 0."""
    if s[MOVED_COUNT] == 0:
        return 0
    moved, size = longs(s[MOVED]), s[MOVED_SIZE]
    slot = home(row_tag(row), size)
    while moved[slot] != NOTHING:
        if moved[slot] & _LOW == row:
            return moved[slot] >> 32 << 24
        slot += 1
        if slot == size:
            slot = 0
    return 0


@njit(cache=True, nogil=True)
def set_state(s, row, state):
    """Marks a settled row DYING or DEAD, or as holding (0)."""
    if row >= s[SPLIT]:
        heap, at = words(s[OVER_HEAP]), row - s[SPLIT]
        heap[at] = (heap[at] & ~(DYING | DEAD)) | state
        return
    moved, size = longs(s[MOVED]), s[MOVED_SIZE]
    slot = home(row_tag(row), size)
    while moved[slot] != NOTHING and moved[slot] & _LOW != row:
        slot += 1
        if slot == size:
            slot = 0
    if moved[slot] == NOTHING:
        s[MOVED_COUNT] += 1
    moved[slot] = (state >> 24 << 32) | row


@njit(cache=True, nogil=True)
def word(s, row, offset):
    if row < s[SPLIT]:
        return words(s[BASE_HEAP])[row + offset]
    return words(s[OVER_HEAP])[row - s[SPLIT] + offset]


@njit(cache=True, nogil=True)
def state_of(s, row):
    """The state of a settled row: DYING, DEAD or neither."""
    if row < s[SPLIT]:
        return moved_state(s, row)
    return words(s[OVER_HEAP])[row - s[SPLIT]] & (DYING | DEAD)


@njit(cache=True, nogil=True)
def find_in(s, heap, table, size, split, predicate, key, n, tag, hidden):
    """The settled row of a fact in one hash table that is in none of the ``hidden`` states, or -1."""
    if size == 0:
        return NOTHING
    slot = home(tag, size)
    while table[slot] != NOTHING:
        if tag_of(table[slot]) == tag:
            row = table[slot] & _LOW
            at = row - split
            if heap[at] & PREDICATE == predicate and has_args(heap, at, key, n) and heap[at] & SETTLED:
                if state_of(s, row) & hidden == 0:
                    return row
        slot += 1
        if slot == size:
            slot = 0
    return NOTHING


@njit(cache=True, nogil=True)
def find_below(s, predicate, key, n, tag, hidden):
    heap, table = words(s[BASE_HEAP]), longs(s[BASE_TABLE])
    return find_in(s, heap, table, s[BASE_TABLE_SIZE], 0, predicate, key, n, tag, hidden)


@njit(cache=True, nogil=True)
def find(s, predicate, key, hidden):
    """The row of the fact with these arguments that is in none of the ``hidden`` states, or -1."""
    n = arity_of(s, predicate)
    tag = mix(predicate, key, n)
    heap, table = words(s[OVER_HEAP]), longs(s[TABLE])
    row = find_in(s, heap, table, s[TABLE_SIZE], s[SPLIT], predicate, key, n, tag, hidden)
    return row if row >= 0 else find_below(s, predicate, key, n, tag, hidden)


@njit(cache=True, nogil=True)
def find_fact(registers, predicate, key):
    """The row of the fact with the arguments at address ``key`` where it holds, else -1."""
    return find(longs(registers), predicate, words(key), DYING | DEAD)


@njit(cache=True, nogil=True)
def find_pair(registers, predicate, a, b):
    """As ``find_fact`` for two arguments, which most facts have: what goes around the kernel is half of a lookup."""
    return find(longs(registers), predicate, pair(a, b), DYING | DEAD)


@njit(cache=True, nogil=True)
def find_same(s, row):
    """The row that now stands for the fact of ``row``, or -1 where it no longer holds."""
    if state_of(s, row) == 0:
        return row
    predicate = word(s, row, HEAD) & PREDICATE
    key = words(s[KEY])
    for i in range(arity_of(s, predicate)):
        key[i] = word(s, row, ARGS + i)
    return find(s, predicate, key, DYING | DEAD)


@njit(cache=True, nogil=True)
def head_slot(s, heap, heads, size, split, index, key, n, tag):
    """The slot of a key in one table of index keys: that of its newest row, or a free one."""
    indexes = words(s[INDEXES])
    positions, predicate = indexes[index * I_WIDTH + I_LIST], indexes[index * I_WIDTH + I_PREDICATE]
    lists = words(s[LISTS])
    slot = home(tag, size)
    while heads[slot] != NOTHING:
        if tag_of(heads[slot]) == tag:
            at = (heads[slot] & _LOW) - split
            same = heap[at] & PREDICATE == predicate
            for i in range(n):
                same = same and heap[at + ARGS + lists[positions + i]] == key[i]
            if same:
                break
        slot += 1
        if slot == size:
            slot = 0
    return slot


@njit(cache=True, nogil=True)
def head_below(s, index, key, n, tag):
    is_late = words(s[INDEXES])[index * I_WIDTH + I_LATE]
    size = s[LATE_HEADS_SIZE] if is_late else s[BASE_HEADS_SIZE]
    if size == 0:
        return NOTHING
    heads = longs(s[LATE_HEADS]) if is_late else longs(s[BASE_HEADS])
    item = heads[head_slot(s, words(s[BASE_HEAP]), heads, size, 0, index, key, n, tag)]
    return NOTHING if item == NOTHING else item & _LOW


@njit(cache=True, nogil=True)
def first_row(s, index, key, n):
    """The newest row with a key of an index, or -1."""
    tag = key_mix(s, index, key, n)
    heads = longs(s[HEADS])
    item = heads[head_slot(s, words(s[OVER_HEAP]), heads, s[HEADS_SIZE], s[SPLIT], index, key, n, tag)]
    return head_below(s, index, key, n, tag) if item == NOTHING else item & _LOW


@njit(cache=True, nogil=True)
def next_row(s, index, row, key, n):
    """The row after ``row`` with the same key; after the last of the layer the first of the base."""
    offset = words(s[INDEXES])[index * I_WIDTH + I_NEXT]
    if row < s[SPLIT]:
        return words(s[BASE_HEAP])[row + offset]
    after = words(s[OVER_HEAP])[row - s[SPLIT] + offset]
    if after < 0 and s[BASE_HEADS_SIZE]:
        return head_below(s, index, key, n, key_mix(s, index, key, n))
    return after


@njit(cache=True, nogil=True)
def shown(s, row, hidden, start):
    """Whether a firing may match the row. From row ``start`` on only what the current layer has fired itself: so each
    combination of new rows is found once, by the last of them."""
    if row < s[SPLIT]:
        return moved_state(s, row) & hidden == 0
    state = words(s[OVER_HEAP])[row - s[SPLIT]]
    if state & hidden:
        return False
    return row < start or (state >> LAYER_SHIFT) & LAYER_MASK == s[LAYER]


@njit(cache=True, nogil=True)
def wait(s, row, height):
    """Puts the row at the end of its height's list."""
    queue, buckets, at = words(s[QUEUE]), words(s[BUCKETS]), s[QUEUED]
    queue[2 * at] = row
    queue[2 * at + 1] = NOTHING
    if buckets[2 * height] < 0:
        buckets[2 * height] = at
    else:
        queue[2 * buckets[2 * height + 1] + 1] = at
    buckets[2 * height + 1] = at
    s[QUEUED] = at + 1
    s[TOP] = max(s[TOP], height)


@njit(cache=True, nogil=True)
def has_room(s, predicate, height):
    return (
        s[HEAP_USED] + size_of(s, predicate) <= s[OVER_HEAP_SIZE]
        and s[FACTS] * 10 < s[TABLE_SIZE] * 7
        and s[QUEUED] < s[QUEUE_SIZE]
        and height < s[BUCKETS_SIZE]
    )


@njit(cache=True, nogil=True)
def enter(s, predicate, slot, tag, existed, replaces):
    """A new record, entered in the table: where it lies in the heap. The caller has made sure of room."""
    at = s[HEAP_USED]
    s[HEAP_USED] = at + size_of(s, predicate)
    words(s[OVER_HEAP])[at] = predicate | existed | replaces
    longs(s[TABLE])[slot] = entry(tag, at + s[SPLIT])
    s[FACTS] += 1
    if not existed:
        s[TOTAL] += 1
    return at


@njit(cache=True, nogil=True)
def offer(s, predicate, key, height, why, premises, n_premises):
    """The fact of ``key`` with a proof of ``height``: kept where none so low is known. DONE, FULL or OVER_LIMIT."""
    n = arity_of(s, predicate)
    tag = mix(predicate, key, n)
    heap, table, size, split = words(s[OVER_HEAP]), longs(s[TABLE]), s[TABLE_SIZE], s[SPLIT]
    existed, replaces, at = 0, 0, NOTHING
    slot = home(tag, size)
    while table[slot] != NOTHING:
        if tag_of(table[slot]) == tag:
            found = (table[slot] & _LOW) - split
            state = heap[found]
            if state & PREDICATE == predicate and state & DEAD == 0 and has_args(heap, found, key, n):
                if state & DYING:
                    existed = EXISTED
                elif heap[found + HEIGHT] <= height:
                    return DONE
                elif state & SETTLED:
                    existed, replaces = EXISTED, REPLACES
                else:
                    at = found
                    break
        slot += 1
        if slot == size:
            slot = 0
    if at < 0 and s[BASE_TABLE_SIZE]:
        below = find_below(s, predicate, key, n, tag, DEAD)
        if below >= 0:
            existed = EXISTED
            if moved_state(s, below) == 0:
                if words(s[BASE_HEAP])[below + HEIGHT] <= height:
                    return DONE
                replaces = REPLACES
    if not has_room(s, predicate, height):
        s[WANTED] = height
        return FULL
    if at < 0:
        if not existed and s[TOTAL] >= s[LIMIT]:
            s[BLAMED] = predicate
            return OVER_LIMIT
        at = enter(s, predicate, slot, tag, existed, replaces)
        for i in range(n):
            heap[at + ARGS + i] = key[i]
    heap[at + HEIGHT] = height
    heap[at + WHY] = why
    for i in range(n_premises):
        heap[at + ARGS + n + i] = premises[i]
    wait(s, at + split, height)
    return DONE


@njit(cache=True, nogil=True)
def key_of(s, heap, at, index, key):
    """Writes the key of a record in an index to ``key``: of how many words."""
    indexes, lists = words(s[INDEXES]), words(s[LISTS])
    n, positions = indexes[index * I_WIDTH + I_COUNT], indexes[index * I_WIDTH + I_LIST]
    for i in range(n):
        position = lists[positions + i]
        if position < 0:
            break
        key[i] = heap[at + ARGS + position]
    return n


@njit(cache=True, nogil=True)
def enlist(s, heap, heads, size, split, index, row, key):
    """Puts a row first in the list of its key of an index. Whether the key is new."""
    at = row - split
    n = key_of(s, heap, at, index, key)
    tag = key_mix(s, index, key, n)
    slot = head_slot(s, heap, heads, size, split, index, key, n, tag)
    before = heads[slot]
    heads[slot] = entry(tag, row)
    heap[at + words(s[INDEXES])[index * I_WIDTH + I_NEXT]] = NOTHING if before == NOTHING else before & _LOW
    return before == NOTHING


@njit(cache=True, nogil=True)
def look_ahead(s, at):
    """Has the processor fetch where the index keys of the row at place ``at`` of the queue will be looked up."""
    if at >= s[QUEUED]:
        return
    heap, heads, size, key = words(s[OVER_HEAP]), longs(s[HEADS]), s[HEADS_SIZE], words(s[KEY])
    row = words(s[QUEUE])[2 * at] - s[SPLIT]
    predicates, indexes = words(s[PREDICATES]), words(s[INDEXES])
    first = (heap[row] & PREDICATE) * P_WIDTH + P_INDEX
    for index in range(predicates[first], predicates[first + P_WIDTH]):
        if s[START] or not indexes[index * I_WIDTH + I_LATE]:
            n = key_of(s, heap, row, index, key)
            fetch(heads, home(key_mix(s, index, key, n), size))


@njit(cache=True, nogil=True)
def settle(s, row):
    """Makes a waiting row a fact that joins see. The caller has made sure of room."""
    heap, heads, at, key = words(s[OVER_HEAP]), longs(s[HEADS]), row - s[SPLIT], words(s[KEY])
    predicate = heap[at] & PREDICATE
    if heap[at] & REPLACES:
        for i in range(arity_of(s, predicate)):
            key[i] = heap[at + ARGS + i]
        old = find(s, predicate, key, DYING | DEAD)
        if old >= 0:
            set_state(s, old, DEAD)
            words(s[REPLACED])[s[REPLACED_COUNT]] = old
            s[REPLACED_COUNT] += 1
    elif heap[at] & EXISTED == 0:
        longs(s[COUNTS])[predicate] += 1
    heap[at] |= SETTLED
    predicates, indexes = words(s[PREDICATES]), words(s[INDEXES])
    first, last = predicates[predicate * P_WIDTH + P_INDEX], predicates[(predicate + 1) * P_WIDTH + P_INDEX]
    for index in range(first, last):
        if s[START] or not indexes[index * I_WIDTH + I_LATE]:
            s[KEYS] += enlist(s, heap, heads, s[HEADS_SIZE], s[SPLIT], index, row, key)


@njit(cache=True, nogil=True)
def complete(registers, heap_address, used, heads_address, size, key_address):
    """Enters the settled facts of a base in the late indexes, an empty table of keys: how many, or -1 for too many."""
    s, heap, heads, key = longs(registers), words(heap_address), longs(heads_address), words(key_address)
    predicates, indexes = words(s[PREDICATES]), words(s[INDEXES])
    at, keys = 0, 0
    while at < used:
        first = (heap[at] & PREDICATE) * P_WIDTH
        for index in range(predicates[first + P_INDEX], predicates[first + P_WIDTH + P_INDEX]):
            if heap[at] & SETTLED and indexes[index * I_WIDTH + I_LATE]:
                if keys * 10 >= size * 7:
                    return NOTHING
                keys += enlist(s, heap, heads, size, 0, index, at, key)
        at += predicates[first + P_SIZE]
    return keys


@njit(cache=True, nogil=True)
def same_fact(s, one, other):
    if one == other:
        return True
    predicate = word(s, one, HEAD) & PREDICATE
    if predicate != word(s, other, HEAD) & PREDICATE:
        return False
    for i in range(arity_of(s, predicate)):
        if word(s, one, ARGS + i) != word(s, other, ARGS + i):
            return False
    return True


@njit(cache=True, nogil=True)
def condemn(s, predicate, key, why, n_premises):
    """Takes away the fact of ``key`` where this instance of a rule is the proof kept of it. DONE or FULL."""
    row = find(s, predicate, key, DYING | DEAD)
    if row < 0 or word(s, row, WHY) != why:
        return DONE
    premises, matched = words(s[PREDICATES])[predicate * P_WIDTH + P_PREMISES], words(s[MATCHED])
    for i in range(n_premises):
        if not same_fact(s, word(s, row, premises + i), matched[i]):
            return DONE
    if s[GONE_COUNT] == s[GONE_SIZE] or s[MOVED_COUNT] * 2 >= s[MOVED_SIZE]:
        return FULL
    set_state(s, row, DYING)
    words(s[GONE])[s[GONE_COUNT]] = row
    s[GONE_COUNT] += 1
    return DONE


@njit(cache=True, nogil=True)
def number(s, symbol):
    if symbol < s[BELOW_COUNT]:
        return doubles(s[NUMBERS_BELOW])[symbol]
    return doubles(s[NUMBERS])[symbol - s[BELOW_COUNT]]


@njit(cache=True, nogil=True)
def compare(s, operator, left, right):
    if operator == UNEQUAL:
        return left != right
    a, b = number(s, left), number(s, right)
    if operator == LESS:
        return a < b
    if operator == LESS_EQUAL:
        return a <= b
    if operator == GREATER:
        return a > b
    return a >= b


@njit(cache=True, nogil=True)
def agrees(s, row, at, n, env):
    """Whether the row has what ``env`` holds, for ``n`` pairs (slot, position) of the lists."""
    if n == 0:
        return True
    lists = words(s[LISTS])
    for i in range(n):
        if env[lists[at + 2 * i]] != word(s, row, ARGS + lists[at + 2 * i + 1]):
            return False
    return True


@njit(cache=True, nogil=True)
def bind(s, row, at, n, env):
    lists, heap = words(s[LISTS]), words(s[BASE_HEAP])
    if row >= s[SPLIT]:
        heap, row = words(s[OVER_HEAP]), row - s[SPLIT]
    for i in range(n):
        slot = lists[at + 2 * i]
        if slot < 0:  # never: a loop with a way out is not made one of vectors, whose preparations cost more than it
            break
        env[slot] = heap[row + ARGS + lists[at + 2 * i + 1]]


@njit(cache=True, nogil=True)
def gather(key, env, lists, at, n):
    """Writes what ``env`` holds in ``n`` slots of the lists to ``key``. The way out is as in ``bind``."""
    for i in range(n):
        slot = lists[at + i]
        if slot < 0:
            break
        key[i] = env[slot]


@njit(cache=True, nogil=True)
def none_matches(s, step, key, n):
    """Whether no fact that holds matches a negated atom. Its checks are pairs of positions that must be equal."""
    steps, lists = words(s[STEPS]), words(s[LISTS])
    index, at, checks = steps[step + S_WHAT], steps[step + S_CHECKS], steps[step + S_CHECK]
    row = first_row(s, index, key, n)
    while row >= 0:
        same = state_of(s, row) == 0
        for i in range(checks):
            left = word(s, row, ARGS + lists[at + 2 * i])
            same = same and left == word(s, row, ARGS + lists[at + 2 * i + 1])
        if same:
            return False
        row = next_row(s, index, row, key, n)
    return True


@njit(cache=True, nogil=True)
def emit(s, predicate, key, rule, matched):
    """Hands on the conclusion of a plan that matched. DONE, FULL or OVER_LIMIT."""
    rules = words(s[RULES])
    body = rules[rule * R_WIDTH + R_BODY]
    if s[PHASE] == CONDEMN:
        return condemn(s, predicate, key, rule, body)
    height = 0
    for i in range(body):
        height = max(height, word(s, matched[i], HEIGHT))
    return offer(s, predicate, key, height + rules[rule * R_WIDTH + R_RISE], rule, matched, body)


@njit(cache=True, nogil=True)
def prepare(s, step, row, env):
    """Has the processor fetch what the conclusions of the next rows of a probe will be looked up in. Changes nothing
    but slots of ``env`` that the probe binds anew for each row."""
    steps, lists, heap, base = words(s[STEPS]), words(s[LISTS]), words(s[OVER_HEAP]), words(s[BASE_HEAP])
    table, size, split = longs(s[TABLE]), s[TABLE_SIZE], s[SPLIT]
    emits = step + S_WIDTH
    predicate, keys, n = steps[emits + S_WHAT], steps[emits + S_KEYS], steps[emits + S_KEY]
    offset = words(s[INDEXES])[steps[step + S_WHAT] * I_WIDTH + I_NEXT]
    count, next_ = 0, row
    slots, keyed = longs(s[SLOTS]), words(s[SLOTS] + 8 * AHEAD)
    while next_ >= 0 and count < AHEAD:
        bind(s, next_, steps[step + S_BINDS], steps[step + S_BIND], env)
        gather(keyed, env, lists, keys, n)
        slot = home(mix(predicate, keyed, n), size)
        fetch(table, slot)
        slots[count] = slot
        count += 1
        next_ = base[next_ + offset] if next_ < split else heap[next_ - split + offset]
    for i in range(count):
        found = table[slots[i]]
        if found != NOTHING:
            fetch(heap, (found & _LOW) - split)
    return count


@njit(cache=True, nogil=True)
def fire(s):
    """Runs the plan in ``s[PLAN]`` from step ``s[STEP]``: depth first, one cursor for each atom it searches."""
    steps, lists, env, cursor = words(s[STEPS]), words(s[LISTS]), words(s[ENV]), words(s[CURSOR])
    matched, key = words(s[MATCHED]), words(s[KEY])
    ahead = 0
    rule = words(s[PLANS])[s[PLAN] * PLAN_WIDTH + PLAN_RULE]
    hidden = DEAD if s[PHASE] == CONDEMN else DYING | DEAD
    start = s[START] if s[PHASE] == DERIVE else _NEVER
    step, down, left = s[STEP], s[DOWN] != 0, s[BUDGET]
    status = DONE
    while step >= 0:
        left -= 1
        if left < 0:
            status = PAUSED
            break
        kind, what, keys, n = steps[step + S_KIND], steps[step + S_WHAT], steps[step + S_KEYS], steps[step + S_KEY]
        if kind == COMPARE:
            down = compare(s, what, env[keys], env[n])
        else:
            gather(key, env, lists, keys, n)
            if kind == PROBE:
                if down:
                    row, ahead = first_row(s, what, key, n), 0
                else:
                    row = next_row(s, what, cursor[step // S_WIDTH], key, n)
                    ahead -= 1
                if ahead <= 0 and row >= 0 and steps[step + S_WIDTH + S_KIND] == EMIT:
                    ahead = prepare(s, step, row, env)
                while row >= 0:
                    if shown(s, row, hidden, start):
                        bind(s, row, steps[step + S_BINDS], steps[step + S_BIND], env)
                        if agrees(s, row, steps[step + S_CHECKS], steps[step + S_CHECK], env):
                            break
                    left -= 1
                    row = next_row(s, what, row, key, n)
                down = row >= 0
                if down:
                    cursor[step // S_WIDTH] = row
                    matched[steps[step + S_ATOM]] = row
            elif kind == EMIT:
                status = emit(s, what, key, rule, matched)
                if status != DONE:
                    down = True
                    break
                down = False
            elif kind == MEMBER:
                row = find(s, what, key, hidden)
                down = row >= 0 and shown(s, row, hidden, start)
                if down:
                    matched[steps[step + S_ATOM]] = row
            else:
                down = s[PHASE] == CONDEMN or none_matches(s, step, key, n)
        step = step + S_WIDTH if down else steps[step + S_BACK]
    s[STEP], s[DOWN], s[BUDGET] = step, 1 if down else 0, left
    if status == DONE:
        s[PLAN] = NOTHING
    return status


@njit(cache=True, nogil=True)
def begin(s, plan, row):
    """Readies the plan's firing on the row, unless the row does not fit its atom: then the plans after it that ask for
    the same first constant are skipped too."""
    env, lists, plans, at = words(s[ENV]), words(s[LISTS]), words(s[PLANS]), plan * PLAN_WIDTH
    guards, constants = plans[at + PLAN_GUARDS], plans[at + PLAN_CONSTANTS]
    for i in range(plans[at + PLAN_GUARD]):
        if word(s, row, ARGS + lists[guards + 2 * i]) != lists[guards + 2 * i + 1]:
            if i == 0:
                s[NEXT_PLAN] += plans[at + PLAN_ALIKE]
            return
    for i in range(plans[at + PLAN_CONSTANT]):
        slot = lists[constants + 2 * i]
        if slot < 0:
            break
        env[slot] = lists[constants + 2 * i + 1]
    bind(s, row, plans[at + PLAN_BINDS], plans[at + PLAN_BIND], env)
    if agrees(s, row, plans[at + PLAN_CHECKS], plans[at + PLAN_CHECK], env):
        if plans[at + PLAN_ATOM] >= 0:
            words(s[MATCHED])[plans[at + PLAN_ATOM]] = row
        s[PLAN], s[STEP], s[DOWN] = plan, plans[at + PLAN_STEP], 1


@njit(cache=True, nogil=True)
def conclude(s, predicate, a, b, c, n, tag, height, rule, trigger, row, other):
    """As ``offer`` for a fact of one argument to three, over an empty base, that follows from ``row`` as the
    ``trigger``-th premise and from ``other`` (from ``row`` alone where that is -1)."""
    heap, table, size = words(s[OVER_HEAP]), longs(s[TABLE]), s[TABLE_SIZE]
    slot, known = home(tag, size), NOTHING
    while table[slot] != NOTHING:
        if tag_of(table[slot]) == tag:
            found = table[slot] & _LOW
            if heap[found] & PREDICATE == predicate and heap[found + ARGS] == a:
                if (n < 2 or heap[found + ARGS + 1] == b) and (n < 3 or heap[found + ARGS + 2] == c):
                    known = found
                    break
        slot += 1
        if slot == size:
            slot = 0
    if known >= 0 and heap[known] & (DYING | DEAD) == 0 and heap[known + HEIGHT] <= height:
        return DONE
    if known < 0 and s[TOTAL] < s[LIMIT] and has_room(s, predicate, height):
        at = enter(s, predicate, slot, tag, 0, 0)
        heap[at + HEIGHT], heap[at + WHY], heap[at + ARGS] = height, rule, a
        if n > 1:
            heap[at + ARGS + 1] = b
        if n > 2:
            heap[at + ARGS + 2] = c
        heap[at + ARGS + n + trigger] = row
        if other >= 0:
            heap[at + ARGS + n + 1 - trigger] = other
        wait(s, at, height)
        return DONE
    key, matched = words(s[KEY]), words(s[MATCHED])
    key[0], key[1], key[2], matched[trigger], matched[1 - trigger] = a, b, c, row, other
    return offer(s, predicate, key, height, rule, matched, 2 if other >= 0 else 1)


@njit(cache=True, nogil=True)
def taken(heap, lists, at, row):
    """A word as a plan's places say it: a constant, or one of the row (0 for one of the row that is probed)."""
    return heap[row + lists[at + 1]] if lists[at] == OF_TRIGGER else lists[at + 1] if lists[at] == CONSTANT else 0


@njit(cache=True, nogil=True)
def hop(s, plan, row):
    """Fires a plan of at most one probe and a head of at most three, over an empty base: what ``begin`` and ``fire``
    do, without asking at each step what to do. DONE, or FULL or OVER_LIMIT, to go on from row ``s[HOP]``."""
    heap, lists, plans = words(s[OVER_HEAP]), words(s[LISTS]), words(s[PLANS])
    at = plan * PLAN_WIDTH
    guards = plans[at + PLAN_GUARDS]
    for i in range(plans[at + PLAN_GUARD]):
        if heap[row + ARGS + lists[guards + 2 * i]] != lists[guards + 2 * i + 1]:
            if i == 0:
                s[NEXT_PLAN] += plans[at + PLAN_ALIKE]
            return DONE
    rule, trigger, step = plans[at + PLAN_RULE], plans[at + PLAN_ATOM], plans[at + PLAN_STEP]
    at = plans[at + PLAN_HOP]
    keys, n, at = lists[at], lists[at + 1], at + 2
    heads = at + 2 * max(keys, 0)
    from_a, from_b, from_c = lists[heads] == OF_PROBED, False, False
    a, b, c = taken(heap, lists, heads, row), 0, 0
    place_a, place_b, place_c = lists[heads + 1], 0, 0
    if n > 1:
        from_b, place_b, b = lists[heads + 2] == OF_PROBED, lists[heads + 3], taken(heap, lists, heads + 2, row)
    if n > 2:
        from_c, place_c, c = lists[heads + 4] == OF_PROBED, lists[heads + 5], taken(heap, lists, heads + 4, row)
    rise, own, layer = words(s[RULES])[rule * R_WIDTH + R_RISE], heap[row + HEIGHT], s[LAYER]
    if keys < 0:
        predicate = words(s[STEPS])[step + S_WHAT]
        tag = mix_few(predicate, a, b, c, n)
        return conclude(s, predicate, a, b, c, n, tag, own + rise, rule, trigger, row, NOTHING)
    key, rows = words(s[KEY]), words(s[SLOTS])
    tags = longs(s[SLOTS] + 4 * AHEAD)
    table, size = longs(s[TABLE]), s[TABLE_SIZE]
    index, predicate = words(s[STEPS])[step + S_WHAT], words(s[STEPS])[step + S_WIDTH + S_WHAT]
    after, other = words(s[INDEXES])[index * I_WIDTH + I_NEXT], s[HOP]
    if other < 0:
        for i in range(keys):
            key[i] = taken(heap, lists, at + 2 * i, row)
        other = first_row(s, index, key, keys)
    # A fact of the trigger's own predicate fires this plan next: its key is looked up while its own place is.
    is_far = keys == 1 and s[HEADS_SIZE] > FAR and predicate == heap[row] & PREDICATE and lists[at] == OF_TRIGGER
    by = lists[at + 1] - ARGS
    while other >= 0:
        count = 0
        while other >= 0 and count < AHEAD:
            if heap[other] & (DYING | DEAD) == 0 and heap[other] >> LAYER_SHIFT & LAYER_MASK == layer:
                a = heap[other + place_a] if from_a else a
                b = heap[other + place_b] if from_b else b
                c = heap[other + place_c] if from_c else c
                tag = mix_few(predicate, a, b, c, n)
                fetch(table, home(tag, size))
                if is_far:
                    key[0] = a if by == 0 else b if by == 1 else c
                    fetch(longs(s[HEADS]), home(key_mix(s, index, key, 1), s[HEADS_SIZE]))
                rows[count], tags[count] = other, np.int64(tag)
                count += 1
            other = heap[other + after]
            s[BUDGET] -= 1
        for i in range(count):
            found = table[home(np.uint64(tags[i]), size)]
            if found != NOTHING:
                fetch(heap, found & _LOW)
        for i in range(count):
            a = heap[rows[i] + place_a] if from_a else a
            b = heap[rows[i] + place_b] if from_b else b
            c = heap[rows[i] + place_c] if from_c else c
            height = max(own, heap[rows[i] + HEIGHT]) + rise
            status = conclude(s, predicate, a, b, c, n, np.uint64(tags[i]), height, rule, trigger, row, rows[i])
            if status != DONE:
                s[HOP] = rows[i]
                return status
    return DONE


@njit(cache=True, nogil=True)
def select(s, row, kind):
    """Makes ``row`` the one that fires: plans of the current layer for one kind of trigger."""
    predicate = word(s, row, HEAD) & PREDICATE
    at = 3 * ((kind * s[LAYERS] + s[LAYER]) * s[PREDICATE_COUNT] + predicate)
    last = at + 2 if s[START] == 0 else at + 1
    s[ROW], s[NEXT_PLAN], s[LAST_PLAN] = row, words(s[PLANS_OF])[at], words(s[PLANS_OF])[last]


@njit(cache=True, nogil=True)
def next_fresh(s):
    """The next row that an earlier layer settled in this update and that holds, or -1."""
    heap = words(s[OVER_HEAP])
    while s[AT] < s[END]:
        row = s[AT]
        state = heap[row - s[SPLIT]]
        s[AT] += size_of(s, state & PREDICATE)
        if state & SETTLED and state & (DYING | DEAD) == 0:
            return row
    return NOTHING


@njit(cache=True, nogil=True)
def next_waiting(s):
    """Settles the next row in order of height: its row, -1 where none waits, or -2 where there is no room."""
    buckets, queue, heap, predicates = words(s[BUCKETS]), words(s[QUEUE]), words(s[OVER_HEAP]), words(s[PREDICATES])
    while s[CURRENT] <= s[TOP]:
        at = buckets[2 * s[CURRENT]]
        if at < 0:
            s[CURRENT] += 1
            continue
        row = queue[2 * at]
        state = heap[row - s[SPLIT]]
        # A row waits twice where a lower proof of it came later.
        is_next = state & SETTLED == 0 and heap[row - s[SPLIT] + HEIGHT] == s[CURRENT]
        if is_next:
            first = (state & PREDICATE) * P_WIDTH + P_INDEX
            keys = s[KEYS] + predicates[first + P_WIDTH] - predicates[first]
            room = s[MOVED_COUNT] * 2 < s[MOVED_SIZE] and s[REPLACED_COUNT] < s[REPLACED_SIZE]
            if keys * 10 > s[HEADS_SIZE] * 7 or not room:
                return NOTHING - 1
        buckets[2 * s[CURRENT]] = queue[2 * at + 1]
        if is_next:
            if s[HEADS_SIZE] > FAR:
                look_ahead(s, at + AHEAD // 2)
            settle(s, row)
            return row
    s[QUEUED], s[CURRENT], s[TOP] = 0, 0, NOTHING
    return NOTHING


@njit(cache=True, nogil=True)
def next_condemned(s):
    """Turns to what takes proofs away: facts new in lower layers under a ``not``, then all that is gone already."""
    if s[PART] == 0:
        row = next_fresh(s)
        if row >= 0:
            select(s, row, NEGATED)
            return True
        s[PART], s[AT] = 1, 0
    gone = words(s[GONE])
    while s[AT] < s[GONE_COUNT]:
        row = gone[s[AT]]
        s[AT] += 1
        # What came back with a proof as low as before changes nothing above.
        again = find_same(s, row)
        if again < 0 or word(s, again, HEIGHT) > word(s, row, HEIGHT):
            select(s, row, POSITIVE)
            return True
    return False


@njit(cache=True, nogil=True)
def next_derived(s):
    """Turns to what derives: facts new in lower layers, gone ones under a ``not``, then all that waits. -2 if full."""
    heap = words(s[OVER_HEAP])
    if s[PART] == 0:
        row = next_fresh(s)
        if row >= 0:
            at = row - s[SPLIT]
            heap[at] = (heap[at] & ~(LAYER_MASK << LAYER_SHIFT)) | (s[LAYER] << LAYER_SHIFT)
            select(s, row, POSITIVE)
            return row
        s[PART], s[AT] = 1, 0
    if s[PART] == 1:
        while s[AT] < s[GONE_COUNT]:
            row = words(s[GONE])[s[AT]]
            s[AT] += 1
            if find_same(s, row) < 0:
                select(s, row, NEGATED)
                return row
        s[PART] = 2
    row = next_waiting(s)
    if row >= 0:
        heap[row - s[SPLIT]] |= s[LAYER] << LAYER_SHIFT
        select(s, row, POSITIVE)
    return row


@njit(cache=True, nogil=True)
def advance(registers):
    """Goes on with phase ``s[PHASE]`` of layer ``s[LAYER]``: DONE, or why it stopped."""
    s = longs(registers)
    while True:
        if s[PLAN] >= 0:
            status = fire(s)
            if status != DONE:
                return status
        if s[NEXT_PLAN] < s[LAST_PLAN]:
            plan = s[NEXT_PLAN]
            if s[START] == 0 and s[PHASE] == DERIVE and words(s[PLANS])[plan * PLAN_WIDTH + PLAN_HOP] >= 0:
                status = hop(s, plan, s[ROW])
                if status != DONE:
                    return status
                s[HOP] = NOTHING
            else:
                begin(s, plan, s[ROW])
            s[NEXT_PLAN] += 1
            continue
        s[BUDGET] -= 1
        if s[BUDGET] < 0:
            return PAUSED
        if s[PHASE] == DERIVE:
            row = next_derived(s)
            if row < 0:
                return FULL if row < NOTHING else DONE
        elif s[PHASE] == CONDEMN:
            if not next_condemned(s):
                return DONE
        else:
            if s[AT] >= s[GONE_COUNT]:
                return DONE
            select(s, words(s[GONE])[s[AT]], GOAL)
            s[AT] += 1


@njit(cache=True, nogil=True)
def load(registers, predicate, rows, width, premises, n_premises, count):
    """Puts ``count`` facts, from ``s[AT]`` on, of ``width`` words (height, reason, arguments), with premises."""
    s = longs(registers)
    facts, links = words(rows), words(premises)
    key, mine = words(s[KEY]), words(s[MATCHED])
    while s[AT] < count:
        at = s[AT]
        if at + AHEAD < count:
            tag = mix(predicate, words(rows + 4 * ((at + AHEAD) * width + 2)), width - 2)
            fetch(longs(s[TABLE]), home(tag, s[TABLE_SIZE]))
        for i in range(width - 2):
            key[i] = facts[at * width + 2 + i]
        for i in range(n_premises):
            mine[i] = links[at * n_premises + i]
        status = offer(s, predicate, key, facts[at * width], facts[at * width + 1], mine, n_premises)
        if status != DONE:
            return status
        s[AT] += 1
    return DONE


@njit(cache=True, nogil=True)
def finish(registers):
    """Buries what is gone, and puts the rows whose facts no longer hold first in that list: how many those are."""
    s = longs(registers)
    gone, kept = words(s[GONE]), 0
    for i in range(s[GONE_COUNT]):
        row = gone[i]
        holds = find_same(s, row) >= 0
        set_state(s, row, DEAD)
        if not holds:
            longs(s[COUNTS])[word(s, row, HEAD) & PREDICATE] -= 1
            s[TOTAL] -= 1
            gone[i] = gone[kept]
            gone[kept] = row
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def withdraw(registers, row):
    """Takes a settled row away. The caller has made sure of room."""
    s = longs(registers)
    set_state(s, row, DYING)
    words(s[GONE])[s[GONE_COUNT]] = row
    s[GONE_COUNT] += 1


@njit(cache=True, nogil=True)
def roll_back(registers, table_address, heads_address):
    """Undoes an update that did not end: empty tables of the sizes in ``s`` get all but its rows, those their state."""
    s = longs(registers)
    old, old_heads, table, heads = longs(s[TABLE]), longs(s[HEADS]), longs(table_address), longs(heads_address)
    s[KEYS], s[FACTS] = 0, 0
    for slot in range(s[TABLE_SIZE]):
        if old[slot] != NOTHING and old[slot] & _LOW < s[START]:
            table[free_slot(table, s[TABLE_SIZE], tag_of(old[slot]))] = old[slot]
            s[FACTS] += 1
    for slot in range(s[HEADS_SIZE]):
        if old_heads[slot] != NOTHING:
            tag, row = tag_of(old_heads[slot]), old_heads[slot] & _LOW
            index = np.int64(tag) & ((1 << s[INDEX_BITS]) - 1)
            while row >= s[START]:
                row = words(s[OVER_HEAP])[row - s[SPLIT] + words(s[INDEXES])[index * I_WIDTH + I_NEXT]]
            if row >= s[SPLIT]:
                heads[free_slot(heads, s[HEADS_SIZE], tag)] = entry(tag, row)
                s[KEYS] += 1
    for i in range(s[GONE_COUNT]):
        set_state(s, words(s[GONE])[i], 0)
    for i in range(s[REPLACED_COUNT]):
        set_state(s, words(s[REPLACED])[i], 0)
    s[HEAP_USED] = s[START] - s[SPLIT]


@njit(cache=True, nogil=True)
def keep(found, room, count, row):
    if count < room:
        found[count] = row
    return count + 1


@njit(cache=True, nogil=True)
def collect(registers, index, keys, n, count, out, room):
    """Rows that hold with any of ``count`` keys [n] of an index: how many; the first ``room`` go to ``out``."""
    s = longs(registers)
    found, total = words(out), 0
    for i in range(count):
        key = words(keys + 4 * n * i)
        row = first_row(s, index, key, n)
        while row >= 0:
            if state_of(s, row) == 0:
                total = keep(found, room, total, row)
            row = next_row(s, index, row, key, n)
    return total


@njit(cache=True, nogil=True)
def matches(s, row, n, pattern):
    for i in range(n):
        if pattern[i] >= 0 and pattern[i] != word(s, row, ARGS + i):
            return False
    return True


@njit(cache=True, nogil=True)
def matching(registers, predicate, rows, count, from_row, pattern, out, room):
    """Rows that hold and match a pattern (-1 matches all): of ``count`` base rows, and of the layer from ``from_row``.
    How many there are; the first ``room`` go to ``out``."""
    s = longs(registers)
    below, wanted, found, total = words(rows), words(pattern), words(out), 0
    n = arity_of(s, predicate)
    for i in range(count):
        if moved_state(s, below[i]) == 0 and matches(s, below[i], n, wanted):
            total = keep(found, room, total, below[i])
    heap, at = words(s[OVER_HEAP]), from_row - s[SPLIT]
    while at < s[HEAP_USED]:
        state = heap[at]
        if state & PREDICATE == predicate and state & SETTLED and state & (DYING | DEAD) == 0:
            if matches(s, at + s[SPLIT], n, wanted):
                total = keep(found, room, total, at + s[SPLIT])
        at += size_of(s, state & PREDICATE)
    return total


@njit(cache=True, nogil=True)
def fresh_rows(registers, out, room):
    """Rows of facts that this update made hold and that did not before: how many; the first ``room`` go to ``out``."""
    s = longs(registers)
    heap, found, total, at = words(s[OVER_HEAP]), words(out), 0, s[START] - s[SPLIT]
    while at < s[HEAP_USED]:
        state = heap[at]
        if state & SETTLED and state & (DYING | DEAD | EXISTED) == 0:
            total = keep(found, room, total, at + s[SPLIT])
        at += size_of(s, state & PREDICATE)
    return total


@njit(cache=True, nogil=True)
def rows_by_predicate(predicates_address, heap_address, used, starts_address, out):
    """Rows of one heap, predicate by predicate in the order they came. ``starts`` [predicates + 1] says where each
    one's begin: all zero, it is only counted; filled, the rows go to ``out``."""
    predicates, heap, starts, rows = words(predicates_address), words(heap_address), longs(starts_address), words(out)
    at = 0
    while at < used:
        predicate = heap[at] & PREDICATE
        if heap[at] & SETTLED:
            if out:
                rows[starts[predicate]] = at
            starts[predicate] += 1
        at += predicates[predicate * P_WIDTH + P_SIZE]


@njit(cache=True, nogil=True)
def all_differ(hashes_address, count, ends_address, parts, grouped_address):
    """Whether no two of ``count`` hashes are equal: they are laid into ``parts`` by their high bits, and each part is
    sorted. ``ends`` [parts + 1] is all zero, ``grouped`` has room for the hashes."""
    hashes, ends, grouped = longs(hashes_address), longs(ends_address), longs(grouped_address)
    for i in range(count):
        ends[home(np.uint64(hashes[i]) >> _SHIFT, parts) + 1] += 1
    for part in range(parts):
        ends[part + 1] += ends[part]
    # From here on ``ends[part]`` moves from where its part begins to where it ends.
    for i in range(count):
        part = home(np.uint64(hashes[i]) >> _SHIFT, parts)
        grouped[ends[part]] = hashes[i]
        ends[part] += 1
    first = 0
    for part in range(parts):
        for i in range(first + 1, ends[part]):
            at, value = i, grouped[i]
            while at > first and grouped[at - 1] > value:
                grouped[at] = grouped[at - 1]
                at -= 1
            if at > first and grouped[at - 1] == value:
                return False
            grouped[at] = value
        first = ends[part]
    return True
