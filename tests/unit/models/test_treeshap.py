"""Contributions from tables are XGBoost's own, and Shapley values by their definition."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from models.explain import top_contributions
from models.guardrail import Guardrail, GuardrailConfig, fit
from models.ports import FloatMatrix
from models.treeshap import Shares, tabulated
from tests.unit.models.grids import COLUMNS, evidence, xgboost_of


def answers(matrix: FloatMatrix) -> npt.NDArray[np.bool_]:
    plain = np.nan_to_num(matrix)
    return np.asarray(plain[:, 0] * plain[:, 2] + plain[:, 1] ** 2 - np.isnan(matrix[:, 3]) > 0.5)


def trained(depth: int, trees: int = 60) -> Guardrail:
    matrix = evidence(3_000, 1)
    config = GuardrailConfig(trees=trees, depth=depth, min_child_weight=1, threads=1)
    return fit(config, COLUMNS, matrix, answers(matrix), np.arange(3_000) // 3, {}, {"a": 1})


def saved(guardrail: Guardrail) -> dict[str, Any]:
    model: dict[str, Any] = json.loads(xgboost_of(guardrail)._booster.save_raw("json").decode())
    return model


@pytest.mark.parametrize("depth", [1, 2, 5, 8])
def test_contributions_are_those_of_xgboost_on_thresholds_and_with_missing_values(depth: int) -> None:
    """Depth 8 on four columns: paths that ask for one column several times."""
    guardrail = trained(depth)
    shares = tabulated(saved(guardrail), len(COLUMNS), xgboost_of(guardrail)._shares_by_library)
    assert shares is not None
    fresh = np.concatenate((evidence(500, 2), np.zeros((1, 4), np.float32), np.full((1, 4), np.nan, np.float32)))
    expected = xgboost_of(guardrail)._shares_by_library(fresh)
    assert np.ptp(expected[:, :-1], axis=0).max() > 0.1
    np.testing.assert_allclose(shares(fresh), expected, rtol=0, atol=2e-5)


def test_contributions_are_the_mean_gain_of_a_column_over_all_orders_of_asking() -> None:
    """Shapley's definition on one tree, without anybody's algorithm: a column not asked yet is averaged over."""
    guardrail = trained(3, trees=1)
    shares = tabulated(saved(guardrail), len(COLUMNS), xgboost_of(guardrail)._shares_by_library)
    assert shares is not None
    (tree,) = saved(guardrail)["learner"]["gradient_booster"]["model"]["trees"]

    def mean(row: FloatMatrix, asked: frozenset[int], node: int = 0) -> float:
        left, right = tree["left_children"][node], tree["right_children"][node]
        if left == -1:
            return float(tree["split_conditions"][node])
        column, cover = tree["split_indices"][node], tree["sum_hessian"]
        if column in asked:
            value = row[column]
            goes_left = tree["default_left"][node] if np.isnan(value) else value < tree["split_conditions"][node]
            return mean(row, asked, left if goes_left else right)
        parts = ((mean(row, asked, child), cover[child]) for child in (left, right))
        return float(sum(part * share for part, share in parts) / cover[node])

    rows = evidence(20, 3)
    for row, found in zip(rows, shares(rows)):
        gains = np.zeros(len(COLUMNS))
        orders = list(permutations(range(len(COLUMNS))))
        for order in orders:
            for place, column in enumerate(order):
                gains[column] += mean(row, frozenset(order[: place + 1])) - mean(row, frozenset(order[:place]))
        np.testing.assert_allclose(found[:-1], gains / len(orders), rtol=0, atol=1e-6)


def test_an_answer_does_not_hang_on_its_company() -> None:
    shares = xgboost_of(trained(5)).shares
    fresh = evidence(100, 4)
    assert np.concatenate([shares(fresh[row : row + 1]) for row in range(100)]).tobytes() == shares(fresh).tobytes()


def test_a_guardrail_explains_by_the_tables_what_it_explains_by_xgboost() -> None:
    guardrail = trained(5)
    trees = xgboost_of(guardrail)
    assert trees._shares != trees._shares_by_library
    fresh = evidence(50, 5)
    quick = guardrail.explain(fresh, 2)
    slow = top_contributions(guardrail.columns, fresh, trees._shares_by_library(fresh), 2)
    for one, other in zip(quick, slow, strict=True):
        assert [each.feature for each in one] == [each.feature for each in other]
        np.testing.assert_allclose([e.contribution for e in one], [e.contribution for e in other], atol=2e-5)


def test_model_too_large_for_tables_is_left_to_xgboost() -> None:
    """One whole tree over ten columns: 1,024 leaves with a table of 10 * 2**10 entries each."""
    inner, nodes = 2**10 - 1, 2**11 - 1
    tree = {
        "left_children": [2 * node + 1 if node < inner else -1 for node in range(nodes)],
        "right_children": [2 * node + 2 if node < inner else -1 for node in range(nodes)],
        "split_indices": [(node + 1).bit_length() - 1 for node in range(nodes)],
        "split_conditions": [0.5] * nodes,
        "default_left": [0] * nodes,
        "sum_hessian": [float(2 ** (11 - (node + 1).bit_length())) for node in range(nodes)],
    }

    def library(_: FloatMatrix) -> Shares:
        raise AssertionError("asked although there are no tables to compare")

    assert tabulated({"learner": {"gradient_booster": {"model": {"trees": [tree]}}}}, 10, library) is None


@pytest.mark.parametrize("model", [{}, {"learner": "none"}, {"learner": {"gradient_booster": {"model": {}}}}])
def test_model_that_is_not_known_is_left_to_xgboost(model: dict[str, Any]) -> None:
    assert tabulated(model, len(COLUMNS), lambda rows: np.zeros((len(rows), len(COLUMNS) + 1))) is None


def test_model_whose_contributions_differ_is_left_to_xgboost() -> None:
    guardrail = trained(3)
    model = saved(guardrail)
    tree = model["learner"]["gradient_booster"]["model"]["trees"][0]
    tree["sum_hessian"] = [cover * (1 + place) for place, cover in enumerate(tree["sum_hessian"])]
    assert tabulated(model, len(COLUMNS), xgboost_of(guardrail)._shares_by_library) is None
