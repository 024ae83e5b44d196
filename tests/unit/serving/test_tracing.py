"""Spans from the RPC to the engine: one trace, the right parents, no text of anybody."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from models.llm.config import LLMConfig
from models.llm.registry import create
from models.ports import LLMRequest
from serving.clock import RequestClock
from serving.gateway.tracing import TraceCalls, TraceConfig, Tracing, trace_headers, traceparent
from tests.servers import ChatServer
from tests.unit.serving.gateways import gateway
from tests.unit.serving.observed import answered, ask, attempt, failed

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Iterator[Tracing]:
    made = Tracing(exporter)
    yield made
    made.close()


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


def number(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


async def test_one_trace_goes_from_the_caller_through_each_stage_to_the_engine(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    observer = TraceCalls(tracing)

    async def engine(carried: str) -> None:
        with tracing.engine(carried, "smol"):
            await asyncio.sleep(0)

    asked = ask(request=LLMRequest("system secret", "Ann, ann@example.org", 48), user="ann", tenant="shop")
    with tracing.rpc("Tag", [("traceparent", CALLER), ("authorization", "Bearer secret")], "r-1"):
        clock = RequestClock(1_000, tracing)
        with clock.stage("index"):
            pass
        with clock.stage("llm"):
            observer.asked(asked)
            observer.rendered(asked, "default", asked.request)
            await asyncio.create_task(engine(traceparent()))
            observer.attempted(asked, attempt(problem="schema"))
            observer.ended(asked, answered())
    found = spans(exporter)
    assert {format(span.context.trace_id, "032x") for span in found.values() if span.context} == {CALLER[3:35]}
    assert parent(found["Tag"]) == int(CALLER[36:52], 16)
    for child, of in (
        ("index", "Tag"),
        ("llm", "Tag"),
        ("llm.ask", "llm"),
        ("llm.call", "llm.ask"),
        ("llm.generate", "llm.call"),
    ):
        assert parent(found[child]) == number(found[of]), child
    call = dict(found["llm.call"].attributes or {})
    assert call["tandem.target"] == "default"
    assert call["gen_ai.usage.output_tokens"] == 12
    assert call["tandem.problem"] == "schema"
    told = " ".join(span.to_json() for span in found.values())
    for secret in ("secret", "Ann", "ann", "Bearer"):
        assert secret not in told
    assert [stage.name for stage in clock.header("r", "x").stages] == ["index", "llm", "total"]


async def test_an_endpoint_gets_the_trace_of_the_call_it_works_for(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    with ChatServer() as server:
        engine = create(LLMConfig(engine="openai", model="m", base_url=server.base_url), trace_headers)
        one = gateway({"a": engine.generate}, observer=TraceCalls(tracing))
        with tracing.rpc("Ask", [("traceparent", CALLER)], "r-1"):
            await one.ask(ask(request=LLMRequest("", "cheese?", 48)))
        await one.ask(ask(request=LLMRequest("", "bread?", 48)))
        await one.aclose()
        await engine.aclose()
    first, second = server.traces
    calls = [span for span in exporter.get_finished_spans() if span.name == "llm.call"]
    assert first == f"{CALLER[:36]}{number(calls[0]):016x}-01"
    assert second is not None
    assert CALLER[3:35] not in second


def test_an_error_is_told_by_its_class_only(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    observer = TraceCalls(tracing)
    asked = ask()
    observer.asked(asked)
    observer.rendered(asked, "vendor", asked.request)
    observer.attempted(asked, attempt(target="vendor", error="EngineTimeout"))
    observer.ended(asked, failed("EngineTimeout"))
    clock = RequestClock(1_000, tracing)
    with pytest.raises(ValueError, match="ann@example"), tracing.rpc("Tag", [], "r"), clock.stage("index"):
        raise ValueError("ann@example.org is no item")
    found = spans(exporter)
    assert {name: span.attributes and span.attributes.get("error.type") for name, span in found.items()} == {
        "llm.call": "EngineTimeout",
        "llm.ask": "EngineTimeout",
        "index": "ValueError",
        "Tag": "ValueError",
    }
    assert "ann@example" not in " ".join(span.to_json() for span in found.values())
    assert parent(found["llm.call"]) == number(found["llm.ask"])


async def test_concurrent_asks_do_not_mix(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    observer, carried = TraceCalls(tracing), dict[str, str]()

    async def request(name: str) -> None:
        asked = ask(task=name)
        with tracing.rpc(name, [], name):
            observer.asked(asked)
            observer.rendered(asked, "default", asked.request)
            await asyncio.sleep(0)
            carried[name] = traceparent()
            await asyncio.sleep(0)
            observer.attempted(asked, attempt())
            observer.ended(asked, answered())

    await asyncio.gather(*(request(f"rpc-{each}") for each in range(20)))
    finished = exporter.get_finished_spans()
    calls = {number(span): span for span in finished if span.name == "llm.call"}
    asks = {number(span): span for span in finished if span.name == "llm.ask"}
    assert len(calls) == len(asks) == 20
    for name, header in carried.items():
        span = asks[parent(calls[int(header[36:52], 16)]) or 0]
        assert span.attributes is not None
        assert span.attributes["tandem.task"] == name


async def test_a_shadow_that_outlives_its_ask_ends_its_own_span_and_no_other(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    observer, asked, ended = TraceCalls(tracing), ask(), asyncio.Event()

    async def shadow() -> None:
        await ended.wait()
        observer.rendered(asked, "canary", asked.request)
        observer.attempted(asked, attempt(target="canary", shadow=True))

    with tracing.rpc("Tag", [], "r"):
        observer.asked(asked)
        task = asyncio.create_task(shadow())
        observer.ended(asked, answered())
        ended.set()
        await task
    assert [span.name for span in exporter.get_finished_spans()] == ["llm.ask", "llm.call", "Tag"]
    call = spans(exporter)["llm.call"]
    assert call.attributes is not None
    assert call.attributes["tandem.shadow"] is True
    assert parent(call) == number(spans(exporter)["Tag"])


def test_without_a_trace_nothing_is_carried_and_an_engine_makes_no_span(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    assert traceparent() == ""
    with tracing.engine(""):
        pass
    assert exporter.get_finished_spans() == ()


def test_spans_reach_a_collector_over_http_when_tracing_ends() -> None:
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bodies.append(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        made = Tracing.of(TraceConfig(endpoint=f"http://127.0.0.1:{server.server_port}/v1/traces", share=1.0))
        assert made is not None
        with made.rpc("Tag", [], "r-1"), made.stage("index"):
            pass
        made.close()
        server.shutdown()
        thread.join()
    (batch,) = (ExportTraceServiceRequest.FromString(body) for body in bodies)
    (resource,) = batch.resource_spans
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["index", "Tag"]
    assert [each.value.string_value for each in resource.resource.attributes if each.key == "service.name"] == [
        "tandem"
    ]


def test_tracing_is_off_without_an_endpoint() -> None:
    assert Tracing.of(TraceConfig()) is None
