"""What every baseline is built from: the contract, histories as sparse matrices, fit times and lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse

from training.protocols import DAY, IntArray, ItemSets, ranges
from training.protocols import Protocol as Evaluation
from training.ranking import Targets

FloatArray = npt.NDArray[np.float64]


class Recommender(Protocol):
    """Whatever answers a protocol's targets. It was made for one `training.protocols.Protocol`."""

    @property
    def name(self) -> str:
        """As the report shows it."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What it was tuned to, as the report records it."""

    def recommend(self, targets: Targets, k: int, since: IntArray | None = None) -> IntArray:
        """Item rows int64 [len(targets), k], best first, distinct, padded with -1.

        Only events strictly before a target's time count. ``since`` int64 [n]: the first event of its own user each
        target may see (an empty history where it is the target's own start); default: all.
        """


def fit_times(times: IntArray, every: int, doubling: bool = False) -> tuple[IntArray, IntArray]:
    """When to fit a model that is too dear to fit for every target: (cuts [m], the cut of each target [n]).

    Targets of the same period of ``every`` seconds, counted back from the last one, share the fit at the earliest of
    them: no fit knows what comes after a target, and none is older than a period. ``doubling``: the last period is
    ``every`` long and each one before it twice as long as the next, which is a handful of fits for any span. What a
    target is answered may so depend, a little, on which others are asked with it.
    """
    age = (times.max(initial=0) - times) // every
    period = np.floor(np.log2(age + 1)) if doubling else age
    _, group = np.unique(-period, return_inverse=True)
    cuts = np.full(int(group.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(cuts, group, times)
    return cuts, group


class Baskets:
    """Histories as distinct (basket, item) pairs. Shared by all baselines of a protocol: reading them once is enough.

    ``event``, ``user``, ``row``, ``time`` int64 [pairs], in order of (user, time): the pair's first event, its user,
    its item and its time. ``ordinal`` int64 [pairs]: number of the pair's basket among all, ascending in that order.
    """

    def __init__(self, protocol: Evaluation) -> None:
        events = protocol.events
        new = (np.diff(events.user, prepend=-1) != 0) | (np.diff(events.session, prepend=0) != 0)
        basket = np.cumsum(new) - 1
        useful = np.flatnonzero(protocol.counts & (events.row >= 0))
        _, first = np.unique(basket[useful] * max(1, protocol.items) + events.row[useful], return_index=True)
        self.event = useful[np.sort(first)]
        self.user, self.row, self.time = events.user[self.event], events.row[self.event], events.time[self.event]
        self.ordinal = basket[self.event]
        self.items, self.users = protocol.items, len(events.users)
        self.protocol = protocol
        self._by_time = np.argsort(self.time, kind="stable")
        self._sorted_times = self.time[self._by_time]
        self._popular: dict[tuple[int, int | None], IntArray] = {}

    def histories(self, targets: Targets, since: IntArray | None) -> tuple[IntArray, IntArray]:
        """The pairs of each target's visible history: (target [m], pair [m]), ascending."""
        first = self.protocol.since(targets) if since is None else since
        low, high = np.searchsorted(self.event, first), np.searchsorted(self.event, targets.start)
        return np.repeat(np.arange(len(targets)), high - low), ranges(low, high)

    def window(self, since: int | None, cut: int) -> IntArray:
        """Everybody's pairs of times in [since, cut), oldest first; ``since`` None: from the beginning."""
        low = 0 if since is None else int(np.searchsorted(self._sorted_times, since))
        pairs: IntArray = self._by_time[low : np.searchsorted(self._sorted_times, cut)]
        return pairs

    def popular(self, cut: int, days: int | None, most: int) -> IntArray:
        """The ``most`` items in most baskets of the ``days`` days before ``cut`` (None: ever), equal ones by row."""
        key = (cut, days)
        if key not in self._popular or len(self._popular[key]) < min(most, self.items):
            window = self.window(None if days is None else cut - days * DAY, cut)
            self._popular[key] = top(np.bincount(self.row[window], minlength=self.items), most)
        return self._popular[key]

    def matrix(self, owner: IntArray, pair: IntArray, owners: int, weight: FloatArray | None = None) -> Any:
        """Sparse float64 [owners, items]: the summed weights of each owner's pairs; default: one a basket."""
        values = np.ones(len(pair)) if weight is None else weight
        return sparse.csr_matrix((values, (owner, self.row[pair])), shape=(owners, self.items))


def top(scores: npt.NDArray[Any], k: int) -> IntArray:
    """The rows of the ``k`` highest scores above 0, best first, equal scores by row. ``scores`` [items]."""
    found = np.flatnonzero(scores > 0)
    if len(found) > k:
        bound = np.partition(scores[found], len(found) - k)[len(found) - k]
        found = found[scores[found] >= bound]
    best: IntArray = found[np.lexsort((found, -scores[found]))][:k].astype(np.int64)
    return best


def top_of_rows(scores: Any, k: int) -> IntArray:
    """`top` of every row of a CSR matrix [n, items] -> int64 [n, k], padded with -1."""
    result = np.full((scores.shape[0], k), -1, np.int64)
    for number in range(scores.shape[0]):
        window = slice(scores.indptr[number], scores.indptr[number + 1])
        columns, values = scores.indices[window], scores.data[window]
        positive = values > 0
        columns, values = columns[positive], values[positive]
        if len(columns) > k:
            bound = np.partition(values, len(values) - k)[len(values) - k]
            columns, values = columns[values >= bound], values[values >= bound]
        best = columns[np.lexsort((columns, -values))][:k]
        result[number, : len(best)] = best
    return result


def without(scores: Any, had: Any) -> Any:
    """CSR scores with the entries that ``had`` (CSR, same shape) holds set to 0: what was consumed is not shown."""
    return scores - scores.multiply(had > 0)


def chunks(n: int, size: int) -> Iterator[slice]:
    return (slice(at, min(at + size, n)) for at in range(0, n, size))


def fill(rows: IntArray, baskets: Baskets, targets: Targets, had: ItemSets | None, days: int | None = None) -> IntArray:
    """``rows`` [n, k] with padding replaced by what is popular at each target's time (to the day, see `fit_times`).

    ``had``: items of each target not to show (catalogs without repeats).
    """
    k = rows.shape[1]
    short = np.flatnonzero((rows < 0).any(axis=1))
    if not len(short):
        return rows
    rows = rows.copy()
    cuts, group = fit_times(targets.time[short], DAY)
    for number, cut in zip(short, cuts[group]):
        own = rows[number][rows[number] >= 0]
        hidden = own if had is None else np.concatenate((own, had.of(int(number))))
        popular = baskets.popular(int(cut), days, k + len(hidden))
        fresh = popular[~np.isin(popular, hidden)][: k - len(own)]
        rows[number] = -1
        rows[number, : len(own) + len(fresh)] = np.concatenate((own, fresh))
    return rows
