"""The LLM beside trees by how much gold there is: its answers, and what trees make of them as evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from training.tagging import tagger
from training.tagging.datasets import TagData
from training.tagging.evaluate import split
from training.tagging.evidence import evidence, held_out_signals, signals
from training.tagging.kernels import IntArray
from training.tagging.learners import lightgbm_scorer, logistic_scorer, xgboost_scorer
from training.tagging.llm import Answers, Ask, ask, choose
from training.tagging.llm_judged import FOLDS, UNSAID
from training.tagging.views import Matrix

GOLD_SIZES: Final = (0, 10, 100, 600, 1_900)

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """How many groups are asked about: of the split's training groups and of its test groups."""

    train: int = 100
    test: int = 100


@dataclass(frozen=True, slots=True, eq=False)
class AtSize:
    """What was found with gold of the groups ``own`` alone.

    ``taught``: those of them whose answers are evidence that trees learn from; ``asked``: the test groups. ``shown``
    and ``answers`` are of ``taught`` and then of ``asked``. ``trees`` and ``both`` are labels of ``asked``: of trees
    without an LLM, and with its answers as evidence. Without gold there are no trees: the label whose name is nearest
    stands for them.
    """

    own: IntArray
    taught: IntArray
    asked: IntArray
    shown: Sequence[Sequence[int]]
    answers: Answers
    trees: IntArray
    both: IntArray

    @property
    def said(self) -> IntArray:
        """The LLM's own labels of ``asked``, -1 where nothing usable came."""
        return self.answers.label[len(self.taught) :]

    @property
    def first_shown(self) -> IntArray:
        """Of ``asked`` the label that stands first among those shown: what a model need not read to repeat."""
        return np.array([labels[0] for labels in self.shown[len(self.taught) :]], np.int64)

    def recall(self, data: TagData) -> float:
        """Share of ``asked`` whose gold is among the labels shown: the most the LLM can have right."""
        gold = data.gold[self.asked].tolist()
        return float(np.mean([label in shown for label, shown in zip(gold, self.shown[len(self.taught) :])]))

    def facts(self, data: TagData) -> dict[str, Any]:
        """Counts and shares for the report."""
        return {
            "gold": len(self.own),
            "asked_of_gold": len(self.taught),
            "n": len(self.asked),
            "shown_recall": self.recall(data),
        }


def drawn(data: TagData, seed: int, sample: Sample) -> tuple[IntArray, IntArray]:
    """The split's training groups in a random order, the same for every use of the LLM, and the test groups asked."""
    train, test = split(len(data.groups), seed)
    rng = np.random.default_rng(seed)
    asked = rng.choice(test, min(sample.test, len(test)), replace=False)
    return rng.permutation(train), np.sort(asked)


def at_sizes(
    asker: Ask,
    data: TagData,
    seed: int,
    sample: Sample,
    progress: Progress,
    sizes: Sequence[int] = GOLD_SIZES,
) -> list[AtSize]:
    """Of the sampled test groups by how many training groups have gold. The LLM is asked about ``sample.train`` of
    those at most; the others count as unasked."""
    order, asked = drawn(data, seed, sample)
    result = []
    for size in dict.fromkeys(min(size, len(order)) for size in sizes):
        own = np.sort(order[:size])
        taught = np.sort(order[: min(size, sample.train)])
        groups = np.concatenate((taught, asked))
        shown = choose(data, own, groups)
        answers = ask(asker, data, own, groups, shown, partial(progress, f"LLM: {len(own)} with gold"))
        trees = _by_trees(data, own, asked, seed, {}) if size else data.names["meaning"][asked].argmax(axis=1)
        both = with_answers(data, own, asked, seed, answers, trees)
        result.append(AtSize(own, taught, asked, shown, answers, trees, both))
    return result


def with_answers(
    data: TagData, own: IntArray, asked: IntArray, seed: int, answers: Answers, trees: IntArray
) -> IntArray:
    """Labels of ``asked`` by trees of the gold of ``own`` that have the LLM's answers as evidence; without gold the
    LLM's, or those of ``trees`` where it has none."""
    if len(own):
        return _by_trees(data, own, asked, seed, _as_evidence(data, answers))
    said = answers.label[len(answers.label) - len(asked) :]
    return np.where(said >= 0, said, trees)


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
