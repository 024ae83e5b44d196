"""RecordEvents: kept durably, then shown to the next request of the same users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from features.keys import item_keys
from features.ports import Event
from serving.services import Services


@dataclass(frozen=True, slots=True)
class RecordedEvents:
    """How many were new, how many known before, which items the catalog lacks, and what does not show them yet."""

    recorded: int
    duplicates: int
    unknown_items: tuple[str, ...]
    outage: str


def record_events(services: Services, events: Sequence[Event]) -> RecordedEvents:
    """Append and push. Raises StoreUnavailable where nothing could be written."""
    outcome = services.recorder.record(events)
    ids = sorted({event.item_id for event in events})
    unknown = tuple(item for item, row in zip(ids, services.table.rows_of(item_keys(ids))) if row < 0)
    return RecordedEvents(outcome.new, len(events) - outcome.new, unknown, outcome.outage)
