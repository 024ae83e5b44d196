"""Which items that came after training are near which texts, so that a request looks them up instead of searching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from models.catalog import Catalog

TEXTS: Final = 32
"""Texts of the catalog an arrived item is near to."""
KEPT: Final = 16
"""Arrived items kept per text, the nearest ones."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Items nobody had bought by the time of training; immutable, so a request keeps what it started with.

    ``seq``: the newest entry of the item log the services show. ``near``: by text of the catalog, the arrived rows near
    it with their similarities, best first. A user's mean taste, which the index is asked for, is near few texts of a
    large catalog; an item nobody bought yet has no other way to people who buy things like it.
    """

    seq: int = 0
    near: Mapping[int, tuple[tuple[float, int], ...]] = field(default_factory=dict)

    def with_items(self, rows: npt.NDArray[np.int64], catalog: Catalog, seq: int) -> Arrivals:
        """Arrivals with further or changed ``rows`` of ``catalog``, as of entry ``seq`` of the log."""
        if not len(rows):
            return Arrivals(seq, self.near)
        changed = set(rows.tolist())
        near: dict[int, dict[int, float]] = {
            text: {row: similarity for similarity, row in kept if row not in changed}
            for text, kept in self.near.items()
        }
        arrived = changed.union(*near.values())
        texts = np.unique(catalog.text_of_row[rows])
        found, similarity = catalog.index.search(catalog.vectors[texts], min(TEXTS, len(catalog.texts)))
        for text, others, values in zip(texts.tolist(), found.tolist(), similarity.tolist()):
            # Its own text first: an index of a graph may miss even that.
            for other, value in ((text, 1.0), *zip(others, values)):
                if other < 0:
                    continue
                # Both ways: of two arrivals the one that came first could not know of the other.
                for here, there in ((other, text), (text, other)):
                    for row in catalog.rows(there).tolist():
                        if row in arrived:
                            place = near.setdefault(here, {})
                            place[row] = max(place.get(row, -1.0), value)
        return Arrivals(seq, {text: _best(kept) for text, kept in near.items() if kept})

    def of(self, texts: npt.NDArray[np.int32], most: int) -> npt.NDArray[np.int64]:
        """The ``most`` arrived rows nearest to any of these texts, best first; ties fall by row."""
        best: dict[int, float] = {}
        if self.near:
            for text in set(texts.tolist()):
                for similarity, row in self.near.get(text, ()):
                    best[row] = max(best.get(row, -1.0), similarity)
        return np.array(sorted(best, key=lambda row: (-best[row], row))[:most], np.int64)


def _best(kept: Mapping[int, float]) -> tuple[tuple[float, int], ...]:
    ranked = sorted(((similarity, row) for row, similarity in kept.items()), key=lambda pair: (-pair[0], pair[1]))
    return tuple(ranked[:KEPT])
