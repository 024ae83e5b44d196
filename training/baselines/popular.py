"""Baselines that count: what everybody buys, what everybody bought lately, what the user buys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from training.baselines.base import Baskets, fill, fit_times
from training.protocols import DAY, IntArray
from training.ranking import Targets

Ties = Literal["first", "popular", "recent"]


class Popular:
    """The items in most baskets of the last ``days`` days (None: ever, G-TopFreq), as of the target's day."""

    def __init__(self, baskets: Baskets, repeats: bool, days: int | None = None) -> None:
        self.name = "g-topfreq" if days is None else "popular"
        self.parameters: Mapping[str, Any] = {"days": days}
        self._baskets, self._repeats, self._days = baskets, repeats, days

    def recommend(self, targets: Targets, k: int, since: IntArray | None = None) -> IntArray:
        had = None if self._repeats else self._baskets.protocol.had_sets(targets, since)
        return fill(np.full((len(targets), k), -1, np.int64), self._baskets, targets, had, self._days)


class OwnCounts:
    """The items in most of the user's own baskets.

    P-TopFreq (``fallback`` False) shows nothing where a history runs out; GP-TopFreq fills with G-TopFreq. ``ties``:
    equal counts by first purchase (as the paper's code has it), by popularity at the target's day, or by last purchase
    and then popularity. Of no use where repeats are not shown.
    """

    def __init__(self, baskets: Baskets, fallback: bool, ties: Ties = "first") -> None:
        self.name = "gp-topfreq" if fallback else "p-topfreq"
        self.parameters: Mapping[str, Any] = {"ties": ties}
        self._baskets, self._fallback, self._ties = baskets, fallback, ties

    def recommend(self, targets: Targets, k: int, since: IntArray | None = None) -> IntArray:
        owner, pair = self._baskets.histories(targets, since)
        order, count = _own_counts(self._baskets, targets, owner, pair, self._ties)
        rows = np.full((len(targets), k), -1, np.int64)
        start = np.cumsum(count) - count
        place = np.arange(len(order)) - np.repeat(start, count)
        kept = place < k
        rows[np.repeat(np.arange(len(targets)), count)[kept], place[kept]] = order[kept]
        return fill(rows, self._baskets, targets, None) if self._fallback else rows


def _own_counts(
    baskets: Baskets, targets: Targets, owner: IntArray, pair: IntArray, ties: Ties
) -> tuple[IntArray, IntArray]:
    """Distinct items of all targets, best first target by target [m], and how many each target has [n]."""
    row = baskets.row[pair]
    key, first, count = np.unique(owner * max(1, baskets.items) + row, return_index=True, return_counts=True)
    who, item = np.divmod(key, max(1, baskets.items))
    if ties == "first":
        order = np.lexsort((first, -count, who))
    else:
        popularity = _popularity(baskets, targets, who, item)
        last = np.zeros(len(key), np.int64)
        if ties == "recent":
            np.maximum.at(last, np.searchsorted(key, owner * max(1, baskets.items) + row), baskets.ordinal[pair])
        order = np.lexsort((item, -popularity, -last, -count, who))
    return item[order], np.bincount(who, minlength=len(targets))


def _popularity(baskets: Baskets, targets: Targets, who: IntArray, item: IntArray) -> IntArray:
    """Baskets that hold each item before the day of its target [m]."""
    cuts, group = fit_times(targets.time, DAY)
    result = np.zeros(len(item), np.int64)
    counts = np.zeros(baskets.items, np.int64)
    known: int | None = None
    order = np.argsort(group[who], kind="stable")
    bounds = np.searchsorted(group[who][order], np.arange(len(cuts) + 1))
    for number, cut in enumerate(cuts):
        counts += np.bincount(baskets.row[baskets.window(known, int(cut))], minlength=baskets.items)
        known = int(cut)
        mine = order[bounds[number] : bounds[number + 1]]
        result[mine] = counts[item[mine]]
    return result
