"""A ranker that is fitted in a moment, for tests that need another one than the release's."""

from __future__ import annotations

import numpy as np

from features.schema import RANKING_NAMES, schema_hash
from models.ranker import Binned, LightGBMRanker, RankerConfig, fit


def small_ranker(seed: int = 0, schema: str | None = None) -> LightGBMRanker:
    """Of the ranking columns, with an opinion of its own: popular items first."""
    rng = np.random.default_rng(seed)
    matrix = rng.lognormal(size=(4_000, len(RANKING_NAMES))).astype(np.float32)
    popular = matrix[:, RANKING_NAMES.index("i_count_28d")].reshape(-1, 20)
    relevance = (popular == popular.max(axis=1, keepdims=True)).astype(np.int32).ravel()
    data = Binned.of(RANKING_NAMES, (matrix, relevance, np.full(200, 20, np.int32)), threads=1)
    config = RankerConfig(trees=10, min_leaf=5, threads=1)
    return fit(config, data, {"schema_hash": schema or schema_hash()}, rounds=10)
