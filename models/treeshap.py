"""Tree-SHAP contributions of an XGBoost model from tables made once: the library walks every path at every call.

After Fast TreeSHAP v2 (Yang, 2021, https://arxiv.org/abs/2109.09847): what a leaf gives to the features on its path
hangs only on which of their conditions a row meets, and a shallow path has few such cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import factorial, inf, nan
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from models.ports import FloatMatrix
from models.xgbforest import TOLERANCE, probes, trees_of

_MOST_ENTRIES: Final = 1 << 23
"""Values the tables of a model may hold, 32 MiB: 200 trees of depth 6. Deeper ones are left to the library."""
_PROBES: Final = 64

Shares = npt.NDArray[np.float64]
"""Contributions [n, columns + 1]; the last column is what the model says of nothing in particular."""


@dataclass(frozen=True, slots=True)
class _Leaf:
    """``conditions``: by feature on the path (lower, upper, whether NaN meets it, share of training rows that do)."""

    value: float
    conditions: dict[int, tuple[float, float, bool, float]]


def tabulated(
    model: Mapping[str, Any], columns: int, library: Callable[[FloatMatrix], Shares]
) -> Callable[[FloatMatrix], Shares] | None:
    """What answers a model's contributions as ``library`` does, from its JSON; None for one that is not known here."""
    try:
        tables = _tables(trees_of(model))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    if tables is None:
        return None
    rows = probes(columns, _PROBES)
    expected = library(rows)
    base = expected[0, -1]

    def shares(matrix: FloatMatrix) -> Shares:
        found = np.zeros((len(matrix), columns + 1))
        found[:, -1] = base
        _add_up(np.ascontiguousarray(matrix, np.float32), *tables, found)
        return found

    return shares if np.abs(shares(rows) - expected).max() < TOLERANCE else None


class _Tables(NamedTuple):
    """Conditions leaf by leaf, ``starts`` [leaves + 1] their bounds.

    A row meets one where its ``feature`` is at least ``lower`` and not at least ``upper`` (NaN: any value), or is NaN
    and ``nan_meets``. ``table`` holds for each leaf from ``at`` on, for each set of conditions met, what each gets.
    """

    feature: npt.NDArray[np.int64]
    lower: npt.NDArray[np.float32]
    upper: npt.NDArray[np.float32]
    nan_meets: npt.NDArray[np.bool_]
    starts: npt.NDArray[np.int64]
    table: npt.NDArray[np.float32]
    at: npt.NDArray[np.int64]


def _tables(trees: list[Mapping[str, Any]]) -> _Tables | None:
    """None where they would be too large."""
    leaves, starts, at = [], [0], [0]
    for leaf in (leaf for tree in trees for leaf in _leaves(tree, 0, {})):
        depth = len(leaf.conditions)
        leaves.append(leaf)
        starts.append(starts[-1] + depth)
        at.append(at[-1] + (depth << depth))
        if at[-1] > _MOST_ENTRIES:
            return None
    table = np.empty(at[-1], np.float32)
    for leaf, first, last in zip(leaves, at[:-1], at[1:]):
        shares = np.array([share for *_, share in leaf.conditions.values()])
        _tabulate(leaf.value, shares, _weights(len(shares)), table[first:last])
    conditions = [(name, *each) for leaf in leaves for name, each in leaf.conditions.items()]
    feature, lower, upper, nan_meets, _ = zip(*conditions) if conditions else ((),) * 5
    return _Tables(
        np.array(feature, np.int64),
        np.array(lower, np.float32),
        np.array(upper, np.float32),
        np.array(nan_meets, bool),
        np.array(starts, np.int64),
        table,
        np.array(at, np.int64),
    )


def _leaves(tree: Mapping[str, Any], node: int, path: dict[int, tuple[float, float, bool, float]]) -> Iterator[_Leaf]:
    left, right = tree["left_children"][node], tree["right_children"][node]
    value = float(np.float32(tree["split_conditions"][node]))
    if left == -1:
        yield _Leaf(value, path)
        return
    feature, cover = tree["split_indices"][node], tree["sum_hessian"]
    lower, upper, nan_meets, share = path.get(feature, (-inf, nan, True, 1.0))
    goes_left = bool(tree["default_left"][node])
    # fmin: the upper bound is NaN where there is none yet.
    below = (lower, float(np.fmin(upper, value)), nan_meets and goes_left, share * cover[left] / cover[node])
    above = (max(lower, value), upper, nan_meets and not goes_left, share * cover[right] / cover[node])
    yield from _leaves(tree, left, {**path, feature: below})
    yield from _leaves(tree, right, {**path, feature: above})


def _weights(depth: int) -> npt.NDArray[np.float64]:
    """Shapley's weight of a set of k other features [depth]: how many of all orders bring exactly it first."""
    return np.array([factorial(k) * factorial(depth - 1 - k) / factorial(depth) for k in range(depth)])


@njit(cache=True)  # type: ignore[untyped-decorator]
def _tabulate(
    value: float, shares: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], table: npt.NDArray[np.float32]
) -> None:
    depth = len(shares)
    sets = np.empty(depth)
    for met in range(1 << depth):
        for one in range(depth):
            # sets[k]: over the sets of k other features known, the share of rows that reach the leaf.
            sets[:] = 0.0
            sets[0] = 1.0
            for other in range(depth):
                if other != one:
                    for k in range(depth - 1, 0, -1):
                        sets[k] = sets[k] * shares[other] + sets[k - 1] * (met >> other & 1)
                    sets[0] *= shares[other]
            reached = (weights * sets).sum()
            table[met * depth + one] = value * ((met >> one & 1) - shares[one]) * reached


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _add_up(
    rows: npt.NDArray[np.float32],
    feature: npt.NDArray[np.int64],
    lower: npt.NDArray[np.float32],
    upper: npt.NDArray[np.float32],
    nan_meets: npt.NDArray[np.bool_],
    starts: npt.NDArray[np.int64],
    table: npt.NDArray[np.float32],
    tables: npt.NDArray[np.int64],
    shares: npt.NDArray[np.float64],
) -> None:
    for leaf in range(len(starts) - 1):
        first, last = starts[leaf], starts[leaf + 1]
        for row in range(len(rows)):
            met = 0
            for condition in range(first, last):
                value = rows[row, feature[condition]]
                # Without a branch: which way it went could not be foretold.
                within = (value >= lower[condition]) & (not value >= upper[condition])
                met |= np.int64(within | ((value != value) & nan_meets[condition])) << (condition - first)
            at = tables[leaf] + met * (last - first)
            for condition in range(first, last):
                shares[row, feature[condition]] += table[at + condition - first]
