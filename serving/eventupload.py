"""Events that were read from a file, to a running service: in batches, and what is refused is named by its row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import polars as pl

from serving.client import CallFailed, Client, event
from serving.upload import RejectedRow

BATCH: Final = 500
"""Events of one call."""
Progress = Callable[[str, float], None]


@dataclass(slots=True)
class EventReport:
    """Rows of the file by what became of them; see `RecordEventsReply`. ``degraded``: why answers lag behind."""

    rows: int = 0
    recorded: int = 0
    duplicates: int = 0
    rejected: list[RejectedRow] = field(default_factory=list)
    unknown_items: list[str] = field(default_factory=list)
    degraded: str = ""


def upload_events(client: Client, events: pl.DataFrame, progress: Progress = lambda *_: None) -> EventReport:
    """Send interactions in their canonical form, in their order, each with its ``row`` and perhaps an ``event_id``.

    One that is refused is reported and the others are recorded. Raises CallFailed where the service does not answer;
    its message says which rows are recorded.
    """
    report = EventReport(rows=events.height)
    unknown: set[str] = set()
    for start in range(0, events.height, BATCH):
        progress("recording events", start / events.height)
        batch = [(row["row"], _message(row)) for row in events.slice(start, BATCH).iter_rows(named=True)]
        try:
            _send(client, batch, report, unknown)
        except CallFailed as error:
            if not start:
                raise
            raise CallFailed(
                error.code,
                f"{error.details.rstrip('.')}. Events up to row {events['row'][start - 1]} were sent and are kept: "
                "send the rows after it, or the whole file again where every row has its event_id",
            ) from None
    progress("recorded", 1.0)
    report.rejected.sort(key=lambda one: one.row)
    report.unknown_items = sorted(unknown)
    return report


def _message(row: dict[str, Any]) -> Any:
    return event(
        row["user_id"],
        row["item_id"],
        row["event"],
        row["value"],
        int(row["timestamp"].timestamp()),
        session_id=row["session_id"],
        place=row.get("place") or "",
        price=row.get("price") or 0.0,
        event_id=row.get("event_id") or "",
    )


def _send(client: Client, rows: Sequence[tuple[int, Any]], report: EventReport, unknown: set[str]) -> None:
    """Send rows in one call; one that is refused for a bad row is sent in halves, until the row stands alone."""
    try:
        reply = client.record_events([message for _, message in rows])
    except CallFailed as error:
        if error.code is not grpc.StatusCode.INVALID_ARGUMENT:
            raise
        if len(rows) == 1:
            ((number, message),) = rows
            report.rejected.append(RejectedRow(number, message.item_id, error.details.removeprefix("events[0].")))
            return
        _send(client, rows[: len(rows) // 2], report, unknown)
        _send(client, rows[len(rows) // 2 :], report, unknown)
        return
    report.recorded += reply.recorded
    report.duplicates += reply.duplicates
    unknown.update(reply.unknown_items)
    report.degraded = "; ".join(part.cause for part in reply.degraded)
