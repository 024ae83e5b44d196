"""Whether certificates keep their promise: gold is drawn again and again from units whose truth is known.

All held-out units are taken for the whole population, so that the precision at any threshold is known exactly. Gold is
as many units drawn from it with replacement; a certificate is broken where what it accepts of the population is less
precise than it promised. At confidence 95 % that may happen in 5 % of the draws, and by chance a few more of 200.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, Final

import numpy as np

from models.certify import Bound
from training.tagging.kernels import IntArray
from training.tagging.learners import FloatArray

ROUNDS: Final = 200
ALLOWED: Final = 0.05
_CHANCE: Final = 0.95
"""Probability with which a promise that is kept exactly breaks no more often than the stated bound."""


def broken(
    top: FloatArray, worst: FloatArray, precision: float, certify: Callable[[IntArray], Bound], seed: int = 7
) -> dict[str, Any]:
    """How many of ROUNDS certificates are broken, and how many may be.

    ``top`` and ``worst`` [units]: the surest tag's score and the surest wrong tag's, -inf where there is none.
    ``certify``: the bound that the units drawn (row numbers, with repetitions) give.
    """
    rng = np.random.default_rng(seed)
    violations = accepting = 0
    for _ in range(ROUNDS):
        threshold = certify(rng.integers(0, len(top), len(top))).threshold
        if threshold == inf:
            continue
        accepted, wrong = top >= threshold, worst >= threshold
        accepting += bool(accepted.any())
        violations += bool(accepted.any() and wrong.sum() > (1.0 - precision) * accepted.sum())
    return _verdict(ROUNDS, accepting, violations)


def together(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several splits' rounds as one test."""
    rounds, accepting, violations = (
        sum(each[name] for each in found) for name in ("rounds", "accepting", "violations")
    )
    return _verdict(rounds, accepting, violations)


def _verdict(rounds: int, accepting: int, violations: int) -> dict[str, Any]:
    from scipy.stats import binom

    most = int(binom.ppf(_CHANCE, rounds, ALLOWED))
    return {
        "rounds": rounds,
        "accepting": accepting,
        "violations": violations,
        "at_most": most,
        "kept": violations <= most,
        "p_value": float(binom.sf(violations - 1, rounds, ALLOWED)),
    }
