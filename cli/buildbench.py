"""From the built-in dataset to a release: seconds and peak memory of ``tandem ingest`` and ``tandem train``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from serving.render import show

Progress = Callable[[str, float], None]

TARGETS: Final = {"ingest_and_features_s": 90.0, "train_s": 180.0, "peak_gib": 6.0}
"""At most, on two cores (issue 3)."""


class BuildFailed(RuntimeError):
    """A command of the benchmark ended with an error."""


def bench_build(progress: Progress = lambda *_: None, options: Sequence[str] = ()) -> dict[str, Any]:
    """``{"ingest_s", "features_s", "train_s", "peak_gib", "stages_s", "met"}`` of the commands as people run them,
    each a process of its own, in a workspace of its own, without an LLM.

    ``train_s`` holds ``features_s``; ``peak_gib``: the larger of both processes' greatest resident memory. ``options``
    go to ``ingest`` (a slice of the data). Raises BuildFailed.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "tandem.toml"
        settings.write_text("llm = false\n")
        place = ["--workspace", str(Path(folder) / "workspace"), "--json"]
        progress("build: ingest", 0.0)
        _, ingest_s, ingest_gib = _run(["ingest", *place, *options])
        progress("build: train", 0.2)
        trained, train_s, train_gib = _run(["train", *place, "--config", str(settings)])
    stages = json.loads(trained)["seconds"]
    found = {
        "ingest_s": ingest_s,
        "features_s": stages["features"],
        "train_s": train_s,
        "peak_gib": max(ingest_gib, train_gib),
        "stages_s": stages,
    }
    figures = {**found, "ingest_and_features_s": ingest_s + stages["features"]}
    return {**figures, "met": {name: figures[name] <= most for name, most in TARGETS.items()}}


def _run(arguments: Sequence[str]) -> tuple[str, float, float]:
    """What a command prints, its seconds and the greatest memory of its process, GiB."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "cli", *arguments], stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            err.seek(0)
            raise BuildFailed(f"tandem {arguments[0]} ended with {process.returncode}: {err.read().strip()[-500:]}")
        out.seek(0)
        return out.read(), seconds, usage.ru_maxrss / 2**20


def show_build(report: dict[str, Any]) -> None:
    """Print a report as a table."""
    table = Table(title="from the built-in dataset to a release, without an LLM", title_justify="left")
    for name in ("", "measured", "target"):
        table.add_column(name, justify="right" if name == "measured" else "left")
    shown = {
        "ingest_and_features_s": "ingest and features, s",
        "train_s": "training, s",
        "peak_gib": "peak memory, GiB",
    }
    for name, title in shown.items():
        target = f"at most {TARGETS[name]:g}: {'met' if report['met'][name] else 'MISSED'}"
        table.add_row(title, f"{report[name]:.1f}", target)
    show(table)
