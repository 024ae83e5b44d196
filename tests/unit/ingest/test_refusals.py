"""Sources that cannot be ingested: one clear error with file, column, value and remedy, and nothing written."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from features.workspace import Workspace
from tests.unit.ingest.conftest import EVENTS, ITEMS, NOW, Ingest
from training.datasets.errors import IngestError, InvalidTable, SourceUnreadable
from training.datasets.ingest import ingest_files


def ingest_items(path: Path, workspace: Workspace) -> None:
    events = path.parent / "events.csv"
    events.write_text(EVENTS)
    ingest_files(path, events, None, workspace, now=NOW)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("items.xlsx", b"x", "has the suffix '.xlsx'. Write the table as .csv or .parquet"),
        ("items", b"x", "has the suffix ''"),
        ("items.csv", b"", "is empty (0 bytes)"),
        ("items.parquet", b"", "is empty (0 bytes)"),
        ("items.csv", b"item_id,title\n", "has a header and no rows"),
        ("items.parquet", b"PAR1 and then noise", "cannot be read as parquet"),
        ("items.csv", b"item_id,title\n\xff\xfe,x\n", "cannot be read as csv (invalid utf-8"),
        ("items.csv", b"item_id,title\na,b\nc,d,e\n", "cannot be read as csv: line 3 has 3 fields, the header names 2"),
        ("items.csv", b'item_id,title\n"a,b\n', "cannot be read as csv"),
    ],
)
def test_unreadable_file(tmp_path: Path, workspace: Workspace, name: str, content: bytes, why: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceUnreadable) as caught:
        ingest_items(path, workspace)
    assert str(caught.value).startswith(f"{path} ")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not workspace.config_file.exists()


def test_missing_file_and_folder(tmp_path: Path, workspace: Workspace) -> None:
    with pytest.raises(SourceUnreadable, match=r"nowhere.csv does not exist. Check the path"):
        ingest_items(tmp_path / "nowhere.csv", workspace)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(SourceUnreadable, match=r"is no file. Name one .csv or .parquet file"):
        ingest_items(tmp_path / "folder.csv", workspace)


@pytest.mark.parametrize(
    ("header", "suggestion"),
    [
        ("product_id,title", "Rename 'product_id' to 'item_id'"),
        ("Item ID,title", "Rename 'Item ID' to 'item_id'"),
        ("itemid,title", "Rename 'itemid' to 'item_id'"),
        ("movieId,title", "Rename 'movieId' to 'item_id'"),
        ("trackId,title,paid", "Rename 'trackId' to 'item_id'"),
        ("trackId,albumId,title", "Add a column 'item_id'"),
        ("userId,title", "Add a column 'item_id'"),
        ("foo,title", "Add a column 'item_id'"),
    ],
)
def test_missing_column_lists_what_was_found_and_suggests(shop: Ingest, header: str, suggestion: str) -> None:
    with pytest.raises(InvalidTable) as caught:
        shop(items=f"{header}\na,b\n")
    assert f"items need a column 'item_id'; found {header.replace(',', ', ')}. {suggestion}" in str(caught.value)


def test_other_separator_is_recognised(shop: Ingest) -> None:
    with pytest.raises(InvalidTable, match="seems to use another separator: save it with commas"):
        shop(items="item_id;title\na;b\n")


def test_repeated_and_reserved_columns_are_refused(shop: Ingest) -> None:
    with pytest.raises(InvalidTable, match="column 'size' occurs twice in the header"):
        shop(items="item_id,title,size,size\na,b,1,2\n")
    with pytest.raises(InvalidTable, match="column 'reject_row' has a reserved name"):
        shop(items="item_id,title,reject_row\na,b,1\n")


def test_all_problems_of_all_files_come_in_one_error(shop: Ingest, workspace: Workspace) -> None:
    with pytest.raises(InvalidTable) as caught:
        shop(
            items="item_id,title\n1.0,x\n2.0,y\n",
            interactions="user_id,item_id,timestamp,event,value\nu,1,soon,buy,many\nu,1,2024-05-01,view,2\n",
            users="name\nx\n",
        )
    problems = caught.value.problems
    assert len(problems) == 5
    for part in (
        "items.csv: column 'item_id' holds floats (row 1: '1.0', row 2: '2.0')",
        "users.csv: users need a column 'user_id'; found name",
        "interactions.csv: column 'timestamp' holds no timestamp in row 1: 'soon'",
        "interactions.csv: column 'event' holds unknown kinds 'buy' (row 1: 'buy'). Map each to one of view, click",
        "interactions.csv: column 'value' holds no number in row 1: 'many'",
    ):
        assert any(part in problem for problem in problems), (part, problems)
    assert str(caught.value).startswith("5 problems: (1) ")
    assert "\n" not in str(caught.value)
    assert not workspace.config_file.exists()


def test_many_bad_values_are_cut_to_five(shop: Ingest) -> None:
    rows = "".join(f"u,a,bad{i}\n" for i in range(12))
    with pytest.raises(InvalidTable, match=r"row 5: 'bad4' and 7 more\. Write ISO"):
        shop(interactions=f"user_id,item_id,timestamp\n{rows}")


def test_wrong_types_of_parquet_columns_are_refused(shop: Ingest) -> None:
    with pytest.raises(InvalidTable) as caught:
        shop(
            items=pl.DataFrame({"item_id": [["a"]], "title": [b"x"]}),
            interactions=pl.DataFrame({"user_id": [True], "item_id": ["a"], "timestamp": [True], "value": [["x"]]}),
        )
    assert len(caught.value.problems) == 5


def test_a_failed_ingest_leaves_the_workspace_as_it_was(shop: Ingest, workspace: Workspace) -> None:
    shop()
    before = {path: path.read_bytes() for path in sorted(workspace.root.rglob("*")) if path.is_file()}
    with pytest.raises(IngestError):
        shop(items=ITEMS + "a,Other,fruit,1\n")
    assert before == {path: path.read_bytes() for path in sorted(workspace.root.rglob("*")) if path.is_file()}
