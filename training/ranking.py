"""Ranking data: sessions as targets, candidates and features of the moment before each, split by time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.candidates import retrieve
from features.items import ItemTable
from features.schema import RANKING_NAMES
from features.transforms import assemble, summarize
from training.materialize import EventArrays

CANDIDATES = 200
"""Candidates a request: the same in training and serving."""


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Sessions to predict [n]: user codes, start times (seconds), and the range of each one's events.

    A range runs from the session's first event to its last. Where a user's sessions overlap in time it holds events of
    others too: `wanted` tells them apart.
    """

    user: npt.NDArray[np.int64]
    time: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.user)

    def take(self, which: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Targets:
        return Targets(self.user[which], self.time[which], self.start[which], self.end[which])


@dataclass(frozen=True, slots=True)
class Split:
    """Cuts in seconds: targets in [train, valid) train, in [valid, test) stop early, from ``test`` on are tested."""

    train: int
    valid: int
    test: int


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Ranking data: matrix float32 [rows, columns], relevance int32 [rows], candidates per target int32 [targets].

    ``missed`` [targets]: relevant items no candidate source found; they count against recall.
    """

    matrix: npt.NDArray[np.float32]
    relevance: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int32]
    missed: npt.NDArray[np.int32]


def sessions(events: EventArrays) -> Targets:
    """Every session of every user, once and at its first event, in order of (user, time)."""
    together = np.lexsort((events.session, events.user))
    user, session = events.user[together], events.session[together]
    new = np.flatnonzero((np.diff(user, prepend=-1) != 0) | (np.diff(session, prepend=0) != 0))
    first, last = together[new], together[np.r_[new[1:], len(together)][: len(new)] - 1]
    order = np.argsort(first)
    start = first[order]
    return Targets(events.user[start], events.time[start], start, last[order] + 1)


def wanted(events: EventArrays, targets: Targets, number: int) -> npt.NDArray[np.int64]:
    """The known items of one target's session: distinct rows, ascending."""
    window = slice(int(targets.start[number]), int(targets.end[number]))
    rows = events.row[window][events.session[window] == events.session[window.start]]
    return np.unique(rows[rows >= 0])


def split_by_time(targets: Targets, train: float = 0.70, valid: float = 0.90, test: float = 0.95) -> Split:
    """Cuts at quantiles of the sessions' times."""
    cuts = np.quantile(targets.time, [train, valid, test], method="lower").astype(np.int64)
    return Split(*(int(cut) for cut in cuts))


def choose(targets: Targets, first: int, last: int | None, most: int, seed: int) -> Targets:
    """At most ``most`` targets of the window [first, last), drawn without replacement, in their order."""
    inside = targets.time >= first
    if last is not None:
        inside &= targets.time < last
    numbers = np.flatnonzero(inside)
    if len(numbers) > most:
        numbers = np.sort(np.random.default_rng(seed).choice(numbers, most, replace=False))
    return targets.take(numbers)


def build_groups(
    events: EventArrays,
    table: ItemTable,
    targets: Targets,
    repeats: bool,
    progress: Callable[[float], None] = lambda _: None,
) -> Groups:
    """Candidates and features at each target's time, from what came strictly before it; relevance from the session."""
    matrices, relevances, sizes, missed = [], [], [], []
    for number in range(len(targets)):
        time = int(targets.time[number])
        profile = summarize(events.history(int(targets.user[number])), table, time)
        candidates = retrieve(profile, table, CANDIDATES, repeats=repeats)
        bought = wanted(events, targets, number)
        hit = np.isin(candidates.rows, bought)
        matrices.append(assemble(profile, table, candidates.rows, candidates.copurchase))
        relevances.append(hit.astype(np.int32))
        sizes.append(len(candidates))
        missed.append(len(bought) - int(hit.sum()))
        if number % 200 == 0:
            progress(number / len(targets))
    return Groups(
        np.concatenate(matrices) if matrices else np.empty((0, len(RANKING_NAMES)), np.float32),
        np.concatenate(relevances) if relevances else np.empty(0, np.int32),
        np.array(sizes, np.int32),
        np.array(missed, np.int32),
    )


def informative(groups: Groups) -> Groups:
    """Only targets with a relevant candidate: LambdaRank learns nothing from the others."""
    ends = np.cumsum(groups.sizes)
    starts = ends - groups.sizes
    keep = np.array([bool(groups.relevance[a:b].any()) for a, b in zip(starts, ends)], bool)
    rows = np.repeat(keep, groups.sizes)
    return Groups(groups.matrix[rows], groups.relevance[rows], groups.sizes[keep], groups.missed[keep])


def measure_repeats(events: EventArrays) -> float:
    """Share of events that repeat an item the user had before: what tells groceries from films."""
    known = events.row >= 0
    pairs = np.unique(events.user[known] * (int(events.row.max(initial=0)) + 1) + events.row[known])
    return 1.0 - len(pairs) / int(known.sum()) if known.any() else 0.0
