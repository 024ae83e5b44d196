"""``tandem events``: what users did, for the running service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.console import (
    DEFAULT_TARGET,
    DEFAULT_WORKSPACE,
    JsonOption,
    TargetOption,
    TimestampFormatOption,
    WorkspaceOption,
    connected,
    err,
    print_notices,
    progress_bar,
)

events_app = typer.Typer(no_args_is_help=True, help="What users did, for the running service.")


@events_app.command("add")
def events_add(
    source: Annotated[
        Path, typer.Option("--input", help="Events: parquet or CSV with user_id, item_id, timestamp, ...")
    ],
    timestamp_format: TimestampFormatOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """Record events in the running service: its next answers to these users have seen them, without retraining.

    Columns are those of ingest's interactions: user_id, item_id, timestamp; optional event (view, click, cart,
    purchase, rating), value, session_id, place, price. With a column event_id a file can be sent again and again;
    without one every delivery counts. Rows that are refused are named with the reason, and the exit code is 1.

    Example: tandem events add --input sales.csv
    """
    from dataclasses import asdict

    from serving.eventupload import upload_events
    from serving.upload import RejectedRow
    from training.datasets.events import read_events

    file = read_events(source, timestamp_format)
    with progress_bar("events", as_json) as progress, connected(workspace, target) as client:
        report = upload_events(client, file.events, progress)
    report.rows = file.rows
    report.duplicates += file.duplicates
    report.rejected += [RejectedRow(*reject) for reject in file.rejects]
    report.rejected.sort(key=lambda one: one.row)
    if as_json:
        print(json.dumps(asdict(report) | {"notices": [asdict(notice) for notice in file.notices]}))
    else:
        Console().print(
            f"{report.rows:,} rows: {report.recorded:,} recorded, {report.duplicates:,} duplicates, "
            f"{len(report.rejected):,} refused",
            highlight=False,
        )
        print_notices(file.notices)
        if report.unknown_items:
            more = f" and {len(report.unknown_items) - 20:,} more" if len(report.unknown_items) > 20 else ""
            shown = ", ".join(report.unknown_items[:20])
            err.print(f"recorded, of items the catalog does not know: {shown}{more}", highlight=False, markup=False)
        if report.degraded:
            err.print(report.degraded, highlight=False, markup=False)
        for row in report.rejected[:20]:
            err.print(f"row {row.row} ({row.item_id}): {row.reason}", highlight=False, markup=False, soft_wrap=True)
        if len(report.rejected) > 20:
            err.print(f"and {len(report.rejected) - 20:,} more; --json has all", highlight=False)
    if report.rejected:
        raise typer.Exit(1)
