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
    Column("i_count_1d", "events with the item on the day before today"),
    Column("i_count_7d", "events with the item in the 7 days before today"),
    Column("i_count_28d", "events with the item in the 28 days before today"),
    Column("i_count_91d", "events with the item in the 91 days before today"),
    Column("i_count_all", "events with the item before today"),
    Column("i_users", "distinct users with the item before today"),
    Column("i_reorder", "events with the item that are not their user's first one, share of i_count_all"),
    Column("i_trend_week", "log((i_count_7d + 1) / (i_count_28d / 4 + 1))"),
    Column("i_trend_month", "log((i_count_28d + 1) / (i_count_91d / 3.25 + 1))"),
    Column("i_age_days", "days from the item's first day to today"),
)
"""Statistics of an item, float32, of all days (UTC) before today; NaN where the item had no event by then."""

_USER_ITEM = (
    Column("ui_weight", "events of the user with the item, weighted by kind"),
    Column("ui_sessions", "sessions of the user with the item"),
    Column("ui_session_share", "ui_sessions over the user's sessions"),
    Column("ui_days_since_last", "days since the user's last event with the item; NaN if none"),
    Column("ui_days_since_first", "days since the user's first event with the item; NaN if none"),
    Column("ui_interval_days", "mean days between sessions with the item; NaN below two"),
    Column("ui_due", "ui_days_since_last over ui_interval_days; NaN below two sessions or where that is 0"),
    Column("ui_last_gap_days", "days between the last two sessions with the item; NaN below two"),
    Column("ui_due_last", "ui_days_since_last over ui_last_gap_days; NaN below two sessions"),
    Column("ui_decay_14d", "event weights halved every 14 days"),
    Column("ui_decay_60d", "event weights halved every 60 days"),
    Column("ui_decay_fast", "sessions with the item, each 0.9 to the power of the sessions since it"),
    Column("ui_decay_slow", "sessions with the item, each 0.97 to the power of the sessions since it"),
    Column("ui_sessions_ago", "sessions of the user since the last one with the item; NaN if none"),
    Column("ui_recent_3", "of the user's last 3 sessions, those with the item"),
    Column("ui_recent_5", "of the user's last 5 sessions, those with the item"),
    Column("ui_value_last", "value (quantity, rating) of the user's last event with the item; NaN if none"),
    Column("ui_value_mean", "mean value of the user's events with the item; NaN if none"),
    Column(
        "ui_hazard", "how often items of this kind are had again at a session this long after the last; NaN if none"
    ),
    Column("ui_surplus", "sessions that repeat the item, beyond what ui_hazard let expect; NaN if none"),
    Column("ui_again", "ui_hazard times (repeats + item's factor) / (expected + 1): posterior mean; 0 if none"),
    Column("ui_habit", "(repeats + 3 item's factor) / (expected + 3); NaN if none"),
    Column("ui_moment", "share of the user's sessions like this moment (hour, weekend, gap, age) that had the item"),
    Column("ui_hour", "share of the user's sessions around this hour that had the item"),
    Column(
        "ui_copurchase",
        "co-purchase similarity summed over the user's recent items; as a share of the highest where it is of users' "
        "lives",
    ),
)
_USER = (
    Column("u_sessions", "sessions of the user"),
    Column("u_items", "distinct items of the user"),
    Column("u_session_size", "mean events a session"),
    Column("u_last_size", "events of the last session; NaN if none"),
    Column("u_moment_size", "mean events of sessions like this moment; NaN if none"),
    Column("u_days_since_last", "days since the user's last session began; NaN if none"),
    Column("u_gap_days", "mean days between sessions; NaN below two"),
    Column("u_gap_ratio", "u_days_since_last over u_gap_days; NaN below two sessions"),
    Column("u_repeat_share", "share of the user's events that repeat an earlier item"),
)
_AFFINITY = tuple(
    column
    for slot in range(AFFINITY_SLOTS)
    for column in (
        Column(f"a{slot}_share", f"share of the user's event weight in the item's group of affinity slot {slot}"),
        Column(f"a{slot}_sessions", "sessions of the user with that group"),
        Column(f"a{slot}_days_since", "days since the user's last event in that group; NaN if none"),
        Column(f"a{slot}_due", "days since over the mean days between sessions with the group; NaN below two"),
        Column(f"a{slot}_recent_10", "of the user's last 10 sessions, those with the group"),
        Column(f"a{slot}_item_share", "the item's share of the user's weight in that group; NaN if the group is new"),
    )
)
_KIND = (
    Column("k_hour", "log of how much likelier the item's kind is in these four hours of a weekday or weekend"),
    Column("k_gap", "log of how much likelier the item's kind is this long after a session; 0 for a first one"),
    Column("k_session_size", "mean log size of the session over the events of the item's kind"),
    Column("k_again", "ui_again of the item's kind in place of the item: how likely the user has any of it; 0 if none"),
    Column("k_choice", "the item's ui_decay_60d over the kind's; 0 if the item is new, NaN if the kind is"),
    Column("k_need", "k_again times k_choice; 0 if the kind is new"),
    Column("k_trend_day", "log of the kind's share of yesterday's events over that of 28 days, shrunk towards 0"),
    Column("k_trend_week", "log of the kind's share of the last 7 days' events over that of 28, shrunk towards 0"),
)
"""Of an item's kind, see `features.items.kinds`."""
_CONTEXT = (
    Column("c_hour", "hour of the day, UTC"),
    Column("c_weekday", "day of the week, Monday 0"),
)
_PRICE = (
    Column("i_price", "log of the item's usual price, by its last 33 events or so; NaN if none was told"),
    Column("i_price_change", "log of its recent price (3 events) over the usual one; NaN if none was told"),
    Column("ui_price_change", "log of its recent price over what the user paid, geometric mean; NaN if none"),
)
"""As of the day of the request began, see `features.places`."""
_HERE = (
    Column(
        "ui_here",
        "share of the user's sessions here that had the item, sessions halved every 60 days, as if one more session "
        "here had its share of all sessions; 0 if none, NaN if the place was not told",
    ),
    Column("ui_here_days_since", "days since the user's last session here with the item; NaN if none"),
    Column("k_here", "ui_here of the item's kind"),
    Column("u_here", "share of the user's sessions that were here; NaN if the place was not told"),
    Column("u_here_size", "mean events of the user's sessions here; NaN if none"),
    Column("h_days_since", "days since the item was last sold here, before today; NaN if never"),
    Column("h_price_change", "log of its price here then over its usual one; NaN if none was told"),
    Column("h_kind", "events here with items of its kind before today, halved every 3 days; NaN if nothing was sold"),
)
"""Of the place (store, branch, channel) that is asked for; all NaN where none is told."""
TAG_COLUMNS: Final = (
    Column("t_affinity", "share of the user's 60 day decayed weight in the item's tags, by probability; NaN untagged"),
    Column("t_probability", "probability of the item's likeliest tag; NaN untagged"),
)
"""Of `features.itemtags`; all NaN unless training is told to read published tags."""

RANKING_COLUMNS: Final = (
    *_USER_ITEM,
    *_USER,
    *_AFFINITY,
    *ITEM_STATS,
    *_KIND,
    *_CONTEXT,
    *_PRICE,
    *_HERE,
    *TAG_COLUMNS,
)
RANKING_NAMES: Final = tuple(column.name for column in RANKING_COLUMNS)


def schema_hash() -> str:
    """Changes whenever a column is added, removed, moved or gets another meaning."""
    text = "\n".join(f"{column.name}\t{column.meaning}" for column in RANKING_COLUMNS)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
