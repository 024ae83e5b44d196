"""What tags cost in process: the pipeline without an LLM, and guardrail with graph alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.tagging import TagItem
from serving.clock import RequestClock
from serving.messages import ScoreQuery, TagClaim, TagQuery
from serving.pipeline import score, tag
from serving.pipeline.verdicts import UNNAMED, consider, decide, retrieve, tagger_of
from serving.services import Services

TAGS: Final = 20
"""Proposed tags of an item whose verdicts are timed."""
CLAIMS: Final = 100
"""Claims of one Score: five on each of twenty items."""
_PATIENCE_MS: Final = 60_000
_NEW: Final = "newly listed"
"""Added to a product's words they are words of nobody's."""


async def measure_tag(services: Services, requests: int = 300, seed: int = 0) -> dict[str, Any]:
    """Milliseconds at p50, p95 and p99, one request after the other, of products drawn from the catalog by text.

    ``tag``: a whole Tag of words that no item of the catalog has, so that they must be embedded; give services whose
    gateway has no LLM to time it without one. ``known_tag``: of words the catalog has. ``guardrail_and_graph``: the
    graph's view, evidence, probabilities and verdicts of `TAGS` tags of an item that was looked up before, reasons left
    out. ``reasons``: the contributions of the five tags a reply shows. ``score``: a Score of `CLAIMS` claims, per
    claim. ``cpu``: mean processor time of the same, of all threads: what a busy machine does not change. ``stages``:
    where the time of ``tag`` went, as its replies say. Raises NotReady where the release has no guardrail for tags.
    """
    items = sample_items(services, requests, seed)
    for item in items[:5]:  # what the first calls load and compile is no request's cost
        await _verdicts(services, item)
        await tag(services, TagQuery("", _PATIENCE_MS, "", item, 5), RequestClock(_PATIENCE_MS))
    parts = np.array([await _verdicts(services, item) for item in items])
    labels = services.catalog.labels

    stages: dict[str, list[float]] = {}

    async def one_tag(item: TagItem) -> None:
        reply = await tag(services, TagQuery("", _PATIENCE_MS, "", item, 5), RequestClock(_PATIENCE_MS))
        for stage in reply.header.stages:
            stages.setdefault(stage.name, []).append(stage.ms)

    async def one_score(number: int) -> object:
        batch = (items[number : number + CLAIMS // 5] * CLAIMS)[: CLAIMS // 5]
        claims = tuple(TagClaim("", item, labels[(7 * n) % len(labels)], -0.1) for item in batch for n in range(5))
        return await score(services, ScoreQuery("", _PATIENCE_MS, claims), RequestClock(_PATIENCE_MS))

    known = np.array([await _timed(one_tag, item) for item in items])
    stages.clear()
    items = [newly_listed(item) for item in items]
    tagged = np.array([await _timed(one_tag, item) for item in items])
    scored = np.array([await _timed(one_score, number) for number in range(0, min(requests, 60), 20)]) / CLAIMS
    return {
        "requests": len(items),
        "tags": TAGS,
        "tag_ms": _quantiles(tagged),
        "known_tag_ms": _quantiles(known),
        "guardrail_and_graph_ms": _quantiles(parts[:, :2]),
        "reasons_ms": _quantiles(parts[:, 2:]),
        "score_ms_per_claim": _quantiles(scored),
        "stages_ms": {name: _wall(np.array(spent)) for name, spent in stages.items() if name != "total"},
    }


async def _verdicts(services: Services, item: TagItem) -> tuple[float, float, float, float]:
    """Milliseconds of the verdicts on an item's tags, by the wall and of the processor, and those of their reasons."""
    tagger = tagger_of(services)
    judge, policy = tagger.judge, tagger.policy
    found = await retrieve(services, tagger, item)
    more = tuple(np.argsort(-found.names, kind="stable")[:TAGS].tolist())
    more = tuple(label for label in more if label not in found.proposed)[: max(0, TAGS - len(found.proposed))]
    started = _now()
    considered = consider(services, tagger, UNNAMED, found, None, "index", more)
    scores = await judge.score(np.concatenate(considered.asked))
    probability = scores[: len(considered.labels)]
    decide(policy, considered, probability, scores[-len(considered.labels) :])
    decided = _now()
    await judge.explain(np.ascontiguousarray(considered.matrix[np.argsort(-probability)[:5]]), 4)
    return (*_since(started, decided), *_since(decided, _now()))


async def _timed(call: Callable[[Any], Awaitable[object]], argument: Any) -> tuple[float, float]:
    started = _now()
    await call(argument)
    return _since(started, _now())


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    return (end[0] - start[0]) * 1e3, (end[1] - start[1]) * 1e3


def newly_listed(item: TagItem) -> TagItem:
    """The product in words that no item of the catalog has."""
    return replace(item, title=f"{item.title} {_NEW}")


def sample_items(services: Services, many: int, seed: int) -> list[TagItem]:
    """Products of the catalog by their texts, each with the attributes that are evidence."""
    catalog, frame = services.catalog, services.table.frame
    rng = np.random.default_rng(seed)
    texts = rng.choice(len(catalog.texts), many, replace=many > len(catalog.texts))
    items = []
    for text in texts.tolist():
        record = frame.row(int(catalog.rows(text)[0]), named=True)
        attributes = {name: str(record[name]) for name in catalog.attributes if record.get(name) is not None}
        items.append(TagItem(record["title"], record["text"] or "", attributes))
    return items


def _quantiles(values: npt.NDArray[np.float64]) -> dict[str, float]:
    """Of milliseconds [n, 2] by the wall and of the processor."""
    return {**_wall(values[:, 0]), "cpu": round(float(values[:, 1].mean()), 3)}


def _wall(values: npt.NDArray[np.float64]) -> dict[str, float]:
    return {f"p{share}": round(float(np.quantile(values, share / 100)), 3) for share in (50, 95, 99)}


def run(services: Services, requests: int = 300) -> dict[str, Any]:
    """`measure_tag` for a caller without an event loop."""
    return asyncio.run(measure_tag(services, requests))
