"""Product files: what is a row, what is none, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from serving.errors import BackfillFailed, InvalidRequest
from serving.products import ProductFile, Unreadable, product, shown_id


def _csv(folder: Path, content: bytes, part_rows: int = 2) -> ProductFile:
    path = folder / "products.csv"
    path.write_bytes(content)
    return ProductFile.open(path, part_rows)


def test_parts_of_a_csv_join_to_the_whole(tmp_path: Path) -> None:
    rows = [("1", "a"), ("2", 'quoted "b", and\na new line'), ("3", "ü"), ("4", "d"), ("5", "e")]
    body = "".join('{},"{}"\r\n\r\n'.format(number, title.replace('"', '""')) for number, title in rows)
    file = _csv(tmp_path, b"\xef\xbb\xbfitem_id,title\r\n" + body.encode())
    assert file.rows == 5
    parts = [file.read(start, min(5, start + 2)) for start in (0, 2, 4)]
    assert [product(row)[:1] + (product(row)[1].title,) for part in parts for row in part] == rows


def test_integer_ids_numbers_and_lists_of_a_parquet_become_text(tmp_path: Path) -> None:
    path = tmp_path / "products.parquet"
    frame = pl.DataFrame(
        {"item_id": [7, 8], "title": ["a", "b"], "size": [2.5, None], "of": [["x", "y"], []], "year": [1990, None]}
    )
    frame.write_parquet(path)
    first, second = (product(row) for row in ProductFile.open(path, 10).read(0, 2))
    assert first[0] == "7"
    assert first[1].attributes == {"size": "2.5", "of": "x, y", "year": "1990"}
    assert (second[1].attributes, second[1].text) == ({}, "")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"item_id": None, "title": "a"}, "item_id is missing"),
        ({"item_id": " ", "title": "a"}, "item_id is missing"),
        ({"item_id": 1.0, "title": "a"}, "item_id is 1.0, a float"),
        ({"item_id": True, "title": "a"}, "item_id is True, a bool"),
        ({"item_id": "1", "title": None}, "title is missing"),
        ({"item_id": "1", "title": 5}, "title is 5, a int"),
        ({"item_id": "1", "title": "a\udcff"}, "title is no UTF-8"),
        ({"item_id": "1", "title": "a", "text": b"x"}, "text is b'x', a bytes"),
        ({"item_id": "1", "title": "a", "made": {"in": "x"}}, "attribute made is a dict"),
        (Unreadable("the row has 3 fields"), "the row has 3 fields"),
    ],
)
def test_a_row_that_is_no_product_says_why(row: Any, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        product(row)
    shown_id(row)


def test_bytes_that_are_no_utf8_spoil_their_row_only(tmp_path: Path) -> None:
    file = _csv(tmp_path, b"item_id,title\n1,caf\xe9\n\xff,a\n3,b\n", part_rows=10)
    rows = file.read(0, 3)
    assert product(rows[2])[0] == "3"
    assert [shown_id(row) for row in rows] == ["1", "?", "3"]
    with pytest.raises(InvalidRequest):
        product(rows[0])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no column item_id and no column title"),
        (b"id,title\n1,a\n", "has no column item_id"),
        (b"item_id,title,title\n1,a,b\n", "names a column twice"),
        (b"PAR1 and no more", "damaged parquet"),
    ],
)
def test_a_file_of_something_else_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(BackfillFailed, match=reason):
        _csv(tmp_path, content)


def test_a_missing_file_and_one_that_changes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BackfillFailed, match="check --input"):
        ProductFile.open(tmp_path / "none.csv", 10)
    file = _csv(tmp_path, b"item_id,title\n1,a\n")
    file.path.write_bytes(b"item_id,title\n1,a\n2,b\n")
    with pytest.raises(BackfillFailed, match="changed while it was read"):
        file.read(0, 1)
