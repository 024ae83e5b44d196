"""Histories and item tables of any size for tests, and a slice of the real dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from hypothesis import strategies as st

from features.history import EVENT_KINDS, History
from features.items import ItemTable
from features.keys import place_key, place_keys
from features.places import PlaceActivity
from features.ports import Event
from features.repurchase import Repurchase
from features.schema import AFFINITY_SLOTS, RANKING_NAMES
from features.statistics import Activity
from features.transforms import assemble, summarize
from features.workspace import Workspace, WorkspaceConfig
from training.datasets.ingest import ingest_complete_journey
from training.materialize import EventArrays, build_item_table, event_arrays, load_events

WEEK = 7 * 86_400
START = 2_000 * WEEK
COPURCHASE = 0.25
PLACES = ("", "north", "south")


def event(
    number: int,
    item: str,
    time: int,
    session: str = "s",
    kind: str = "purchase",
    user: str = "u",
    value: float = 1.0,
    place: str = "",
    price: float = 0.0,
) -> Event:
    return Event(f"e{number}", user, item, kind, value, time, session, place, price)


def events_of(user: str, items: Sequence[str], start: int = START, step: int = 86_400) -> list[Event]:
    """One event a step, each a session of its own."""
    return [
        Event(f"{user}-{number}", user, item, "purchase", 1.0, start + number * step, f"{user}-s{number}")
        for number, item in enumerate(items)
    ]


def to_frame(events: Sequence[Event]) -> pl.DataFrame:
    """As `load_events` gives them."""
    return (
        pl.DataFrame(
            {
                "user_id": pl.Series([event.user_id for event in events], dtype=pl.String),
                "item_id": pl.Series([event.item_id for event in events], dtype=pl.String),
                "timestamp": pl.Series([event.timestamp for event in events], dtype=pl.Int64),
                "event": pl.Series([event.kind for event in events], dtype=pl.String),
                "value": pl.Series([event.value for event in events], dtype=pl.Float64),
                "session_id": pl.Series([event.session_id for event in events], dtype=pl.String),
                "place": pl.Series([event.place for event in events], dtype=pl.String),
                "price": pl.Series([event.price for event in events], dtype=pl.Float64),
            }
        )
        .with_columns(timestamp=(pl.col("timestamp") * 1_000_000).cast(pl.Datetime("us", "UTC")))
        .sort("user_id", "timestamp", "session_id", maintain_order=True)
    )


def catalog(n: int, brands: int = 3) -> pl.DataFrame:
    """Items i0.. with two categorical attributes; every seventh has no category."""
    return pl.DataFrame(
        {
            "item_id": [f"i{number}" for number in range(n)],
            "title": [f"Item {number}" for number in range(n)],
            "text": [f"Item {number}" for number in range(n)],
            "category": [None if number % 7 == 6 else f"c{number % 4}" for number in range(n)],
            "brand": [f"b{number % brands}" for number in range(n)],
        },
        schema=dict.fromkeys(("item_id", "title", "text", "category", "brand"), pl.String),
    )


CONFIG = WorkspaceConfig(
    dataset="shop",
    data_hash="0123456789abcdef",
    label_column="category",
    ontology="generic",
    clock="data",
    data_end=START,
    item_attributes={"category": "categorical", "brand": "categorical"},
)


def table_of(items: pl.DataFrame, events: Sequence[Event]) -> tuple[ItemTable, EventArrays]:
    arrays = event_arrays(to_frame(events), items)
    return build_item_table(CONFIG, items, arrays), arrays


def activity_of(events: Sequence[Event], items: int) -> Activity:
    """Counts of the events of items i0..; others are left out."""
    users: dict[str, int] = {}
    known = [e for e in events if e.item_id[1:].isdigit() and int(e.item_id[1:]) < items]
    columns = (
        [users.setdefault(e.user_id, len(users)) for e in known],
        [int(e.item_id[1:]) for e in known],
        [e.timestamp for e in known],
    )
    user, row, time = (np.array(column, np.int64) for column in columns)
    return Activity.count(user, row, time, items)


def places_of(events: Sequence[Event], items: int) -> PlaceActivity:
    """Of the events of items i0..; others are left out."""
    known = [e for e in events if e.item_id[1:].isdigit() and int(e.item_id[1:]) < items]
    return PlaceActivity.count(
        place_keys([e.place for e in known]),
        np.array([int(e.item_id[1:]) for e in known], np.int64),
        np.array([e.timestamp for e in known], np.int64),
        np.array([e.price or np.nan for e in known], np.float32),
        items,
    )


def bare_table(n: int, events: Sequence[Event] = (), repurchase: Repurchase | None = None) -> ItemTable:
    """n items without neighbours; statistics are those of the events."""
    return ItemTable.build(
        "v",
        catalog(n),
        ["category", "brand"],
        AFFINITY_SLOTS,
        activity_of(events, n),
        np.full((n, 4), -1, np.int32),
        np.zeros((n, 4), np.float32),
        repurchase,
        places=places_of(events, n),
    )


@dataclass(frozen=True)
class Journey:
    """A slice of The Complete Journey with what training builds of it."""

    workspace: Workspace
    items: pl.DataFrame
    frame: pl.DataFrame
    events: EventArrays
    table: ItemTable


def journey(folder: Path, households: int, items: int | None = None) -> Journey:
    """``items`` keeps only the most bought ones, so that materializing them is quick."""
    workspace = Workspace(folder)
    ingest_complete_journey(workspace, households=households)
    if items is not None:
        sold = pl.read_parquet(workspace.interactions)
        most = sold.group_by("item_id").len().sort("len", "item_id", descending=[True, False])["item_id"].head(items)
        sold.filter(pl.col("item_id").is_in(most.implode())).write_parquet(workspace.interactions)
        kept = pl.read_parquet(workspace.items)
        kept.filter(pl.col("item_id").is_in(most.implode())).write_parquet(workspace.items)
    catalogued = pl.read_parquet(workspace.items)
    frame = load_events(workspace)
    events = event_arrays(frame, catalogued)
    return Journey(workspace, catalogued, frame, events, build_item_table(workspace.config(), catalogued, events))


FAR_OFF = 1_000.0
"""A price that no item has."""
OF_SALES = {"i_price", "i_price_change", "h_days_since", "h_price_change", "h_kind"}
"""Columns of what was sold everywhere and in a place, and for how much."""


def moved(table: ItemTable, other: ItemTable, time: int, place: str) -> set[str]:
    """Columns that differ between two tables of the same items, for somebody without a history in that place."""
    columns = []
    for each in (table, other):
        profile = summarize(History.empty(), each, time, place_key(place))
        columns.append(assemble(profile, each, np.arange(len(each)), np.zeros(len(each))).T.copy())
    return {name for name, one, two in zip(RANKING_NAMES, *columns, strict=True) if one.tobytes() != two.tobytes()}


@st.composite
def histories(draw: st.DrawFn, items: int = 12, most: int = 40, steps: Sequence[int] = (40_000,)) -> list[Event]:
    """Events of one user over few items, sessions and times, so that all of them repeat, tie and overlap.

    ``steps``: seconds between two times, one of them drawn.
    """
    step = draw(st.sampled_from(steps))
    drawn = draw(
        st.lists(
            st.tuples(
                st.integers(0, items + 2),
                st.integers(0, 20),
                st.integers(0, 4),
                st.sampled_from(EVENT_KINDS),
                st.floats(-100, 100, width=32),
                st.sampled_from(PLACES),
                st.sampled_from((0.0, 0.5, 3.25)),
            ),
            max_size=most,
        )
    )
    return [
        event(number, f"i{item}", START + slot * step, f"s{session}", kind, value=value, place=place, price=price)
        for number, (item, slot, session, kind, value, place, price) in enumerate(drawn)
    ]
