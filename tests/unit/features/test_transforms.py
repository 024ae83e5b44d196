"""The ranking matrix against its definition in plain Python, and its independence of what else is in the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.candidates import neighbourhood
from features.errors import SchemaMismatch
from features.events import history_of, session_keys
from features.history import History
from features.items import ItemTable
from features.ports import Event
from features.schema import ITEM_STATS, RANKING_COLUMNS, RANKING_NAMES, schema_hash
from features.transforms import KIND_WEIGHT, assemble, summarize
from tests.unit.features import naive
from tests.unit.features.shop import COPURCHASE, START, WEEK, Journey, bare_table, event, histories, journey

ITEMS = 12
STATISTICS = np.random.default_rng(3).normal(size=(3, ITEMS, len(ITEM_STATS))).astype(np.float32)
TABLE = bare_table(ITEMS, STATISTICS)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    return journey(tmp_path_factory.mktemp("journey"), 40)


def ordered(events: list[Event]) -> list[Event]:
    key = dict(zip((e.session_id for e in events), session_keys([e.session_id for e in events]).tolist()))
    return sorted(events, key=lambda event: (event.timestamp, key[event.session_id]))


def matrix_of(history: History, table: ItemTable, rows: npt.NDArray[np.int64], now: int) -> npt.NDArray[np.float32]:
    profile = summarize(history, table, now)
    return assemble(profile, table, rows, neighbourhood(profile, table).of(rows))


@given(histories(ITEMS), st.sampled_from([0, 1, 399_999, 400_000, WEEK - 1, WEEK, 2 * WEEK, 30 * WEEK]))
def test_every_column_is_what_its_meaning_says(events: list[Event], offset: int) -> None:
    now = START + offset
    rows = np.arange(ITEMS)
    profile = summarize(history_of(events), TABLE, now)
    matrix = assemble(profile, TABLE, rows, np.full(ITEMS, COPURCHASE))
    for row in rows:
        expected = naive.features(ordered(events), TABLE, f"i{row}", int(row), COPURCHASE, now)
        assert expected.keys() == set(RANKING_NAMES)
        for at, name in enumerate(RANKING_NAMES):
            wanted, got = np.float32(expected[name]), matrix[row, at]
            # One step of float32: NumPy's and Python's powers of two may round apart in the last place of a double.
            near = np.isnan(got) if np.isnan(wanted) else abs(got - wanted) <= np.spacing(abs(wanted))
            assert near, f"{name} of i{row}: {got} is not {wanted}"


def test_no_cell_is_left_uninitialised() -> None:
    """Every name is written: memory that held a sentinel before holds none after."""
    sentinel = np.float32(-7.25e33)
    rows = np.arange(ITEMS)
    for events in ([], [event(0, "i1", START)], [event(0, "unknown", START)], [event(0, "i6", START, kind="view")]):
        profile = summarize(history_of(events), TABLE, START + WEEK)
        for _ in range(3):
            dirty = np.full((ITEMS, len(RANKING_NAMES)), sentinel, np.float32)
            del dirty  # NumPy's small-block cache hands this very memory to the next array of its size
            matrix = assemble(profile, TABLE, rows, np.zeros(ITEMS))
            written = {name for at, name in enumerate(RANKING_NAMES) if not (matrix[:, at] == sentinel).any()}
            assert written == set(RANKING_NAMES)


def test_an_empty_history_knows_the_items_and_the_hour_only() -> None:
    matrix = matrix_of(History.empty(), TABLE, np.arange(ITEMS), START + 2 * WEEK + 7_200)
    at = {name: matrix[:, position] for position, name in enumerate(RANKING_NAMES)}
    for name in ("ui_days_since_last", "ui_days_since_first", "ui_interval_days", "ui_due", "ui_sessions_ago"):
        assert np.isnan(at[name]).all(), name
    for name in ("u_days_since_last", "u_gap_days", "a0_days_since", "a0_item_share"):
        assert np.isnan(at[name]).all(), name
    for name in ("ui_weight", "ui_sessions", "ui_decay_14d", "ui_copurchase", "u_sessions", "u_items", "a0_share"):
        assert (at[name] == 0).all(), name
    assert (at["c_hour"] == 2).all()
    assert np.array_equal(matrix[:, RANKING_NAMES.index("i_count_7d") : RANKING_NAMES.index("c_hour")], STATISTICS[2])


def test_items_the_catalog_forgot_count_for_the_user_but_in_no_group() -> None:
    known = [event(0, "i1", START, "a"), event(1, "i2", START + 50, "b")]
    forgotten = [event(2, "gone", START + 99, "c")]
    with_it = matrix_of(history_of(known + forgotten), TABLE, np.arange(ITEMS), START + WEEK)
    without = matrix_of(history_of(known), TABLE, np.arange(ITEMS), START + WEEK)
    differ = {
        name
        for at, name in enumerate(RANKING_NAMES)
        if not np.array_equal(with_it[:, at], without[:, at], equal_nan=True)
    }
    assert differ == {
        "u_sessions",
        "u_items",
        "u_days_since_last",
        "u_gap_days",
        "ui_session_share",
        "ui_sessions_ago",
    }


def test_every_kind_of_event_has_a_weight_and_a_purchase_weighs_most() -> None:
    assert KIND_WEIGHT.tolist() == [1.0, 0.1, 0.2, 0.5, 1.0]


def test_a_row_is_the_same_to_the_bit_in_any_batch_and_order(real: Journey) -> None:
    """A batch of 200, the same shuffled, and one candidate at a time."""
    rng = np.random.default_rng(11)
    for user in range(0, len(real.events.users), 8):
        history = real.events.history(user)
        now = int(history.time[-1]) + 3_600
        rows = rng.choice(len(real.table), 200, replace=False)
        together = matrix_of(history, real.table, rows, now)
        shuffle = rng.permutation(200)
        assert matrix_of(history, real.table, rows[shuffle], now).tobytes() == together[shuffle].tobytes()
        for number in range(200):
            assert (
                matrix_of(history, real.table, rows[number : number + 1], now).tobytes() == together[number].tobytes()
            )


def test_before_the_first_snapshot_nothing_is_known_of_items() -> None:
    matrix = matrix_of(History.empty(), TABLE, np.arange(ITEMS), START - 1)
    statistics = matrix[:, RANKING_NAMES.index("i_count_7d") : RANKING_NAMES.index("i_age_days") + 1]
    assert np.isnan(statistics).all()


def test_no_candidates_give_an_empty_matrix_of_all_columns() -> None:
    matrix = matrix_of(history_of([event(0, "i1", START)]), TABLE, np.empty(0, np.int64), START + 9)
    assert matrix.shape == (0, len(RANKING_NAMES))
    assert matrix.dtype == np.float32


def test_the_schema_hash_follows_names_order_and_meaning() -> None:
    assert len(set(RANKING_NAMES)) == len(RANKING_COLUMNS)
    assert len(schema_hash()) == 16
    # Changing what a column means without its text would keep old models: this pins the two together.
    assert schema_hash() == "2837a07d5fd26efa"


def test_an_item_table_of_another_schema_is_refused(tmp_path: Path) -> None:
    TABLE.save(tmp_path / "table")
    meta = tmp_path / "table" / "table.json"
    meta.write_text(meta.read_text().replace(schema_hash(), "0123456789abcdef"))
    with pytest.raises(SchemaMismatch, match=rf"0123456789abcdef, this code computes {schema_hash()}\. Run: tandem"):
        ItemTable.load(tmp_path / "table")
