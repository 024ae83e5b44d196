"""What events say: which make an item had, which make it wanted, and whether visits or users hold items together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from features.history import EVENT_KINDS

if TYPE_CHECKING:
    from training.materialize import EventArrays

LEAST_TOGETHER: Final = 1.5
"""Mean events a session below which items are neighbours by user, not by session."""
LEAST_HAD: Final = 1e-3
"""Share of purchases and ratings among events below which they are strays, and every event makes an item had."""
REPEATS_FROM: Final = 0.1
"""Share of repeated events from which on repeats are recommended; films and books stay far below."""
_PURCHASE, _RATING = EVENT_KINDS.index("purchase"), EVENT_KINDS.index("rating")


def had_by(events: EventArrays) -> tuple[str, ...]:
    """Kinds of event that make an item had: purchases and ratings, for who only looked at a film has not seen it.

    Every kind where the data has next to none of these: one purchase that strayed into a log of clicks, or into the
    ratings of films, must not change what all the rest is taken for.
    """
    known = events.row >= 0
    told = known & ((events.kind == _PURCHASE) | (events.kind == _RATING))
    return ("purchase", "rating") if told.sum() >= max(1, LEAST_HAD * known.sum()) else EVENT_KINDS


def counted(events: EventArrays) -> npt.NDArray[np.bool_]:
    """Events that make an item had, or wanted [events]: of the kinds of `had_by`, without ratings of what the same user
    bought before. Such a rating tells how it was, not that it was had or wanted again."""
    counts = np.isin(events.kind, [EVENT_KINDS.index(kind) for kind in had_by(events)])
    bought, rated = counts & (events.kind == _PURCHASE), counts & (events.kind == _RATING)
    if not bought.any() or not rated.any():
        return counts
    pair = events.user * (int(events.row.max()) + 2) + events.row + 1
    # By pair, then by time: the first purchase of each pair leads what comes after it.
    order = np.flatnonzero(bought)
    order = order[np.lexsort((events.time[order], pair[order]))]
    pairs, first = np.unique(pair[order], return_index=True)
    at = np.minimum(np.searchsorted(pairs, pair), len(pairs) - 1)
    after = (pairs[at] == pair) & (events.time >= events.time[order][first][at])
    kept: npt.NDArray[np.bool_] = counts & ~(rated & after)
    return kept


def liked_at(events: EventArrays) -> float | None:
    """The rating from which on somebody liked an item: the median one, or the next above the lowest where most give
    that. None where nobody rates."""
    values = events.value[(events.kind == _RATING) & np.isfinite(events.value)]
    if not len(values):
        return None
    middle, least = float(np.median(values)), float(values.min())
    above = values[values > least]
    return float(above.min()) if middle == least and len(above) else middle


def liked(events: EventArrays, counts: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """What counts, without ratings below what people like (`liked_at`): nobody wanted what they rated low."""
    least = liked_at(events)
    if least is None:
        return counts
    likes: npt.NDArray[np.bool_] = counts & ((events.kind != _RATING) | (events.value >= least))
    return likes


def measure_repeats(events: EventArrays, counts: npt.NDArray[np.bool_]) -> float:
    """Share of the sessions with an item in which the user had it before: what tells groceries from films.

    ``counts`` [events]: which make an item had. Looking at a book twice before it is bought repeats nothing, nor does
    a second copy in the same basket.
    """
    known = counts & (events.row >= 0)
    if not known.any():
        return 0.0
    pair = events.user[known] * (int(events.row.max()) + 1) + events.row[known]
    session = events.session[known]
    order = np.lexsort((session, pair))
    pair, session = pair[order], session[order]
    new = np.diff(pair, prepend=-1) != 0
    return 1.0 - int(new.sum()) / int((new | (np.diff(session, prepend=0) != 0)).sum())


def lives(events: EventArrays) -> bool:
    """Whether what belongs together are the items of a user and not those of a visit: where visits hold one item, and
    where nothing is had twice. Three films of one evening say less of each other than all that somebody watched."""
    counts = counted(events) & (events.row >= 0)
    user, session = events.user[counts], events.session[counts]
    # Sessions of a user may overlap, so one may be several runs of events; runs are far fewer than events.
    new = (np.diff(user, prepend=-1) != 0) | (np.diff(session, prepend=0) != 0)
    visits = len(np.unique(np.stack((user[new], session[new]), axis=1), axis=0))
    return len(user) < visits * LEAST_TOGETHER or measure_repeats(events, counts) < REPEATS_FROM
