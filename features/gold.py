"""What people said of tags, as labels to learn from: who, when and why stay with each."""

from __future__ import annotations

from contextlib import closing
from typing import Any, Final

import polars as pl

from features.sqlitefile import SqliteFile
from features.workspace import Workspace

GOLD: Final[dict[str, Any]] = {
    "item_id": pl.String,
    "label": pl.String,
    "right": pl.Boolean,
    "verdict": pl.String,
    "person": pl.String,
    "time": pl.Float64,
    "source": pl.String,
    "release": pl.String,
    "reason": pl.String,
    "title": pl.String,
}
"""One row for each thing a person said: whether ``label`` is ``right`` for the item. ``verdict`` is accept, correct or
reject; a correction is two rows, the wrong label and the right one. ``time``: seconds since 1970. ``source``: "review"
for a tag the service was not sure of, "audit" for one it had accepted. ``release`` proposed the tag; ``title`` is the
item's as it was judged."""


VALUE_GROUP: Final = "attribute:"
"""Begins the group of a case that is about an attribute's value, whose tag is written ATTRIBUTE=VALUE."""
SET_GROUP: Final = "labels:"
"""Begins the group of a case that is about a label of a label set: labels:SET/LABEL."""


def gold(workspace: Workspace) -> pl.DataFrame:
    """What counts of the review queue's words on tags (`GOLD`), oldest first; empty where nobody ever reviewed.

    Reviewed tags are no sample of all tags: they were the uncertain ones. Learn from them; certify on labels that were
    drawn. Raises StoreUnavailable.
    """
    others = f"substr(grp, 1, {len(VALUE_GROUP)}) <> ? AND substr(grp, 1, {len(SET_GROUP)}) <> ?"
    return _judged(workspace, others, VALUE_GROUP, SET_GROUP)


def value_gold(workspace: Workspace, attribute: str) -> pl.DataFrame:
    """What counts of the words on an attribute's values, as `gold`; ``label`` is the value. Raises StoreUnavailable."""
    found = _judged(workspace, "grp = ?", VALUE_GROUP + attribute)
    return found.with_columns(pl.col("label").str.strip_prefix(f"{attribute}="))


def set_gold(workspace: Workspace, prefix: str) -> pl.DataFrame:
    """What counts of the words on a label set's labels, as `gold`; ``prefix`` begins its groups. Cases name a label
    SET/LABEL. Raises StoreUnavailable."""
    found = _judged(workspace, f"substr(grp, 1, {len(prefix)}) = ?", prefix)
    return found.with_columns(pl.col("label").str.strip_prefix(prefix.removeprefix(SET_GROUP)))


def _judged(workspace: Workspace, which: str, *groups: str) -> pl.DataFrame:
    if not workspace.review.exists():
        return pl.DataFrame(schema=GOLD)
    with closing(SqliteFile(workspace.review, "", "review queue")) as file, file.guard():
        # The view is made by whoever writes the file (serving/review/schema.py): it is the contract between the two.
        # A file that nobody has served since there are groups in it has tags only.
        old = not file.db.execute("SELECT 1 FROM sqlite_master WHERE name = 'judged'").fetchone()
        source = "(SELECT '' AS grp, * FROM gold)" if old else "judged"
        query = f"SELECT {', '.join(GOLD)} FROM {source} WHERE {which} ORDER BY time, seq, right"
        rows = file.db.execute(query, groups).fetchall()
    columns = list(zip(*rows)) or [()] * len(GOLD)
    frame = pl.DataFrame(dict(zip(GOLD, columns)), schema={**GOLD, "right": pl.Int64})
    return frame.with_columns(pl.col("right").cast(pl.Boolean))


def with_gold(items: pl.DataFrame, gold: pl.DataFrame, label_column: str | None) -> pl.DataFrame:
    """``items`` (a catalog: item_id and ``label_column``) with people's labels instead of its own.

    Of each item and label the newest word counts. An item gets the label that was last called right; where nobody named
    a right one and its own was called wrong, it has none. Items the catalog does not hold are left out, and a catalog
    without labels is left as it is.
    """
    if label_column is None or not len(gold):
        return items
    newest = gold.unique(["item_id", "label"], keep="last", maintain_order=True)
    right = (
        newest.filter("right")
        .unique("item_id", keep="last", maintain_order=True)
        .select("item_id", right_label="label")
    )
    wrong = newest.filter(~pl.col("right")).select("item_id", label="label", is_wrong=pl.lit(True))
    own = (
        items.select(pl.col("item_id"), label=pl.col(label_column).cast(pl.String))
        .join(right, on="item_id", how="left", maintain_order="left")
        .join(wrong, on=["item_id", "label"], how="left", maintain_order="left")
        .select(
            pl.when(pl.col("right_label").is_not_null())
            .then("right_label")
            .when(pl.col("is_wrong").is_null())
            .then("label")
            .alias(label_column)
        )
    )
    return items.with_columns(own[label_column].cast(items.schema[label_column]))


def with_set_gold(items: pl.DataFrame, gold: pl.DataFrame, column: str) -> pl.DataFrame:
    """``items`` (a catalog: item_id and a list ``column``) with people's words on its labels: what they last called
    right is among an item's, what they last called wrong is not.

    Only items that have a list, even an empty one, learn: of the others one label is known and nothing of the rest. A
    catalog without the column is left as it is.
    """
    if column not in items.columns or not len(gold):
        return items
    newest = gold.unique(["item_id", "label"], keep="last", maintain_order=True)
    named = newest.group_by("item_id").agg(
        right=pl.col("label").filter(pl.col("right")), wrong=pl.col("label").filter(~pl.col("right"))
    )
    told = items.select("item_id", own=pl.col(column)).join(named, on="item_id", how="left", maintain_order="left")
    corrected = told.select(
        pl.when(pl.col("own").is_null() | pl.col("right").is_null())
        .then("own")
        .otherwise(pl.col("own").list.set_difference("wrong").list.set_union("right"))
        .alias(column)
    )
    return items.with_columns(corrected[column].cast(items.schema[column]))
