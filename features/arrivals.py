"""Items that arrive after training: written down first, then read as rows of the item table they extend."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from features.daystates import DayStates
from features.items import ItemTable
from features.keys import item_keys
from features.sqlitefile import SqliteFile
from features.workspace import Workspace

_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    item_id TEXT NOT NULL,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    attributes TEXT NOT NULL,
    time REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS vectors (
    model TEXT NOT NULL,
    text TEXT NOT NULL,
    vector BLOB NOT NULL,
    PRIMARY KEY (model, text)
);
"""
_MANY = 500
"""Placeholders per statement, below SQLite's limit on every build."""
OWN = ("item_id", "title", "text")
"""Columns of an item that are no attributes."""


@dataclass(frozen=True, slots=True)
class CatalogItem:
    """An item as its seller describes it; attribute values as text, lists joined by commas."""

    item_id: str
    title: str
    text: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoggedItem:
    """The version of an item with this number in the log; ``time`` in seconds since 1970, by the wall."""

    seq: int
    item: CatalogItem
    time: float


class SqliteItemLog:
    """An append-only log of items in one SQLite file, safe for several threads and processes on one machine.

    What ``append`` returned for is on disk. The file also keeps the vectors of the items' texts, so that every process
    and every start works with the same ones. Raises StoreUnavailable where the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, _SCHEMA, "item log")

    def append(self, items: Sequence[CatalogItem]) -> None:
        """Append new versions of items, all or none."""
        now = time.time()
        rows = [
            (item.item_id, item.title, item.text, json.dumps(dict(item.attributes), sort_keys=True), now)
            for item in items
        ]
        with self._file.transaction(), self._file.guard():
            self._file.db.executemany(
                "INSERT INTO items (item_id, title, text, attributes, time) VALUES (?, ?, ?, ?, ?)", rows
            )

    def newest(self) -> int:
        """The number of the newest entry, 0 for an empty log; microseconds, so it can be asked often."""
        with self._file.guard():
            return int(self._file.db.execute("SELECT coalesce(max(seq), 0) FROM items").fetchone()[0])

    def after(self, seq: int) -> list[LoggedItem]:
        """The newest version of every item logged after entry ``seq``, in the order the items first came."""
        with self._file.guard():
            rows = self._file.db.execute(
                "SELECT seq, item_id, title, text, attributes, time FROM items WHERE seq > ? ORDER BY seq", (seq,)
            ).fetchall()
        newest: dict[str, LoggedItem] = {}
        for number, item_id, title, text, attributes, at in rows:
            # A dict keeps the place of the first version: a start that reads all at once numbers the rows as the
            # process did that saw them come one by one.
            newest[item_id] = LoggedItem(number, CatalogItem(item_id, title, text, json.loads(attributes)), at)
        return list(newest.values())

    def vectors(self, model: str, texts: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        """The kept vectors of these texts, as far as there are any."""
        found: dict[str, npt.NDArray[np.float32]] = {}
        for start in range(0, len(texts), _MANY):
            some = list(texts[start : start + _MANY])
            marks = ",".join("?" * len(some))
            with self._file.guard():
                rows = self._file.db.execute(
                    f"SELECT text, vector FROM vectors WHERE model = ? AND text IN ({marks})", [model, *some]
                ).fetchall()
            found.update((text, np.frombuffer(vector, "<f4").astype(np.float32)) for text, vector in rows)
        return found

    def keep_vectors(self, model: str, vectors: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Keep vectors; where another process kept one of the same text first, that one stays."""
        rows = [(model, text, vector.astype("<f4").tobytes()) for text, vector in vectors.items()]
        with self._file.transaction(), self._file.guard():
            self._file.db.executemany(
                "INSERT INTO vectors (model, text, vector) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", rows
            )

    def close(self) -> None:
        self._file.close()


def typed_row(item: CatalogItem, schema: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The item as a row of a catalog with this schema (polars dtypes by column), and what of it could not be read.

    Columns the item does not name are null; names that are no column of the schema are left out. A list is written as a
    JSON array or with commas between its parts.
    """
    row: dict[str, Any] = {"item_id": item.item_id, "title": item.title.strip(), "text": item.text.strip() or None}
    problems = []
    for name, dtype in schema.items():
        if name in OWN:
            continue
        value: Any = item.attributes.get(name, "").strip() or None
        if value is not None and isinstance(dtype, pl.List):
            value = _listed(value)
        elif value is not None and dtype.is_numeric():
            try:
                number = float(value)
            except ValueError:
                number = math.nan
            if not math.isfinite(number):
                problems.append(
                    f"attribute {name} is {value[:50]!r} and the catalog keeps numbers there; give a number"
                )
            value = number if math.isfinite(number) else None
        row[name] = value
    return row, problems


def _listed(value: str) -> list[str] | None:
    """A list of text: a JSON array, which may be empty, else parts between commas; null where there are none."""
    if value.startswith("["):
        try:
            found = json.loads(value)
        except ValueError:
            found = None
        if isinstance(found, list) and all(isinstance(part, str) for part in found):
            return [part.strip() for part in found if part.strip()]
    return [part for part in (piece.strip() for piece in value.split(",")) if part] or None


def unknown_attributes(item: CatalogItem, schema: Mapping[str, Any]) -> list[str]:
    """The item's attribute names that a catalog with this schema has no column for."""
    return [name for name in item.attributes if name not in schema or name in OWN]


def with_changed(table: ItemTable, rows: npt.NDArray[np.int64], frame: pl.DataFrame) -> ItemTable:
    """The table with another title, text and attributes for ``rows``; ``frame`` [len(rows)] has its columns.

    Statistics, neighbours and how much sooner than its kind it is had again stay: the item is the same and was bought
    as before. Groups and kind are those of its new values, as in ``ItemTable.extended``: a process that only ever saw
    the newest version of an item computes the same features.
    """
    if not len(rows):
        return table
    position = np.arange(len(table))
    position[rows] = len(table) + np.arange(len(rows))
    groups, values = table.groups.copy(), []
    for slot, (name, old) in enumerate(zip(table.group_names, table.group_values)):
        codes = {value: code for code, value in enumerate(old)}
        for row, value in zip(rows.tolist(), frame[name].cast(pl.String).to_list()):
            groups[row, slot] = -1 if value is None else codes.setdefault(value, len(codes))
        values.append(tuple(codes))
    titles = list(table.titles)
    for row, title in zip(rows.tolist(), frame["title"].to_list()):
        titles[row] = title
    changed = replace(
        table,
        frame=pl.concat([table.frame, frame])[position],
        groups=groups,
        group_values=tuple(values),
        titles=tuple(titles),
    )
    kind = table.repurchase.kind.copy()
    kind[rows] = table.kinds_of(groups[rows])
    if np.array_equal(kind, table.repurchase.kind):
        return changed
    # Trends, and what was sold at a place, are sums over kinds: days the old table remembers are not this one's.
    return replace(changed, repurchase=replace(table.repurchase, kind=kind), _days=DayStates(), _place_days=DayStates())


def collides(table: ItemTable, item_id: str) -> str:
    """The id of another item of the table with the same 64-bit key, or "": their histories could not be told apart."""
    row = int(table.rows_of(item_keys([item_id]))[0])
    return "" if row < 0 or table.item_ids[row] == item_id else table.item_ids[row]


def ingested_at(workspace: Workspace) -> float:
    """When the workspace's catalog was ingested, seconds since 1970; of it and the log the newer word holds."""
    return workspace.items.stat().st_mtime


def arrived_items(workspace: Workspace) -> list[LoggedItem]:
    """The newest version of every item in the workspace's log; none where nothing ever arrived."""
    if not workspace.arrivals.exists():
        return []
    log = SqliteItemLog(workspace.arrivals)
    try:
        return log.after(0)
    finally:
        log.close()


def catalog_items(workspace: Workspace) -> pl.DataFrame:
    """The ingested items with those that arrived since, sorted by id: the catalog that training builds on.

    An item logged after the ingest replaces the ingested one; one logged before it is only added where the ingest does
    not have it.
    """
    items, logged = pl.read_parquet(workspace.items), arrived_items(workspace)
    known, newest = set(items["item_id"].to_list()), ingested_at(workspace)
    rows = [
        typed_row(entry.item, items.schema)[0]
        for entry in logged
        if entry.item.item_id not in known or entry.time > newest
    ]
    if not rows:
        return items
    arrived = pl.DataFrame(rows, schema=items.schema)
    kept = items.filter(~pl.col("item_id").is_in(arrived["item_id"].implode()))
    return pl.concat([kept, arrived]).sort("item_id")
