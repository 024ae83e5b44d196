"""An LLM's tags under the certificate that every method has, and calibrated confidences."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from models.certify import certify
from training.tagging.datasets import TagData
from training.tagging.evaluate import certificate_config
from training.tagging.kernels import IntArray
from training.tagging.learners import FloatArray
from training.tagging.scores import BoolArray
from training.tagging.spent import Spent
from training.tagging.summary import PRECISIONS, Outcome

UNSAID: Final = -20.0
"""Log-probability of a label that the LLM did not name."""
FOLDS: Final = 5
SAMPLES: Final = 3
TEMPERATURE: Final = 0.7
"""Of the self-consistency vote (Wang et al., ICLR 2023)."""


def isotonic(score: FloatArray, right: BoolArray, known: int, seed: int) -> FloatArray:
    """Probabilities by isotonic regression on the first ``known`` answers; of those by the other folds.

    Of fewer than two nothing can be learned, and all are improbable.
    """
    from sklearn.isotonic import IsotonicRegression

    if known < 2:
        return np.zeros(len(score))

    def fit(rows: IntArray) -> Any:
        return IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(score[rows], right[rows])

    result = np.empty(len(score))
    fold = np.random.default_rng(seed).permutation(known) % FOLDS
    for number in range(FOLDS):
        held = np.flatnonzero(fold == number)
        if len(held):
            result[held] = fit(np.flatnonzero(fold != number)).predict(score[held])
    if known < len(score):
        result[known:] = fit(np.arange(known)).predict(score[known:])
    return result


def outcome(
    data: TagData,
    method: str,
    seed: int,
    known: IntArray,
    asked: IntArray,
    label: IntArray,
    confidence: FloatArray,
    recall: float,
    spent: Spent | None = None,
) -> Outcome:
    """Labels and confidences of the ``known`` groups, which certify, and then of the ``asked`` ones; -1 is no label.

    ``spent``: what the method's answers about all of them took.
    """
    many = len(known)
    right = label[:many] == data.gold[known]
    certificates = {level: certify(confidence[:many], right, certificate_config(method, level)) for level in PRECISIONS}
    # A group without a usable answer has no tag; the first label stands in, with no confidence.
    usable = label[many:] >= 0
    shown = np.where(usable, label[many:], 0)
    sure = np.where(usable, confidence[many:], 0.0)
    return Outcome(method, seed, asked, shown, sure, certificates, recall, 0.0, spent=spent)
