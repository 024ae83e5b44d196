"""Rows that cannot be used: set aside with a reason and counted, never lost; conflicts stop the ingest."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import polars as pl
import pytest

from features.workspace import Workspace
from tests.unit.ingest.conftest import EVENTS, ITEMS, Ingest
from training.datasets.errors import InvalidTable
from training.datasets.report import IngestReport

HEADER = "user_id,item_id,timestamp,value\n"
GOOD = "u,a,2024-05-01T10:00:00Z,1\n"


def nothing_lost(report: IngestReport) -> bool:
    return all(
        count.rows_in == count.rows_out + sum(count.rejected.values()) + sum(count.excluded.values())
        for count in report.tables.values()
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",a,2024-05-01T10:00:00Z,1\n", "user_id is missing"),
        ("u,  ,2024-05-01T10:00:00Z,1\n", "item_id is missing"),
        ("u,a,,1\n", "timestamp is missing"),
        ("u,a,1989-12-31T23:59:59Z,1\n", "timestamp before 1990"),
        ("u,a,2024-06-02T00:00:01Z,1\n", "timestamp in the future"),
        ("u,a,2024-05-01T10:00:00Z,NaN\n", "value is NaN or infinite"),
        ("u,a,2024-05-01T10:00:00Z,-inf\n", "value is NaN or infinite"),
        ("u,zz,2024-05-01T10:00:00Z,1\n", "item_id is not in items"),
        (GOOD, "exact duplicate of an earlier row"),
    ],
)
def test_faulty_interaction_is_kept_aside_as_it_was(shop: Ingest, workspace: Workspace, row: str, reason: str) -> None:
    report = shop(interactions=HEADER + GOOD + row)
    assert report.tables["interactions"].rejected == {reason: 1}
    assert [(w.kind, w.count) for w in report.warnings] == [(reason, 1)]
    assert report.warnings[0].examples[0].startswith("row 2: ")
    assert nothing_lost(report)
    [reject] = pl.read_parquet((workspace.items.parent / "rejects") / "interactions.parquet").rows()
    assert reject == (2, reason, *(cell or None for cell in row.strip("\n").split(",")))
    assert pl.read_parquet(workspace.interactions).height == 1


def test_a_row_with_several_faults_is_counted_once(shop: Ingest) -> None:
    report = shop(interactions=HEADER + GOOD + ",zz,1970-01-01T00:00:00Z,NaN\n")
    assert report.tables["interactions"].rejected == {"user_id is missing": 1}


def test_a_warning_shows_five_examples_and_counts_all(shop: Ingest) -> None:
    report = shop(interactions=HEADER + GOOD + "".join(f"u,z{i},2024-05-01T10:00:00Z,1\n" for i in range(9)))
    [warning] = report.warnings
    assert warning.count == 9
    assert warning.examples == tuple(f"row {i + 2}: 'z{i}'" for i in range(5))


def test_times_a_few_hours_ahead_are_no_future(shop: Ingest) -> None:
    report = shop(interactions=HEADER + "u,a,2024-06-01T14:00:00,1\n")
    assert not report.tables["interactions"].rejected


def test_equal_rows_within_a_day_are_separate_events_and_counted(shop: Ingest) -> None:
    again, unknown = "u,a,2024-05-01\n", "u,zz,2024-05-01\n"
    report = shop(interactions="user_id,item_id,timestamp\n" + 3 * again + 2 * unknown)
    assert report.tables["interactions"].rows_out == 3
    (note,) = (notice for notice in report.notices if "duplicates" in notice.kind)
    assert (note.level, note.count, note.examples) == ("note", 2, ("row 2: 'a'", "row 3: 'a'"))
    assert "kept: who buys twice in a day looks the same" in note.kind


def test_no_interaction_left_is_an_error_with_the_reasons(shop: Ingest) -> None:
    with pytest.raises(InvalidTable, match=r"no row is left \(2 rows: item_id is not in items\)"):
        shop(interactions=HEADER + GOOD.replace(",a,", ",x,") + GOOD.replace(",a,", ",y,"))


def test_duplicate_and_nameless_items_are_kept_aside(shop: Ingest, workspace: Workspace) -> None:
    report = shop(items=ITEMS + "a,Apple,fruit,1.5\n,Ghost,fruit,1\n")
    assert report.tables["items"].rejected == {"exact duplicate of an earlier row": 1, "item_id is missing": 1}
    rejects = pl.read_parquet((workspace.items.parent / "rejects") / "items.parquet")
    assert rejects["reject_row"].to_list() == [4, 5]
    assert nothing_lost(report)


def test_conflicting_items_are_an_error_naming_rows_and_columns(shop: Ingest) -> None:
    with pytest.raises(
        InvalidTable, match=r"'item_id' repeats with conflicting rows: 'a' \(rows 1, 4 differ in price\)"
    ):
        shop(items=ITEMS + "a,Apple,fruit,2\n")


def test_users_follow_the_same_rules(shop: Ingest) -> None:
    report = shop(users="user_id,age\nu1,3\nu1,3\n,4\n")
    assert report.tables["users"].rejected == {"exact duplicate of an earlier row": 1, "user_id is missing": 1}
    with pytest.raises(
        InvalidTable, match=r"'user_id' repeats with conflicting rows: 'u1' \(rows 1, 2 differ in age\)"
    ):
        shop(users="user_id,age\nu1,3\nu1,4\n")


def test_empty_title_falls_back_and_long_title_is_cut(shop: Ingest, workspace: Workspace) -> None:
    report = shop(items=f"item_id,title\na,\nb,{'x' * 2001}\nc,{'y' * 2000}\n")
    titles = pl.read_parquet(workspace.items)["title"].to_list()
    assert titles == ["a", "x" * 2000, "y" * 2000]
    assert [(w.kind, w.count) for w in report.warnings] == [
        ("empty title, item_id used instead", 1),
        ("title cut to 2,000 characters", 1),
    ]
    assert all(len(example) < 120 for w in report.warnings for example in w.examples)


def test_broken_numbers_in_attributes_are_read_as_missing(shop: Ingest, workspace: Workspace) -> None:
    items = pl.DataFrame({"item_id": ["a", "b", "c"], "title": "t", "price": [math.nan, math.inf, 1.0]})
    report = shop(items=items)
    assert pl.read_parquet(workspace.items)["price"].to_list() == [None, None, 1.0]
    assert [(w.count, w.examples) for w in report.warnings] == [(2, ("row 1: nan", "row 2: inf"))]


def test_rejected_future_rows_are_taken_up_once_they_are_past(shop: Ingest) -> None:
    interactions = EVENTS + "u1,c,2024-07-01T00:00:00Z\n"
    assert shop(interactions=interactions).tables["interactions"].rows_out == 3
    later = shop(interactions=interactions, now=datetime(2024, 7, 2, tzinfo=UTC))
    assert (later.status, later.tables["interactions"].rows_out) == ("ingested", 4)


def test_years_that_python_cannot_hold_are_rejected_too(shop: Ingest) -> None:
    times = pl.Series([0, 2**61, -(2**61), 1_714_559_400_000_000]).cast(pl.Datetime("us", "UTC"))
    report = shop(interactions=pl.DataFrame({"user_id": "u", "item_id": "a", "timestamp": times}))
    assert report.tables["interactions"].rejected == {"timestamp before 1990": 2, "timestamp in the future": 1}
