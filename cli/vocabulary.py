"""``tandem vocabulary``: the labels that tags are chosen from, checked and brought into one form."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.console import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, fail
from features.workspace import Workspace

if TYPE_CHECKING:
    from models.vocabulary import Vocabulary

vocabulary_app = typer.Typer(no_args_is_help=True, help="Labels that tags are chosen from: check and import them.")

CATALOG = "catalog"
SeveralOption = Annotated[bool, typer.Option("--several", help="An item may carry more than one of the labels.")]


@vocabulary_app.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="CSV, parquet, JSON, or a taxonomy of Open Food Facts (.json.gz).")],
    several: SeveralOption = False,
    as_json: JsonOption = False,
) -> None:
    """What a vocabulary holds; fails with all that is wrong with it: cycles, duplicates, unknown parents.

    Example: tandem vocabulary check ../shared/data/openfoodfacts/labels.full.json.gz
    """
    from models import vocabulary

    _show(vocabulary.read(file, several), as_json)


@vocabulary_app.command("import")
def import_(
    source: Annotated[str, typer.Argument(help='A file as "check" takes it, or "catalog": the workspace\'s labels.')],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file to write.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    several: SeveralOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a vocabulary as one JSON file, with names, parents, definitions and examples.

    Example: tandem vocabulary import catalog --output categories.json
    """
    from features.workspace import write_atomically
    from models import vocabulary

    made = _of_catalog(Workspace(workspace), several) if source == CATALOG else vocabulary.read(Path(source), several)
    write_atomically(output, made.to_json() + "\n")
    _show(made, as_json)


def _of_catalog(workspace: Workspace, several: bool) -> Vocabulary:
    import polars as pl

    from models import vocabulary

    column = workspace.config().label_column
    if column is None:
        fail("the catalog of this workspace has no label column; ingest it with --label-column")
    items = pl.read_parquet(workspace.items, columns=[column, "title"])
    return vocabulary.from_catalog(column, items[column].to_list(), items["title"].to_list(), several)


def _show(made: Vocabulary, as_json: bool) -> None:
    depths = Counter(made.depths.values())
    numbers = {
        "name": made.name,
        "labels": len(made.entries),
        "roots": len(made.roots),
        "deepest": max(depths),
        "several": made.several,
        "with_definition": sum(bool(label.definition) for label in made.entries),
        "with_examples": sum(bool(label.examples) for label in made.entries),
        "by_depth": {str(depth): depths[depth] for depth in sorted(depths)},
    }
    if as_json:
        print(json.dumps(numbers))
        return
    table = Table(title=f"vocabulary {made.name}", title_justify="left", show_header=False)
    for name, value in numbers.items():
        told = ", ".join(f"{key}: {many}" for key, many in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(name.replace("_", " "), told)
    Console().print(table)
