"""The ranking columns in plain Python, one item at a time, as their meanings in the schema read.

Where a meaning leaves an edge open, it is settled here:

- A session begins at its first event; sessions are in order of that event, also where they overlap. What is said of a
  session's time (gaps, hours, days for a hazard) is said of its beginning.
- Mean days between sessions with an item or a group are taken from the first to the last event with it.
- A ratio to a span of no days is NaN.
- A session's size counts all its events, items the catalog does not know included.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from features.items import ItemTable
from features.keys import place_key
from features.ports import Event
from features.repurchase import BIN_STARTS, GAP_DAYS, LAST_DAY
from features.schema import AFFINITY_SLOTS, RANKING_NAMES

NAN = math.nan
PLACE_NAMES = RANKING_NAMES[RANKING_NAMES.index("ui_here") : RANKING_NAMES.index("h_kind") + 1]
DAY = 86_400
WEIGHT = {"purchase": 1.0, "view": 0.1, "click": 0.2, "cart": 0.5, "rating": 1.0}


@dataclass
class Session:
    """One session: when it began, and its events in order."""

    time: int
    events: list[Event]

    @property
    def items(self) -> set[str]:
        return {event.item_id for event in self.events}


def sessions_of(seen: Sequence[Event]) -> list[Session]:
    """Sessions in order of their first events."""
    found: dict[str, Session] = {}
    for event in seen:
        found.setdefault(event.session_id, Session(event.timestamp, [])).events.append(event)
    return list(found.values())


def hour_bucket(time: int) -> int:
    """Which four hours of a weekday (0 to 5) or a weekend day (6 to 11)."""
    return datetime.fromtimestamp(time, UTC).hour // 4 + (6 if _weekend(time) else 0)


def gap_bucket(seconds: int) -> int:
    """The bucket of the time since the session before."""
    return bisect_right(GAP_DAYS, seconds / DAY) - 1


def bin_of(seconds: int) -> int:
    """The bin of whole days since the last session."""
    return bisect_right(BIN_STARTS, min(seconds // DAY, LAST_DAY)) - 1


def features(
    ordered: Sequence[Event],
    others: Sequence[Event],
    table: ItemTable,
    item: str,
    copurchase: float,
    now: int,
    tags: Mapping[str, Mapping[str, float]],
    place: str,
) -> dict[str, float]:
    """``ordered``: the user's events in the order of a History. ``others``: the events the table's statistics count.
    ``tags``: of each item with their probabilities. ``place``: where the user is, empty if nobody told."""
    seen = [event for event in ordered if event.timestamp < now]
    sessions = sessions_of(seen)
    return {
        **_user_item(seen, sessions, item, now),
        **_habit(sessions, table, item, now),
        "ui_copurchase": copurchase,
        **_user(seen, sessions, now),
        **{
            f"a{slot}_{name}": value
            for slot in range(AFFINITY_SLOTS)
            for name, value in _affinity(seen, sessions, table, item, slot, now).items()
        },
        **statistics([e for e in others if e.item_id == item], now),
        **_kind(sessions, others, table, item, now),
        "c_hour": datetime.fromtimestamp(now, UTC).hour,
        "c_weekday": datetime.fromtimestamp(now, UTC).weekday(),
        **_prices(seen, [e for e in others if e.item_id == item], item, now),
        **_here(sessions, others, table, item, now, place),
        **_tags([event for event in seen if event.item_id in table.item_ids], tags, item, now),
    }


def _tags(known: Sequence[Event], tags: Mapping[str, Mapping[str, float]], item: str, now: int) -> dict[str, float]:
    if item not in tags:
        return {"t_affinity": NAN, "t_probability": NAN}
    weights = [WEIGHT[event.kind] * 2 ** ((event.timestamp - now) / DAY / 60) for event in known]
    alike = [
        sum(chance * tags.get(event.item_id, {}).get(tag, 0.0) for tag, chance in tags[item].items()) for event in known
    ]
    affinity = sum(weight * same for weight, same in zip(weights, alike))
    return {"t_affinity": affinity / sum(weights) if known else 0.0, "t_probability": max(tags[item].values())}


def _log(price: float) -> float:
    """Prices are kept in single precision."""
    return math.log(float(np.float32(price)))


def _entries(events: Sequence[Event], now: int) -> list[tuple[int, float]]:
    """Events with one item and the mean log of their prices (NaN: none was told), for each day before today and each
    place, in the order of days and of the places' keys."""
    groups: dict[tuple[int, int], list[Event]] = {}
    for event in events:
        if event.timestamp // DAY < now // DAY:
            groups.setdefault((event.timestamp // DAY, place_key(event.place)), []).append(event)
    found = []
    for key in sorted(groups):
        logs = [_log(event.price) for event in groups[key] if event.price]
        found.append((len(groups[key]), sum(logs) / len(logs) if logs else NAN))
    return found


def _average(entries: Sequence[tuple[int, float]], share: float) -> float:
    """An average that gives each newer event this share of all that went before it."""
    total = weight = 0.0
    for n, price in entries:
        if not math.isnan(price):
            keep = (1 - share) ** n
            total, weight = total * keep + price * (1 - keep), weight * keep + 1 - keep
    return total / weight if weight else NAN


def _prices(seen: Sequence[Event], sold: Sequence[Event], item: str, now: int) -> dict[str, float]:
    entries = _entries(sold, now)
    usual, recent = _average(entries, 0.03), _average(entries, 0.3)
    paid = [_log(event.price) for event in seen if event.item_id == item and event.price]
    return {
        "i_price": usual,
        "i_price_change": recent - usual,
        "ui_price_change": recent - (sum(paid) / len(paid) if paid else NAN),
    }


def _here(
    sessions: Sequence[Session], others: Sequence[Event], table: ItemTable, item: str, now: int, place: str
) -> dict[str, float]:
    """A session is where its first event was."""
    if not place:
        return dict.fromkeys(PLACE_NAMES, NAN)
    learned, today = table.repurchase, now // DAY
    kind_of: dict[str, int] = dict(zip(table.item_ids, learned.kind.tolist()))
    none = len(learned.hazard) - 1
    here = [session.events[0].place == place for session in sessions]
    fresh = [2 ** (-(now - session.time) / DAY / 60) for session in sessions]
    near = sum(weight for weight, there in zip(fresh, here) if there)

    def share(having: Sequence[bool]) -> float:
        if not any(having):
            return 0.0
        mine = sum(weight for weight, there, has in zip(fresh, here, having) if there and has)
        everywhere = sum(weight for weight, has in zip(fresh, having) if has)
        return (mine + everywhere / sum(fresh)) / (near + 1)

    has = [item in session.items for session in sessions]
    of_kind = [any(kind_of.get(one, none) == kind_of[item] for one in session.items) for session in sessions]
    last = [session.time for session, there, own in zip(sessions, here, has) if there and own]
    sizes = [len(session.events) for session, there in zip(sessions, here) if there]
    sold = [event for event in others if event.place == place]
    past = [event for event in sold if event.timestamp // DAY < today]
    own = [event for event in past if event.item_id == item]
    newest = max((event.timestamp // DAY for event in own), default=0)
    priced = [(n, price) for n, price in _entries(own, now) if not math.isnan(price)]
    usual = _average(_entries([event for event in others if event.item_id == item], now), 0.03)
    ago = [today - event.timestamp // DAY for event in past if kind_of[event.item_id] == kind_of[item]]
    return {
        "ui_here": share(has),
        "ui_here_days_since": (now - last[-1]) / DAY if last else NAN,
        "k_here": share(of_kind),
        "u_here": sum(here) / len(here) if here else NAN,
        "u_here_size": sum(sizes) / len(sizes) if sizes else NAN,
        "h_days_since": today - newest if own else NAN,
        "h_price_change": priced[-1][1] - usual if priced else NAN,
        # Of a place nothing was ever sold at nothing is known; what is older than 60 days says nothing.
        "h_kind": sum(2 ** (-days / 3) for days in ago if days <= 60) if sold else NAN,
    }


def _ratio(value: float, span: float) -> float:
    return value / span if span > 0 else NAN


def _user_item(seen: Sequence[Event], sessions: Sequence[Session], item: str, now: int) -> dict[str, float]:
    mine = [event for event in seen if event.item_id == item]
    days = [(now - event.timestamp) / DAY for event in mine]
    having = [number for number, session in enumerate(sessions) if item in session.items]
    ago = [len(sessions) - 1 - number for number in having]
    last = days[-1] if mine else NAN
    interval = (days[0] - last) / (len(having) - 1) if len(having) > 1 else NAN
    gap = (sessions[having[-1]].time - sessions[having[-2]].time) / DAY if len(having) > 1 else NAN
    alike = [_alike(sessions, number, now) for number in range(len(sessions))]
    near = [_near(session, now) for session in sessions]
    return {
        "ui_weight": sum(WEIGHT[event.kind] for event in mine),
        "ui_sessions": len(having),
        "ui_session_share": len(having) / max(1, len(sessions)),
        "ui_days_since_last": last,
        "ui_days_since_first": days[0] if mine else NAN,
        "ui_interval_days": interval,
        "ui_due": _ratio(last, interval),
        "ui_last_gap_days": gap,
        "ui_due_last": _ratio(last, gap),
        "ui_decay_14d": sum(WEIGHT[event.kind] * 2 ** (-age / 14) for event, age in zip(mine, days)),
        "ui_decay_60d": sum(WEIGHT[event.kind] * 2 ** (-age / 60) for event, age in zip(mine, days)),
        "ui_decay_fast": sum(0.9**n for n in ago),
        "ui_decay_slow": sum(0.97**n for n in ago),
        "ui_sessions_ago": ago[-1] if mine else NAN,
        "ui_recent_3": sum(n < 3 for n in ago),
        "ui_recent_5": sum(n < 5 for n in ago),
        "ui_value_last": mine[-1].value if mine else NAN,
        "ui_value_mean": sum(event.value for event in mine) / len(mine) if mine else NAN,
        "ui_moment": sum(alike[n] for n in having) / sum(alike) if mine else 0.0,
        "ui_hour": sum(near[n] for n in having) / sum(near) if mine else 0.0,
    }


def _near(session: Session, now: int) -> float:
    """Likeness of the hours of the day: a bell of two hours' width around the clock."""
    apart = abs(session.time % DAY - now % DAY) / 3_600
    return math.exp(-((min(apart, 24 - apart) / 2) ** 2) / 2)


def _alike(sessions: Sequence[Session], number: int, now: int) -> float:
    """Likeness of a session and this moment: hour, weekend or not, days since the session before, age.

    Halved for the other part of the week; a pause counts as its ratio to this one (both plus 0.3 days), a first session
    as half; halved every 60 days.
    """
    time = sessions[number].time
    part = 1.0 if _weekend(time) == _weekend(now) else 0.5
    pause = 0.5
    if number:
        one, other = (time - sessions[number - 1].time) / DAY + 0.3, (now - sessions[-1].time) / DAY + 0.3
        pause = min(one, other) / max(one, other)
    return _near(sessions[number], now) * part * pause * 2 ** (-(now - time) / DAY / 60)


def _weekend(time: int) -> bool:
    return datetime.fromtimestamp(time, UTC).weekday() >= 5


def _repeats(
    sessions: Sequence[Session], having: Sequence[int], hazard: Sequence[float], mean_size: float, now: int
) -> tuple[float, int, float]:
    """The hazard at this moment, repeats seen, and those expected at the sessions since the first in ``having``."""
    expected = 0.0
    # Only the newest 150 sessions count for what was expected.
    for number in range(max(having[0] + 1, len(sessions) - 150), len(sessions)):
        before = max(n for n in having if n < number)
        chance = (len(sessions[number].events) / mean_size) ** 0.75
        expected += chance * hazard[bin_of(sessions[number].time - sessions[before].time)]
    return hazard[bin_of(now - sessions[having[-1]].time)], len(having) - 1, expected


def _habit(sessions: Sequence[Session], table: ItemTable, item: str, now: int) -> dict[str, float]:
    having = [number for number, session in enumerate(sessions) if item in session.items]
    if not having:
        return {"ui_hazard": NAN, "ui_surplus": NAN, "ui_again": 0.0, "ui_habit": NAN}
    learned = table.repurchase
    row = table.item_ids.index(item)
    factor = float(learned.factor[row])
    hazard: list[float] = learned.hazard[learned.kind[row]].tolist()
    today, repeats, expected = _repeats(sessions, having, hazard, learned.mean_size, now)
    return {
        "ui_hazard": today,
        "ui_surplus": repeats - expected,
        "ui_again": today * (repeats + factor) / (expected + 1),
        "ui_habit": (repeats + 3 * factor) / (expected + 3),
    }


def _user(seen: Sequence[Event], sessions: Sequence[Session], now: int) -> dict[str, float]:
    if not seen:
        zeros = dict.fromkeys(("u_sessions", "u_items", "u_session_size", "u_repeat_share"), 0.0)
        unknown = ("u_last_size", "u_moment_size", "u_days_since_last", "u_gap_days", "u_gap_ratio")
        return zeros | dict.fromkeys(unknown, NAN)
    items = len({event.item_id for event in seen})
    sizes = [len(session.events) for session in sessions]
    alike = [_alike(sessions, number, now) for number in range(len(sessions))]
    since = (now - sessions[-1].time) / DAY
    gap = (sessions[-1].time - sessions[0].time) / DAY / (len(sessions) - 1) if len(sessions) > 1 else NAN
    return {
        "u_sessions": len(sessions),
        "u_items": items,
        "u_session_size": len(seen) / len(sessions),
        "u_last_size": sizes[-1],
        "u_moment_size": sum(one * size for one, size in zip(alike, sizes)) / sum(alike),
        "u_days_since_last": since,
        "u_gap_days": gap,
        "u_gap_ratio": _ratio(since, gap),
        "u_repeat_share": 1 - items / len(seen),
    }


def _affinity(
    seen: Sequence[Event], sessions: Sequence[Session], table: ItemTable, item: str, slot: int, now: int
) -> dict[str, float]:
    name = table.group_names[slot] if slot < len(table.group_names) else None
    values = dict(zip(table.item_ids, table.frame[name].to_list())) if name else {}
    wanted = values.get(item)
    # Items the catalog does not know, or that lack the attribute, are in no group.
    grouped = [event for event in seen if values.get(event.item_id) is not None]
    same = [event for event in grouped if wanted is not None and values[event.item_id] == wanted]
    if not same:
        absent = dict.fromkeys(("days_since", "due", "item_share"), NAN)
        return dict.fromkeys(("share", "sessions", "recent_10"), 0.0) | absent
    here = sum(WEIGHT[event.kind] for event in same)
    mine = sum(WEIGHT[event.kind] for event in same if event.item_id == item)
    having = [any(values.get(one) == wanted for one in session.items) for session in sessions]
    since = (now - same[-1].timestamp) / DAY
    span = (same[-1].timestamp - same[0].timestamp) / DAY
    return {
        "share": here / sum(WEIGHT[event.kind] for event in grouped),
        "sessions": sum(having),
        "days_since": since,
        "due": _ratio(since, span / (sum(having) - 1)) if sum(having) > 1 else NAN,
        "recent_10": sum(having[-10:]),
        # The item's weight is read from its float32 column.
        "item_share": float(np.float32(mine)) / here,
    }


def _kind(
    sessions: Sequence[Session], others: Sequence[Event], table: ItemTable, item: str, now: int
) -> dict[str, float]:
    """What was learned of the item's kind, what the user had of it, and its share of a day's and a week's events."""
    learned, today = table.repurchase, now // DAY
    kind_of: dict[str, int] = dict(zip(table.item_ids, learned.kind.tolist()))
    kind, kinds = kind_of[item], len(learned.hazard)

    # Items of no kind and items the catalog does not know are of one kind, the last.
    same = [[e for e in session.events if kind_of.get(e.item_id, kinds - 1) == kind] for session in sessions]
    having = [number for number, events in enumerate(same) if events]
    again, choice = 0.0, NAN
    if having:
        hazard: list[float] = learned.kind_hazard[kind].tolist()
        moment, repeats, expected = _repeats(sessions, having, hazard, learned.mean_size, now)
        again = moment * (repeats + 1) / (expected + 1)
        decayed = [(e.item_id, WEIGHT[e.kind] * 2 ** (-(now - e.timestamp) / DAY / 60)) for one in same for e in one]
        choice = sum(w for name, w in decayed if name == item) / sum(w for _, w in decayed)

    def counts(days: int) -> tuple[int, int]:
        ago = [(kind_of[event.item_id], today - event.timestamp // DAY) for event in others]
        recent = [one for one, day in ago if 0 < day <= days]
        return recent.count(kind), len(recent)

    month, all_month = counts(28)
    usual = (month + 1) / (all_month + kinds)

    def trend(days: int) -> float:
        own, every = counts(days)
        return math.log((own + 2_000 * usual) / (every + 2_000) / usual)

    return {
        "k_hour": float(learned.hour_lift[kind, hour_bucket(now)]),
        "k_gap": float(learned.gap_lift[kind, gap_bucket(now - sessions[-1].time)]) if sessions else 0.0,
        "k_session_size": float(learned.session_size[kind]),
        "k_again": again,
        "k_choice": choice,
        "k_need": again * choice if having else 0.0,
        "k_trend_day": trend(1),
        "k_trend_week": trend(7),
    }


def statistics(events: Sequence[Event], now: int) -> dict[str, float]:
    """The daily statistics of one item from its own events, of all users."""
    today = now // DAY
    past = [event for event in events if event.timestamp // DAY < today]
    names = ("1d", "7d", "28d", "91d")
    count = {
        name: sum(today - event.timestamp // DAY <= days for event in past)
        for name, days in zip(names, (1, 7, 28, 91), strict=True)
    }
    n, users = len(past), len({event.user_id for event in past})
    found = {
        **{f"i_count_{name}": float(count[name]) for name in names},
        "i_count_all": n,
        "i_users": users,
        "i_reorder": (n - users) / max(1, n),
        "i_trend_week": math.log((count["7d"] + 1) / (count["28d"] / 4 + 1)),
        "i_trend_month": math.log((count["28d"] + 1) / (count["91d"] / 3.25 + 1)),
        "i_age_days": today - min((event.timestamp // DAY for event in past), default=0),
    }
    return found if past else dict.fromkeys(found, NAN)
