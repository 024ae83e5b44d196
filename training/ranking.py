"""Ranking data: candidates and features of the moment before each target, and what of it was wanted."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from features.candidates import retrieve
from features.history import History
from features.items import ItemTable
from features.keys import NOWHERE
from features.schema import RANKING_NAMES
from features.transforms import Profile, assemble, summarize

CANDIDATES = 200
"""Candidates a request: the same in training and serving."""
_TOGETHER = 100
"""Targets a thread builds at a time: neighbours in time, which share the statistics of a day."""


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What to predict [n]: user codes, times (seconds) before which everything may be known, the range of events that
    were wanted (see `training.protocols`), and keys of the places that are asked for, NOWHERE where none is told."""

    user: npt.NDArray[np.int64]
    time: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.user)

    def take(self, which: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Targets:
        return Targets(*(column[which] for column in self.columns))

    @property
    def columns(self) -> tuple[npt.NDArray[np.int64], ...]:
        return self.user, self.time, self.start, self.end, self.place

    @property
    def anywhere(self) -> Targets:
        """The same targets without their places."""
        return replace(self, place=np.full(len(self), NOWHERE, np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Ranking data: matrix float32 [n, columns], relevance int32 [n], candidates per target int32 [targets].

    ``rows`` int64 [n]: the candidates. ``missed`` [targets]: relevant items no candidate source found; they count
    against recall.
    """

    matrix: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    relevance: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int32]
    missed: npt.NDArray[np.int32]

    def keep(self, mask: npt.NDArray[np.bool_]) -> Groups:
        """The targets that ``mask`` [targets] is true for."""
        if mask.all():
            return self
        rows = np.repeat(mask, self.sizes)
        return Groups(self.matrix[rows], self.rows[rows], self.relevance[rows], self.sizes[mask], self.missed[mask])


def build_groups(
    history: Callable[[int], History],
    table: Callable[[int], ItemTable],
    targets: Targets,
    wanted: Callable[[int], npt.NDArray[np.int64]],
    repeats: bool,
    progress: Callable[[float], None] = lambda _: None,
    beside: Callable[[int, Profile, ItemTable], None] | None = None,
) -> Groups:
    """Candidates and features at each target's time, from what came strictly before it.

    ``history``: of a target by its number. ``table``: the newest item table that could be built by a time (seconds).
    ``wanted``: the item rows a target wants, by its number. ``beside``: is given each target's number, its history
    summed up and its table, from several threads: summing up again would cost more than what is made of it.
    """
    n = len(targets)
    matrix = np.empty((n, CANDIDATES, len(RANKING_NAMES)), np.float32)
    rows, relevance = np.empty((n, CANDIDATES), np.int64), np.empty((n, CANDIDATES), np.int32)
    sizes, missed = np.empty(n, np.int32), np.empty(n, np.int32)

    def build(start: int) -> None:
        for number in range(start, min(start + _TOGETHER, n)):
            time = int(targets.time[number])
            items = table(time)
            profile = summarize(history(number), items, time, int(targets.place[number]))
            candidates = retrieve(profile, items, CANDIDATES, repeats=repeats)
            bought = wanted(number)
            size = len(candidates)
            hit = np.isin(candidates.rows, bought)
            matrix[number, :size] = assemble(profile, items, candidates.rows, candidates.copurchase)
            rows[number, :size], relevance[number, :size] = candidates.rows, hit
            sizes[number], missed[number] = size, len(bought) - int(hit.sum())
            if beside is not None:
                beside(number, profile, items)

    # Most of the time is spent in compiled loops, which run beside each other.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(build, range(0, n, _TOGETHER))):
            progress(done * _TOGETHER / n)
    used = np.arange(CANDIDATES) < sizes[:, None]
    if used.all():
        return Groups(matrix.reshape(-1, len(RANKING_NAMES)), rows.ravel(), relevance.ravel(), sizes, missed)
    return Groups(matrix[used], rows[used], relevance[used], sizes, missed)


def groups_of(
    found: Sequence[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int32]]],
    wanted: npt.NDArray[np.int64],
) -> Groups:
    """From matrix, rows and relevance of each target, and how many items each wants [targets]."""
    if not found:
        nothing = np.empty(0, np.int32)
        matrix = np.empty((0, len(RANKING_NAMES)), np.float32)
        return Groups(matrix, np.empty(0, np.int64), nothing, nothing, nothing)
    matrices, rows, relevance = zip(*found)
    hits = np.array([int(hit.sum()) for hit in relevance], np.int64)
    sizes = np.array([len(own) for own in rows], np.int32)
    missed = (wanted - hits).astype(np.int32)
    return Groups(np.concatenate(matrices), np.concatenate(rows), np.concatenate(relevance), sizes, missed)


def best_rows(groups: Groups, scores: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.int64]:
    """The best item rows of each target [targets, k], padded with -1. Equal scores rank by candidate order."""
    found = np.full((len(groups.sizes), k), -1, np.int64)
    ends = np.cumsum(groups.sizes)
    for number, (start, end) in enumerate(zip(ends - groups.sizes, ends)):
        best = np.argsort(-scores[start:end], kind="stable")[:k]
        found[number, : len(best)] = groups.rows[start:end][best]
    return found


def in_time(targets: Targets) -> Targets:
    """The same targets by time: the statistics of a day are summed up once for all that ask on it."""
    return targets.take(np.argsort(targets.time, kind="stable"))


def some(targets: Targets, most: int, seed: int) -> Targets:
    """At most ``most`` of the targets, drawn without replacement, in their order."""
    if len(targets) <= most:
        return targets
    return targets.take(np.sort(np.random.default_rng(seed).choice(len(targets), most, replace=False)))


def informs(groups: Groups) -> npt.NDArray[np.bool_]:
    """Whether a target has a relevant candidate [targets]: LambdaRank learns nothing from the others."""
    before = np.r_[0, np.cumsum(groups.relevance)]
    ends = np.cumsum(groups.sizes)
    found: npt.NDArray[np.bool_] = before[ends] > before[ends - groups.sizes]
    return found
