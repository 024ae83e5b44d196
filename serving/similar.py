"""Items with texts like those of a user's recent items, without a search of the index on the request's way.

Each text's nearest texts are looked up once, the catalog's best-bought ones before the first request; a request then
only adds up rows of an array. Its cost grows with the user's recent items, not with the catalog.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from features import selection
from models.catalog import Catalog

NEAR = 8
"""Nearest texts kept for every text, itself among them."""
TEXTS = 16
"""Texts whose items are proposed together."""
WARM = 4_096
"""Texts looked up at the start: about a second. The others are looked up when they first occur."""
_BATCH = 16
"""Queries per search. From 20 on faiss multiplies matrices, and the last bits of a similarity would depend on the
company of its query: which item ties with which must not depend on what was asked before."""


class SimilarItems:
    """Nearest texts by text (filled as they are needed) and every text's items, best-bought first.

    ``item_users`` [n]: distinct users per item row, the order of items within the same texts. ``rows`` may be called by
    one thread at a time, ``following`` by any.
    """

    def __init__(self, catalog: Catalog, item_users: npt.NDArray[np.generic]) -> None:
        self.catalog = catalog
        self._index = catalog.index
        texts, items = len(catalog.texts), len(catalog.text_of_row)
        self._near = np.zeros((texts, NEAR), np.int32)
        self._similarity = np.zeros((texts, NEAR), np.float32)
        self._known = np.zeros(texts, bool)
        # Items by demand; within a text, places in that order: the best of several texts are then a sort of numbers.
        users = np.zeros(items)
        users[: len(item_users)] = item_users
        self._by_demand = np.lexsort((np.arange(items), -users))
        place = np.empty(items, np.int64)
        place[self._by_demand] = np.arange(items)
        self._places = place[np.lexsort((place, catalog.text_of_row))]
        self._starts = catalog.text_starts

    def following(self, catalog: Catalog, item_users: npt.NDArray[np.generic]) -> SimilarItems:
        """The same for a catalog whose items changed or became more (`Catalog.with_items`): texts keep their numbers.

        What was looked up is kept, and a text's nearest texts remain those of training: a list must not depend on
        whether it was looked up before or after an item came, and items nobody bought must not crowd out others.
        What came since is found by `Arrivals`.
        """
        new, texts = SimilarItems(catalog, item_users), len(self.catalog.texts)
        new._index = self._index
        # What is known is copied first and set last: a request may look up more meanwhile.
        new._known[:texts] = self._known
        new._near[:texts], new._similarity[:texts] = self._near, self._similarity
        return new

    def warm_up(self, most: int = WARM) -> None:
        """Look up the texts of the best-bought items, ``most`` texts at most."""
        texts = self.catalog.text_of_row[self._by_demand]
        _, first = np.unique(texts, return_index=True)
        self._look_up(texts[np.sort(first)[:most]])

    def rows(self, rows: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
        """At most ``most`` item rows, best-bought first, of the TEXTS texts that are most like those of ``rows``.

        A text's likeness is its similarity to each row's text, summed over the rows whose NEAR texts it is among. Ties
        fall by text number, then by row.
        """
        if not len(rows) or not len(self.catalog.texts):
            return np.empty(0, np.int64)
        texts = self.catalog.text_of_row[rows]
        if not self._known[texts].all():
            self._look_up(np.unique(texts[~self._known[texts]]))
        found: npt.NDArray[np.int64] = selection.of_alike(
            texts, self._near, self._similarity, self._starts, self._places, self._by_demand, TEXTS, most
        )
        return found

    def _look_up(self, texts: npt.NDArray[np.int32]) -> None:
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH]
            near, similarity = self._index.search(self.catalog.vectors[batch], min(NEAR, len(self.catalog.texts)))
            found = near >= 0
            # What was not found stands as the text itself, without weight.
            self._near[batch, : near.shape[1]] = np.where(found, near, batch[:, None])
            self._near[batch, near.shape[1] :] = batch[:, None]
            self._similarity[batch, : near.shape[1]] = np.where(found, similarity, 0.0)
            self._known[batch] = True
