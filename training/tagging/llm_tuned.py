"""What fine-tuning an LLM changes: its own tags, and trees that have them as evidence, before and after.

It learns from training groups that are neither asked about nor among those whose answers become evidence, so that every
answer that counts is about a group it was not trained on. Each of them is asked about twice: with the labels that gold
retrieves (its own left out), and with those that names alone do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from models import prompts
from models.ports import LLMEngine
from training.finetune.pairs import Pair, tag_answer
from training.tagging import scores
from training.tagging.datasets import TagData
from training.tagging.kernels import IntArray
from training.tagging.learners import FloatArray
from training.tagging.llm import Ask, ask, asking, choose, nearest, question
from training.tagging.llm_judged import UNSAID, isotonic, outcome
from training.tagging.llm_sizes import AtSize, Progress, Sample, drawn, with_answers
from training.tagging.summary import Outcome

METHOD: Final = "llm-fine-tuned"


@dataclass(frozen=True, slots=True)
class Tuning:
    """How an LLM is fine-tuned for the study, and opened with what came of it.

    ``fit``: pairs, and a folder beside which an adapter is kept -> the adapter's folder and its manifest. ``groups``:
    training groups it learns from at most.
    """

    fit: Callable[[Sequence[Pair], Path, Progress], tuple[Path, Mapping[str, Any]]]
    open: Callable[[Path], LLMEngine]
    groups: int = 500


def study(
    data: TagData, base: Sequence[AtSize], tuning: Tuning, path: Path, seed: int, sample: Sample, progress: Progress
) -> tuple[list[Outcome], dict[str, Any]]:
    """Fine-tune, ask again what was asked of ``base`` (sizes of gold, the largest last), and compare, group by group.

    Methods `METHOD` and its isotonic calibration, both with all gold in the context; the facts are for the report.
    Answers are kept in ``path``. Raises what ``tuning`` does.
    """
    begun = time.perf_counter()
    order, _ = drawn(data, seed, sample)
    # The next ones after those whose answers are evidence; no gold but that of the two speaks in what it reads.
    learned = np.sort(order[sample.train : sample.train + tuning.groups])
    pairs = tag_pairs(data, learned, np.sort(order[: sample.train + tuning.groups]))
    adapter, manifest = tuning.fit(pairs, path.parent, progress)
    engine = tuning.open(adapter)
    spent: dict[str, float | None] = {}
    with asking(engine, path, spent) as asker:
        tuned = [_asked_again(asker, data, size, seed, progress) for size in base]
    facts = {
        "model": engine.model_id,
        "groups": len(learned),
        "pairs": len(pairs),
        "pairs_without_gold_shown": 2 * len(learned) - len(pairs),
        "training": {**manifest["training"], "config": manifest["config"], "data_hash": manifest["data_hash"]},
        "by_gold_size": [_compared(data, before, after, seed) for before, after in zip(base, tuned)],
        "seconds": time.perf_counter() - begun,
        **spent,
    }
    return _outcomes(data, tuned[-1], seed), facts


def tag_pairs(data: TagData, groups: IntArray, gold: IntArray) -> list[Pair]:
    """Questions about ``groups`` as the study asks them, with the right answer: with the labels that the gold of other
    groups (``gold``, of the training groups) retrieves, and with those nearest by name. One whose right answer is not
    among the labels shown teaches nothing that could be said, and is left out."""
    template = prompts.load("tag")
    pairs = []
    for known in (gold, np.empty(0, np.int64)):
        for group, shown, near in zip(groups.tolist(), choose(data, known, groups), nearest(data, known, groups)):
            right = int(data.gold[group])
            if right in shown:
                pairs.append(Pair(question(template, data, group, shown, near), tag_answer(data.labels[right])))
    return pairs


def _asked_again(asker: Ask, data: TagData, before: AtSize, seed: int, progress: Progress) -> AtSize:
    told = partial(progress, f"fine-tuned LLM: {len(before.own)} with gold")
    answers = ask(asker, data, before.own, before.answers.groups, before.shown, told)
    both = with_answers(data, before.own, before.asked, seed, answers, before.trees)
    return replace(before, answers=answers, both=both)


def _compared(data: TagData, before: AtSize, after: AtSize, seed: int) -> dict[str, Any]:
    """Accuracies and paired gains over groups; ``malformed``: shares of answers that name no label shown."""
    asked, ones = before.asked, np.ones(len(before.asked))
    labels = {
        "first_shown": before.first_shown,
        "llm": before.said,
        "fine_tuned": after.said,
        "trees": before.trees,
        "both": before.both,
        "both_fine_tuned": after.both,
    }
    right = {name: (label == data.gold[asked]).astype(np.float64) for name, label in labels.items()}

    def gain(name: str, other: str) -> dict[str, Any]:
        return scores.gain(right[name] - right[other], ones, asked, seed)

    return {
        **before.facts(data),
        **{name: scores.ratio(hit, ones, asked, seed).to_dict() for name, hit in right.items()},
        "malformed": {"llm": float(np.mean(before.said < 0)), "fine_tuned": float(np.mean(after.said < 0))},
        "gain": {
            "fine_tuned - llm": gain("fine_tuned", "llm"),
            "fine_tuned - first_shown": gain("fine_tuned", "first_shown"),
            "fine_tuned - trees": gain("fine_tuned", "trees"),
            "both_fine_tuned - trees": gain("both_fine_tuned", "trees"),
            "both_fine_tuned - both": gain("both_fine_tuned", "both"),
        },
    }


def _outcomes(data: TagData, found: AtSize, seed: int) -> list[Outcome]:
    label, many = found.answers.label, len(found.taught)
    likely: FloatArray = np.exp(np.nan_to_num(found.answers.logprob, nan=UNSAID))
    right = label == data.gold[found.answers.groups]
    confidences = {METHOD: likely, f"{METHOD}-isotonic": isotonic(likely, right, many, seed)}
    recall = found.recall(data)
    return [
        outcome(data, name, seed, found.taught, found.asked, label, confidence, recall, found.answers.spent)
        for name, confidence in confidences.items()
    ]
