"""Labels of which an item may have several, or none: which items carry which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl


@dataclass(frozen=True, slots=True, eq=False)
class Several:
    """The labels of n items, one item's after the other's: ``starts`` int64 [n + 1], ``labels`` int32, ascending.

    ``stated`` bool [n]: whether somebody said which labels the item has. A stated item has the others not; of one that
    is not stated nothing is known.
    """

    starts: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    stated: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.stated)

    @staticmethod
    def of_column(column: pl.Series, codes: Mapping[str, int]) -> Several:
        """A column of lists of text; labels without a code are left out. Not stated are null lists, and lists that hold
        nothing but labels without a code: they say of the known ones nothing."""
        told = column.to_list()
        rows = [sorted({codes[label] for label in labels or () if label in codes}) for labels in told]
        stated = [labels is not None and bool(known or not labels) for labels, known in zip(told, rows)]
        row = np.repeat(np.arange(len(rows)), [len(known) for known in rows])
        return Several._of(
            row, np.array([label for known in rows for label in known], np.int32), np.array(stated, bool)
        )

    @staticmethod
    def _of(row: npt.NDArray[np.int64], label: npt.NDArray[np.int32], stated: npt.NDArray[np.bool_]) -> Several:
        """From pairs, by row and label."""
        starts = np.searchsorted(row, np.arange(len(stated) + 1)).astype(np.int64)
        return Several(starts, label, stated)

    def of_row(self, row: int) -> npt.NDArray[np.int32]:
        """The labels of an item."""
        return self.labels[self.starts[row] : self.starts[row + 1]]

    def pairs(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """(row, label) of every label that these items [m] have, each [pairs]."""
        sizes = self.starts[rows + 1] - self.starts[rows]
        before = np.concatenate(([0], np.cumsum(sizes)[:-1])) if len(sizes) else sizes
        at = np.repeat(self.starts[rows] - before, sizes) + np.arange(int(sizes.sum()))
        return np.repeat(rows, sizes), self.labels[at]

    def placed(self, rows: npt.NDArray[np.int64], new: Several) -> Several:
        """With the labels of ``new`` [m] at ``rows`` [m]: those below n are replaced, the others follow."""
        many = max(len(self), int(rows.max(initial=-1)) + 1)
        stated = np.concatenate((self.stated, np.zeros(many - len(self), bool)))
        kept = np.ones(len(self), bool)
        kept[rows[rows < len(self)]] = False
        old, new_pairs = self.pairs(np.flatnonzero(kept)), new.pairs(np.arange(len(new)))
        row = np.concatenate((old[0], rows[new_pairs[0]]))
        order = np.argsort(row, kind="stable")
        stated[rows] = new.stated
        return Several._of(row[order], np.concatenate((old[1], new_pairs[1]))[order], stated)
