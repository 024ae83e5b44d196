"""How good tags with confidences are: risk against coverage, calibration, and intervals over clusters."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from training.metrics import Interval
from training.tagging.kernels import IntArray
from training.tagging.learners import FloatArray

BoolArray = npt.NDArray[np.bool_]

BINS: Final = 10
ROUNDS: Final = 2_000


def risk_coverage(confidence: FloatArray, right: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Coverage and risk (share wrong of the accepted) when the k surest are accepted, k = 1..n."""
    order = np.argsort(-confidence, kind="stable")
    accepted = np.arange(1, len(order) + 1)
    return accepted / len(order), np.cumsum(~right[order]) / accepted


def aurc(confidence: FloatArray, right: BoolArray) -> float:
    """Area under the risk-coverage curve (Geifman and El-Yaniv, 2017)."""
    return float(risk_coverage(confidence, right)[1].mean())


def augrc(confidence: FloatArray, right: BoolArray) -> float:
    """Area under the generalized risk-coverage curve: the share of all that is accepted and wrong, over coverage.

    Traub et al., NeurIPS 2024: unlike AURC it does not weigh the few surest most.
    """
    coverage, risk = risk_coverage(confidence, right)
    return float((coverage * risk).mean())


def brier(confidence: FloatArray, right: BoolArray) -> float:
    """Mean squared difference of confidence and outcome."""
    return float(np.mean((confidence - right) ** 2))


def reliability(confidence: FloatArray, right: BoolArray, bins: int = BINS) -> list[tuple[float, float, int]]:
    """Mean confidence, share right and count of each of ``bins`` equally wide bins that hold any."""
    code = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        (float(confidence[code == at].mean()), float(right[code == at].mean()), int((code == at).sum()))
        for at in np.unique(code)
    ]


def ece(confidence: FloatArray, right: BoolArray, bins: int = BINS) -> float:
    """Expected calibration error over equally wide bins (Naeini et al., AAAI 2015)."""
    found = reliability(confidence, right, bins)
    return sum(abs(stated - true) * count for stated, true, count in found) / max(1, len(confidence))


def curve(confidence: FloatArray, right: BoolArray, points: int = 50) -> list[tuple[float, float]]:
    """Coverage and risk at ``points`` even places."""
    coverage, risk = risk_coverage(confidence, right)
    at = np.unique(np.linspace(0, len(coverage) - 1, points).astype(int))
    return [(float(coverage[place]), float(risk[place])) for place in at]


def macro(label: IntArray, gold: IntArray) -> tuple[float, float]:
    """Precision, the mean over labels that were given, and recall, the mean over labels that are gold."""
    right = label == gold
    many = int(max(label.max(initial=0), gold.max(initial=0))) + 1
    hits = np.bincount(gold[right], minlength=many)
    given, wanted = np.bincount(label, minlength=many), np.bincount(gold, minlength=many)
    precision = float((hits[given > 0] / given[given > 0]).mean())
    return precision, float((hits[wanted > 0] / wanted[wanted > 0]).mean())


def ratio(numerator: FloatArray, denominator: FloatArray, cluster: IntArray, seed: int) -> Interval:
    """Sum over sum with its 95 % percentile interval over resampled clusters; ``n`` counts the clusters.

    What belongs to one cluster [n] is drawn together: a type that is tested under several seeds is one witness.
    Rounds in which nothing was accepted have no ratio and are left out.
    """
    _, code = np.unique(cluster, return_inverse=True)
    top, bottom = np.bincount(code, numerator), np.bincount(code, denominator)
    if not bottom.sum():
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    rng = np.random.default_rng(seed)
    drawn = [(top[pick].sum(), bottom[pick].sum()) for pick in rng.integers(0, len(top), (ROUNDS, len(top)))]
    values = [above / below for above, below in drawn if below]
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(top.sum() / bottom.sum()), float(low), float(high), len(top))


def gain(difference: FloatArray, denominator: FloatArray, cluster: IntArray, seed: int) -> dict[str, Any]:
    """`ratio` of paired differences, and whether its interval ``excludes_zero``."""
    found = ratio(difference, denominator, cluster, seed)
    return {**found.to_dict(), "excludes_zero": bool(found.low > 0.0 or found.high < 0.0)}
