"""The loops behind `features.candidates`, compiled by numba: who is near, who is best, who is taken.

Their cost grows with a user's items, not with the catalog: hash tables and heaps of what is at hand instead of marks
for every item. Nothing here calls `features.kernels`: numba would not notice a change there in the cache of this file.
"""

# mypy: disable-error-code="no-untyped-def,var-annotated"

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _slot_of(slots, rows, row):
    """Where in the open-addressing table ``slots`` the row is or would be: an entry of ``rows`` or -1."""
    # Fibonacci hashing: neighbouring rows land far apart.
    at = (row * 0x9E3779B1 >> 7) & (len(slots) - 1)
    while slots[at] >= 0 and rows[slots[at]] != row:
        at = (at + 1) & (len(slots) - 1)
    return at


@njit(cache=True, nogil=True)
def _table_for(entries):
    size = 16
    while size < 2 * entries:
        size *= 2
    return np.full(size, -1, np.int64)


@njit(cache=True, nogil=True)
def _comes_before(scores, rows, one, other):
    return scores[one] > scores[other] or (scores[one] == scores[other] and rows[one] < rows[other])


@njit(cache=True, nogil=True)
def _sink(heap, size, at, scores, rows):
    moved = heap[at]
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and _comes_before(scores, rows, heap[below + 1], heap[below]):
            below += 1
        if not _comes_before(scores, rows, heap[below], moved):
            break
        heap[at] = heap[below]
        at = below
    heap[at] = moved


@njit(cache=True, nogil=True)
def _heap(scores, rows):
    """Positions, that of the highest score on top; ties fall by row."""
    heap = np.arange(len(scores))
    for at in range(len(scores) // 2 - 1, -1, -1):
        _sink(heap, len(scores), at, scores, rows)
    return heap


@njit(cache=True, nogil=True)
def _pop(heap, size, scores, rows):
    """Take the position on top off a heap of ``size``."""
    top = heap[0]
    heap[0] = heap[size - 1]
    _sink(heap, size - 1, 0, scores, rows)
    return top


@njit(cache=True, nogil=True)
def best_first(scores, rows, most):
    """Positions of the ``most`` highest scores, best first; ties fall by row."""
    heap = _heap(scores, rows)
    best = np.empty(min(most, len(scores)), np.int64)
    for place in range(len(best)):
        best[place] = _pop(heap, len(scores) - place, scores, rows)
    return best


@njit(cache=True, nogil=True)
def neighbourhood(recent, neighbours, similarity):
    """Distinct neighbours of the rows ``recent``, in order of appearance, and their summed similarities; the hash
    table that finds them by row.
    """
    most = len(recent) * neighbours.shape[1]
    slots = _table_for(most)
    rows, scores = np.empty(most, np.int64), np.zeros(most)
    count = 0
    for at in range(len(recent)):
        for column in range(neighbours.shape[1]):
            row = np.int64(neighbours[recent[at], column])
            if row < 0:
                continue
            slot = _slot_of(slots, rows, row)
            if slots[slot] < 0:
                slots[slot] = count
                rows[count] = row
                count += 1
            scores[slots[slot]] += similarity[recent[at], column]
    return rows[:count], scores[:count], slots


@njit(cache=True, nogil=True)
def of_alike(texts, near, similarity, starts, places, items, most_texts, most):
    """At most ``most`` items of the ``most_texts`` texts most like ``texts``, in the order of their places.

    ``near``, ``similarity`` [texts, any]: each text's neighbours; ``places``: those of each text's items, ascending and
    bounded by ``starts``; ``items``: by place.
    """
    alike, likeness, _ = neighbourhood(texts, near, similarity)
    best = alike[best_first(likeness, alike, most_texts)]
    heads, ends = starts[best], starts[best + 1]
    found = np.empty(most, np.int64)
    for count in range(most):
        # A merge: places differ, and each text's ascend.
        first, lowest = -1, len(places)
        for at in range(len(best)):
            if heads[at] < ends[at] and places[heads[at]] < lowest:
                first, lowest = at, places[heads[at]]
        if first < 0:
            return found[:count].copy()
        heads[first] += 1
        found[count] = items[lowest]
    return found


@njit(cache=True, nogil=True)
def _take(rows, scores, source, share, chosen, proposed, count, limit, slots):
    """Choose the first ``share`` of ``rows`` that are not chosen yet; what is chosen or forbidden is in ``slots``.

    ``scores`` [len(rows)]: the best come first; without any the rows come as they are.
    """
    fresh = 0
    share_left = min(share, limit - count)
    # Few of a long list are needed: they are looked for one by one.
    heap = _heap(scores, rows) if len(scores) else np.empty(0, np.int64)
    for position in range(len(rows)):
        if fresh >= share_left and position >= share:
            break
        row = rows[_pop(heap, len(rows) - position, scores, rows)] if len(heap) else rows[position]
        if row < 0:
            continue
        slot = _slot_of(slots, chosen, row)
        if slots[slot] >= 0:
            if position < share and slots[slot] < limit:
                proposed[slots[slot]] |= source
        elif fresh < share_left:
            slots[slot] = count
            chosen[count] = row
            proposed[count] = source
            count += 1
            fresh += 1
    return count


@njit(cache=True, nogil=True)
def retrieve(own, again, recent, neighbours, similarity, similar, popular, limit, shares, sources, forbidden):
    """Rows, sources and co-purchase scores of at most ``limit`` candidates, and the highest such score near the user
    (0 for none); see `features.candidates.retrieve`.

    ``own`` (-1 for items the catalog does not know) and ``again``: a Profile's. ``recent``: rows whose ``neighbours``
    count. ``shares``: how many may be own items, neighbours, similar ones. ``sources``: bits of these and popular ones.
    ``forbidden``: rows that are no candidates.
    """
    known = np.empty(len(own), np.int64)
    chance = np.empty(len(own))
    m = 0
    for at in range(len(own)):
        if own[at] >= 0:
            known[m], chance[m] = own[at], again[at]
            m += 1
    known, chance = known[:m], chance[:m]
    # Behind the chosen stand the forbidden: they only have to be found.
    f = len(forbidden)
    chosen = np.empty(limit + f, np.int64)
    proposed = np.zeros(limit, np.uint8)
    slots = _table_for(limit + f)
    for at in range(f):
        chosen[limit + at] = forbidden[at]
        slots[_slot_of(slots, chosen, forbidden[at])] = limit + at
    count = _take(known, chance, sources[0], shares[0], chosen, proposed, 0, limit, slots)
    near, scores, found = neighbourhood(recent, neighbours, similarity)
    count = _take(near, scores, sources[1], shares[1], chosen, proposed, count, limit, slots)
    as_they_are = np.empty(0)
    distinct = np.empty(len(similar), np.int64)
    n = 0
    for at in range(len(similar)):
        again_there = similar[at] < 0
        for earlier in range(n):
            again_there |= distinct[earlier] == similar[at]
        if not again_there:
            distinct[n] = similar[at]
            n += 1
    count = _take(distinct[:n], as_they_are, sources[2], shares[2], chosen, proposed, count, limit, slots)
    count = _take(popular, as_they_are, sources[3], limit, chosen, proposed, count, limit, slots)
    together = np.zeros(count)
    for at in range(count):
        entry = found[_slot_of(found, near, chosen[at])]
        if entry >= 0:
            together[at] = scores[entry]
    return chosen[:count].copy(), proposed[:count].copy(), together, scores.max() if len(scores) else 0.0
