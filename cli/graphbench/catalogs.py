"""The workloads of real data: family relations, and a catalog under the grocery ontology."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from cli.graphbench.workloads import Workload
from features.workspace import Workspace
from graph.items import item_facts
from graph.ontology import load
from graph.ports import Fact, KnowledgeGraph
from models.text import catalog_view

FAMILY = Path(__file__).resolve().parents[3] / "shared" / "data" / "family"
PRODUCTS = 92_331
"""Rows of The Complete Journey's product table, of which ingestion refuses some."""
_FILES = ("facts", "train", "valid", "test")
_ONTOLOGY = "grocery"
_SEED = 7


def family(folder: Path = FAMILY) -> Workload | None:
    """The shipped family ontology over the family facts; None where they are not there."""
    if not folder.is_dir():
        return None
    lines = {line for name in _FILES for line in (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines()}
    facts = [Fact(relation, (a, b)) for a, relation, b in (line.split("\t") for line in sorted(lines))]
    return _workload("family", f"{len(facts)} stated family relations", load("family"), facts)


def catalog(workspace: Workspace, products: int = PRODUCTS) -> Workload:
    """The grocery ontology over every product of a workspace; over ``products`` drawn ones where none is ingested."""
    graph = load(_ONTOLOGY)
    if not workspace.items.is_file():
        about = f"{products} drawn products, for {workspace.root} has none (tandem ingest)"
        return _workload("catalog", about, graph, _drawn(graph, products))
    label = workspace.config().label_column
    records = pl.read_parquet(workspace.items).iter_rows(named=True)
    views = {str(record["item_id"]): catalog_view(record, label) for record in records}
    return _workload("catalog", f"{len(views)} products of {workspace.root}", graph, product_facts(graph, views))


def product_facts(graph: KnowledgeGraph, views: Mapping[str, Mapping[str, str | None]]) -> list[Fact]:
    """What the catalog tells of its products (view by id). Those that read alike are read once."""
    read: dict[tuple[tuple[str, str | None], ...], list[Fact]] = {}
    facts = []
    for item, view in views.items():
        key = tuple(sorted(view.items()))
        if key not in read:
            read[key] = item_facts(graph, item, view)
        facts += [Fact(fact.predicate, (item, *fact.args[1:])) for fact in read[key]]
    return facts


def _drawn(graph: KnowledgeGraph, products: int) -> Iterable[Fact]:
    """Products with a shelf each and every second one with a known term in its type and another one in its text."""
    rng = np.random.default_rng(_SEED)
    shelves, terms = ([fact.args[0] for fact in graph.query(Fact(of, ("?x",)))] for of in ("category", "term"))
    # A few shelves hold most products (Zipf's law), as in real catalogs.
    weights = 1 / np.arange(1, len(shelves) + 1)
    of_shelf = rng.choice(rng.permutation(len(shelves)), products, p=weights / weights.sum())
    of_term = rng.integers(len(terms), size=(products, 2))
    for i, (shelf, (in_type, in_text)) in enumerate(zip(of_shelf.tolist(), of_term.tolist())):
        item = f"product{i}"
        yield Fact("product", (item,))
        yield Fact("in_category", (item, shelves[shelf]))
        if i % 2:
            yield Fact("type_term", (item, terms[in_type]))
            yield Fact("text_term", (item, terms[in_text]))


def _workload(name: str, about: str, graph: KnowledgeGraph, facts: Iterable[Fact]) -> Workload:
    places: dict[str, int] = {}
    rows: dict[str, list[Sequence[int]]] = {}
    for fact in dict.fromkeys(facts):
        rows.setdefault(fact.predicate, []).append([places.setdefault(arg, len(places)) for arg in fact.args])
    tables = {predicate: np.array(each, np.int64) for predicate, each in rows.items()}
    return Workload(name, about, "rules", graph.program, tables, tuple(places))
