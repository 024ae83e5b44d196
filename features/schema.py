"""The one schema of ranking columns: training, serving and backfill compute these, in this order, or refuse to run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the ranking matrix; ``meaning`` states what it counts and its unit."""

    name: str
    meaning: str


AFFINITY_SLOTS: Final = 3
"""How many attribute columns of a catalog get affinity features (see ItemTable.groups)."""

ITEM_STATS: Final = (
    Column("i_count_7d", "events with the item in the 7 days before the snapshot"),
    Column("i_count_28d", "events with the item in the 28 days before the snapshot"),
    Column("i_count_all", "events with the item before the snapshot"),
    Column("i_users", "distinct users with the item before the snapshot"),
    Column("i_reorder", "events with the item that repeat an earlier one of the same user, share of i_count_all"),
    Column("i_trend", "log((i_count_7d + 1) / (i_count_28d / 4 + 1))"),
    Column("i_age_days", "days from the item's first event to the snapshot"),
)
"""Columns of an item-statistics snapshot, float32; NaN where the item has no event yet."""

_USER_ITEM = (
    Column("ui_weight", "events of the user with the item, weighted by kind"),
    Column("ui_sessions", "sessions of the user with the item"),
    Column("ui_session_share", "ui_sessions over the user's sessions"),
    Column("ui_days_since_last", "days since the user's last event with the item; NaN if none"),
    Column("ui_days_since_first", "days since the user's first event with the item; NaN if none"),
    Column("ui_interval_days", "mean days between sessions with the item; NaN below two"),
    Column("ui_due", "ui_days_since_last over ui_interval_days; NaN below two sessions"),
    Column("ui_decay_14d", "event weights halved every 14 days"),
    Column("ui_decay_60d", "event weights halved every 60 days"),
    Column("ui_sessions_ago", "sessions of the user since the last one with the item; NaN if none"),
    Column("ui_recent_5", "of the user's last 5 sessions, those with the item"),
    Column("ui_copurchase", "co-purchase similarity summed over the user's recent items"),
)
_USER = (
    Column("u_sessions", "sessions of the user"),
    Column("u_items", "distinct items of the user"),
    Column("u_session_size", "mean events a session"),
    Column("u_days_since_last", "days since the user's last event; NaN if none"),
    Column("u_gap_days", "mean days between sessions; NaN below two"),
    Column("u_repeat_share", "share of the user's events that repeat an earlier item"),
)
_AFFINITY = tuple(
    column
    for slot in range(AFFINITY_SLOTS)
    for column in (
        Column(f"a{slot}_share", f"share of the user's event weight in the item's group of affinity slot {slot}"),
        Column(f"a{slot}_days_since", "days since the user's last event in that group; NaN if none"),
        Column(f"a{slot}_item_share", "the item's share of the user's weight in that group; NaN if the group is new"),
    )
)
_CONTEXT = (
    Column("c_hour", "hour of the day, UTC"),
    Column("c_weekday", "day of the week, Monday 0"),
)

RANKING_COLUMNS: Final = (*_USER_ITEM, *_USER, *_AFFINITY, *ITEM_STATS, *_CONTEXT)
RANKING_NAMES: Final = tuple(column.name for column in RANKING_COLUMNS)


def schema_hash() -> str:
    """Changes whenever a column is added, removed, moved or gets another meaning."""
    text = "\n".join(f"{column.name}\t{column.meaning}" for column in RANKING_COLUMNS)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
