"""Label sets of a release: a catalog of labels, a guardrail and a certificate for each list column that Tag shall give.

No LLM is asked about them: measured on foods, the default one earns nothing (`tandem evaluate tags`), and what anybody
else's LLM says of them `Score` judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from features.gold import set_gold, with_set_gold
from features.workspace import Workspace
from graph.ports import KnowledgeGraph
from graph.taxonomy import with_wider
from models import labelset
from models.catalog import Catalog
from models.guardrail import Guardrail
from models.meanings import read_labels
from models.ports import Embedder
from models.prompts import Prompt
from training import tags
from training.acceptance import enough
from training.config import TrainConfig
from training.materialize import Progress


@dataclass(frozen=True, slots=True, eq=False)
class LabelSet:
    """``guardrail`` None: too few items are labelled to learn from."""

    catalog: Catalog
    guardrail: Guardrail | None

    @property
    def name(self) -> str:
        return self.catalog.source

    def save(self, folder: Path, facts: Mapping[str, object]) -> None:
        """As the service reads it: ``labels`` and, where there is one, ``guardrail``."""
        labelset.save(self.catalog, folder / "labels", facts)
        if self.guardrail is not None:
            self.guardrail.save(folder / "guardrail")


def check(config: TrainConfig, items: pl.DataFrame) -> None:
    """Before minutes of fitting. Raises InvalidVocabulary where the settings name what can be no label set."""
    for column, path in config.several.items():
        labelset.check(items, column)
        if path:
            read_labels(path, several=True)


def derive_all(
    config: TrainConfig,
    workspace: Workspace,
    items: pl.DataFrame,
    catalog: Catalog,
    label_column: str | None,
    embedder: Embedder,
) -> list[tuple[Catalog, pl.DataFrame]]:
    """The label sets that the settings name, each with the items as people corrected their labels.

    Raises InvalidVocabulary where a column or its vocabulary does not fit the catalog.
    """
    found = []
    for column, path in config.several.items():
        told = read_labels(path, several=True) if path else None
        corrected = with_set_gold(items, set_gold(workspace, labelset.prefix_of(column)), column)
        found.append((labelset.derive(catalog, corrected, column, label_column, embedder, told), corrected))
    return found


def with_all_wider(graph: KnowledgeGraph, sets: list[tuple[Catalog, pl.DataFrame]]) -> KnowledgeGraph:
    """The graph with what the sets' vocabularies call wider."""
    for own, _ in sets:
        graph = with_wider(graph, own.wider, own.source)
    return graph


async def fit(
    config: TrainConfig,
    own: Catalog,
    items: pl.DataFrame,
    graph: KnowledgeGraph,
    prompt: Prompt,
    facts: Mapping[str, Any],
    progress: Progress,
) -> LabelSet:
    """The guardrail of a label set, trained and certified as that of the catalog's own labels."""
    examples = await tags.build_examples(
        items,
        own,
        graph,
        prompt,
        None,
        0,
        config.tags,
        config.seed,
        lambda stage, done: progress(stage.replace("tags", own.source), done),
    )
    if not enough(examples.learn):
        return LabelSet(own, None)
    return LabelSet(own, tags.fit(config.tags, examples, items, own, own.source, {**facts, "set": own.source}))
