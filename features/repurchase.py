"""How soon what was had is had again: hazards by time since the last session with the item, for each kind of item.

At every session of a user, each item they had before is either had again or not. The hazard of a kind of item (a
product type) after d days is the share that are, over all such chances: the discrete hazard of survival analysis. A
larger session gives every item a better chance, so chances are weighted by the session's size.

A user's own habit then is a Gamma-Poisson posterior: repeats seen over repeats expected, shrunk towards the item's
usual rate (`features.transforms`, ``ui_again`` and ``ui_habit``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

BIN_STARTS: Final = (0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 16, 22, 29, 36, 46, 61, 91, 121, 181)
"""First day of each bin of days since the last session with the item; the last bin is open."""
LAST_DAY: Final = 400
SIZE_POWER: Final = 0.75
"""A session twice as large gives an item 2^0.75 times the chance: large sessions hold more of what is rarely had."""
_KIND_CHANCES: Final = 200.0
"""Chances at which a kind's own hazard and the hazard of all kinds weigh the same."""
_KIND_REPEATS: Final = 20.0
_KIND_EVENTS: Final = 50.0
"""Events at which a kind's own times and sizes and those of all kinds weigh the same."""
HOUR_BUCKETS: Final = 12
GAP_DAYS: Final = (0.0, 0.05, 0.5, 1.5, 3.5, 7.5, 15.0)
"""Lower ends, days, of the buckets of the time since the session before."""
_ITEM_REPEATS: Final = 5.0
"""Expected repeats at which an item's own rate and that of its kind weigh the same."""

BIN_OF_DAY: Final = (np.searchsorted(BIN_STARTS, np.arange(LAST_DAY + 1), side="right") - 1).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Repurchase:
    """Hazards float64 [kinds + 1, bins], the last row for items of no kind; ``mean_size``: events of a mean session.

    ``kind`` int64 [items]: row of the hazards. ``factor`` float64 [items]: an item's repeats over what its kind's
    hazard lets expect, shrunk towards 1. ``kind_hazard`` [kinds + 1, bins]: of having any item of the kind again after
    any of it. ``hour_lift`` [kinds + 1, 12] and ``gap_lift`` [kinds + 1, gaps]: log of how
    much likelier a kind is at that time of the week (`hour_bucket`), or that long after the session before
    (`gap_bucket`). ``session_size`` [kinds + 1]: mean log size of the sessions that hold the kind.
    """

    hazard: npt.NDArray[np.float64]
    kind: npt.NDArray[np.int64]
    factor: npt.NDArray[np.float64]
    kind_hazard: npt.NDArray[np.float64]
    hour_lift: npt.NDArray[np.float64]
    gap_lift: npt.NDArray[np.float64]
    session_size: npt.NDArray[np.float64]
    mean_size: float

    @staticmethod
    def unknown(groups: npt.NDArray[np.int32]) -> Repurchase:
        """For a catalog without events: nothing is had again."""
        kinds = int(groups.max(initial=-1)) + 1
        return Repurchase(
            np.zeros((kinds + 1, len(BIN_STARTS))),
            _kinds(groups, kinds),
            np.ones(len(groups)),
            np.zeros((kinds + 1, len(BIN_STARTS))),
            np.zeros((kinds + 1, HOUR_BUCKETS)),
            np.zeros((kinds + 1, len(GAP_DAYS))),
            np.zeros(kinds + 1),
            mean_size=1.0,
        )


def fit(
    user: npt.NDArray[np.int64],
    session: npt.NDArray[np.int64],
    time: npt.NDArray[np.int64],
    row: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int32],
) -> Repurchase:
    """From events [n] in order of (user, time, session); ``row`` -1 is an unknown item.

    ``groups`` [items]: their kinds, -1 for none.
    """
    known = row >= 0
    user, session, time, row = user[known], session[known], time[known], row[known]
    if not len(row):
        return Repurchase.unknown(groups)
    kinds = int(groups.max(initial=-1)) + 1
    kind = _kinds(groups, kinds)
    new = (np.diff(user, prepend=-1) != 0) | (np.diff(session, prepend=session[0]) != 0)
    start = np.flatnonzero(new)
    bounds = np.r_[start, len(row)]
    sizes = np.diff(bounds).astype(np.float64)
    mean_size = float(sizes.mean())
    weight = (sizes / mean_size) ** SIZE_POWER
    moments = (user[start], time[start], bounds)
    unknown = np.zeros((kinds + 1, len(BIN_STARTS)))
    hazard = _hazard(*_count(*moments, row, kind, weight, BIN_OF_DAY, unknown, len(groups))[:2])
    _, _, seen, expected = _count(*moments, row, kind, weight, BIN_OF_DAY, hazard, len(groups))
    every = np.arange(kinds + 1)
    kind_hazard = _hazard(*_count(*moments, kind[row], every, weight, BIN_OF_DAY, unknown, kinds + 1)[:2])
    factor = (seen + _ITEM_REPEATS) / (expected + _ITEM_REPEATS)
    of_event = kind[row]
    within = np.repeat(np.arange(len(start)), np.diff(bounds))
    before = np.full(len(start), -1, np.int64)
    same_user = np.diff(user[start]) == 0
    before[1:][same_user] = np.diff(time[start])[same_user]
    followed = before[within] >= 0
    logs = np.log(sizes)
    overall_size = float(logs[within].mean())
    counts = np.bincount(of_event, minlength=kinds + 1)
    size = (np.bincount(of_event, logs[within], kinds + 1) + _KIND_EVENTS * overall_size) / (counts + _KIND_EVENTS)
    return Repurchase(
        hazard,
        kind,
        factor,
        kind_hazard,
        _lift(of_event, hour_bucket(time[start])[within], kinds + 1, HOUR_BUCKETS),
        _lift(of_event[followed], gap_bucket(before[within][followed]), kinds + 1, len(GAP_DAYS)),
        size,
        mean_size,
    )


def _hazard(repeats: npt.NDArray[np.float64], chances: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Repeats over chances [kinds, bins], shrunk towards the curve of all kinds at the kind's own level."""
    overall = repeats.sum(axis=0) / np.maximum(chances.sum(axis=0), 1.0)
    rate = (repeats.sum(axis=1) + _KIND_REPEATS) / ((chances * overall).sum(axis=1) + _KIND_REPEATS)
    hazard: npt.NDArray[np.float64] = (repeats + _KIND_CHANCES * rate[:, None] * overall) / (chances + _KIND_CHANCES)
    return hazard


def hour_bucket(time: Any) -> Any:
    """Four hours of a weekday (0 to 5) or a weekend (6 to 11) of each time (seconds, UTC); of one time or an array."""
    return time % 86_400 // 14_400 + 6 * ((time // 86_400 + 3) % 7 >= 5)


def gap_bucket(seconds: Any) -> Any:
    """Position in GAP_DAYS of each time since the session before; of one time or an array."""
    return np.searchsorted(GAP_DAYS, seconds / 86_400, side="right") - 1


def _lift(
    kind: npt.NDArray[np.int64], bucket: npt.NDArray[np.int64], kinds: int, buckets: int
) -> npt.NDArray[np.float64]:
    """Log of each kind's share of events in a bucket over all kinds' share [kinds, buckets], shrunk towards 0."""
    counts = np.bincount(kind * buckets + bucket, minlength=kinds * buckets).reshape(kinds, buckets)
    usual = (counts.sum(axis=0) + 1.0) / (counts.sum() + buckets)
    share = (counts + _KIND_EVENTS * usual) / (counts.sum(axis=1, keepdims=True) + _KIND_EVENTS)
    lift: npt.NDArray[np.float64] = np.log(share / usual)
    return lift


def _kinds(groups: npt.NDArray[np.int32], kinds: int) -> npt.NDArray[np.int64]:
    return np.where(groups >= 0, groups, kinds).astype(np.int64)


@njit(cache=True, nogil=True)
def _count(user, time, bounds, row, kind, weight, bin_of_day, hazard, items):  # type: ignore[no-untyped-def]
    """Repeats and weighted chances [kinds, bins]; and of each item its repeats and those ``hazard`` expects [items]."""
    repeats, chances = np.zeros(hazard.shape), np.zeros(hazard.shape)
    seen, expected = np.zeros(items), np.zeros(items)
    last = np.full(items, -1, np.int64)
    had = np.empty(items, np.int64)
    n, longest = 0, len(bin_of_day) - 1
    for s in range(len(user)):
        if s and user[s] != user[s - 1]:
            for at in range(n):
                last[had[at]] = -1
            n = 0
        for at in range(n):
            item = had[at]
            days = bin_of_day[min(longest, (time[s] - last[item]) // 86400)]
            chances[kind[item], days] += weight[s]
            expected[item] += weight[s] * hazard[kind[item], days]
        for event in range(bounds[s], bounds[s + 1]):
            item = row[event]
            if last[item] < 0:
                had[n] = item
                n += 1
            elif last[item] != time[s]:
                repeats[kind[item], bin_of_day[min(longest, (time[s] - last[item]) // 86400)]] += 1.0
                seen[item] += 1.0
            last[item] = time[s]
    return repeats, chances, seen, expected
