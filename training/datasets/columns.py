"""Columns of a source table turned into canonical ones: ids, text, numbers, attributes."""

from __future__ import annotations

from typing import Final, cast

import polars as pl

from training.datasets.report import Findings, examples, listed
from training.datasets.schema import AttributeKind, TableName

_TEXTUAL: Final = (pl.String, pl.Categorical, pl.Enum, pl.Null)
_INTEGRAL_FLOAT: Final = r"^[+-]?\d+\.0+$"
_CODE: Final = r"^[+-]?0\d"
_JSON_LIST: Final = r"^\s*\[(?s:.*)\]\s*$"


def read_ids(column: pl.Series, source: str, findings: Findings) -> pl.Series:
    """Ids as String, without surrounding blanks, null where blank. Integers are converted.

    Floats are refused, and so is a column of strings that are all like '12.0': that is a mark of ids which went
    through a float, and those beyond 2**53 are wrong by then.
    """
    dtype = column.dtype
    if dtype.is_integer():
        return column.cast(pl.String)
    if dtype in _TEXTUAL:
        ids = _text(column)
        if not (ids.count() and ids.str.contains(_INTEGRAL_FLOAT).all()):
            return ids
    if dtype.is_float() or dtype in _TEXTUAL:
        shown = listed(column, column.is_not_null())
        what = f"holds floats ({shown}). Export ids as integers or text: a float loses digits above 2**53"
    else:
        what = f"has type {dtype}. Write ids as text or integers"
    findings.problem(source, f"column '{column.name}' {what}")
    return pl.Series(column.name, [None] * column.len(), pl.String)


def read_text(column: pl.Series, source: str, findings: Findings) -> pl.Series:
    """Free text as String, without surrounding blanks, null where blank."""
    if column.dtype in _TEXTUAL or column.dtype.is_numeric():
        return _text(column)
    findings.problem(source, f"column '{column.name}' has type {column.dtype}. Write it as text")
    return pl.Series(column.name, [None] * column.len(), pl.String)


def read_numbers(column: pl.Series, source: str, findings: Findings) -> pl.Series:
    """Numbers as Float64, null where blank; NaN and infinities stay, for the caller to judge."""
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return column.cast(pl.Float64)
    if column.dtype not in _TEXTUAL:
        findings.problem(source, f"column '{column.name}' has type {column.dtype}. Write it as numbers")
        return pl.Series(column.name, [None] * column.len(), pl.Float64)
    text = _text(column)
    numbers = text.cast(pl.Float64, strict=False)
    bad = numbers.is_null() & text.is_not_null()
    if bad.any():
        findings.problem(
            source,
            f"column '{column.name}' holds no number in {listed(text, bad)}. Correct the rows or leave them blank",
        )
    return numbers


def read_attribute(
    column: pl.Series, table: TableName, source: str, findings: Findings, *, typed: bool
) -> tuple[pl.Series, AttributeKind]:
    """An attribute and its kind. Numbers are numeric, unless the name ends in ``_id``; times become epoch seconds.

    In an untyped source a column is numeric where every value is a number and none is a code like 007, and a list
    where every value is a JSON array.
    """
    dtype = column.dtype
    if isinstance(dtype, pl.List | pl.Array) and not cast("pl.DataType", dtype.inner).is_nested():
        lists = column.arr.to_list() if isinstance(dtype, pl.Array) else column
        return lists.cast(pl.List(pl.String)), "list"
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        findings.problem(
            source, f"column '{column.name}' has type {dtype}. Flatten it to text, numbers or a list of text"
        )
        return pl.Series(column.name, [None] * column.len(), pl.String), "categorical"
    if dtype.is_temporal():
        seconds = column.cast(pl.Datetime("us")) if dtype in (pl.Date, pl.Datetime) else column
        return seconds.to_physical().cast(pl.Float64) / 1e6, "numeric"
    if dtype == pl.Boolean:
        return column.cast(pl.String), "categorical"
    if dtype in _TEXTUAL and not typed:
        column = infer(column, source, findings)
    if isinstance(column.dtype, pl.List):
        return column, "list"
    if column.dtype.is_numeric() and not column.name.endswith("_id"):
        return _finite(column.cast(pl.Float64), table, findings), "numeric"
    return _text(column), "categorical"


def infer(column: pl.Series, source: str, findings: Findings) -> pl.Series:
    """A String column of an untyped source as Float64 or List[String] where all its values say so, else unchanged."""
    text = _text(column)
    if not text.count() or column.name.endswith("_id"):
        return text
    if text.str.contains(_JSON_LIST).all():
        try:
            return text.str.json_decode(pl.List(pl.String))
        except pl.exceptions.PolarsError:
            bad = text.str.contains(_JSON_LIST)
            findings.problem(
                source, f"column '{column.name}' looks like JSON arrays of text and one is not ({listed(text, bad)})"
            )
            return text
    numbers = text.cast(pl.Float64, strict=False)
    return text if numbers.null_count() > text.null_count() or text.str.contains(_CODE).any() else numbers


def _text(column: pl.Series) -> pl.Series:
    return column.cast(pl.String).str.strip_chars().replace("", None)


def _finite(numbers: pl.Series, table: TableName, findings: Findings) -> pl.Series:
    broken = (~numbers.is_finite()).fill_null(False)
    if not broken.any():
        return numbers
    kind = f"NaN or infinite numbers in attribute '{numbers.name}', read as missing"
    findings.warn(table, kind, int(broken.sum()), examples(numbers, broken))
    return numbers.set(broken, None)
