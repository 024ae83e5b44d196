"""Trees over counts: what a plain LambdaMART makes of a user's own items and the popular ones.

The reference a ranker with more columns must beat (the issue's "plain LightGBM, 14 count features, repeat items and
top 60"). No times, no prices, no kinds, no neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from models import ranker
from training.baselines.base import Baskets, fill, fit_times
from training.protocols import DAY, IntArray
from training.ranking import Targets, some

COLUMNS: Final = (
    "own_baskets",
    "own_share",
    "own_in_last_3",
    "own_in_last_5",
    "own_in_last_10",
    "own_baskets_since_last",
    "own_baskets_since_first",
    "user_baskets",
    "user_items",
    "user_basket_size",
    "item_baskets",
    "item_baskets_28_days",
    "item_baskets_7_days",
    "item_users",
)
"""In baskets or distinct items or users; sizes are means. Of items the user never had, the basket counts are NaN."""
_POPULAR: Final = 60
_LATELY: Final = 28
_OWN: Final = 5_000
"""Own items that are candidates, those in most baskets: LightGBM's LambdaRank takes 10,000 rows a target at most."""
_TRAINING_TARGETS: Final = 4_000
_SEED: Final = 7


@dataclass(frozen=True, slots=True)
class CountTreesConfig:
    """``leaves`` a tree, rows a leaf holds at least, ``trees``; the rest but the bins is LightGBM's own default."""

    leaves: int = 31
    min_leaf: int = 20
    trees: int = 100

    def ranker(self) -> ranker.RankerConfig:
        return ranker.RankerConfig(
            leaves=self.leaves,
            min_leaf=self.min_leaf,
            trees=self.trees,
            learning_rate=0.1,
            column_share=1.0,
            target_share=1.0,
            l2=0.0,
            truncation=30,
            seed=_SEED,
        )


@dataclass(frozen=True, slots=True, eq=False)
class CountTable:
    """Candidates of the targets ``which`` [t], one target after the other: ``sizes`` [t], ``rows`` [n] and the
    ``matrix`` float32 [n, COLUMNS]."""

    which: IntArray
    sizes: IntArray
    rows: IntArray
    matrix: npt.NDArray[np.float32]


_TRAINING: WeakKeyDictionary[Baskets, ranker.Binned | None] = WeakKeyDictionary()
"""What every setting of a protocol's is trained on: made once."""


class CountTrees:
    """Trained on the protocol's training targets, as Tandem's ranker is; counts are as of each target.

    A target without a history is shown what is popular, as one with too few candidates is.
    """

    name = "lightgbm-counts"

    def __init__(self, baskets: Baskets, config: CountTreesConfig = CountTreesConfig()) -> None:
        self.parameters: Mapping[str, Any] = {
            "leaves": config.leaves,
            "min_leaf": config.min_leaf,
            "trees": config.trees,
        }
        self._baskets, self._config = baskets, config
        self._fitted: ranker.LightGBMRanker | None = None

    def recommend(self, targets: Targets, k: int, since: IntArray | None = None) -> IntArray:
        rows = np.full((len(targets), k), -1, np.int64)
        model = self._model() if len(targets) else None
        if model is not None:
            for table in count_tables(self._baskets, targets, since):
                owner = np.repeat(np.arange(len(table.which)), table.sizes)
                # Equal scores by row: candidates are in that order, and the sort is stable.
                order = np.lexsort((-model.predict(table.matrix), owner))
                place = np.arange(len(order)) - np.repeat(np.cumsum(table.sizes) - table.sizes, table.sizes)
                shown = place < k
                rows[table.which[owner[shown]], place[shown]] = table.rows[order[shown]]
        return fill(rows, self._baskets, targets, None)

    def _model(self) -> ranker.LightGBMRanker | None:
        """None where the protocol has nothing to train on."""
        if self._fitted is None:
            if self._baskets not in _TRAINING:
                _TRAINING[self._baskets] = _training(self._baskets)
            data = _TRAINING[self._baskets]
            if data is not None:
                self._fitted = ranker.fit(self._config.ranker(), data, {}, rounds=self._config.trees)
        return self._fitted


def _training(baskets: Baskets) -> ranker.Binned | None:
    """Candidates of training targets drawn at random, and which of them were wanted; None where none was."""
    targets = some(baskets.protocol.train, _TRAINING_TARGETS, _SEED)
    wanted = baskets.protocol.wanted_sets(targets)
    tables = list(count_tables(baskets, targets, None))
    relevance = []
    for table in tables:
        mine = wanted.take(table.which)
        owner = np.repeat(np.arange(len(table.which)), table.sizes)
        width = max(1, baskets.items)
        relevance.append(np.isin(owner * width + table.rows, mine.owner * width + mine.rows))
    if not any(hit.any() for hit in relevance):
        return None
    matrix = np.concatenate([table.matrix for table in tables])
    sizes = np.concatenate([table.sizes for table in tables]).astype(np.int32)
    return ranker.Binned.of(COLUMNS, (matrix, np.concatenate(relevance).astype(np.int32), sizes))


def count_tables(baskets: Baskets, targets: Targets, since: IntArray | None) -> Iterator[CountTable]:
    """Day by day, of the targets that have a history: what everybody did is counted up to each day's first target."""
    owner, pair = baskets.histories(targets, since)
    cuts, group = fit_times(targets.time, DAY)
    bounds = np.searchsorted(owner, np.arange(len(targets) + 1))
    ever, users = np.zeros(baskets.items, np.int64), np.zeros(baskets.items, np.int64)
    first = _first_of_user(baskets)
    known: int | None = None
    for number, cut in enumerate(cuts):
        fresh = baskets.window(known, int(cut))
        known = int(cut)
        ever += _count(baskets, fresh)
        users += _count(baskets, fresh[first[fresh]])
        month, week = (_count(baskets, baskets.window(int(cut) - days * DAY, int(cut))) for days in (_LATELY, 7))
        which = np.flatnonzero((group == number) & (np.diff(bounds) > 0))
        if len(which):
            mine = np.concatenate([pair[bounds[one] : bounds[one + 1]] for one in which])
            who = np.repeat(np.arange(len(which)), bounds[which + 1] - bounds[which])
            popular = baskets.popular(int(cut), _LATELY, _POPULAR)
            yield _table(baskets, which, who, mine, popular, np.stack((ever, month, week, users), axis=1))


def _first_of_user(baskets: Baskets) -> npt.NDArray[np.bool_]:
    """Whether a pair is the first of its user and item [pairs]: pairs are in order of (user, time)."""
    _, at = np.unique(baskets.user * max(1, baskets.items) + baskets.row, return_index=True)
    first = np.zeros(len(baskets.row), bool)
    first[at] = True
    return first


def _count(baskets: Baskets, pairs: IntArray) -> IntArray:
    return np.bincount(baskets.row[pairs], minlength=baskets.items)


def _table(
    baskets: Baskets, which: IntArray, who: IntArray, pair: IntArray, popular: IntArray, of_item: IntArray
) -> CountTable:
    """``who``, ``pair``: the histories of ``which``. ``of_item`` [items, 4]: the item columns."""
    width = max(1, baskets.items)
    ordinal = baskets.ordinal[pair]
    end = np.cumsum(np.bincount(who, minlength=len(which)))
    start = np.r_[0, end[:-1]]
    ago = ordinal[end - 1][who] - ordinal
    # The first of equal keys is the oldest basket with the item, for pairs are in order of time.
    key, oldest, inverse, own = np.unique(
        who * width + baskets.row[pair], return_index=True, return_inverse=True, return_counts=True
    )
    newest = np.full(len(key), np.iinfo(np.int64).max)
    np.minimum.at(newest, inverse, ago)
    user_baskets = ordinal[end - 1] - ordinal[start] + 1
    user_items = np.bincount(key // width, minlength=len(which))
    columns = [own, own / user_baskets[key // width]]
    columns += [np.bincount(inverse, ago < last, len(key)) for last in (3, 5, 10)]
    columns += [newest, ago[oldest]]
    order = np.lexsort((key, -own, key // width))
    kept = np.zeros(len(key), bool)
    kept[order[np.arange(len(key)) - np.repeat(np.cumsum(user_items) - user_items, user_items) < _OWN]] = True
    asked = np.union1d(key[kept], (np.arange(len(which))[:, None] * width + popular).ravel())
    target, rows = np.divmod(asked, width)
    matrix = np.full((len(asked), len(COLUMNS)), np.nan, np.float32)
    matrix[:, :5] = 0.0
    at = np.minimum(np.searchsorted(key, asked), len(key) - 1)
    had = key[at] == asked
    matrix[had, : len(columns)] = np.stack(columns, axis=1)[at[had]]
    mean_size = np.bincount(who, minlength=len(which)) / user_baskets
    matrix[:, 7:10] = np.stack((user_baskets, user_items, mean_size), axis=1)[target]
    matrix[:, 10:] = of_item[rows]
    return CountTable(which, np.bincount(target, minlength=len(which)), rows, matrix)
