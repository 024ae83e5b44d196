"""What a release records of its ranker: test targets next to baselines that need no training, with an interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from features.schema import RANKING_NAMES
from models.ports import TreeModel
from training.metrics import bootstrap, means, per_target
from training.protocols import ItemSets
from training.ranking import Groups, best_rows

_AT = {name: position for position, name in enumerate(RANKING_NAMES)}


def baselines(groups: Groups, repeats: bool) -> dict[str, npt.NDArray[np.float64]]:
    """Scores of what needs no training: popularity, the user's own counts, and those with popularity behind.

    Without ``repeats`` no candidate was had. Own counts would leave nearly all of them equal, in the order retrieval
    found them in, which is no baseline but a part of the system: only popularity says something then.
    """
    matrix = groups.matrix
    popularity = np.nan_to_num(matrix[:, _AT["i_count_28d"]].astype(np.float64))
    if not repeats:
        return {"g-topfreq": popularity}
    own = matrix[:, _AT["ui_sessions"]].astype(np.float64)
    return {
        "g-topfreq": popularity,
        "p-topfreq": own,
        "gp-topfreq": own + popularity / (1.0 + popularity.max(initial=0.0)),
    }


def ranking_report(
    ranker: TreeModel,
    groups: Groups,
    wanted: ItemSets,
    split: Mapping[str, Any],
    seed: int,
    repeats: bool,
    k: int = 10,
) -> dict[str, Any]:
    """Metrics of the ranker (``tandem``) and the baselines on the same targets and candidates, and the paired gain."""
    scores = {**baselines(groups, repeats), "tandem": ranker.predict(groups.matrix)}
    results = {name: per_target(best_rows(groups, own, k), wanted, k) for name, own in scores.items()}
    models = {name: means(values) for name, values in results.items()}
    key = f"ndcg@{k}"
    best = max((name for name in models if name != "tandem"), key=lambda name: models[name][key] or 0.0)
    gain = bootstrap(results["tandem"][key] - results[best][key], seed)
    return {
        "models": models,
        "gain": {"best_baseline": best, key: gain.to_dict()},
        "targets": int((wanted.sizes > 0).sum()),
        "split": dict(split),
    }
