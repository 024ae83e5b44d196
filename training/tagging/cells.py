"""Cells of the tag report: a number, a number with its interval, a gain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from training.tagging.summary import SYSTEM, WITH_GRAPH


def numbers(title: str, found: Mapping[str, Any], columns: Mapping[str, str]) -> Table:
    """A row of plain numbers for each method. ``columns``: their names in the result and in the heading."""
    shown = Table(title=title, title_justify="left")
    for column in ("method", *columns.values()):
        shown.add_column(column, justify="left" if column == "method" else "right", no_wrap=True)
    for method, values in found["methods"].items():
        style = "bold" if method in (SYSTEM, WITH_GRAPH) else ""
        shown.add_row(method, *(number(values[column]) for column in columns), style=style)
    return shown


def number(value: float | None) -> str:
    """Four digits, or a dash for what is not known."""
    return "-" if value is None else f"{value:.4f}"


def cell(values: Mapping[str, Any], column: str) -> str:
    """A number, with its interval where there is one."""
    found = values["intervals"].get(column)
    if found is None or found["low"] is None or values.get(column) is None:
        return number(values.get(column))
    return f"{number(values[column])} [{number(found['low'])}, {number(found['high'])}]"


def span(interval: Mapping[str, Any]) -> str:
    """A difference with its interval, and whether that holds 0."""
    if interval["mean"] is None:
        return "-"
    unsure = "" if interval.get("excludes_zero", True) else " (0 inside)"
    return f"{interval['mean']:+.3f} [{interval['low']:+.3f}, {interval['high']:+.3f}]{unsure}"
