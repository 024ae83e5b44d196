"""A question to an LLM by the same way the service takes: routing, budgets, cache, failover, checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.ports import LLMRequest
from serving.clock import RequestClock
from serving.gateway.ports import Answer, Ask
from serving.gateway.targets import TargetState
from serving.messages import Stage
from serving.services import Services

TASK = "ask"


@dataclass(frozen=True, slots=True)
class LLMQuery:
    """See `protos/tandem/v1/llm.proto`; defaults are resolved, bounds are checked."""

    request_id: str
    deadline_ms: int
    tenant: str
    user: str
    request: LLMRequest


@dataclass(frozen=True, slots=True)
class Asked:
    """The answer, and where the time went."""

    answer: Answer
    stages: Sequence[Stage]


@dataclass(frozen=True, slots=True)
class Health:
    """A target as this replica sees it; ``cause``: why it would not answer now, empty where it would."""

    state: TargetState
    cause: str


async def ask_llm(services: Services, query: LLMQuery, clock: RequestClock) -> Asked:
    """Raises what `Gateway.ask` does: there is nothing to fall back on."""
    with clock.stage("llm"):
        answer = await services.gateway.ask(
            Ask(
                TASK,
                query.request,
                clock.remaining_s,
                request_id=query.request_id,
                tenant=query.tenant,
                user=query.user,
            )
        )
    return Asked(answer, clock.header(query.request_id, "").stages)
