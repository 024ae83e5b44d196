"""The item table: a folder that comes back as it went, or says why not; statistics by day; items that come later."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.daystates import DAYS_KEPT, DayStates
from features.errors import SchemaMismatch
from features.events import history_of
from features.items import POPULAR, ItemTable, kinds
from features.keys import KeyArray, item_keys
from features.schema import ITEM_STATS
from features.statistics import Activity
from features.transforms import assemble, summarize
from tests.unit.features.shop import START, WEEK, activity_of, bare_table, catalog, event, events_of, table_of

DAY = 86_400
ARRAYS = ("keys", "groups", "neighbours", "similarity")
REPURCHASE = ("hazard", "kind", "factor", "kind_hazard", "hour_lift", "gap_lift", "session_size")
NAMES = [column.name for column in ITEM_STATS]
NO_NEIGHBOURS = np.full((5, 1), -1, np.int32), np.zeros((5, 1), np.float32)


@pytest.fixture
def table() -> ItemTable:
    built, _ = table_of(catalog(20), [e for n in range(9) for e in events_of(f"u{n}", ["i1", "i2", f"i{n}", "i1"])])
    return built


def assert_same_arrays(one: ItemTable, other: ItemTable) -> None:
    pairs = [
        *((name, getattr(one, name), getattr(other, name)) for name in ARRAYS),
        *((name, getattr(one.repurchase, name), getattr(other.repurchase, name)) for name in REPURCHASE),
        *((name, values, other.activity.arrays()[name]) for name, values in one.activity.arrays().items()),
    ]
    for name, a, b in pairs:
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        assert np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes(), name


def test_a_loaded_table_is_the_saved_one(table: ItemTable, tmp_path: Path) -> None:
    table.save(tmp_path / "table")
    loaded = ItemTable.load(tmp_path / "table")
    assert_same_arrays(table, loaded)
    assert table.repurchase.hazard.any()
    assert (table.neighbours >= 0).any() or len(table.neighbours)
    assert loaded.frame.equals(table.frame)
    for name in ("version", "group_names", "group_values", "item_ids", "titles"):
        assert getattr(loaded, name) == getattr(table, name), name
    assert loaded.repurchase.mean_size == table.repurchase.mean_size
    for now in (START, START + DAY, START + 3 * WEEK):
        assert loaded.statistics(now).tobytes() == table.statistics(now).tobytes()
        assert loaded.popular_at(now).tobytes() == table.popular_at(now).tobytes()
        assert loaded.kind_trends(now).tobytes() == table.kind_trends(now).tobytes()


def test_a_loaded_table_computes_the_same_bits(table: ItemTable, tmp_path: Path) -> None:
    table.save(tmp_path / "table")
    loaded = ItemTable.load(tmp_path / "table")
    history, rows = history_of(events_of("me", ["i1", "i3", "gone", "i1", "i6"])), np.arange(len(table))
    for now in (START + 3 * DAY, START + WEEK):
        one, other = (assemble(summarize(history, each, now), each, rows, np.zeros(20)) for each in (table, loaded))
        assert one.tobytes() == other.tobytes()


def test_group_values_are_saved_not_derived_again(table: ItemTable, tmp_path: Path) -> None:
    """Codes index hazards: a value that no item has any more still keeps its code."""
    gone = table.frame.with_columns(category=pl.col("category").replace({"c1": "c2"}))
    changed = ItemTable.build(
        "v",
        gone,
        table.group_names,
        3,
        table.activity,
        table.neighbours,
        table.similarity,
        table.repurchase,
        table.group_values,
    )
    changed.save(tmp_path / "table")
    loaded = ItemTable.load(tmp_path / "table")
    assert loaded.group_values == table.group_values
    assert loaded.groups.tolist() == changed.groups.tolist()
    kept = [category in (None, "c0", "c3") for category in table.frame["category"].to_list()]
    assert (loaded.groups[kept] == table.groups[kept]).all()


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
    [
        *(("table.json", text) for text in ("{", "[]", "{}")),
        *((name, "x") for name in ("n.npy", "hazard.npy", "items.parquet")),
    ],
)
def test_a_damaged_table_says_how_to_make_a_new_one(table: ItemTable, tmp_path: Path, name: str, text: str) -> None:
    table.save(tmp_path / "table")
    (tmp_path / "table" / name).write_text(text)
    with pytest.raises(SchemaMismatch, match=r"damaged.*tandem train"):
        ItemTable.load(tmp_path / "table")


@pytest.mark.parametrize("name", ["table.json", "day.npy", "factor.npy", "neighbours.npy", "items.parquet"])
def test_a_table_that_lacks_a_file_says_how_to_make_a_new_one(table: ItemTable, tmp_path: Path, name: str) -> None:
    table.save(tmp_path / "table")
    (tmp_path / "table" / name).unlink()
    with pytest.raises(SchemaMismatch, match="tandem train"):
        ItemTable.load(tmp_path / "table")


def test_two_ids_of_one_key_are_named() -> None:
    """No two ids of equal 64-bit keys are known, so an id that occurs twice stands in for them."""
    frame = pl.concat([catalog(3), catalog(2)])
    with pytest.raises(SchemaMismatch, match=r"'i[01]' and 'i[01]' have the same 64-bit key; rename"):
        ItemTable.build("v", frame, [], 3, activity_of([], 5), *NO_NEIGHBOURS)


def test_keys_are_the_same_in_another_process() -> None:
    program = "from features.keys import item_keys; print(item_keys(['a', 'ä', '']).tolist())"
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    keys: KeyArray = item_keys(["a", "ä", ""])
    assert there.strip() == str(keys.tolist())
    assert keys.dtype == np.int64


def test_statistics_are_those_of_the_day_that_began_last() -> None:
    table = bare_table(2, [event(0, "i0", START + 5, user="v")])
    moments = [START - 1, START, START + DAY - 1, START + DAY, START + 2 * DAY - 1, START + 2 * DAY]
    found = np.nan_to_num([table.statistic("i_count_1d", moment) for moment in moments], nan=-1)
    assert found.tolist() == [[-1, -1]] * 3 + [[1, -1]] * 2 + [[0, -1]]
    assert table.statistics(START + DAY) is table.statistics(START + 2 * DAY - 1)


@given(st.lists(st.integers(0, 40), max_size=60))
def test_few_days_are_kept_and_each_is_the_same_computed_anew(days: list[int]) -> None:
    events = [event(n, f"i{n % 3}", START + n * 30_000, user=f"v{n % 4}") for n in range(60)]
    table = bare_table(4, events)
    for day in days:
        fresh = bare_table(4, events)
        assert table.statistics(START + day * DAY).tobytes() == fresh.statistics(START + day * DAY).tobytes()
        assert table.popular_at(START + day * DAY).tobytes() == fresh.popular_at(START + day * DAY).tobytes()
        assert table.kind_trends(START + day * DAY).tobytes() == fresh.kind_trends(START + day * DAY).tobytes()
        assert len(table._days) <= DAYS_KEPT
    if days:
        assert START // DAY + days[-1] in table._days


def test_threads_that_ask_for_many_days_get_the_same_and_keep_few() -> None:
    table = bare_table(4, [event(n, f"i{n % 3}", START + n * 30_000, user=f"v{n % 4}") for n in range(60)])
    expected = {day: table.activity.at(START // DAY + day, 4).tobytes() for day in range(25)}
    wrong: list[int] = []

    def ask(seed: int) -> None:
        for day in np.random.default_rng(seed).integers(0, 25, 300).tolist():
            if table.statistics(START + day * DAY).tobytes() != expected[day]:
                wrong.append(day)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(table._days) <= DAYS_KEPT


def test_a_day_in_use_stays_at_hand_whatever_other_days_are_asked_for() -> None:
    table = bare_table(4, [event(n, f"i{n % 3}", START + n * 30_000, place="north") for n in range(60)])
    today = START + 30 * DAY
    statistics, prices = table.statistics(today), table.prices(today)
    for day in range(3 * DAYS_KEPT):
        table.statistics(START + day * DAY)
        table.prices(START + day * DAY)
        assert table.statistics(today) is statistics
        assert table.prices(today) is prices
    assert len(table._days) == len(table._place_days) == DAYS_KEPT


def test_popular_items_tie_by_row_number_also_at_the_end_of_the_list() -> None:
    """More items tie for the last place than fit: which of them stay must not depend on a partition's whims."""
    n = 3 * POPULAR
    rng = np.random.default_rng(2)
    for counts in (rng.integers(0, 4, n), np.ones(n, np.int64), np.arange(n)[::-1], np.zeros(n, np.int64)):
        row = np.repeat(np.arange(n), counts)
        table = replace(
            bare_table(n),
            activity=Activity.count(np.arange(len(row)), row, np.full(len(row), START), n),
            _days=DayStates(),
        )
        expected = sorted((at for at in range(n) if counts[at]), key=lambda at: (-counts[at], at))[:POPULAR]
        assert table.popular_at(START + DAY).tolist() == expected
        # 28 days later nothing is popular any more.
        assert table.popular_at(START + 29 * DAY).tolist() == []


def test_groups_are_codes_of_attribute_values_and_absent_ones_minus_one(table: ItemTable) -> None:
    for slot, (name, group_values) in enumerate(zip(table.group_names, table.group_values, strict=True)):
        values = table.frame[name].to_list()
        codes = table.groups[:, slot].tolist()
        assert [group_values[code] if code >= 0 else None for code in codes] == values
        assert list(group_values) == sorted({value for value in values if value is not None})
    assert (table.groups[:, len(table.group_names) :] == -1).all()


def test_kinds_are_the_finest_groups() -> None:
    groups = np.array([[0, 2, -1], [1, 5, -1], [1, -1, -1]], np.int32)
    assert kinds(groups).tolist() == [2, 5, -1]
    assert kinds(groups[:, :0]).tolist() == [-1, -1, -1]
    assert kinds(np.full((2, 3), -1, np.int32)).tolist() == [-1, -1]
    assert kinds(np.empty((0, 3), np.int32)).tolist() == []


def test_attributes_leave_out_what_is_absent() -> None:
    frame = catalog(7).with_columns(tags=pl.Series([["new", "hot"]] + [None] * 6, dtype=pl.List(pl.String)))
    none = np.full((7, 1), -1, np.int32), np.zeros((7, 1), np.float32)
    table = ItemTable.build("v", frame, [], 3, activity_of([], 7), *none)
    assert table.attributes(0) == {"category": "c0", "brand": "b0", "tags": "new, hot"}
    assert table.attributes(6) == {"brand": "b0"}


def arrivals(**columns: list[str | None]) -> pl.DataFrame:
    n = len(next(iter(columns.values())))
    new = {name: [f"new{number}" for number in range(n)] for name in ("item_id", "title", "text")}
    return pl.DataFrame({**new, **columns}, schema_overrides=dict.fromkeys(columns, pl.String))


def test_items_that_come_later_stand_behind_and_move_nothing(table: ItemTable) -> None:
    table.statistics(START + WEEK)
    more = table.extended(arrivals(brand=["b1", "b9", None], category=["c2", "c1", "c99"]))
    assert (len(table), len(more)) == (20, 23)
    assert more.item_ids == (*table.item_ids, "new0", "new1", "new2")
    assert more.titles[20:] == ("new0", "new1", "new2")
    assert [more.row_of(item) for item in ("i0", "i19", "new0", "new2", "gone")] == [0, 19, 20, 22, -1]
    for name in ARRAYS:
        assert getattr(more, name)[:20].tobytes() == getattr(table, name).tobytes(), name
    assert more.frame[:20].equals(table.frame)
    assert (more.neighbours[20:] == -1).all()
    assert (more.similarity[20:] == 0).all()
    assert more.version != table.version
    for now in (START + WEEK, START + 2 * WEEK):
        assert more.statistics(now).shape == (23, len(ITEM_STATS))
        assert more.statistics(now)[:20].tobytes() == table.statistics(now).tobytes()
        assert np.isnan(more.statistics(now)[20:]).all()
        assert more.popular_at(now).tolist() == table.popular_at(now).tolist()
        assert more.kind_trends(now)[:20].tobytes() == table.kind_trends(now).tobytes()


def test_values_nobody_had_before_are_new_groups_and_absent_ones_none(table: ItemTable) -> None:
    more = table.extended(arrivals(brand=["b1", "b9", "b9"], category=["c99", None, "c0"]))
    for slot, name in enumerate(table.group_names):
        assert more.group_values[slot][: len(table.group_values[slot])] == table.group_values[slot]
        codes = more.groups[20:, slot].tolist()
        values = [more.group_values[slot][code] if code >= 0 else None for code in codes]
        assert values == more.frame[name].to_list()[20:]
    again = more.extended(arrivals(brand=["b9"]).with_columns(item_id=pl.lit("newer")))
    brand = table.group_names.index("brand")
    assert again.groups[23, brand] == again.groups[21, brand] == len(table.group_values[brand])
    # What the frame lacks is absent, what the table does not know is left out.
    assert again.frame["category"][-1] is None
    assert "colour" not in table.extended(arrivals(colour=["red"])).frame.columns


def test_an_item_of_a_known_kind_has_its_hazard_and_others_that_of_none(table: ItemTable) -> None:
    learned = table.repurchase
    slot = int(table.groups.max(axis=0).argmax())
    name, values = table.group_names[slot], table.group_values[slot]
    more = table.extended(arrivals(**{name: [values[2], "unheard of", None]}))
    assert more.repurchase.kind.tolist() == [*learned.kind.tolist(), 2, len(values), len(values)]
    assert more.repurchase.factor.tolist() == [*learned.factor.tolist(), 1.0, 1.0, 1.0]
    for shared in ("hazard", "kind_hazard", "hour_lift", "gap_lift", "session_size"):
        assert getattr(more.repurchase, shared) is getattr(learned, shared)
    assert more.repurchase.mean_size == learned.mean_size


def test_kinds_stay_those_of_one_attribute_however_many_values_others_get() -> None:
    """Category is the finest; brands that arrive later must not be taken for its codes."""
    table = bare_table(12)
    assert table.group_names[int(table.groups.max(axis=0).argmax())] == "category"
    more = table.extended(arrivals(brand=[f"x{n}" for n in range(9)]))
    again = more.extended(
        arrivals(category=["c3", None, "c1"], brand=["b0", "b1", "b2"]).with_columns(pl.col("item_id") + "-later")
    )
    assert again.repurchase.kind[-3:].tolist() == [3, 4, 1]


def test_an_extended_table_computes_the_same_bits_for_the_items_it_had(table: ItemTable) -> None:
    more = table.extended(arrivals(brand=["b1", "b9"], category=["c0", "c99"]))
    history, rows = history_of(events_of("me", ["i1", "i3", "gone", "i1"])), np.arange(20)
    one, other = (assemble(summarize(history, each, START + WEEK), each, rows, np.zeros(20)) for each in (table, more))
    assert one.tobytes() == other.tobytes()
    # And the new ones have a row each, without an own past.
    new = assemble(summarize(history, more, START + WEEK), more, np.array([20, 21]), np.zeros(2))
    assert (new[:, 0] == 0).all()


@pytest.mark.parametrize("ids", [["i3"], ["new", "new"]], ids=["in the table", "twice"])
def test_an_item_that_is_there_already_is_refused(table: ItemTable, ids: list[str]) -> None:
    frame = arrivals(brand=["b1"] * len(ids)).with_columns(item_id=pl.Series(ids))
    with pytest.raises(SchemaMismatch, match=rf"'{ids[0]}' and '{ids[0]}' have the same 64-bit key"):
        table.extended(frame)


def test_an_empty_catalog_can_be_extended() -> None:
    more = bare_table(0).extended(arrivals(brand=["b1"], category=["c0"]))
    assert (len(more), more.repurchase.kind.tolist(), more.row_of("new0")) == (1, [0], 0)
    assert np.isnan(more.statistics(START)).all()


def test_an_extended_table_comes_back_from_disk(table: ItemTable, tmp_path: Path) -> None:
    more = table.extended(arrivals(brand=["b1", "a9"], category=["c0", "a99"]))
    more.save(tmp_path / "table")
    loaded = ItemTable.load(tmp_path / "table")
    assert_same_arrays(more, loaded)
    assert loaded.group_values == more.group_values
