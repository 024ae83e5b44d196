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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
from models.blend import Blend
from serving import auth, growth, memory, render
from serving.app import APP, running
from serving.config import ServeConfig
from serving.errors import NotReady
from serving.load import RANKER
from serving.loadgen import Call, Load, Result
from serving.offline import place_names

CONCURRENCY = (1, 8, 16, 32)
PARTS = ("growth", "soak", "offline")
"""What takes minutes and is measured only where it is asked for."""
SOAK_REQUESTS = 50_000
SOAK_STEP = 10_000
"""Requests between two readings of the ingress's memory."""
SOAK_CONCURRENCY = 16
SOAK_SECONDS = 170.0
"""Bound of the soak; a machine that is too slow ends it early, and the report says after how many requests."""
ROUNDS = 2
"""Times every load is run; calls take turns, so that a disturbance of the machine hits them alike."""
REQUESTS = 2_000
SECONDS = 2.0
"""Bounds of one load."""
_SEED = 7
_PREDICTIONS = 500
_ROOT = Path(__file__).resolve().parent.parent

Progress = Callable[[str, float], None]


def bench_recommend(
    workspace: Workspace, config: ServeConfig, progress: Progress, parts: Collection[str] = ()
) -> dict[str, Any]:
    """Serve the promoted release without its LLM and measure it; takes about a minute, with all PARTS about six.

    Returns ``recommend``, ``empty`` and ``echo`` by concurrency (as text), each {p50_ms, p95_ms, p99_ms, rps};
    ``ratios``: each figure that has a target as {value, target, met}; ``predict`` {rows, p50_ms}: the trees alone on
    one request's candidates; ``stages``: mean milliseconds by stage at concurrency 1; ``machine``, ``release``,
    ``candidates``. ``parts``: those of PARTS to measure as well, each a key of its own: ``growth`` and ``offline`` (see
    `serving.growth`), ``soak`` (the ingress's resident memory over many requests). Raises NotReady where a call fails.
    """
    progress("raw tree prediction", 0.0)
    current, folder = release.read(workspace.releases)
    users = _users(workspace)
    # All at one place: a request that tells none leaves a part of the features out.
    place = next(iter(place_names(workspace)), "")
    load_before = os.getloadavg()[0]
    predict = _predict(workspace, folder, config.candidates, users, current.repeats)
    progress("starting the service", 0.05)
    # Ray prints notices on standard output, which belongs to the caller's report.
    with redirect_stdout(sys.stderr), running(workspace, _alone(config), quiet=True) as address:
        with _process("generate") as generator, _process("echo") as server:
            echo = f"127.0.0.1:{int(_line(server))}"
            key = auth.read_key(workspace.api_key)
            results = _measure(generator, address, echo, key, users, place, progress)
            soak = _soak(generator, address, key, users, place, progress) if "soak" in parts else None
    more: dict[str, Any] = {} if soak is None else {"soak": soak}
    if "growth" in parts:
        more["growth"] = growth.measure_growth(workspace, config, progress)
    if "offline" in parts:
        more["offline"] = growth.measure_offline(workspace, config, progress)
    progress("done", 1.0)
    alone = results["recommend", 1]
    report: dict[str, Any] = {
        call: {str(concurrency): _figures(results[call, concurrency]) for concurrency in CONCURRENCY}
        for call in get_args(Call)
    } | more
    report["ratios"] = ratios(report)
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


def ratios(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures that have a target (issue 3), by name: {value, target, met}; at most ``target``, or at least where
    the name says throughput. Parts that were not measured are left out."""
    recommend, empty = report["recommend"], report["empty"]
    found = {
        "p50_over_empty_at_1": _at_most(recommend["1"]["p50_ms"] / empty["1"]["p50_ms"], 3.5),
        "p99_ms_at_1": _at_most(recommend["1"]["p99_ms"], 10.0),
        "throughput_over_empty_at_16": _at_least(recommend["16"]["rps"] / empty["16"]["rps"], 0.25),
        "p99_over_p50_at_16": _at_most(recommend["16"]["p99_ms"] / recommend["16"]["p50_ms"], 4.0),
    }
    if part := report.get("growth"):
        small, large = (part["p50_ms"][str(items)] for items in growth.ITEMS)
        found["p50_at_1000000_over_100000_items"] = _at_most(large / small, 1.3)
    if part := report.get("soak"):
        # The first steps fill caches and the allocator's pools; growth is what comes after them.
        figure = _at_most(part["rss_mib"][-1] / part["rss_mib"][1], 1.02)
        found["memory_after_50000_over_10000_requests"] = {
            **figure,
            "met": figure["met"] and part["requests"] >= SOAK_REQUESTS,
        }
    if part := report.get("offline"):
        found["offline_s_per_million_rows"] = _at_most(part["seconds_per_million"], 20.0)
    return found


def _at_most(value: float, target: float) -> dict[str, Any]:
    return {"value": value, "target": target, "met": value <= target}


def _at_least(value: float, target: float) -> dict[str, Any]:
    return {"value": value, "target": target, "met": value >= target}


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
    targets = Table(title="Targets", title_justify="left")
    for column in ("figure", "value", "target", ""):
        targets.add_column(column, justify="left" if column == "figure" else "right")
    for name, figure in report["ratios"].items():
        bound = "at least" if "throughput" in name else "at most"
        met = Text("met", style="green") if figure["met"] else Text("not met", style="red")
        targets.add_row(name, f"{figure['value']:.3f}", f"{bound} {figure['target']:g}", met)
    machine, predict = report["machine"], report["predict"]
    lines = (
        *_lines_of_parts(report),
        f"raw tree prediction: {predict['p50_ms']:.2f} ms for {predict['rows']} rows",
        "stages at 1, mean ms: " + ", ".join(f"{name} {ms:.2f}" for name, ms in report["stages"].items()),
        f"release {report['release']} on {machine['cores']} cores of {machine['cpu']}, "
        f"load {machine['load_before']:.1f} before the run",
    )
    render.show(Group(table, targets, Text("\n".join(lines))))


def _lines_of_parts(report: Mapping[str, Any]) -> Iterator[str]:
    if part := report.get("growth"):
        sizes = ", ".join(f"{int(items):,} items {ms:.2f}" for items, ms in part["p50_ms"].items())
        yield f"growth, p50 ms ({part['catalog']}): {sizes}"
    if part := report.get("soak"):
        memory_mib = " ".join(f"{mib:.0f}" for mib in part["rss_mib"])
        yield (
            f"soak: {part['requests']:,} requests in {part['seconds']:.0f} s; resident MiB of the ingress before, and "
            f"every {SOAK_STEP:,}: {memory_mib}"
        )
    if part := report.get("offline"):
        yield (
            f"offline: {part['rows']:,} rows of {part['requests']:,} requests in {part['seconds']:.1f} s on "
            f"{part['workers']} processes, {part['load_s']:.1f} s of it loading"
        )


# --- what is measured ------------------------------------------------------------------------------------------------


def _measure(
    generator: subprocess.Popen[str],
    address: str,
    echo: str,
    key: str,
    users: Sequence[str],
    place: str,
    progress: Progress,
) -> dict[tuple[Call, int], list[Result]]:
    calls: tuple[Call, ...] = get_args(Call)
    plan = [(call, concurrency) for _ in range(ROUNDS) for concurrency in CONCURRENCY for call in calls]
    results: dict[tuple[Call, int], list[Result]] = {part: [] for part in plan}
    for number, (call, concurrency) in enumerate(plan):
        progress(f"{call} at {concurrency}", 0.3 + 0.7 * number / len(plan))
        target = echo if call == "echo" else address
        load = Load(target, call, key, tuple(users), concurrency, REQUESTS, SECONDS, place=place)
        results[call, concurrency].append(_run(generator, load))
    return results


def _run(generator: subprocess.Popen[str], load: Load) -> Result:
    _pipe(generator.stdin).write(json.dumps(asdict(load)) + "\n")
    _pipe(generator.stdin).flush()
    result = Result(**json.loads(_line(generator)))
    if result.failed:
        raise NotReady(
            f"{load.call} at concurrency {load.concurrency} failed, so there are no figures: {result.failed}"
        )
    if result.degraded or set(result.paths) - {"known_user"}:
        raise NotReady(
            f"{result.degraded} replies were degraded, paths were {result.paths}: the figures would not be those "
            "of known users. Run: tandem train"
        )
    return result


def _soak(
    generator: subprocess.Popen[str], address: str, key: str, users: Sequence[str], place: str, progress: Progress
) -> dict[str, Any]:
    """Resident memory (MiB) of the ingress before, and after every SOAK_STEP requests of SOAK_REQUESTS."""
    replicas = memory.descendants(os.getpid(), f"ray::ServeReplica:{APP}:Ingress")
    if not replicas:
        raise NotReady("no process of the ingress runs below this one, so its memory cannot be read; unset RAY_ADDRESS")
    rss = [memory.resident_mib(replicas)]
    requests, seconds = 0, 0.0
    for step in range(SOAK_REQUESTS // SOAK_STEP):
        progress(f"soak: {step * SOAK_STEP:,} of {SOAK_REQUESTS:,} requests", step * SOAK_STEP / SOAK_REQUESTS)
        left = SOAK_SECONDS - seconds
        if left <= 0:
            break
        load = Load(address, "recommend", key, tuple(users), SOAK_CONCURRENCY, SOAK_STEP, left, place=place)
        result = _run(generator, load)
        requests, seconds = requests + len(result.ms), seconds + result.seconds
        rss.append(memory.resident_mib(replicas))
    return {"requests": requests, "seconds": seconds, "concurrency": SOAK_CONCURRENCY, "rss_mib": rss}


def _figures(results: Sequence[Result]) -> dict[str, float]:
    ms = np.concatenate([result.ms for result in results])
    p50, p95, p99 = np.percentile(ms, (50, 95, 99))
    rps = len(ms) / sum(result.seconds for result in results)
    return {"p50_ms": float(p50), "p95_ms": float(p95), "p99_ms": float(p99), "rps": float(rps)}


def _predict(
    workspace: Workspace, folder: Path, rows: int, users: Sequence[str], repeats: bool
) -> dict[str, int | float]:
    """The ranker alone, in this process, on the features of real users' candidates."""
    ranker = Blend.load(folder / RANKER, schema_hash())
    table = ItemTable.load(folder / "item_table")
    now = workspace.config().data_end + 1
    histories = _repository(workspace).histories()
    matrices = []
    for user in users[:50]:
        profile = summarize(histories[user], table, now, int(histories[user].place[-1]))
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
    """The settings without the LLM and with one ingress replica, for which the targets are, on free ports of the
    loopback: a service that runs already is not disturbed."""
    base = next(base for base in random.sample(range(10_000, 32_000, 500), 44) if _free(range(base, base + 400)))
    ports = {"host": "127.0.0.1", "port": base + 4, "http_port": base + 5, "internal_ports": base, "replicas": 1}
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
