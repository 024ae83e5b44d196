"""What the pipelines work with: one promoted release, loaded and checked, and the stores around it. Wiring only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from features.events import Recorder
from features.history import History
from features.items import ItemTable
from features.ports import OnlineStore
from features.workspace import WorkspaceConfig
from graph.ports import KnowledgeGraph
from graph.properties import PropertyTable
from models.catalog import Catalog
from models.coldstart import Demand
from models.guardrail import Verdict
from models.labelcounts import LabelCounts
from models.policy import TagPolicy
from models.ports import Contribution, Embedder, FloatMatrix, FloatVector
from models.prompts.registry import Variants
from models.release import Release
from models.values import ValueJudge
from serving.arrivals import Arrivals
from serving.gateway import Gateway
from serving.gateway.observe import Part
from serving.knowledge import Knowledge
from serving.review.desk import ReviewDesk
from serving.similar import SimilarItems

_ARRIVED: Final = 8
"""One of so many similar items may be one that arrived after training."""
PREPARED_S: Final = 600
"""How long before it begins (midnight, UTC) a day is summed up: a second would do on a machine that is idle."""
AHEAD_S: Final = 300
"""Seconds by which the clock of whoever dates events may be ahead of this one's: such events have happened."""


class Scorer(Protocol):
    """A tree model in this process or behind a Ray handle: the pipeline cannot tell."""

    async def score(self, matrix: FloatMatrix) -> FloatVector: ...

    async def explain(self, matrix: FloatMatrix, top: int) -> list[tuple[Contribution, ...]]: ...


class Judge(Scorer, Protocol):
    """A scorer of proposals that also knows its thresholds and what its manifest says of its training."""

    @property
    def facts(self) -> Mapping[str, Any]: ...

    def verdict(self, probability: float) -> Verdict: ...


@dataclass(frozen=True, slots=True, eq=False)
class Tagger:
    """What proposes and judges the labels of one vocabulary: the catalog's own, named "", or a label set's."""

    vocabulary: str
    catalog: Catalog
    counts: LabelCounts
    judge: Judge
    policy: TagPolicy


@dataclass(frozen=True, slots=True, eq=False)
class Services:
    """Everything a request may use. Parts a release lacks are None; a call that needs one answers NotReady."""

    config: WorkspaceConfig
    release: Release
    table: ItemTable
    store: OnlineStore
    recorder: Recorder
    ranker: Scorer
    catalog: Catalog
    counts: LabelCounts
    demand: Demand
    similar: SimilarItems
    arrivals: Arrivals
    graph: KnowledgeGraph
    """The release's ontology and what services asserted since: see ``knowledge``."""
    knowledge: Knowledge
    properties: PropertyTable
    tag_judge: Judge | None
    cold_judge: Judge | None
    embedder: Embedder
    prompts: dict[str, Variants]
    gateway: Gateway
    told: Part
    """Is told what was made of answers."""
    workers: ThreadPoolExecutor
    candidates: int
    llm_reserve_s: float
    discovery: Scorer | None = None
    """Ranks what a user has not had; None where the release has no ranker of its own for it: then ``ranker`` does."""
    policy: TagPolicy | None = None
    """What of tags may be accepted; None where the release has no tag guardrail."""
    sets: Mapping[str, Tagger] = field(default_factory=dict)
    """Label sets by name; a set without enough labelled items to learn from is in ``unlearned``."""
    unlearned: frozenset[str] = frozenset()
    values: ValueJudge | None = None
    """Free attributes that are read in products' words; None where the release has none."""
    review: ReviewDesk | None = None
    """What goes to people; None where nothing is put up for review."""

    def __post_init__(self) -> None:
        if self.similar.catalog is not self.catalog:  # exchanged by dataclasses.replace: items came or changed
            object.__setattr__(self, "similar", self.similar.following(self.catalog, self.demand.item_users))

    def now(self, history: History, at: int | None) -> int:
        """The time features are computed at: the caller's, or one that every event known by now lies before.

        A history is read strictly before it, so events of this very second, and those that a clock ahead dated, move it
        to just after them. Asked for again as ``at`` it gives the same history. On the wall's clock, events more than
        `AHEAD_S` ahead do not count before their time: one false date must not age all else.
        """
        if at is not None:
            return at
        if self.config.clock == "wall":
            wall = int(time.time())
            known = int(np.searchsorted(history.time, wall + AHEAD_S, side="right"))
            return max(wall, int(history.time[known - 1]) + 1) if known else wall
        newest = int(history.time[-1]) if len(history) else 0
        return max(self.config.data_end, newest) + 1

    def prepare(self, ahead_s: int = PREPARED_S) -> None:
        """Sum up the day requests are about, and by the wall's clock the day ``ahead_s`` later too; quick where it is
        done. Where a request comes first, it pays for that, and those behind it on the event loop wait."""
        now = self.now(History.empty(), None)
        self.table.prepare(now)
        if self.config.clock == "wall":
            self.table.prepare(now + ahead_s)

    def recorded_at(self) -> int:
        """The time of an event that names none."""
        return int(time.time()) if self.config.clock == "wall" else self.config.data_end + 1

    def label_of(self, row: int) -> str | None:
        code = int(self.catalog.label_of_row[row])
        return self.catalog.labels[code] if code >= 0 else None

    def similar_rows(self, rows: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
        """Items whose texts are nearest to these items' texts: some that arrived after training, then well-bought ones.

        See `Arrivals` and `SimilarItems.rows`. Nobody has bought what arrived: behind the others it would never come.
        """
        similar = self.similar.rows(rows, most)
        arrived = self.arrivals.of(self.catalog.text_of_row[rows], max(1, most // _ARRIVED))
        return np.concatenate((arrived[~np.isin(arrived, rows)], similar)) if len(arrived) else similar
