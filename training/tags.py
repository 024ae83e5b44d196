"""Training data of the tag guardrail: proposals for products whose label is known, as if they were new."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from graph.ports import KnowledgeGraph
from graph.tags import judge_tags
from models import guardrail, tagging
from models.catalog import Catalog
from models.guardrail import GuardrailConfig, XGBoostGuardrail
from models.ports import LLMEngine
from models.prompts import Prompt
from models.tagging import TAG_COLUMNS, LabelCounts, LLMTags, Retrieved, TagItem
from models.text import product_view
from training.llm import ask_all

EXAMPLES = 2_400
FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class TagExamples:
    """Proposals [n]: evidence, whether gold agrees, the text they belong to; and how often gold was proposed at all."""

    matrix: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]
    group: npt.NDArray[np.int64]
    facts: dict[str, Any]


def sample_rows(catalog: Catalog, most: int, seed: int) -> npt.NDArray[np.int64]:
    """One labelled row of each of at most ``most`` texts: texts, not items, are what a new product differs by."""
    rng = np.random.default_rng(seed)
    labelled = np.flatnonzero(catalog.label_of_row >= 0)
    labelled = labelled[rng.permutation(len(labelled))]
    _, first = np.unique(catalog.text_of_row[labelled], return_index=True)
    rows = labelled[first]
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


async def build_examples(
    items: pl.DataFrame,
    catalog: Catalog,
    graph: KnowledgeGraph,
    template: Prompt,
    llm: LLMEngine | None,
    llm_examples: int,
    seed: int,
    progress: Callable[[str, float], None],
) -> TagExamples:
    """Cross-fitted examples: a product's own fold of texts is hidden from the counts that speak for its labels.

    The LLM (where there is one) is asked about ``llm_examples`` of them; those appear twice, with its answer and
    without, so that the guardrail holds for both.
    """
    rng = np.random.default_rng(seed)
    rows = sample_rows(catalog, EXAMPLES, seed)
    fold_of_text = rng.integers(0, FOLDS, len(catalog.texts))
    counts = [LabelCounts.build(catalog, fold_of_text[catalog.text_of_row] != fold) for fold in range(FOLDS)]
    found: list[Retrieved] = []
    parts = []
    for number, row in enumerate(rows.tolist()):
        text = int(catalog.text_of_row[row])
        part = counts[int(fold_of_text[text])]
        found.append(tagging.retrieve(catalog, part, tag_item(items, catalog, row), catalog.vectors[text]))
        parts.append(part)
        if number % 100 == 0:
            progress("tags: evidence", number / len(rows))
    answers: dict[int, LLMTags] = {}
    if llm is not None and len(rows):
        asked = sorted(rng.choice(len(rows), min(llm_examples, len(rows)), replace=False).tolist())
        requests = {number: tagging.prompt(template, catalog, found[number]) for number in asked}
        codes = {label: code for code, label in enumerate(catalog.labels)}
        results = await ask_all(
            llm,
            {number: request for number, request in requests.items() if request is not None},
            lambda done: progress("tags: asking the LLM", done),
        )
        answers = {number: tagging.read_choices(result, "tags", codes) for number, result in results.items()}
    matrices, right, group = [], [], []
    proposed = llm_right = 0
    for number, row in enumerate(rows.tolist()):
        gold = int(catalog.label_of_row[row])
        proposed += gold in found[number].proposed
        view = product_view(found[number].item.title, found[number].item.text, found[number].item.attributes)
        names = [catalog.labels[label] for label in found[number].proposed]
        judged = judge_tags(graph, "item", view, names, "index")
        agreement = {label: judged.agreement.get(catalog.labels[label], 0.0) for label in found[number].proposed}
        versions: list[LLMTags | None] = [None]
        if number in answers:
            versions.append(answers[number])
            llm_right += bool(answers[number].labels) and answers[number].labels[0] == gold
        # A seller names the brand and not the maker, or neither: evidence that may be absent must be absent here too.
        bare = replace(found[number], item=_with_some_attributes(found[number].item, rng))
        for answer, view_of in [*((answer, found[number]) for answer in versions), (versions[-1], bare)]:
            matrices.append(tagging.evidence(catalog, parts[number], view_of, view_of.proposed, answer, agreement))
            right.append(np.array([label == gold for label in found[number].proposed], bool))
            group.append(np.full(len(found[number].proposed), number, np.int64))
    facts = {
        "examples": len(rows),
        "candidate_recall": proposed / max(1, len(rows)),
        "llm_examples": len(answers),
        "llm_accuracy": llm_right / len(answers) if answers else None,
        "prompt": {template.name: template.version},
        "seed": seed,
    }
    return TagExamples(
        np.concatenate(matrices) if matrices else np.empty((0, len(TAG_COLUMNS)), np.float32),
        np.concatenate(right) if right else np.empty(0, bool),
        np.concatenate(group) if group else np.empty(0, np.int64),
        facts,
    )


def tag_item(items: pl.DataFrame, catalog: Catalog, row: int) -> TagItem:
    """A catalog row as a seller would describe it: its words and the attributes that are no relative of the label."""
    record = items.row(row, named=True)
    attributes = {name: str(record[name]) for name in catalog.attributes if record[name] is not None}
    return TagItem(record["title"], record["text"] or "", attributes)


def _with_some_attributes(item: TagItem, rng: np.random.Generator) -> TagItem:
    """The item with each attribute kept by the toss of a coin."""
    kept = {name: value for name, value in item.attributes.items() if rng.random() < 0.5}
    return replace(item, attributes=kept if rng.random() < 0.7 else {})


def fit(config: GuardrailConfig, examples: TagExamples, facts: Mapping[str, Any]) -> XGBoostGuardrail:
    return guardrail.fit(
        config,
        TAG_COLUMNS,
        examples.matrix,
        examples.right,
        examples.group,
        {**examples.facts, **facts},
        tagging.MONOTONE,
    )
