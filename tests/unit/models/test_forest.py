"""Scores of a Forest are LightGBM's, to the bit: whatever the trees look like and whatever a matrix holds."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.forest import Forest, UnknownTree

COLUMNS = 6
# What a split may part: zero, what LightGBM takes for zero, neighbours of thresholds, the ends of float32, nothing.
AWKWARD = [0.0, -0.0, 1e-35, 1.1e-35, -1e-35, 1e-38, 1.0, np.nextafter(np.float32(1), np.float32(2)), 3.4e38, -3.4e38]


def matrix(rows: int, seed: int, missing: float = 0.2) -> npt.NDArray[np.float32]:
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, COLUMNS)).astype(np.float32)
    values[:, 1] = random.integers(0, 4, rows)
    values[:, 2] = np.float32(0.9) ** random.integers(0, 900, rows).astype(np.float32)
    values[random.random(values.shape) < missing] = np.nan
    values[:, 5] = random.integers(0, 2, rows)  # a column without missing values
    return values


def fit(leaves: int, trees: int = 40, missing: float = 0.2, **parameters: Any) -> lightgbm.Booster:
    rows = matrix(3_000, 1, missing)
    wanted = np.nan_to_num(rows) @ np.arange(COLUMNS) + np.random.default_rng(2).normal(size=len(rows))
    settings = {"objective": "regression", "num_leaves": leaves, "min_data_in_leaf": 5, "verbosity": -1, **parameters}
    return lightgbm.train(
        {"boost_from_average": False, "num_threads": 1, **settings}, lightgbm.Dataset(rows, wanted), trees
    )


def same(booster: lightgbm.Booster, rows: npt.NDArray[np.float32]) -> bool:
    scores = Forest.parse(booster.model_to_string()).predict(rows)
    return scores.tobytes() == np.asarray(booster.predict(rows, raw_score=True, num_threads=1)).tobytes()


@pytest.mark.parametrize("leaves", [2, 3, 31, 33, 64])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_scores_are_lightgbms_to_the_bit(leaves: int, missing: float) -> None:
    booster = fit(leaves, missing=missing)
    for rows in (1, 7, 200, 511, 512, 513, 2_000):
        assert same(booster, matrix(rows, rows))


BOOSTER = fit(31)
THRESHOLDS = sorted(
    {
        float(value)
        for line in BOOSTER.model_to_string().splitlines()
        if line.startswith("threshold=")
        for value in line.removeprefix("threshold=").split()
    }
)


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 40), st.just(COLUMNS)),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True)
        | st.sampled_from([float(np.float32(value)) for value in AWKWARD])
        | st.sampled_from([float(np.float32(value)) for value in THRESHOLDS]),
    )
)
@settings(max_examples=300, deadline=None)
def test_awkward_values_go_where_lightgbm_sends_them(rows: npt.NDArray[np.float32]) -> None:
    assert same(BOOSTER, rows)


def test_a_row_scores_the_same_alone_and_in_company() -> None:
    forest, rows = Forest.parse(BOOSTER.model_to_string()), matrix(1_000, 5)
    together = forest.predict(rows)
    assert [float(forest.predict(rows[at : at + 1])[0]) for at in range(0, 1_000, 97)] == together[::97].tolist()


def test_a_matrix_that_is_not_contiguous_is_read_right() -> None:
    wide = np.repeat(matrix(50, 3), 2, axis=1)
    forest = Forest.parse(BOOSTER.model_to_string())
    assert (forest.predict(wide[:, ::2]) == forest.predict(matrix(50, 3))).all()


def test_a_model_that_learned_nothing_scores_its_one_leaf() -> None:
    booster = fit(31, trees=3, min_data_in_leaf=100_000)
    assert same(booster, matrix(10, 1))


@pytest.mark.parametrize("parameters", [{"num_leaves": 65}, {"zero_as_missing": True}, {"linear_tree": True}])
def test_what_it_does_not_know_is_refused_and_not_guessed(parameters: dict[str, Any]) -> None:
    booster = fit(31, trees=5, **parameters)
    with pytest.raises(UnknownTree):
        Forest.parse(booster.model_to_string())


def test_categorical_splits_are_refused() -> None:
    rows = matrix(2_000, 1, 0.0)
    wanted = np.isin(rows[:, 1], [0, 2]).astype(float)
    data = lightgbm.Dataset(rows, wanted, categorical_feature=[1])
    booster = lightgbm.train({"objective": "regression", "verbosity": -1, "num_threads": 1}, data, 3)
    with pytest.raises(UnknownTree, match="categorical"):
        Forest.parse(booster.model_to_string())
