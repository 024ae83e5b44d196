"""The table of properties as items come and change, and built from views that repeat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graph.errors import OntologyError
from graph.ontology import load
from graph.ports import KnowledgeGraph
from graph.properties import PropertyTable

View = dict[str, str | None]


def view(title: str, category: str | None = None) -> View:
    return {"title": title, "text": None, "category": category, "department": None, "product_type": None}


VIEWS = [
    view("Cheddar", "CHEESE"),
    view("Vegan beans"),
    view("Cheddar", "CHEESE"),
    view("Whole milk", "FLUID MILK PRODUCTS"),
    view("Mystery"),
]


@pytest.fixture(scope="module")
def grocery() -> KnowledgeGraph:
    return load("grocery")


def same(one: PropertyTable, other: PropertyTable) -> bool:
    return (one.names, one.version) == (other.names, other.version) and all(
        getattr(one, mask).tobytes() == getattr(other, mask).tobytes()
        for mask in ("contains", "may_contain", "unknown")
    )


def test_views_that_repeat_are_derived_once_to_the_same_table(grocery: KnowledgeGraph) -> None:
    assert same(PropertyTable.of_items(grocery, VIEWS), PropertyTable.build(grocery, VIEWS))
    assert len(PropertyTable.of_items(grocery, []).unknown) == 0
    backwards = [dict(reversed(one.items())) for one in VIEWS]
    assert same(PropertyTable.of_items(grocery, backwards), PropertyTable.build(grocery, VIEWS))


def test_items_that_come_and_change_are_as_if_built_with_the_others(grocery: KnowledgeGraph) -> None:
    start = PropertyTable.of_items(grocery, VIEWS)
    arrived = [view("Bananas", "TROPICAL FRUIT"), view("Whole milk", "FLUID MILK PRODUCTS")]
    rows = np.array([1, 5])
    table = start.with_items(rows, PropertyTable.of_items(grocery, arrived))
    assert same(table, PropertyTable.build(grocery, [VIEWS[0], arrived[0], *VIEWS[2:], arrived[1]]))
    assert same(start, PropertyTable.build(grocery, VIEWS)), "the table itself stays"
    assert table.has(np.array([5, 3]), "dairy").all()
    assert table.violates(np.array([1, 4, 5]), ["dairy"]).tolist() == [False, True, True]


def test_properties_of_another_ontology_are_refused(grocery: KnowledgeGraph) -> None:
    table = PropertyTable.of_items(grocery, VIEWS)
    with pytest.raises(OntologyError, match="do not fit"):
        table.with_items(np.array([0]), replace(table, version="another"))
