"""``tandem review`` on files: results of a batch job into the queue, and what people said out of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.console import (
    DEFAULT_WORKSPACE,
    ConfigOption,
    JsonOption,
    UsageError,
    WorkspaceOption,
    err,
    progress_bar,
)

_FORMATS: Final = (".parquet", ".csv", ".json")


def import_cases(
    sources: Annotated[list[Path], typer.Argument(help="Results of tandem backfill tags: folders or parquet files.")],
    items: Annotated[
        Path | None, typer.Option("--items", help="The products that were tagged; default: the catalog's words.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a batch job's uncertain tags up for review, and its share of accepted ones for audit. Again is harmless.

    Works on the workspace's own queue, whether the service runs or not.

    Example: tandem review import tagged/ --items new_products.parquet
    """
    from dataclasses import asdict

    from cli.settings import read_settings
    from features.workspace import Workspace
    from serving.load import load_services
    from serving.review.importing import import_tags

    with progress_bar("import", as_json) as progress:
        progress("loading the release", 0.0)
        services = load_services(Workspace(workspace), read_settings(config).serve_config())
        done = import_tags(services, sources, items, progress)
    if as_json:
        print(json.dumps(asdict(done)))
        return
    print(f"{done.tags:,} tags: {done.review:,} to review, {done.audit:,} to audit; {done.opened:,} cases are new")
    if done.unknown:
        err.print(f"{done.unknown:,} left out: neither the catalog nor --items has their words", highlight=False)


def export(
    output: Annotated[Path, typer.Argument(help="A .parquet, .csv or .json file.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """What people said, as gold with who, when and why: one row for each item and label.

    Example: tandem review export gold.parquet
    """
    from features.gold import gold
    from features.workspace import Workspace

    if output.suffix not in _FORMATS:
        raise UsageError(f"there is no format {output.suffix or output.name!r}; choose of {', '.join(_FORMATS)}")
    frame = gold(Workspace(workspace))
    try:
        if output.suffix == ".parquet":
            frame.write_parquet(output)
        elif output.suffix == ".csv":
            frame.write_csv(output)
        else:
            frame.write_json(output)
    except OSError as error:
        raise UsageError(f"{output} cannot be written ({error.strerror}); check the folder") from error
    fields = {"file": str(output), "rows": len(frame)}
    print(json.dumps(fields) if as_json else f"{len(frame):,} labels of people in {output}")
