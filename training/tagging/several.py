"""Methods for items of several labels: the guardrail with and without the graph, and what it must beat.

As in `tagger`, a training item's probabilities come from whole fits without its fold; the certificate rests on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from training.tagging import baselines
from training.tagging.claims import ClaimOutcome, Claims, outcome
from training.tagging.datasets import TagData
from training.tagging.evaluate import split
from training.tagging.evidence import evidence, held_out_signals, signals
from training.tagging.kernels import IntArray
from training.tagging.learners import FloatArray, fit_scorers
from training.tagging.scores import BoolArray
from training.tagging.summary import SYSTEM, WITH_GRAPH
from training.tagging.tagger import LOGISTIC_EVIDENCE, accept
from training.tagging.views import Matrix

FOLDS: Final = 5
"""Of the held-out probabilities, and of the evidence that models are fitted to."""


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What a method says of n proposed tags: whose (counted from 0), which, numbers [n, k] that speak for it, and
    whether gold has it (by which alone it is learned from and judged).

    ``seconds``: processor time to say it, of all asked. ``found``: gold tags among the candidates, where those are more
    than what is said. ``vetoed`` [n]: what may never be accepted.
    """

    row: IntArray
    label: IntArray
    told: Matrix
    right: BoolArray
    seconds: float = 0.0
    found: int | None = None
    vetoed: BoolArray | None = None


Method = Callable[[IntArray, IntArray], Mapping[str, Told]]
"""(training items, asked items) -> by name what is said of the asked ones."""


def run_split(data: TagData, seed: int, graph: Matrix | None = None, folds: int = FOLDS) -> list[ClaimOutcome]:
    """Every method on one split. ``graph`` [T, L]: what derived facts say of each label, 1, -1 or 0; a tag that they
    contradict has no probability."""
    train, test = split(len(data.groups), seed)
    points = baselines.coordinates(data)
    gold = np.asarray((data.counts > 0).sum(axis=1), np.int64)
    methods = (
        _neighbours(data),
        _linear("svm", data, points, seed),
        _linear("logistic", data, points, seed),
        guardrail(data, graph, seed),
    )
    return [found for method in methods for found in outcomes(train, test, seed, method, gold, folds)]


def outcomes(
    train: IntArray, test: IntArray, seed: int, method: Method, gold: IntArray, folds: int = FOLDS
) -> list[ClaimOutcome]:
    """What a method answers for ``test``, with probabilities and certificates from held-out answers for ``train``.

    ``gold`` int64 [items]: how many tags each item truly has.
    """
    fold = np.random.default_rng(seed).permutation(len(train)) % folds
    held: dict[str, list[tuple[IntArray, Told]]] = {}
    for number in range(folds):
        rows = np.flatnonzero(fold == number)
        for name, told in method(train[fold != number], train[rows]).items():
            held.setdefault(name, []).append((rows, told))
    result = []
    for name, asked in method(train, test).items():
        row = np.concatenate([rows[told.row] for rows, told in held[name]])
        label = np.concatenate([told.label for _, told in held[name]])
        right = np.concatenate([told.right for _, told in held[name]])
        lines = np.concatenate([told.told for _, told in held[name]])
        known, probability = accept(lines, right, fold[row], asked.told)
        if asked.vetoed is not None:
            known[np.concatenate([_vetoed(told) for _, told in held[name]])] = 0.0
            probability[asked.vetoed] = 0.0
        own = Claims(len(train), row, label, known, right, gold[train])
        other = Claims(len(test), asked.row, asked.label, probability, asked.right, gold[test])
        among = int(asked.right.sum()) if asked.found is None else asked.found
        recall = among / max(1, int(other.gold.sum()))
        result.append(outcome(name, seed, test, own, other, recall, asked.seconds / max(1, len(test))))
    return result


def _vetoed(told: Told) -> BoolArray:
    return np.zeros(len(told.row), bool) if told.vetoed is None else told.vetoed


def _neighbours(data: TagData) -> Method:
    """Votes of the ten items whose embedded text is nearest, weighted by similarity."""

    def told(train: IntArray, asked: IntArray) -> Mapping[str, Told]:
        begun = time.process_time()
        alike = data.kernels["meaning"][np.ix_(asked, train)]
        near = np.argsort(-alike, axis=1, kind="stable")[:, :10]
        weight = np.maximum(np.take_along_axis(alike, near, axis=1), 0.0)
        voted = (weight[:, :, None] * data.shares[train][near]).sum(axis=1) / near.shape[1]
        return {"neighbours-10": _all_pairs(data, asked, voted, time.process_time() - begun)}

    return told


def _linear(name: str, data: TagData, points: Matrix, seed: int) -> Method:
    """One linear model a label, on the principal coordinates of all views."""

    def told(train: IntArray, asked: IntArray) -> Mapping[str, Told]:
        from sklearn.linear_model import LogisticRegression
        from sklearn.svm import LinearSVC

        scores = np.full((len(asked), len(data.labels)), -5.0, np.float32)
        seconds = 0.0
        for label in range(len(data.labels)):
            has = data.counts[train, label] > 0
            if has.any() and not has.all():
                model = LinearSVC(random_state=seed) if name == "svm" else LogisticRegression(C=10.0, max_iter=200)
                model.fit(points[train], has)
                begun = time.process_time()
                scores[:, label] = model.decision_function(points[asked])
                seconds += time.process_time() - begun
        return {name: _all_pairs(data, asked, scores, seconds)}

    return told


def _all_pairs(data: TagData, asked: IntArray, scores: Matrix, seconds: float) -> Told:
    row, label = np.divmod(np.arange(scores.size), scores.shape[1])
    right = data.counts[asked[row], label] > 0
    return Told(row, label, np.asarray(scores.reshape(-1, 1), np.float32), right, seconds)


def guardrail(data: TagData, graph: Matrix | None, seed: int) -> Method:
    """XGBoost, LightGBM and logistic regression on evidence, with the graph's view and without."""

    def told(train: IntArray, asked: IntArray) -> Mapping[str, Told]:
        fold = np.random.default_rng(seed + 1).permutation(len(train)) % FOLDS
        learned = held_out_signals(data, train, fold)
        begun = time.process_time()
        found = signals(data, train, asked)
        shared = time.process_time() - begun
        result = {}
        for name, view in {SYSTEM: None, **({} if graph is None else {WITH_GRAPH: graph})}.items():
            extra = {} if view is None else {"graph": view}
            lines = evidence(data, train, learned, extra)
            right = data.counts[train[lines.row], lines.label] > 0
            # Not bound to `lines.monotone`: inner splits of foods have a slightly worse Brier score with it.
            scorers = fit_scorers(lines.matrix, right, seed)
            begun = time.process_time()
            queries = evidence(data, asked, found, extra)
            odds = np.stack([scorer(queries.matrix) for scorer in scorers], axis=1)
            seconds = shared + time.process_time() - begun
            at = asked[queries.row], queries.label
            vetoed = None if view is None else view[at] < 0
            for own, numbers in opinions(name, odds).items():
                result[own] = Told(queries.row, queries.label, numbers, data.counts[at] > 0, seconds, vetoed=vetoed)
        return result

    return told


def opinions(name: str, odds: FloatArray) -> dict[str, Matrix]:
    """What the log-odds [n, 3] of `fit_scorers` tell the acceptor: all of them, and beside the guardrail the logistic
    one's alone, which is what a line can do with the guardrail's evidence."""
    told = {name: np.hstack((odds, odds.mean(axis=1, keepdims=True), odds.min(axis=1, keepdims=True)))}
    if name == SYSTEM:
        told[LOGISTIC_EVIDENCE] = odds[:, 2:]
    return {own: numbers.astype(np.float32) for own, numbers in told.items()}
