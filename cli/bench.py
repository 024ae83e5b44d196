"""``tandem bench``: speed, measured next to baselines in the same run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import (
    DEFAULT_WORKSPACE,
    ConfigOption,
    JsonOption,
    UsageError,
    WorkspaceOption,
    progress_bar,
)
from cli.settings import read_settings
from features.workspace import Workspace

_PARTS = ("recommend", "tag", "gateway", "graph", "build")


def bench(
    what: Annotated[str, typer.Argument(help="all, recommend, tag, gateway, graph or build.")] = "all",
    growth: Annotated[bool, typer.Option(help="A larger catalog: 100,000 and 1,000,000 items.")] = False,
    soak: Annotated[bool, typer.Option(help="Memory over 50,000 requests.")] = False,
    offline: Annotated[bool, typer.Option(help="A million rows in a batch.")] = False,
    engine: Annotated[
        bool, typer.Option(help="gateway: tokens per second of the configured LLM, with and without it (minutes).")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="All of these; so does: tandem bench all.")] = False,
    largest: Annotated[
        int, typer.Option("--max", min=1_000, help="graph: derived facts of the largest workload.")
    ] = 1_000_000,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure Recommend next to an empty RPC and a plain gRPC echo, Tag without an LLM, the gateway next to the bare
    provider, its cache on a mix of real items, the graph next to clingo, owlrl and networkx, and what ingesting and
    training on the built-in dataset take.

    A minute for "recommend" and for "gateway", about four for "graph" and for "build", sixteen for "all". What has a
    target is shown beside it, met or not.

    Example: tandem bench recommend --json
    Example: tandem bench recommend --soak
    Example: tandem bench gateway --json
    Example: tandem bench graph --max 100000
    """
    if what not in ("all", *_PARTS):
        raise UsageError(f"there is no benchmark {what!r}; choose all, {', '.join(_PARTS)}")
    wanted = {"growth": growth, "soak": soak, "offline": offline}
    parts = [name for name in wanted if every or what == "all" or wanted[name]]
    place = Workspace(workspace)
    runs: dict[str, Callable[[], dict[str, Any]]] = {
        "recommend": lambda: _recommend(workspace, config, as_json, parts),
        "tag": lambda: _tag(place, config, as_json),
        "gateway": lambda: _gateway(place, config, as_json, engine),
        "graph": lambda: _graph(workspace, largest, as_json),
        "build": lambda: _build(as_json),
    }
    reports = {name: run() for name, run in runs.items() if what in ("all", name)}
    if as_json:
        # Of all, what `bench recommend` prints stands by itself and the others under their names.
        print(json.dumps(reports[what] if what != "all" else {**reports.pop("recommend"), **reports}))


def _tag(workspace: Workspace, config: Path | None, as_json: bool) -> dict[str, Any]:
    from serving.benchtables import show_tag
    from serving.load import load_services
    from serving.tagbench import run

    with progress_bar("bench", as_json) as progress:
        progress("tag", 0.0)
        report = run(load_services(workspace, read_settings(config).serve_config()))
    if not as_json:
        show_tag(report)
    return report


def _gateway(workspace: Workspace, config: Path | None, as_json: bool, engine: bool) -> dict[str, Any]:
    from serving.benchtables import bench_gateway, show_gateway

    with progress_bar("bench", as_json) as progress:
        report = bench_gateway(workspace, read_settings(config).serve_config(), progress, engine)
    if not as_json:
        show_gateway(report)
    return report


def _recommend(workspace: Path, config: Path | None, as_json: bool, parts: list[str]) -> dict[str, Any]:
    from serving.bench import bench_recommend, show_report

    with progress_bar("bench", as_json) as progress:
        report = bench_recommend(Workspace(workspace), read_settings(config).serve_config(), progress, parts)
    if not as_json:
        show_report(report)
    return report


def _build(as_json: bool) -> dict[str, Any]:
    from cli.buildbench import bench_build, show_build

    with progress_bar("bench", as_json) as progress:
        report = bench_build(progress)
    if not as_json:
        show_build(report)
    return report


def _graph(workspace: Path, largest: int, as_json: bool) -> dict[str, Any]:
    from cli.graphbench.measure import bench_graph
    from cli.graphbench.table import show_report

    with progress_bar("bench", as_json) as progress:
        report = bench_graph(workspace, progress, largest)
    if not as_json:
        show_report(report)
    return report
