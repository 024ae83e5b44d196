"""A file of items into the catalog of a running service, without retraining."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from serving.client import CallFailed, Client, item
from serving.errors import InvalidRequest
from serving.products import ProductFile, product, shown_id

BATCH: Final = 200
"""Items of one call."""
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A data row of the file (counted from 1) that was not taken, and why."""

    row: int
    item_id: str
    reason: str


@dataclass(slots=True)
class UploadReport:
    """Rows of the file by what became of them; see `UpsertItemsReply`."""

    rows: int = 0
    recorded: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: list[RejectedRow] = field(default_factory=list)
    unknown_attributes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Row:
    number: int
    item_id: str
    message: Any


def upload(client: Client, source: Path, progress: Progress = lambda *_: None) -> UploadReport:
    """Send every item of ``source`` (CSV or parquet: item_id, title; optional text; attributes), in its order.

    A row that is refused is reported and the others are taken; so is one whose id an earlier row
    has. Sending a file again is harmless: what is known is unchanged. Raises BackfillFailed where the file is none of
    items, CallFailed where the service does not answer.
    """
    file = ProductFile.open(source, BATCH)
    report = UploadReport(rows=file.rows)
    seen: dict[str, tuple[int, int]] = {}
    for start in range(0, file.rows, BATCH):
        progress("uploading items", start / file.rows)
        batch = []
        for number, row in enumerate(file.read(start, min(start + BATCH, file.rows)), start + 1):
            try:
                item_id, read = product(row)
            except InvalidRequest as error:
                report.rejected.append(RejectedRow(number, shown_id(row) or "", str(error)))
                continue
            content = hash((read.title, read.text, tuple(sorted(read.attributes.items()))))
            first, known = seen.setdefault(item_id, (number, content))
            if first != number:
                how = "exactly" if known == content else "with other values; keep one row per id"
                report.rejected.append(RejectedRow(number, item_id, f"row {first} has this item_id as well, {how}"))
                continue
            batch.append(_Row(number, item_id, item(read.title, read.text, read.attributes, item_id)))
        _send(client, batch, report)
    progress("uploaded", 1.0)
    report.rejected.sort(key=lambda one: one.row)
    return report


def _send(client: Client, rows: Sequence[_Row], report: UploadReport) -> None:
    """Send rows in one call; one that is refused for a bad row is sent in halves, until the row stands alone."""
    if not rows:
        return
    try:
        reply = client.upsert_items([row.message for row in rows])
    except CallFailed as error:
        if error.code is not grpc.StatusCode.INVALID_ARGUMENT:
            raise
        if len(rows) == 1:
            report.rejected.append(RejectedRow(rows[0].number, rows[0].item_id, error.details))
            return
        _send(client, rows[: len(rows) // 2], report)
        _send(client, rows[len(rows) // 2 :], report)
        return
    report.recorded += reply.recorded
    report.updated += reply.updated
    report.unchanged += reply.unchanged
    numbers = {row.item_id: row.number for row in rows}
    report.rejected += [RejectedRow(numbers[one.item_id], one.item_id, one.reason) for one in reply.rejected]
    report.unknown_attributes = sorted({*report.unknown_attributes, *reply.unknown_attributes})
