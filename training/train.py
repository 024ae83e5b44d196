"""Train everything a release holds, from the ingested catalog to the promoted release."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from features.arrivals import catalog_items
from features.errors import WorkspaceError
from features.gold import gold, with_gold
from features.items import ItemTable
from features.schema import schema_hash
from features.statistics import DAY
from features.store import FeatureRepository
from features.workspace import Workspace, WorkspaceConfig
from graph import ontology
from graph.ports import KnowledgeGraph
from graph.properties import PropertyTable
from graph.taxonomy import with_wider
from models import release
from models.catalog import Catalog
from models.coldstart import Demand
from models.embedder import MiniLMEmbedder
from models.errors import ArtifactMismatch, InvalidVocabulary
from models.guardrail import Guardrail
from models.index import create_index
from models.llm import LLMConfig
from models.meanings import meanings_of, read_labels
from models.ports import Embedder, LLMEngine
from models.prompts import Prompt
from models.prompts.registry import PromptRegistry
from models.text import catalog_view
from models.vocabulary import Vocabulary
from training import cold, evaluate, labelsets, tags
from training.acceptance import enough
from training.config import TrainConfig
from training.finetune.gold import taught_items
from training.fit import Tandem, fit_ranker, repeats_of
from training.materialize import (
    EventArrays,
    Progress,
    build_item_table,
    event_arrays,
    load_events,
    write_features,
)
from training.protocols import Protocol, next_wish, temporal
from training.ranking import in_time, some
from training.values import learn_of

LEAST_TARGETS = 100
"""Baskets with a history below which the ranker learns from users' weeks instead."""

OpenLLM = Callable[[LLMConfig], LLMEngine]
"""Makes a model answer; blocks while it loads."""


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What was released, how good its parts are, and how long each step took (seconds)."""

    release: str
    metrics: Mapping[str, Any]
    seconds: Mapping[str, float]


class _Clock:
    """Wall time by step, and the caller's progress."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step] = round(now - self._started, 2)
        self._started = now


def train(
    workspace: Workspace, config: TrainConfig, open_llm: OpenLLM | None, progress: Progress = lambda *_: None
) -> TrainReport:
    """Materialize features, fit ranker and guardrails, build the index, write and promote a release.

    ``open_llm`` opens the engine of ``config.llm``, None only where that is: engines are reached through the gateway,
    which training does not know.
    Raises WorkspaceError where nothing was ingested, InvalidVocabulary where the settings name labels that are not this
    catalog's, MissingExtra or EngineUnavailable where the LLM cannot be loaded.
    """
    if config.llm is not None and open_llm is None:
        raise ValueError("config.llm names an LLM and nothing opens it: give open_llm, or llm=None to train without")
    catalog_config = workspace.config()
    clock = _Clock(progress)
    progress("reading events", 0.0)
    # What people said of an item's tag counts more than what the catalog says.
    items = with_gold(catalog_items(workspace), gold(workspace), catalog_config.label_column)
    vocabulary = None if config.labels is None else _labels(config.labels, items, catalog_config.label_column)
    labelsets.check(config, items)
    frame = load_events(workspace)
    events = event_arrays(frame, items)
    clock.lap("read")
    table = build_item_table(catalog_config, items, events, config.item_tags)
    repository = write_features(workspace, config.online_store, table, events, progress)
    clock.lap("features")
    repeats = repeats_of(config, events)
    system, ranking = _fit_ranker(config, catalog_config, items, table, repeats, frame, progress)
    clock.lap("ranker")
    embedder = MiniLMEmbedder()
    catalog = _build_catalog(catalog_config, items, embedder, vocabulary, progress)
    clock.lap("index")
    rules = ontology.load(catalog_config.ontology)
    sets = labelsets.derive_all(config, workspace, items, catalog, catalog_config.label_column, embedder)
    graph = labelsets.with_all_wider(with_wider(rules, catalog.wider, catalog.source), sets)
    properties = item_properties(graph, catalog_config, items)
    clock.lap("graph")
    facts = {"data_hash": catalog_config.data_hash, "graph": rules.version, "embedder": embedder.model_id}
    prompts = _prompts(workspace)
    tag_guard, cold_guard, without, llm_id = asyncio.run(
        _fit_guardrails(
            config,
            workspace,
            items,
            events,
            table,
            catalog,
            properties,
            graph,
            embedder,
            repository,
            prompts,
            facts,
            progress,
            open_llm,
        )
    )
    clock.lap("guardrails")
    fitted = [
        asyncio.run(labelsets.fit(config, own, corrected, graph, prompts["tag"], facts, progress))
        for own, corrected in sets
    ]
    clock.lap("label sets")
    values, read = None, None
    if config.attributes is not None:
        progress("attributes: counting values", 0.0)
        values, read = learn_of(config.attributes, workspace, items, catalog.text_of_row, config.tags, config.seed)
        clock.lap("attributes")
    known = events.row >= 0
    today = int(events.time.max(initial=0)) + DAY
    demand = Demand.build(
        catalog,
        events.user[known],
        events.row[known],
        table.statistic("i_count_28d", today),
        table.statistic("i_reorder", today),
    )

    def build(folder: Path) -> None:
        system.ranker.save(folder / "ranker")
        if system.discovery is not None:
            system.discovery.save(folder / "discovery")
        if tag_guard is not None:
            tag_guard.save(folder / "tag_guardrail")
        if values is not None:
            values.save(folder / "attributes")
        if cold_guard is not None:
            cold_guard.save(folder / "cold_guardrail")
        for number, each in enumerate(fitted):
            each.save(folder / "sets" / str(number), {"data_hash": catalog_config.data_hash})
        catalog.save(folder / "catalog", {"embedder": embedder.model_id, "data_hash": catalog_config.data_hash})
        demand.save(folder / "demand.npz")
        properties.save(folder / "properties.npz")
        shutil.copytree(workspace.features / "item_table", folder / "item_table")

    metrics = {
        "ranking": ranking,
        "tags": _tag_metrics(tag_guard),
        "attributes": read,
        "sets": {each.name: _tag_metrics(each.guardrail) for each in fitted},
        "cold_start": {**cold_guard.manifest["held_out"], "ordering": cold_guard.manifest["ordering"]}
        if cold_guard
        else None,
        "without": {"cold-start guardrail": without} if without else {},
    }
    written = release.write(
        workspace.releases,
        versions(catalog_config, rules, embedder, llm_id, table, prompts),
        repeats,
        metrics,
        build,
    )
    release.promote(workspace.releases, written.id)
    clock.lap("release")
    progress("released", 1.0)
    return TrainReport(written.id, metrics, clock.seconds)


def _tag_metrics(guardrail: Guardrail | None) -> dict[str, Any] | None:
    if guardrail is None:
        return None
    names = ("examples", "candidate_recall", "llm_examples", "llm_accuracy")
    # Tags are accepted under certificates, whose figures "gold" has; the estimate that others use says nothing here.
    cross_fitted = {name: value for name, value in guardrail.manifest["held_out"].items() if "accepted" not in name}
    certified = {
        f"{measure} of held-out types, {evidence}": figures[measure]
        for evidence, figures in guardrail.manifest["gold"].items()
        for measure in ("units", "accuracy", "coverage", "recall", "ece")
        if measure in figures
    }
    return {**cross_fitted, **{name: guardrail.manifest[name] for name in names}, **certified}


def versions(
    config: WorkspaceConfig,
    graph: KnowledgeGraph,
    embedder: Embedder,
    llm_id: str | None,
    table: ItemTable,
    prompts: Mapping[str, Prompt],
) -> dict[str, Any]:
    """Everything beside the model files that decides an answer."""
    return {
        "dataset": config.dataset,
        "data_hash": config.data_hash,
        "feature_schema": schema_hash(),
        "item_table": table.version,
        "ontology": config.ontology,
        "graph": graph.version,
        "prompts": {name: prompt.version for name, prompt in prompts.items()},
        "llm": llm_id,
        "embedder": embedder.model_id,
    }


def _prompts(workspace: Workspace) -> dict[str, Prompt]:
    """What somebody released in this workspace, else what is shipped; kept, for the release will name its versions."""
    registry = PromptRegistry(workspace.prompts)
    registry.keep_shipped()
    try:
        current, _ = release.read(workspace.releases)
    except ArtifactMismatch:
        return registry.for_training(None)
    return registry.for_training(current.versions)


def up_to_date(workspace: Workspace) -> bool:
    """Whether the promoted release was made from the workspace's data by this code's schema, graph and prompts."""
    config = workspace.config()
    try:
        current, _ = release.read(workspace.releases)
    except ArtifactMismatch:
        return False
    wanted = PromptRegistry(workspace.prompts).for_training(current.versions)
    expected = {
        "data_hash": config.data_hash,
        "feature_schema": schema_hash(),
        "graph": ontology.load(config.ontology).version,
        "prompts": {name: prompt.version for name, prompt in wanted.items()},
    }
    return all(current.versions.get(part) == version for part, version in expected.items())


def item_properties(graph: KnowledgeGraph, config: WorkspaceConfig, items: pl.DataFrame) -> PropertyTable:
    """Properties of every item: derived once per distinct product description, then spread over the items."""
    return PropertyTable.of_items(
        graph, [catalog_view(record, config.label_column) for record in items.iter_rows(named=True)]
    )


def _fit_ranker(
    config: TrainConfig,
    catalog: WorkspaceConfig,
    items: pl.DataFrame,
    table: ItemTable,
    repeats: bool,
    frame: pl.DataFrame,
    progress: Progress,
) -> tuple[Tandem, dict[str, Any]]:
    protocol = training_protocol(frame, items, repeats)
    facts = {"data_hash": catalog.data_hash, "split": dict(protocol.facts)}
    system = fit_ranker(config, protocol, table, repeats, facts, progress)
    test = in_time(some(protocol.test, config.test_sessions, config.seed + 2))
    groups = system.groups(test, progress)
    split = {"protocol": protocol.name, **protocol.facts}
    report = evaluate.ranking_report(system.ranker, groups, system.wanted(test), split, config.seed, repeats)
    return system, {**report, "discovery": system.ranker.manifest.get("discovery")}


def training_protocol(frame: pl.DataFrame, items: pl.DataFrame, repeats: bool = True) -> Protocol:
    """The next basket, or the next items where nothing is had twice, where users come back often enough to have one;
    else what everybody has in a week.

    Raises WorkspaceError where the data allows neither.
    """
    protocol = next_wish(frame, items, repeats)
    if len(protocol.train) >= LEAST_TARGETS and len(protocol.valid):
        return protocol
    weekly = temporal(frame, items)
    if len(weekly.train) and len(weekly.valid):
        return weekly
    raise WorkspaceError(
        f"there is too little to learn a ranking from: {len(protocol.train)} "
        f"{'baskets' if protocol.name == 'next_basket' else 'parts of what users had'} with a history, and "
        f"{len(weekly.train)} weeks of users before the last two. Ingest more interactions, over some weeks"
    )


def _labels(path: Path, items: pl.DataFrame, column: str | None) -> Vocabulary:
    """The vocabulary of a file; that it fits the catalog is asked here, before minutes of fitting."""
    made = read_labels(path)
    if column is None:
        raise InvalidVocabulary(
            f"{path} says what labels mean, and this catalog has no label column; ingest it with --label-column, or "
            "leave train.labels out"
        )
    meanings_of(made, items[column].cast(pl.String).drop_nulls().unique().sort().to_list())
    return made


def _build_catalog(
    config: WorkspaceConfig,
    items: pl.DataFrame,
    embedder: Embedder,
    vocabulary: Vocabulary | None,
    progress: Progress,
) -> Catalog:
    return Catalog.build(
        items,
        config.label_column,
        [name for name, kind in config.item_attributes.items() if kind == "categorical"],
        embedder,
        create_index,
        lambda done: progress("index: embedding texts", done),
        vocabulary,
    )


async def _fit_guardrails(
    config: TrainConfig,
    workspace: Workspace,
    items: pl.DataFrame,
    events: EventArrays,
    table: ItemTable,
    catalog: Catalog,
    properties: PropertyTable,
    graph: KnowledgeGraph,
    embedder: Embedder,
    repository: FeatureRepository,
    prompts: Mapping[str, Prompt],
    facts: Mapping[str, Any],
    progress: Progress,
    open_llm: OpenLLM | None,
) -> tuple[Guardrail | None, Guardrail | None, str, str | None]:
    """The guardrails of tags and of the cold start, why there is none of the latter, and who answered as the LLM."""
    engine: LLMEngine | None = None
    if config.llm is not None and open_llm is not None:
        progress("loading the LLM", 0.0)
        engine = open_llm(config.llm)
    try:
        tag_guard = None
        if len(catalog.labels) > 1:
            examples = await tags.build_examples(
                items,
                catalog,
                graph,
                prompts["tag"],
                engine,
                config.llm_tag_examples,
                config.tags,
                config.seed,
                progress,
                taught_items(None if config.llm is None else config.llm.adapter),
            )
            label_column = workspace.config().label_column or ""
            if enough(examples.learn):
                tag_guard = tags.fit(config.tags, examples, items, catalog, label_column, facts)
        people = await cold.build_examples(
            events,
            table,
            catalog,
            properties,
            graph,
            embedder,
            repository,
            prompts["cold_start"],
            engine,
            config.llm_cold_examples,
            config.seed,
            progress,
        )
        progress("cold start: fitting", 0.0)
        lacking = cold.lacking(people)
        ordering = {} if lacking else cold.report(config.cold, people, catalog, config.seed)
        cold_guard = None if lacking else cold.fit(config.cold, people, {**facts, "ordering": ordering})
        return tag_guard, cold_guard, lacking, engine.model_id if engine else None
    finally:
        if engine is not None:
            await engine.aclose()
