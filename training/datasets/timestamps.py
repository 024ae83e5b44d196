"""Timestamps of every common export, read into UTC or refused with row and value; nothing is guessed silently."""

from __future__ import annotations

from typing import Final

import polars as pl

from training.datasets.report import Findings, examples, listed
from training.datasets.schema import EARLIEST, TIMESTAMP

_NUMBER: Final = r"^[+-]?\d+(\.\d*)?$"
_OFFSET: Final = r":\d{2}(\.\d+)?\s*(Z|[+-]\d{2}(:?\d{2})?)$"
_DAY: Final = r"^\d{4}-\d{2}-\d{2}$"
_LAST_MICROSECOND: Final = 253_402_300_799 * 10**6
"""Of the year 9999: what Python, and most readers of the data, can hold."""
_REMEDY: Final = "Write ISO 8601 (2024-01-31T09:30:00Z or 2024-01-31) or epoch seconds, or pass --timestamp-format"


def read_timestamps(column: pl.Series, source: str, findings: Findings, format: str | None = None) -> pl.Series:
    """The column as Datetime('us', 'UTC'), null only where the source is null, blank or NaN.

    Accepts datetimes with or without a zone, dates, ISO 8601 strings (or strings of ``format``, in strftime's terms),
    integers or strings YYYYMMDD, and epoch numbers; seconds, ms, µs and ns are told apart by size, and a column must
    keep to one of them. Naive times are read as UTC and noted. Everything else becomes a problem in ``findings``.
    """
    dtype = column.dtype
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is None:
            findings.note("interactions", "timestamps without a zone, read as UTC", column.len() - column.null_count())
            return column.dt.cast_time_unit("us").dt.replace_time_zone("UTC")
        if dtype.time_zone != "UTC":
            findings.note("interactions", f"timestamps converted from {dtype.time_zone} to UTC", column.count())
        return column.dt.cast_time_unit("us").dt.convert_time_zone("UTC")
    if dtype == pl.Date:
        return _days(column, findings).cast(TIMESTAMP)
    if dtype.is_numeric():
        return _epoch(column, source, findings)
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return _strings(column.cast(pl.String), source, findings, format)
    if dtype != pl.Null:
        findings.problem(source, f"column 'timestamp' has type {dtype}. {_REMEDY}")
    return _none(column)


def _none(column: pl.Series) -> pl.Series:
    return pl.Series(column.name, [None], TIMESTAMP).new_from_index(0, column.len())


def _days(days: pl.Series, findings: Findings) -> pl.Series:
    findings.note("interactions", "timestamps with the precision of a day, read as midnight UTC", days.count())
    return days


def _epoch(column: pl.Series, source: str, findings: Findings) -> pl.Series:
    values = column.cast(pl.Float64).fill_nan(None)
    if values.count() and values.is_between(19000101, 21001231).all():
        days = values.cast(pl.Int64).cast(pl.String).str.to_date("%Y%m%d", strict=False)
        _refuse_unread(days, column, source, findings)
        return _days(days, findings).cast(TIMESTAMP)
    size = values.abs()
    # Below 1990 in seconds a value is before 1990 in every unit: it has no say in the choice, and is rejected later.
    voting = values.to_frame("v").filter(pl.col("v").abs() >= EARLIEST.timestamp())["v"].abs()
    powers = voting.cut([1e11, 1e14, 1e17], labels=["0", "3", "6", "9"]).cast(pl.String).unique().sort().to_list()
    if len(powers) > 1:
        odd = size >= (1e11, 1e14, 1e17)[int(powers[0]) // 3]
        findings.problem(
            source,
            f"column 'timestamp' mixes epoch units: {listed(column, size.is_not_null() & ~odd)} beside "
            f"{listed(column, odd)}. Convert all rows to seconds",
        )
        return _none(column)
    power = int(powers[0]) if powers else 0
    micros = (values * 10.0 ** (6 - power)).round()
    micros = micros.set((micros.abs() > _LAST_MICROSECOND).fill_null(False), None)
    read = micros.cast(pl.Int64, strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    unit = {0: "seconds", 3: "milliseconds", 6: "microseconds", 9: "nanoseconds"}[power]
    findings.note("interactions", f"timestamps read as epoch {unit}", values.count())
    _refuse_unread(read, values, source, findings)
    return read


def _strings(column: pl.Series, source: str, findings: Findings, format: str | None) -> pl.Series:
    text = column.str.strip_chars().replace("", None)
    if format is not None:
        return _formatted(text, source, findings, format)
    if text.count() and text.str.contains(_NUMBER).all():
        return _epoch(text.cast(pl.Float64), source, findings)
    iso = (
        text.str.to_uppercase()
        .str.replace(r" ?UTC$", "Z")
        .str.replace(r"^(\d{4})/(\d{2})/(\d{2})", "$1-$2-$3")
        .str.replace(r"^(\d{4}-\d{2}-\d{2}) +", "${1}T")
        .str.replace(r"T(\d{2}:\d{2})( *Z| *[+-]|$)", "T$1:00$2")
    )
    aware = iso.str.contains(_OFFSET)
    naive = ~aware & text.is_not_null()
    if aware.any() and naive.any():
        findings.problem(
            source,
            f"column 'timestamp' mixes {aware.sum()} times with an offset ({examples(text, aware)[0]}) and "
            f"{naive.sum()} without ({examples(text, naive)[0]}). Give every row an offset, or none",
        )
        return _none(column)
    return _aware(iso, text, source, findings) if aware.any() else _naive(iso, text, source, findings)


def _aware(iso: pl.Series, text: pl.Series, source: str, findings: Findings) -> pl.Series:
    offsets = iso.str.extract(_OFFSET, 2).drop_nulls().unique().sort()
    if offsets.to_list() not in (["Z"], ["+00:00"]):
        findings.note(
            "interactions", "timestamps with an offset, converted to UTC", iso.count(), tuple(offsets.head(5))
        )
    plain = iso.str.replace(r"\s*Z$", "+00:00").str.replace(r"\s*([+-]\d{2}):?(\d{2})?$", "${1}:${2}")
    read = plain.str.replace(r":$", ":00").str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    _refuse_unread(read, text, source, findings)
    return read


def _naive(iso: pl.Series, text: pl.Series, source: str, findings: Findings) -> pl.Series:
    day = iso.str.contains(_DAY)
    times = (iso + "T00:00:00").zip_with(day, iso) if day.any() else iso
    read = times.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    _refuse_unread(read, text, source, findings)
    days = int(day.sum() or 0)
    findings.note("interactions", "timestamps with the precision of a day, read as midnight UTC", days)
    findings.note("interactions", "timestamps without a zone, read as UTC", iso.count() - days)
    return read.dt.replace_time_zone("UTC")


def _formatted(text: pl.Series, source: str, findings: Findings, format: str) -> pl.Series:
    zoned = "%z" in format or "%:z" in format or "%+" in format
    dated = not any(part in format for part in ("%H", "%I", "%T", "%R", "%s", "%X", "%c", "%+"))
    try:
        if dated:
            read = text.str.to_date(format, strict=False).cast(pl.Datetime("us"))
        else:
            read = text.str.to_datetime(format, time_unit="us", time_zone="UTC" if zoned else None, strict=False)
    except pl.exceptions.PolarsError as error:
        findings.problem(source, f"--timestamp-format {format!r} is not usable ({str(error).splitlines()[0]})")
        return _none(text)
    _refuse_unread(read, text, source, findings)
    if zoned:
        return read.cast(TIMESTAMP)
    findings.note("interactions", "timestamps without a zone, read as UTC", read.count())
    return read.dt.replace_time_zone("UTC")


def _refuse_unread(read: pl.Series, values: pl.Series, source: str, findings: Findings) -> None:
    bad = read.is_null() & values.is_not_null()
    if bad.any():
        findings.problem(source, f"column 'timestamp' holds no timestamp in {listed(values, bad)}. {_REMEDY}")
