"""From a matrix of tree-SHAP contributions to the few that tell a person why (Lundberg et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.ports import Contribution, FloatMatrix


def top_contributions(
    columns: Sequence[str], matrix: FloatMatrix, shares: npt.NDArray[np.float64], top: int
) -> list[tuple[Contribution, ...]]:
    """Per row the ``top`` largest by size, largest first. ``shares`` [n, columns + 1]: the last one is the bias."""
    found = []
    for row, share in zip(matrix, shares[:, :-1]):
        order = np.argsort(-np.abs(share), kind="stable")[:top]
        found.append(
            tuple(Contribution(columns[at], float(row[at]), float(share[at])) for at in order if share[at] != 0.0)
        )
    return found
