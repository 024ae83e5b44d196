"""Metrics of recommended lists, one value a target, and intervals over targets.

Definitions as in Li et al., "A Next Basket Recommendation Reality Check", TOIS 2023: recall, NDCG with the ideal over
min(k, |target|), and PHR (the share of targets with a hit), each also over the repeat and over the explore items only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from models.ports import TreeModel
from training.protocols import IntArray, ItemSets
from training.ranking import Groups, best_rows

FloatArray = npt.NDArray[np.float64]

KS: Final = (10, 20)
METRICS: Final = ("ndcg", "recall", "phr")
ROUNDS: Final = 4_000
"""Bootstrap rounds: the 2.5 % quantile of fewer wanders in the third digit."""
SLICE_LEAST: Final = 30
"""A slice of fewer targets is measured and not named the worst: its mean is noise."""
DRAWS_AT_ONCE: Final = 4_000_000
"""Bounds the bootstrap's memory: 32 MB."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Mean and 95 % percentile interval over ``n`` targets; NaN where there is none."""

    mean: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON, in which NaN is null."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


def per_target(rows: IntArray, wanted: ItemSets, k: int) -> dict[str, FloatArray]:
    """``ndcg@k``, ``recall@k`` and ``phr@k`` of each target [n]; NaN where a target wants nothing.

    ``rows`` int [n, >= k]: recommended items, best first and distinct, padded with -1.
    """
    if rows.shape[1] < k:
        rows = np.pad(rows, ((0, 0), (0, k - rows.shape[1])), constant_values=-1)
    hits = wanted.contains(rows[:, :k])
    sizes = wanted.sizes.astype(np.float64)
    sizes[sizes == 0] = np.nan
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.r_[np.nan, np.cumsum(discount)][np.minimum(wanted.sizes, k)]
    phr = np.where(np.isnan(sizes), np.nan, hits.any(axis=1))
    return {f"ndcg@{k}": hits @ discount / ideal, f"recall@{k}": hits.sum(axis=1) / sizes, f"phr@{k}": phr}


def ndcg(groups: Groups, model: TreeModel) -> FloatArray:
    """NDCG@10 of each target's order of its own candidates [targets]; what retrieval missed does not count."""
    return ndcg_of(groups, model.predict(groups.matrix))


def ndcg_of(groups: Groups, scores: npt.NDArray[np.float64]) -> FloatArray:
    """The same of scores [n]."""
    relevant = groups.relevance > 0
    owner = np.repeat(np.arange(len(groups.sizes)), groups.sizes)
    wanted = ItemSets.build(owner[relevant], groups.rows[relevant], len(groups.sizes))
    return per_target(best_rows(groups, scores, 10), wanted, 10)["ndcg@10"]


def all_metrics(rows: IntArray, wanted: ItemSets, had: ItemSets, ks: Sequence[int] = KS) -> dict[str, FloatArray]:
    """Every metric of each target [n], at every k; ``/repeat`` and ``/explore`` count only such items of the target.

    A split is NaN for a target that wants no such item: it is left out of the mean.
    """
    old = wanted.inside(had)
    parts = {"": wanted, "/repeat": wanted.keep(old), "/explore": wanted.keep(~old)}
    return {
        f"{name}{suffix}": values
        for k in ks
        for suffix, part in parts.items()
        for name, values in per_target(rows, part, k).items()
    }


def means(values: Mapping[str, FloatArray]) -> dict[str, float | None]:
    """Means over the targets that have a value; None where none has."""
    return {name: None if np.isnan(column).all() else float(np.nanmean(column)) for name, column in values.items()}


def bootstrap(values: FloatArray, seed: int, rounds: int = ROUNDS, at_once: int = DRAWS_AT_ONCE) -> Interval:
    """Mean of ``values`` [n] and its 95 % percentile interval over resampled targets; NaNs are left out.

    For a paired comparison give the differences of two models on the same targets.
    """
    values = values[~np.isnan(values)]
    n = len(values)
    if not n:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    rng = np.random.default_rng(seed)
    step = max(1, at_once // n)
    drawn = [values[rng.integers(0, n, (min(step, rounds - at), n))].mean(axis=1) for at in range(0, rounds, step)]
    low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high), n)


def beyond_accuracy(rows: IntArray, had: ItemSets, items: int, category: IntArray | None, k: int) -> dict[str, Any]:
    """What accuracy does not see, over the first ``k`` of ``rows`` [n, >= k].

    ``coverage@k``: share of the ``items`` that anybody is shown. ``diversity@k``: share of a list's pairs of items in
    different categories, the mean over lists; ``category`` int [items], -1 where unknown (such items are left out);
    None without categories. ``novelty@k``: mean self-information of a shown item in bits, -log2 of the share of users
    who had it before (add-one smoothing, so that what nobody had is finite).
    """
    rows = rows[:, :k]
    shown = rows[rows >= 0]
    owners = np.bincount(had.rows, minlength=items)
    information = -np.log2((owners + 1) / (len(had) + 1))
    return {
        f"coverage@{k}": len(np.unique(shown)) / items if items else None,
        f"diversity@{k}": None if category is None else _diversity(rows, category),
        f"novelty@{k}": float(information[shown].mean()) if len(shown) else None,
    }


def _diversity(rows: IntArray, category: IntArray) -> float | None:
    groups = np.where(rows >= 0, category[rows], -1)
    first, second = np.triu_indices(rows.shape[1], 1)
    left, right = groups[:, first], groups[:, second]
    known = (left >= 0) & (right >= 0)
    pairs = known.sum(axis=1)
    lists = pairs > 0
    return float((((left != right) & known).sum(axis=1)[lists] / pairs[lists]).mean()) if lists.any() else None


def slices(
    values: FloatArray, users: Sequence[str], attributes: pl.DataFrame | None, seed: int
) -> dict[str, dict[str, Interval]]:
    """Interval of ``values`` [n] for every value of every user attribute: attribute -> value -> interval.

    ``attributes``: the users table. Numbers are cut at their quartiles; lists are left out. Users without a value are
    ``unknown``, so that who is not described is not overlooked either.
    """
    if attributes is None:
        return {}
    own = pl.DataFrame({"user_id": list(users)}).join(attributes, on="user_id", how="left", maintain_order="left")
    result = {}
    for name in attributes.columns:
        if name == "user_id" or own[name].dtype.is_nested() or own[name].null_count() == len(own):
            continue
        labels = _labels(own[name]).to_numpy()
        result[name] = {str(label): bootstrap(values[labels == label], seed) for label in np.unique(labels)}
    return result


def _labels(column: pl.Series) -> pl.Series:
    """String labels of a column, ``unknown`` for null."""
    if column.dtype.is_numeric() and column.n_unique() > 12:
        column = column.cast(pl.Float64).qcut(4, allow_duplicates=True).cast(pl.String)
    return column.cast(pl.String).fill_null("unknown")


def worst_slice(found: Mapping[str, Mapping[str, Interval]], least: int = SLICE_LEAST) -> dict[str, Any] | None:
    """The slice with the lowest mean among those of at least ``least`` targets; None where there is none."""
    named = [
        (interval.mean, attribute, value, interval)
        for attribute, values in found.items()
        for value, interval in values.items()
        if interval.n >= least
    ]
    if not named:
        return None
    _, attribute, value, interval = min(named, key=lambda entry: entry[:3])
    return {"attribute": attribute, "value": value, **interval.to_dict()}
