"""The item table: a folder that comes back as it went, or says why not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features import items as items_module
from features.errors import SchemaMismatch
from features.items import POPULAR, ItemTable
from features.keys import KeyArray, item_keys
from features.schema import ITEM_STATS
from tests.unit.features.shop import START, WEEK, bare_table, catalog, events_of, table_of

ARRAYS = ("keys", "groups", "times", "stats", "popular", "neighbours", "similarity")
COUNT_28 = [column.name for column in ITEM_STATS].index("i_count_28d")


@pytest.fixture
def table() -> ItemTable:
    built, _ = table_of(catalog(20), [e for n in range(9) for e in events_of(f"u{n}", ["i1", "i2", f"i{n}"])])
    return built


def test_a_loaded_table_is_the_saved_one(table: ItemTable, tmp_path: Path) -> None:
    table.save(tmp_path / "table")
    loaded = ItemTable.load(tmp_path / "table")
    for name in ARRAYS:
        one, other = getattr(table, name), getattr(loaded, name)
        assert one.dtype == other.dtype, name
        assert one.tobytes() == np.ascontiguousarray(other).tobytes(), name
    assert loaded.frame.equals(table.frame)
    assert (loaded.version, loaded.group_names, loaded.item_ids, loaded.titles) == (
        table.version,
        table.group_names,
        table.item_ids,
        table.titles,
    )


def test_saving_replaces_the_older_table_and_leaves_nothing_behind(table: ItemTable, tmp_path: Path) -> None:
    bare_table(3).save(tmp_path / "table")
    table.save(tmp_path / "table")
    assert len(ItemTable.load(tmp_path / "table")) == 20
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


def test_rows_of_unknown_items_are_minus_one(table: ItemTable) -> None:
    assert table.rows_of(item_keys(["i3", "gone", "i0", "", "i19"])).tolist() == [3, -1, 0, -1, 19]
    assert table.rows_of(np.array([np.iinfo(np.int64).max, np.iinfo(np.int64).min])).tolist() == [-1, -1]
    assert (table.row_of("i7"), table.row_of("gone")) == (7, -1)
    assert table.rows_of(item_keys([])).tolist() == []
    assert bare_table(0).rows_of(item_keys(["i0"])).tolist() == [-1]


@pytest.mark.parametrize(
    ("name", "text"),
    [("table.json", "{"), ("table.json", "[]"), ("table.json", "{}"), ("stats.npy", "x"), ("items.parquet", "x")],
)
def test_a_damaged_table_says_how_to_make_a_new_one(table: ItemTable, tmp_path: Path, name: str, text: str) -> None:
    table.save(tmp_path / "table")
    (tmp_path / "table" / name).write_text(text)
    with pytest.raises(SchemaMismatch, match=r"damaged.*tandem train"):
        ItemTable.load(tmp_path / "table")


@pytest.mark.parametrize("name", ["table.json", "times.npy", "neighbours.npy", "items.parquet"])
def test_a_table_that_lacks_a_file_says_how_to_make_a_new_one(table: ItemTable, tmp_path: Path, name: str) -> None:
    table.save(tmp_path / "table")
    (tmp_path / "table" / name).unlink()
    with pytest.raises(SchemaMismatch, match="tandem train"):
        ItemTable.load(tmp_path / "table")


def test_two_ids_of_one_key_are_named() -> None:
    """No two ids of equal 64-bit keys are known, so an id that occurs twice stands in for them."""
    frame = pl.concat([catalog(3), catalog(2)])
    empty = np.full((5, 1), -1, np.int32), np.zeros((5, 1), np.float32)
    statistics = np.zeros((1, 5, len(ITEM_STATS)), np.float32)
    with pytest.raises(SchemaMismatch, match=r"'i[01]' and 'i[01]' have the same 64-bit key; rename"):
        ItemTable.build("v", frame, [], 3, np.zeros(1, np.int64), statistics, *empty)


def test_keys_are_the_same_in_another_process() -> None:
    program = "from features.keys import item_keys; print(item_keys(['a', 'ä', '']).tolist())"
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    keys: KeyArray = item_keys(["a", "ä", ""])
    assert there.strip() == str(keys.tolist())
    assert keys.dtype == np.int64


def test_a_snapshot_is_the_newest_that_had_ended() -> None:
    table = bare_table(2, np.zeros((3, 2, len(ITEM_STATS)), np.float32))
    moments = [START - 1, START, START + WEEK - 1, START + WEEK, START + 2 * WEEK, START + 99 * WEEK]
    assert [table.snapshot(moment) for moment in moments] == [0, 0, 0, 1, 2, 2]


def test_popular_items_tie_by_row_number_also_at_the_end_of_the_list() -> None:
    """More items tie for the last place than fit: which of them stay must not depend on a partition's whims."""
    n = 3 * POPULAR
    rng = np.random.default_rng(2)
    statistics = np.full((4, n, len(ITEM_STATS)), np.nan, np.float32)
    statistics[0, :, COUNT_28] = rng.integers(0, 4, n)
    statistics[1, :, COUNT_28] = 1
    statistics[2, ::-1, COUNT_28] = np.arange(n)
    for week, popular in enumerate(bare_table(n, statistics).popular):
        counts = np.nan_to_num(statistics[week, :, COUNT_28]).tolist()
        expected = sorted((row for row in range(n) if counts[row] > 0), key=lambda row: (-counts[row], row))[:POPULAR]
        assert popular.tolist() == expected + [-1] * (POPULAR - len(expected))


def test_groups_are_codes_of_attribute_values_and_absent_ones_minus_one(table: ItemTable) -> None:
    for slot, name in enumerate(table.group_names):
        values = table.frame[name].to_list()
        codes = table.groups[:, slot].tolist()
        assert {(value is None) == (code == -1) for value, code in zip(values, codes)} == {True}
        assert len(set(zip(values, codes))) == len(set(values)) == len(set(codes))
    assert (table.groups[:, len(table.group_names) :] == -1).all()


def test_attributes_leave_out_what_is_absent() -> None:
    frame = catalog(7).with_columns(tags=pl.Series([["new", "hot"]] + [None] * 6, dtype=pl.List(pl.String)))
    empty = np.full((7, 1), -1, np.int32), np.zeros((7, 1), np.float32)
    statistics = np.zeros((1, 7, len(ITEM_STATS)), np.float32)
    table = ItemTable.build("v", frame, [], 3, np.zeros(1, np.int64), statistics, *empty)
    assert table.attributes(0) == {"category": "c0", "brand": "b0", "tags": "new, hot"}
    assert table.attributes(6) == {"brand": "b0"}


def test_statistics_of_a_loaded_table_stay_on_disk(table: ItemTable, tmp_path: Path) -> None:
    table.save(tmp_path / "table")
    assert isinstance(items_module.ItemTable.load(tmp_path / "table").stats, np.memmap)
