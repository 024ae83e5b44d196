"""What an ingest found and did: counts per table, notices with examples, and the report written beside the data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast

import polars as pl

from training.datasets.errors import InvalidTable
from training.datasets.schema import TableName

EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class TableCount:
    """Where the rows of one table went: ``rows_in == rows_out + sum(rejected) + sum(excluded)``, always.

    ``rejected`` and ``excluded`` map a reason to its rows. Rejected rows are faulty, excluded ones are left out by the
    definition of the dataset; both are kept in ``data/rejects``.
    """

    rows_in: int
    rows_out: int
    rejected: dict[str, int] = field(default_factory=dict)
    excluded: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something counted while ingesting. A warning is about the data's quality, a note about how it was read."""

    level: Literal["warning", "note"]
    table: TableName
    kind: str
    count: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IngestReport:
    """The outcome of one ingest, as written to ``data/ingest.json``.

    ``fingerprint`` identifies the sources and options, ``data_hash`` the canonical data; ``files`` maps each written
    file (relative to ``data``) to its SHA-256, so that a damaged workspace is noticed.
    """

    status: Literal["ingested", "unchanged"]
    dataset: str
    data_hash: str
    fingerprint: str
    tables: dict[TableName, TableCount]
    notices: tuple[Notice, ...]
    files: dict[str, str]
    seconds: float

    @property
    def warnings(self) -> tuple[Notice, ...]:
        return tuple(notice for notice in self.notices if notice.level == "warning")

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> IngestReport:
        """Raises ValueError, TypeError or KeyError where the text is no report of this version."""
        raw = cast("dict[str, Any]", json.loads(text))
        raw["tables"] = {name: TableCount(**count) for name, count in raw["tables"].items()}
        raw["notices"] = tuple(Notice(**{**n, "examples": tuple(n["examples"])}) for n in raw["notices"])
        return cls(**raw)


class Findings:
    """Collects problems (which stop the ingest, all of them in one error) and notices (which do not)."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.notices: list[Notice] = []

    def problem(self, source: str, what: str) -> None:
        self.problems.append(f"{source}: {what}")

    def warn(self, table: TableName, kind: str, count: int, examples: tuple[str, ...] = ()) -> None:
        if count:
            self.notices.append(Notice("warning", table, kind, count, examples))

    def note(self, table: TableName, kind: str, count: int, examples: tuple[str, ...] = ()) -> None:
        if count:
            self.notices.append(Notice("note", table, kind, count, examples))

    def raise_problems(self) -> None:
        if self.problems:
            raise InvalidTable(self.problems)


def examples(values: pl.Series, mask: pl.Series) -> tuple[str, ...]:
    """The first values where the mask holds, each with its row number (1 = first data row, header not counted)."""
    rows = mask.arg_true().head(EXAMPLES)
    return tuple(f"row {row + 1}: {_short(value)}" for row, value in zip(rows, values.gather(rows), strict=True))


def listed(values: pl.Series, mask: pl.Series) -> str:
    """The same examples as one phrase, with how many more there are."""
    more = int(mask.sum()) - EXAMPLES
    return ", ".join(examples(values, mask)) + (f" and {more} more" if more > 0 else "")


def _short(value: object) -> str:
    text = "null" if value is None else value if isinstance(value, str) else str(value)
    text = text if len(text) <= 80 else text[:77] + "..."
    return f"'{text}'" if isinstance(value, str) else text
