"""What is put before an LLM of products that have several tags or none, and how its answers about them are told.

Of foods it is shown the labels that retrieval gives, of titles the word model's guess at each attribute, and a way to
say that none fits (see `llm_offered`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.ports import LLMEngine
from models.tagging import told_examples
from models.text import readable
from training.tagging import llm_offered
from training.tagging.claims import ClaimOutcome
from training.tagging.datasets import TagData
from training.tagging.evaluate import split
from training.tagging.kernels import IntArray
from training.tagging.llm import Ask, asking, choose, nearest
from training.tagging.llm_offered import NONE, Described, Offered, flat
from training.tagging.llm_sizes import Progress, Sample
from training.tagging.llm_yes import LABEL, VALUE
from training.tagging.oamine import OA_MINE, AttributeData
from training.tagging.spans import guesses

LABELS: Final = 3
VALUES: Final = 8
"""Tags it may name: of a food, and of a title, which has five values in the mean and as many as eight offered."""
_TITLE, _TEXT = 200, 400
"""Characters of a product that it is shown."""


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """``outcomes`` of the LLM by vocabulary, a method each, and ``facts`` for the report: model, sample, answers."""

    outcomes: list[list[ClaimOutcome]]
    facts: dict[str, Any]


def run(
    parts: Sequence[TagData], engine: LLMEngine, path: Path, seed: int, sample: Sample, progress: Progress
) -> Answered:
    """For each vocabulary `llm_offered.METHODS` on a sample of one split. The answers are kept in ``path``; the engine,
    which must be new, is closed at the end."""
    return _answered(
        lambda asker: [_foods(asker, data, seed, sample, progress) for data in parts], engine, path, seed, sample
    )


def of_titles(
    data: AttributeData, engine: LLMEngine, path: Path, seed: int, sample: Sample, progress: Progress
) -> Answered:
    """The same for the attribute values of a sample of titles, the one vocabulary."""
    return _answered(lambda asker: [_titles(asker, data, seed, sample, progress)], engine, path, seed, sample)


def _answered(
    ask: Callable[[Ask], list[list[ClaimOutcome]]], engine: LLMEngine, path: Path, seed: int, sample: Sample
) -> Answered:
    begun = time.perf_counter()
    spent: dict[str, float | None] = {}
    with asking(engine, path, spent) as asker:
        outcomes = ask(asker)
    facts = {
        "model": engine.model_id,
        "seed": seed,
        "asked_train": sample.train,
        "asked_test": sample.test,
        "seconds": time.perf_counter() - begun,
        **spent,
    }
    return Answered(outcomes, facts)


def _titles(asker: Ask, data: AttributeData, seed: int, sample: Sample, progress: Progress) -> list[ClaimOutcome]:
    known, asked = _drawn(data.train, data.test, seed, sample)
    titles = np.concatenate((known, asked))
    guessed = guesses(data, np.setdiff1d(data.train, known), titles)
    offered = Offered(
        OA_MINE,
        VALUES,
        VALUE,
        [Described(data.titles[row].text[:_TITLE]) for row in titles],
        guessed.row,
        guessed.slot,
        [f"{data.slots[slot][1]}: {value}" for slot, value in zip(guessed.slot.tolist(), guessed.value)],
        guessed.right,
        data.gold[titles],
    )
    return llm_offered.outcomes(asker, offered, len(known), asked, seed, progress)


def _foods(asker: Ask, data: TagData, seed: int, sample: Sample, progress: Progress) -> list[ClaimOutcome]:
    train, test = split(len(data.groups), seed)
    known, asked = _drawn(train, test, seed, sample)
    offered = offer(data, train, np.concatenate((known, asked)))
    return llm_offered.outcomes(asker, offered, len(known), asked, seed, progress)


def offer(data: TagData, train: IntArray, groups: IntArray) -> Offered:
    """The labels shown for each of ``groups``, with the nearest of the training groups ``train`` as examples."""
    names = [_name(label) for label in data.labels]
    row, label = flat(choose(data, train, groups))
    items = []
    for group, near in zip(groups.tolist(), nearest(data, train, groups)):
        text = data.texts[group]
        examples = told_examples((data.texts[each], _gold(data, names, each)) for each in near)
        items.append(Described(text[:_TITLE], text[_TITLE:][:_TEXT], examples))
    return Offered(
        data.name,
        LABELS,
        LABEL,
        items,
        row,
        label,
        [names[each] for each in label.tolist()],
        data.counts[groups[row], label] > 0,
        np.asarray((data.counts[groups] > 0).sum(axis=1), np.int64),
    )


def _drawn(train: IntArray, test: IntArray, seed: int, sample: Sample) -> tuple[IntArray, IntArray]:
    """The training units that certify and the test units asked about, each ascending."""
    rng = np.random.default_rng(seed)
    asked = np.sort(rng.choice(test, min(sample.test, len(test)), replace=False))
    return np.sort(rng.choice(train, min(sample.train, len(train)), replace=False)), asked


def _gold(data: TagData, names: Sequence[str], group: int) -> str:
    """The names of a group's labels, or that it has none."""
    return ", ".join(names[label] for label in np.flatnonzero(data.counts[group] > 0)[:LABELS].tolist()) or NONE


def _name(label: str) -> str:
    """``en:no-gluten`` -> ``no gluten``."""
    return readable(label.partition(":")[2] or label).replace("-", " ")
