"""Interactions -> features: histories, statistics, neighbours, the item table and Feast's sources."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from features import copurchase, repurchase
from features.events import Recorder, SqliteEventLog, session_keys
from features.history import EVENT_KINDS, History
from features.items import ItemTable, kinds
from features.itemtags import ItemTags, read_published
from features.keys import item_keys, place_keys
from features.places import PlaceActivity
from features.schema import AFFINITY_SLOTS
from features.statistics import Activity, long_form
from features.store import (
    ITEM_STATISTICS,
    USER_HISTORY,
    USER_PROFILE,
    FeatureRepository,
    OnlineStoreConfig,
)
from features.workspace import Workspace, WorkspaceConfig
from training import signals

Progress = Callable[[str, float], None]

_EVENT_COLUMNS = ["user_id", "item_id", "timestamp", "event", "value", "session_id", "place", "price"]
_ABSENT = {"place": "", "price": 0.0}
MOST_GROUPS = 3_000
"""An attribute with more values (a manufacturer, a size) groups too little to tell substitutes from strangers."""


MOST_NEIGHBOURS = 100
"""Neighbours an item of a catalog where they are of users' lives; 24 say less of films, 200 no more."""
MOST_STORED = 10_000_000
"""Neighbours of all items together from which on each has fewer: 8 bytes each in every replica."""


@dataclass(frozen=True, slots=True, eq=False)
class EventArrays:
    """All events in order of (user, time, session key), the order a History keeps.

    Codes into ``users``, item rows (-1 unknown), and raw columns; ``starts`` [users + 1] bounds each user's events.
    ``recorded``: when each event happened, seconds; ``time`` is the same unless a protocol puts a basket's events at
    one moment. ``place``: key of the store, branch or channel, NOWHERE where not told. ``price``: of one unit, NaN
    where not told.
    """

    users: tuple[str, ...]
    user: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    key: npt.NDArray[np.int64]
    time: npt.NDArray[np.int64]
    session: npt.NDArray[np.int64]
    kind: npt.NDArray[np.uint8]
    value: npt.NDArray[np.float32]
    starts: npt.NDArray[np.int64]
    recorded: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]
    price: npt.NDArray[np.float32]

    def seen(self, since: int, start: int, time: int) -> History:
        """What serving knows at ``time`` of one user's events ``[since, start)``: those recorded before it, at the time
        and in the order they were recorded."""
        window = slice(since, start)
        recorded, session = self.recorded[window], self.session[window]
        order = np.lexsort((session, recorded))
        order = order[: np.searchsorted(recorded[order], time)]
        return History(*(column[order] for column in self._columns(window, self.recorded)))

    def history(self, user: int) -> History:
        """All events of one user, unbounded (``History.before`` bounds it)."""
        return History(*self._columns(self.user_slice(user), self.time))

    def _columns(self, window: slice, time: npt.NDArray[np.int64]) -> Sequence[npt.NDArray[Any]]:
        """What a History holds of some events, in its order."""
        columns = (self.key, time, self.session, self.kind, self.value, self.place, self.price)
        return [column[window] for column in columns]

    def user_slice(self, user: int) -> slice:
        return slice(int(self.starts[user]), int(self.starts[user + 1]))


def load_events(workspace: Workspace) -> pl.DataFrame:
    """Ingested interactions and recorded events, in order of (user_id, timestamp, session_id)."""
    frame = _ingested(workspace)
    if workspace.events.exists():
        log = SqliteEventLog(workspace.events)
        recorded = log.frame().select(_EVENT_COLUMNS)
        log.close()
        frame = pl.concat([frame, recorded])
    return frame.sort("user_id", "timestamp", "session_id", maintain_order=True)


def _ingested(workspace: Workspace) -> pl.DataFrame:
    frame = pl.scan_parquet(workspace.interactions)
    there = frame.collect_schema().names()
    given = (
        pl.col(name).fill_null(none) if name in there else pl.lit(none).alias(name) for name, none in _ABSENT.items()
    )
    return frame.with_columns(given).select(_EVENT_COLUMNS).collect()


def event_arrays(frame: pl.DataFrame, items: pl.DataFrame) -> EventArrays:
    """``frame`` as from `load_events`; ``items`` gives the row numbers."""
    frame = frame.with_columns(
        pl.lit(absent).alias(name) for name, absent in _ABSENT.items() if name not in frame.columns
    )
    rows = items.select("item_id").with_row_index("row")
    sessions = frame.select(pl.col("session_id").unique(maintain_order=True))
    sessions = sessions.with_columns(session=pl.Series(session_keys(sessions["session_id"].to_list())))
    keys = frame.select(pl.col("item_id").unique(maintain_order=True))
    keys = keys.with_columns(key=pl.Series(item_keys(keys["item_id"].to_list())))
    places = frame.select(pl.col("place").unique(maintain_order=True))
    places = places.with_columns(place_key=pl.Series(place_keys(places["place"].to_list())))
    joined = (
        frame.join(rows, on="item_id", how="left", maintain_order="left")
        .join(keys, on="item_id", how="left", maintain_order="left")
        .join(sessions, on="session_id", how="left", maintain_order="left")
        .join(places, on="place", how="left", maintain_order="left")
    )
    # A History knows seconds and session keys: the order must not depend on a fraction or on the session's spelling.
    joined = joined.with_columns(time=pl.col("timestamp").dt.epoch("s"))
    recorded = pl.col("recorded").dt.epoch("s") if "recorded" in frame.columns else pl.col("time")
    joined = joined.with_columns(recorded=recorded)
    joined = joined.sort("user_id", "time", "session", maintain_order=True)
    users = joined["user_id"].unique(maintain_order=True)
    code = joined["user_id"].rle_id().to_numpy().astype(np.int64)
    kinds = joined["event"].replace_strict(
        {kind: number for number, kind in enumerate(EVENT_KINDS)}, return_dtype=pl.UInt8
    )
    return EventArrays(
        users=tuple(users.to_list()),
        user=code,
        row=joined["row"].cast(pl.Int64).fill_null(-1).to_numpy(),
        key=joined["key"].to_numpy(),
        time=joined["time"].to_numpy(),
        session=joined["session"].to_numpy(),
        kind=kinds.to_numpy(),
        value=joined["value"].cast(pl.Float32).to_numpy(),
        starts=np.searchsorted(code, np.arange(len(users) + 1)),
        recorded=joined["recorded"].to_numpy(),
        place=joined["place_key"].to_numpy(),
        price=joined["price"].replace(0.0, math.nan).cast(pl.Float32).to_numpy(),
    )


def affinity_attributes(config: WorkspaceConfig, items: pl.DataFrame) -> list[str]:
    """The categorical attributes whose groups say most: the label, then those with the most values that repeat.

    An attribute that names every item (a code) or none is of no use; attributes are taken from fine to coarse, so that
    substitutes (same type), then categories, then brands each get a slot.
    """
    candidates = []
    for name, kind in config.item_attributes.items():
        if kind != "categorical":
            continue
        distinct = items[name].n_unique()
        if 2 <= distinct <= max(20, min(len(items) // 4, MOST_GROUPS)):
            candidates.append((distinct, name))
    ranked = [name for _, name in sorted(candidates, reverse=True)]
    label = [config.label_column] if config.label_column in ranked else []
    return (label + [name for name in ranked if name not in label])[:AFFINITY_SLOTS]


def neighbours_before(
    events: EventArrays, items: int, time: int | None, lives: bool
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Co-purchase neighbours from events before ``time`` (None: all), so that no later basket leaks into training.

    Of what was had and liked. ``lives``: what the same user had belongs together, not what one visit did."""
    chosen = (events.row >= 0) & signals.liked(events, signals.counted(events))
    if time is not None:
        chosen &= events.time < time
    user, session, row = events.user[chosen], events.session[chosen], events.row[chosen]
    if lives:
        # All that somebody had says who is near, not a visit's few items: more of each one's neighbours tell something.
        top = min(MOST_NEIGHBOURS, max(copurchase.TOP, MOST_STORED // max(1, items)))
        return copurchase.neighbours(user, row, items, top, time=events.time[chosen])
    # Sessions of a user may overlap, so one may be several runs of events; runs are far fewer than events.
    new = (np.diff(user, prepend=-1) != 0) | (np.diff(session, prepend=0) != 0)
    _, of_run = np.unique(np.stack((user[new], session[new]), axis=1), axis=0, return_inverse=True)
    return copurchase.neighbours(of_run.ravel()[np.cumsum(new) - 1], row, items)


def build_item_table(
    config: WorkspaceConfig, items: pl.DataFrame, events: EventArrays, published: Path | None = None
) -> ItemTable:
    """The table as of all events. ``published``: tags of items that have no label (`features.itemtags`)."""
    known = events.row >= 0
    tags = published and ItemTags.build(items, config.label_column, read_published(published))
    bare = ItemTable.build(
        version=f"{config.data_hash[:12]}-{len(events.time)}" + (f"-{tags.version}" if tags else ""),
        tags=tags or None,
        frame=items,
        group_names=affinity_attributes(config, items),
        slots=AFFINITY_SLOTS,
        activity=Activity.count(events.user[known], events.row[known], events.time[known], len(items)),
        neighbours=np.full((len(items), 1), -1, np.int32),
        similarity=np.zeros((len(items), 1), np.float32),
        had_by=signals.had_by(events),
        lives=signals.lives(events),
        liked_at=signals.liked_at(events),
        places=place_activity(events, len(items)),
    )
    return training_view(bare, events, None)


def place_activity(events: EventArrays, items: int) -> PlaceActivity:
    """What was sold where and for how much: what makes an item had, else everything, as `had_by` says."""
    known = (events.row >= 0) & np.isin(events.kind, [EVENT_KINDS.index(kind) for kind in signals.had_by(events)])
    # A protocol may move a basket by a second, over midnight: a day's counts must follow it.
    counted_at = np.maximum(events.time, events.recorded)[known]
    return PlaceActivity.count(events.place[known], events.row[known], counted_at, events.price[known], items)


def training_view(table: ItemTable, events: EventArrays, cut: int | None) -> ItemTable:
    """The table as it could have been built at ``cut`` (None: today): neighbours and hazards from what came before.

    Statistics are read by time and stay the same.
    """
    rows, similarity = neighbours_before(events, len(table), cut, table.lives)
    past = slice(None) if cut is None else events.time < cut
    learned = repurchase.fit(
        events.user[past], events.session[past], events.time[past], events.row[past], kinds(table.groups)
    )
    return replace(table, neighbours=rows, similarity=similarity, repurchase=learned)


def write_features(
    workspace: Workspace,
    store: OnlineStoreConfig,
    table: ItemTable,
    events: EventArrays,
    progress: Progress,
) -> FeatureRepository:
    """Write Feast's sources, register the repository and materialize it into the online store.

    The history source holds what was ingested, without recorded events: a `Recorder` adds the log to it. Logged users
    are pushed again at the end, with what was recorded while this ran.
    """
    users = pl.read_parquet(workspace.users)
    recorded = workspace.events.exists()
    base = event_arrays(_ingested(workspace), table.frame) if recorded else events
    profiles = [name for name in users.columns if name != "user_id"]
    repository = FeatureRepository(workspace.features, profiles, store)
    now = datetime.now(UTC)
    progress("writing feature sources", 0.0)
    # The state is dated when it is materialized: it must replace what was pushed before, whatever time events carry.
    repository.write_source(
        USER_HISTORY,
        pl.DataFrame(
            {
                "user_id": pl.Series(base.users, dtype=pl.String),
                "history": pl.Series(
                    [base.history(user).before(2**62).encode() for user in range(len(base.users))],
                    dtype=pl.Binary,
                ),
            }
        ).with_columns(event_timestamp=pl.lit(now).cast(pl.Datetime("us", "UTC"))),
    )
    if profiles:
        repository.write_source(
            USER_PROFILE,
            users.with_columns(
                *(_text(users[name]) for name in profiles),
                event_timestamp=pl.lit(datetime(1990, 1, 2, tzinfo=UTC)).cast(pl.Datetime("us", "UTC")),
            ),
        )
    repository.write_source(ITEM_STATISTICS, long_form(table.activity, table.frame["item_id"]))
    repository.apply()
    # Statistics of items stay offline: a request reads them from the item table, and a row for every item takes long.
    views = [USER_HISTORY, *([USER_PROFILE] if profiles else [])]
    for number, view in enumerate(views):
        progress(f"materializing {view}", (number + 1) / (len(views) + 1))
        repository.materialize([view], now + timedelta(seconds=1))
    if recorded:
        progress("pushing recorded events", 1.0)
        log = SqliteEventLog(workspace.events)
        log.mark_all_unpushed()
        Recorder(log, repository, repository.histories()).push_pending()
        log.close()
    progress("features materialized", 1.0)
    table.save(workspace.features / "item_table")
    return repository


def _text(column: pl.Series) -> pl.Series:
    return column.list.join(", ") if isinstance(column.dtype, pl.List) else column.cast(pl.String)


def summary(table: ItemTable, events: EventArrays) -> Mapping[str, int]:
    """Counts for the report."""
    return {"users": len(events.users), "items": len(table), "events": len(events.time)}
