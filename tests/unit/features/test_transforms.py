"""The ranking matrix against its definition in plain Python, and its independence of what else is in the batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import itemtags, kernels
from features.candidates import together_with
from features.errors import SchemaMismatch
from features.events import history_of, session_keys
from features.history import History
from features.items import ItemTable
from features.keys import place_key
from features.ports import Event
from features.repurchase import BIN_STARTS, GAP_DAYS, HOUR_BUCKETS, Repurchase
from features.schema import AFFINITY_SLOTS, RANKING_COLUMNS, RANKING_NAMES, schema_hash
from features.transforms import KIND_WEIGHT, assemble, summarize
from tests.unit.features import naive
from tests.unit.features.shop import (
    COPURCHASE,
    PLACES,
    START,
    WEEK,
    Journey,
    bare_table,
    catalog,
    event,
    histories,
    journey,
)

DAY = 86_400
ITEMS = 12
STATISTICS = slice(RANKING_NAMES.index("i_count_1d"), RANKING_NAMES.index("i_age_days") + 1)


def crowd() -> list[Event]:
    """Other users' events, over a year before START and some weeks after it; nobody has i5, the south sells no i7."""
    rng = np.random.default_rng(3)
    return [
        event(
            n,
            f"i{item if item != 5 else 4}",
            START + int(time),
            user=f"v{user}",
            place=PLACES[n % 3] if item != 7 else PLACES[n % 2],
            price=0.0 if n % 5 == 4 else round(1 + item + 0.2 * (n % 4), 2),
        )
        for n, (item, time, user) in enumerate(
            zip(rng.integers(0, ITEMS, 400), rng.integers(-60 * WEEK, 40 * WEEK, 400), rng.integers(0, 30, 400))
        )
    ]


def learned() -> Repurchase:
    """Hazards of four categories and of no category, all different."""
    rng = np.random.default_rng(4)
    categories = catalog(ITEMS)["category"].to_list()
    kind = np.array([4 if category is None else int(category[1:]) for category in categories], np.int64)
    return Repurchase(
        hazard=rng.random((5, len(BIN_STARTS))),
        kind=kind,
        factor=rng.random(ITEMS) * 3,
        kind_hazard=rng.random((5, len(BIN_STARTS))),
        hour_lift=rng.normal(size=(5, HOUR_BUCKETS)),
        gap_lift=rng.normal(size=(5, len(GAP_DAYS))),
        session_size=rng.random(5) * 2,
        mean_size=2.5,
    )


CROWD = crowd()
UNLABELLED = catalog(ITEMS).with_columns(
    category=pl.when(pl.col("item_id").is_in(["i3", "i6"])).then(None).otherwise("category")
)
PUBLISHED = pl.DataFrame(
    [
        ("i6", "c2", 0.6, "review"),
        ("i6", "c1", 0.3, "accept"),
        ("i6", "c0", 0.9, "reject"),
        ("i6", "new", 0.25, "review"),
        ("i2", "c3", 0.9, "accept"),
        ("i999", "c3", 0.9, "accept"),
    ],
    dict(itemtags.PUBLISHED),
    orient="row",
)
"""i6 is likely a c2 and may be more; i2 has a label of its own; nobody tells of i3."""
TAGS = {row["item_id"]: {row["category"]: 1.0} for row in UNLABELLED.drop_nulls().iter_rows(named=True)}
TAGS["i6"] = {"c2": 0.6, "c1": 0.3, "new": 0.25}
TABLE = replace(bare_table(ITEMS, CROWD, learned()), tags=itemtags.ItemTags.build(UNLABELLED, "category", PUBLISHED))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    return journey(tmp_path_factory.mktemp("journey"), 40)


def ordered(events: list[Event]) -> list[Event]:
    key = dict(zip((e.session_id for e in events), session_keys([e.session_id for e in events]).tolist()))
    return sorted(events, key=lambda event: (event.timestamp, key[event.session_id]))


def matrix_of(
    history: History, table: ItemTable, rows: npt.NDArray[np.int64], now: int, place: str = ""
) -> npt.NDArray[np.float32]:
    profile = summarize(history, table, now, place_key(place))
    return assemble(profile, table, rows, together_with(profile, table, rows))


def assert_as_defined(events: list[Event], now: int, place: str) -> None:
    rows = np.arange(ITEMS)
    profile = summarize(history_of(events), TABLE, now, place_key(place))
    matrix = assemble(profile, TABLE, rows, np.full(ITEMS, COPURCHASE))
    for row in rows:
        expected = naive.features(ordered(events), CROWD, TABLE, f"i{row}", COPURCHASE, now, TAGS, place)
        assert expected.keys() == set(RANKING_NAMES)
        for at, name in enumerate(RANKING_NAMES):
            wanted, got = np.float32(expected[name]), matrix[row, at]
            # Two steps of float32: powers, exponentials and the order of sums may round apart in a double's last
            # places. A difference of sums (ui_surplus, ui_value_mean) keeps their error where it is near zero itself.
            step = 2 * np.spacing(abs(wanted)) + 1e-13
            near = np.isnan(got) if np.isnan(wanted) else abs(got - wanted) <= step
            assert near, f"{name} of i{row}: {got} is not {wanted}"


HOUR = 3_600
MOMENTS = (0, 1, 399_999, 400_000, WEEK - 1, WEEK, WEEK + 5 * HOUR, 9 * DAY + 13 * HOUR, 2 * WEEK, 30 * WEEK, 90 * WEEK)


@settings(max_examples=200)
@given(
    histories(ITEMS, steps=(1, 360, 40_000, 7 * HOUR, 11 * DAY, 55 * DAY)),
    st.sampled_from(MOMENTS),
    st.sampled_from((*PLACES, "closed")),
)
def test_every_column_is_what_its_meaning_says(events: list[Event], offset: int, place: str) -> None:
    """Of every kind of event, in overlapping sessions, at tied times, of items the catalog forgot, seconds or years
    apart, at moments amid the events and after them; of somebody at a shop, at one that never sold, or anywhere."""
    assert_as_defined(events, START + offset, place)


def test_the_columns_of_a_long_history_are_what_their_meanings_say() -> None:
    """More sessions than count for what was expected, than are recent, than a day of the week has."""
    rng = np.random.default_rng(5)
    time, events = START, list[Event]()
    for session in range(200):
        time += int(rng.integers(HOUR, 6 * DAY))
        events += [
            event(
                len(events),
                f"i{rng.integers(0, ITEMS)}",
                time + n,
                f"s{session}",
                value=float(n),
                place=PLACES[session % 3],
                price=n / 2,
            )
            for n in range(int(rng.integers(1, 6)))
        ]
    for place, ago in zip(("", "north", "south", "north"), (0.5, 3.0, 250.0, 600.0)):
        assert_as_defined(events, int(time + ago * DAY), place)
    assert_as_defined(events, time - 300 * DAY, "south")


def test_only_the_newest_sessions_count_for_what_was_expected() -> None:
    """Each further session lets more be expected, up to EXPECTED_SESSIONS of them."""
    surplus = []
    for sessions in (kernels.EXPECTED_SESSIONS, kernels.EXPECTED_SESSIONS + 1, kernels.EXPECTED_SESSIONS + 30):
        events = [event(n, "i1" if n == 0 else "i2", START + n, f"s{n}") for n in range(sessions)]
        matrix = matrix_of(history_of(events), TABLE, np.array([1]), START + DAY)
        surplus.append(float(matrix[0, RANKING_NAMES.index("ui_surplus")]))
    assert surplus[0] > surplus[1] == surplus[2]


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
    zero = {
        *("ui_weight", "ui_sessions", "ui_session_share", "ui_decay_14d", "ui_decay_60d", "ui_decay_fast"),
        *("ui_decay_slow", "ui_recent_3", "ui_recent_5", "ui_again", "ui_moment", "ui_hour", "ui_copurchase"),
        *("u_sessions", "u_items", "u_session_size", "u_repeat_share"),
        *(f"a{slot}_{name}" for slot in range(AFFINITY_SLOTS) for name in ("share", "sessions", "recent_10")),
    }
    zero |= {"k_gap", "k_again", "k_need"}
    for name in (
        *RANKING_NAMES[: STATISTICS.start],
        "ui_price_change",
        *naive.PLACE_NAMES,
        "k_gap",
        "k_again",
        "k_choice",
        "k_need",
    ):
        assert (at[name] == 0).all() if name in zero else np.isnan(at[name]).all(), name
    assert (at["c_hour"] == 2).all()
    assert np.array_equal(matrix[:, STATISTICS], TABLE.statistics(START + 2 * WEEK), equal_nan=True)


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
    assert not {name for name in differ if name[0] in "aic"}
    assert {"u_sessions", "u_items", "u_days_since_last", "u_gap_days"} <= differ
    assert {"ui_session_share", "ui_sessions_ago", "ui_surplus", "ui_decay_fast"} <= differ
    # What is said of an item by its own events alone stays.
    own = {"ui_weight", "ui_sessions", "ui_days_since_last", "ui_interval_days", "ui_decay_14d", "ui_hazard"}
    assert not differ & (own | {"ui_decay_60d", "ui_value_mean", "u_repeat_share", "u_session_size"})


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


def test_on_the_day_of_the_first_event_nothing_is_known_of_items() -> None:
    table = bare_table(ITEMS, [event(0, "i1", START, user="v")])
    for now, known in ((START, 0), (START + DAY - 1, 0), (START + DAY, 1)):
        matrix = matrix_of(History.empty(), table, np.arange(ITEMS), now)
        assert (~np.isnan(matrix[:, STATISTICS])).all(axis=1).sum() == known
        assert np.isnan(matrix[:, STATISTICS]).all(axis=1).sum() == ITEMS - known


def test_a_decoded_history_gives_the_same_bits() -> None:
    """Its arrays are read-only views of bytes."""
    history = history_of([event(n, f"i{n % 5}", START + n * 40_000, f"s{n // 2}", value=n / 3) for n in range(20)])
    rows = np.arange(ITEMS)
    stored = matrix_of(History.decode(history.encode()), TABLE, rows, START + WEEK)
    assert stored.tobytes() == matrix_of(history, TABLE, rows, START + WEEK).tobytes()


def test_no_candidates_give_an_empty_matrix_of_all_columns() -> None:
    matrix = matrix_of(history_of([event(0, "i1", START)]), TABLE, np.empty(0, np.int64), START + 9)
    assert matrix.shape == (0, len(RANKING_NAMES))
    assert matrix.dtype == np.float32


def test_the_schema_hash_follows_names_order_and_meaning() -> None:
    assert len(set(RANKING_NAMES)) == len(RANKING_COLUMNS)
    assert len(schema_hash()) == 16
    # Changing what a column means without its text would keep old models: this pins the two together.
    assert schema_hash() == "ab1a20130a4a2f84"


def test_an_item_table_of_another_schema_is_refused(tmp_path: Path) -> None:
    TABLE.save(tmp_path / "table")
    meta = tmp_path / "table" / "table.json"
    meta.write_text(meta.read_text().replace(schema_hash(), "0123456789abcdef"))
    with pytest.raises(SchemaMismatch, match=rf"0123456789abcdef, this code computes {schema_hash()}\. Run: tandem"):
        ItemTable.load(tmp_path / "table")
