"""Evidence that puts compiled trees to the test: values on thresholds, and missing ones."""

from __future__ import annotations

import numpy as np

from models.guardrail import Guardrail, XGBoostTrees
from models.ports import FloatMatrix

COLUMNS = ("a", "b", "c", "d")


def evidence(n: int, seed: int) -> FloatMatrix:
    """A coarse grid, so that values lie on thresholds; a fifth is missing."""
    rng = np.random.default_rng(seed)
    matrix = (np.round(rng.normal(size=(n, len(COLUMNS))) * 4) / 4).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.2] = np.nan
    return matrix


def xgboost_of(guardrail: Guardrail) -> XGBoostTrees:
    """The trees inside."""
    assert isinstance(guardrail._trees, XGBoostTrees)
    return guardrail._trees
