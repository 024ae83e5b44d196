"""What the guardrail must beat, under the same certificate: neighbours, a linear SVM, and logistic regression.

SVM and logistic regression see every view the guardrail's evidence is made of, as the principal coordinates of the
views' weighted sum; once more they see only what the products say of themselves (``-attributes``), without what others
do with them. Each method's confidence is a probability by logistic regression on its own scores, fitted to
held-out answers as the guardrail's acceptor is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import numpy as np

from training.tagging.datasets import TagData
from training.tagging.evidence import PENALTY
from training.tagging.kernels import IntArray, ridge, ridge_held_out
from training.tagging.tagger import WITNESSES, Fitted, Tags, accept
from training.tagging.views import Matrix

FOLDS: Final = 5
COORDINATES: Final = 300
DONE_WITH: Final = frozenset(("basket", "household", "price", "store", "offer"))
"""Views of what customers and shops do with products; the others are of their words and attributes."""
Classifier = Callable[[TagData, IntArray, IntArray], Matrix]
"""Scores [queries, L], -inf for a label that training lacks, from a fit to the training groups."""


def neighbours(k: int) -> Classifier:
    """Votes of the k groups whose embedded text is nearest, weighted by similarity."""

    def scores(data: TagData, train: IntArray, queries: IntArray) -> Matrix:
        alike = data.kernels["meaning"][np.ix_(queries, train)]
        near = np.argsort(-alike, axis=1, kind="stable")[:, :k]
        found = np.zeros((len(queries), len(data.labels)), np.float32)
        for rank in range(k):
            weight = np.maximum(np.take_along_axis(alike, near[:, rank, None], axis=1)[:, 0], 0.0)
            np.add.at(found, (np.arange(len(queries)), data.gold[train[near[:, rank]]]), weight / k)
        return found

    return scores


def coordinates(data: TagData, without: Collection[str] = ()) -> Matrix:
    """Principal coordinates of the views' weighted sum, float32 [T, COORDINATES]: no label is looked at. ``without``:
    views to leave out."""
    from scipy import linalg

    kernel = np.zeros((len(data.groups), len(data.groups)))
    for view, weight in data.mixes["all"].items():
        if view not in without:
            kernel += weight * data.kernels[view]
    many = min(COORDINATES, len(kernel))
    value, vector = linalg.eigh(kernel, subset_by_index=(len(kernel) - many, len(kernel) - 1))
    return np.asarray(vector * np.sqrt(np.maximum(value, 0.0)), np.float32)


def svm(points: Matrix) -> Classifier:
    """Linear support vector machines, one against the rest."""
    from sklearn.svm import LinearSVC

    def scores(data: TagData, train: IntArray, queries: IntArray) -> Matrix:
        model = LinearSVC(C=1.0, tol=0.1, max_iter=200, random_state=0).fit(points[train], data.gold[train])
        return _spread(model.classes_, model.decision_function(points[queries]), len(data.labels))

    return scores


def logistic(points: Matrix) -> Classifier:
    """Multinomial logistic regression."""
    from sklearn.linear_model import LogisticRegression

    def scores(data: TagData, train: IntArray, queries: IntArray) -> Matrix:
        model = LogisticRegression(C=10.0, tol=1e-3, max_iter=200).fit(points[train], data.gold[train])
        return _spread(model.classes_, model.predict_log_proba(points[queries]), len(data.labels))

    return scores


def fit(data: TagData, train: IntArray, test: IntArray, seed: int, methods: dict[str, Classifier]) -> dict[str, Fitted]:
    """Every method with its own confidence; and ``logistic+acceptor``: logistic regression's first label, accepted by
    the guardrail's acceptor from its share, margin and entropy and from how many kernels agree with it."""
    fold = np.random.default_rng(seed).permutation(len(train)) % FOLDS
    result: dict[str, Fitted] = {}
    for name, classify in methods.items():
        held = np.empty((len(train), len(data.labels)), np.float32)
        for number in range(FOLDS):
            rows = fold == number
            held[rows] = classify(data, train[~rows], train[rows])
        asked = classify(data, train, test)
        result[name] = _fitted(data, train, fold, held, asked, _own(held), _own(asked))
        if name == "logistic":
            witness, asked_witness = _witnesses(data, train, test, fold)
            result["logistic+acceptor"] = _fitted(
                data,
                train,
                fold,
                held,
                asked,
                _with_agreement(held, witness, data.facts[train, 0]),
                _with_agreement(asked, asked_witness, data.facts[test, 0]),
            )
    return result


def _fitted(
    data: TagData, train: IntArray, fold: IntArray, held: Matrix, asked: Matrix, told: Matrix, asked_told: Matrix
) -> Fitted:
    label, asked_label = held.argmax(axis=1), asked.argmax(axis=1)
    confidence, asked_confidence = accept(told, label == data.gold[train], fold, asked_told)
    return Fitted(Tags(label, confidence, told), Tags(asked_label, asked_confidence, asked_told), 1.0)


def _own(scores: Matrix) -> Matrix:
    """The best score and its margin to the second [m, 2]."""
    best = np.sort(scores, axis=1)[:, -2:]
    return np.stack((best[:, 1], best[:, 1] - np.maximum(best[:, 0], -50.0)), axis=1).astype(np.float32)


def _with_agreement(scores: Matrix, witness: IntArray, size: Matrix) -> Matrix:
    share = np.exp(scores - scores.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    entropy = -(share * np.log(share + 1e-12)).sum(axis=1)
    top = np.clip(share.max(axis=1), 1e-6, 1 - 1e-6)
    agreed = (witness == scores.argmax(axis=1)).sum(axis=0)
    told = (*_own(scores).T, np.log(top / (1 - top)), entropy, agreed, size)
    return np.stack(told, axis=1).astype(np.float32)


def _witnesses(data: TagData, train: IntArray, test: IntArray, fold: IntArray) -> tuple[IntArray, IntArray]:
    """First labels by the kernels that speak for the guardrail's tags, too [k, train] and [k, test]."""
    held, asked = [], []
    shares = data.shares[train]
    for name in WITNESSES:
        if name in data.kernels:
            kernel = data.kernels[name][np.ix_(train, train)]
            held.append(ridge_held_out(kernel, shares, fold, PENALTY).argmax(axis=1))
            asked.append(ridge(kernel, shares, data.kernels[name][np.ix_(test, train)], PENALTY).argmax(axis=1))
    return np.stack(held), np.stack(asked)


def _spread(classes: IntArray, scores: Matrix, labels: int) -> Matrix:
    found = np.full((len(scores), labels), -np.inf, np.float32)
    found[:, classes] = scores
    return found
