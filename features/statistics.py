"""Item statistics as weekly snapshots: what was known of every item at the start of each week (polars, pure)."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from features.schema import ITEM_STATS

WEEK: Final = 7 * 86_400
DAY: Final = 86_400


def weekly_counts(interactions: pl.DataFrame) -> pl.DataFrame:
    """Events per (item, week): columns item (row number), week (weeks since 1970), n, n_first, first (seconds).

    ``interactions``: columns ``user`` and ``item`` (row numbers), ``time`` (seconds since 1970), in order of time.
    ``n_first`` counts the users whose first event with the item falls into the week.
    """
    return (
        interactions.with_columns(
            week=pl.col("time") // WEEK,
            is_first=pl.struct("user", "item").is_first_distinct(),
        )
        .group_by("item", "week")
        .agg(n=pl.len(), n_first=pl.col("is_first").sum(), first=pl.col("time").min())
        .sort("week", "item")
    )


def snapshots(counts: pl.DataFrame, items: int, weeks: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The last ``weeks`` weekly snapshots and the one after the data's last week.

    Returns times [w] (seconds; a snapshot holds what happened strictly before its time) and values [w, items, stats].
    """
    if counts.is_empty():
        return np.zeros(1, np.int64), np.full((1, items, len(ITEM_STATS)), np.nan, np.float32)
    first_week, last_week = int(counts["week"][0]), int(counts["week"][-1])
    span = last_week - first_week + 1
    n = np.zeros((span + 1, items), np.float32)
    n_first = np.zeros((span + 1, items), np.float32)
    week = (counts["week"] - first_week).to_numpy()
    item = counts["item"].to_numpy()
    n[week, item] = counts["n"].to_numpy()
    n_first[week, item] = counts["n_first"].to_numpy()
    seen = np.full(items, np.inf)
    np.minimum.at(seen, item, counts["first"].to_numpy())

    kept = np.arange(max(1, span + 1 - weeks), span + 1)
    times = (first_week + kept) * WEEK
    values = np.empty((len(kept), items, len(ITEM_STATS)), np.float32)
    total = n[: kept[0]].sum(axis=0)
    users = n_first[: kept[0]].sum(axis=0)
    for position, end in enumerate(kept):
        if position:
            total += n[end - 1]
            users += n_first[end - 1]
        last_7 = n[end - 1]
        last_28 = n[max(0, end - 4) : end].sum(axis=0)
        known = total > 0
        snapshot = values[position]
        snapshot[:, 0] = last_7
        snapshot[:, 1] = last_28
        snapshot[:, 2] = total
        snapshot[:, 3] = users
        with np.errstate(invalid="ignore", divide="ignore"):
            snapshot[:, 4] = (total - users) / total
        snapshot[:, 5] = np.log((last_7 + 1) / (last_28 / 4 + 1))
        snapshot[:, 6] = (times[position] - seen) / DAY
        snapshot[~known] = np.nan
    return times.astype(np.int64), values


def long_form(times: npt.NDArray[np.int64], values: npt.NDArray[np.float32], item_ids: pl.Series) -> pl.DataFrame:
    """Snapshots as rows (item_id, event_timestamp, stats): the offline source of Feast's item view.

    A row is written only where an item's statistics differ from its row before, its age apart: a point-in-time join
    finds the last change. Age moves every day and is derived by ``snapshots``, so the source leaves it out.
    """
    names = [column.name for column in ITEM_STATS[:-1]]
    parts = []
    previous = np.full(values.shape[1:], np.nan, np.float32)[:, :-1]
    for time, snapshot in zip(times, values):
        current = snapshot[:, :-1]
        changed = np.flatnonzero(((current != previous) & ~(np.isnan(current) & np.isnan(previous))).any(axis=1))
        frame = pl.DataFrame(current[changed], schema=names).with_columns(
            item_id=item_ids.gather(changed),
            event_timestamp=pl.lit(int(time) * 1_000_000).cast(pl.Datetime("us", "UTC")),
        )
        parts.append(frame)
        previous = current
    return pl.concat(parts).select("item_id", "event_timestamp", *names)
