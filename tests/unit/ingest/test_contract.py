"""What comes out: dtypes, order, defaults, attribute kinds, the workspace's configuration."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.keys import NOWHERE, place_keys
from features.workspace import Workspace
from tests.unit.ingest.conftest import EVENTS, ITEMS, Ingest
from training.datasets.columns import read_ids
from training.datasets.errors import InvalidTable
from training.datasets.report import Findings, IngestReport
from training.materialize import event_arrays, load_events

ROWS = {"user_id": ["u1"], "item_id": ["a"], "timestamp": [datetime(2024, 5, 1)]}


def test_canonical_tables_have_the_contract_dtypes(shop: Ingest, workspace: Workspace) -> None:
    shop()
    assert dict(pl.read_parquet(workspace.interactions).schema) == {
        "user_id": pl.String,
        "item_id": pl.String,
        "timestamp": pl.Datetime("us", "UTC"),
        "event": pl.String,
        "value": pl.Float64,
        "session_id": pl.String,
    }
    assert dict(pl.read_parquet(workspace.items).schema) == {
        "item_id": pl.String,
        "title": pl.String,
        "text": pl.String,
        "category": pl.String,
        "price": pl.Float64,
    }
    assert pl.read_parquet(workspace.users).schema == {"user_id": pl.String}


def test_interactions_are_sorted_and_defaults_filled(shop: Ingest, workspace: Workspace) -> None:
    shop()
    frame = pl.read_parquet(workspace.interactions)
    assert frame.select("user_id", "item_id").rows() == [("u1", "a"), ("u1", "b"), ("u2", "b")]
    assert frame["event"].unique().to_list() == ["purchase"]
    assert frame["value"].to_list() == [1.0, 1.0, 1.0]
    assert frame["session_id"].to_list() == ["u1|2024-05-01", "u1|2024-05-01", "u2|2024-05-03"]


def test_given_event_value_and_session_survive_and_their_gaps_are_noted(shop: Ingest, workspace: Workspace) -> None:
    report = shop(
        interactions="user_id,item_id,timestamp,event,value,session_id,store\n"
        "u,a,2024-05-01T00:00:01Z,View,2.5,s,north\nu,b,2024-05-01T00:00:02Z,,,,south\n"
    )
    assert pl.read_parquet(workspace.interactions).drop("timestamp").rows() == [
        ("u", "a", "view", 2.5, "s", "north"),
        ("u", "b", "purchase", 1.0, "u|2024-05-01", "south"),
    ]
    assert {n.kind for n in report.notices} >= {
        "missing event, read as purchase",
        "missing value, read as 1.0",
        "missing session_id, derived from user and day",
    }


def test_places_are_names_and_what_is_no_price_is_not_told(shop: Ingest, workspace: Workspace) -> None:
    report = shop(
        interactions="user_id,item_id,timestamp,place,price\n"
        "u,a,2024-05-01T00:00:01Z,007,2.5\nu,a,2024-05-01T00:00:02Z,,0\nu,a,2024-05-01T00:00:03Z,12,$3\n"
        "u,a,2024-05-01T00:00:04Z,12,-1\nu,b,2024-05-01T00:00:05Z,north,\n"
        "u,b,2024-05-01T00:00:06Z,north,1e-60\nu,b,2024-05-01T00:00:07Z,north,1e60\n"
    )
    told = pl.read_parquet(workspace.interactions).select("place", "price")
    assert told.schema == {"place": pl.String, "price": pl.Float64}
    assert told.rows() == [("007", 2.5), (None, None), ("12", None), ("12", None), *[("north", None)] * 3]
    (notice,) = (notice for notice in report.notices if "price" in notice.kind)
    assert (notice.kind, notice.count) == ("price is no number above 0, read as not told", 5)
    events = event_arrays(load_events(workspace), pl.read_parquet(workspace.items))
    assert events.place.tolist() == place_keys(["007", "", "12", "12", *["north"] * 3]).tolist()
    assert np.isnan(events.price).tolist() == [False, *[True] * 6]


@pytest.mark.parametrize("column", ["place", "price"])
def test_places_come_without_prices_and_prices_without_places(shop: Ingest, workspace: Workspace, column: str) -> None:
    shop(interactions=pl.DataFrame({**ROWS, column: [7]}))
    events = event_arrays(load_events(workspace), pl.read_parquet(workspace.items))
    assert (events.place.tolist() == [NOWHERE]) == (column == "price")
    assert np.isnan(events.price).tolist() == [column == "place"]


def test_further_interaction_columns_of_parquet_stay_as_they_are(shop: Ingest, workspace: Workspace) -> None:
    extra = {"store": [7], "tags": [["x"]], "where": [{"lat": 1.0}]}
    shop(interactions=pl.DataFrame({**ROWS, **extra}))
    frame = pl.read_parquet(workspace.interactions)
    assert frame["store"].dtype == pl.Int64
    assert frame["tags"].to_list() == [["x"]]
    assert frame["where"].to_list() == [{"lat": 1.0}]


@pytest.mark.parametrize(
    ("header", "row", "told"),
    [
        (
            "stars",
            "4.5",
            "column 'stars' seems to hold ratings and is not used: rename it to 'value', and add a column",
        ),
        ("event,Rating", "rating,4", "rename it to 'value', and the event of these rows is rating"),
        ("storeId", "7", "column 'storeId' is not used: if it is what Tandem calls 'place', rename it so"),
        ("quantity", "2", "column 'quantity' is not used: if it is what Tandem calls 'value', rename it so"),
    ],
)
def test_columns_that_nothing_uses_are_listed_with_how_to_bring_them(
    shop: Ingest, header: str, row: str, told: str
) -> None:
    report = shop(interactions=f"user_id,item_id,timestamp,{header},colour\nu,a,2024-05-01T00:00:01Z,{row},red\n")
    assert any(told in notice.kind for notice in report.notices)
    (note,) = (notice for notice in report.notices if notice.kind.startswith("columns that nothing uses"))
    assert note.examples == (header.split(",")[-1], "colour")


def test_a_rating_beside_a_value_or_in_words_is_only_listed(shop: Ingest) -> None:
    for header, row in (("value,rating", "1,4"), ("rating", "good")):
        report = shop(interactions=f"user_id,item_id,timestamp,{header}\nu,a,2024-05-01T00:00:01Z,{row}\n")
        assert not any("ratings" in notice.kind for notice in report.notices)


def test_attributes_of_parquet_get_their_kinds(shop: Ingest, workspace: Workspace) -> None:
    items = pl.DataFrame(
        {
            "item_id": [1, 2],
            "title": ["x", "y"],
            "category": pl.Series(["p", "q"], dtype=pl.Categorical),
            "stock": [3, None],
            "brand_id": [10, 11],
            "organic": [True, False],
            "launched": [date(1970, 1, 2), None],
            "tags": [["s"], []],
            "codes": [[1, 2], None],
        }
    )
    shop(items=items, interactions=pl.DataFrame({**ROWS, "item_id": [2]}))
    assert workspace.config().item_attributes == {
        "category": "categorical",
        "stock": "numeric",
        "brand_id": "categorical",
        "organic": "categorical",
        "launched": "numeric",
        "tags": "list",
        "codes": "list",
    }
    assert pl.read_parquet(workspace.items).rows() == [
        ("1", "x", None, "p", 3.0, "10", "true", 86400.0, ["s"], ["1", "2"]),
        ("2", "y", None, "q", None, "11", "false", None, [], None),
    ]


def test_attributes_of_csv_are_inferred_and_codes_stay_text(shop: Ingest, workspace: Workspace) -> None:
    shop(
        items='item_id,title,zip,size,tags\n007,x,01234,1e3,"[""p"", ""q""]"\n12,y,99999,2,[]\n',
        interactions="user_id,item_id,timestamp\nu,007,2024-05-01\n",
    )
    assert workspace.config().item_attributes == {"zip": "categorical", "size": "numeric", "tags": "list"}
    assert pl.read_parquet(workspace.items).rows() == [
        ("007", "x", None, "01234", 1000.0, ["p", "q"]),
        ("12", "y", None, "99999", 2.0, []),
    ]


def test_nested_attribute_is_refused(shop: Ingest) -> None:
    with pytest.raises(InvalidTable, match=r"'spec' has type Struct.*Flatten it"):
        shop(items=pl.DataFrame({"item_id": ["a"], "title": ["x"], "spec": [{"k": 1}]}))


def test_csv_and_parquet_of_the_same_rows_give_the_same_hash(shop: Ingest, tmp_path: Path) -> None:
    first = shop()
    frame = pl.read_csv(tmp_path / "interactions.csv", try_parse_dates=True)
    second = shop(items=pl.read_csv(tmp_path / "items.csv"), interactions=frame)
    assert second.status == "ingested"
    assert second.data_hash == first.data_hash


def test_one_changed_value_changes_the_hash(shop: Ingest) -> None:
    hashes = {shop().data_hash, shop(items=ITEMS.replace("1.5", "1.6")).data_hash}
    hashes.add(shop(items=ITEMS.replace("Apple", "Appl")).data_hash)
    assert len(hashes) == 3


def test_label_is_category_unless_said_otherwise(shop: Ingest, workspace: Workspace) -> None:
    shop()
    assert workspace.config().label_column == "category"
    shop(label_column=None)
    assert workspace.config().label_column is None
    shop(items="item_id,title,kind\na,x,k\nb,y,k\n", ontology="retail")
    assert (workspace.config().label_column, workspace.config().ontology) == (None, "retail")


@pytest.mark.parametrize(("label", "why"), [("price", "is numeric"), ("colour", "is no attribute")])
def test_unusable_label_is_refused(shop: Ingest, label: str, why: str) -> None:
    with pytest.raises(InvalidTable, match=rf"'{label}' {why}.*Choose one of category"):
        shop(label_column=label)


def test_clock_follows_the_age_of_the_data(shop: Ingest, workspace: Workspace) -> None:
    report = shop()
    assert workspace.config().clock == "wall"
    assert workspace.config().data_end == int(datetime(2024, 5, 3, 10, tzinfo=UTC).timestamp())
    assert not any("clock" in n.kind for n in report.notices)
    report = shop(now=datetime(2024, 6, 3, tzinfo=UTC))
    assert report.status == "ingested"
    assert workspace.config().clock == "data"
    assert any("clock" in n.kind for n in report.notices)


def test_users_without_a_row_are_noted(shop: Ingest, workspace: Workspace) -> None:
    report = shop(users="user_id,age\nu1,30\nu9,40\n")
    assert pl.read_parquet(workspace.users).rows() == [("u1", 30.0), ("u9", 40.0)]
    assert workspace.config().user_attributes == {"age": "numeric"}
    [note] = [n for n in report.notices if n.table == "users"]
    assert (note.level, note.count, note.examples) == ("note", 1, ("u2",))


def test_report_survives_its_file(shop: Ingest, workspace: Workspace) -> None:
    report = shop(interactions=EVENTS + "u1,zz,2024-05-01T10:00:00Z\n")
    assert IngestReport.from_json(workspace.ingest_report.read_text()) == report


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=1))
def test_integer_ids_keep_every_digit(ids: list[int | None]) -> None:
    findings = Findings()
    read = read_ids(pl.Series("item_id", ids, pl.Int64), "t", findings).to_list()
    assert read == [None if i is None else str(i) for i in ids]
    assert not findings.problems


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])), min_size=1))
def test_text_ids_lose_only_surrounding_blanks(ids: list[str]) -> None:
    findings = Findings()
    read = read_ids(pl.Series("item_id", ids), "t", findings).to_list()
    if not findings.problems:
        assert read == [i.strip() or None for i in ids]


@pytest.mark.parametrize("ids", [pl.Series([12.0, 13.0]), pl.Series(["12.0", "13.0"]), pl.Series([math.nan, 1.0])])
def test_float_ids_are_refused(ids: pl.Series) -> None:
    findings = Findings()
    read_ids(ids.alias("item_id"), "items.csv", findings)
    assert "items.csv: column 'item_id' holds floats (row 1:" in findings.problems[0]
    assert "Export ids as integers or text" in findings.problems[0]
