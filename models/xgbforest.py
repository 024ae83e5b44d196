"""An XGBoost model's margins by the compiled loop of `models.forest`: a call of XGBoost costs more than its trees.

XGBoost adds leaves up in float32, this in float64: margins agree to about six digits, and a model whose margins do not
is left to XGBoost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from models.forest import MOST_LEAVES, Forest, UnknownTree, leaf_place
from models.ports import FloatMatrix, FloatVector

_PROBES: Final = 256
TOLERANCE: Final = 1e-4
"""Margins and contributions further apart than this are not taken for the library's."""


def compiled(
    model: Mapping[str, Any], columns: int, margin: Callable[[FloatMatrix], FloatVector]
) -> Callable[[FloatMatrix], FloatVector] | None:
    """What answers the margins of a model as ``margin`` does, from its JSON; None for one that is not known here."""
    try:
        forest = _parsed(trees_of(model))
    except (UnknownTree, KeyError, TypeError, ValueError):
        return None
    rows = probes(columns, _PROBES)
    gap = margin(rows) - forest.predict(rows)
    base = float(np.median(gap))
    if not np.abs(gap - base).max() < TOLERANCE:
        return None
    return lambda matrix: forest.predict(matrix) + base


def trees_of(model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Raises KeyError and TypeError for what is no model of trees."""
    trees: list[Mapping[str, Any]] = model["learner"]["gradient_booster"]["model"]["trees"]
    return trees


def probes(columns: int, rows: int) -> FloatMatrix:
    """Evidence of all sizes, a fifth of it missing, to compare two answers of a model on."""
    rng = np.random.default_rng(0)
    found = rng.normal(scale=rng.choice([0.1, 1.0, 30.0], (rows, columns))).astype(np.float32)
    found[rng.random(found.shape) < 0.2] = np.nan
    return found


def _parsed(trees: list[Mapping[str, Any]]) -> Forest:
    leaves = np.zeros((len(trees), MOST_LEAVES))
    starts, nodes = [0], []
    for number, tree in enumerate(trees):
        nodes += list(_nodes(tree, leaves[number]))
        starts.append(len(nodes))
    feature, threshold, nan_right, keep = zip(*nodes) if nodes else ((), (), (), ())
    return Forest(
        np.array(feature, np.int64),
        np.array(threshold, np.float32),
        np.array(nan_right, bool),
        np.array(keep, np.uint64),
        np.array(starts, np.int64),
        leaves,
    )


def _nodes(tree: Mapping[str, Any], leaves: FloatVector) -> Iterator[tuple[int, np.float32, bool, int]]:
    """The inner nodes of one tree; writes its leaves' values. Raises UnknownTree."""
    left, right = tree["left_children"], tree["right_children"]
    if tree.get("categories") or sum(child == -1 for child in left) > MOST_LEAVES:
        raise UnknownTree("a tree splits by category or has too many leaves")
    values = np.array(tree["split_conditions"], np.float32)
    below = [0] * len(left)
    numbered = 0

    def number(node: int) -> int:
        """The bits of the leaves below, numbered from left to right."""
        nonlocal numbered
        if left[node] == -1:
            leaves[leaf_place(numbered)] = float(values[node])
            numbered += 1
            return 1 << (numbered - 1)
        below[node] = number(left[node])
        return below[node] | number(right[node])

    number(0)
    everything = (1 << MOST_LEAVES) - 1
    for node in range(len(left)):
        if left[node] != -1:
            # XGBoost goes left below the threshold, the loop up to it: the float just before is the same split.
            bound = np.nextafter(values[node], np.float32(-np.inf))
            yield tree["split_indices"][node], bound, not tree["default_left"][node], everything & ~below[node]
