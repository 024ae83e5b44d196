"""``tandem bench``: speed, measured next to baselines in the same run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    pass


def bench(
    what: Annotated[str, typer.Argument(help="all or recommend.")] = "all",
    growth: Annotated[bool, typer.Option(help="A larger catalog: 100,000 and 1,000,000 items.")] = False,
    soak: Annotated[bool, typer.Option(help="Memory over 50,000 requests.")] = False,
    offline: Annotated[bool, typer.Option(help="A million rows in a batch.")] = False,
    every: Annotated[bool, typer.Option("--all", help="All of these; so does: tandem bench all.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure latency and throughput of Recommend next to an empty RPC and a plain gRPC echo, in one run.

    A minute for "recommend", about six for "all". What has a target is shown beside it, met or not.

    Example: tandem bench recommend --json
    Example: tandem bench recommend --soak
    """
    if what not in ("all", "recommend"):
        raise UsageError(f"there is no benchmark {what!r}; choose all or recommend")
    from serving.bench import PARTS, bench_recommend, show_report

    wanted = {"growth": growth, "soak": soak, "offline": offline}
    parts = [part for part in PARTS if every or what == "all" or wanted[part]]
    with progress_bar("bench", as_json) as progress:
        report = bench_recommend(Workspace(workspace), read_settings(config).serve_config(), progress, parts)
    if as_json:
        print(json.dumps(report))
    else:
        show_report(report)
