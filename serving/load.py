"""From a workspace to running services: load the promoted release, refuse what does not fit, warm up, wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from features.arrivals import SqliteItemLog, ingested_at
from features.errors import WorkspaceError
from features.events import Recorder, SqliteEventLog
from features.history import History
from features.items import ItemTable
from features.schema import RANKING_NAMES, schema_hash
from features.store import FeatureRepository
from features.transforms import assemble, summarize
from features.workspace import Workspace
from graph import ontology
from graph.properties import PropertyTable
from graph.taxonomy import with_wider
from models import labelset, release, tagging
from models.blend import Blend
from models.catalog import Catalog
from models.coldstart import COLD_COLUMNS, Demand
from models.embedder import MiniLMEmbedder
from models.errors import ArtifactMismatch
from models.guardrail import Guardrail
from models.index import load_index
from models.labelcounts import LabelCounts
from models.policy import TagPolicy
from models.ports import Embedder
from models.prompts.registry import PromptRegistry
from models.release import Release
from models.tagging import TAG_COLUMNS, TagItem
from models.values import ValueJudge
from serving.arrivals import Arrivals
from serving.config import ServeConfig
from serving.factlog import SqliteFactLog
from serving.facts import with_facts
from serving.gateway import Gateway
from serving.gateway.observe import Part
from serving.knowledge import Knowledge
from serving.live import LiveServices, replay
from serving.llms import LLMs
from serving.review.desk import ReviewDesk
from serving.scorers import LocalJudge, LocalScorer, RemoteJudge, RemoteScorer
from serving.services import Judge, Scorer, Services, Tagger
from serving.similar import SimilarItems

RANKER = "ranker"
DISCOVERY = "discovery"
TAG_GUARDRAIL = "tag_guardrail"
COLD_GUARDRAIL = "cold_guardrail"
ATTRIBUTES = "attributes"
SETS = "sets"
"""Folder of the label sets: each has ``labels`` and, where there was enough to learn from, ``guardrail``."""


class Trees:
    """The tree models of a release, by name; absent guardrails are left out.

    ``discovery``: the ranker of what users have not had, None where the release was made without one.
    """

    def __init__(self, folder: Path) -> None:
        self.ranker = Blend.load(folder / RANKER, schema_hash())
        self.discovery: Blend | None = None
        if (folder / DISCOVERY).exists():
            self.discovery = Blend.load(folder / DISCOVERY, schema_hash())
        self.guardrails: dict[str, Guardrail] = {}
        for name, columns in ((TAG_GUARDRAIL, TAG_COLUMNS), (COLD_GUARDRAIL, COLD_COLUMNS)):
            if (folder / name).exists():
                self.guardrails[name] = Guardrail.load(folder / name, columns)

    def model(self, name: str) -> Blend | Guardrail:
        if name == DISCOVERY and self.discovery is not None:
            return self.discovery
        return self.ranker if name == RANKER else self.guardrails[name]


def load_services(
    workspace: Workspace,
    config: ServeConfig,
    llms: LLMs | None = None,
    remote_trees: Mapping[str, Any] | None = None,
    embedder: Embedder | None = None,
) -> Services:
    """Load and check everything a request needs, then warm it up: a failure here stops the start.

    ``llms``: opened for the release that is then loaded; None asks none, and the promoted release is loaded.
    ``remote_trees``: handles of the deployments that score, by model name, for the split topology. Raises
    ArtifactMismatch, SchemaMismatch, WorkspaceError.
    """
    catalog_config = workspace.config()
    current, folder = release.read(workspace.releases, llms.release if llms is not None else None)
    rules = ontology.load(catalog_config.ontology)
    embedder = embedder or MiniLMEmbedder(threads=1)
    _check_versions(
        current,
        {
            "feature_schema": schema_hash(),
            "graph": rules.version,
            "embedder": embedder.model_id,
        },
    )
    if current.versions["data_hash"] != catalog_config.data_hash:
        raise WorkspaceError(
            f"release {current.id} was trained on data {current.versions['data_hash'][:12]}, the workspace now holds "
            f"{catalog_config.data_hash[:12]}. Run: tandem train"
        )
    trees = Trees(folder)
    repository = FeatureRepository(workspace.features, list(catalog_config.user_attributes), config.online_store)
    recorder = Recorder(SqliteEventLog(workspace.events), repository, repository.histories())
    recorder.push_pending()
    catalog = Catalog.load(folder / "catalog", load_index)
    desk = ReviewDesk(workspace.review, config.review)
    sets, unlearned, wider = _sets(folder, catalog, desk)
    graph = with_wider(rules, catalog.wider, catalog.source)
    for own in wider:
        graph = with_wider(graph, own.wider, own.source)
    demand = Demand.load(folder / "demand.npz", catalog)
    services = Services(
        config=catalog_config,
        release=current,
        table=ItemTable.load(folder / "item_table"),
        store=repository,
        recorder=recorder,
        ranker=_scorer(trees.ranker, RANKER, remote_trees),
        discovery=None if trees.discovery is None else _scorer(trees.discovery, DISCOVERY, remote_trees),
        catalog=catalog,
        counts=LabelCounts.build(catalog),
        demand=demand,
        similar=SimilarItems(catalog, demand.item_users),
        arrivals=Arrivals(),
        graph=graph,
        knowledge=Knowledge(graph),
        properties=PropertyTable.load(folder / "properties.npz"),
        tag_judge=_judge(trees, TAG_GUARDRAIL, remote_trees),
        cold_judge=_judge(trees, COLD_GUARDRAIL, remote_trees),
        policy=_policy(trees, desk),
        sets=sets,
        unlearned=unlearned,
        values=_values(folder, desk),
        embedder=embedder,
        prompts=PromptRegistry(workspace.prompts).of_release(current.versions),
        gateway=llms.gateway if llms is not None else Gateway.single(None),
        told=llms.telemetry.observer if llms is not None else Part(),
        workers=ThreadPoolExecutor(max_workers=2, thread_name_prefix="embed"),
        candidates=config.candidates,
        llm_reserve_s=config.llm_reserve_ms / 1e3,
        review=desk,
    )
    _warm_up(services, trees)
    services = _with_facts(_with_arrivals(services, workspace), workspace)
    services.prepare()  # items that arrived make another table
    return services


def load_live(
    workspace: Workspace,
    config: ServeConfig,
    llms: LLMs | None = None,
    remote_trees: Mapping[str, Any] | None = None,
) -> LiveServices:
    """What `load_services` loads, following the workspace's logs from then on. Raises what that raises."""
    services = load_services(workspace, config, llms, remote_trees)
    live = LiveServices(services, SqliteItemLog(workspace.arrivals), SqliteFactLog(workspace.facts))
    live.follow()
    return live


def _with_arrivals(services: Services, workspace: Workspace) -> Services:
    """With the items that arrived since the release's data were ingested."""
    if not workspace.arrivals.exists():
        return services
    log = SqliteItemLog(workspace.arrivals)
    try:
        return replay(services, log, ingested_at(workspace))
    finally:
        log.close()


def _with_facts(services: Services, workspace: Workspace) -> Services:
    """With what services asserted, in this release's time or an earlier one's."""
    if not workspace.facts.exists():
        return services
    log = SqliteFactLog(workspace.facts)
    try:
        return with_facts(services, log.after(services.knowledge.seq))
    finally:
        log.close()


def _check_versions(current: Release, running: dict[str, Any]) -> None:
    for part, version in running.items():
        if current.versions.get(part) != version:
            raise ArtifactMismatch(
                f"release {current.id} was made with {part} {current.versions.get(part)!r}, this code runs "
                f"{version!r}. Run: tandem train"
            )


def _scorer(ranker: Blend, name: str, remote: Mapping[str, Any] | None) -> Scorer:
    return LocalScorer(ranker) if remote is None else RemoteScorer(remote[name], name)


def _judge(trees: Trees, name: str, remote: Mapping[str, Any] | None) -> Judge | None:
    guardrail = trees.guardrails.get(name)
    if guardrail is None:
        return None
    if remote is None:
        return LocalJudge(guardrail)
    return RemoteJudge(remote[name], name, guardrail)


def _policy(trees: Trees, desk: ReviewDesk) -> TagPolicy | None:
    guardrail = trees.guardrails.get(TAG_GUARDRAIL)
    if guardrail is None:
        return None
    return replace(TagPolicy.from_manifest(guardrail.manifest), review_only=desk.review_only)


def label_sets(folder: Path) -> dict[str, bool]:
    """The label sets of a release by name, and whether each has a guardrail."""
    return {
        str(json.loads((where / "labels" / "names.json").read_text())["name"]): (where / "guardrail").exists()
        for where in sorted((folder / SETS).glob("*"))
    }


def _sets(folder: Path, catalog: Catalog, desk: ReviewDesk) -> tuple[dict[str, Tagger], frozenset[str], list[Catalog]]:
    """Who judges each label set, the names of those that nobody judges, and all of them as catalogs.

    They are judged in this process in the split topology as well: they are small, and made for the few.
    """
    taggers: dict[str, Tagger] = {}
    unlearned: set[str] = set()
    found: list[Catalog] = []
    for where in sorted((folder / SETS).glob("*"), key=lambda each: int(each.name)):
        own = labelset.load(where / "labels", catalog)
        found.append(own)
        if not (where / "guardrail").exists():
            unlearned.add(own.source)
            continue
        guardrail = Guardrail.load(where / "guardrail", TAG_COLUMNS)
        policy = replace(TagPolicy.from_manifest(guardrail.manifest), review_only=desk.review_only)
        taggers[own.source] = Tagger(own.source, own, LabelCounts.build(own), LocalJudge(guardrail), policy)
    return taggers, frozenset(unlearned), found


def _values(folder: Path, desk: ReviewDesk) -> ValueJudge | None:
    if not (folder / ATTRIBUTES).exists():
        return None
    return replace(ValueJudge.load(folder / ATTRIBUTES), review_only=desk.review_only)


def _warm_up(services: Services, trees: Trees) -> None:
    """Touch what is loaded lazily, so that the first caller does not pay for it, and a broken part stops the start."""
    rows = np.arange(min(8, len(services.table)), dtype=np.int64)
    profile = summarize(History.empty(), services.table, services.now(History.empty(), None))
    matrix = assemble(profile, services.table, rows, np.zeros(len(rows)))
    for ranker in (trees.ranker, trees.discovery):
        if ranker is None:
            continue
        if matrix.shape[1] != len(RANKING_NAMES) or (len(rows) and not np.isfinite(ranker.predict(matrix)).all()):
            raise ArtifactMismatch("the ranker does not score this catalog's features. Run: tandem train")
    services.similar.warm_up()
    services.embedder.embed(["warm up"])
    if services.policy is not None:
        catalog = services.catalog
        item = TagItem("warm up", attributes={name: values[0] for name, values in catalog.values.items()})
        found = tagging.retrieve(catalog, services.counts, item, catalog.vectors[0])
        tagging.evidence(catalog, services.counts, found, found.proposed, None, {})
        if services.values is not None:
            services.values.judge(services.values.propose(item))
    for tagger in services.sets.values():
        item = TagItem(
            "warm up", attributes={name: values[0] for name, values in tagger.catalog.values.items() if values}
        )
        found = tagging.retrieve(tagger.catalog, tagger.counts, item, tagger.catalog.vectors[0])
        tagging.evidence(tagger.catalog, tagger.counts, found, found.proposed, None, {})
    services.store.history("")
