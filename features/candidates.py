"""Candidate items for a user from arrays alone: what was bought before, what is bought with it, what is popular."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
import numpy.typing as npt

from features.items import ItemTable
from features.transforms import Profile


class Source(IntFlag):
    """What proposed a candidate; several may have."""

    REPEAT = 1
    CO_PURCHASE = 2
    SIMILAR = 4
    POPULAR = 8
    LLM = 16
    GRAPH = 32
    INDEX = 64

    def names(self) -> list[str]:
        bits = int(self)
        return [name for bit, name in _NAMES if bits & bit]


_NAMES = tuple((int(source), source.name.lower()) for source in Source if source.name)
# Plain numbers: an IntFlag's own operators cost a microsecond each, and every item of a reply needs seven.


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Distinct rows int64 [n], who proposed each (Source bits, uint8 [n]) and the co-purchase score float64 [n]."""

    rows: npt.NDArray[np.int64]
    sources: npt.NDArray[np.uint8]
    copurchase: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)

    def keep(self, mask: npt.NDArray[np.bool_]) -> Candidates:
        return Candidates(self.rows[mask], self.sources[mask], self.copurchase[mask])


@dataclass(frozen=True, slots=True, eq=False)
class Neighbourhood:
    """Items bought together with a user's recent ones: rows int64 [m], ascending, and summed similarities [m]."""

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]

    def of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Scores of any rows, 0 for one outside the neighbourhood."""
        if not len(self.rows):
            return np.zeros(len(rows))
        at = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.where(self.rows[at] == rows, self.scores[at], 0.0)


def neighbourhood(profile: Profile, table: ItemTable) -> Neighbourhood:
    """The co-purchase neighbours of the user's recent sessions; cost grows with those sessions, not the catalog."""
    recent = profile.recent_rows()
    near = table.neighbours[recent].ravel()
    valid = near >= 0
    rows, inverse = np.unique(near[valid], return_inverse=True)
    scores = np.bincount(inverse, table.similarity[recent].ravel()[valid], len(rows))
    return Neighbourhood(rows.astype(np.int64), scores.astype(np.float64, copy=False))


def retrieve(
    profile: Profile,
    table: ItemTable,
    limit: int,
    similar: npt.NDArray[np.int64] | None = None,
    repeats: bool = True,
) -> Candidates:
    """At most ``limit`` candidates: 70 % the user's own items by ``Profile.again``, then items bought with them,
    similar and popular ones.

    ``similar``: rows from the vector index, best first; its padding (-1) and repetitions are dropped. ``repeats`` False
    leaves out what the user already had (films, books). A share one source cannot fill goes to the popular items.
    """
    near = neighbourhood(profile, table)
    known = profile.rows >= 0
    own = profile.rows[known]
    own = own[np.lexsort((own, -profile.again[known]))]
    popular = table.popular_at(profile.now)
    alike = own[:0] if similar is None else similar[np.sort(np.unique(similar, return_index=True)[1])]
    lists = (
        (own if repeats else own[:0], Source.REPEAT, limit * 7 // 10),
        (near.rows[np.argsort(-near.scores, kind="stable")], Source.CO_PURCHASE, limit * 3 // 20),
        (alike[alike >= 0], Source.SIMILAR, limit // 20),
        (popular, Source.POPULAR, limit),
    )
    # One mark for each item of the table: far quicker to look up than sets of rows are to intersect.
    taken, proposed = np.zeros(len(table), bool), np.zeros(len(table), np.uint8)
    if not repeats:
        taken[own] = True
    chosen = own[:0]
    for rows, source, share in lists:
        fresh = rows[~taken[rows]][: min(share, limit - len(chosen))]
        taken[fresh] = True
        chosen = np.concatenate((chosen, fresh))
        # What was taken may lie behind the share, where rows before it were taken already.
        proposed[rows[:share]] |= np.uint8(source)
        proposed[fresh] |= np.uint8(source)
    return Candidates(chosen, proposed[chosen], near.of(chosen))
