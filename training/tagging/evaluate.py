"""The evaluation behind ``tandem evaluate tags``: seeds, held-out groups, every method under one certificate."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.certify import POOLED, Certificate, CertifyConfig, certify
from training.tagging import baselines, scores, tagger
from training.tagging.datasets import TagData
from training.tagging.kernels import IntArray
from training.tagging.learners import FloatArray
from training.tagging.tagger import Fitted
from training.tagging.views import Matrix

DEVELOPMENT_SEEDS: Final = (9001, 9002, 9003)
"""Every choice (views, mixes, trees, acceptor, starts of the certificate) was made on these splits."""
SEEDS: Final = (20, 21, 22, 23, 24)
"""The splits that are reported; stated before the first of them was run."""
TEST_SHARE: Final = 0.2
PRECISIONS: Final = (0.9, 0.95, 0.98)
SYSTEM: Final = "guardrail"
WITH_GRAPH: Final = "guardrail+graph"
STARTS: Final[Mapping[str, Mapping[float, float]]] = {
    "neighbours-1": {0.9: 0.63, 0.95: 0.7},
    "neighbours-10": {0.9: 0.79, 0.95: 0.89},
    "svm": {0.95: 0.963},
    "logistic+acceptor": {0.95: 0.966},
    "guardrail": {0.95: 0.96},
    "guardrail+graph": {0.95: 0.96},
}
"""First threshold of a method by precision: the one that accepted most on the development seeds. Where none accepted
anything, the confidence that a tenth of the groups reach."""
DEFAULT_STARTS: Final = {0.9: 0.9, 0.95: 0.95, 0.98: 0.965}

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """One method on one split: its tags of the test groups, and the certificate of each precision."""

    method: str
    seed: int
    test: IntArray
    label: IntArray
    confidence: FloatArray
    certificates: Mapping[float, Certificate]
    recall: float
    seconds: float

    def accepted(self, precision: float) -> npt.NDArray[np.bool_]:
        return self.certificates[precision].accepts(self.confidence)


def split(groups: int, seed: int) -> tuple[IntArray, IntArray]:
    """Training and test groups: a fifth is held out whole."""
    drawn = np.random.default_rng(seed).permutation(groups)
    held = round(TEST_SHARE * groups)
    return np.sort(drawn[held:]), np.sort(drawn[:held])


def run_split(data: TagData, seed: int, graph: Matrix | None = None, folds: int = tagger.OUTER) -> list[Outcome]:
    """Every method on one split. ``graph`` [T, L]: what the knowledge graph says of each label, 1, -1 or 0."""
    train, test = split(len(data.groups), seed)
    points = baselines.coordinates(data)
    classifiers = {
        "neighbours-1": baselines.neighbours(1),
        "neighbours-10": baselines.neighbours(10),
        "svm": baselines.svm(points),
        "logistic": baselines.logistic(points),
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
    return Outcome(method, seed, test, fitted.test.label, fitted.test.confidence, certificates, fitted.recall, seconds)


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
) -> dict[str, Any]:
    """Run all splits, a process a core, and return the dataset's part of the report (see `summary`)."""
    begun = time.perf_counter()
    data.kernels  # noqa: B018  computed once here, not once a process
    workers = min(len(seeds), workers or len(os.sched_getaffinity(0)))
    outcomes: list[Outcome] = []
    for number, found in enumerate(_splits(data, seeds, graph, workers, folds)):
        outcomes += found
        progress(f"{data.name}: split {number + 1} of {len(seeds)}", (number + 1) / len(seeds))
    outcomes.sort(key=lambda outcome: (outcome.method, outcome.seed))
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


def summary(data: TagData, outcomes: Sequence[Outcome], seed: int = 7) -> dict[str, Any]:
    """The numbers of a dataset: ``methods`` by name, and the system's paired ``gain`` over each."""
    by_method: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_method.setdefault(outcome.method, []).append(outcome)
    systems = [name for name in (SYSTEM, WITH_GRAPH) if name in by_method]
    return {
        "groups": len(data.groups),
        "labels": len(data.labels),
        "items": int(data.counts.sum()),
        "several_labels": int((np.count_nonzero(data.counts, axis=1) > 1).sum()),
        "item_ceiling": float(data.counts.max(axis=1).sum() / data.counts.sum()),
        "seeds": [outcome.seed for outcome in next(iter(by_method.values()))],
        "methods": {name: _method(data, found, seed) for name, found in by_method.items()},
        "gain": {
            system: {
                name: _gains(data, by_method[system], found, seed)
                for name, found in by_method.items()
                if name != system
            }
            for system in systems
        },
    }


def _method(data: TagData, outcomes: Sequence[Outcome], seed: int) -> dict[str, Any]:
    test = np.concatenate([outcome.test for outcome in outcomes])
    label = np.concatenate([outcome.label for outcome in outcomes])
    confidence = np.concatenate([outcome.confidence for outcome in outcomes])
    right = label == data.gold[test]
    item_share = data.shares[test, label].astype(np.float64)
    ones = np.ones(len(test))
    precision, recall = scores.macro(label, data.gold[test])
    result: dict[str, Any] = {
        "accuracy": float(right.mean()),
        "precision": precision,
        "recall": recall,
        "aurc": scores.aurc(confidence, right),
        "augrc": scores.augrc(confidence, right),
        "brier": scores.brier(confidence, right),
        "ece": scores.ece(confidence, right),
        "candidate_recall": float(np.mean([outcome.recall for outcome in outcomes])),
        "seconds_per_item": sum(outcome.seconds for outcome in outcomes) / len(test),
        "reliability": scores.reliability(confidence, right),
        "risk_coverage": _curve(confidence, right),
        "intervals": {"accuracy": scores.ratio(right.astype(float), ones, test, seed).to_dict()},
    }
    items = data.counts[test].sum(axis=1)
    for level in PRECISIONS:
        accepted = np.concatenate([outcome.accepted(level) for outcome in outcomes])
        kept = accepted.astype(np.float64)
        name = f"{level:g}"
        result |= {
            f"coverage@{name}": float(accepted.mean()),
            f"precision@{name}": float(right[accepted].mean()) if accepted.any() else None,
            f"item_precision@{name}": float((item_share * items)[accepted].sum() / items[accepted].sum())
            if accepted.any()
            else None,
            f"by_seed@{name}": [_at(data, outcome, level) for outcome in outcomes],
        }
        result["intervals"] |= {
            f"coverage@{name}": scores.ratio(kept, ones, test, seed).to_dict(),
            f"precision@{name}": scores.ratio(kept * right, kept, test, seed).to_dict(),
            f"item_precision@{name}": scores.ratio(kept * item_share * items, kept * items, test, seed).to_dict(),
        }
    return result


def _at(data: TagData, outcome: Outcome, level: float) -> dict[str, Any]:
    accepted = outcome.accepted(level)
    right = outcome.label == data.gold[outcome.test]
    bound = outcome.certificates[level].to_dict()["bounds"][POOLED]
    return {
        "seed": outcome.seed,
        "coverage": float(accepted.mean()),
        "precision": float(right[accepted].mean()) if accepted.any() else None,
        "certificate": bound,
    }


def _gains(data: TagData, system: Sequence[Outcome], other: Sequence[Outcome], seed: int) -> dict[str, Any]:
    """System minus method on the same groups, with intervals over groups."""
    test = np.concatenate([outcome.test for outcome in system])
    ones = np.ones(len(test))

    def of(values: Callable[[Outcome], npt.NDArray[Any]]) -> dict[str, Any]:
        first, second = (np.concatenate([values(outcome) for outcome in part]) for part in (system, other))
        return scores.ratio(first.astype(float) - second.astype(float), ones, test, seed).to_dict()

    def accepted(level: float) -> dict[str, Any]:
        return of(lambda outcome: outcome.accepted(level))

    return {
        "accuracy": of(lambda outcome: outcome.label == data.gold[outcome.test]),
        **{f"coverage@{level:g}": accepted(level) for level in PRECISIONS},
    }


def _curve(confidence: FloatArray, right: npt.NDArray[np.bool_], points: int = 50) -> list[tuple[float, float]]:
    """Coverage and risk at ``points`` even places."""
    coverage, risk = scores.risk_coverage(confidence, right)
    at = np.unique(np.linspace(0, len(coverage) - 1, points).astype(int))
    return [(float(coverage[place]), float(risk[place])) for place in at]
