"""Names of columns as other exports have them: suggested, never assumed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final

import polars as pl

from training.datasets.report import Findings
from training.datasets.schema import ALIASES, INTERACTION_COLUMNS, OPTIONAL_COLUMNS
from training.datasets.sources import Table

_ID: Final = re.compile(r"(?:[_\-\s](?i:id)|[a-z0-9]I[dD])$")
_RATINGS: Final = ("rating", "ratings", "stars", "score", "overall", "review_score", "review_rating", "user_rating")


def near(column: str, found: Iterable[str]) -> str | None:
    """The name among ``found`` that most likely means ``column``, however it is written: userId, User ID, user-id."""
    folded = {_fold(name): name for name in reversed(list(found))}
    for candidate in (column, *ALIASES.get(column, ())):
        if _fold(candidate) in folded:
            return folded[_fold(candidate)]
    close = get_close_matches(_fold(column), folded, n=1, cutoff=0.7)
    if close:
        return folded[close[0]]
    # trackId, reviewerID: an id of something, and the only one that no other column's names lay claim to.
    claimed = {_fold(name) for other, names in ALIASES.items() if other != column for name in (other, *names)}
    claimed |= {"eventid", "rowid"}
    ids = [name for key, name in folded.items() if _ID.search(name) and key not in claimed]
    return ids[0] if column in ("item_id", "user_id") and len(ids) == 1 else None


def note_unused(table: Table, findings: Findings, used: Sequence[str] = ()) -> None:
    """Say which columns of the interactions nothing reads, and of those that seem to mean one that is: under which name
    it would be."""
    found = table.frame.columns
    unused = [name for name in found if name not in (*INTERACTION_COLUMNS, *OPTIONAL_COLUMNS, *used)]
    findings.note("interactions", "columns that nothing uses, kept as they are", len(unused), tuple(unused))
    for name in unused:
        if "value" not in found and _fold(name) in map(_fold, _RATINGS) and _holds_numbers(table.frame[name]):
            event = "the event of these rows is" if "event" in found else "add a column 'event' that says"
            remedy = f"rename it to 'value', and {event} rating"
            findings.warn(
                "interactions",
                f"column '{name}' seems to hold ratings and is not used: {remedy}",
                table.frame.height - table.frame[name].null_count(),
            )
            continue
        for column in ("event", "value", "session_id", "place", "price"):
            if column not in found and _fold(name) in map(_fold, ALIASES[column]):
                findings.note(
                    "interactions",
                    f"column '{name}' is not used: if it is what Tandem calls '{column}', rename it so",
                    table.frame.height - table.frame[name].null_count(),
                )


def _fold(name: str) -> str:
    return re.sub(r"[^0-9a-z]", "", name.lower())


def _holds_numbers(column: pl.Series) -> bool:
    numbers = column.cast(pl.Float64, strict=False) if column.dtype == pl.String else column
    return numbers.dtype.is_numeric() and numbers.null_count() <= column.null_count() < len(column)
