"""A ranker that is fitted in a moment, for tests that need another one than the release's."""

from __future__ import annotations

import numpy as np

from features.schema import RANKING_NAMES, schema_hash
from models import networkfit
from models.blend import Blend
from models.networkfit import NetworkConfig
from models.ranker import Binned, RankerConfig, fit


def small_ranker(seed: int = 0, schema: str | None = None) -> Blend:
    """Of the ranking columns, with an opinion of its own: popular items first. Trees and a little of a network."""
    rng = np.random.default_rng(seed)
    matrix = rng.lognormal(size=(4_000, len(RANKING_NAMES))).astype(np.float32)
    popular = matrix[:, RANKING_NAMES.index("i_count_28d")].reshape(-1, 20)
    relevance = (popular == popular.max(axis=1, keepdims=True)).astype(np.int32).ravel()
    sizes = np.full(200, 20, np.int32)
    config = RankerConfig(trees=10, min_leaf=5, threads=1)
    data = Binned.of(RANKING_NAMES, (matrix, relevance, sizes), threads=1)
    trees = fit(config, data, {"schema_hash": schema or schema_hash()}, rounds=10)
    small = NetworkConfig(units=(8, 4), epochs=40, weight_decay=1.0)
    return Blend(trees, networkfit.fit(small, matrix, relevance, sizes, np.arange(200)), 0.1)
