"""What a batch job does with a row: the pipelines of the service, their answers as rows of a table, and the worker."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
import polars as pl

from features.errors import FeatureError, StoreUnavailable
from features.workspace import Workspace
from graph.errors import GraphError
from models import release
from models.embedder import MiniLMEmbedder
from models.errors import ArtifactMismatch, ModelError
from models.policy import Warrant
from models.ports import FloatMatrix
from serving import pipeline
from serving.clock import RequestClock
from serving.codec import Codec
from serving.config import ServeConfig
from serving.errors import BackfillFailed, NotReady, ServingError
from serving.jobfolder import Job, JobFolder, Partition
from serving.llms import LLMs, open_llms
from serving.load import load_services
from serving.messages import Header, ProposedValue, Recommendation, Tagging
from serving.products import ProductFile, Unreadable, product, shown_id
from serving.services import Services

_Value = TypeVar("_Value")
_PATIENCE_MS = 24 * 3_600_000
"""A row's deadline: nobody waits for it, and an engine keeps its own time (LLMConfig.timeout_s)."""
_ATTEMPTS = 4
"""Times a partition may end its worker's process; Ray starts another worker without end."""
_TEXTS = 20_000
"""Embeddings a worker keeps (30 MB): products often share a text."""

_DEGRADED = pl.List(pl.String)
_CERTIFICATE: Mapping[str, Any] = {
    "group": pl.String,
    "certified": pl.String,
    "evidence": pl.String,
    "score": pl.Float64,
    "threshold": pl.Float64,
    "precision": pl.Float64,
    "confidence": pl.Float64,
    "units": pl.Int64,
    "accepted": pl.Int64,
    "wrong": pl.Int64,
    "lower_bound": pl.Float64,
    "reason": pl.String,
}
_VALUE: Mapping[str, Any] = {
    "attribute": pl.String,
    "value": pl.String,
    "number": pl.Float64,
    "unit": pl.String,
    "probability": pl.Float64,
    "verdict": pl.String,
    "sources": pl.List(pl.String),
    "evidence_field": pl.String,
    "evidence_start": pl.Int32,
    "evidence_end": pl.Int32,
    "evidence_text": pl.String,
    "llm_logprob": pl.Float64,
    "certificate": pl.Struct(_CERTIFICATE),
}
TAGS: Mapping[str, Any] = {
    "row": pl.Int64,
    "item_id": pl.String,
    "vocabulary": pl.String,
    "abstained": pl.Boolean,
    "rank": pl.Int32,
    "tag": pl.String,
    "probability": pl.Float64,
    "verdict": pl.String,
    "decided_by": pl.String,
    "sources": pl.List(pl.String),
    "evidence_field": pl.String,
    "evidence_start": pl.Int32,
    "evidence_end": pl.Int32,
    "evidence_text": pl.String,
    "facts": pl.List(pl.String),
    "reasons": pl.List(pl.Struct({"feature": pl.String, "value": pl.Float64, "contribution": pl.Float64})),
    "llm_logprob": pl.Float64,
    "certificate": pl.Struct(_CERTIFICATE),
    "attributes": pl.List(pl.Struct(_VALUE)),
    "degraded": _DEGRADED,
    "release": pl.String,
}
"""One row per tag, in the service's order (``rank`` from 1). ``row`` counts the input's data rows from 0.
``vocabulary``: the label set that was asked for, "" for the catalog's own labels. A product
that nothing is proposed for has one row with ``rank`` 0 and no tag; ``abstained`` is of the product. ``facts`` are
proofs as text. ``certificate`` is what the verdict rests on, null where the graph's veto decided; its ``threshold`` is
infinite where the group may accept nothing. ``attributes``: the product's values of free attributes, in its first row
and empty in the others. ``degraded``: "stage: cause" of each fallback."""

RECOMMENDATIONS: Mapping[str, Any] = {
    "row": pl.Int64,
    "user_id": pl.String,
    "rank": pl.Int32,
    "item_id": pl.String,
    "score": pl.Float64,
    "sources": pl.List(pl.String),
    "decided_by": pl.String,
    "path": pl.String,
    "as_of": pl.Int64,
    "degraded": _DEGRADED,
    "release": pl.String,
}
"""One row per item, best first (``rank`` from 1); a user without any has one row with ``rank`` 0 and no item.
``as_of``: seconds since 1970 the features were computed at."""


# --- what is done with a row -----------------------------------------------------------------------------------------


class Products:
    """Rows of a product file, through `pipeline.tag`."""

    stage = "tagging products"
    schema = TAGS
    key = "item_id"

    def __init__(self, file: ProductFile, codec: Codec, with_llm: bool, job: str, vocabulary: str = "") -> None:
        self._file = file
        self._vocabulary = vocabulary
        self._job = job
        self._codec = codec
        self._with_llm = with_llm

    def read(self, partition: Partition) -> Sequence[Mapping[str, Any] | Unreadable]:
        return self._file.read(partition.start, partition.stop)

    def shown(self, row: Any) -> str | None:
        return shown_id(row)

    async def answer(self, services: Services, number: int, row: Any) -> list[dict[str, Any]]:
        query = self._codec.product_query(*product(row))
        request = f"{self._job}/{number}" if self._with_llm else ""
        query = replace(query, job=self._job, request_id=request, vocabulary=self._vocabulary)
        answer = await pipeline.tag(services, query, RequestClock(_PATIENCE_MS))
        return tag_rows(number, query.item_id, answer, self._with_llm, self._vocabulary)


class Users:
    """Users of a job, through `pipeline.recommend`."""

    stage = "recommending"
    schema = RECOMMENDATIONS
    key = "user_id"

    def __init__(
        self, place: JobFolder, codec: Codec, k: int, at: int | None, new_only: bool = False, shop: str = ""
    ) -> None:
        self._place = place
        self._codec = codec
        self._k = k
        self._at = at
        self._new_only = new_only
        self._shop = shop

    def read(self, partition: Partition) -> Sequence[str]:
        users = self._place.users()
        if users is None:
            raise BackfillFailed(f"users.parquet is gone from {self._place.root}; delete the folder and start again")
        ids: list[str] = users["user_id"].slice(partition.start, partition.stop - partition.start).to_list()
        return ids

    def shown(self, row: Any) -> str | None:
        return str(row)

    async def answer(self, services: Services, number: int, row: Any) -> list[dict[str, Any]]:
        query = self._codec.user_query(row, self._k, self._at, self._new_only, self._shop)
        answer = await pipeline.recommend(services, query, RequestClock(_PATIENCE_MS))
        for part in answer.header.degraded:
            if part.stage == "features":
                # The service treats the user as new for once; in a file that answer would stay.
                raise StoreUnavailable(part.cause.partition(";")[0])
        return recommendation_rows(number, row, answer)


def tag_rows(number: int, item_id: str, answer: Tagging, with_llm: bool, vocabulary: str = "") -> list[dict[str, Any]]:
    """A Tagging as rows of `TAGS`."""
    common = {
        "row": number,
        "item_id": item_id,
        "vocabulary": vocabulary,
        "abstained": answer.abstained,
        "degraded": _degraded(answer.header, with_llm),
        "release": answer.header.release,
    }
    rows = []
    for rank, tag in enumerate(answer.tags, 1):
        field, start, end = tag.evidence or (None, None, None)
        rows.append(
            {
                **common,
                "rank": rank,
                "tag": tag.tag,
                "probability": tag.probability,
                "verdict": tag.verdict,
                "decided_by": tag.decided_by,
                "sources": list(tag.sources),
                "evidence_field": field,
                "evidence_start": start,
                "evidence_end": end,
                "evidence_text": tag.evidence_text if tag.evidence else None,
                "facts": ["\n".join(proof.lines()) for proof in tag.facts],
                "reasons": [asdict(reason) for reason in tag.reasons],
                "llm_logprob": tag.llm_logprob,
                "certificate": certificate_row(tag.warrant),
            }
        )
    rows = rows or [{**common, "rank": 0, "sources": [], "facts": [], "reasons": []}]
    values = [_value_row(value) for value in answer.attributes]
    return [{**row, "attributes": [] if place else values} for place, row in enumerate(rows)]


def _value_row(value: ProposedValue) -> dict[str, Any]:
    field, start, end = value.evidence
    told = {name: getattr(value, name) for name in _VALUE if hasattr(value, name)}
    evidence = {"evidence_field": field, "evidence_start": start, "evidence_end": end}
    return {**told, **evidence, "sources": list(value.sources), "certificate": certificate_row(value.warrant)}


def certificate_row(warrant: Warrant | None) -> dict[str, Any] | None:
    """What a verdict rests on as a value of the column ``certificate``."""
    if warrant is None:
        return None
    bound = warrant.bound
    counted = {"units": bound.units, "accepted": bound.accepted, "wrong": bound.wrong, "lower_bound": bound.lower}
    told = {name: getattr(warrant, name) for name in _CERTIFICATE if name not in counted}
    return {name: counted.get(name, told.get(name)) for name in _CERTIFICATE}


def recommendation_rows(number: int, user_id: str, answer: Recommendation) -> list[dict[str, Any]]:
    """A Recommendation as rows of `RECOMMENDATIONS`."""
    common = {
        "row": number,
        "user_id": user_id,
        "path": answer.path,
        "as_of": answer.as_of,
        "degraded": _degraded(answer.header, True),
        "release": answer.header.release,
    }
    rows = [
        {
            **common,
            "rank": rank,
            "item_id": item.item_id,
            "score": item.score,
            "sources": list(item.sources),
            "decided_by": item.decided_by,
        }
        for rank, item in enumerate(answer.items, 1)
    ]
    return rows or [{**common, "rank": 0, "sources": []}]


def _degraded(header: Header, with_llm: bool) -> list[str]:
    return [f"{part.stage}: {part.cause}" for part in header.degraded if with_llm or part.stage != "llm"]


# --- one worker ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """What a worker must know; travels to it."""

    workspace: Workspace
    config: ServeConfig
    place: JobFolder
    job: Job
    rows: Products | Users
    with_llm: bool


class Worker:
    """One process of a job: the release is loaded with its first partition.

    A call takes ``number``, ``start`` and ``stop`` of partitions and answers ``number`` and ``error`` (empty, or why
    the job cannot go on): an error that is raised would reach the caller with Ray's stack traces around it.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._services: Services | None = None
        self._llms: LLMs | None = None
        # An LLM engine belongs to one event loop for life.
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="backfill", daemon=True).start()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        parts = [
            Partition(int(number), int(start), int(stop))
            for number, start, stop in zip(batch["number"], batch["start"], batch["stop"])
        ]
        return {"number": [part.number for part in parts], "error": [self._finish(part) for part in parts]}

    def _finish(self, partition: Partition) -> str:
        try:
            if self._plan.place.attempt(partition) > _ATTEMPTS:
                return (
                    f"partition {partition.number} (rows {partition.start} to {partition.stop - 1}) ended its worker "
                    f"{_ATTEMPTS} times: look for an unusual row, or too little memory for backfill.workers"
                )
            if self._services is None:
                self._services = self._load()
            rows = self._plan.rows.read(partition)
            results, dead = self._wait(self._answer_all(self._services, partition, rows))
            schema = self._plan.rows.schema
            letters = {"row": pl.Int64, self._plan.rows.key: pl.String, "reason": pl.String}
            self._plan.place.write(
                partition, pl.DataFrame(results, schema=schema), pl.DataFrame(dead, schema=letters, orient="row")
            )
            if self._llms is not None:
                # Ray ends a worker without a word: what the partition has cost must be on disk before.
                self._wait(self._llms.flush())
        except (FeatureError, ModelError, GraphError, ServingError) as error:
            return str(error)
        except OSError as error:
            return f"partition {partition.number} could not be written ({error}); check the disk of --output"
        return ""

    def _load(self) -> Services:
        plan, config = self._plan, self._plan.config
        promoted, _ = release.read(plan.workspace.releases)
        if promoted.id != plan.job.release:
            raise BackfillFailed(
                f"release {promoted.id} was promoted while the job ran with {plan.job.release}; promote the "
                "latter again to resume, or start again to a new --output"
            )
        if plan.with_llm:
            self._llms = open_llms(plan.workspace, config, promoted, "backfill")
            self._wait(self._llms.start())
        return load_services(plan.workspace, config, self._llms, embedder=_RememberingEmbedder())

    def _wait(self, answers: Coroutine[Any, Any, _Value]) -> _Value:
        return asyncio.run_coroutine_threadsafe(answers, self._loop).result()

    async def _answer_all(
        self, services: Services, partition: Partition, rows: Sequence[Any]
    ) -> tuple[list[dict[str, Any]], list[tuple[int, str | None, str]]]:
        targets = self._plan.config.llms.targets.values() if self._plan.with_llm else ()
        turns = asyncio.Semaphore(max((target.max_concurrency for target in targets), default=1))

        async def answer(number: int, row: Any) -> list[dict[str, Any]] | str:
            async with turns:
                try:
                    return await self._plan.rows.answer(services, number, row)
                except (StoreUnavailable, ArtifactMismatch, NotReady):
                    raise
                except ServingError as error:
                    return str(error)
                except Exception as error:
                    return f"{type(error).__name__}: {error}"

        numbers = range(partition.start, partition.stop)
        answers = await asyncio.gather(*(answer(number, row) for number, row in zip(numbers, rows)))
        results: list[dict[str, Any]] = []
        dead: list[tuple[int, str | None, str]] = []
        for number, row, found in zip(numbers, rows, answers):
            if isinstance(found, str):
                dead.append((number, self._plan.rows.shown(row), found))
            else:
                results.extend(found)
        return results, dead


class _RememberingEmbedder:
    """The service's embedder; a text seen before is not embedded again, to the same bits."""

    def __init__(self) -> None:
        self._embedder = MiniLMEmbedder(threads=1)
        self._known: OrderedDict[str, FloatMatrix] = OrderedDict()
        self.model_id = self._embedder.model_id
        self.dimension = self._embedder.dimension

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        # Taken at once: another thread may push one out meanwhile.
        found = {text: vector for text in texts if (vector := self._known.get(text)) is not None}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            made = dict(zip(missing, self._embedder.embed(missing)))
            self._known.update(made)
            while len(self._known) > _TEXTS:
                self._known.popitem(last=False)
            found.update(made)
        return np.stack([found[text] for text in texts])
