"""What the LLM is worth on cold groups: its own tags, certified, and beside trees by how much gold there is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from models.ports import LLMEngine
from training.tagging import llm_tuned, scores
from training.tagging.datasets import TagData
from training.tagging.kernels import IntArray
from training.tagging.learners import FloatArray
from training.tagging.llm import Ask, ask, asking, choose, confirm
from training.tagging.llm_judged import SAMPLES, TEMPERATURE, UNSAID, isotonic, outcome
from training.tagging.llm_sizes import AtSize, Progress, Sample, at_sizes, drawn
from training.tagging.llm_tuned import Tuning
from training.tagging.spent import several_questions
from training.tagging.summary import Outcome


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """The LLM's ``outcomes``, a method each, and ``facts`` for the report: model, sample, accuracy by size of gold."""

    outcomes: list[Outcome]
    facts: dict[str, Any]


def study(
    data: TagData,
    engine: LLMEngine,
    path: Path,
    seed: int,
    sample: Sample,
    progress: Progress,
    tuning: Tuning | None = None,
) -> Study:
    """Both halves on one split, the answers kept in ``path``; the engine, which must be new, is closed at the end.

    ``tuning``: also what fine-tuning the model makes of its answers (see `llm_tuned`); its adapter is kept beside
    ``path``.
    """
    begun = time.perf_counter()
    spent: dict[str, float | None] = {}
    with asking(engine, path, spent) as asker:
        outcomes = baselines(asker, data, seed, sample, progress)
        sizes = at_sizes(asker, data, seed, sample, progress)
    facts: dict[str, Any] = {
        "model": engine.model_id,
        "seed": seed,
        "asked_train": sample.train,
        "asked_test": sample.test,
        "by_gold_size": by_gold_size(data, sizes, seed),
        "seconds": time.perf_counter() - begun,
        **spent,
    }
    if tuning is not None:
        more, facts["fine_tuned"] = llm_tuned.study(data, sizes, tuning, path, seed, sample, progress)
        outcomes += more
    return Study(outcomes, facts)


def baselines(asker: Ask, data: TagData, seed: int, sample: Sample, progress: Progress) -> list[Outcome]:
    """The LLM's tags on a sample of one split under the certificate, by four confidences of its own."""
    order, asked = drawn(data, seed, sample)
    train, known = np.sort(order), np.sort(order[: sample.train])
    both = np.concatenate((known, asked))
    shown = choose(data, train, both)
    answers = ask(asker, data, train, both, shown, partial(progress, "LLM: choosing"))
    samples = [
        ask(
            asker,
            data,
            train,
            both,
            shown,
            partial(progress, f"LLM: sample {number + 1} of {SAMPLES}"),
            TEMPERATURE,
            number + 1,
        )
        for number in range(SAMPLES)
    ]
    sampled = [own.label for own in samples]
    agreed = np.mean([own == answers.label for own in sampled], axis=0)
    sure, confirming = confirm(asker, data, answers, partial(progress, "LLM: yes or no"))
    likely = np.exp(np.nan_to_num(answers.logprob, nan=UNSAID))
    right = answers.label == data.gold[both]
    recall = float(np.mean([gold in own for gold, own in zip(data.gold[both], shown)][len(known) :]))
    once = answers.spent
    voting = several_questions([once, *(own.spent for own in samples)])
    twice = several_questions([once, confirming])
    found = {
        "llm": (answers.label, likely, once),
        "llm-isotonic": (answers.label, isotonic(likely, right, len(known), seed), once),
        "llm-vote": (*_voted(sampled, answers.label, agreed), voting),
        "llm-yes": (answers.label, sure, twice),
    }
    return [
        outcome(data, name, seed, known, asked, label, confidence, recall, spent)
        for name, (label, confidence, spent) in found.items()
    ]


def by_gold_size(data: TagData, sizes: Sequence[AtSize], seed: int) -> list[dict[str, Any]]:
    """Accuracy on the sampled test groups by how many training groups have gold: trees alone, LLM alone, and trees
    that have the LLM's answer as evidence."""
    return [_row(data, size, seed) for size in sizes]


def _row(data: TagData, size: AtSize, seed: int) -> dict[str, Any]:
    ones = np.ones(len(size.asked))
    labels = {"trees": size.trees, "llm": size.said, "both": size.both}
    right = {name: (label == data.gold[size.asked]).astype(float) for name, label in labels.items()}
    return {
        **size.facts(data),
        **{name: scores.ratio(hit, ones, size.asked, seed).to_dict() for name, hit in right.items()},
        "gain_of_llm": scores.gain(right["both"] - right["trees"], ones, size.asked, seed),
    }


def _voted(drawn: Sequence[IntArray], greedy: IntArray, agreed: FloatArray) -> tuple[IntArray, FloatArray]:
    """The oftenest label of the samples and its share; of equally many the greedy answer's."""
    label, share = greedy.copy(), np.asarray(agreed, np.float64)
    for row, said in enumerate(zip(*drawn)):
        best, many = Counter(said).most_common(1)[0]
        if many / len(said) > share[row]:
            label[row], share[row] = best, many / len(said)
    return label, share
