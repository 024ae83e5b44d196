"""``tandem vocabulary``: the labels that tags are chosen from, checked and brought into one form."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.console import DEFAULT_WORKSPACE, JsonOption, UsageError, WorkspaceOption, fail
from cli.facts import FactsOption, OntologyOption, load_graph
from features.workspace import Workspace

if TYPE_CHECKING:
    from models.attributes import Attribute
    from models.vocabulary import Vocabulary

vocabulary_app = typer.Typer(no_args_is_help=True, help="Labels that tags are chosen from: check and import them.")

CATALOG, GRAPH = "catalog", "graph"
SeveralOption = Annotated[bool, typer.Option("--several", help="An item may carry more than one of the labels.")]


@vocabulary_app.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="CSV, parquet, JSON, or a taxonomy of Open Food Facts (.json.gz).")],
    several: SeveralOption = False,
    words: Annotated[
        str, typer.Option("--read", help="A product's name: shows the values that its attributes read in it.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """What a vocabulary holds; fails with what is wrong with it: cycles, duplicates, unknown parents, bad attributes.

    JSON may declare free attributes beside the labels, or alone: "attributes" is a list of {"name", "kind"}, with
    "values" for kind "enum" (texts, or {"id", "names"}), "units" for kind "number" ({"oz": ["ounce"]}), "pattern" for
    kind "text" (a regular expression of the value in lower case); "several": true where an item may have more than one,
    "definition" for an LLM, "column" where the catalog calls it otherwise. `attributes = FILE` under [train] lets Tag
    read them.

    `labels = FILE` under [train] lets Tag know the labels by what it holds: an entry is a value of the catalog's label
    column by its id, or by its name without regard to case. Names, synonyms, definition and examples then say what a
    label means, an LLM reads its definition, labels that no item carries yet are proposed for people to accept, and an
    accepted label implies its parents. It must not allow several labels an item; `several.COLUMN = FILE` under [train]
    is for those, beside the list column that holds them.

    Example: tandem vocabulary check ../shared/data/openfoodfacts/labels.full.json.gz
    Example: tandem vocabulary check sizes.json --read "Olive oil, 2 x 500 ml"
    """
    from models import vocabulary

    _show(vocabulary.read(file, several), as_json, words)


@vocabulary_app.command("import")
def import_(
    source: Annotated[
        str,
        typer.Argument(
            help='A file as "check" takes it, "catalog" (the workspace\'s labels) or "graph" (an ontology\'s).'
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file to write.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    ontology: OntologyOption = "grocery",
    facts: FactsOption = None,
    labels: Annotated[
        str, typer.Option(help="Of a graph: the predicate whose first argument is a label.")
    ] = "category",
    parents: Annotated[
        str | None, typer.Option(help="Of a graph: the predicate of a label and a wider one, if there is one.")
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(help="Of a catalog: another column than its labels'; lists make several labels an item."),
    ] = None,
    several: SeveralOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a vocabulary as one JSON file, with names, parents, definitions and examples.

    Example: tandem vocabulary import catalog --output categories.json
    Example: tandem vocabulary import catalog --column diets --output diets.json
    Example: tandem vocabulary import graph --ontology grocery --labels category_kind --output shelves.json
    """
    from features.workspace import write_atomically
    from models import vocabulary

    if source == CATALOG:
        made = _of_catalog(Workspace(workspace), column, several)
    elif source == GRAPH:
        made = _of_graph(ontology, facts, labels, parents, several)
    else:
        made = vocabulary.read(Path(source), several)
    write_atomically(output, made.to_json() + "\n")
    _show(made, as_json)


def _of_catalog(workspace: Workspace, column: str | None, several: bool) -> Vocabulary:
    import polars as pl

    from models import vocabulary

    config = workspace.config()
    column = column or config.label_column
    if column is None:
        fail("the catalog of this workspace has no label column; ingest it with --label-column, or name a --column")
    known = pl.scan_parquet(workspace.items, glob=False).collect_schema()
    if column not in known:
        fail(f"the catalog of this workspace has no column {column!r}; it has {', '.join(known)}")
    items = pl.read_parquet(workspace.items, columns=list(dict.fromkeys((column, "title"))))
    if isinstance(known[column], pl.List):
        items, several = items.explode(column), True
    labels = items[column].cast(pl.String).to_list()
    return vocabulary.from_catalog(column, labels, items["title"].to_list(), several)


def _of_graph(ontology: str, facts: list[Path] | None, labels: str, parents: str | None, several: bool) -> Vocabulary:
    """Derived facts count as asserted ones do: a rule may say what is a label, and what is wider."""
    from graph import exchange
    from models import vocabulary

    graph = load_graph(ontology, facts, None)
    arities = {}
    for predicate, least in ((labels, 1), (parents, 2)):
        if predicate is None:
            continue
        declaration = graph.program.declarations.get(predicate)
        if declaration is None or len(declaration.names) < least:
            fitting = sorted(name for name, one in graph.program.declarations.items() if len(one.names) >= least)
            raise UsageError(
                f"ontology {ontology!r} declares no predicate {predicate!r} of {least} or more arguments; choose of "
                f"{', '.join(fitting[:30])}"
            )
        arities[predicate] = len(declaration.names)
    told = [one.fact for one in exchange.statements_of(graph, arities, ("asserted", "derived"))]
    names = dict.fromkeys(sorted(fact.args[0] for fact in told if fact.predicate == labels))
    wider = sorted({fact.args[:2] for fact in told if fact.predicate == parents})
    return vocabulary.from_pairs(labels, names, ((label, above) for label, above in wider), several)


def _described(one: Attribute) -> str:
    allowed = {
        "text": f"matching {one.pattern}" if one.pattern else "any words",
        "enum": f"one of {len(one.values)}: {', '.join(id_ for id_, _ in one.values[:8])}",
        "number": f"with a unit: {', '.join(unit for unit, _ in one.units)}" if one.units else "without a unit",
    }
    return f"{one.kind} {allowed[one.kind]}{', several' if one.several else ''}"


def _read(made: Vocabulary, words: str) -> list[dict[str, object]]:
    """Values in a title by the schema alone: what a catalog adds, it learns in training."""
    from models.tagging import TagItem
    from models.values import propose

    found = [each for one in made.attributes for each in propose(one, {}, TagItem(words))]
    return [
        {"attribute": each.attribute, "value": each.value.text, "start": each.start, "end": each.end} for each in found
    ]


def _show(made: Vocabulary, as_json: bool, words: str = "") -> None:
    depths = Counter(made.depths.values())
    numbers = {
        "name": made.name,
        "labels": len(made.entries),
        "roots": len(made.roots),
        "deepest": max(depths, default=0),
        "several": made.several,
        "with_definition": sum(bool(label.definition) for label in made.entries),
        "with_examples": sum(bool(label.examples) for label in made.entries),
        "by_depth": {str(depth): depths[depth] for depth in sorted(depths)},
        "attributes": {one.name: _described(one) for one in made.attributes},
    }
    found = _read(made, words)
    if as_json:
        print(json.dumps({**numbers, "read": found} if words else numbers))
        return
    table = Table(title=f"vocabulary {made.name}", title_justify="left", show_header=False)
    for name, value in numbers.items():
        told = ", ".join(f"{key}: {many}" for key, many in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(name.replace("_", " "), told)
    console = Console()
    console.print(table)
    for each in found:
        console.print(f"{each['attribute']}={each['value']} at {each['start']}:{each['end']}", highlight=False)
    if words and not found:
        console.print("none of its attributes is read in these words")
