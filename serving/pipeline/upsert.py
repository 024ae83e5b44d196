"""UpsertItems: written down durably, then shown to every request that begins afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from features.arrivals import CatalogItem
from serving.live import LiveServices
from serving.messages import UpsertedItems


async def upsert_items(live: LiveServices, items: Sequence[CatalogItem]) -> UpsertedItems:
    """Off the event loop: embedding takes milliseconds a text, and other requests do not wait for it.

    Not on the workers that embed for requests either: a few uploads at once would take all of them. Raises
    StoreUnavailable where nothing could be written.
    """
    return await asyncio.to_thread(live.upsert, items)
