"""``tandem backfill``: jobs over whole catalogs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from cli.console import (
    DEFAULT_WORKSPACE,
    ConfigOption,
    JsonOption,
    WorkspaceOption,
    progress_bar,
)
from cli.settings import read_settings
from features.workspace import Workspace

if TYPE_CHECKING:
    pass

backfill_app = typer.Typer(no_args_is_help=True, help="Tag or recommend in bulk, as a resumable Ray Data job.")


@backfill_app.command("tags")
def backfill_tags(
    source: Annotated[Path, typer.Option("--input", help="Products: parquet or CSV with item_id, title, ...")],
    output: Annotated[Path, typer.Option(help="Folder of the results; a killed job resumes here.")],
    llm: Annotated[bool, typer.Option(help="Ask the LLM as well (slow without a GPU).")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tag a file of products.

    Example: tandem backfill tags --input new_products.parquet --output tagged/
    """
    from serving.backfill import tag_products

    with progress_bar("backfill", as_json) as progress:
        report = tag_products(
            Workspace(workspace), read_settings(config).serve_config(), source, output, with_llm=llm, progress=progress
        )
    _print_backfill(report, as_json)


@backfill_app.command("recommendations")
def backfill_recommendations(
    output: Annotated[Path, typer.Option(help="Folder of the results; a killed job resumes here.")],
    k: Annotated[int, typer.Option(min=1, max=1000, help="Items per user.")] = 10,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend for every known user.

    Example: tandem backfill recommendations --k 20 --output recommendations/
    """
    from serving.backfill import recommend_all

    with progress_bar("backfill", as_json) as progress:
        report = recommend_all(Workspace(workspace), read_settings(config).serve_config(), output, k, progress=progress)
    _print_backfill(report, as_json)


def _print_backfill(report: Any, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print(json.dumps(asdict(report)))
        return
    Console().print(
        f"{report.rows} rows: {report.done} done, {report.dead} in dead letters, "
        f"{report.partitions_reused} of {report.partitions} partitions reused, "
        f"{report.seconds:.1f} s, in {report.output}"
    )
