"""From evidence to one tag a group with a confidence: the guardrail, its fellow models, and the model that accepts.

Held-out confidences of the training groups, on which the certificate rests, come from whole fits without their fold:
evidence, guardrail and fellows of a fold never see its gold. The accepting model alone, a logistic regression of a
handful of numbers, is fitted to the other folds' held-out answers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from training.tagging.datasets import TagData
from training.tagging.evidence import Evidence, Signals, evidence, held_out_signals, signals
from training.tagging.kernels import IntArray
from training.tagging.learners import FloatArray, Scorer, fit_scorers, logistic_scorer
from training.tagging.views import Matrix

OUTER: Final = 10
"""Folds of the held-out confidences. The model that answers is fitted to a ninth more gold than theirs were, and is a
little surer: the fewer the folds, the less its confidences are the certified ones."""
INNER: Final = 10
"""Folds of the evidence that models are fitted to."""
COPIES: Final = 3
"""Fits of the trees, whose odds are averaged: what one fit accepts moves with its seed by more than most changes do."""
WITNESSES: Final = ("both", "text", "maker", "basket")
"""Kernels whose own first label counts as agreement or not."""
ACCEPTOR_PENALTY: Final = 20.0
LOGISTIC_EVIDENCE: Final = "logistic-evidence"
"""Logistic regression on the guardrail's own evidence, with its own acceptor: what a line can do with it."""


@dataclass(frozen=True, slots=True, eq=False)
class Tags:
    """One tag for each of m groups: its label, the probability that it is right, and what the acceptor was told."""

    label: IntArray
    confidence: FloatArray
    told: Matrix


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """Tags of the training groups, each without its own gold, and of the test groups."""

    held_out: Tags
    test: Tags
    recall: float
    """Share of the test groups whose gold is among the candidates."""
    seconds: float | None = None
    """Processor time of answering for all the test groups, once everything is fitted; None where not timed apart."""


@dataclass(frozen=True, slots=True, eq=False)
class _Opinions:
    """What every model says of every candidate, log-odds [models, n]; and what the kernels put first, [k, m]."""

    lines: Evidence
    odds: FloatArray
    first: IntArray
    seconds: float = 0.0


def fit(
    data: TagData,
    train: IntArray,
    test: IntArray,
    seed: int,
    variants: Mapping[str, Matrix | None],
    folds: int = OUTER,
) -> dict[str, Fitted]:
    """Tags by the whole of it: guardrail (XGBoost), LightGBM and logistic regression on evidence, and the acceptor.

    ``train`` and ``test``: distinct groups. ``variants``: by name, what the knowledge graph says of every label of
    every group [T, L] (1 supports, -1 contradicts, 0 has no view), or None to do without it. It is evidence, and a tag
    it contradicts is never accepted. All variants share folds, candidates and every other piece of evidence.
    Beside a variant without the graph comes LOGISTIC_EVIDENCE, the same without trees.
    """
    rng = np.random.default_rng(seed)
    fold = rng.permutation(len(train)) % folds
    held: dict[str, list[tuple[IntArray, IntArray, Matrix]]] = {}
    for number in range(folds):
        rows = np.flatnonzero(fold == number)
        for name, opinions in _opinions(data, train[fold != number], train[rows], rng, variants).items():
            held.setdefault(name, []).append((rows, *_first(data, opinions)))
    result = {}
    for name, opinions in _opinions(data, train, test, rng, variants).items():
        label, told = _gathered(held[name], len(train))
        test_label, test_told = _first(data, opinions)
        confidence, test_confidence = accept(told, label == data.gold[train], fold, test_told)
        if (graph := variants.get(name)) is not None:
            confidence = np.where(graph[train, label] < 0, 0.0, confidence)
            test_confidence = np.where(graph[test, test_label] < 0, 0.0, test_confidence)
        result[name] = Fitted(
            Tags(label, confidence, told),
            Tags(test_label, test_confidence, test_told),
            opinions.lines.recall(data.gold),
            opinions.seconds,
        )
    return result


def accept(
    told: Matrix, right: npt.NDArray[np.bool_], fold: IntArray, test_told: Matrix
) -> tuple[FloatArray, FloatArray]:
    """Probability that a tag is right: of the training groups by the other folds, of the test groups by all."""
    confidence = np.empty(len(told))
    for number in np.unique(fold):
        held = fold == number
        confidence[held] = _probability(_acceptor(told[~held], right[~held]), told[held])
    return confidence, _probability(_acceptor(told, right), test_told)


def _acceptor(told: Matrix, right: npt.NDArray[np.bool_]) -> Scorer:
    return logistic_scorer(told, right, penalty=ACCEPTOR_PENALTY)


def _probability(scorer: Scorer, told: Matrix) -> FloatArray:
    return np.asarray(1.0 / (1.0 + np.exp(-scorer(told))), np.float64)


def _opinions(
    data: TagData,
    train: IntArray,
    queries: IntArray,
    rng: np.random.Generator,
    variants: Mapping[str, Matrix | None],
) -> dict[str, _Opinions]:
    """What models fitted to ``train`` alone say of ``queries``, by variant."""
    fold = rng.permutation(len(train)) % INNER
    seed = int(rng.integers(1 << 31))
    learned = held_out_signals(data, train, fold)
    begun = time.process_time()
    found = signals(data, train, queries)
    shared = time.process_time() - begun
    result = {}
    for name, graph in variants.items():
        extra = {} if graph is None else {"graph": graph}
        lines = evidence(data, train, learned, extra)
        right = lines.label == data.gold[train[lines.row]]
        scorers = fit_scorers(lines.matrix, right, seed, lines.monotone, COPIES)
        begun = time.process_time()
        asked = evidence(data, queries, found, extra)
        odds = np.stack([scorer(asked.matrix) for scorer in scorers])
        seconds = shared + time.process_time() - begun
        result[name] = _Opinions(asked, odds, _witnesses(found), seconds)
        if graph is None:
            result[LOGISTIC_EVIDENCE] = _Opinions(asked, odds[2:], _witnesses(found), seconds)
    return result


def _witnesses(found: Signals) -> IntArray:
    return np.stack([found.scores[name].argmax(axis=1) for name in WITNESSES if name in found.scores])


def _first(data: TagData, opinions: _Opinions) -> tuple[IntArray, Matrix]:
    """The label that guardrail and fellows together put first [m], and what speaks for accepting it [m, k]."""
    lines, odds = opinions.lines, opinions.odds
    label, at, share, margin = first_labels(lines, odds.mean(axis=0))
    own = [first_labels(lines, model) for model in odds]
    agreed = sum((found[0] == label).astype(np.float32) for found in own)
    seen = (opinions.first == label).sum(axis=0)
    entropy = _entropy(lines, odds.mean(axis=0))
    return label, np.stack(
        [
            _log_odds(share),
            margin,
            odds[:, at].mean(axis=0),
            odds[:, at].min(axis=0),
            odds[:, at].std(axis=0),
            np.asarray(agreed),
            seen,
            entropy,
            data.facts[lines.groups, 0],
        ],
        axis=1,
    ).astype(np.float32)


def first_labels(lines: Evidence, odds: FloatArray) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    """Of each group: the likeliest label, where it stands among the candidates, its share of all (softmax of the
    log-odds) and its margin to the second."""
    order = np.lexsort((odds, lines.row))
    last = np.r_[np.flatnonzero(np.diff(lines.row[order]) != 0), len(order) - 1]
    at = order[last]
    second = np.where(np.diff(np.r_[-1, last]) > 1, odds[order[last - 1]], odds[at] - 10.0)
    share = np.exp(odds[at] - _log_total(lines, odds))
    return lines.label[at], at, share, odds[at] - second


def _log_total(lines: Evidence, odds: FloatArray) -> FloatArray:
    best = np.full(len(lines.groups), -np.inf)
    np.maximum.at(best, lines.row, odds)
    return np.asarray(best + np.log(np.bincount(lines.row, np.exp(odds - best[lines.row]), len(best))))


def _entropy(lines: Evidence, odds: FloatArray) -> FloatArray:
    log_share = odds - _log_total(lines, odds)[lines.row]
    return np.asarray(-np.bincount(lines.row, np.exp(log_share) * log_share, len(lines.groups)), np.float64)


def _log_odds(share: FloatArray) -> FloatArray:
    inside = np.clip(share, 1e-6, 1.0 - 1e-6)
    return np.asarray(np.log(inside / (1.0 - inside)))


def _gathered(parts: Sequence[tuple[IntArray, IntArray, Matrix]], n: int) -> tuple[IntArray, Matrix]:
    label = np.empty(n, np.int64)
    told = np.empty((n, parts[0][2].shape[1]), np.float32)
    for rows, own_label, own_told in parts:
        label[rows], told[rows] = own_label, own_told
    return label, told
