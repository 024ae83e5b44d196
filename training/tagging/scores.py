"""How good tags with confidences are: risk against coverage, calibration, and intervals over clusters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from training.metrics import Interval
from training.tagging.kernels import IntArray
from training.tagging.learners import FloatArray

BoolArray = npt.NDArray[np.bool_]

BINS: Final = 10
ROUNDS: Final = 2_000
RESAMPLED: Final = 300
"""Rounds of a statistic that has to be computed anew in each."""


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
    code = np.minimum((confidence * bins).astype(int), bins - 1)
    # A bin's share of all times the distance of its two means is that of its two sums over all.
    return float(np.abs(np.bincount(code, confidence - right)).sum()) / max(1, len(confidence))


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


def resampled(
    statistics: Mapping[str, Callable[[IntArray], float]], cluster: IntArray, seed: int
) -> dict[str, Interval]:
    """Statistics that are no sum over sum, each with a 95 % interval over resampled clusters; ``n`` counts those.

    ``statistics``: by name, each of the rows given (numbers below n, ascending; those of a cluster that is drawn twice
    stand twice), between 0 and 1. ``cluster`` [n]: as in `ratio`. All are computed of the same draws.

    Repeated rows move some statistics to one side, calibration error up. An interval therefore reaches as far to both
    sides of the value as the percentile interval does to its farther one: on made data the percentile interval alone
    covered a true ECE of .03 in 69 % of samples, this one in 93 %. Of a nearly perfect calibration every sample's ECE
    is too high, and so, often, is the interval.
    """
    if not len(cluster):
        return {name: Interval(float("nan"), float("nan"), float("nan"), 0) for name in statistics}
    _, code = np.unique(cluster, return_inverse=True)
    rows, many = np.arange(len(code)), int(code.max()) + 1
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in statistics}
    for _ in range(RESAMPLED):
        times = np.bincount(rng.integers(0, many, many), minlength=many)
        chosen = np.repeat(rows, times[code])
        for name, statistic in statistics.items():
            drawn[name].append(statistic(chosen))
    found = {}
    for name, statistic in statistics.items():
        value = statistic(rows)
        low, high = np.quantile(drawn[name], [0.025, 0.975])
        reach = float(max(value - low, high - value))
        found[name] = Interval(value, max(0.0, value - reach), min(1.0, value + reach), many)
    return found


def of_confidences(confidence: FloatArray, right: BoolArray) -> dict[str, Callable[[IntArray], float]]:
    """AURC, AUGRC, Brier score and ECE of confidences [n] as what `resampled` takes."""
    measures = {"aurc": aurc, "augrc": augrc, "brier": brier, "ece": ece}

    def of(measure: Callable[[FloatArray, BoolArray], float]) -> Callable[[IntArray], float]:
        return lambda rows: measure(confidence[rows], right[rows])

    return {name: of(measure) for name, measure in measures.items()}


def gain(difference: FloatArray, denominator: FloatArray, cluster: IntArray, seed: int) -> dict[str, Any]:
    """`ratio` of paired differences, and whether its interval ``excludes_zero``."""
    found = ratio(difference, denominator, cluster, seed)
    return {**found.to_dict(), "excludes_zero": bool(found.low > 0.0 or found.high < 0.0)}
