"""Which items of a catalog are witnesses of one thing: what is drawn, held out and certified is a unit, never an item.

Items of one product type share their label and their mistakes, and so do items with one text; a type and a text that
share an item are one unit (connected components).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

KIND_COLUMN: Final = "product_type"
"""The catalog's finest kinds of products, where it has such a column; elsewhere a unit is a text."""
GROUP_COLUMN: Final = "department"
"""What labels are grouped by, where the catalog has it."""


def unit_of_row(
    text_of_row: npt.NDArray[np.int32] | npt.NDArray[np.int64], kinds: Sequence[str | None] | None = None
) -> npt.NDArray[np.int64]:
    """The unit of each item [n], numbered from 0: items that share a text or a kind are of one unit."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    texts = int(text_of_row.max(initial=-1)) + 1
    known = {kind: texts + code for code, kind in enumerate(sorted({kind for kind in kinds or () if kind}))}
    edges = [(int(text), known[kind]) for text, kind in zip(text_of_row, kinds or ()) if kind]
    left, right = np.array(sorted(set(edges)), np.int64).reshape(-1, 2).T
    nodes = texts + len(known)
    _, unit = connected_components(
        coo_matrix((np.ones(len(left)), (left, right)), shape=(nodes, nodes)), directed=False
    )
    return np.asarray(unit[np.asarray(text_of_row, np.int64)], np.int64)


def kinds_of(items: pl.DataFrame) -> list[str | None] | None:
    """Each item's kind, None for a catalog without such a column."""
    return items[KIND_COLUMN].cast(pl.String).to_list() if KIND_COLUMN in items.columns else None


def group_of_label(items: pl.DataFrame, label_column: str) -> dict[str, str]:
    """The group of each label: the department most of its items stand in; empty where the catalog has none."""
    if GROUP_COLUMN not in items.columns or label_column == GROUP_COLUMN:
        return {}
    counts = (
        items.select(label=pl.col(label_column).cast(pl.String), group=pl.col(GROUP_COLUMN).cast(pl.String))
        .drop_nulls()
        .group_by("label", "group")
        .len()
        .sort("label", "len", "group", descending=[False, True, False])
        .unique("label", keep="first", maintain_order=True)
    )
    return dict(counts.select("label", "group").iter_rows())
