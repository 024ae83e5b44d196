"""History + item table + time -> ranking matrix: the one function training, serving and backfill all call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from features.history import EVENT_KINDS, History
from features.items import ItemTable
from features.schema import AFFINITY_SLOTS, RANKING_NAMES

DAY: Final = 86_400.0
KIND_WEIGHT: Final = np.array(
    [{"purchase": 1.0, "view": 0.1, "click": 0.2, "cart": 0.5, "rating": 1.0}[kind] for kind in EVENT_KINDS]
)
"""How much one event of each kind says about a user's wish for the item, a purchase being 1."""

RECENT_SESSIONS: Final = 5
_AT = {name: position for position, name in enumerate(RANKING_NAMES)}
_STATS = slice(_AT["i_count_7d"], _AT["i_age_days"] + 1)


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """A history summed up at one time. Arrays over the user's distinct items [m] and over all events [n]."""

    now: int
    keys: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float64]
    sessions: npt.NDArray[np.float64]
    first: npt.NDArray[np.float64]
    last: npt.NDArray[np.float64]
    decay_14d: npt.NDArray[np.float64]
    decay_60d: npt.NDArray[np.float64]
    last_session: npt.NDArray[np.int64]
    recent: npt.NDArray[np.float64]
    n_events: int
    n_sessions: int
    first_time: float
    last_time: float
    event_rows: npt.NDArray[np.int64]
    event_time: npt.NDArray[np.int64]
    event_weight: npt.NDArray[np.float64]

    def recent_rows(self, sessions: int = RECENT_SESSIONS) -> npt.NDArray[np.int64]:
        """Rows of the known items of the last few sessions."""
        return self.rows[(self.last_session >= self.n_sessions - sessions) & (self.rows >= 0)]


def summarize(history: History, table: ItemTable, now: int) -> Profile:
    """Sum up what was known of a user before ``now``; events at or after it are left out."""
    history = history.before(now)
    keys, inverse = np.unique(history.item, return_inverse=True)
    m, n = len(keys), len(history)
    weight = KIND_WEIGHT[history.kind]
    age = (now - history.time) / DAY

    _, session_start, session_code = np.unique(history.session, return_index=True, return_inverse=True)
    n_sessions = len(session_start)
    ordinal = np.empty(n_sessions, np.int64)
    ordinal[np.argsort(session_start, kind="stable")] = np.arange(n_sessions)
    session = ordinal[session_code]

    # np.unique would hash, at twenty times the cost of this sort.
    pair = np.sort(inverse * max(1, n_sessions) + session)
    pair = pair[np.diff(pair, prepend=-1) > 0]
    pair_item, pair_session = np.divmod(pair, max(1, n_sessions))
    first, last = np.empty(m), np.empty(m)
    # Events are in order of time: written backwards the first one stays, forwards the last one does.
    first[inverse[::-1]] = history.time[::-1]
    last[inverse] = history.time
    last_session = np.empty(m, np.int64)
    last_session[pair_item] = pair_session
    recent = pair_session >= n_sessions - RECENT_SESSIONS
    event_rows = table.rows_of(keys)
    return Profile(
        now=now,
        keys=keys,
        rows=event_rows,
        weight=_sums(inverse, weight, m),
        sessions=np.bincount(pair_item, minlength=m).astype(np.float64),
        first=first,
        last=last,
        decay_14d=_sums(inverse, weight * np.exp2(-age / 14.0), m),
        decay_60d=_sums(inverse, weight * np.exp2(-age / 60.0), m),
        last_session=last_session,
        recent=np.bincount(pair_item[recent], minlength=m).astype(np.float64),
        n_events=n,
        n_sessions=n_sessions,
        first_time=float(history.time[0]) if n else np.nan,
        last_time=float(history.time[-1]) if n else np.nan,
        event_rows=event_rows[inverse],
        event_time=history.time,
        event_weight=weight,
    )


def _sums(codes: npt.NDArray[np.int64], weights: npt.NDArray[np.float64], length: int) -> npt.NDArray[np.float64]:
    return np.bincount(codes, weights, length).astype(np.float64, copy=False)


def assemble(
    profile: Profile, table: ItemTable, rows: npt.NDArray[np.int64], copurchase: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """The ranking matrix [len(rows), len(RANKING_NAMES)], float32, C order.

    ``rows``: candidates' row numbers in the table. ``copurchase`` [len(rows)]: see `features.candidates`.
    """
    matrix = np.empty((len(rows), len(RANKING_NAMES)), np.float32)
    _user_item_columns(matrix, profile, table, rows)
    matrix[:, _AT["ui_copurchase"]] = copurchase
    _user_columns(matrix, profile)
    for slot in range(AFFINITY_SLOTS):
        _affinity_columns(matrix, profile, table, rows, slot)
    snapshot = table.snapshot(profile.now)
    # Before the first snapshot nothing is known of items: the oldest one already holds what came after.
    matrix[:, _STATS] = table.stats[snapshot, rows] if table.times[snapshot] <= profile.now else np.nan
    matrix[:, _AT["c_hour"]] = (profile.now % 86_400) // 3_600
    matrix[:, _AT["c_weekday"]] = (profile.now // 86_400 + 3) % 7
    return matrix


def _user_item_columns(
    matrix: npt.NDArray[np.float32], profile: Profile, table: ItemTable, rows: npt.NDArray[np.int64]
) -> None:
    keys = table.keys[rows]
    if len(profile.keys):
        at = np.minimum(np.searchsorted(profile.keys, keys), len(profile.keys) - 1)
        known = profile.keys[at] == keys
    else:
        at, known = np.zeros(len(rows), np.int64), np.zeros(len(rows), bool)

    def column(values: npt.NDArray[np.float64], absent: float) -> npt.NDArray[np.float64]:
        return np.where(known, values[at], absent) if len(values) else np.full(len(rows), absent)

    sessions = column(profile.sessions, 0.0)
    since_last = (profile.now - column(profile.last, np.nan)) / DAY
    since_first = (profile.now - column(profile.first, np.nan)) / DAY
    interval = np.full(len(rows), np.nan)
    np.divide(since_first - since_last, sessions - 1, out=interval, where=sessions > 1)
    due = np.full(len(rows), np.nan)
    np.divide(since_last, interval, out=due, where=interval > 0)
    matrix[:, _AT["ui_weight"]] = column(profile.weight, 0.0)
    matrix[:, _AT["ui_sessions"]] = sessions
    matrix[:, _AT["ui_session_share"]] = sessions / max(1, profile.n_sessions)
    matrix[:, _AT["ui_days_since_last"]] = since_last
    matrix[:, _AT["ui_days_since_first"]] = since_first
    matrix[:, _AT["ui_interval_days"]] = interval
    matrix[:, _AT["ui_due"]] = due
    matrix[:, _AT["ui_decay_14d"]] = column(profile.decay_14d, 0.0)
    matrix[:, _AT["ui_decay_60d"]] = column(profile.decay_60d, 0.0)
    matrix[:, _AT["ui_sessions_ago"]] = profile.n_sessions - 1 - column(profile.last_session.astype(np.float64), np.nan)
    matrix[:, _AT["ui_recent_5"]] = column(profile.recent, 0.0)


def _user_columns(matrix: npt.NDArray[np.float32], profile: Profile) -> None:
    n, sessions = profile.n_events, profile.n_sessions
    span = (profile.last_time - profile.first_time) / DAY
    matrix[:, _AT["u_sessions"]] = sessions
    matrix[:, _AT["u_items"]] = len(profile.keys)
    matrix[:, _AT["u_session_size"]] = n / sessions if sessions else 0.0
    matrix[:, _AT["u_days_since_last"]] = (profile.now - profile.last_time) / DAY
    matrix[:, _AT["u_gap_days"]] = span / (sessions - 1) if sessions > 1 else np.nan
    matrix[:, _AT["u_repeat_share"]] = 1.0 - len(profile.keys) / n if n else 0.0


def _affinity_columns(
    matrix: npt.NDArray[np.float32], profile: Profile, table: ItemTable, rows: npt.NDArray[np.int64], slot: int
) -> None:
    share, since, item_share = (_AT[f"a{slot}_{name}"] for name in ("share", "days_since", "item_share"))
    groups = table.groups[:, slot]
    in_table = profile.event_rows >= 0
    codes = groups[profile.event_rows[in_table]]
    grouped = codes >= 0
    codes = codes[grouped]
    wanted = groups[rows]
    if not len(codes):
        matrix[:, share] = 0.0
        matrix[:, since] = np.nan
        matrix[:, item_share] = np.nan
        return
    # Sized by the history alone: a sum over more zeros rounds otherwise, and a row must not depend on its batch.
    weight = np.bincount(codes, profile.event_weight[in_table][grouped])
    last = np.full(len(weight), np.nan)
    last[codes] = profile.event_time[in_table][grouped]
    seen = (wanted >= 0) & (wanted < len(weight))
    at = np.where(seen, wanted, 0)
    here = np.where(seen, weight[at], 0.0)
    matrix[:, share] = here / max(1e-9, weight.sum())
    matrix[:, since] = (profile.now - np.where(seen, last[at], np.nan)) / DAY
    ratio = np.full(len(rows), np.nan)
    np.divide(matrix[:, _AT["ui_weight"]], here, out=ratio, where=here > 0)
    matrix[:, item_share] = ratio
