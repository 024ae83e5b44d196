"""``tandem ingest`` and ``tandem train``: from a catalog to a release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.console import (
    DEFAULT_WORKSPACE,
    ConfigOption,
    JsonOption,
    TimestampFormatOption,
    UsageError,
    WorkspaceOption,
    print_notices,
    progress_bar,
)
from cli.evaluate import show_metrics
from cli.settings import opener, read_settings
from features.workspace import Workspace


def ingest(
    items: Annotated[Path | None, typer.Option(help="Items: parquet or CSV with item_id, title, ...")] = None,
    interactions: Annotated[Path | None, typer.Option(help="Interactions: user_id, item_id, timestamp, ...")] = None,
    users: Annotated[Path | None, typer.Option(help="Users: user_id and attributes.")] = None,
    offers: Annotated[
        Path | None, typer.Option(help="Offers: offer_id, item_id: what a coupon, promotion or bundle puts together.")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="The items' column that Tag predicts.")] = None,
    ontology: Annotated[str | None, typer.Option(help="Knowledge for the graph: grocery, generic.")] = None,
    timestamp_format: TimestampFormatOption = None,
    households: Annotated[int | None, typer.Option(min=1, help="Only a slice of the built-in dataset.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Read a catalog into a workspace. Without files: The Complete Journey (real groceries) from its package.

    Example: tandem ingest --items items.parquet --interactions events.csv --workspace shop
    """
    from training.datasets.ingest import ingest_complete_journey, ingest_files
    from training.datasets.sources import AUTO

    if (items is None) != (interactions is None):
        raise UsageError("--items and --interactions go together; give both, or neither for the built-in dataset")
    if items is None and not (users is None and offers is None):
        raise UsageError("--users and --offers go with --items and --interactions; the built-in dataset has its own")
    if items is None and timestamp_format is not None:
        raise UsageError("--timestamp-format goes with --items and --interactions")
    place = Workspace(workspace)
    with progress_bar("ingest", as_json) as progress:
        if items is not None and interactions is not None:
            report = ingest_files(
                items,
                interactions,
                users,
                place,
                offers=offers,
                label_column=label_column or AUTO,
                ontology=ontology or "generic",
                timestamp_format=timestamp_format,
                progress=progress,
            )
        else:
            report = ingest_complete_journey(
                place,
                households,
                label_column=label_column or AUTO,
                ontology=ontology or "grocery",
                progress=progress,
            )
    if as_json:
        # The report as it is kept in the workspace: status, tables (rows in, out, set aside by reason), notices.
        print(json.dumps(json.loads(report.to_json()), sort_keys=True))
        return
    table = Table(title=f"{report.dataset}: {report.status} into {workspace}", title_justify="left")
    for column in ("table", "rows in", "rows kept", "set aside"):
        table.add_column(column)
    for name, count in report.tables.items():
        aside = {**count.rejected, **count.excluded}
        reasons = "; ".join(f"{number:,} {reason}" for reason, number in aside.items())
        table.add_row(name, f"{count.rows_in:,}", f"{count.rows_out:,}", reasons)
    Console().print(table)
    print_notices(report.notices)


def train(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Materialize features, train ranker and guardrails, build the index, release.

    Example: tandem train --workspace shop
    """
    from training.train import train as run

    place, settings = Workspace(workspace), read_settings(config)
    wanted = settings.train_config()
    with progress_bar("train", as_json) as progress:
        report = run(place, wanted, opener(place, settings), progress)
    if as_json:
        print(json.dumps({"release": report.release, "metrics": report.metrics, "seconds": report.seconds}))
        return
    Console().print(f"released [bold]{report.release}[/bold] in {sum(report.seconds.values()):.0f} s")
    show_metrics(report.metrics)
