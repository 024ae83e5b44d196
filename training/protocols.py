"""How a recommender is judged: what it must predict, and from what. Three protocols, all without leaks.

Next basket: after Li et al., "A Next Basket Recommendation Reality Check", TOIS 2023. Next items: the same for what is
had once (films, books), one item after another, many in one sitting or one in a month. Temporal: everybody's next days
after one date, which is how a model fitted today is used tomorrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from features.keys import NOWHERE, distinct
from training.materialize import EventArrays, event_arrays
from training.ranking import Targets
from training.signals import REPEATS_FROM, counted, liked, measure_repeats

IntArray = npt.NDArray[np.int64]

DAY: Final = 86_400
MIN_BASKETS: Final = 4
"""A household needs a target, a validation basket and at least two baskets of history."""
TRAIN_BASKETS: Final = 10
PARTS: Final = 10
"""Parts of everything a user had, of one item at least: one tests, one validates, the earlier ones train."""
LEAST_USUAL: Final = 0.1
"""Events of a window, as a share of the median window's, below which nothing is learned from it or judged by it."""
BUCKETS: Final = ((0, 0), (1, 2), (3, 5), (6, 10), (11, 25), (26, None))
"""History lengths in baskets, both ends included."""


@dataclass(frozen=True, slots=True, eq=False)
class ItemSets:
    """A set of item rows for each of n targets: those of target t are ``rows[starts[t]:starts[t + 1]]``, ascending.

    ``starts`` int64 [n + 1], ``rows`` int64 [members].
    """

    starts: IntArray
    rows: IntArray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def sizes(self) -> IntArray:
        return np.diff(self.starts)

    @property
    def owner(self) -> IntArray:
        """The target of each member [members]."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def of(self, number: int) -> IntArray:
        return self.rows[self.starts[number] : self.starts[number + 1]]

    def keep(self, mask: npt.NDArray[np.bool_]) -> ItemSets:
        """The members that ``mask`` [members] is true for."""
        return ItemSets(np.r_[0, np.cumsum(np.bincount(self.owner[mask], minlength=len(self)))], self.rows[mask])

    def take(self, which: IntArray) -> ItemSets:
        """The sets of some targets, in the order asked for."""
        sizes = self.sizes[which]
        return ItemSets(np.r_[0, np.cumsum(sizes)], self.rows[ranges(self.starts[which], self.starts[which] + sizes)])

    def contains(self, rows: IntArray) -> npt.NDArray[np.bool_]:
        """For ``rows`` [n, k] whether each is in its target's set; padding (-1) never is."""
        width = 1 + int(max(rows.max(initial=-1), self.rows.max(initial=-1)))
        members = self.owner * width + self.rows
        asked = np.arange(len(self))[:, None] * width + rows
        return _among(asked, members) & (rows >= 0)

    def inside(self, other: ItemSets) -> npt.NDArray[np.bool_]:
        """For each member [members] whether the other's set of the same target holds it too."""
        width = 1 + int(max(self.rows.max(initial=0), other.rows.max(initial=0)))
        return _among(self.owner * width + self.rows, other.owner * width + other.rows)

    @staticmethod
    def build(owner: IntArray, rows: IntArray, targets: int) -> ItemSets:
        """From pairs in any order, repetitions allowed; rows below 0 (unknown items) are dropped."""
        known = rows >= 0
        width = 1 + int(rows.max(initial=0))
        pairs = distinct(owner[known] * width + rows[known])
        return ItemSets(np.searchsorted(pairs, np.arange(targets + 1) * width), pairs % width)


def _among(asked: IntArray, ascending: IntArray) -> npt.NDArray[np.bool_]:
    """Whether each number [...] is one of those ascending."""
    if not len(ascending):
        return np.zeros(asked.shape, bool)
    found: npt.NDArray[np.bool_] = ascending[np.minimum(np.searchsorted(ascending, asked), len(ascending) - 1)] == asked
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Protocol:
    """What to learn from and what to predict.

    A target's ``time`` (seconds) bounds what may be known, strictly; its own user's history is the events in
    ``[events.starts[user], start)``, all before ``time``; what it wants are the events in ``[start, end)``.

    ``counts`` bool [events]: events that make an item had (`training.signals.counted`). ``likes`` bool
    [events]: those of them that make an item wanted; all but low ratings.
    ``items``: number of the catalog's rows. ``reason``: why there is no test target, None where there is one.
    ``unit``: what lengths of histories are counted in.
    """

    name: str
    events: EventArrays
    items: int
    counts: npt.NDArray[np.bool_]
    likes: npt.NDArray[np.bool_]
    train: Targets
    valid: Targets
    test: Targets
    facts: Mapping[str, Any]
    reason: str | None = None
    unit: Literal["basket", "item"] = "basket"

    def wanted(self, targets: Targets, number: int) -> IntArray:
        """The known items one target wants: distinct rows, ascending."""
        window = slice(int(targets.start[number]), int(targets.end[number]))
        rows = self.events.row[window][self.likes[window]]
        return distinct(rows[rows >= 0])

    def wanted_sets(self, targets: Targets) -> ItemSets:
        return self._sets(targets.start, targets.end, self.likes)

    def had_sets(self, targets: Targets, since: IntArray | None = None) -> ItemSets:
        """What each target's user had before it, from event ``since`` [n] on; default: from the first. Of a basket that
        another one interrupts, what was recorded by then."""
        start = self.since(targets) if since is None else since
        return self._sets(start, targets.start, self.counts, targets.time)

    def since(self, targets: Targets) -> IntArray:
        """The first event of each target's user [n]: a history that is not truncated."""
        return self.events.starts[targets.user]

    def _sets(
        self, start: IntArray, end: IntArray, counts: npt.NDArray[np.bool_], before: IntArray | None = None
    ) -> ItemSets:
        owner = np.repeat(np.arange(len(start)), end - start)
        events = ranges(start, end)
        counted = counts[events]
        if before is not None:
            counted &= self.events.recorded[events] < before[owner]
        return ItemSets.build(owner[counted], self.events.row[events[counted]], len(start))


def ranges(start: IntArray, end: IntArray) -> IntArray:
    """All numbers of [start[0], end[0]), then of [start[1], end[1]), …"""
    sizes = end - start
    shift: IntArray = np.repeat(start - (np.cumsum(sizes) - sizes), sizes)
    return np.arange(int(sizes.sum())) + shift


def normalise(frame: pl.DataFrame) -> pl.DataFrame:
    """Events of a basket at the basket's first time, in order of (user, first time, session id).

    Where a user's baskets begin in the same second the later ones move by a second each, so that "strictly before a
    basket's time" holds exactly the baskets before it. Session ids break ties as strings. ``recorded``: when the event
    happened.
    """
    baskets = (
        frame.group_by("user_id", "session_id")
        .agg(first=pl.col("timestamp").dt.epoch("s").min())
        .sort("user_id", "first", "session_id")
        .with_columns(number=pl.int_range(pl.len()).over("user_id"))
        .with_columns(time=(pl.col("first") - pl.col("number")).cum_max().over("user_id") + pl.col("number"))
    )
    return (
        frame.join(baskets.select("user_id", "session_id", "time"), on=["user_id", "session_id"], maintain_order="left")
        .with_columns(
            recorded=pl.col("timestamp"), timestamp=(pl.col("time") * 1_000_000).cast(pl.Datetime("us", "UTC"))
        )
        .drop("time")
        .sort("user_id", "timestamp", maintain_order=True)
    )


def next_basket(frame: pl.DataFrame, items: pl.DataFrame, train: int = TRAIN_BASKETS) -> Protocol:
    """Each user's last basket is the test target, the one before validates, up to ``train`` before that one train.

    ``frame`` as from `load_events`. A basket is a session with at least one known item that counts; users with fewer
    than MIN_BASKETS are left out as targets and kept as history of the others.
    """
    events = event_arrays(normalise(frame), items)
    counts = counted(events)
    likes = liked(events, counts)
    baskets = _sessions(events)
    baskets = baskets.take(_useful(events, likes, baskets))
    number = np.bincount(baskets.user, minlength=len(events.users))[baskets.user]
    last = np.r_[np.flatnonzero(np.diff(baskets.user)), len(baskets) - 1] if len(baskets) else np.empty(0, np.int64)
    from_last = last[np.searchsorted(last, np.arange(len(baskets)))] - np.arange(len(baskets))
    enough = number >= MIN_BASKETS
    test = baskets.take(enough & (from_last == 0))
    protocol = Protocol(
        name="next_basket",
        events=events,
        items=len(items),
        counts=counts,
        likes=likes,
        # The first basket has no history to learn from.
        train=baskets.take(enough & (from_last >= 2) & (from_last < 2 + train) & (from_last < number - 1)),
        valid=baskets.take(enough & (from_last == 1)),
        test=test,
        facts={},
        reason=None
        if len(test)
        else f"no user has {MIN_BASKETS} baskets (the most are {int(number.max(initial=0))}): there is none to predict",
    )
    return _with_facts(protocol)


def next_items(frame: pl.DataFrame, items: pl.DataFrame, train: int = TRAIN_BASKETS) -> Protocol:
    """Each user's newest tenth (of one item at least) is the test target, the one before validates, earlier ones train.

    For catalogs where nothing is had twice: there a session is an evening's accident, the one film of a week or the two
    hundred ratings of a first visit, and half of the second kind of users have no other. ``frame`` as from
    `load_events`; times are those of the events themselves, and no target begins between events of the same second (or
    of the same day, where times have no more), for nobody knows their order. What has nothing before it is no target.
    Views and carts that lead to what is wanted belong to the target: from a cart of a second ago anybody tells what
    is bought, and nobody needs it recommended.
    """
    events = event_arrays(frame, items)
    counts = counted(events)
    likes = liked(events, counts)
    known = np.flatnonzero(counts & (events.row >= 0))
    of_user = np.bincount(events.user[known], minlength=len(events.users))
    size = np.maximum(1, of_user // PARTS)
    # Parts count back from a user's newest item; where several begin at the same moment they are one.
    behind = np.cumsum(of_user)[events.user[known]] - np.arange(len(known))
    begins = distinct(_led_to(events, known, _moment(events, known[behind % size[events.user[known]] == 0])))
    user = events.user[begins]
    end = np.minimum(np.r_[begins[1:], len(events.user)][: len(begins)], events.starts[user + 1])
    parts = Targets(user, events.time[begins], begins, end, events.place[begins])
    parts = parts.take((begins > events.starts[user]) & _useful(events, likes, parts))
    from_last = np.searchsorted(parts.user, parts.user, side="right") - 1 - np.arange(len(parts))
    test = parts.take(from_last == 0)
    protocol = Protocol(
        name="next_items",
        events=events,
        items=len(items),
        counts=counts,
        likes=likes,
        train=parts.take((from_last >= 2) & (from_last < 2 + train)),
        valid=parts.take(from_last == 1),
        test=test,
        facts={},
        reason=None if len(test) else "nobody took a known item after an earlier one: there is nothing to predict",
        unit="item",
    )
    return _with_facts(protocol)


def next_wish(frame: pl.DataFrame, items: pl.DataFrame, repeats: bool) -> Protocol:
    """`next_items` of data in which nothing is had twice, else `next_basket`: also where settings want no ``repeats``
    of groceries, whose baskets stay baskets."""
    if not repeats:
        protocol = next_items(frame, items)
        if measure_repeats(protocol.events, protocol.counts) < REPEATS_FROM:
            return protocol
    return next_basket(frame, items)


def _moment(events: EventArrays, at: IntArray) -> IntArray:
    """The first event of the same user at the time of each event [n]."""
    new = (np.diff(events.user, prepend=-1) != 0) | (np.diff(events.time, prepend=-1) != 0)
    started = np.flatnonzero(new)
    found: IntArray = started[np.searchsorted(started, at, side="right") - 1]
    return found


def _led_to(events: EventArrays, known: IntArray, at: IntArray) -> IntArray:
    """Where the session of each event [n] begins, or where it goes on after the item had before it in that session.

    ``known`` [m]: the events that make a known item had, ascending; ``at`` are first events of their times, as from
    `_moment`, and so are those returned.
    """
    visit = np.flatnonzero((np.diff(events.user, prepend=-1) != 0) | (np.diff(events.session, prepend=0) != 0))
    before = np.searchsorted(known, at)
    after_last = np.where(before > 0, np.append(known, -1)[before - 1] + 1, 0)
    earliest = np.maximum(visit[np.searchsorted(visit, at, side="right") - 1], after_last)
    # Not back to the time of the item before: nobody knows the order of the events of one second.
    started = np.flatnonzero((np.diff(events.user, prepend=-1) != 0) | (np.diff(events.time, prepend=-1) != 0))
    found: IntArray = started[np.searchsorted(started, earliest)]
    return found


def temporal(
    frame: pl.DataFrame, items: pl.DataFrame, cut: int | None = None, days: int = 7, train: int = TRAIN_BASKETS
) -> Protocol:
    """What everybody buys in the ``days`` days after ``cut`` (seconds; default: that many days before the data's end).

    The same number of days before the cut validates, the ``train`` windows before that train. Windows with next to no
    events are passed over: a shop that is closed, or one event that reached the log months after all others, says
    nothing of a usual week. Users without history at a cut are targets too: `truncated` and the report keep them apart.
    Users who buy nothing in a window are no targets. Times are those of the events themselves: a basket that spans a
    cut is known up to it and wanted after it.
    """
    events = event_arrays(frame, items)
    counts = counted(events)
    likes = liked(events, counts)
    span = days * DAY
    end = int(events.time.max(initial=0)) + 1
    first = int(events.time.min(initial=end))
    past = _usual_windows(events, likes, end if cut is None else cut, span)
    if cut is None:
        cut, past = (past[0], past[1:]) if past else (end - span, [])
    # A window that begins before the data has no history at all: nothing can be learned from it.
    weeks = [start for start in reversed(past[1 : 1 + train]) if start > first]
    parts = [_window(events, likes, start, span) for start in weeks]
    test = _window(events, likes, cut, span)
    reason = None
    if not len(test):
        reason = f"nobody has an event of a known item in the {days} days from {cut} on"
    elif not past:
        reason = f"there is nothing to learn from before the {days} days that judge, which begin at {cut}"
    protocol = Protocol(
        name="temporal",
        events=events,
        items=len(items),
        counts=counts,
        likes=likes,
        train=_concatenate(parts),
        valid=_window(events, likes, past[0], span) if past else _concatenate([]),
        test=test,
        facts={"cut": cut, "days": days},
        reason=reason,
    )
    return _with_facts(protocol)


def _usual_windows(events: EventArrays, counts: npt.NDArray[np.bool_], end: int, span: int) -> list[int]:
    """Beginnings of the windows of ``span`` seconds before ``end``, newest first; not those of hardly any events."""
    known = counts & (events.row >= 0) & (events.time < end)
    found = np.bincount((end - 1 - events.time[known]) // span)
    usual = np.median(found[found > 0]) if found.any() else 0.0
    return [end - (number + 1) * span for number in np.flatnonzero(found >= max(1.0, LEAST_USUAL * usual)).tolist()]


@dataclass(frozen=True, slots=True, eq=False)
class Bucket:
    """Test targets ``which`` [n] whose histories are cut to their newest ``low``..``high`` baskets (or items).

    ``since`` int64 [n]: the first event each may see; ``length`` int64 [n]: how many of those that leaves.
    """

    name: str
    which: IntArray
    since: IntArray
    length: IntArray
    unit: Literal["basket", "item"]


def truncated(protocol: Protocol, targets: Targets, seed: int, least: int = 30) -> list[Bucket]:
    """One bucket for each history length of BUCKETS, over the same targets in every bucket.

    Lengths are drawn within the bucket, evenly; the last bucket keeps everything. The targets are those long enough for
    the longest bucket that ``least`` of them reach; longer buckets are left out.
    """
    own = _visits(protocol)
    before = np.searchsorted(own.start, targets.start) - np.searchsorted(own.start, protocol.since(targets))
    reached = [bounds for bounds in BUCKETS if int((before >= bounds[0]).sum()) >= least]
    if not reached:
        return []
    which = np.flatnonzero(before >= reached[-1][0])
    rng = np.random.default_rng(seed)
    buckets = []
    for low, high in reached:
        length = before[which] if high is None else rng.integers(low, high + 1, len(which))
        length = np.minimum(length, before[which])
        at = np.searchsorted(own.start, targets.start[which]) - length
        since = np.where(length > 0, own.start[np.minimum(at, len(own) - 1)], targets.start[which])
        name = f"{low}+" if high is None else str(low) if low == high else f"{low}-{high}"
        buckets.append(Bucket(name, which, since, length, protocol.unit))
    return buckets


def truncated_at_random(protocol: Protocol, targets: Targets, seed: int, empty: float = 0.0) -> IntArray:
    """The first event each target may see [n] with its history cut to a length drawn from BUCKETS' bounded ones.

    Buckets are equally likely, lengths within one too; a history shorter than its draw stays whole. A share ``empty``
    of the targets has no history, whatever was drawn.
    """
    own = _visits(protocol)
    rng = np.random.default_rng(seed)
    bounded = np.array([(low, high) for low, high in BUCKETS if high is not None])
    low, high = bounded[rng.integers(0, len(bounded), len(targets))].T
    length = rng.integers(low, high + 1)
    length[rng.random(len(targets)) < empty] = 0
    first = np.searchsorted(own.start, protocol.since(targets))
    at = np.searchsorted(own.start, targets.start)
    kept = np.maximum(first, at - length)
    starts = np.append(own.start, len(protocol.events.user))
    return np.where(length > 0, np.minimum(starts[kept], targets.start), targets.start)


def _visits(protocol: Protocol) -> Targets:
    """What lengths of histories are counted in: sessions, or items had (those of the same second, or day, as one).

    Looks that come before a user's first item are a visit of their own, later ones belong to the item before them.
    """
    if protocol.unit == "basket":
        return _sessions(protocol.events)
    events = protocol.events
    first = np.diff(events.user, prepend=-1) != 0
    moment = first | (np.diff(events.time, prepend=-1) != 0)
    number = np.cumsum(moment) - 1
    had = np.bincount(number, protocol.counts & (events.row >= 0), int(moment.sum())) > 0
    new = np.flatnonzero(moment)[had | first[moment]]
    end = np.r_[new[1:], len(events.user)][: len(new)]
    return Targets(events.user[new], events.time[new], new, end, events.place[new])


def _sessions(events: EventArrays) -> Targets:
    """Runs of one user's events in one session, in order.

    After `normalise` a run is a whole session. In raw order a session that another one interrupts is two runs, which
    only the lengths of truncated histories see.
    """
    new = np.flatnonzero((np.diff(events.user, prepend=-1) != 0) | (np.diff(events.session, prepend=0) != 0))
    end = np.r_[new[1:], len(events.user)][: len(new)]
    return Targets(events.user[new], events.time[new], new, end, events.place[new])


def _useful(events: EventArrays, counts: npt.NDArray[np.bool_], targets: Targets) -> npt.NDArray[np.bool_]:
    """Whether each range of events holds a known item that counts [n]."""
    before = np.r_[0, np.cumsum(counts & (events.row >= 0))]
    useful: npt.NDArray[np.bool_] = before[targets.end] > before[targets.start]
    return useful


def _window(events: EventArrays, counts: npt.NDArray[np.bool_], cut: int, span: int) -> Targets:
    """One target for each user with a known item that counts in [cut, cut + span)."""
    users = np.arange(len(events.users))
    # Events are in order of (user, time): one key sorts both, so that one search finds every user's bounds.
    base = int(events.time.min(initial=0))
    width = int(events.time.max(initial=0)) - base + 2
    key = events.user * width + (events.time - base)
    start = np.searchsorted(key, users * width + np.clip(cut - base, 0, width - 1))
    end = np.searchsorted(key, users * width + np.clip(cut + span - base, 0, width - 1))
    # Nobody knows where somebody will be in the days to come.
    nowhere = np.full(len(users), NOWHERE, np.int64)
    targets = Targets(users, np.full(len(users), cut, np.int64), start, end, nowhere)
    return targets.take(_useful(events, counts, targets))


def _concatenate(parts: list[Targets]) -> Targets:
    empty = np.empty(0, np.int64)
    if not parts:
        return Targets(empty, empty, empty, empty, empty)
    columns = zip(*(part.columns for part in parts))
    return Targets(*(np.concatenate(column) for column in columns))


def _with_facts(protocol: Protocol) -> Protocol:
    """Counts for the report beside those the protocol already states."""
    test = protocol.test
    wanted, had = protocol.wanted_sets(test), protocol.had_sets(test)
    repeat = wanted.inside(had)
    share = np.bincount(wanted.owner, repeat, len(test)) / np.maximum(wanted.sizes, 1)
    facts = {
        **protocol.facts,
        "targets": len(test),
        "valid_targets": len(protocol.valid),
        "train_targets": len(protocol.train),
        "history_items": len(np.unique(had.rows)),
        "mean_target": float(wanted.sizes.mean()) if len(test) else None,
        "repeat_share": float(share.mean()) if len(test) else None,
        "without_history": int((had.sizes == 0).sum()),
    }
    return replace(protocol, facts=facts)
