"""What one process tells of itself: metrics, traces, a log line per ask, quality monitors and the context store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import Span
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict, Field

from serving.clock import RequestClock
from serving.gateway.contexts import ContextConfig, ContextStore
from serving.gateway.logs import AskLog, LogFile
from serving.gateway.metrics import Metrics, MetricsServer
from serving.gateway.monitors import MonitorConfig, Monitors
from serving.gateway.observe import Observers, Part, safe_id
from serving.gateway.ports import Redactor
from serving.gateway.tracing import TraceCalls, TraceConfig, Tracing

CONTEXTS: Final = "contexts.db"
LOGS: Final = "logs"
_OK: Final = "OK"


class TelemetryConfig(BaseModel):
    """What is told, and where."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metrics: bool = True
    """Serve Prometheus metrics over HTTP, each process at a port of its own."""
    metrics_host: str = "127.0.0.1"
    """Interface of the metrics; there is no password, so a public one needs a firewall."""
    metrics_port: int = Field(default=9464, ge=1, le=65535)
    """First port tried."""
    metrics_ports: int = Field(default=8, ge=1, le=1_000)
    """Ports tried from there on: replicas and backfill workers of one machine share the range."""
    tenants: int = Field(default=100, ge=1, le=10_000)
    """Tenants with metrics of their own; later ones are counted together as "other"."""
    log: bool = True
    """Write a line of JSON per ask into the workspace: logs/NAME.PID.jsonl."""
    log_bytes: int = Field(default=50_000_000, ge=10_000)
    """Bytes after which a log file is put aside."""
    log_files: int = Field(default=4, ge=1, le=1_000)
    """Files put aside and kept, per process."""
    log_days: float = Field(default=30.0, gt=0)
    """Days after which the next start deletes a log file, of processes long gone too."""
    traces: TraceConfig = TraceConfig()
    contexts: ContextConfig = ContextConfig()
    monitors: MonitorConfig = MonitorConfig()


@dataclass(slots=True)
class Call:
    """A gRPC call under way; whoever refuses it notes the status code."""

    code: str = _OK


@dataclass(frozen=True, slots=True, eq=False)
class Telemetry:
    """``observer`` is told by the gateway and, of verdicts, by the pipelines. ``close`` writes what is left."""

    observer: Observers
    metrics: Metrics
    monitors: Monitors
    tracing: Tracing | None
    redactor: Redactor
    port: int | None = None
    """Where the metrics are served; None where they are not."""
    contexts: ContextStore | None = None
    """None where none are kept."""
    _stack: ExitStack = field(default_factory=ExitStack)

    @contextmanager
    def rpc(self, method: str, metadata: Iterable[tuple[str, str | bytes]], request_id: str) -> Iterator[Call]:
        """Count, time and trace a gRPC call. Set ``code`` of what is yielded where it is refused."""
        call, started = Call(), time.perf_counter()
        spans: AbstractContextManager[Span | None] = nullcontext()
        if self.tracing is not None:
            spans = self.tracing.rpc(method, metadata, safe_id(self.redactor, request_id))
        try:
            with spans as span:
                yield call
                if span is not None and call.code != _OK:
                    span.set_attribute("rpc.grpc.status", call.code)
        except BaseException:
            call.code = "CANCELLED"
            raise
        finally:
            self.metrics.rpc(method, call.code, time.perf_counter() - started)

    def clock(self, deadline_ms: int) -> RequestClock:
        """A request's clock whose stages are traced where tracing is on."""
        return RequestClock(deadline_ms, self.tracing)

    def judged(self, request_id: str, task: str, prompt: str, verdicts: Sequence[str]) -> None:
        """Tell what guardrail and graph made of an answer: a verdict for each proposal."""
        self.observer.judged(request_id, task, prompt, verdicts)

    def close(self) -> None:
        self._stack.close()


def start(
    config: TelemetryConfig,
    folder: Path,
    redactor: Redactor,
    name: str,
    lengths: Mapping[str, Sequence[int]] | None = None,
    exporter: SpanExporter | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Telemetry:
    """Start what the configuration asks for, in this process (``name``: ingress, backfill, ...).

    ``folder``: of logs and contexts, in the workspace. ``lengths``: reference of the monitors, see there. ``exporter``:
    instead of the configured one. ``clock``: of the monitors. Raises NotReady where no metrics port is free,
    StoreUnavailable where the context store cannot be made.
    """
    with ExitStack() as stack:
        registry = CollectorRegistry()
        metrics = Metrics(registry, config.tenants)
        monitors = Monitors(config.monitors, clock, lengths)
        registry.register(monitors)
        parts: list[Part] = [metrics, monitors]
        tracing = Tracing(exporter, config.traces.share) if exporter else Tracing.of(config.traces)
        if tracing is not None:
            stack.callback(tracing.close)
            parts.append(TraceCalls(tracing))
        if config.log:
            forget(folder / LOGS, config.log_days)
            file = LogFile(folder / LOGS / f"{name}.{os.getpid()}.jsonl", config.log_bytes, config.log_files)
            stack.callback(file.close)
            log = AskLog(file, redactor, failures=metrics)
            stack.callback(log.close)
            parts.append(log)
        store = None
        if config.contexts.enabled:
            store = ContextStore(folder / CONTEXTS, config.contexts, redactor, failures=metrics)
            stack.callback(store.close)
            parts.append(store)
        port = None
        if config.metrics:
            server = MetricsServer(registry, config.metrics_host, config.metrics_port, config.metrics_ports)
            stack.callback(server.close)
            port = server.port
        told = Observers(parts, metrics)
        return Telemetry(told, metrics, monitors, tracing, redactor, port, store, stack.pop_all())


def forget(folder: Path, days: float) -> None:
    """Delete log files that nobody has written to for so many days."""
    for path in folder.glob("*.jsonl*"):
        with suppress(FileNotFoundError):  # another process starts too
            if time.time() - path.stat().st_mtime > days * 86_400:
                path.unlink()
