"""OpenTelemetry spans: RPC, each stage, the gateway's ask, every call of an engine, and the engine's own deployment.

Attributes are ids, names, counts and class names of errors; never a text of a prompt, a profile or an exception.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pydantic import BaseModel, ConfigDict, Field

from models.ports import LLMRequest
from serving.gateway.observe import Part
from serving.gateway.ports import Ask, Attempt, Outcome

TRACEPARENT: Final = "traceparent"
_W3C: Final = TraceContextTextMapPropagator()
_ASKS: Final = 4_096
_call: ContextVar[Span | None] = ContextVar("tandem_llm_call", default=None)
"""The span of the engine call this task is about to make, or makes."""


class TraceConfig(BaseModel):
    """Where spans go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str | None = None
    """Address of an OTLP/HTTP collector, such as ``http://127.0.0.1:4318/v1/traces``; None traces nothing."""
    share: float = Field(default=0.1, ge=0, le=1)
    """Of requests that bring no trace of their own, the share that is traced."""


class Tracing:
    """A tracer of its own: nothing global is set, so that Ray's and vLLM's tracing stay theirs."""

    def __init__(self, exporter: SpanExporter, share: float = 1.0, service: str = "tandem") -> None:
        # What a test reads must be there when the request has ended; what leaves the machine must not hold it up.
        at_once = isinstance(exporter, InMemorySpanExporter)
        self._provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(share),
            resource=Resource.create({"service.name": service}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(SimpleSpanProcessor(exporter) if at_once else BatchSpanProcessor(exporter))
        self.tracer = self._provider.get_tracer("tandem")

    @staticmethod
    def of(config: TraceConfig, service: str = "tandem") -> Tracing | None:
        """None where the configuration names no endpoint."""
        if config.endpoint is None:
            return None
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return Tracing(OTLPSpanExporter(endpoint=config.endpoint), config.share, service)

    @contextmanager
    def rpc(self, method: str, metadata: Iterable[tuple[str, str | bytes]], request_id: str) -> Iterator[Span]:
        """A gRPC call's span, child of the caller's where its metadata carries a W3C ``traceparent``."""
        carrier = {name: value for name, value in metadata if name == TRACEPARENT and isinstance(value, str)}
        attributes = {"rpc.system": "grpc", "rpc.method": method, "tandem.request_id": request_id[:256]}
        with self._span(method, _W3C.extract(carrier), SpanKind.SERVER, attributes) as span:
            yield span

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A stage of a pipeline, child of the current span."""
        with self._span(name, None, SpanKind.INTERNAL, {}):
            yield

    @contextmanager
    def engine(self, traceparent: str, model: str = "") -> Iterator[None]:
        """The engine's side of a call, in its own process; no span without the caller's ``traceparent``."""
        if not traceparent:
            yield
            return
        parent = _W3C.extract({TRACEPARENT: traceparent})
        with self._span("llm.generate", parent, SpanKind.SERVER, {"gen_ai.request.model": model}):
            yield

    def close(self) -> None:
        """Send what waits and end the exporter's thread."""
        self._provider.shutdown()

    @contextmanager
    def _span(self, name: str, parent: Context | None, kind: SpanKind, attributes: dict[str, str]) -> Iterator[Span]:
        with self.tracer.start_as_current_span(
            name, parent, kind, attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                # An exception's text may quote the request: its class says enough.
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(Status(StatusCode.ERROR))
                raise


def traceparent() -> str:
    """The W3C header of the call or the stage this task is in, for whoever works for it; "" where nothing is traced."""
    span = _call.get() or trace.get_current_span()
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span))
    return carrier.get(TRACEPARENT, "")


def trace_headers() -> dict[str, str]:
    """`traceparent` as an endpoint's HTTP header: its server's own spans join the trace; nothing where none is."""
    return {TRACEPARENT: header} if (header := traceparent()) else {}


class TraceCalls(Part):
    """Spans ``llm.ask`` and, below it, ``llm.call`` for every engine asked. Told by the task that makes the call."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracer = tracing.tracer
        self._asks: dict[Ask, Span] = {}
        self._calls: dict[tuple[Ask, str], Span] = {}

    def asked(self, ask: Ask) -> None:
        if len(self._asks) < _ASKS and ask not in self._asks:
            attributes = {"tandem.task": ask.task, "tandem.tenant": ask.tenant, "tandem.prompt": ask.prompt}
            self._asks[ask] = self._tracer.start_span("llm.ask", attributes=attributes)

    def rendered(self, ask: Ask, target: str, sent: LLMRequest) -> None:
        if len(self._calls) >= _ASKS or (ask, target) in self._calls:
            return
        # A shadow's call may begin when its ask has ended: then the span it was started in is the parent.
        parent = self._asks.get(ask)
        context = trace.set_span_in_context(parent) if parent is not None else None
        attributes: dict[str, str | int] = {"tandem.target": target, "gen_ai.request.max_tokens": sent.max_tokens}
        span = self._tracer.start_span("llm.call", context, SpanKind.CLIENT, attributes=attributes)
        self._calls[ask, target] = span
        _call.set(span)

    def attempted(self, ask: Ask, attempt: Attempt) -> None:
        span = self._calls.pop((ask, attempt.target), None)
        _call.set(None)
        if span is None:
            return
        span.set_attributes(
            {
                "gen_ai.response.model": attempt.model,
                "gen_ai.usage.input_tokens": attempt.prompt_tokens,
                "gen_ai.usage.output_tokens": attempt.completion_tokens,
                "tandem.problem": attempt.problem,
                "tandem.shadow": attempt.shadow,
                "tandem.repair": attempt.repair,
            }
        )
        _end(span, attempt.error)

    def ended(self, ask: Ask, outcome: Outcome) -> None:
        if (span := self._asks.pop(ask, None)) is None:
            return
        answer = outcome.answer
        span.set_attributes({"tandem.attempts": outcome.attempts, "tandem.cache": answer.cache if answer else ""})
        _end(span, outcome.error)


def _end(span: Span, error: str) -> None:
    if error:
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR))
    span.end(time.time_ns())
