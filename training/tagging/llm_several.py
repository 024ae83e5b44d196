"""The LLM's own tags where a product may have several or none: raw, and with calibrated log-probabilities.

It is shown the labels that retrieval gives and a way to say that none fits; what it does not name it does not propose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from models import prompts
from models.ports import LLMEngine, LLMRequest
from models.tagging import choice_schema, read_choices, told_examples
from models.text import readable
from training.tagging.claims import ClaimOutcome, Claims, outcome
from training.tagging.datasets import TagData
from training.tagging.evaluate import split
from training.tagging.kernels import IntArray
from training.tagging.llm import Ask, asking, choose, nearest
from training.tagging.llm_judged import isotonic
from training.tagging.llm_sizes import Sample
from training.tagging.oamine import OA_MINE, AttributeData
from training.tagging.spans import guesses
from training.tagging.spent import Spent

NONE: Final = "none of these"
MOST: Final = 3
"""Labels it may name."""
_TITLE, _TEXT = 200, 400
"""Characters of a product that it is shown."""

Progress = Callable[[str, float], None]


def run(
    parts: Sequence[TagData], engine: LLMEngine, path: Path, seed: int, sample: Sample, progress: Progress
) -> list[list[ClaimOutcome]]:
    """For each vocabulary the methods ``llm`` and ``llm-isotonic`` on a sample of one split. The answers are kept in
    ``path``; the engine, which must be new, is closed at the end."""
    with asking(engine, path) as asker:
        return [_outcomes(asker, data, seed, sample, progress) for data in parts]


def of_titles(
    data: AttributeData, engine: LLMEngine, path: Path, seed: int, sample: Sample, progress: Progress
) -> list[ClaimOutcome]:
    """The same for the attribute values of a sample of titles: of each attribute the word model's guess is offered."""
    rng = np.random.default_rng(seed)
    asked = np.sort(rng.choice(data.test, min(sample.test, len(data.test)), replace=False))
    known = np.sort(rng.choice(data.train, min(sample.train, len(data.train)), replace=False))
    groups = np.concatenate((known, asked))
    offered = guesses(data, np.setdiff1d(data.train, known), groups)
    texts = [f"{data.slots[slot][1]}: {value}" for slot, value in zip(offered.slot.tolist(), offered.value)]
    template = prompts.load("tag")
    requests: dict[int, LLMRequest] = {}
    of_row: dict[int, dict[str, int]] = {}
    for place, row in enumerate(offered.row.tolist()):
        of_row.setdefault(row, {})[texts[place]] = place
    for row, codes in of_row.items():
        choices = [*codes, NONE]
        values = {"title": data.titles[groups[row]].text[:_TITLE], "text": "-", "attributes": "-", "examples": "-"}
        values["choices"] = "\n".join(f"- {choice}" for choice in choices)
        requests[row] = template.request(values, choice_schema("tags", choices, MOST))
    unit: list[int] = []
    named: list[int] = []
    likely: list[float] = []
    with asking(engine, path) as asker:
        results = asker(requests, partial(progress, f"LLM: {OA_MINE}"))
        for row, result in sorted(results.items()):
            read = read_choices(result, "tags", of_row[row])
            unit.extend([row] * len(read.labels))
            named.extend(read.labels)
            likely.extend(np.exp(np.nan_to_num(read.logprobs, nan=-20.0)).tolist())
    at = np.array(named, np.int64)
    numbers = np.array(unit, np.int64), offered.slot[at], np.array(likely, np.float64), offered.right[at]
    said = Claims(len(groups), *numbers, data.gold[groups])
    return _judged(said, len(known), asked, seed, Spent.of(results.values(), len(groups)))


def _outcomes(asker: Ask, data: TagData, seed: int, sample: Sample, progress: Progress) -> list[ClaimOutcome]:
    train, test = split(len(data.groups), seed)
    rng = np.random.default_rng(seed)
    asked = np.sort(rng.choice(test, min(sample.test, len(test)), replace=False))
    known = np.sort(rng.choice(train, min(sample.train, len(train)), replace=False))
    said, spent = _ask(asker, data, train, np.concatenate((known, asked)), partial(progress, f"LLM: {data.name}"))
    return _judged(said, len(known), asked, seed, spent)


def _judged(said: Claims, known: int, asked: IntArray, seed: int, spent: Spent) -> list[ClaimOutcome]:
    """``said`` of ``known`` training items and then of the ``asked`` ones, raw and with isotonic probabilities."""
    # Claims are in the order of the groups, so that those of the known ones come first.
    many = int((said.unit < known).sum())
    calibrated = isotonic(said.probability, said.right, many, seed)
    result = []
    for name, claims in (("llm", said), ("llm-isotonic", replace(said, probability=calibrated))):
        own = claims.only(np.arange(known))
        other = claims.only(np.arange(known, claims.units))
        recall = float(other.right.sum() / max(1, other.gold.sum()))
        result.append(outcome(name, seed, asked, own, other, recall, None, spent))
    return result


def _ask(
    asker: Ask, data: TagData, train: IntArray, groups: IntArray, progress: Callable[[float], None]
) -> tuple[Claims, Spent]:
    """What the LLM names of each of ``groups``, in their order, with the probability of its words; what it took."""
    template = prompts.load("tag")
    names = [_name(label) for label in data.labels]
    requests: dict[int, LLMRequest] = {}
    for row, (shown, near) in enumerate(zip(choose(data, train, groups), nearest(data, train, groups))):
        choices = [*(names[label] for label in shown), NONE]
        text = data.texts[groups[row]]
        values = {"title": text[:_TITLE], "text": text[_TITLE:][:_TEXT] or "-", "attributes": "-"}
        values["examples"] = told_examples((data.texts[each], _gold(data, names, each)) for each in near)
        values["choices"] = "\n".join(f"- {choice}" for choice in choices)
        requests[row] = template.request(values, choice_schema("tags", choices, MOST))
    codes = {name: at for at, name in enumerate(names)}
    unit: list[int] = []
    tag: list[int] = []
    probability: list[float] = []
    results = asker(requests, progress)
    for row, result in sorted(results.items()):
        read = read_choices(result, "tags", codes)
        unit.extend([row] * len(read.labels))
        tag.extend(read.labels)
        probability.extend(np.exp(np.nan_to_num(read.logprobs, nan=-20.0)).tolist())
    units, tags = np.array(unit, np.int64), np.array(tag, np.int64)
    right = data.counts[groups[units], tags] > 0
    gold = np.asarray((data.counts[groups] > 0).sum(axis=1), np.int64)
    said = Claims(len(groups), units, tags, np.array(probability, np.float64), right, gold)
    return said, Spent.of(results.values(), len(groups))


def _gold(data: TagData, names: Sequence[str], group: int) -> str:
    """The names of a group's labels, or that it has none."""
    return ", ".join(names[label] for label in np.flatnonzero(data.counts[group] > 0)[:MOST].tolist()) or NONE


def _name(label: str) -> str:
    """``en:no-gluten`` -> ``no gluten``."""
    return readable(label.partition(":")[2] or label).replace("-", " ")
