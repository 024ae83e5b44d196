"""The compiled margins are XGBoost's, missing values and values on a threshold included."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from models.guardrail import Guardrail, GuardrailConfig, fit
from models.xgbforest import compiled
from tests.unit.models.grids import COLUMNS, evidence, xgboost_of


@pytest.fixture(scope="module")
def trained() -> Guardrail:
    matrix = evidence(3_000, 1)
    right = np.nan_to_num(matrix[:, 0]) + np.nan_to_num(matrix[:, 1]) ** 2 > 0.5
    config = GuardrailConfig(trees=60, depth=5, min_child_weight=1, threads=1)
    return fit(config, COLUMNS, matrix, right, np.arange(3_000) // 3, {}, {"a": 1})


def test_margins_are_those_of_xgboost_on_thresholds_and_with_missing_values(trained: Guardrail) -> None:
    trees = xgboost_of(trained)
    assert trees._margin != trees.by_library
    fresh = np.concatenate((evidence(2_000, 2), np.zeros((1, 4), np.float32), np.full((1, 4), np.nan, np.float32)))
    np.testing.assert_allclose(trees.margin(fresh), trees.by_library(fresh), rtol=0, atol=2e-5)


def test_a_row_s_margin_does_not_hang_on_its_company(trained: Guardrail) -> None:
    fresh = evidence(700, 3)
    alone = np.concatenate([trained.predict(fresh[row : row + 1]) for row in range(0, 700, 7)])
    assert alone.tobytes() == trained.predict(fresh)[::7].tobytes()


@pytest.mark.parametrize("saved", [{}, {"learner": "none"}, {"learner": {"gradient_booster": {"model": {}}}}])
def test_model_that_is_not_known_is_left_to_xgboost(trained: Guardrail, saved: dict[str, Any]) -> None:
    assert compiled(saved, len(COLUMNS), xgboost_of(trained).by_library) is None


def test_model_whose_margins_differ_is_left_to_xgboost(trained: Guardrail) -> None:
    model = json.loads(xgboost_of(trained)._booster.save_raw("json").decode())
    tree = model["learner"]["gradient_booster"]["model"]["trees"][0]
    tree["split_conditions"] = [value + 0.5 for value in tree["split_conditions"]]
    assert compiled(model, len(COLUMNS), xgboost_of(trained).by_library) is None
