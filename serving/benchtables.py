"""``tandem bench tag`` and ``tandem bench gateway``: what is measured together, and figures beside their targets."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from math import nan
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from features.workspace import Workspace
from models import release
from models.catalog import Catalog
from models.index import load_index
from serving.cachebench import measure_cache
from serving.config import ServeConfig
from serving.enginebench import measure_engine
from serving.gatewaybench import measure_overhead
from serving.render import show

Progress = Callable[[str, float], None]
_TAG_TARGETS: Final = {"tag_ms": ("p99", 15.0), "guardrail_and_graph_ms": ("p50", 1.0)}
_OVERHEAD_TARGETS: Final = {"p50_ms": 1.0, "p99_ms": 3.0}
_AT: Final = "32"
"""Callers at once for which the overhead has a target."""
_HIT_MS: Final = 2.0
_FALSE_HITS: Final = 0.01
_ENGINE: Final = 0.95
_BACKFILL: Final = 0.9
"""Least share of the engine's own tokens a second."""


def bench_gateway(
    workspace: Workspace, config: ServeConfig, progress: Progress = lambda *_: None, engine: bool = False
) -> dict[str, Any]:
    """``{"overhead": concurrency -> figures, "cache": {...}}``, and under ``engine`` what a real one loses.

    Raises ArtifactMismatch where nothing is released, NotReady where the catalog has too few labels.
    """
    progress("overhead", 0.0)
    with tempfile.TemporaryDirectory() as folder:
        report: dict[str, Any] = {"overhead": measure_overhead(Path(folder))}
    _, release_folder = release.read(workspace.releases)
    catalog = Catalog.load(release_folder / "catalog", load_index)
    report["cache"] = measure_cache(workspace, catalog, progress, config=config.cache)
    if engine:
        progress("engine", 0.0)
        report["engine"] = measure_engine(workspace, config)
    return report


def show_tag(report: dict[str, Any]) -> None:
    """Milliseconds at p50, p95 and p99."""
    table = Table(title=f"Tag in process, no LLM: {report['requests']} products", title_justify="left")
    for name in ("what", "p50 ms", "p95 ms", "p99 ms", "target"):
        table.add_column(name, justify="left" if name in ("what", "target") else "right")
    parts = ("tag_ms", "known_tag_ms", "guardrail_and_graph_ms", "reasons_ms", "score_ms_per_claim")
    rows = {name: report[name] for name in parts}
    rows |= {f"of a tag: {stage}": figures for stage, figures in report["stages_ms"].items()}
    for name, figures in rows.items():
        target = ""
        if name in _TAG_TARGETS:
            share, most = _TAG_TARGETS[name]
            target = _met(figures[share] <= most, f"{share} at most {most:g}")
        table.add_row(
            name.replace("_ms", "").replace("_", " "), *(f"{figures[q]:.3f}" for q in ("p50", "p95", "p99")), target
        )
    show(table)


def show_gateway(report: dict[str, Any]) -> None:
    """Overhead by callers at once, the cache's figures, and the engine's where it was measured."""
    table = Table(title="the gateway over the bare provider", title_justify="left")
    for name in ("callers", "p50 ms", "p99 ms", "steady p50", "steady p99", "target"):
        table.add_column(name, justify="right" if name != "target" else "left")
    for callers, figures in report["overhead"].items():
        target = ""
        if callers == _AT:
            met = all(figures[name] <= most for name, most in _OVERHEAD_TARGETS.items())
            target = _met(met, "at most 1 and 3")
        told = (figures.get(name, nan) for name in ("p50_ms", "p99_ms", "steady_p50_ms", "steady_p99_ms"))
        table.add_row(callers, *(f"{value:.3f}" for value in told), target)
    show(table)
    cache = report["cache"]
    table = Table(title="the cache, on items asked about as often as bought", title_justify="left")
    for name in ("", "hit rate", "false hits", "upper 95 %", "tokens saved", "p50 ms", "p99 ms", "target"):
        table.add_column(name, justify="right" if name != "target" else "left")
    for name in ("exact", "semantic"):
        part = cache[name]
        if not part["hits"]:
            table.add_row(name, "0")
            continue
        met = part["p99_ms"] <= _HIT_MS and part["false_hit_rate"] <= _FALSE_HITS
        table.add_row(
            name,
            f"{part['hit_rate']:.3f}",
            f"{part['false_hit_rate']:.4f}",
            f"{part['false_hit_upper']:.4f}",
            f"{part['tokens_saved']:,}",
            f"{part['p50_ms']:.3f}",
            f"{part['p99_ms']:.3f}",
            _met(met, "hit within 2 ms, false at most .01"),
        )
    show(table)
    if (engine := report.get("engine")) is not None:
        table = Table(title="tokens per second of the configured LLM", title_justify="left")
        for name in ("", "tokens/s", "ratio", "target"):
            table.add_column(name, justify="right" if name in ("tokens/s", "ratio") else "left")
        table.add_row("asked directly", f"{engine['raw_tokens_per_s']:.1f}")
        for name, way, ratio, least in (
            ("through the gateway", "gateway", engine["ratio"], _ENGINE),
            ("tagging a backfill", "backfill", engine["backfill_ratio"], _BACKFILL),
        ):
            target = _met(ratio >= least, f"at least {least:g}")
            table.add_row(name, f"{engine[f'{way}_tokens_per_s']:.1f}", f"{ratio:.3f}", target)
        show(table)


def _met(met: bool, target: str) -> str:
    return f"{target}: {'met' if met else 'MISSED'}"
