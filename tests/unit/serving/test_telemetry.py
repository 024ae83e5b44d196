"""One process's telemetry: started from a configuration, told by the gateway's events, and gone when closed."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import ValidationError

from serving import telemetry
from serving.gateway.contexts import read_contexts
from serving.telemetry import CONTEXTS, LOGS, Telemetry, TelemetryConfig
from tests.unit.serving.observed import MailRedactor, answered, ask, attempt, one_ask


def start(folder: Path, exporter: InMemorySpanExporter | None = None, **config: Any) -> Telemetry:
    given = TelemetryConfig.model_validate({"metrics_port": 19_500, "metrics_ports": 50, **config})
    return telemetry.start(given, folder, MailRedactor(), "test", exporter=exporter)


def rpcs(of: Telemetry, method: str, code: str) -> float | None:
    return of.metrics.registry.get_sample_value("tandem_rpc_seconds_count", {"method": method, "code": code})


def test_an_ask_reaches_metrics_log_contexts_and_trace(tmp_path: Path) -> None:
    before, exporter = set(threading.enumerate()), InMemorySpanExporter()
    told = start(tmp_path, exporter, traces={"share": 1.0})
    with told.rpc("Tag", [], "r-1"), told.clock(1_000).stage("llm"):
        one_ask(told.observer, ask(request_id="r-1"), [attempt()], answered())
    told.judged("r-1", "tag", "tag@1", ["accept"])
    with urllib.request.urlopen(f"http://127.0.0.1:{told.port}/metrics", timeout=5) as reply:
        text = reply.read().decode()
    told.close()
    assert 'tandem_llm_ask_seconds_count{outcome="answered",task="tag"} 1.0' in text
    assert 'tandem_rpc_seconds_count{code="OK",method="Tag"} 1.0' in text
    (line,) = (tmp_path / LOGS / f"test.{os.getpid()}.jsonl").read_text().splitlines()
    assert json.loads(line)["request_id"] == "r-1"
    (context,) = read_contexts(tmp_path / CONTEXTS, "r-1", MailRedactor())
    assert context.verdicts == ("accept",)
    assert [span.name for span in exporter.get_finished_spans()] == ["llm.call", "llm.ask", "llm", "Tag"]
    assert set(threading.enumerate()) <= before


def test_a_refused_call_is_counted_by_its_code_and_a_cancelled_one_too(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    told = start(tmp_path, exporter, metrics=False, log=False, contexts={"enabled": False}, traces={"share": 1.0})
    with told.rpc("Tag", [], "of ann@example.org") as call:
        call.code = "INVALID_ARGUMENT"
    with pytest.raises(KeyboardInterrupt), told.rpc("Tag", [], "r-2"):
        raise KeyboardInterrupt
    assert (rpcs(told, "Tag", "INVALID_ARGUMENT"), rpcs(told, "Tag", "CANCELLED"), rpcs(told, "Tag", "OK")) == (
        1,
        1,
        None,
    )
    told.close()
    first, second = exporter.get_finished_spans()
    assert first.attributes is not None
    assert second.attributes is not None
    assert first.attributes["rpc.grpc.status"] == "INVALID_ARGUMENT"
    assert str(first.attributes["tandem.request_id"]).startswith("id-")
    assert second.attributes["error.type"] == "KeyboardInterrupt"


def test_switched_off_it_opens_nothing(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    told = start(tmp_path, metrics=False, log=False, contexts={"enabled": False})
    one_ask(told.observer, ask(request_id="r-1"), [attempt()], answered())
    with told.rpc("Tag", [], "r-1"), told.clock(1_000).stage("index"):
        pass
    assert set(threading.enumerate()) == before
    assert (told.port, told.tracing, list(tmp_path.iterdir())) == (None, None, [])
    told.close()


def test_log_files_of_processes_long_gone_are_deleted(tmp_path: Path) -> None:
    for name, days in (("ingress.1.jsonl", 31), ("ingress.1.jsonl.2", 31), ("ingress.2.jsonl", 29), ("other.txt", 99)):
        (tmp_path / name).touch()
        then = time.time() - days * 86_400
        os.utime(tmp_path / name, (then, then))
    telemetry.forget(tmp_path, 30.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ingress.2.jsonl", "other.txt"]


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="metrics_prot"):
        TelemetryConfig.model_validate({"metrics_prot": 1})
