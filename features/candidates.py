"""Candidate items for a user from arrays alone: what was bought before, what is bought with it, what is popular."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from features import selection
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


_NAMES = tuple((int(source), source.name.lower()) for source in Source if source.name)
_SOURCES = tuple(int(source) for source in (Source.REPEAT, Source.CO_PURCHASE, Source.SIMILAR, Source.POPULAR))
_NONE = np.empty(0, np.int64)
_OWN, _TOGETHER, _SIMILAR = 14, 3, 1
"""Shares of the sources, in twentieths; the rest are popular ones."""
# Plain numbers: an IntFlag's own operators cost a microsecond each, and every item of a reply needs seven.


@lru_cache(maxsize=256)  # there are no more
def source_names(bits: int) -> tuple[str, ...]:
    """Names of the sources whose bits are set."""
    return tuple(name for bit, name in _NAMES if bits & bit)


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


def together_with(profile: Profile, table: ItemTable, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Co-purchase similarity of each row [n], summed over the user's recent items; 0 for none. Where neighbours are of
    users' lives it is a share of the highest that any item has, else it would only tell how much the user had."""
    near, scores, _ = selection.neighbourhood(profile.recent_rows(), table.neighbours, table.similarity)
    order = np.argsort(near)
    if not len(near):
        return np.zeros(len(rows))
    at = order[np.minimum(np.searchsorted(near, rows, sorter=order), len(near) - 1)]
    found = np.where(near[at] == rows, scores[at], 0.0)
    return _relative(found, float(scores.max())) if table.lives else found


def retrieve(
    profile: Profile,
    table: ItemTable,
    limit: int,
    similar: npt.NDArray[np.int64] | None = None,
    repeats: bool = True,
    new_only: bool = False,
) -> Candidates:
    """At most ``limit`` candidates: 70 % the user's own items by ``Profile.again``, then items bought with them,
    similar and popular ones. The cost grows with the user's items, not with the catalog.

    ``similar``: rows from the vector index, best first; its padding (-1) and repetitions are dropped. ``repeats`` and
    ``new_only``: see `forbidden`. A share one source cannot fill goes to the popular items; where
    neighbours are of users' lives (films, books) and own items are not asked for, theirs goes to the neighbours.
    """
    by_taste = table.lives and (new_only or not repeats)
    own, together_share = (0, _OWN + _TOGETHER) if by_taste else (_OWN, _TOGETHER)
    rows, sources, together, highest = selection.retrieve(
        profile.rows,
        profile.again,
        profile.recent_rows(),
        table.neighbours,
        table.similarity,
        _NONE if similar is None else similar,
        table.popular_at(profile.now),
        limit,
        (limit * own // 20, limit * together_share // 20, limit * _SIMILAR // 20),
        _SOURCES,
        forbidden(profile, repeats, new_only),
    )
    return Candidates(rows, sources, _relative(together, highest) if table.lives else together)


def _relative(scores: npt.NDArray[np.float64], highest: float) -> npt.NDArray[np.float64]:
    return scores / highest if highest > 0 else scores


def forbidden(profile: Profile, repeats: bool, new_only: bool) -> npt.NDArray[np.int64]:
    """Rows that are no candidates: without ``repeats`` (films, books) what the user had, however long ago; with
    ``new_only`` all they have an event with. What they only looked at may be recommended."""
    if new_only:
        touched = np.concatenate((profile.rows, profile.forgotten))
        return np.asarray(touched[touched >= 0])
    return _NONE if repeats else profile.had
