"""History + item table + time -> ranking matrix: the one function training, serving and backfill all call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from features import itemtags, kernels
from features.history import EVENT_KINDS, History
from features.items import ItemTable
from features.keys import NOWHERE
from features.places import NO_PLACE
from features.repurchase import BIN_OF_DAY, gap_bucket, hour_bucket
from features.schema import RANKING_NAMES, TAG_COLUMNS

DAY: Final = 86_400.0
KIND_WEIGHT: Final = np.array(
    [{"purchase": 1.0, "view": 0.1, "click": 0.2, "cart": 0.5, "rating": 1.0}[kind] for kind in EVENT_KINDS]
)
"""How much one event of each kind says about a user's wish for the item, a purchase being 1."""

_RATING: Final = EVENT_KINDS.index("rating")
LOW_WEIGHT: Final = KIND_WEIGHT[EVENT_KINDS.index("view")]
"""What a rating weighs that is below what people like: an evening was spent on it, and no more is said for it."""

RECENT_SESSIONS: Final = 5
RECENT_ITEMS: Final = 100
"""Where neighbours are of the same users all a user's items say who is near, at most so many, the newest."""
_NONE: Final = np.empty(0, np.int64)
_AT = {name: position for position, name in enumerate(RANKING_NAMES)}
_PLACES = tuple(
    _AT[name] for name in ("ui_weight", "a0_share", "a1_share", "a2_share", "i_count_1d", "k_hour", "c_hour", "i_price")
)
"""First columns of what `kernels.fill` writes as a block."""
_TAGS = slice(_AT[TAG_COLUMNS[0].name], _AT[TAG_COLUMNS[-1].name] + 1)


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """A history summed up at one time: arrays over the user's distinct items [m], by ascending key.

    ``own`` float64 [m, kernels.OWN_COLUMNS] and ``user`` float64 [kernels.USER_COLUMNS]: see `features.kernels`.
    ``kinds`` [g]: the kinds of items the user had, ascending; ``of_kind`` float64 [g, kernels.KIND_COLUMNS].
    ``groups``: for each affinity slot the groups had [g], what the events say of each [g, kernels.GROUP_COLUMNS] and
    the weight of all. ``place``: key of the place it is summed up for, NOWHERE for none. ``had``: rows of known items
    with an event that makes an item had (`ItemTable.had_by`), in the history or forgotten by it; ``forgotten``: rows
    of known items that only events the history no longer holds were about. ``disliked`` bool [m]: items of which the
    history holds nothing but ratings below `ItemTable.liked_at`; None for none. ``lives``: the item table's.
    """

    now: int
    place: int
    keys: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    own: npt.NDArray[np.float64]
    user: npt.NDArray[np.float64]
    kinds: npt.NDArray[np.int64]
    of_kind: npt.NDArray[np.float64]
    groups: tuple[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], float], ...]
    n_events: int
    n_sessions: int
    had: npt.NDArray[np.int64]
    forgotten: npt.NDArray[np.int64]
    disliked: npt.NDArray[np.bool_] | None
    lives: bool

    @property
    def again(self) -> npt.NDArray[np.float64]:
        """How likely each item is had again at this session, by habit and time alone [m]."""
        return self.own[:, kernels.AGAIN]

    def recent_rows(self, sessions: int = RECENT_SESSIONS) -> npt.NDArray[np.int64]:
        """Rows of the known items that say what is near the user: those of the last few sessions or, where neighbours
        are of the same users, the newest RECENT_ITEMS; without disliked ones."""
        last = self.own[:, kernels.LAST_SESSION]
        if not self.lives:
            told = last >= self.n_sessions - sessions
        elif len(last) <= RECENT_ITEMS:
            told = np.ones(len(last), bool)
        else:
            told = np.zeros(len(last), bool)
            told[np.lexsort((self.keys, -last))[:RECENT_ITEMS]] = True
        if self.disliked is not None:
            told &= ~self.disliked
        return self.rows[told & (self.rows >= 0)]


def summarize(history: History, table: ItemTable, now: int, place: int = NOWHERE) -> Profile:
    """Sum up what was known of a user before ``now``; events at or after it are left out.

    ``place``: key of the store, branch or channel the user is at (`features.keys.place_keys`)."""
    history = history.before(now)
    # Copies: a decoded history is read-only, which would be another type, compiled anew.
    item = np.array(history.item, np.int64)
    repurchase = table.repurchase
    weight = KIND_WEIGHT[history.kind]
    low = None
    if table.liked_at is not None:
        low = (history.kind == _RATING) & (history.value < table.liked_at)
        weight[low] = LOW_WEIGHT
    keys, rows, own, user, kinds, of_kind, first, second, third, sessions = kernels.summarize(
        item,
        np.argsort(item),
        np.array(history.time, np.int64),
        np.array(history.session, np.int64),
        weight,
        np.array(history.value, np.float64),
        np.array(history.place, np.int64),
        np.log(history.price.astype(np.float64)),
        now,
        place,
        *table.by_key,
        table.groups,
        repurchase.kind,
        repurchase.factor,
        repurchase.hazard,
        repurchase.kind_hazard,
        BIN_OF_DAY,
        repurchase.mean_size,
    )
    groups = (first, second, third)
    had, forgotten = _had(history, table, rows)
    disliked = None if low is None or not low.any() else ~np.isin(keys, item[~low])
    return Profile(
        now,
        place,
        keys,
        rows,
        own,
        user,
        kinds,
        of_kind,
        groups,
        len(history),
        sessions,
        had,
        forgotten,
        disliked,
        table.lives,
    )


def _had(
    history: History, table: ItemTable, rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """See Profile. ``rows``: of the history's distinct items."""
    makes = table.makes_had[history.kind]
    all_count = bool(makes.all())
    if all_count and not len(history.forgotten):
        return rows[rows >= 0], _NONE
    kept = rows if all_count else table.rows_of(np.unique(history.item[makes]))
    forgotten = table.rows_of(history.forgotten)
    counted = table.makes_had[:, None] & (history.forgotten_kinds >> np.arange(len(EVENT_KINDS))[:, None] & 1).astype(
        bool
    )
    had = np.concatenate((kept, forgotten[counted.any(axis=0)]))
    return had[had >= 0], forgotten[forgotten >= 0]


def assemble(
    profile: Profile, table: ItemTable, rows: npt.NDArray[np.int64], copurchase: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """The ranking matrix [len(rows), len(RANKING_NAMES)], float32, C order. ``profile``: summed up with this table.

    ``rows``: candidates' row numbers in the table. ``copurchase`` [len(rows)]: see `features.candidates`.
    """
    matrix = np.empty((len(rows), len(RANKING_NAMES)), np.float32)
    repurchase = table.repurchase
    since = profile.user[kernels.U_SINCE]
    prices = table.prices(profile.now)
    here = table.here(profile.now, profile.place) or NO_PLACE
    kernels.fill(
        matrix,
        _PLACES,
        rows,
        copurchase,
        profile.now,
        int(hour_bucket(profile.now)),
        int(gap_bucket(since * DAY)) if since >= 0 else -1,
        profile.rows,
        profile.own,
        profile.user,
        profile.kinds,
        profile.of_kind,
        profile.groups,
        table.groups,
        repurchase.kind,
        repurchase.factor,
        table.statistics(profile.now),
        table.kind_trends(profile.now),
        repurchase.hour_lift,
        repurchase.gap_lift,
        repurchase.session_size,
        profile.now // int(DAY),
        profile.place != NOWHERE,
        prices.usual,
        prices.recent,
        here.rows,
        here.starts,
        here.shift,
        here.last,
        here.price,
        here.kinds,
    )
    tags = table.tags
    if tags:
        weight = profile.own[:, kernels.DECAY_60D]
        itemtags.fill(matrix[:, _TAGS], rows, profile.rows, weight, tags.starts, tags.code, tags.probability, tags.many)
    else:
        matrix[:, _TAGS] = np.nan
    return matrix
