"""A file of products, CSV or parquet, read in parts; a row that cannot be read comes with its reason instead."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import polars as pl

from models.artifacts import file_hash
from models.tagging import TagItem
from serving.errors import BackfillFailed, InvalidRequest

COLUMNS = ("item_id", "title")
"""What a file must have; ``text`` is optional, every other named column is an attribute."""
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that is none, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class ProductFile:
    """A checked file: ``rows`` data rows, cut into parts of ``part_rows``.

    ``offsets``: for CSV the byte at which each part starts. ``changed`` is size and modification time (ns) at checking.
    """

    path: Path
    kind: Literal["csv", "parquet"]
    columns: tuple[str, ...]
    rows: int
    part_rows: int
    sha256: str
    changed: tuple[int, int]
    offsets: tuple[int, ...] = ()

    @staticmethod
    def open(path: Path, part_rows: int) -> ProductFile:
        """Read the file once, to check, count and hash it. Raises BackfillFailed where it is no file of products."""
        path = path.absolute()
        try:
            with path.open("rb") as file:
                is_parquet = file.read(4) == b"PAR1"
            changed = _changed(path)
            found = _open_parquet(path) if is_parquet else _open_csv(path, part_rows)
            digest = file_hash(path)
        except OSError as error:
            raise BackfillFailed(f"the input {path} cannot be read ({error.strerror}); check --input") from error
        columns, rows, offsets = found
        missing = [name for name in COLUMNS if name not in columns]
        if missing:
            raise BackfillFailed(
                f"the input {path} has no column {' and no column '.join(missing)} (its columns: "
                f"{', '.join(columns)[:200] or 'none'}); give a CSV with a header or a parquet file with "
                f"{', '.join(COLUMNS)}"
            )
        kind: Literal["csv", "parquet"] = "parquet" if is_parquet else "csv"
        return ProductFile(path, kind, columns, rows, part_rows, digest, changed, offsets)

    def read(self, start: int, stop: int) -> list[Mapping[str, Any] | Unreadable]:
        """Rows from ``start``, a multiple of ``part_rows``, up to ``stop``. Raises BackfillFailed."""
        try:
            if _changed(self.path) != self.changed:
                raise BackfillFailed(f"the input {self.path} changed while it was read; start again, to a new --output")
            if self.kind == "parquet":
                frame = pl.scan_parquet(self.path, glob=False).slice(start, stop - start).collect()
                rows: list[Mapping[str, Any] | Unreadable] = list(frame.iter_rows(named=True))
            else:
                with self.path.open("rb") as file:
                    file.seek(self.offsets[start // self.part_rows])
                    rows = [self._named(fields) for fields in islice(_filled(_reader(file)), stop - start)]
        except (OSError, csv.Error, pl.exceptions.PolarsError) as error:
            raise BackfillFailed(f"rows {start} to {stop} of {self.path} cannot be read ({error})") from error
        if len(rows) != stop - start:
            raise BackfillFailed(f"{self.path} holds {len(rows)} rows from {start} on, {stop - start} were counted")
        return rows

    def _named(self, fields: list[str]) -> Mapping[str, Any] | Unreadable:
        if len(fields) != len(self.columns):
            return Unreadable(f"the row has {len(fields)} fields, the header names {len(self.columns)}")
        return {name: field for name, field in zip(self.columns, fields) if name}


def product(row: Mapping[str, Any] | Unreadable) -> tuple[str, TagItem]:
    """Id and product of a row. Raises InvalidRequest, naming the column and what is wrong with it."""
    if isinstance(row, Unreadable):
        raise InvalidRequest(row.reason)
    item_id = row["item_id"]
    if isinstance(item_id, int) and not isinstance(item_id, bool):
        item_id = str(item_id)
    item_id = _string("item_id", item_id)
    if not item_id.strip():
        raise InvalidRequest("item_id is missing")
    title = _string("title", row["title"])
    if not title.strip():
        raise InvalidRequest("title is missing; give the product's name as its seller writes it")
    attributes = {name: _attribute(name, value) for name, value in row.items() if name not in ("text", *COLUMNS)}
    return item_id, TagItem(
        title, _string("text", row.get("text")), {name: value for name, value in attributes.items() if value}
    )


def shown_id(row: Mapping[str, Any] | Unreadable) -> str | None:
    """The id of a row for a dead letter, as far as there is one."""
    value = None if isinstance(row, Unreadable) else row.get("item_id")
    return None if value is None or value == "" else str(value).encode("utf-8", "replace").decode()[:256]


def _string(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} is {repr(value)[:_SHOWN]}, a {type(value).__name__}; give text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{name} is no UTF-8; save the file as UTF-8") from None
    return value


def _attribute(name: str, value: Any) -> str:
    """An attribute as text, as the catalog keeps it: numbers as written, lists joined by commas."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list):
        return ", ".join(_attribute(name, part) for part in value)
    if isinstance(value, (dict, bytes)):
        raise InvalidRequest(f"attribute {name} is a {type(value).__name__}; give text, a number or a list of them")
    return _string(name, value if isinstance(value, str) else str(value))


def _changed(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _open_parquet(path: Path) -> tuple[tuple[str, ...], int, tuple[int, ...]]:
    try:
        frame = pl.scan_parquet(path, glob=False)
        return tuple(frame.collect_schema().names()), int(frame.select(pl.len()).collect().item()), ()
    except pl.exceptions.PolarsError as error:
        raise BackfillFailed(f"the input {path} is a damaged parquet file ({error}); write it again") from error


def _open_csv(path: Path, part_rows: int) -> tuple[tuple[str, ...], int, tuple[int, ...]]:
    with path.open("rb") as file:
        reader = _filled(_reader(file))
        try:
            header = tuple(name.strip() for name in next(reader, []))
            named = [name for name in header if name]
            if len(set(named)) < len(named):
                raise BackfillFailed(f"the header of {path} names a column twice: {', '.join(header)}; rename one")
            offsets = [file.tell()]
            rows = 0
            for rows, _ in enumerate(reader, 1):
                if rows % part_rows == 0:
                    offsets.append(file.tell())
        except csv.Error as error:
            raise BackfillFailed(f"the input {path} is no CSV ({error}); give a CSV or parquet file") from error
    return header, rows, tuple(offsets)


def _reader(file: IO[bytes]) -> Iterator[list[str]]:
    """Rows of a CSV from where the file stands; ``file.tell()`` is where the next row starts.

    Bytes that are no UTF-8 become lone surrogates, which are refused where they stand and nowhere else.
    """
    csv.field_size_limit(sys.maxsize)
    start = file.tell()

    def lines() -> Iterator[str]:
        # Not `for line in file`: it reads ahead, and tell() would not say where the row ends.
        first = start == 0
        while line := file.readline():
            yield line.decode("utf-8-sig" if first else "utf-8", "surrogateescape")
            first = False

    return csv.reader(lines())


def _filled(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """Without blank lines, which are no rows."""
    return (fields for fields in rows if fields)
