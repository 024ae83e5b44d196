"""Item-KNN and ALS of the library `implicit` (https://github.com/benfred/implicit): the one file that imports it.

Item-KNN: similarities of items' vectors over users, summed over what the user had. ALS: Hu, Koren and Volinsky,
"Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008; a target's factors are solved for from its history
as of its time, whatever the fit knew.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from models.errors import MissingExtra
from training.baselines.base import Baskets, chunks, fill, fit_times, top, top_of_rows, without
from training.protocols import DAY, IntArray
from training.ranking import Targets

_FIT_EVERY: Final = 7 * DAY
"""The last period; see ``doubling`` in `fit_times`."""
_LEAST_OWNERS: Final = 5
"""An item of fewer users has no neighbours worth the name, and most items are such."""
_SCORES_AT_ONCE: Final = 20_000_000

Weighting = Literal["cosine", "tfidf", "bm25"]


class ItemKNN:
    """Items near what the user had, with similarities from before the target's period (see `fit_times`)."""

    name = "item-knn"

    def __init__(self, baskets: Baskets, repeats: bool, weighting: Weighting = "cosine", neighbours: int = 100) -> None:
        self.parameters: Mapping[str, Any] = {"weighting": weighting, "neighbours": neighbours}
        self._baskets, self._repeats = baskets, repeats
        self._weighting, self._neighbours = weighting, neighbours
        self._fits: dict[int, Any] = {}

    def recommend(self, targets: Targets, k: int, since: IntArray | None = None) -> IntArray:
        owner, pair = self._baskets.histories(targets, since)
        had = self._baskets.matrix(owner, pair, len(targets))
        rows = np.full((len(targets), k), -1, np.int64)
        cuts, group = fit_times(targets.time, _FIT_EVERY, doubling=True)
        for number, cut in enumerate(cuts):
            similarity = self._at(int(cut))
            which = np.flatnonzero(group == number)
            for part in chunks(len(which), 256):
                mine = which[part]
                scores = (had[mine] @ similarity).tocsr()
                rows[mine] = top_of_rows(scores if self._repeats else without(scores, had[mine]), k)
        hidden = None if self._repeats else self._baskets.protocol.had_sets(targets, since)
        return fill(rows, self._baskets, targets, hidden)

    def _at(self, cut: int) -> Any:
        """Similarities as of ``cut``: CSR float64 [items, items], the nearest of each row."""
        if cut not in self._fits:
            nearest_neighbours, _ = _implicit()
            kinds = {
                "cosine": nearest_neighbours.CosineRecommender,
                "tfidf": nearest_neighbours.TFIDFRecommender,
                "bm25": nearest_neighbours.BM25Recommender,
            }
            model = kinds[self._weighting](K=self._neighbours, num_threads=1)
            owned = _everybody(self._baskets, cut)
            common = np.flatnonzero(np.bincount(owned.indices, minlength=owned.shape[1]) >= _LEAST_OWNERS)
            spread = sparse.csr_matrix(
                (np.ones(len(common)), (common, np.arange(len(common)))), shape=(owned.shape[1], len(common))
            )
            with warnings.catch_warnings():
                # The library weights a COO matrix and then warns itself that it is none of the CSR kind.
                warnings.simplefilter("ignore")
                model.fit((owned @ spread).tocsr(), show_progress=False)
            self._fits[cut] = spread @ model.similarity.tocsr() @ spread.T
        return self._fits[cut]


class ALS:
    """Factors of everybody's histories from before the target's period (see `fit_times`)."""

    name = "als"

    def __init__(
        self,
        baskets: Baskets,
        repeats: bool,
        factors: int = 64,
        regularization: float = 0.05,
        alpha: float = 10.0,
        iterations: int = 8,
        seed: int = 7,
    ) -> None:
        self.parameters: Mapping[str, Any] = {
            "factors": factors,
            "regularization": regularization,
            "alpha": alpha,
            "iterations": iterations,
        }
        self._baskets, self._repeats, self._seed = baskets, repeats, seed
        self._fits: dict[int, Any] = {}

    def recommend(self, targets: Targets, k: int, since: IntArray | None = None) -> IntArray:
        baskets = self._baskets
        owner, pair = baskets.histories(targets, since)
        had = baskets.matrix(owner, pair, len(targets)).astype(np.float32)
        rows = np.full((len(targets), k), -1, np.int64)
        cuts, group = fit_times(targets.time, _FIT_EVERY, doubling=True)
        for number, cut in enumerate(cuts):
            which = np.flatnonzero((group == number) & (np.diff(had.indptr) > 0))
            for part in chunks(len(which), max(1, _SCORES_AT_ONCE // max(1, baskets.items))):
                mine = which[part]
                with threadpool_limits(1, "blas"):
                    model = self._at(int(cut))
                    users = model.recalculate_user(np.arange(len(mine)), had[mine])
                    scores = users @ model.item_factors.T
                for position, target in enumerate(mine):
                    if not self._repeats:
                        scores[position, had[target].indices] = -np.inf
                    best = top(scores[position], k)
                    rows[target, : len(best)] = best
        hidden = None if self._repeats else baskets.protocol.had_sets(targets, since)
        return fill(rows, baskets, targets, hidden)

    def _at(self, cut: int) -> Any:
        if cut not in self._fits:
            _, als = _implicit()
            model = als(**self.parameters, random_state=self._seed, num_threads=1)
            model.fit(_everybody(self._baskets, cut).astype(np.float32), show_progress=False)
            self._fits[cut] = model
        return self._fits[cut]


def _implicit() -> tuple[Any, Any]:
    """The library's neighbours module and its ALS class. Raises MissingExtra where it is not installed."""
    try:
        from implicit import nearest_neighbours
        from implicit.cpu.als import AlternatingLeastSquares
    except ModuleNotFoundError as error:
        raise MissingExtra("item-KNN and ALS need implicit. Run: pip install 'tandem-rec[train]'") from error
    return nearest_neighbours, AlternatingLeastSquares


def _everybody(baskets: Baskets, cut: int) -> Any:
    """CSR [users with a history, items]: baskets with the item before ``cut``."""
    pair = baskets.window(None, cut)
    known, owner = np.unique(baskets.user[pair], return_inverse=True)
    return baskets.matrix(owner, pair, len(known))
