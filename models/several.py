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
        """A column of lists of text; null lists are not stated, and labels without a code are left out."""
        rows = [
            sorted({codes[label] for label in labels if label in codes}) if labels is not None else []
            for labels in column.to_list()
        ]
        return Several._of(rows, column.is_not_null().to_numpy())

    @staticmethod
    def _of(rows: list[list[int]], stated: npt.NDArray[np.bool_]) -> Several:
        starts = np.concatenate(([0], np.cumsum([len(row) for row in rows], dtype=np.int64))).astype(np.int64)
        return Several(starts, np.array([label for row in rows for label in row], np.int32), stated)

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
        own: list[list[int]] = [self.of_row(row).tolist() for row in range(len(self))] + [[]] * (many - len(self))
        stated = np.concatenate((self.stated, np.zeros(many - len(self), bool)))
        for place, row in enumerate(rows.tolist()):
            own[row], stated[row] = new.of_row(place).tolist(), new.stated[place]
        return Several._of(own, stated)
