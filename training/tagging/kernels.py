"""Similarity of groups to scores of labels: kernel ridge regression and neighbour votes, each with held-out answers.

Ridge regression on the labels' shares is a least-squares classifier whose held-out answers are exact and cheap: with
G = (K + penalty I)^-1 and a fold's rows b, the residual of rows b under the fit without them is G[b, b]^-1 (G Y)[b]
(the block form of the leave-one-out identity; Rifkin and Lippert, MIT-CSAIL-TR-2007-025).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from training.tagging.views import Matrix

IntArray = npt.NDArray[np.int64]

NEIGHBOURS: Final = 15
_SHARPNESS: Final = 6.0
"""Weight of a neighbour: exp(_SHARPNESS * (similarity - best similarity))."""


def ridge_held_out(kernel: Matrix, shares: Matrix, fold: IntArray, penalty: float) -> Matrix:
    """Scores [n, L] of every row by the fit to the other folds. ``kernel`` [n, n], ``shares`` [n, L], ``fold`` [n]."""
    inverse = _inverse(kernel, penalty)
    weights = inverse @ shares
    scores = np.empty_like(shares)
    for number in np.unique(fold):
        held = np.flatnonzero(fold == number)
        scores[held] = shares[held] - np.linalg.solve(inverse[np.ix_(held, held)], weights[held])
    return scores


def ridge(kernel: Matrix, shares: Matrix, queries: Matrix, penalty: float) -> Matrix:
    """Scores [m, L] of ``queries`` [m, n], similarities to the n rows that are fitted."""
    from scipy import linalg

    factor = linalg.cho_factor(_penalised(kernel, penalty), overwrite_a=True, check_finite=False)
    return np.asarray(queries @ linalg.cho_solve(factor, shares, check_finite=False), np.float32)


def votes(similarity: Matrix, shares: Matrix, several: bool = False) -> tuple[Matrix, Matrix]:
    """Votes of the nearest rows for each label [m, L], and the similarity of a label's nearest row [m, L].

    ``similarity`` [m, n], -inf where a row may not vote; ``shares`` [n, L]. A row carries its main label, or with
    ``several`` each one that it has any share of.
    """
    k = min(NEIGHBOURS, similarity.shape[1])
    near = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    value = np.take_along_axis(similarity, near, axis=1)
    weight = np.exp(_SHARPNESS * (value - value.max(axis=1, keepdims=True)))
    weight /= weight.sum(axis=1, keepdims=True)
    found = np.zeros((len(similarity), shares.shape[1]), np.float32)
    best = np.zeros_like(found)
    carried = shares > 0 if several else np.eye(shares.shape[1], dtype=bool)[shares.argmax(axis=1)]
    for rank in range(k):
        found += weight[:, rank, None] * shares[near[:, rank]]
        np.maximum(best, carried[near[:, rank]] * np.maximum(value[:, rank, None], 0.0), out=best)
    return found, best


def _penalised(kernel: Matrix, penalty: float) -> Matrix:
    result = kernel.copy()
    result.flat[:: len(kernel) + 1] += penalty
    return result


def _inverse(kernel: Matrix, penalty: float) -> Matrix:
    from scipy import linalg

    factor, failed = linalg.lapack.spotrf(_penalised(kernel, penalty), lower=1, overwrite_a=1)
    inverse, failed_too = linalg.lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed or failed_too:
        raise ValueError(f"a kernel of {len(kernel)} rows is not positive definite with penalty {penalty}: raise it")
    return np.asarray(np.tril(inverse) + np.tril(inverse, -1).T, np.float32)
