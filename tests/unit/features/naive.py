"""The ranking columns in plain Python, one item at a time, as their meanings in the schema read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from features.items import ItemTable
from features.ports import Event
from features.schema import AFFINITY_SLOTS, ITEM_STATS

NAN = math.nan
WEIGHT = {"purchase": 1.0, "view": 0.1, "click": 0.2, "cart": 0.5, "rating": 1.0}


def features(
    ordered: Sequence[Event], table: ItemTable, item: str, row: int, copurchase: float, now: int
) -> dict[str, float]:
    """``ordered``: the user's events in the order of a History."""
    seen = [event for event in ordered if event.timestamp < now]
    mine = [event for event in seen if event.item_id == item]
    sessions = list(dict.fromkeys(event.session_id for event in seen))
    mine_in = {event.session_id for event in mine}
    days = [(now - event.timestamp) / 86_400 for event in mine]
    weight = sum(WEIGHT[event.kind] for event in mine)
    found: dict[str, float] = {
        "ui_weight": weight,
        "ui_sessions": len(mine_in),
        "ui_session_share": len(mine_in) / max(1, len(sessions)),
        "ui_days_since_last": days[-1] if mine else NAN,
        "ui_days_since_first": days[0] if mine else NAN,
        "ui_interval_days": (days[0] - days[-1]) / (len(mine_in) - 1) if len(mine_in) > 1 else NAN,
        "ui_decay_14d": sum(WEIGHT[event.kind] * 2 ** (-age / 14) for event, age in zip(mine, days)),
        "ui_decay_60d": sum(WEIGHT[event.kind] * 2 ** (-age / 60) for event, age in zip(mine, days)),
        "ui_sessions_ago": len(sessions) - 1 - max(sessions.index(name) for name in mine_in) if mine else NAN,
        "ui_recent_5": len(mine_in & set(sessions[-5:])),
        "ui_copurchase": copurchase,
        "u_sessions": len(sessions),
        "u_items": len({event.item_id for event in seen}),
        "u_session_size": len(seen) / len(sessions) if seen else 0,
        "u_days_since_last": (now - seen[-1].timestamp) / 86_400 if seen else NAN,
        "u_gap_days": (seen[-1].timestamp - seen[0].timestamp) / 86_400 / (len(sessions) - 1)
        if len(sessions) > 1
        else NAN,
        "u_repeat_share": 1 - len({event.item_id for event in seen}) / len(seen) if seen else 0,
        "c_hour": datetime.fromtimestamp(now, UTC).hour,
        "c_weekday": datetime.fromtimestamp(now, UTC).weekday(),
    }
    interval = found["ui_interval_days"]
    found["ui_due"] = days[-1] / interval if interval > 0 else NAN
    for slot in range(AFFINITY_SLOTS):
        found |= _affinity(seen, table, row, slot, weight, now)
    past = [position for position, time in enumerate(table.times.tolist()) if time <= now]
    for number, column in enumerate(ITEM_STATS):
        found[column.name] = float(table.stats[past[-1], row, number]) if past else NAN
    return found


def _affinity(
    seen: Sequence[Event], table: ItemTable, row: int, slot: int, weight: float, now: int
) -> dict[str, float]:
    name = table.group_names[slot] if slot < len(table.group_names) else None
    values = dict(zip(table.item_ids, table.frame[name].to_list())) if name else {}
    grouped = [event for event in seen if values.get(event.item_id) is not None]
    wanted = table.frame[name][row] if name else None
    same = [event for event in grouped if wanted is not None and values[event.item_id] == wanted]
    here = sum(WEIGHT[event.kind] for event in same)
    return {
        f"a{slot}_share": here / sum(WEIGHT[event.kind] for event in grouped) if grouped else 0.0,
        f"a{slot}_days_since": (now - same[-1].timestamp) / 86_400 if same else NAN,
        f"a{slot}_item_share": float(np.float32(weight)) / here if same else NAN,
    }
