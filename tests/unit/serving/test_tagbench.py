"""The benchmark of Tag: what it times, and that nothing it asks was asked before."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from models.ports import FloatMatrix
from models.text import embedding_text
from serving.errors import NotReady
from serving.pipeline.verdicts import retrieve, tagger_of
from serving.services import Services
from serving.tagbench import measure_tag, sample_items

SLOW_MS = 40.0


class Slow:
    """The release's embedder, which takes its time."""

    def __init__(self, services: Services) -> None:
        self._embedder = services.embedder
        self.model_id, self.dimension = services.embedder.model_id, services.embedder.dimension

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        time.sleep(SLOW_MS / 1e3)
        return self._embedder.embed(texts)


def test_products_differ_in_the_words_that_are_embedded(services: Services) -> None:
    """Else an embedder that remembers would be timed for its memory."""
    items = sample_items(services, 300, seed=0)
    assert len({embedding_text(item.title, item.text) for item in items}) == len(items) == 300


async def test_a_slow_embedder_shows_in_a_tag_and_its_index_and_not_in_guardrail_and_graph(services: Services) -> None:
    report = await measure_tag(replace(services, embedder=Slow(services)), requests=20)
    assert report["requests"] == 20
    stages = report["stages_ms"]
    assert {"index", "graph", "guardrail"} <= stages.keys()
    assert "total" not in stages
    assert min(report["tag_ms"]["p50"], stages["index"]["p50"]) >= SLOW_MS
    # Words the catalog has are not embedded again.
    assert report["known_tag_ms"]["p50"] < SLOW_MS
    for figures in (report["guardrail_and_graph_ms"], report["reasons_ms"], stages["graph"], stages["guardrail"]):
        assert 0 < figures["p50"] <= figures["p95"] <= figures["p99"]
        assert figures["p50"] < SLOW_MS
    # A Score looks each item up once, whatever is claimed of it: twenty of a hundred claims.
    assert report["score_ms_per_claim"]["p50"] >= SLOW_MS / 5


async def test_words_of_the_catalog_are_found_by_the_vector_training_saw(services: Services) -> None:
    (item,) = sample_items(services, 1, seed=3)
    found = await retrieve(replace(services, embedder=Slow(services)), tagger_of(services), item)
    number = services.catalog.number_of(embedding_text(item.title, item.text))
    assert number is not None
    assert found.vector.tobytes() == services.catalog.vectors[number].tobytes()
    assert services.catalog.number_of("words of nobody") is None
    unknown = await retrieve(services, tagger_of(services), replace(item, title="words of nobody"))
    alone = services.embedder.embed([embedding_text("words of nobody", item.text)])[0]
    assert unknown.vector.tobytes() == alone.tobytes()


async def test_a_release_without_a_guardrail_of_tags_has_nothing_to_time(services: Services) -> None:
    with pytest.raises(NotReady, match="no guardrail for tags"):
        await measure_tag(replace(services, tag_judge=None, policy=None), requests=1)
