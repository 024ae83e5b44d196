"""The evaluation behind ``tandem evaluate tags``: seeds, held-out groups, every method under one certificate."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Any, Final

import numpy as np

from models.certify import POOLED, CertifyConfig, certify
from training.tagging import baselines, tagger
from training.tagging.datasets import TagData
from training.tagging.kernels import IntArray
from training.tagging.learners import FloatArray
from training.tagging.resplits import broken
from training.tagging.scores import BoolArray
from training.tagging.summary import PRECISIONS, SYSTEM, WITH_GRAPH, Outcome, summary
from training.tagging.tagger import Fitted
from training.tagging.views import Matrix

DEVELOPMENT_SEEDS: Final = (9001, 9002, 9003)
"""Every choice (views, mixes, trees, acceptor, starts of the certificate) was made on these splits."""
SEEDS: Final = (20, 21, 22, 23, 24)
"""The splits that are reported; stated before the first of them was run."""
TEST_SHARE: Final = 0.2
STARTS: Final[Mapping[str, Mapping[float, float]]] = {
    "neighbours-1": {0.9: 0.63, 0.95: 0.7},
    "neighbours-10": {0.9: 0.79, 0.95: 0.89},
    "svm": {0.95: 0.963},
    "svm-attributes": {0.95: 0.963},
    "logistic-attributes": {0.95: 0.955},
    "logistic+acceptor": {0.95: 0.966},
    "guardrail": {0.95: 0.96},
    "guardrail+graph": {0.95: 0.96},
}
"""First threshold of a method by precision: the one that accepted most on the development seeds. Where none accepted
anything, the confidence that a tenth of the groups reach."""
DEFAULT_STARTS: Final = {0.9: 0.9, 0.95: 0.95, 0.98: 0.965}

Progress = Callable[[str, float], None]


def split(groups: int, seed: int) -> tuple[IntArray, IntArray]:
    """Training and test groups: a fifth is held out whole."""
    drawn = np.random.default_rng(seed).permutation(groups)
    held = round(TEST_SHARE * groups)
    return np.sort(drawn[held:]), np.sort(drawn[:held])


def run_split(data: TagData, seed: int, graph: Matrix | None = None, folds: int = tagger.OUTER) -> list[Outcome]:
    """Every method on one split. ``graph`` [T, L]: what the knowledge graph says of each label, 1, -1 or 0."""
    train, test = split(len(data.groups), seed)
    points, attributes = baselines.coordinates(data), baselines.coordinates(data, baselines.DONE_WITH)
    classifiers = {
        "neighbours-1": baselines.neighbours(1),
        "neighbours-10": baselines.neighbours(10),
        "svm": baselines.svm(points),
        "logistic": baselines.logistic(points),
        "svm-attributes": baselines.svm(attributes),
        "logistic-attributes": baselines.logistic(attributes),
    }
    fits: list[Callable[[], Mapping[str, Fitted]]] = [
        partial(baselines.fit, data, train, test, seed, {name: classify}) for name, classify in classifiers.items()
    ]
    variants = {SYSTEM: None} if graph is None else {SYSTEM: None, WITH_GRAPH: graph}
    fits.append(partial(tagger.fit, data, train, test, seed, variants, folds))
    outcomes = []
    for run in fits:
        begun = time.perf_counter()
        found = run()
        seconds = (time.perf_counter() - begun) / len(found)
        outcomes += [_outcome(data, name, seed, train, test, fitted, seconds) for name, fitted in found.items()]
    return outcomes


def _outcome(
    data: TagData, method: str, seed: int, train: IntArray, test: IntArray, fitted: Fitted, seconds: float
) -> Outcome:
    right = fitted.held_out.label == data.gold[train]
    certificates = {
        precision: certify(fitted.held_out.confidence, right, certificate_config(method, precision))
        for precision in PRECISIONS
    }
    return Outcome(
        method,
        seed,
        test,
        fitted.test.label,
        fitted.test.confidence,
        certificates,
        fitted.recall,
        seconds,
        fitted.seconds,
        _resplit(method, fitted.held_out.confidence, right),
    )


def _resplit(method: str, confidence: FloatArray, right: BoolArray) -> dict[str, Any]:
    config = certificate_config(method, 0.95)
    worst = np.where(right, -np.inf, confidence)
    return broken(confidence, worst, 0.95, lambda rows: certify(confidence[rows], right[rows], config).bounds[POOLED])


def certificate_config(method: str, precision: float) -> CertifyConfig:
    """The grid of a method's certificate, fixed before any test split was run."""
    start = STARTS.get(method, {}).get(precision, DEFAULT_STARTS[precision])
    return CertifyConfig(precision=precision, start=start, stop=min(0.3, start))


def evaluate(
    data: TagData,
    seeds: Sequence[int] = SEEDS,
    graph: Matrix | None = None,
    workers: int | None = None,
    folds: int = tagger.OUTER,
    progress: Progress = lambda *_: None,
    more: Sequence[Outcome] = (),
) -> dict[str, Any]:
    """Run all splits, a process a core, and return the dataset's part of the report (see `summary`).

    ``more``: methods that were run elsewhere, on test groups of some of these splits.
    """
    begun = time.perf_counter()
    data.kernels  # noqa: B018  computed once here, not once a process
    workers = min(len(seeds), workers or len(os.sched_getaffinity(0)))
    outcomes: list[Outcome] = []
    for number, found in enumerate(_splits(data, seeds, graph, workers, folds)):
        outcomes += found
        progress(f"{data.name}: split {number + 1} of {len(seeds)}", (number + 1) / len(seeds))
    outcomes.sort(key=lambda outcome: (outcome.method, outcome.seed))
    outcomes += more
    return {**summary(data, outcomes), "seconds": time.perf_counter() - begun}


def _splits(
    data: TagData, seeds: Sequence[int], graph: Matrix | None, workers: int, folds: int
) -> Iterator[list[Outcome]]:
    if workers <= 1:
        yield from (run_split(data, seed, graph, folds) for seed in seeds)
        return
    with _one_thread_each(), ProcessPoolExecutor(workers, get_context("spawn"), _begin, (data, graph, folds)) as pool:
        for done in as_completed([pool.submit(_run_here, seed) for seed in seeds]):
            yield done.result()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started inside have numerical libraries of one thread: they read the environment once, when loaded,
    and two processes of two spinning threads each on two cores take several times as long."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_here: dict[str, Any] = {}
"""What a worker process was started with: sent once, not once a split."""


def _begin(data: TagData, graph: Matrix | None, folds: int) -> None:
    _here.update(data=data, graph=graph, folds=folds)


def _run_here(seed: int) -> list[Outcome]:
    return run_split(_here["data"], seed, _here["graph"], _here["folds"])
