"""The promoted release in a process that serves nobody: for measuring and for comparing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from features.events import SqliteEventLog, history_of
from features.history import History
from features.store import FeatureRepository
from features.workspace import Workspace
from models import release
from models.ports import FloatMatrix
from serving.config import ServeConfig
from serving.load import load_services
from serving.services import Services


class _NoWords:
    """Stands in for the embedder, which takes ten seconds to load: where it is used nobody is described in words."""

    dimension = 1

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        return np.zeros((len(texts), self.dimension), np.float32)


def known_users_services(workspace: Workspace, config: ServeConfig) -> Services:
    """What a request of a known user needs, without LLM and embedder. Raises what `load_services` raises."""
    # Items that arrived are embedded where nobody did so yet, and the vectors are kept for all: those must be real.
    arrived = workspace.arrivals.exists()
    embedder = None if arrived else _NoWords(str(release.read(workspace.releases)[0].versions["embedder"]))
    return load_services(workspace, config, embedder=embedder)


def stored_histories(workspace: Workspace) -> dict[str, History]:
    """Every user's history from the files that training reads and the event log, without the online store."""
    repository = FeatureRepository(workspace.features, list(workspace.config().user_attributes))
    histories = repository.histories()
    if workspace.events.exists():
        log = SqliteEventLog(workspace.events)
        try:
            users = log.frame()["user_id"].unique().to_list()
            for user, events in log.of_users(users).items():
                histories[user] = histories.get(user, History.empty()).append(history_of(events))
        finally:
            log.close()
    return histories


def place_names(workspace: Workspace) -> list[str]:
    """Names of the places that events tell, those with the most events first."""
    told = pl.scan_parquet(workspace.interactions)
    names = pl.DataFrame(schema={"place": pl.String})
    if "place" in told.collect_schema().names():
        names = told.select("place").collect()
    if workspace.events.exists():
        log = SqliteEventLog(workspace.events)
        try:
            names = pl.concat([names, log.frame().select("place")])
        finally:
            log.close()
    known = names.filter(pl.col("place").is_not_null() & (pl.col("place") != ""))
    counts = known.group_by("place").len().sort("len", "place", descending=[True, False])
    return [str(name) for name in counts["place"]]
