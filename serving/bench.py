"""The benchmark of the service: Recommend next to an empty RPC through the same ingress and a plain gRPC echo.

Server, load generator and echo are processes of their own on this machine; everything goes over the loopback.
"""

from __future__ import annotations

import json
import os
import platform
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, get_args

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from features.candidates import retrieve
from features.items import ItemTable
from features.schema import schema_hash
from features.store import FeatureRepository
from features.transforms import assemble, summarize
from features.workspace import Workspace
from models import release
from models.ranker import LightGBMRanker
from serving import auth, render
from serving.app import running
from serving.config import ServeConfig
from serving.errors import NotReady
from serving.load import RANKER
from serving.loadgen import Call, Load, Result

CONCURRENCY = (1, 8, 16, 32)
ROUNDS = 2
"""Times every load is run; calls take turns, so that a disturbance of the machine hits them alike."""
REQUESTS = 2_000
SECONDS = 2.0
"""Bounds of one load."""
_SEED = 7
_PREDICTIONS = 500
_ROOT = Path(__file__).resolve().parent.parent

Progress = Callable[[str, float], None]


def bench_recommend(workspace: Workspace, config: ServeConfig, progress: Progress) -> dict[str, Any]:
    """Serve the promoted release without its LLM and measure it; takes about a minute.

    Returns ``recommend``, ``empty`` and ``echo`` by concurrency (as text), each {p50_ms, p95_ms, p99_ms, rps};
    ``predict`` {rows, p50_ms}: the trees alone on one request's candidates; ``stages``: mean milliseconds by stage at
    concurrency 1; ``machine``, ``release``, ``candidates``. Raises NotReady where a call fails.
    """
    progress("raw tree prediction", 0.0)
    current, folder = release.read(workspace.releases)
    users = _users(workspace)
    load_before = os.getloadavg()[0]
    predict = _predict(workspace, folder, config.candidates, users, current.repeats)
    progress("starting the service", 0.05)
    # Ray prints notices on standard output, which belongs to the caller's report.
    with redirect_stdout(sys.stderr), running(workspace, _alone(config), quiet=True) as address:
        with _process("generate") as generator, _process("echo") as server:
            echo = f"127.0.0.1:{int(_line(server))}"
            results = _measure(generator, address, echo, auth.read_key(workspace.api_key), users, progress)
    progress("done", 1.0)
    alone = results["recommend", 1]
    report: dict[str, Any] = {
        call: {str(concurrency): _figures(results[call, concurrency]) for concurrency in CONCURRENCY}
        for call in get_args(Call)
    }
    replies = sum(result.replies for result in alone)
    names = dict.fromkeys(name for result in alone for name in result.stages)
    return {
        **report,
        "predict": predict,
        "stages": {name: sum(result.stages.get(name, 0.0) for result in alone) / replies for name in names},
        "machine": {"cores": len(os.sched_getaffinity(0)), "cpu": _cpu(), "load_before": load_before},
        "release": current.id,
        "candidates": config.candidates,
    }


def show_report(report: dict[str, Any]) -> None:
    """Print a report as tables."""
    table = Table(title=f"Recommend ({report['candidates']} candidates) beside its floor", title_justify="left")
    for column in ("call", "concurrency", "p50 ms", "p95 ms", "p99 ms", "calls/s"):
        table.add_column(column, justify="left" if column == "call" else "right")
    names = {
        "recommend": "Recommend",
        "empty": "empty RPC, same ingress",
        "echo": "plain grpc.aio echo",
    }
    for call, name in names.items():
        for concurrency, figures in report[call].items():
            table.add_row(
                name,
                concurrency,
                *(f"{figures[key]:.2f}" for key in ("p50_ms", "p95_ms", "p99_ms")),
                f"{figures['rps']:,.0f}",
                end_section=concurrency == str(CONCURRENCY[-1]),
            )
    machine, predict, recommend, empty = report["machine"], report["predict"], report["recommend"], report["empty"]
    lines = (
        f"p50 at 1: {recommend['1']['p50_ms'] / empty['1']['p50_ms']:.2f} x the empty RPC's; "
        f"throughput at 16: {recommend['16']['rps'] / empty['16']['rps']:.2f} x",
        f"raw tree prediction: {predict['p50_ms']:.2f} ms for {predict['rows']} rows",
        "stages at 1, mean ms: " + ", ".join(f"{name} {ms:.2f}" for name, ms in report["stages"].items()),
        f"release {report['release']} on {machine['cores']} cores of {machine['cpu']}, "
        f"load {machine['load_before']:.1f} before the run",
    )
    render.show(Group(table, Text("\n".join(lines))))


# --- what is measured ------------------------------------------------------------------------------------------------


def _measure(
    generator: subprocess.Popen[str], address: str, echo: str, key: str, users: Sequence[str], progress: Progress
) -> dict[tuple[Call, int], list[Result]]:
    calls: tuple[Call, ...] = get_args(Call)
    plan = [(call, concurrency) for _ in range(ROUNDS) for concurrency in CONCURRENCY for call in calls]
    results: dict[tuple[Call, int], list[Result]] = {part: [] for part in plan}
    for number, (call, concurrency) in enumerate(plan):
        progress(f"{call} at {concurrency}", 0.3 + 0.7 * number / len(plan))
        target = echo if call == "echo" else address
        load = Load(target, call, key, tuple(users), concurrency, REQUESTS, SECONDS)
        _pipe(generator.stdin).write(json.dumps(asdict(load)) + "\n")
        _pipe(generator.stdin).flush()
        result = Result(**json.loads(_line(generator)))
        if result.failed:
            raise NotReady(f"{call} at concurrency {concurrency} failed, so there are no figures: {result.failed}")
        if result.degraded or set(result.paths) - {"known_user"}:
            raise NotReady(
                f"{result.degraded} replies were degraded, paths were {result.paths}: the figures would not be those "
                "of known users. Run: tandem train"
            )
        results[call, concurrency].append(result)
    return results


def _figures(results: Sequence[Result]) -> dict[str, float]:
    ms = np.concatenate([result.ms for result in results])
    p50, p95, p99 = np.percentile(ms, (50, 95, 99))
    rps = len(ms) / sum(result.seconds for result in results)
    return {"p50_ms": float(p50), "p95_ms": float(p95), "p99_ms": float(p99), "rps": float(rps)}


def _predict(
    workspace: Workspace, folder: Path, rows: int, users: Sequence[str], repeats: bool
) -> dict[str, int | float]:
    """The ranker alone, in this process, on the features of real users' candidates."""
    ranker = LightGBMRanker.load(folder / RANKER, schema_hash())
    table = ItemTable.load(folder / "item_table")
    now = workspace.config().data_end + 1
    histories = _repository(workspace).histories()
    matrices = []
    for user in users[:50]:
        profile = summarize(histories[user], table, now)
        candidates = retrieve(profile, table, rows, repeats=repeats)
        matrices.append(assemble(profile, table, candidates.rows, candidates.copurchase))
    ms = []
    for number in range(_PREDICTIONS):
        started = time.perf_counter()
        ranker.predict(matrices[number % len(matrices)])
        ms.append((time.perf_counter() - started) * 1e3)
    return {"rows": max(map(len, matrices)), "p50_ms": float(np.median(ms))}


def _users(workspace: Workspace) -> list[str]:
    """Up to 1,000 users with a history, drawn with a fixed seed."""
    known = sorted(user for user, history in _repository(workspace).histories().items() if len(history))
    if not known:
        raise NotReady(f"{workspace.root} knows no user with a history to ask for; ingest interactions")
    return random.Random(_SEED).sample(known, min(1_000, len(known)))


def _repository(workspace: Workspace) -> FeatureRepository:
    return FeatureRepository(workspace.features, list(workspace.config().user_attributes))


# --- processes and ports ---------------------------------------------------------------------------------------------


@contextmanager
def _process(role: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.loadgen", role],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _line(process: subprocess.Popen[str]) -> str:
    line = _pipe(process.stdout).readline()
    if not line:
        raise NotReady(f"the process {process.args!r} of the benchmark ended early; its error is above")
    return line


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise TypeError("the process was started without a pipe")
    return stream


def _alone(config: ServeConfig) -> ServeConfig:
    """The settings without the LLM, on free ports of the loopback: a service that runs already is not disturbed."""
    base = next(base for base in random.sample(range(10_000, 32_000, 500), 44) if _free(range(base, base + 400)))
    ports = {"host": "127.0.0.1", "port": base + 4, "http_port": base + 5, "internal_ports": base}
    return config.model_copy(update={"llm": None, "ingress": config.ingress.model_copy(update=ports)})


def _free(ports: range) -> bool:
    for port in ports:
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                return False
    return True


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
