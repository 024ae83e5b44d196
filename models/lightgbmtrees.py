"""A guardrail's trees by LightGBM, to compare with XGBoost's: ``model = "lightgbm"`` in a guardrail's settings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from models.errors import ArtifactMismatch
from models.forest import MOST_LEAVES, Forest, UnknownTree
from models.ports import FloatMatrix, FloatVector
from models.treeshap import Shares

if TYPE_CHECKING:
    import lightgbm

    from models.guardrail import TreesConfig

_FILE: Final = "model.txt"


class LightGBMTrees:
    """`models.guardrail.Trees`. Margins come from `models.forest`, to LightGBM's bits; contributions from LightGBM."""

    def __init__(self, booster: lightgbm.Booster) -> None:
        self._booster = booster

    @cached_property
    def _forest(self) -> Forest | None:
        try:
            return Forest.parse(self._booster.model_to_string())
        except UnknownTree:
            return None

    def margin(self, matrix: FloatMatrix) -> FloatVector:
        return self.by_library(matrix) if self._forest is None else self._forest.predict(matrix)

    def by_library(self, matrix: FloatMatrix) -> FloatVector:
        return np.asarray(self._booster.predict(matrix, raw_score=True, num_threads=1), np.float64)

    def shares(self, matrix: FloatMatrix) -> Shares:
        return np.asarray(self._booster.predict(matrix, pred_contrib=True, num_threads=1), np.float64)

    def save(self, folder: Path) -> None:
        # LightGBM's own text format: readable, and without code in it.
        (folder / _FILE).write_text(self._booster.model_to_string())


class LightGBM:
    """`models.guardrail.Library` of LightGBM: settings that say what XGBoost's say."""

    name = "lightgbm"

    def fit(
        self, config: TreesConfig, monotone: Sequence[int], matrix: FloatMatrix, right: npt.NDArray[np.bool_]
    ) -> LightGBMTrees:
        import lightgbm

        parameters: dict[str, Any] = {
            "objective": "binary",
            "learning_rate": config.learning_rate,
            "max_depth": config.depth,
            "num_leaves": max(2, min(2**config.depth, MOST_LEAVES)),
            "min_sum_hessian_in_leaf": config.min_child_weight,
            "min_data_in_leaf": 1,
            "lambda_l2": 1.0,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "feature_fraction": 0.8,
            "monotone_constraints": list(monotone),
            "seed": config.seed,
            "num_threads": config.threads,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }
        booster = lightgbm.train(parameters, lightgbm.Dataset(matrix, right), config.trees)
        return LightGBMTrees(booster)

    def load(self, folder: Path, columns: int) -> LightGBMTrees:
        import lightgbm

        try:
            booster = lightgbm.Booster(model_str=(folder / _FILE).read_text())
        except (lightgbm.basic.LightGBMError, OSError) as error:
            raise ArtifactMismatch(f"{folder} cannot be read by this LightGBM ({error}). Run: tandem train") from error
        if booster.num_feature() != columns:
            raise ArtifactMismatch(f"{folder} scores {booster.num_feature()} columns, not {columns}. Run: tandem train")
        return LightGBMTrees(booster)
