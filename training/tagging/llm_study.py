"""What the LLM is worth on cold groups: its own tags, certified, and beside trees by how much gold there is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.certify import certify
from models.ports import LLMEngine
from training.tagging import scores, tagger
from training.tagging.datasets import TagData
from training.tagging.evaluate import certificate_config, split
from training.tagging.evidence import evidence, held_out_signals, signals
from training.tagging.kernels import IntArray
from training.tagging.learners import FloatArray, lightgbm_scorer, logistic_scorer, xgboost_scorer
from training.tagging.llm import Answers, Ask, ask, asking, choose, confirm
from training.tagging.summary import PRECISIONS, Outcome
from training.tagging.views import Matrix

SAMPLES: Final = 3
TEMPERATURE: Final = 0.7
"""Of the self-consistency vote (Wang et al., ICLR 2023)."""
GOLD_SIZES: Final = (0, 10, 100, 600, 1_900)
FOLDS: Final = 5
UNSAID: Final = -20.0
"""Log-probability of a label that the LLM did not name."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """How many groups are asked about: of the split's training groups and of its test groups."""

    train: int = 100
    test: int = 100


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """The LLM's ``outcomes``, a method each, and ``facts`` for the report: model, sample, accuracy by size of gold."""

    outcomes: list[Outcome]
    facts: dict[str, Any]


def study(data: TagData, engine: LLMEngine, path: Path, seed: int, sample: Sample, progress: Progress) -> Study:
    """Both halves on one split, the answers kept in ``path``; the engine, which must be new, is closed at the end."""
    begun = time.perf_counter()
    spent: dict[str, float | None] = {}
    with asking(engine, path, spent) as asker:
        outcomes = baselines(asker, data, seed, sample, progress)
        sizes = by_gold_size(asker, data, seed, sample, progress)
    facts = {"model": engine.model_id, "seed": seed, "asked_train": sample.train, "asked_test": sample.test}
    return Study(outcomes, {**facts, "by_gold_size": sizes, "seconds": time.perf_counter() - begun, **spent})


def baselines(asker: Ask, data: TagData, seed: int, sample: Sample, progress: Progress) -> list[Outcome]:
    """The LLM's tags on a sample of one split under the certificate, by four confidences of its own."""
    order, asked = _drawn(data, seed, sample)
    train, known = np.sort(order), np.sort(order[: sample.train])
    both = np.concatenate((known, asked))
    shown = choose(data, train, both)
    answers = ask(asker, data, both, shown, partial(progress, "LLM: choosing"))
    drawn = [
        ask(
            asker,
            data,
            both,
            shown,
            partial(progress, f"LLM: sample {number + 1} of {SAMPLES}"),
            TEMPERATURE,
            number + 1,
        ).label
        for number in range(SAMPLES)
    ]
    agreed = np.mean([own == answers.label for own in drawn], axis=0)
    sure = confirm(asker, data, answers, partial(progress, "LLM: yes or no"))
    likely = np.exp(np.nan_to_num(answers.logprob, nan=UNSAID))
    right = answers.label == data.gold[both]
    recall = float(np.mean([gold in own for gold, own in zip(data.gold[both], shown)][len(known) :]))
    found = {
        "llm": (answers.label, likely),
        "llm-isotonic": (answers.label, isotonic(likely, right, len(known), seed)),
        "llm-vote": _voted(drawn, answers.label, agreed),
        "llm-yes": (answers.label, sure),
    }
    return [
        _outcome(data, name, seed, known, asked, label, confidence, recall)
        for name, (label, confidence) in found.items()
    ]


def _drawn(data: TagData, seed: int, sample: Sample) -> tuple[IntArray, IntArray]:
    """The split's training groups in a random order, the same for every use of the LLM, and the test groups asked."""
    train, test = split(len(data.groups), seed)
    rng = np.random.default_rng(seed)
    asked = rng.choice(test, min(sample.test, len(test)), replace=False)
    return rng.permutation(train), np.sort(asked)


def by_gold_size(
    asker: Ask,
    data: TagData,
    seed: int,
    sample: Sample,
    progress: Progress,
    sizes: Sequence[int] = GOLD_SIZES,
) -> list[dict[str, Any]]:
    """Accuracy on the sampled test groups by how many training groups have gold: trees alone, LLM alone, and trees
    that have the LLM's answer as evidence (of ``sample.train`` training groups at most; the others count as unasked).

    Without gold there are no trees: the label whose name is nearest stands for them.
    """
    order, asked = _drawn(data, seed, sample)
    result = []
    for size in dict.fromkeys(min(size, len(order)) for size in sizes):
        own = np.sort(order[:size])
        taught = np.sort(order[: min(size, sample.train)])
        groups = np.concatenate((taught, asked))
        shown = choose(data, own, groups)
        answers = ask(asker, data, groups, shown, partial(progress, f"LLM: {len(own)} with gold"))
        said = answers.label[len(taught) :]
        if size:
            trees = _by_trees(data, own, asked, seed, {})
            both = _by_trees(data, own, asked, seed, _as_evidence(data, answers))
        else:
            trees = data.names["meaning"][asked].argmax(axis=1)
            both = np.where(said >= 0, said, trees)
        ones = np.ones(len(asked))
        right = {name: label == data.gold[asked] for name, label in (("trees", trees), ("llm", said), ("both", both))}
        result.append(
            {
                "gold": len(own),
                "asked_of_gold": len(taught),
                "n": len(asked),
                "shown_recall": float(np.mean([gold in s for gold, s in zip(data.gold[groups], shown)][len(taught) :])),
                **{name: scores.ratio(hit.astype(float), ones, asked, seed).to_dict() for name, hit in right.items()},
                "gain_of_llm": scores.gain(right["both"].astype(float) - right["trees"], ones, asked, seed),
            }
        )
    return result


def _by_trees(data: TagData, train: IntArray, asked: IntArray, seed: int, extra: Mapping[str, Matrix]) -> IntArray:
    fold = np.random.default_rng(seed).permutation(len(train)) % min(FOLDS, len(train))
    lines = evidence(data, train, held_out_signals(data, train, fold), extra)
    queries = evidence(data, asked, signals(data, train, asked), extra)
    right = lines.label == data.gold[train[lines.row]]
    scorers = (
        xgboost_scorer(lines.matrix, right, seed),
        lightgbm_scorer(lines.matrix, right, seed),
        logistic_scorer(lines.matrix, right),
    )
    odds = np.mean([scorer(queries.matrix) for scorer in scorers], axis=0)
    return tagger.first_labels(queries, odds)[0]


def _as_evidence(data: TagData, answers: Answers) -> dict[str, Matrix]:
    """The LLM's answers as columns [T, L]: whether a label is its choice, how probable, and whether it was asked."""
    shape = (len(data.groups), len(data.labels))
    chosen, logprob, answered = (
        np.zeros(shape, np.float32),
        np.full(shape, UNSAID, np.float32),
        np.zeros(shape, np.float32),
    )
    kept = answers.label >= 0
    at = answers.groups[kept], answers.label[kept]
    chosen[at], logprob[at] = 1.0, np.nan_to_num(answers.logprob[kept], nan=UNSAID)
    answered[answers.groups[kept]] = 1.0
    return {"llm chosen": chosen, "llm logprob": logprob, "llm answered": answered}


def _voted(drawn: Sequence[IntArray], greedy: IntArray, agreed: FloatArray) -> tuple[IntArray, FloatArray]:
    """The oftenest label of the samples and its share; of equally many the greedy answer's."""
    label, share = greedy.copy(), np.asarray(agreed, np.float64)
    for row, said in enumerate(zip(*drawn)):
        best, many = Counter(said).most_common(1)[0]
        if many / len(said) > share[row]:
            label[row], share[row] = best, many / len(said)
    return label, share


def isotonic(score: FloatArray, right: scores.BoolArray, known: int, seed: int) -> FloatArray:
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


def _outcome(
    data: TagData,
    method: str,
    seed: int,
    known: IntArray,
    asked: IntArray,
    label: IntArray,
    confidence: FloatArray,
    recall: float,
) -> Outcome:
    many = len(known)
    right = label[:many] == data.gold[known]
    certificates = {level: certify(confidence[:many], right, certificate_config(method, level)) for level in PRECISIONS}
    # A group without a usable answer has no tag; the first label stands in, with no confidence.
    usable = label[many:] >= 0
    shown = np.where(usable, label[many:], 0)
    return Outcome(method, seed, asked, shown, np.where(usable, confidence[many:], 0.0), certificates, recall, 0.0)
