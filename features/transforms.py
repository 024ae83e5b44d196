"""History + item table + time -> ranking matrix: the one function training, serving and backfill all call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from features import kernels
from features.history import EVENT_KINDS, History
from features.items import ItemTable
from features.repurchase import BIN_OF_DAY, gap_bucket, hour_bucket
from features.schema import AFFINITY_SLOTS, RANKING_NAMES

DAY: Final = 86_400.0
KIND_WEIGHT: Final = np.array(
    [{"purchase": 1.0, "view": 0.1, "click": 0.2, "cart": 0.5, "rating": 1.0}[kind] for kind in EVENT_KINDS]
)
"""How much one event of each kind says about a user's wish for the item, a purchase being 1."""

RECENT_SESSIONS: Final = 5
_AT = {name: position for position, name in enumerate(RANKING_NAMES)}
_TRENDS = slice(_AT["k_trend_day"], _AT["k_trend_week"] + 1)
_STATS = slice(_AT["i_count_1d"], _AT["i_age_days"] + 1)


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """A history summed up at one time: arrays over the user's distinct items [m], by ascending key.

    ``own`` float64 [m, kernels.OWN_COLUMNS] and ``user`` float64 [kernels.USER_COLUMNS]: see `features.kernels`.
    ``kinds`` [g] and ``of_kind``: the same of the kinds of items the user had, ascending. ``groups``: for each affinity
    slot the groups had [g], what the events say of each [g, kernels.GROUP_COLUMNS] and the weight of all.
    """

    now: int
    keys: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    own: npt.NDArray[np.float64]
    user: npt.NDArray[np.float64]
    kinds: npt.NDArray[np.int64]
    of_kind: npt.NDArray[np.float64]
    groups: tuple[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], float], ...]
    n_events: int
    n_sessions: int

    @property
    def again(self) -> npt.NDArray[np.float64]:
        """How likely each item is had again at this session, by habit and time alone [m]."""
        return self.own[:, kernels.AGAIN]

    def recent_rows(self, sessions: int = RECENT_SESSIONS) -> npt.NDArray[np.int64]:
        """Rows of the known items of the last few sessions."""
        return self.rows[(self.own[:, kernels.LAST_SESSION] >= self.n_sessions - sessions) & (self.rows >= 0)]


def summarize(history: History, table: ItemTable, now: int) -> Profile:
    """Sum up what was known of a user before ``now``; events at or after it are left out."""
    history = history.before(now)
    # Copies: a decoded history is read-only, which would be another type, compiled anew.
    item, time = np.array(history.item, np.int64), np.array(history.time, np.int64)
    weight, value = KIND_WEIGHT[history.kind], np.array(history.value, np.float64)
    keys, code = kernels.number_items(item, np.argsort(item))
    _, first, walk, starts = kernels.number_sessions(np.array(history.session, np.int64))
    rows = table.rows_of(keys)
    known = rows >= 0
    repurchase = table.repurchase
    kind = np.where(known, repurchase.kind[rows], len(repurchase.hazard) - 1)
    factor = np.where(known, repurchase.factor[rows], 1.0)
    own, user = kernels.sum_up(
        code,
        time,
        first,
        walk,
        starts,
        weight,
        value,
        len(keys),
        now,
        kind,
        factor,
        repurchase.hazard,
        BIN_OF_DAY,
        repurchase.mean_size,
    )
    kinds, kind_of_item = kernels.number_items(kind, np.argsort(kind))
    of_kind, _ = kernels.sum_up(
        kind_of_item[code],
        time,
        first,
        walk,
        starts,
        weight,
        value,
        len(kinds),
        now,
        kinds,
        np.ones(len(kinds)),
        repurchase.kind_hazard,
        BIN_OF_DAY,
        repurchase.mean_size,
    )
    groups = tuple(
        kernels.sum_up_groups(
            np.where(known, table.groups[rows, slot], -1).astype(np.int64), code, time, walk, starts, weight
        )
        for slot in range(AFFINITY_SLOTS)
    )
    return Profile(now, keys, rows, own, user, kinds, of_kind, groups, len(history), len(first))


def assemble(
    profile: Profile, table: ItemTable, rows: npt.NDArray[np.int64], copurchase: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """The ranking matrix [len(rows), len(RANKING_NAMES)], float32, C order.

    ``rows``: candidates' row numbers in the table. ``copurchase`` [len(rows)]: see `features.candidates`.
    """
    matrix = np.empty((len(rows), len(RANKING_NAMES)), np.float32)
    repurchase = table.repurchase
    kernels.fill_user_items(
        matrix,
        _AT["ui_weight"],
        profile.keys,
        table.keys[rows],
        profile.own,
        repurchase.factor[rows],
        profile.user,
        profile.now,
    )
    matrix[:, _AT["ui_copurchase"]] = copurchase
    for slot, (groups, found, total) in enumerate(profile.groups):
        wanted = table.groups[rows, slot].astype(np.int64)
        kernels.fill_groups(matrix, _AT[f"a{slot}_share"], groups, found, total, wanted, profile.now)
    matrix[:, _STATS] = table.statistics(profile.now)[rows]
    kind = repurchase.kind[rows]
    hour = hour_bucket(np.array([profile.now]))[0]
    matrix[:, _AT["k_hour"]] = repurchase.hour_lift[kind, hour]
    since = profile.user[kernels.U_SINCE]
    gap = gap_bucket(np.array([since * DAY]))[0] if since >= 0 else -1
    matrix[:, _AT["k_gap"]] = repurchase.gap_lift[kind, gap] if gap >= 0 else 0.0
    matrix[:, _AT["k_session_size"]] = repurchase.session_size[kind]
    kernels.fill_kinds(
        matrix, _AT["k_again"], profile.kinds, profile.of_kind, kind, profile.keys, table.keys[rows], profile.own
    )
    matrix[:, _TRENDS] = table.kind_trends(profile.now)[rows]
    matrix[:, _AT["c_hour"]] = (profile.now % 86_400) // 3_600
    matrix[:, _AT["c_weekday"]] = (profile.now // 86_400 + 3) % 7
    return matrix
