"""``tandem bench``: speed, measured next to baselines in the same run."""

from __future__ import annotations

import json
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


def bench(
    what: Annotated[str, typer.Argument(help="all, recommend or graph.")] = "all",
    growth: Annotated[bool, typer.Option(help="A larger catalog: 100,000 and 1,000,000 items.")] = False,
    soak: Annotated[bool, typer.Option(help="Memory over 50,000 requests.")] = False,
    offline: Annotated[bool, typer.Option(help="A million rows in a batch.")] = False,
    every: Annotated[bool, typer.Option("--all", help="All of these; so does: tandem bench all.")] = False,
    largest: Annotated[
        int, typer.Option("--max", min=1_000, help="graph: derived facts of the largest workload.")
    ] = 1_000_000,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure Recommend next to an empty RPC and a plain gRPC echo, and the graph next to clingo, owlrl and networkx.

    A minute for "recommend", about four for "graph", ten for "all". What has a target is shown beside it, met or not.

    Example: tandem bench recommend --json
    Example: tandem bench recommend --soak
    Example: tandem bench graph --max 100000
    """
    if what not in ("all", "recommend", "graph"):
        raise UsageError(f"there is no benchmark {what!r}; choose all, recommend or graph")
    wanted = {"growth": growth, "soak": soak, "offline": offline}
    report: dict[str, Any] = {}
    if what != "graph":
        report = _recommend(
            workspace, config, as_json, [name for name in wanted if every or what == "all" or wanted[name]]
        )
    if what != "recommend":
        graph = _graph(workspace, largest, as_json)
        report = graph if what == "graph" else {**report, "graph": graph}
    if as_json:
        print(json.dumps(report))


def _recommend(workspace: Path, config: Path | None, as_json: bool, parts: list[str]) -> dict[str, Any]:
    from serving.bench import bench_recommend, show_report

    with progress_bar("bench", as_json) as progress:
        report = bench_recommend(Workspace(workspace), read_settings(config).serve_config(), progress, parts)
    if not as_json:
        show_report(report)
    return report


def _graph(workspace: Path, largest: int, as_json: bool) -> dict[str, Any]:
    from cli.graphbench.measure import bench_graph
    from cli.graphbench.table import show_report

    with progress_bar("bench", as_json) as progress:
        report = bench_graph(workspace, progress, largest)
    if not as_json:
        show_report(report)
    return report
