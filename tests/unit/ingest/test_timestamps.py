"""Every way exports write a time, read to the microsecond or refused with row and value."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.datasets.report import Findings
from training.datasets.timestamps import read_timestamps

T = datetime(2024, 5, 1, 10, 30, tzinfo=UTC)
S = int(T.timestamp())


def read(values: list[object] | pl.Series, format: str | None = None) -> tuple[list[datetime | None], Findings]:
    findings = Findings()
    column = values if isinstance(values, pl.Series) else pl.Series(values)
    times = read_timestamps(column.alias("timestamp"), "events.csv", findings, format)
    assert times.dtype == pl.Datetime("us", "UTC")
    return times.to_list(), findings


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-01T10:30:00Z",
        "2024-05-01 10:30:00Z",
        "2024-05-01T10:30Z",
        "2024-05-01 10:30:00 UTC",
        "2024-05-01T12:30:00+02:00",
        "2024-05-01T12:30:00.000+0200",
        "2024-05-01 12:30:00 +02",
        "2024-05-01T05:00-05:30",
        "2024-05-01T10:30:00",
        "2024-05-01 10:30:00.000",
        "2024/05/01 10:30",
        "  2024-05-01t10:30:00z ",
        str(S),
        str(S * 1000),
        f"{S}.0",
    ],
)
def test_text_of_one_moment(text: str) -> None:
    times, findings = read([text, None])
    assert not findings.problems
    assert times == [T, None]


@pytest.mark.parametrize("factor", [1, 10**3, 10**6, 10**9])
@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64])
def test_epoch_of_one_moment(factor: int, dtype: pl.DataType) -> None:
    assert read(pl.Series([S * factor], dtype=dtype))[0] == [T]


@pytest.mark.parametrize(
    "column",
    [
        pl.Series([datetime(2024, 5, 1, 10, 30)], dtype=pl.Datetime("ns")),
        pl.Series([datetime(2024, 5, 1, 10, 30)], dtype=pl.Datetime("ms", "UTC")),
        pl.Series([T]).dt.convert_time_zone("Asia/Tokyo"),
    ],
)
def test_datetimes_of_one_moment(column: pl.Series) -> None:
    times, findings = read(column)
    assert times == [T]
    assert len(findings.notices) == (column.dtype != pl.Datetime("ms", "UTC"))


@pytest.mark.parametrize("days", [["2024-05-01"], [date(2024, 5, 1)], [20240501], ["20240501"], ["2024/05/01"]])
def test_days_are_midnight_utc_and_noted(days: list[object]) -> None:
    times, findings = read(days)
    assert times == [datetime(2024, 5, 1, tzinfo=UTC)]
    assert [n.kind for n in findings.notices] == ["timestamps with the precision of a day, read as midnight UTC"]


def test_naive_text_is_utc_and_counted() -> None:
    _, findings = read(["2024-05-01 10:00:00", "2024-05-01 11:00:00", "2024-05-01"])
    assert {n.kind.split(",")[0]: n.count for n in findings.notices} == {
        "timestamps with the precision of a day": 1,
        "timestamps without a zone": 2,
    }


def test_several_offsets_are_converted_with_a_note() -> None:
    times, findings = read(["2024-05-01T12:30:00+02:00", "2024-05-01T10:30:00Z"])
    assert times == [T, T]
    assert [(n.level, n.examples) for n in findings.notices] == [("note", ("+02:00", "Z"))]


def test_naive_beside_aware_is_one_problem() -> None:
    _, findings = read(["2024-05-01T10:00:00Z", None, "2024-05-01T10:00:00", "x"])
    [problem] = findings.problems
    assert "mixes 1 times with an offset (row 1: '2024-05-01T10:00:00Z') and 2 without (row 3:" in problem


def test_mixed_epoch_units_are_one_problem() -> None:
    _, findings = read([S, S * 1000, 0])
    assert "mixes epoch units" in findings.problems[0]
    assert f"row 2: {S * 1000}" in findings.problems[0]


def test_small_numbers_have_no_say_in_the_unit() -> None:
    times, findings = read([0, S * 1000, -1])
    assert not findings.problems
    assert times[1] == T


@pytest.mark.parametrize("bad", ["01/02/2024", "2024-13-01", "2024-02-30T00:00:00", "yesterday", "2024-05-01T25:00:00"])
def test_unreadable_text_names_row_value_and_remedy(bad: str) -> None:
    _, findings = read(["2024-05-01T10:00:00", bad])
    assert (
        f"events.csv: column 'timestamp' holds no timestamp in row 2: '{bad}'. Write ISO 8601" in findings.problems[0]
    )


def test_a_stated_format_settles_what_is_ambiguous() -> None:
    assert read(["01/05/2024 10:30"], "%d/%m/%Y %H:%M")[0] == [T]
    assert read(["05/01/2024"], "%m/%d/%Y")[0] == [datetime(2024, 5, 1, tzinfo=UTC)]
    assert read(["01.05.2024 12:30:00 +0200"], "%d.%m.%Y %H:%M:%S %z")[0] == [T]
    assert "row 1: 'x'" in read(["x"], "%d/%m/%Y")[1].problems[0]


def test_boolean_timestamps_are_refused() -> None:
    assert "has type Boolean" in read([True])[1].problems[0]


@given(
    st.lists(
        st.datetimes(datetime(1990, 1, 2), datetime(2100, 1, 1)).flatmap(
            lambda t: st.integers(-14 * 60, 14 * 60).map(lambda m: t.replace(tzinfo=timezone(timedelta(minutes=m))))
        ),
        min_size=1,
    )
)
def test_iso_text_round_trips_at_any_offset(moments: list[datetime]) -> None:
    times, findings = read([m.isoformat() for m in moments])
    assert not findings.problems
    assert times == moments


@pytest.mark.parametrize("absurd", [1e300, 5e20, -5e20])
def test_numbers_beyond_the_year_9999_are_refused(absurd: float) -> None:
    assert f"row 1: {absurd}" in read([absurd])[1].problems[0]
