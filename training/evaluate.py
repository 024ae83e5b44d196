"""How good a ranking is, next to baselines, with intervals. Metrics as in Li et al., TOIS 2023."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from features.schema import RANKING_NAMES
from models.ports import TreeModel
from training.ranking import Groups

_AT = {name: position for position, name in enumerate(RANKING_NAMES)}


def per_target(scores: npt.NDArray[np.float64], groups: Groups, k: int) -> dict[str, npt.NDArray[np.float64]]:
    """NDCG@k, recall@k and hit@k of every target with a relevant item [targets]; items no source found count as missed.

    The ideal of NDCG is over min(k, relevant) positions. Equal scores rank by candidate order.
    """
    ends = np.cumsum(groups.sizes)
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    ndcg, recall, hit = [], [], []
    for number, (start, end) in enumerate(zip(ends - groups.sizes, ends)):
        relevance = groups.relevance[start:end]
        relevant = int(relevance.sum()) + int(groups.missed[number])
        if not relevant:
            continue
        top = relevance[np.argsort(-scores[start:end], kind="stable")[:k]]
        ndcg.append(float((top * discount[: len(top)]).sum() / discount[: min(k, relevant)].sum()))
        recall.append(float(top.sum()) / relevant)
        hit.append(float(top.any()))
    return {f"ndcg@{k}": np.array(ndcg), f"recall@{k}": np.array(recall), f"phr@{k}": np.array(hit)}


def bootstrap(values: npt.NDArray[np.float64], seed: int, rounds: int = 2_000) -> tuple[float, float, float]:
    """Mean and 95 % percentile interval over targets."""
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(rounds)])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def baselines(groups: Groups) -> dict[str, npt.NDArray[np.float64]]:
    """Scores of what needs no training: popularity, the user's own counts, and those with popularity behind."""
    matrix = groups.matrix
    popularity = np.nan_to_num(matrix[:, _AT["i_count_28d"]].astype(np.float64))
    own = matrix[:, _AT["ui_sessions"]].astype(np.float64)
    return {
        "g-topfreq": popularity,
        "p-topfreq": own,
        "gp-topfreq": own + popularity / (1.0 + popularity.max(initial=0.0)),
    }


def ranking_report(
    ranker: TreeModel, groups: Groups, split: Mapping[str, Any], seed: int, k: int = 10
) -> dict[str, Any]:
    """Metrics of the ranker (``tandem``) and the baselines on the same targets and candidates, and the paired gain."""
    results = {name: per_target(scores, groups, k) for name, scores in baselines(groups).items()}
    results["tandem"] = per_target(ranker.predict(groups.matrix), groups, k)
    key = f"ndcg@{k}"
    best = max((name for name in results if name != "tandem"), key=lambda name: float(results[name][key].mean()))
    mean, low, high = bootstrap(results["tandem"][key] - results[best][key], seed)
    return {
        "models": {
            name: {metric: float(values.mean()) if len(values) else None for metric, values in metrics.items()}
            for name, metrics in results.items()
        },
        "gain": {"best_baseline": best, key: {"mean": mean, "low": low, "high": high}},
        "targets": len(results["tandem"][key]),
        "split": dict(split),
    }
