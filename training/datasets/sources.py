"""Where the rows come from: files read as they are, and the description of a dataset that `ingest` takes."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from training.datasets.errors import SourceUnreadable
from training.datasets.schema import VERSION

Progress = Callable[[str, float], None]
"""Called with the stage's text and the fraction of the whole ingest that is done, 0 to 1."""

AUTO: Final = "auto"
"""As a label column: ``category`` where the items have such a column, else none."""

PARQUET: Final = (".parquet", ".pq")


def silent(_stage: str, _fraction: float) -> None:
    """The progress callback of a caller that shows none."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Rows that the definition of a dataset sets aside, e.g. a department that is no merchandise.

    ``when`` is a boolean expression over the source table. ``excluded`` rows are no fault and go before every check;
    the others count as rejected and go after them.
    """

    reason: str
    when: pl.Expr
    excluded: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """One source table. ``name`` is what messages call it; in an untyped one (CSV) every column is a String."""

    name: str
    frame: pl.DataFrame
    typed: bool = True
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Tables:
    items: Table
    interactions: Table
    users: Table | None = None
    offers: Table | None = None


@dataclass(frozen=True, slots=True)
class Sources:
    """A dataset to ingest. ``load`` is called only where ``fingerprint`` differs from what the workspace holds."""

    dataset: str
    fingerprint: str
    load: Callable[[], Tables]
    ontology: str = "generic"
    label_column: str | None = AUTO
    timestamp_format: str | None = None


def fingerprint(files: list[Path], *options: object) -> str:
    """SHA-256 over the files' contents, the options and the schema version. Raises SourceUnreadable."""
    digest = hashlib.sha256(repr((VERSION, *options)).encode())
    for path in files:
        digest.update(file_hash(check_file(path)).encode())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: Path) -> Path:
    """The path, or SourceUnreadable where it is no file that `read_table` could read."""
    if not path.exists():
        raise SourceUnreadable(f"{path} does not exist. Check the path; a relative one starts at {Path.cwd()}")
    if not path.is_file():
        raise SourceUnreadable(f"{path} is no file. Name one .csv or .parquet file")
    if path.suffix.lower() not in (".csv", *PARQUET):
        raise SourceUnreadable(f"{path} has the suffix '{path.suffix}'. Write the table as .csv or .parquet")
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except OSError as error:
        raise SourceUnreadable(f"{path} cannot be read ({error.strerror}). Check its permissions") from error
    if not size:
        raise SourceUnreadable(f"{path} is empty (0 bytes). Export it again")
    return path


def read_table(path: Path) -> Table:
    """Read a table as it is, by suffix. CSV columns all stay String, so that an id such as 007 survives.

    Raises SourceUnreadable where the file is missing, of another kind, damaged, or has no rows.
    """
    check_file(path)
    typed = path.suffix.lower() in PARQUET
    try:
        frame = pl.read_parquet(path) if typed else pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        ragged = None if typed else _ragged(path)
        if ragged:
            raise SourceUnreadable(f"{path} cannot be read as csv: {ragged}") from error
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        remedy = (
            "Export it again" if typed else "Save it as comma-separated UTF-8, with every row as long as the header"
        )
        raise SourceUnreadable(f"{path} cannot be read as {path.suffix.lower()[1:]} ({cause}). {remedy}") from error
    if frame.is_empty():
        raise SourceUnreadable(f"{path} has a header and no rows. Export it again, or leave the file out if optional")
    return Table(str(path), frame, typed)


def _ragged(path: Path) -> str | None:
    """The first row of a CSV with more fields than the header, in words."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = csv.reader(file)
        try:
            width = len(next(rows, []))
            for row in rows:
                if len(row) > width:
                    return (
                        f"line {rows.line_num} has {len(row)} fields, the header names {width}. Quote the field that "
                        "holds a comma, or correct the row"
                    )
        except csv.Error:
            return None
    return None


def file_sources(
    items: Path,
    interactions: Path,
    users: Path | None = None,
    offers: Path | None = None,
    *,
    dataset: str | None = None,
    label_column: str | None = AUTO,
    ontology: str = "generic",
    timestamp_format: str | None = None,
) -> Sources:
    """Sources of CSV or parquet files. ``dataset`` defaults to the name of the folder that holds the items."""
    name = dataset or items.resolve().parent.name or "dataset"
    return Sources(
        dataset=name,
        fingerprint=fingerprint(
            [items, interactions] + [path for path in (users, offers) if path],
            *("files", name, label_column, ontology, timestamp_format, users is not None),
            # a renamed .csv is another reading of the same bytes
            *(path.suffix.lower() for path in (items, interactions, users) if path),
            *(("offers", offers.suffix.lower()) if offers else ()),
        ),
        load=lambda: Tables(
            read_table(items),
            read_table(interactions),
            read_table(users) if users else None,
            read_table(offers) if offers else None,
        ),
        ontology=ontology,
        label_column=label_column,
        timestamp_format=timestamp_format,
    )
