"""The item log, and items of it as rows of a table."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.arrivals import (
    CatalogItem,
    SqliteItemLog,
    catalog_items,
    collides,
    ingested_at,
    typed_row,
    unknown_attributes,
    with_changed,
)
from features.daystates import DayStates
from features.errors import StoreUnavailable
from features.events import history_of
from features.items import ItemTable
from features.keys import place_key
from features.ports import Event
from features.transforms import assemble, summarize
from features.workspace import Workspace
from tests.unit.features.shop import PLACES, START, WEEK, catalog, events_of, table_of

ROOT = Path(__file__).resolve().parents[3]
SCHEMA: dict[str, Any] = {
    "item_id": pl.String(),
    "title": pl.String(),
    "text": pl.String(),
    "brand": pl.String(),
    "price": pl.Float64(),
    "genres": pl.List(pl.String),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events" / "items.db"


def item(item_id: str, title: str = "Title", text: str = "", **attributes: str) -> CatalogItem:
    return CatalogItem(item_id, title, text, attributes)


@pytest.fixture
def table() -> ItemTable:
    return table_of(catalog(12), [e for n in range(9) for e in events_of(f"u{n}", ["i1", "i2", f"i{n}"])])[0]


# --- the log ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("drama, comedy", ["drama", "comedy"]),
        ('["drama", "sci-fi, old"]', ["drama", "sci-fi, old"]),
        ("[]", []),  # said to have none; nothing said is null
        ("", None),
        ("[unclosed", ["[unclosed"]),
        ("[1, 2]", ["[1", "2]"]),
    ],
)
def test_a_list_is_an_array_or_parts_between_commas(written: str, read: list[str] | None) -> None:
    row, problems = typed_row(item("a", genres=written), SCHEMA)
    assert (row["genres"], problems) == (read, [])


def test_the_newest_version_of_each_item_comes_in_the_order_the_items_first_came(path: Path) -> None:
    log = SqliteItemLog(path)
    assert (log.newest(), log.after(0)) == (0, [])
    log.append([item("b", "B", brand="x"), item("a", "A")])
    log.append([item("b", "B again", "words", brand="y"), item("c")])
    assert log.newest() == 4
    entries = log.after(0)
    assert [(one.seq, one.item.item_id) for one in entries] == [(3, "b"), (2, "a"), (4, "c")]
    assert entries[0].item == item("b", "B again", "words", brand="y")
    assert abs(entries[0].time - time.time()) < 60
    assert [one.item.item_id for one in log.after(3)] == ["c"]
    log.close()


def test_what_append_returned_for_survives_a_kill(path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from features.arrivals import CatalogItem, SqliteItemLog
SqliteItemLog(Path({str(path)!r})).append([CatalogItem("a", "Ä", "ß", {{"brand": "é"}})])
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    log = SqliteItemLog(path)
    assert [one.item for one in log.after(0)] == [item("a", "Ä", "ß", brand="é")]
    log.close()


def test_items_of_one_append_are_kept_together_or_not_at_all(path: Path) -> None:
    log = SqliteItemLog(path)
    with pytest.raises(StoreUnavailable, match="item log"):
        log.append([item("a"), CatalogItem("b", None)])  # type: ignore[arg-type]
    assert log.newest() == 0
    log.append([item("a")])
    assert [one.item.item_id for one in log.after(0)] == ["a"]
    log.close()


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "events").write_text("a file where the folder should be")
    with pytest.raises(StoreUnavailable, match="check the disk"):
        SqliteItemLog(tmp_path / "events" / "items.db")


def _write(path: Path, writer: int) -> None:
    log = SqliteItemLog(path)
    for number in range(20):
        log.append([item(f"w{writer}-{number}")])
    log.close()
    os._exit(0)


def test_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(path, writer)) for writer in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    log = SqliteItemLog(path)
    assert {one.item.item_id for one in log.after(0)} == {f"w{w}-{n}" for w in range(3) for n in range(20)}
    log.close()


def test_threads_share_a_log(path: Path) -> None:
    log = SqliteItemLog(path)

    def write(writer: int) -> None:
        for number in range(20):
            log.append([item(f"t{writer}-{number}")])

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(log.after(0)) == log.newest() == 80
    log.close()


def test_the_first_vector_of_a_text_stays_and_comes_back_to_the_bit(path: Path) -> None:
    log = SqliteItemLog(path)
    one, other = np.random.default_rng(1).normal(size=(2, 384)).astype(np.float32)
    log.keep_vectors("m", {"milk": one})
    log.keep_vectors("m", {"milk": other, "bread": other})
    log.keep_vectors("another model", {"milk": other})
    found = log.vectors("m", ["milk", "bread", "unseen", *(f"t{n}" for n in range(1_200))])
    assert set(found) == {"milk", "bread"}
    assert found["milk"].tobytes() == one.tobytes()
    log.close()


# --- items as rows ---------------------------------------------------------------------------------------------------


def test_an_item_becomes_a_row_of_the_catalogs_types() -> None:
    attributes = {"brand": " Own ", "price": "1.5", "genres": "drama, crime,,  war ", "color": "red", "title": "x"}
    sent = CatalogItem("a", " Title ", "  ", attributes)
    row, problems = typed_row(sent, SCHEMA)
    assert problems == []
    assert row == {
        "item_id": "a",
        "title": "Title",
        "text": None,
        "brand": "Own",
        "price": 1.5,
        "genres": ["drama", "crime", "war"],
    }
    assert unknown_attributes(sent, SCHEMA) == ["color", "title"]
    assert pl.DataFrame([row], schema=SCHEMA).row(0, named=True) == row


@pytest.mark.parametrize("value", ["cheap", "nan", "inf", "1,5"])
def test_a_number_that_is_none_is_named_with_its_value(value: str) -> None:
    row, (problem,) = typed_row(item("a", price=value), SCHEMA)
    assert row["price"] is None
    assert f"price is {value!r}" in problem
    assert "give a number" in problem


def test_attributes_left_out_or_blank_are_null() -> None:
    row, problems = typed_row(item("a", brand=" ", price="", genres=" , "), SCHEMA)
    assert (problems, row["brand"], row["price"], row["genres"]) == ([], None, None, None)


def test_a_changed_item_keeps_its_row_statistics_and_neighbours(table: ItemTable) -> None:
    rows = np.array([3, 7])
    frame = pl.DataFrame(
        [
            {"item_id": "i3", "title": "New 3", "text": "t", "category": "c1", "brand": "unheard of"},
            {"item_id": "i7", "title": "New 7", "text": None, "category": None, "brand": "b0"},
        ],
        schema=table.frame.schema,
    )
    changed = with_changed(table, rows, frame)
    assert changed.item_ids == table.item_ids
    assert changed.titles[3:8] == ("New 3", *table.titles[4:7], "New 7")
    assert changed.frame[rows.tolist()].equals(frame)
    others = np.setdiff1d(np.arange(len(table)), rows)
    assert changed.frame[others.tolist()].equals(table.frame[others.tolist()])
    assert (changed.groups[others] == table.groups[others]).all()
    category, brand = (changed.group_names.index(name) for name in ("category", "brand"))
    assert changed.groups[3, category] == table.groups[1, category]
    assert changed.groups[7, category] == -1
    assert changed.groups[7, brand] == table.groups[0, brand]
    assert changed.groups[3, brand] not in table.groups[:, brand]
    at = START + 30 * 86_400
    assert changed.statistics(at).tobytes() == table.statistics(at).tobytes()
    assert changed.neighbours is table.neighbours
    assert table.titles[3] == "Item 3", "the table itself stays"


def shopping() -> list[Event]:
    """Of 30 users, who come back for what they had, at several places and prices."""
    rng = np.random.default_rng(5)
    return [
        Event(f"{user}-{week}-{n}", f"u{user}", f"i{n}", "purchase", 1.0, time, f"{user}-{week}", place, 1.0 + n % 5)
        for user in range(30)
        for week in range(12)
        for time, place in [(START + week * WEEK + user * 3_600, PLACES[user % 3])]
        for n in {int(n) for n in rng.integers(0, 20, 4)}
    ]


def described(**attributes: str | None) -> pl.DataFrame:
    record = {"item_id": "new", "title": "New", "text": None, "category": None, "brand": None, **attributes}
    return pl.DataFrame([record], schema=catalog(1).schema)


@pytest.mark.parametrize(
    ("first", "corrected"),
    [("c0", "c2"), (None, "c1"), ("c1", None), ("unheard of", "c3"), ("c3", "unheard of"), ("one", "another")],
)
def test_a_corrected_item_has_the_features_of_one_that_was_right_at_once(
    first: str | None, corrected: str | None
) -> None:
    """The replica that saw both versions, and the one that started later and reads the newest alone."""
    trained, _ = table_of(catalog(20), shopping())
    now, rows = START + 12 * WEEK + 4_000, np.arange(21)
    seen = trained.extended(described(category=first, brand="b0"))
    seen.statistics(now), seen.prices(now)  # a request came in between
    seen = with_changed(seen, np.array([20]), described(category=corrected, brand="b1"))
    started = trained.extended(described(category=corrected, brand="b1"))
    assert seen.repurchase.kind.tolist() == started.repurchase.kind.tolist()
    for user in range(6):
        own = [event for event in shopping() if event.user_id == f"u{user}"]
        own += events_of(f"u{user}", ["new", "i3", "new"], START + 12 * WEEK - 9 * 86_400, 3 * 86_400)
        profiles = [summarize(history_of(own), table, now, place_key("north")) for table in (seen, started)]
        one, other = (assemble(*both, rows, np.zeros(21)) for both in zip(profiles, (seen, started)))
        assert one.tobytes() == other.tobytes()


def test_days_at_hand_are_those_of_the_changed_kinds() -> None:
    """What sold well, and where, moves with the item to its new kind; the table before it stays as it was."""
    table, _ = table_of(catalog(20), shopping())
    now = START + 12 * WEEK

    def sold_at(table: ItemTable) -> bytes:
        here = table.here(now, place_key("north"))
        assert here is not None
        return here.kinds.tobytes()

    trends, sold = table.kind_trends(now).copy(), sold_at(table)
    changed = with_changed(table, np.array([1]), table.frame[[1]].with_columns(category=pl.lit("c2")))
    assert changed.repurchase.kind[1] == table.repurchase.kind[2] != table.repurchase.kind[1]
    computed = replace(changed, _days=DayStates(), _place_days=DayStates())
    assert changed.kind_trends(now).tobytes() == computed.kind_trends(now).tobytes() != trends.tobytes()
    assert sold_at(changed) == sold_at(computed) != sold
    assert table.kind_trends(now).tobytes() == trends.tobytes()
    assert sold_at(table) == sold
    retitled = with_changed(table, np.array([1]), table.frame[[1]].with_columns(title=pl.lit("Renamed")))
    assert retitled.statistics(now) is table.statistics(now), "nothing of a day depends on a title"


def test_another_item_with_the_same_key_is_named(table: ItemTable) -> None:
    assert collides(table, "i3") == collides(table, "nobody") == ""
    renamed = with_changed(table, np.array([], np.int64), table.frame.head(0))
    assert renamed is table
    object.__setattr__(table, "item_ids", ("twin", *table.item_ids[1:]))
    assert collides(table, "i0") == "twin"


# --- the catalog of the next training --------------------------------------------------------------------------------


def workspace_of(tmp_path: Path, frame: pl.DataFrame, age_s: float = 0.0) -> Workspace:
    workspace = Workspace(tmp_path)
    workspace.items.parent.mkdir(parents=True)
    frame.write_parquet(workspace.items)
    now = time.time()
    os.utime(workspace.items, (now - age_s, now - age_s))
    return workspace


def test_training_takes_the_ingested_items_where_none_arrived(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, catalog(3))
    assert catalog_items(workspace).equals(catalog(3))
    assert not workspace.arrivals.exists(), "asking writes nothing"


def test_training_takes_items_that_arrived_and_their_newest_version(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, catalog(3), age_s=100)
    log = SqliteItemLog(workspace.arrivals)
    log.append([item("a-new", brand="b9", shade="dark"), item("i1", "Renamed", category="c3")])
    log.append([item("a-new", "Newer", brand="b1")])
    log.close()
    merged = catalog_items(workspace)
    assert merged["item_id"].to_list() == ["a-new", "i0", "i1", "i2"]
    assert merged.schema == catalog(3).schema
    assert merged.row(0, named=True) == {
        "item_id": "a-new",
        "title": "Newer",
        "text": None,
        "category": None,
        "brand": "b1",
    }
    assert merged.row(2)[:4] == ("i1", "Renamed", None, "c3")


def test_an_ingest_after_the_log_has_the_newer_word(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, catalog(3), age_s=-100)
    log = SqliteItemLog(workspace.arrivals)
    log.append([item("a-new"), item("i1", "Renamed")])
    log.close()
    assert ingested_at(workspace) > time.time()
    merged = catalog_items(workspace)
    assert merged["item_id"].to_list() == ["a-new", "i0", "i1", "i2"]
    assert merged.row(2, named=True)["title"] == "Item 1"
