"""A file of interactions for the running service, read and judged as `ingest` does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import polars as pl

from training.datasets.columns import read_ids
from training.datasets.errors import InvalidTable
from training.datasets.report import Findings, Notice
from training.datasets.schema import INTERACTION_COLUMNS, OPTIONAL_COLUMNS, REJECT_COLUMNS
from training.datasets.screen import DUPLICATE
from training.datasets.sources import read_table
from training.datasets.tables import read_interactions

EVENT_ID: Final = "event_id"


@dataclass(frozen=True, slots=True)
class EventFile:
    """``events``: canonical interactions in the file's order, with ``row`` (1 = first data row) and, where the file has
    it, ``event_id``. ``rejects``: (row, item_id, reason) of the rows set aside. ``duplicates``: exact copies of earlier
    rows, left out. ``rows`` of the file."""

    events: pl.DataFrame
    rejects: tuple[tuple[int, str, str], ...]
    duplicates: int
    notices: tuple[Notice, ...]
    rows: int


def read_events(path: Path, timestamp_format: str | None = None, *, now: datetime | None = None) -> EventFile:
    """Raises SourceUnreadable, or InvalidTable carrying every problem found. Any item_id will do."""
    table, findings = read_table(path), Findings()
    read = read_interactions(table, None, findings, now or datetime.now(UTC), timestamp_format, used=(EVENT_ID,))
    if read is None:
        raise InvalidTable(findings.problems)
    columns, screen = read
    contract = [column for column in columns if column.name in (*INTERACTION_COLUMNS, *OPTIONAL_COLUMNS)]
    frame = pl.DataFrame(contract).with_row_index("row", offset=1)
    if EVENT_ID in table.frame.columns:
        frame = frame.with_columns(read_ids(table.frame[EVENT_ID], table.name, findings))
    findings.raise_problems()
    reason = pl.col(REJECT_COLUMNS[1])
    rejects = screen.rejects.select(REJECT_COLUMNS[0], pl.col("item_id").cast(pl.String).fill_null(""), reason)
    return EventFile(
        frame.filter(screen.kept),
        tuple(rejects.filter(reason != DUPLICATE).iter_rows()),
        rejects.filter(reason == DUPLICATE).height,
        # What rows were set aside for is told row by row.
        tuple(notice for notice in findings.notices if notice.kind not in set(rejects[REJECT_COLUMNS[1]])),
        frame.height,
    )
