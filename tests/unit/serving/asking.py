"""Short ways to ask the pipelines, and LLMs that answer from the choices they are given."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from models.ports import LLMRequest
from models.tagging import TagItem
from serving.clock import RequestClock
from serving.gateway import Gateway, Provider
from serving.gateway.cache import CacheConfig, TieredCache
from serving.gateway.validate import AnswerValidator
from serving.messages import (
    CandidateClaim,
    Recommendation,
    RecommendQuery,
    ScoreQuery,
    Scoring,
    TagClaim,
    Tagging,
    TagQuery,
)
from serving.pipeline import recommend, score, tag
from serving.services import Services

DEADLINE_MS = 30_000


async def ask(services: Services, user: str = "", *, deadline_ms: int = DEADLINE_MS, **fields: Any) -> Recommendation:
    """Recommend, with defaults for what a test does not care about."""
    query = RecommendQuery("r1", deadline_ms, user, fields.pop("profile", ""), fields.pop("k", 10), **fields)
    return await recommend(services, query, RequestClock(deadline_ms))


async def ask_tags(
    services: Services,
    title: str,
    text: str = "",
    *,
    deadline_ms: int = DEADLINE_MS,
    max_tags: int = 5,
    attributes: dict[str, str] | None = None,
) -> Tagging:
    query = TagQuery("r1", deadline_ms, "", TagItem(title, text, attributes or {}), max_tags)
    return await tag(services, query, RequestClock(deadline_ms))


async def judge(services: Services, *claims: TagClaim | CandidateClaim, deadline_ms: int = DEADLINE_MS) -> Scoring:
    return await score(services, ScoreQuery("r1", deadline_ms, claims), RequestClock(deadline_ms))


def with_llm(services: Services, provider: Provider | None) -> Services:
    """The same services with another LLM and an empty cache."""
    prices = {"price_per_1k_prompt": 1.0, "price_per_1k_completion": 1.0}
    cache = TieredCache(CacheConfig(kind="memory"), services.release.id)
    gateway = Gateway.single(provider, "fake", target=prices, cache=cache, validator=AnswerValidator())
    return replace(services, gateway=gateway)


def choices_of(request: LLMRequest) -> list[str]:
    """The labels a prompt offers, from its schema."""
    assert request.json_schema is not None
    (field,) = request.json_schema["properties"].values()
    return list(field["items"]["enum"])


def choosing(choose: Callable[[list[str]], Sequence[str]]) -> Callable[[LLMRequest], str]:
    """An answer for FakeLLM: what ``choose`` picks of the offered labels, as the JSON the prompt asks for."""

    def answer(request: LLMRequest) -> str:
        assert request.json_schema is not None
        (name,) = request.json_schema["properties"]
        return json.dumps({name: list(choose(choices_of(request)))})

    return answer


def said(proof: Any) -> set[str]:
    """Every predicate of a proof."""
    return {proof.fact.predicate}.union(*(said(premise) for premise in proof.premises))
