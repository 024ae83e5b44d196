"""TIFU-KNN: a user's decayed item frequencies, mixed with those of the users nearest to it.

Hu et al., "Modeling Personalized Item Frequency Information for Next-basket Recommendation", SIGIR 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from scipy import sparse

from training.baselines.base import Baskets, FloatArray, chunks, fill, fit_times, top_of_rows, without
from training.protocols import DAY, IntArray
from training.ranking import Targets

_FIT_EVERY: Final = 7 * DAY
_CHUNK: Final = 256


@dataclass(frozen=True, slots=True)
class TifuConfig:
    """``group``: baskets a group (the paper's m). ``within``, ``across``: decay a basket within its group, and a group.

    ``alpha``: weight of the user's own vector, the rest being its ``neighbours`` nearest users'.
    """

    group: int = 7
    within: float = 0.9
    across: float = 0.9
    alpha: float = 0.7
    neighbours: int = 300


class TifuKNN:
    """The user's own vector is as of the target; the others' as of its period's earliest one (see `fit_times`)."""

    def __init__(self, baskets: Baskets, repeats: bool, config: TifuConfig, name: str = "tifu-knn") -> None:
        self.name = name
        self.parameters: Mapping[str, Any] = asdict(config)
        self._baskets, self._repeats, self._config = baskets, repeats, config
        self._vectors: dict[int, Any] = {}

    def recommend(self, targets: Targets, k: int, since: IntArray | None = None) -> IntArray:
        baskets, config = self._baskets, self._config
        owner, pair = baskets.histories(targets, since)
        own = self._vector(owner, pair, len(targets))
        had = baskets.matrix(owner, pair, len(targets))
        rows = np.full((len(targets), k), -1, np.int64)
        cuts, group = fit_times(targets.time, _FIT_EVERY, doubling=True)
        for number, cut in enumerate(cuts):
            others = self._at(int(cut))
            which = np.flatnonzero(group == number)
            for part in chunks(len(which), _CHUNK):
                mine = which[part]
                near = self._neighbours(own[mine], others, targets.user[mine])
                scores = config.alpha * own[mine] + (1 - config.alpha) * (near @ others)
                rows[mine] = top_of_rows(scores if self._repeats else without(scores, had[mine]), k)
        # Without a history everybody is as near as anybody: that is popularity, in a roundabout way.
        rows[np.diff(own.indptr) == 0] = -1
        hidden = None if self._repeats else baskets.protocol.had_sets(targets, since)
        return fill(rows, baskets, targets, hidden)

    def _at(self, cut: int) -> Any:
        """Everybody's vectors as of ``cut``: CSR float64 [users, items]."""
        if cut not in self._vectors:
            pair = np.sort(self._baskets.window(None, cut))
            self._vectors[cut] = self._vector(self._baskets.user[pair], pair, self._baskets.users)
        return self._vectors[cut]

    def _vector(self, owner: IntArray, pair: IntArray, owners: int) -> Any:
        """Mean over groups of the mean over each group's baskets, decayed; the newest group may be the short one.

        ``owner`` ascending, ``pair`` ascending within an owner.
        """
        config, ordinal = self._config, self._baskets.ordinal[pair]
        # Baskets from each owner's last: pairs are in order, so numbers rise by one where the basket changes.
        new = (np.diff(ordinal, prepend=-1) != 0) | (np.diff(owner, prepend=-1) != 0)
        number = np.cumsum(new)
        bounds = np.searchsorted(owner, np.arange(owners + 1))
        end = np.repeat(bounds[1:], np.diff(bounds)) - 1
        back = number[end] - number if len(pair) else number
        group, place = np.divmod(back, config.group)
        total = back[bounds[:-1][owner]] + 1 if len(pair) else number
        size = np.minimum(config.group, total - group * config.group)
        weight: FloatArray = config.within**place * config.across**group / size / -(-total // config.group)
        return self._baskets.matrix(owner, pair, owners, weight)

    def _neighbours(self, own: Any, others: Any, users: IntArray) -> Any:
        """CSR [n, users]: 1/neighbours for each of the users nearest by Euclidean distance, itself left out."""
        known = np.flatnonzero(np.diff(others.indptr))
        squared = np.asarray(others.multiply(others).sum(axis=1)).ravel()
        # |a - b|^2 without |a|^2, which is the same for all of a row.
        distance = squared[known] - 2.0 * (own @ others[known].T).toarray()
        distance[users[:, None] == known] = np.inf
        count = min(self._config.neighbours, max(0, len(known) - 1))
        if not count:
            return sparse.csr_matrix((len(users), others.shape[0]))
        near = np.argpartition(distance, count - 1, axis=1)[:, :count]
        indptr = np.arange(len(users) + 1) * count
        values = np.full(near.size, 1.0 / count)
        return sparse.csr_matrix((values, known[near].ravel(), indptr), shape=(len(users), others.shape[0]))
