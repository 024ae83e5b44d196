"""Messages of the LLM service to values and back; bounds are checked on the way in."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import polars as pl

from models.ports import LLMRequest
from protos.tandem.v1 import llm_pb2, types_pb2
from serving.codec import Codec
from serving.config import Limits
from serving.errors import InvalidRequest
from serving.gateway.contexts import Context
from serving.gateway.targets import TargetState
from serving.pipeline.ask import Asked, Health, LLMQuery

_MAX_TOKENS: Final = 128
_DAYS: Final = 30
_LONGEST_DAYS: Final = 3_660
_HOTTEST: Final = 2.0
_SPEND: Final = [field.name for field in llm_pb2.LLMSpend.DESCRIPTOR.fields]


class LLMCodec:
    """Translates within ``limits``; ids and deadlines as ``codec`` does."""

    def __init__(self, codec: Codec, limits: Limits) -> None:
        self._codec = codec
        self._limits = limits

    def query(self, request: llm_pb2.LLMAskRequest) -> LLMQuery:
        """Raises InvalidRequest for a value out of bounds or a schema that is none."""
        for name, text in (("system", request.system), ("prompt", request.prompt)):
            if len(text) > self._limits.text_length:
                raise InvalidRequest(f"{name} has {len(text)} characters; at most {self._limits.text_length} are read")
        if not request.prompt.strip():
            raise InvalidRequest("prompt is empty; write what to ask")
        if not 0 <= request.temperature <= _HOTTEST:  # NaN is not in between either
            raise InvalidRequest(f"temperature is {request.temperature}; give 0 to {_HOTTEST:g}")
        return LLMQuery(
            self._codec.request_id(request.request_id),
            self._codec.deadline_ms(request.deadline_ms),
            self._codec.bounded_id("tenant", request.tenant),
            self._codec.bounded_id("user_id", request.user_id),
            LLMRequest(
                system=request.system,
                user=request.prompt,
                max_tokens=request.max_tokens or _MAX_TOKENS,
                json_schema=self._schema(request.json_schema),
                temperature=request.temperature,
            ),
        )

    def cost_query(self, request: llm_pb2.LLMCostRequest) -> tuple[str, int, str | None]:
        """Request id, days back, and the tenant or None for everybody. Raises InvalidRequest."""
        if request.days > _LONGEST_DAYS:
            raise InvalidRequest(f"days is {request.days}; at most {_LONGEST_DAYS} can be looked back")
        tenant = self._codec.bounded_id("tenant", request.tenant) if request.HasField("tenant") else None
        return self._codec.request_id(request.request_id), request.days or _DAYS, tenant

    def context_query(self, request: llm_pb2.LLMContextRequest) -> tuple[str, str]:
        """Request id, and that of the request whose contexts are asked for. Raises InvalidRequest."""
        of = self._codec.bounded_id("of", request.of)
        if not of:
            raise InvalidRequest("of is empty; give the request_id whose context you want")
        return self._codec.request_id(request.request_id), of

    def _schema(self, text: str) -> Mapping[str, Any] | None:
        if not text:
            return None
        if len(text) > self._limits.text_length:
            raise InvalidRequest(f"json_schema has {len(text)} characters; at most {self._limits.text_length} are read")
        try:
            schema = json.loads(text)
        except ValueError as error:
            raise InvalidRequest(f"json_schema is no JSON: {error}") from None
        if not isinstance(schema, dict):
            raise InvalidRequest('json_schema is no object; give a JSON schema such as {"type": "object"}')
        return schema


def ask_reply(request_id: str, release: str, asked: Asked) -> llm_pb2.LLMAskReply:
    answer = asked.answer
    usage = answer.usage
    return llm_pb2.LLMAskReply(
        request_id=request_id,
        release=release,
        text=answer.result.text,
        finish=answer.result.finish,
        target=answer.target,
        cache=answer.cache,
        attempts=answer.attempts,
        repaired=answer.repaired,
        usage=types_pb2.Usage(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost=usage.cost,
            cached=usage.cached,
            model=usage.model,
        ),
        stages=[types_pb2.Stage(name=stage.name, ms=stage.ms) for stage in asked.stages],
    )


def status_reply(request_id: str, release: str, targets: Iterable[Health]) -> llm_pb2.LLMStatusReply:
    return llm_pb2.LLMStatusReply(
        request_id=request_id, release=release, targets=[_target(each.state, each.cause) for each in targets]
    )


def _target(state: TargetState, cause: str) -> llm_pb2.LLMTarget:
    speed = state.output_tokens_per_s
    return llm_pb2.LLMTarget(
        name=state.name,
        engine=state.engine,
        model=state.model,
        place=state.place,
        healthy=not cause,
        breaker=state.breaker,
        running=state.running,
        max_concurrency=state.max_concurrency,
        output_tokens_per_s=None if math.isnan(speed) else speed,
        cause=cause,
    )


def cost_reply(request_id: str, spent: pl.DataFrame) -> llm_pb2.LLMCostReply:
    """``spent``: see `serving.gateway.budget.Ledger.spent`."""
    return llm_pb2.LLMCostReply(
        request_id=request_id,
        spent=[llm_pb2.LLMSpend(**row) for row in spent.select(_SPEND).iter_rows(named=True)],
    )


def context_reply(request_id: str, contexts: Iterable[Context]) -> llm_pb2.LLMContextReply:
    return llm_pb2.LLMContextReply(
        request_id=request_id,
        contexts=[
            llm_pb2.LLMContext(
                time=context.time,
                task=context.task,
                tenant=context.tenant,
                prompt=context.prompt,
                target=context.target,
                system=context.system,
                user=context.user,
                parameters=json.dumps(context.parameters),
                answer=context.answer,
                model=context.model,
                cache=context.cache,
                error=context.error,
                verdicts=context.verdicts,
            )
            for context in contexts
        ],
    )
