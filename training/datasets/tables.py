"""Source tables turned into the canonical ones of `schema`, with what was found on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from training.datasets.columns import infer, read_attribute, read_ids, read_numbers, read_text
from training.datasets.names import near, note_unused
from training.datasets.report import EXAMPLES, Findings, TableCount, examples, listed
from training.datasets.schema import (
    DEFAULT_EVENT,
    DEFAULT_VALUE,
    EARLIEST,
    EVENTS,
    FUTURE_TOLERANCE,
    INTERACTION_COLUMNS,
    INTERACTION_ORDER,
    OPTIONAL_COLUMNS,
    REJECT_COLUMNS,
    REQUIRED,
    TITLE_LIMIT,
    AttributeKind,
    TableName,
)
from training.datasets.screen import Screen
from training.datasets.sources import Table
from training.datasets.timestamps import read_timestamps

FUTURE = "timestamp in the future"
UNKNOWN_ITEM = "item_id is not in items"
SHOWABLE = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
"""Parquet holds years that Python cannot print."""


@dataclass(frozen=True, slots=True)
class Canonical:
    """One canonical table, the source rows set aside, the count of both, and the kind of each attribute column."""

    frame: pl.DataFrame
    rejects: pl.DataFrame
    count: TableCount
    attributes: dict[str, AttributeKind] = field(default_factory=dict)


def canonical_items(table: Table, findings: Findings) -> Canonical:
    """Items by the contract; problems go to ``findings``."""
    if not _has_columns("items", table, findings):
        return empty("items")
    frame = table.frame
    ids = read_ids(frame["item_id"], table.name, findings)
    screen = Screen("items", table, findings)
    screen.set_aside(ids.is_null(), "item_id is missing", ids)
    screen.drop_duplicates(ids)
    screen.apply_rules(excluded=False)
    _refuse_conflicts(ids, screen.kept, table, findings)
    given = "text" in frame.columns
    text = read_text(frame["text"], table.name, findings) if given else _constant("text", None, frame.height)
    columns = [ids, _titles(frame["title"], ids, screen.kept, table.name, findings), text]
    return _with_attributes("items", columns, screen, table, findings)


def canonical_users(table: Table, findings: Findings) -> Canonical:
    """Users by the contract; problems go to ``findings``."""
    if not _has_columns("users", table, findings):
        return empty("users")
    ids = read_ids(table.frame["user_id"], table.name, findings)
    screen = Screen("users", table, findings)
    screen.set_aside(ids.is_null(), "user_id is missing", ids)
    screen.drop_duplicates(ids)
    _refuse_conflicts(ids, screen.kept, table, findings)
    return _with_attributes("users", [ids], screen, table, findings)


def canonical_offers(table: Table, items: pl.Series, findings: Findings) -> Canonical:
    """Offers by the contract; problems go to ``findings``. ``items`` are the known item ids."""
    if not _has_columns("offers", table, findings):
        return empty("offers")
    further = [name for name in table.frame.columns if name not in REQUIRED["offers"]]
    findings.note("offers", "columns that are not read", len(further), tuple(further[:EXAMPLES]))
    offers = read_ids(table.frame["offer_id"], table.name, findings)
    item_ids = read_ids(table.frame["item_id"], table.name, findings)
    screen = Screen("offers", table, findings)
    screen.set_aside(offers.is_null(), "offer_id is missing", item_ids)
    screen.set_aside(item_ids.is_null(), "item_id is missing", offers)
    screen.set_aside(~item_ids.is_in(items.implode()), UNKNOWN_ITEM, item_ids)
    again = ~pl.DataFrame([offers, item_ids]).select(pl.struct(pl.all()).is_first_distinct().alias("first"))["first"]
    screen.set_aside(again, "the item is in the offer already", item_ids)
    screen.apply_rules(excluded=False)
    frame = pl.DataFrame([offers, item_ids]).filter(screen.kept).sort("offer_id", "item_id")
    return Canonical(frame, screen.rejects, screen.count())


def empty(name: TableName) -> Canonical:
    """A table that was not given, or lacks its columns."""
    frame = pl.DataFrame(schema=dict.fromkeys(REQUIRED[name], pl.String))
    return Canonical(frame, frame, TableCount(0, 0))


def canonical_interactions(
    table: Table, items: pl.Series, findings: Findings, now: datetime, timestamp_format: str | None = None
) -> Canonical:
    """Interactions by the contract; problems go to ``findings``.

    ``items`` are the known item ids, ``now`` decides what lies in the future.
    """
    read = read_interactions(table, items, findings, now, timestamp_format)
    if read is None:
        return empty("interactions")
    columns, screen = read
    canonical = pl.DataFrame(columns).filter(screen.kept).sort(INTERACTION_ORDER, maintain_order=True)
    return Canonical(canonical, screen.rejects, screen.count())


def read_interactions(
    table: Table,
    items: pl.Series | None,
    findings: Findings,
    now: datetime,
    timestamp_format: str | None = None,
    used: Sequence[str] = (),
) -> tuple[list[pl.Series], Screen] | None:
    """Canonical columns of every row in the table's order, and which rows stay; None where a column is missing.

    ``items`` None: any item will do. ``used``: columns that the caller reads beside those of the contract.
    """
    if not _has_columns("interactions", table, findings):
        return None
    source, frame = table.name, table.frame
    users = read_ids(frame["user_id"], source, findings)
    item_ids = read_ids(frame["item_id"], source, findings)
    times = read_timestamps(frame["timestamp"], source, findings, timestamp_format)
    events = _events(table, findings)
    values = read_numbers(frame["value"], source, findings) if "value" in frame.columns else None

    note_unused(table, findings, used)
    screen = Screen("interactions", table, findings)
    shown = times.clip(*SHOWABLE)
    screen.set_aside(users.is_null(), "user_id is missing", item_ids)
    screen.set_aside(item_ids.is_null(), "item_id is missing", users)
    screen.set_aside(times.is_null(), "timestamp is missing", item_ids)
    screen.set_aside(times < EARLIEST, "timestamp before 1990", shown)
    screen.set_aside(times > now + FUTURE_TOLERANCE, FUTURE, shown)
    if values is not None:
        screen.set_aside(~values.is_finite(), "value is NaN or infinite", values)
    if items is not None:
        screen.set_aside(~item_ids.is_in(items.implode()), UNKNOWN_ITEM, item_ids)
    # Two equal rows within a day may be two purchases; two within a microsecond are one row exported twice.
    if _daily(times):
        screen.note_duplicates(
            "exact duplicates of an earlier row, kept: who buys twice in a day looks the same", item_ids
        )
    else:
        screen.drop_duplicates(item_ids)
    screen.apply_rules(excluded=False)

    sessions = _sessions(table, users, times, screen.kept, findings)
    columns = [users, item_ids, times.alias("timestamp"), events]
    columns += [_values(values, frame.height, screen.kept, findings), sessions]
    if "place" in frame.columns:
        columns.append(read_ids(frame["place"], source, findings))
    if "price" in frame.columns:
        columns.append(_prices(frame["price"], screen.kept, findings))
    columns += [
        column if table.typed else infer(column, source, findings)
        for column in frame.iter_columns()
        if column.name not in (*INTERACTION_COLUMNS, *OPTIONAL_COLUMNS)
    ]
    return columns, screen


def _has_columns(name: TableName, table: Table, findings: Findings) -> bool:
    found = table.frame.columns
    missing = [column for column in REQUIRED[name] if column not in found]
    reserved = [column for column in found if column in REJECT_COLUMNS]
    for column in missing:
        meant = near(column, [other for other in found if other not in REQUIRED[name]])
        rename = f" Rename '{meant}' to '{column}'" if meant else f" Add a column '{column}'"
        if len(found) == 1 and any(mark in found[0] for mark in ";\t|"):
            rename = " The file seems to use another separator: save it with commas"
        findings.problem(table.name, f"{name} need a column '{column}'; found {', '.join(found)}.{rename}")
    for column in reserved:
        findings.problem(table.name, f"column '{column}' has a reserved name. Rename it")
    for column in found:
        if not table.typed and "_duplicated_" in column:
            findings.problem(
                table.name, f"column '{column.split('_duplicated_')[0]}' occurs twice in the header. Rename one of them"
            )
    return not missing and not reserved


def _refuse_conflicts(ids: pl.Series, kept: pl.Series, table: Table, findings: Findings) -> None:
    frame = table.frame.with_columns(ids).with_row_index("reject_row", offset=1).filter(kept)
    repeated = frame.filter(pl.col(ids.name).is_duplicated())
    if repeated.is_empty():
        return
    shown = []
    names = repeated[ids.name].unique(maintain_order=True)
    for name in names.head(EXAMPLES):
        group = repeated.filter(pl.col(ids.name) == name)
        differing = [c for c in table.frame.columns if group[c].n_unique() > 1]
        rows = ", ".join(map(str, group["reject_row"].head(5).to_list()))
        shown.append(f"'{name}' (rows {rows} differ in {', '.join(differing) or 'how the id is written'})")
    more = f" and {names.len() - EXAMPLES} more" if names.len() > EXAMPLES else ""
    findings.problem(
        table.name, f"column '{ids.name}' repeats with conflicting rows: {', '.join(shown)}{more}. Keep one row per id"
    )


def _titles(column: pl.Series, ids: pl.Series, kept: pl.Series, source: str, findings: Findings) -> pl.Series:
    titles = read_text(column, source, findings)
    empty = titles.is_null() & kept
    findings.warn("items", "empty title, item_id used instead", int(empty.sum()), examples(ids, empty))
    long = (titles.str.len_chars() > TITLE_LIMIT).fill_null(False) & kept
    findings.warn("items", f"title cut to {TITLE_LIMIT:,} characters", int(long.sum()), examples(titles, long))
    return titles.str.slice(0, TITLE_LIMIT).zip_with(titles.is_not_null(), ids)


def _with_attributes(
    name: TableName, columns: list[pl.Series], screen: Screen, table: Table, findings: Findings
) -> Canonical:
    taken = {column.name for column in columns}
    kinds: dict[str, AttributeKind] = {}
    for column in table.frame.iter_columns():
        if column.name not in taken:
            attribute, kinds[column.name] = read_attribute(column, name, table.name, findings, typed=table.typed)
            columns.append(attribute)
    frame = pl.DataFrame(columns).filter(screen.kept).sort(columns[0].name, maintain_order=True)
    return Canonical(frame, screen.rejects, screen.count(), kinds)


def _events(table: Table, findings: Findings) -> pl.Series:
    if "event" not in table.frame.columns:
        return _constant("event", DEFAULT_EVENT, table.frame.height)
    events = read_text(table.frame["event"], table.name, findings).str.to_lowercase()
    unknown = (~events.is_in(EVENTS)).fill_null(False)
    if unknown.any():
        kinds = ", ".join(f"'{kind}'" for kind in events.filter(unknown).unique().sort().head(20))
        findings.problem(
            table.name,
            f"column 'event' holds unknown kinds {kinds} ({listed(events, unknown)}). Map each to one of "
            f"{', '.join(EVENTS)}, or remove those rows",
        )
    findings.note("interactions", f"missing event, read as {DEFAULT_EVENT}", events.null_count())
    return events.fill_null(DEFAULT_EVENT)


def _values(values: pl.Series | None, height: int, kept: pl.Series, findings: Findings) -> pl.Series:
    if values is None:
        return _constant("value", DEFAULT_VALUE, height)
    findings.note("interactions", f"missing value, read as {DEFAULT_VALUE}", int((values.is_null() & kept).sum()))
    return values.fill_null(DEFAULT_VALUE)


def _prices(prices: pl.Series, kept: pl.Series, findings: Findings) -> pl.Series:
    """Nobody is refused for a price: what is none is not told."""
    numbers = prices.cast(pl.Float64, strict=False)
    # As features hold them: what is 0 or infinite in 32 bits has no logarithm.
    single = numbers.cast(pl.Float32)
    good = (single.is_finite() & (single > 0)).fill_null(False)
    told = "price is no number above 0, read as not told"
    findings.note("interactions", told, int((prices.is_not_null() & ~good & kept).sum()))
    return pl.select(pl.when(good).then(numbers).alias("price")).to_series()


def _sessions(table: Table, users: pl.Series, times: pl.Series, kept: pl.Series, findings: Findings) -> pl.Series:
    given = "session_id" in table.frame.columns
    column = table.frame["session_id"] if given else _constant("session_id", None, users.len())
    sessions = read_ids(column, table.name, findings)
    missing = sessions.is_null()
    if not missing.any():
        return sessions
    findings.note("interactions", "missing session_id, derived from user and day", int((missing & kept).sum()))
    # As `features.events.day_session` has it: what a service records later that day is of the same session.
    derived = users + "|" + times.dt.strftime("%Y-%m-%d")
    return derived.zip_with(missing, sessions).alias("session_id")


def _daily(times: pl.Series) -> bool:
    return bool((times == times.dt.truncate("1d")).all())


def _constant(name: str, value: str | float | None, height: int) -> pl.Series:
    dtype = pl.Float64 if isinstance(value, float) else pl.String
    return pl.Series(name, [value], dtype).new_from_index(0, height)
