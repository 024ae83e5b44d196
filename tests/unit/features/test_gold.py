"""What people said becomes labels: the newest word counts, and who said it stays with it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import polars as pl
import pytest

from features.gold import GOLD, VALUE_GROUP, gold, value_gold, with_gold
from features.workspace import Workspace
from serving.review.queue import ReviewQueue
from tests.unit.serving.review.making import numbers, opened, proposal, say


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def queue(workspace: Workspace) -> ReviewQueue:
    return opened(workspace.review)


def catalog(**labels: str | None) -> pl.DataFrame:
    return pl.DataFrame(
        {"item_id": list(labels), "title": ["t"] * len(labels), "category": list(labels.values())},
        schema={"item_id": pl.String, "title": pl.String, "category": pl.Categorical},
    )


def labels(items: pl.DataFrame, said: pl.DataFrame) -> dict[str, str | None]:
    found = with_gold(items, said, "category")
    assert found.schema == items.schema
    return dict(found.select("item_id", pl.col("category").cast(pl.String)).iter_rows())


def test_workspace_nobody_reviewed_has_no_gold(workspace: Workspace) -> None:
    assert gold(workspace).schema == GOLD
    assert gold(workspace).is_empty()
    opened(workspace.review).close()
    assert gold(workspace).is_empty()


def test_words_become_labels_with_provenance(workspace: Workspace, queue: ReviewQueue) -> None:
    queue.put([proposal("a"), proposal("b", kind="audit"), proposal("c")])
    say(queue, 1, "accept", time=1.0)
    say(queue, 2, "correct", "ben", correction="MILK", reason="a drink", time=2.0)
    say(queue, 3, "reject", time=3.0)
    said = gold(workspace)
    assert said.schema == GOLD
    assert said.select("item_id", "label", "right", "verdict", "person", "time", "source", "reason").rows() == [
        ("a", "CHEESES", True, "accept", "anna", 1.0, "review", ""),
        ("b", "CHEESES", False, "correct", "ben", 2.0, "audit", "a drink"),
        ("b", "MILK", True, "correct", "ben", 2.0, "audit", "a drink"),
        ("c", "CHEESES", False, "reject", "anna", 3.0, "review", ""),
    ]
    assert set(said["release"]) == {"r-1"}


def test_undone_word_is_no_gold(workspace: Workspace, queue: ReviewQueue) -> None:
    queue.put([proposal("a")])
    say(queue, 1, "accept")
    say(queue, 1, "reject", "ben", overrule=True)
    assert gold(workspace).select("right", "person").rows() == [(False, "ben")]


def test_peoples_labels_override_the_catalogs(workspace: Workspace, queue: ReviewQueue) -> None:
    queue.put([proposal(item) for item in "abcde"])
    say(queue, 1, "accept")
    say(queue, 2, "correct", correction="MILK")
    say(queue, 3, "reject")
    say(queue, 4, "reject")
    items = catalog(a="MEAT", b=None, c="CHEESES", d="MEAT", untouched="MEAT")
    expected = {"a": "CHEESES", "b": "MILK", "c": None, "d": "MEAT", "untouched": "MEAT"}
    assert labels(items, gold(workspace)) == expected


def test_newest_word_on_an_item_counts_across_cases(workspace: Workspace, queue: ReviewQueue) -> None:
    queue.put([proposal("a"), proposal("a", tag="MILK"), proposal("a", release="r-2")])
    first, milk, again = numbers(queue, order="oldest")
    say(queue, first, "accept", time=1.0)
    say(queue, milk, "accept", time=2.0)
    assert labels(catalog(a="MEAT"), gold(workspace)) == {"a": "MILK"}
    say(queue, again, "accept", time=3.0)
    assert labels(catalog(a="MEAT"), gold(workspace)) == {"a": "CHEESES"}
    say(queue, again, "reject", time=4.0, overrule=True)
    assert labels(catalog(a="MEAT"), gold(workspace)) == {"a": "MILK"}


def test_catalog_without_labels_and_without_gold_stays_as_it_is(workspace: Workspace, queue: ReviewQueue) -> None:
    queue.put([proposal("a")])
    say(queue, 1, "accept")
    items = catalog(a="MEAT")
    assert with_gold(items, gold(workspace), None) is items
    assert with_gold(items, pl.DataFrame(schema=GOLD), "category") is items
    assert labels(catalog(), gold(workspace)) == {}


def test_label_column_that_holds_numbers_keeps_its_type(workspace: Workspace, queue: ReviewQueue) -> None:
    queue.put([proposal("a", tag="7")])
    say(queue, 1, "accept")
    items = pl.DataFrame({"item_id": ["a", "b"], "category": [1, 2]})
    assert with_gold(items, gold(workspace), "category")["category"].to_list() == [7, 2]


def test_words_on_values_of_attributes_are_no_labels_of_items(workspace: Workspace, queue: ReviewQueue) -> None:
    queue.put([proposal("a"), proposal("b", tag="size=8 oz", group=f"{VALUE_GROUP}size")])
    queue.put([proposal("c", tag="brand=a=b", group=f"{VALUE_GROUP}brand")])
    say(queue, 1, "accept", time=1.0)
    say(queue, 2, "correct", correction="size=9 oz", time=2.0)
    say(queue, 3, "accept", time=3.0)
    assert gold(workspace)["item_id"].to_list() == ["a"]
    sizes = value_gold(workspace, "size")
    assert sizes.schema == GOLD
    assert sizes.select("item_id", "label", "right").rows() == [("b", "8 oz", False), ("b", "9 oz", True)]
    assert value_gold(workspace, "brand")["label"].to_list() == ["a=b"]
    assert value_gold(workspace, "colour").is_empty()


def test_file_from_before_there_were_values_is_read(workspace: Workspace, queue: ReviewQueue) -> None:
    queue.put([proposal("a")])
    say(queue, 1, "accept")
    queue.close()
    with sqlite3.connect(workspace.review) as db:
        db.execute("DROP VIEW judged")
    assert gold(workspace)["label"].to_list() == ["CHEESES"]
    assert value_gold(workspace, "size").is_empty()
