"""How many items of a text, or of an attribute's value, carry each label: what votes are counted from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from models.catalog import Catalog

_PRIOR_ROWS: Final = 5.0


class Grouped(NamedTuple):
    """Label counts by group (a text, an attribute's value): where each group's labels begin [groups + 1], the labels,
    ascending within a group, how many items carry each, and how many labelled items there are [groups]."""

    starts: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    counts: npt.NDArray[np.float64]
    items: npt.NDArray[np.float64]


class TextLabels(NamedTuple):
    """Of n texts: how many labels the items of each have, these labels and counts one text's after the other's, and how
    many labelled items each text has [n]."""

    sizes: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    counts: npt.NDArray[np.float64]
    items: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A labelled item that does not count: its labels, its text, its values of the attributes (-1: none)."""

    labels: tuple[int, ...]
    text: int
    values: Mapping[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class LabelCounts:
    """Label counts per text and per attribute value, over some of a catalog's rows (all, or a training fold).

    ``prior`` [L]: the smoothed share of the items that carry each label. ``several``: whether an item may carry
    several.
    """

    by_text: Grouped
    by_value: Mapping[str, Grouped]
    prior: npt.NDArray[np.float64]
    prior_total: float
    several: bool = False
    without_rows: tuple[LeftOut, ...] = ()
    """Items that are counted in the arrays and left out of every answer."""

    @staticmethod
    def build(catalog: Catalog, rows: npt.NDArray[np.bool_] | None = None) -> LabelCounts:
        chosen = np.flatnonzero(catalog.labelled if rows is None else catalog.labelled & rows)
        row, label = catalog.labels_at(chosen)
        count = np.bincount(label, minlength=len(catalog.labels)) + 1.0
        # One label an item: shares sum to 1. Several: each is a share of its own, of items that have it or not.
        total = count.sum() if catalog.several is None else len(chosen) + 2.0
        groups = {name: (codes, len(catalog.values[name])) for name, codes in catalog.attributes.items()}
        return LabelCounts(
            _grouped(catalog.text_of_row, row, label, chosen, len(catalog.texts)),
            {name: _grouped(codes, row, label, chosen, many) for name, (codes, many) in groups.items()},
            count / total,
            float(total),
            catalog.several is not None,
        )

    def without(self, catalog: Catalog, row: int) -> LabelCounts:
        """The counts with one labelled item of the catalog, which must be among the counted, left out as if new.

        The arrays are shared: training leaves out thousands of items one by one, and a copy for each of what a million
        items have would be terabytes.
        """
        labels = tuple(sorted(catalog.labels_of(row)))
        prior = self.prior * self.prior_total
        prior[list(labels)] -= 1.0
        values = {name: int(codes[row]) for name, codes in catalog.attributes.items()}
        out = LeftOut(labels, int(catalog.text_of_row[row]), values)
        fewer = self.prior_total - 1.0
        return LabelCounts(self.by_text, self.by_value, prior / fewer, fewer, self.several, (*self.without_rows, out))

    def of_text(self, text: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """Labels of a text's items and how many items carry each."""
        found = self.of_texts(np.array([text], np.int64))
        return found.labels, found.counts

    def of_texts(self, texts: npt.NDArray[np.int64]) -> TextLabels:
        """What the items of these texts [n] carry."""
        starts, known, many, all_items = self.by_text
        sizes = starts[texts + 1] - starts[texts]
        at = np.repeat(starts[texts] - np.concatenate(([0], np.cumsum(sizes)[:-1])), sizes) + np.arange(sizes.sum())
        labels, counts, items = known[at], many[at], all_items[texts]
        for out in self.without_rows:
            for place in np.flatnonzero(texts == out.text).tolist():
                items[place] -= 1.0
                first = int(sizes[:place].sum())
                gone = first + np.searchsorted(labels[first : first + int(sizes[place])], out.labels)
                counts[gone] -= 1.0
                empty = gone[counts[gone] == 0]
                labels, counts = np.delete(labels, empty), np.delete(counts, empty)
                sizes[place] -= len(empty)
        return TextLabels(sizes, labels, counts, items)

    def shares(self, attribute: str, value: int, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Smoothed P(label | attribute value) of each label [n]: towards the prior with the weight of a few rows."""
        starts, known, counts, items = self.by_value[attribute]
        window = slice(starts[value], starts[value + 1])
        found, many, total = known[window], counts[window], items[value]
        for out in self.without_rows:
            if out.values[attribute] == value:
                total -= 1.0
                many = many.copy()
                many[np.searchsorted(found, out.labels)] -= 1.0  # to 0: smoothed, that is a label nobody has
        return np.asarray(_smoothed(found, many, total, labels, self.prior, _PRIOR_ROWS))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _smoothed(
    found: npt.NDArray[np.int32],
    many: npt.NDArray[np.float64],
    items: float,
    labels: npt.NDArray[np.int64],
    prior: npt.NDArray[np.float64],
    rows: float,
) -> npt.NDArray[np.float64]:
    """Compiled: a dozen calls of numpy, made for three attributes, are 0.08 ms of a millisecond."""
    shares = np.empty(len(labels))
    total = items + rows
    for n, label in enumerate(labels):
        at = np.searchsorted(found, label)
        count = many[at] if at < len(found) and found[at] == label else 0.0
        shares[n] = (count + rows * prior[label]) / total
    return shares


def _grouped(
    group_of_row: npt.NDArray[np.int32],
    row: npt.NDArray[np.int64],
    label: npt.NDArray[np.int32],
    items: npt.NDArray[np.int64],
    groups: int,
) -> Grouped:
    """Counts of the pairs (``row``, ``label``) by the row's group, and of the labelled ``items``; -1 is no group."""
    group = group_of_row[row]
    known = group >= 0
    # One number for each pair: sorted ten times as fast as pairs are, which counts where items arrive while serving.
    labels = int(label.max(initial=-1)) + 1
    pairs, count = np.unique(group[known].astype(np.int64) * labels + label[known], return_counts=True)
    starts = np.searchsorted(pairs, np.arange(groups + 1) * labels)
    there = group_of_row[items]
    many = np.bincount(there[there >= 0], minlength=groups).astype(np.float64)
    return Grouped(starts, (pairs % max(1, labels)).astype(np.int32), count.astype(np.float64), many)
