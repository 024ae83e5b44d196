"""The models that are fitted to evidence, behind one call: XGBoost, LightGBM and logistic regression.

``monotone`` says for trees by column whether odds may only rise with it (1), only fall (-1) or do either (0); empty for
none. Logistic regression is left free: its weight of a column is what that adds to others that say much the same.

The only file of `training` that imports XGBoost and LightGBM. One thread each: evaluations run side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from training.tagging.views import Matrix

FloatArray = npt.NDArray[np.float64]
Scorer = Callable[[Matrix], FloatArray]
"""Evidence [n, columns] -> log-odds [n]."""

_XGBOOST: Final = {
    "objective": "binary:logistic",
    "eta": 0.08,
    "max_depth": 4,
    "min_child_weight": 3,
    "subsample": 0.7,
    "colsample_bytree": 0.4,
    "tree_method": "hist",
    "max_bin": 64,
    "nthread": 1,
}
_LIGHTGBM: Final = {
    "objective": "binary",
    "learning_rate": 0.06,
    "num_leaves": 15,
    "min_data_in_leaf": 20,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "feature_fraction": 0.4,
    "max_bin": 63,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


def xgboost_scorer(
    matrix: Matrix, right: npt.NDArray[np.bool_], seed: int, trees: int = 150, monotone: Sequence[int] = ()
) -> Scorer:
    import xgboost

    parameters = {**_XGBOOST, "seed": seed}
    if monotone:
        parameters["monotone_constraints"] = tuple(monotone)
    booster = xgboost.train(parameters, xgboost.DMatrix(matrix, right, nthread=1), trees)
    booster.set_param({"nthread": 1})
    return lambda rows: np.asarray(booster.inplace_predict(rows, predict_type="margin"), np.float64)


def lightgbm_scorer(
    matrix: Matrix, right: npt.NDArray[np.bool_], seed: int, trees: int = 180, monotone: Sequence[int] = ()
) -> Scorer:
    import lightgbm

    parameters = {**_LIGHTGBM, "seed": seed}
    if monotone:
        parameters["monotone_constraints"] = list(monotone)
    booster = lightgbm.train(parameters, lightgbm.Dataset(matrix, right), trees)
    return lambda rows: np.asarray(booster.predict(rows, raw_score=True, num_threads=1), np.float64)


def logistic_scorer(matrix: Matrix, right: npt.NDArray[np.bool_], penalty: float = 10.0, within: float = 5.0) -> Scorer:
    """Logistic regression on standardised columns, cut at ``within`` deviations: a line has no other defence against
    values that training never saw. Where all are right, or none, the odds are those of the counts plus a half."""
    if right.all() or not right.any():
        odds = float(np.log((right.sum() + 0.5) / ((~right).sum() + 0.5)))
        return lambda rows: np.full(len(rows), odds)
    from sklearn.linear_model import LogisticRegression

    mean, deviation = matrix.mean(axis=0), matrix.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)

    def scaled(rows: Matrix) -> Matrix:
        return np.asarray(np.clip((rows - mean) / deviation, -within, within), np.float32)

    model = LogisticRegression(C=1.0 / penalty, max_iter=300).fit(scaled(matrix), right)
    return lambda rows: np.asarray(model.decision_function(scaled(rows)), np.float64)


def fit_scorers(
    matrix: Matrix, right: npt.NDArray[np.bool_], seed: int, monotone: Sequence[int] = (), copies: int = 1
) -> tuple[Scorer, Scorer, Scorer]:
    """XGBoost, LightGBM and logistic regression, in this order.

    ``copies``: so often either library of trees is fitted, each time with another seed; it says the mean of their odds.
    """
    seeds = [(seed + number) % (1 << 31) for number in range(copies)]
    return (
        _mean_of([xgboost_scorer(matrix, right, each, monotone=monotone) for each in seeds]),
        _mean_of([lightgbm_scorer(matrix, right, each, monotone=monotone) for each in seeds]),
        logistic_scorer(matrix, right),
    )


def _mean_of(scorers: Sequence[Scorer]) -> Scorer:
    return lambda rows: np.asarray(np.mean([scorer(rows) for scorer in scorers], axis=0), np.float64)


SCORERS: Final = {"xgboost": xgboost_scorer, "lightgbm": lightgbm_scorer}
