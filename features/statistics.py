"""Item statistics of any day from what happened before it: counts per item and day, summed up when a day is asked for.

A matrix of every item on every day would take gigabytes for a large catalog; the counts take 16 bytes for each item
and day that had an event, and a day's statistics a few milliseconds, once a day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from features.schema import ITEM_STATS

DAY: Final = 86_400
WEEK: Final = 7 * DAY
WINDOWS: Final = (1, 7, 28, 91)
"""Days that the i_count columns look back."""
_FIELDS: Final = ("day", "row", "n", "first")


@dataclass(frozen=True, slots=True, eq=False)
class Activity:
    """Events per item and day, in order of (day, row): int32 arrays [entries].

    ``day``: days since 1970, UTC. ``row``: item. ``n``: events. ``first``: those that were their user's first with
    the item.
    """

    day: npt.NDArray[np.int32]
    row: npt.NDArray[np.int32]
    n: npt.NDArray[np.int32]
    first: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.day)

    @staticmethod
    def count(
        user: npt.NDArray[np.int64], row: npt.NDArray[np.int64], time: npt.NDArray[np.int64], items: int
    ) -> Activity:
        """From events [n] in any order: user codes, item rows (0 to ``items`` - 1) and seconds since 1970."""
        if not len(time):
            empty = np.empty(0, np.int32)
            return Activity(empty, empty, empty, empty)
        pair = user * items + row
        order = np.lexsort((time, pair))
        new = np.zeros(len(pair), bool)
        new[order[np.flatnonzero(np.diff(pair[order], prepend=-1))]] = True
        entry, at = np.unique(time // DAY * items + row, return_inverse=True)
        return Activity(
            (entry // items).astype(np.int32),
            (entry % items).astype(np.int32),
            np.bincount(at, minlength=len(entry)).astype(np.int32),
            np.bincount(at, new, len(entry)).astype(np.int32),
        )

    def at(self, day: int, items: int) -> npt.NDArray[np.float32]:
        """The statistics [items, len(ITEM_STATS)] of all days before ``day``; NaN rows for items without an event."""
        end = int(np.searchsorted(self.day, day, side="left"))

        def total(values: npt.NDArray[np.int32], days: int | None = None) -> npt.NDArray[np.float64]:
            start = 0 if days is None else int(np.searchsorted(self.day, day - days, side="left"))
            return np.bincount(self.row[start:end], values[start:end], items).astype(np.float64, copy=False)

        found = np.empty((items, len(ITEM_STATS)), np.float32)
        counts = [total(self.n, days) for days in WINDOWS]
        events, users = total(self.n), total(self.first)
        begun = np.zeros(items)
        # Written backwards the first day stays.
        begun[self.row[:end][::-1]] = self.day[:end][::-1]
        known = events > 0
        for at, count in enumerate(counts):
            found[:, at] = count
        _, week, month, quarter = counts
        found[:, 4] = events
        found[:, 5] = users
        found[:, 6] = (events - users) / np.maximum(events, 1)
        found[:, 7] = np.log((week + 1) / (month / 4 + 1))
        found[:, 8] = np.log((month + 1) / (quarter / 3.25 + 1))
        found[:, 9] = day - begun
        found[~known] = np.nan
        return found

    def weeks(self) -> npt.NDArray[np.int64]:
        """Days that begin a week (since 1970), from the first after the first event to the first after the last."""
        if not len(self):
            return np.zeros(0, np.int64)
        return np.arange(int(self.day[0]) // 7 + 1, int(self.day[-1]) // 7 + 2) * 7

    def arrays(self) -> dict[str, npt.NDArray[np.int32]]:
        """By name, to save and to load."""
        return {name: getattr(self, name) for name in _FIELDS}


def long_form(activity: Activity, item_ids: pl.Series) -> pl.DataFrame:
    """Weekly statistics as rows (item_id, event_timestamp, stats): the offline source of Feast's item view.

    A row is written only where an item's statistics differ from its row before, its age apart: a point-in-time join
    finds the last change. Age moves every day and follows from the first, so the source leaves it out.
    """
    names = [column.name for column in ITEM_STATS[:-1]]
    stamp = pl.Datetime("us", "UTC")
    parts = [pl.DataFrame(schema={**dict.fromkeys(names, pl.Float32), "item_id": pl.String, "event_timestamp": stamp})]
    previous = np.full((len(item_ids), len(names)), np.nan, np.float32)
    for day in activity.weeks():
        current = activity.at(int(day), len(item_ids))[:, :-1]
        changed = np.flatnonzero(((current != previous) & ~(np.isnan(current) & np.isnan(previous))).any(axis=1))
        parts.append(
            pl.DataFrame(current[changed], schema=names).with_columns(
                item_id=item_ids.gather(changed),
                event_timestamp=pl.lit(int(day) * DAY * 1_000_000).cast(stamp),
            )
        )
        previous = current
    return pl.concat(parts).select("item_id", "event_timestamp", *names)
