"""The benchmark of an engine: that every way asks it all its questions, and that what a way adds shows."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

from models.ports import LLMRequest
from serving.enginebench import compare
from serving.services import Services
from tests.fakes import FakeLLM
from tests.unit.serving.test_tagbench import Slow

ROUNDS = 3
PRODUCTS = 12


def first_choice(request: LLMRequest) -> str:
    schema = request.json_schema
    assert schema is not None
    return json.dumps({"tags": schema["properties"]["tags"]["items"]["enum"][:1]})


async def test_each_way_asks_about_every_product_in_every_round(services: Services) -> None:
    engine = FakeLLM(first_choice)
    report = await compare(services, engine, 4, PRODUCTS)
    # Once to warm up; then directly, through the gateway, and by whole products of a backfill.
    assert len(engine.requests) == PRODUCTS * (1 + 3 * ROUNDS)
    asked = Counter(request.user for request in engine.requests)
    assert set(asked.values()) == {1 + 3 * ROUNDS}
    assert report["requests"] == PRODUCTS
    assert report["ratio"] == report["gateway_tokens_per_s"] / report["raw_tokens_per_s"] > 0


async def test_what_a_backfill_does_beside_asking_shows_in_its_share(services: Services) -> None:
    engine = FakeLLM(first_choice)
    report = await compare(replace(services, embedder=Slow(services)), engine, 1, PRODUCTS)
    assert report["backfill_ratio"] == report["backfill_tokens_per_s"] / report["raw_tokens_per_s"]
    assert report["backfill_tokens_per_s"] < min(report["gateway_tokens_per_s"], report["raw_tokens_per_s"])
