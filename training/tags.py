"""Training data of the tag guardrail: proposals for products whose label is known, as if they were new.

Whole units (`models.units`: product types) are held out for the certificate: no label of theirs reaches the guardrail,
its calibration, or the evidence it learns from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from graph.ports import KnowledgeGraph
from graph.tags import judge_tags
from models import guardrail, labelset, tagging, units
from models.catalog import Catalog
from models.certify import least_errorless
from models.guardrail import Guardrail
from models.labelcounts import LabelCounts
from models.policy import EVIDENCE, MANIFEST_KEY, TagConfig
from models.ports import FloatMatrix, LLMEngine
from models.prompts import Prompt
from models.tagging import TAG_COLUMNS, LLMTags, Retrieved, TagItem
from models.text import product_view
from training.acceptance import OTHER, VIEWS, Proposals, certified
from training.llm import ask_all

GOLD: Final = 2_000
"""Units held out at most."""
FOLDS: Final = 10
"""A unit's evidence hides its own fold of units."""


@dataclass(frozen=True, slots=True, eq=False)
class TagExamples:
    """What the guardrail learns from, and what to say of it; ``held_out`` certifies, None where gold is too little."""

    learn: Proposals
    held_out: Proposals | None
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """``unit`` int64 [rows]; ``gold`` bool [units]: whether a unit is held out; ``fold`` int64 [units]."""

    unit: npt.NDArray[np.int64]
    gold: npt.NDArray[np.bool_]
    fold: npt.NDArray[np.int64]

    @staticmethod
    def draw(items: pl.DataFrame, catalog: Catalog, config: TagConfig, rng: np.random.Generator) -> Split:
        """Hold out units that have labelled items: the configured share, or none where they could certify nothing."""
        unit = units.unit_of_row(catalog.text_of_row, units.kinds_of(items))
        many = int(unit.max(initial=-1)) + 1
        labelled = np.unique(unit[catalog.labelled])
        share = min(GOLD, int(config.held_out * len(labelled)))
        gold = np.zeros(many, bool)
        if share >= least_errorless(config.precision, config.confidence):
            gold[rng.choice(labelled, share, replace=False)] = True
        return Split(unit, gold, rng.integers(0, FOLDS, many))

    def rows(self, catalog: Catalog, held_out: bool) -> npt.NDArray[np.bool_]:
        return np.asarray(catalog.labelled & (self.gold[self.unit] == held_out))

    def counts(self, catalog: Catalog, fold: int, held_out: bool) -> LabelCounts:
        """What may speak for the units of a fold: for those that certify all others, as in service; for those that the
        guardrail learns from none that certify."""
        others = self.fold[self.unit] != fold
        return LabelCounts.build(catalog, others if held_out else others & ~self.gold[self.unit])


def sample_rows(
    key_of_row: npt.NDArray[np.integer[Any]], chosen: npt.NDArray[np.bool_], most: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """One of the chosen rows [n] of each of at most ``most`` keys (texts, units), drawn at random."""
    rows = rng.permutation(np.flatnonzero(chosen))
    _, first = np.unique(key_of_row[rows], return_index=True)
    drawn = rows[first]
    return np.asarray(drawn if len(drawn) <= most else np.sort(rng.choice(drawn, most, replace=False)), np.int64)


async def build_examples(
    items: pl.DataFrame,
    catalog: Catalog,
    graph: KnowledgeGraph,
    template: Prompt,
    llm: LLMEngine | None,
    llm_examples: int,
    config: TagConfig,
    seed: int,
    progress: Callable[[str, float], None],
    taught: frozenset[str] = frozenset(),
) -> TagExamples:
    """Cross-fitted examples: a unit's own fold is hidden from the counts that speak for its labels.

    Each is seen with all its attributes, by its words alone, and with some attributes: a seller names the brand and not
    the maker, or neither. The LLM (where there is one) is asked about ``llm_examples`` of them; those appear with its
    answer as well, so that the guardrail holds for both. ``taught``: ids of items whose labels the LLM was fine-tuned
    on; it is asked about no unit of theirs, or the guardrail would learn to believe what it knows by heart.
    """
    rng = np.random.default_rng(seed)
    split = Split.draw(items, catalog, config, rng)
    # A text is what a new product differs by; many of a unit teach, one item of a unit testifies.
    learn = sample_rows(catalog.text_of_row, split.rows(catalog, False), config.examples, rng)
    gold = sample_rows(split.unit, split.rows(catalog, True), GOLD, rng)
    learned = _retrieved(items, catalog, split, learn, False, lambda done: progress("tags: evidence", done))
    known = frozenset(split.unit[items["item_id"].is_in(sorted(taught)).to_numpy()].tolist()) if taught else frozenset()
    answers = await _ask(llm, llm_examples, catalog, template, learned, known, rng, progress)
    examples, facts = _proposals(catalog, graph, learned, answers, rng)
    # Of a label that no item carries gold could only say "wrong", whatever it is to a product nobody has seen.
    examples = examples.where(catalog.carried[examples.label])
    facts |= {"prompt": {template.name: template.version}, "seed": seed}
    held_out = None
    if len(gold):
        asked = _retrieved(items, catalog, split, gold, True, lambda done: progress("tags: held-out evidence", done))
        held_out, _ = _proposals(catalog, graph, asked, {}, None)
        if catalog.several is not None:
            # They are no rivals of the others there, and never accepted.
            held_out = held_out.where(catalog.carried[held_out.label])
    return TagExamples(examples, held_out, facts)


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A product of known label as the index sees it: as one of a new unit, and as another one with known words.

    ``known`` is None where no other item has its words.
    """

    new: tuple[Retrieved, LabelCounts]
    known: tuple[Retrieved, LabelCounts] | None
    gold: frozenset[int]
    unit: int

    @property
    def item(self) -> TagItem:
        return self.new[0].item


def _retrieved(
    items: pl.DataFrame,
    catalog: Catalog,
    split: Split,
    rows: npt.NDArray[np.int64],
    held_out: bool,
    progress: Callable[[float], None],
) -> list[_Asked]:
    without_fold = [split.counts(catalog, fold, held_out) for fold in range(FOLDS)]
    everything = LabelCounts.build(catalog, None if held_out else split.rows(catalog, False))
    asked = []
    for number, row in enumerate(rows.tolist()):
        unit = int(split.unit[row])
        item, vector = tag_item(items, catalog, row), catalog.vectors[int(catalog.text_of_row[row])]
        cold, others = without_fold[int(split.fold[unit])], everything.without(catalog, row)
        seen = tagging.retrieve(catalog, others, item, vector)
        asked.append(
            _Asked(
                (tagging.retrieve(catalog, cold, item, vector), cold),
                (seen, others) if seen.known else None,
                catalog.labels_of(row),
                unit,
            )
        )
        if number % 100 == 0:
            progress(number / len(rows))
    return asked


async def _ask(
    llm: LLMEngine | None,
    most: int,
    catalog: Catalog,
    template: Prompt,
    examples: Sequence[_Asked],
    known: frozenset[int],
    rng: np.random.Generator,
    progress: Callable[[str, float], None],
) -> dict[int, LLMTags]:
    """The LLM's choices for some of the examples, by their numbers; of none whose unit it has learned."""
    able = [number for number, example in enumerate(examples) if example.unit not in known]
    if llm is None or not able:
        return {}
    asked = sorted(rng.choice(able, min(most, len(able)), replace=False).tolist())
    requests = {number: tagging.prompt(template, catalog, examples[number].new[0]) for number in asked}
    results = await ask_all(
        llm,
        {number: request for number, request in requests.items() if request is not None},
        lambda done: progress("tags: asking the LLM", done),
    )
    codes = tagging.vocabulary(catalog.labels).codes
    return {number: tagging.read_choices(result, "tags", codes) for number, result in results.items()}


def _proposals(
    catalog: Catalog,
    graph: KnowledgeGraph,
    examples: Sequence[_Asked],
    answers: Mapping[int, LLMTags],
    rng: np.random.Generator | None,
) -> tuple[Proposals, dict[str, Any]]:
    """What is proposed for the examples, and what to say of it. ``rng`` None: only the views that are certified."""
    parts: list[Proposals] = []
    proposed = wanted = llm_right = 0
    for number, example in enumerate(examples):
        proposed += len(example.gold.intersection(example.new[0].proposed))
        wanted += len(example.gold)
        answer = answers.get(number)
        llm_right += answer is not None and bool(example.gold.intersection(answer.labels[:1]))
        both = [example.new, *([example.known] if example.known is not None else [])]
        labels = tuple(dict.fromkeys(label for found, _ in both for label in found.proposed))
        judged = _judged(catalog, graph, example.item, labels)
        # What a label set's items say of their category must not speak where only their words are seen.
        bare = (
            judged if catalog.several is None else _judged(catalog, graph, replace(example.item, attributes={}), labels)
        )
        for (found, counts), (named, alone) in zip(both, (EVIDENCE[2:], EVIDENCE[:2])):
            whole = tagging.evidence(catalog, counts, found, found.proposed, None, judged.agreement)
            words = whole
            if bare is not judged:
                words = tagging.evidence(catalog, counts, found, found.proposed, None, bare.agreement)
            matrices: list[tuple[FloatMatrix, str]] = [(whole, named), (tagging.words_alone(words), alone)]
            if answer is not None and found is example.new[0]:
                whole = tagging.evidence(catalog, counts, found, found.proposed, answer, judged.agreement)
                matrices.append((whole, OTHER))
            if rng is not None and found is example.new[0]:
                matrices.append((tagging.some_attributes(whole, rng), OTHER))
            parts += [
                _part(example, number, found.proposed, (bare if view == alone else judged).vetoed, matrix, view)
                for matrix, view in matrices
            ]
    facts = {
        "examples": len(examples),
        "candidate_recall": proposed / max(1, wanted),
        "llm_examples": len(answers),
        "llm_accuracy": llm_right / len(answers) if answers else None,
    }
    return Proposals.joined(parts, len(TAG_COLUMNS)), facts


@dataclass(frozen=True, slots=True)
class _Judged:
    """The graph's view by label code."""

    agreement: Mapping[int, float]
    vetoed: frozenset[int]


def _judged(catalog: Catalog, graph: KnowledgeGraph, item: TagItem, labels: Sequence[int]) -> _Judged:
    names = {catalog.labels[label]: label for label in labels}
    judged = judge_tags(graph, "item", product_view(item.title, item.text, item.attributes), list(names), "index")
    return _Judged(
        {names[name]: value for name, value in judged.agreement.items()},
        frozenset(names[name] for name in (*judged.conflicts, *judged.doubts)),
    )


def _part(
    example: _Asked,
    number: int,
    labels: Sequence[int],
    vetoed: frozenset[int],
    matrix: npt.NDArray[np.float32],
    view: str,
) -> Proposals:
    n = len(labels)
    return Proposals(
        matrix,
        np.array([label in example.gold for label in labels], bool),
        np.full(n, example.unit, np.int64),
        np.full(n, number, np.int64),
        np.full(n, VIEWS.index(view), np.int8),
        np.array(labels, np.int64),
        np.array([label in vetoed for label in labels], bool),
    )


def tag_item(items: pl.DataFrame, catalog: Catalog, row: int) -> TagItem:
    """A catalog row as a seller would describe it: its words and the attributes that are no relative of the label."""
    record = items.row(row, named=True)
    attributes = {name: str(record[name]) for name in catalog.attributes if record[name] is not None}
    return TagItem(record["title"], record["text"] or "", attributes)


def fit(
    config: TagConfig,
    examples: TagExamples,
    items: pl.DataFrame,
    catalog: Catalog,
    label_column: str,
    facts: Mapping[str, Any],
) -> Guardrail:
    """The guardrail, with the certificate of the units that were held out from it in its manifest."""
    fitted, probability = guardrail.fit_held_out(
        config,
        TAG_COLUMNS,
        examples.learn.matrix,
        examples.learn.right,
        examples.learn.group,
        {**examples.facts, **facts},
        tagging.MONOTONE,
    )
    several = catalog.several is not None
    groups = labelset.group_of_label(catalog) if several else units.group_of_label(items, label_column)
    policy, gold = certified(config, fitted, examples.learn, probability, examples.held_out, catalog, groups)
    return fitted.with_facts({MANIFEST_KEY: policy.to_dict(), "gold": gold})
