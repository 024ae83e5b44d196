"""Tags of items with their probabilities, for the ranker: what a user buys of a tag speaks for other items with it.

A catalog's own label is a tag of probability 1. Where it has none, tags that somebody published count (the results of
``tandem backfill tags``), each with the probability that its guardrail gave it. Rejected ones do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from features.errors import WorkspaceError

PUBLISHED: Final[Mapping[str, Any]] = {
    "item_id": pl.String,
    "tag": pl.String,
    "probability": pl.Float64,
    "verdict": pl.String,
}
"""Columns that are read of published tags."""
FIELDS: Final = ("starts", "code", "probability")


@dataclass(frozen=True, slots=True, eq=False)
class ItemTags:
    """Tags of n items: those of row r are at ``starts[r]`` up to ``starts[r + 1]``.

    ``starts`` int64 [n + 1]; ``code`` int64 [m]: from 0, below ``many``; ``probability`` float64 [m]. Without any tag
    the columns of `fill` are NaN for all items.
    """

    starts: npt.NDArray[np.int64]
    code: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float64]
    many: int

    def __bool__(self) -> bool:
        return len(self.code) > 0

    @property
    def version(self) -> str:
        """A hash of them all."""
        return hashlib.sha256(b"".join(values.tobytes() for values in self.arrays().values())).hexdigest()[:12]

    @staticmethod
    def none(items: int) -> ItemTags:
        return ItemTags(np.zeros(items + 1, np.int64), np.empty(0, np.int64), np.empty(0), 0)

    @staticmethod
    def of(arrays: Mapping[str, npt.NDArray[Any]]) -> ItemTags:
        """From `arrays`, as they were saved."""
        return ItemTags(**arrays, many=1 + int(arrays["code"].max(initial=-1)))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """By name, to save and to load."""
        return {name: getattr(self, name) for name in FIELDS}

    @staticmethod
    def build(items: pl.DataFrame, label_column: str | None, published: pl.DataFrame) -> ItemTags:
        """``items``: a catalog, in the order of its rows. ``published``: as `read_published` gives them; of two with
        the same item and tag the likelier counts, and items the catalog does not hold are left out."""
        rows = items.select("item_id").with_row_index("row")
        own = items.select(
            "item_id",
            tag=pl.col(label_column).cast(pl.String) if label_column else pl.lit(None, pl.String),
            probability=pl.lit(1.0),
        ).drop_nulls("tag")
        told = published.filter(pl.col("verdict") != "reject").join(own, on="item_id", how="anti").select(own.columns)
        found = (
            pl.concat([own, told])
            .group_by("item_id", "tag")
            .agg(pl.col("probability").max())
            .join(rows, on="item_id")
            .sort("row", "tag")
        )
        return ItemTags.of(
            {
                "starts": np.searchsorted(found["row"].to_numpy(), np.arange(len(items) + 1)).astype(np.int64),
                "code": found["tag"].rank("dense").cast(pl.Int64).to_numpy() - 1,
                "probability": found["probability"].to_numpy(),
            }
        )

    def extended(self, more: int) -> ItemTags:
        """With so many further items, which have no tags."""
        return replace(self, starts=np.pad(self.starts, (0, more), mode="edge"))


def read_published(path: Path) -> pl.DataFrame:
    """Published tags (`PUBLISHED`): a parquet file, or a folder of part-*.parquet as a backfill writes them.

    Rows without a tag (an item abstained from) are left out. Raises WorkspaceError where the file is none of tags.
    """
    source = sorted(path.glob("part-*.parquet")) if path.is_dir() else path
    remedy = "give the --output of tandem backfill tags"
    if not source:
        raise WorkspaceError(f"{path} holds no part-*.parquet; {remedy}")
    try:
        found = pl.scan_parquet(source, glob=False)
        if "vocabulary" in found.collect_schema():
            # A label of a label set is no tag of the label column, whatever it is called.
            sets = found.filter(pl.col("vocabulary").fill_null("") != "").select("vocabulary").unique().collect()
            if len(sets):
                raise WorkspaceError(f"{path} holds labels of the label set {sets.item(0, 0)!r}; {remedy} without one")
        frame = found.select(list(PUBLISHED)).collect().cast(pl.Schema(PUBLISHED)).drop_nulls("tag")
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0]
        raise WorkspaceError(f"{path} holds no published tags ({reason}); {remedy}") from error
    wrong = frame.filter(~pl.col("probability").is_between(0, 1).fill_null(False))
    if len(wrong):
        raise WorkspaceError(f"{path}: item {wrong['item_id'][0]!r} has a tag of probability {wrong['probability'][0]}")
    return frame


@njit(cache=True, nogil=True)
def fill(out, rows, own_rows, own_weight, starts, code, probability, many):  # type: ignore[no-untyped-def]
    """Write t_affinity and t_probability of the candidates ``rows`` [c] into ``out`` [c, 2].

    ``own_rows`` (-1 for items the catalog does not know) and ``own_weight``: the user's items, and how much each
    counts. The rest: an ItemTags.
    """
    weight, total = np.zeros(many), 0.0
    for own in range(len(own_rows)):
        row = own_rows[own]
        if row < 0:
            continue
        total += own_weight[own]
        for entry in range(starts[row], starts[row + 1]):
            weight[code[entry]] += own_weight[own] * probability[entry]
    for candidate in range(len(rows)):
        row = rows[candidate]
        if starts[row] == starts[row + 1]:
            out[candidate, 0], out[candidate, 1] = np.nan, np.nan
            continue
        affinity, likeliest = 0.0, 0.0
        for entry in range(starts[row], starts[row + 1]):
            affinity += probability[entry] * weight[code[entry]]
            likeliest = max(likeliest, probability[entry])
        out[candidate, 0] = affinity / total if total > 0.0 else 0.0
        out[candidate, 1] = likeliest
