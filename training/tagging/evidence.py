"""What speaks for a label of a group: candidates, and a line of evidence for each, from other groups' gold alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from training.tagging.datasets import TagData
from training.tagging.kernels import IntArray, ridge, ridge_held_out, votes
from training.tagging.views import Matrix

PENALTY: Final = 0.3
WEAK: Final = frozenset(("unit", "household", "price", "store"))
"""Views that say too little alone to be asked by themselves; the mixes have them."""
VOTING: Final[tuple[str, ...]] = ("both", "all", "text", "meaning", "letters", "maker", "basket")
CANDIDATES: Final = {"both": 12, "all": 6, "text": 4, "maker": 4}
"""Labels that each kernel proposes; a label's name proposes NAMED more by each way of comparing names."""
NAMED: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class Signals:
    """Of m groups and L labels: ``scores``, ``shares`` of votes and ``nearest`` similarity by kernel, ``prior``; all
    [m, L]."""

    scores: Mapping[str, Matrix]
    shares: Mapping[str, Matrix]
    nearest: Mapping[str, Matrix]
    prior: Matrix


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Candidates [n] of groups, in the order of the groups: ``row`` counts them from 0, ``matrix`` [n, columns]."""

    groups: IntArray
    row: IntArray
    label: IntArray
    matrix: Matrix
    columns: tuple[str, ...]

    @property
    def monotone(self) -> tuple[int, ...]:
        """Of each column 1 where more of it can only speak for a label, else 0.

        The graph's view, how like the label's name the words are, and the votes of what the group is bought with. Votes
        by words and by makers overlap: one of them more, all others equal, may well speak against. Bound as well, they
        cost accuracy on inner splits. What is of the group alone speaks for no label.
        """
        return tuple(int(_speaks_for(name)) for name in self.columns)

    def recall(self, gold: IntArray) -> float:
        """Share of the groups whose gold label is a candidate. ``gold`` [T], of all groups."""
        return float(len(np.unique(self.row[self.label == gold[self.groups[self.row]]])) / max(1, len(self.groups)))


def held_out_signals(data: TagData, train: IntArray, fold: IntArray) -> Signals:
    """Of the training groups themselves, each by the gold of the other folds. ``fold`` [len(train)]."""
    shares = data.shares[train]
    kernels = {name: kernel[np.ix_(train, train)] for name, kernel in data.kernels.items() if name not in WEAK}
    same = fold[:, None] == fold[None, :]
    scores = {name: ridge_held_out(kernel, shares, fold, PENALTY) for name, kernel in kernels.items()}
    voted = {
        name: votes(np.where(same, -np.inf, kernels[name]), shares, data.several) for name in VOTING if name in kernels
    }
    prior = np.empty_like(shares)
    for number in np.unique(fold):
        others = fold != number
        prior[~others] = shares[others].sum(axis=0) / max(1, int(others.sum()))
    return _signals(scores, voted, prior)


def signals(data: TagData, train: IntArray, queries: IntArray) -> Signals:
    """Of groups that are not among ``train``, by the gold of all of ``train``."""
    shares = data.shares[train]
    scores, voted = {}, {}
    for name, kernel in data.kernels.items():
        if name in WEAK:
            continue
        near = kernel[np.ix_(queries, train)]
        scores[name] = ridge(kernel[np.ix_(train, train)], shares, near, PENALTY)
        if name in VOTING:
            voted[name] = votes(near, shares, data.several)
    return _signals(scores, voted, np.repeat(shares.mean(axis=0)[None], len(queries), axis=0))


def evidence(data: TagData, groups: IntArray, found: Signals, extra: Mapping[str, Matrix] | None = None) -> Evidence:
    """Candidates of ``groups``, whose signals are ``found``, and their evidence; ``extra`` [T, L] adds columns."""
    row, label = _candidates(data, groups, found)
    columns: dict[str, npt.NDArray[np.floating]] = {}
    for name, scores in found.scores.items():
        value = scores[row, label]
        best = np.sort(scores, axis=1)[:, -2:]
        columns[f"score {name}"] = value
        columns[f"margin {name}"] = value - np.where(value >= best[row, 1], best[row, 0], best[row, 1])
        if name in VOTING:
            columns[f"rank {name}"] = (scores[row] > value[:, None]).sum(axis=1)
            columns[f"top {name}"] = best[row, 1]
    for name, shares in found.shares.items():
        columns[f"votes {name}"] = shares[row, label]
        columns[f"nearest {name}"] = found.nearest[name][row, label]
        columns[f"nearest of all {name}"] = found.nearest[name].max(axis=1)[row]
    for name, alike in data.names.items():
        own = alike[groups]
        columns[f"name {name}"] = own[row, label]
        columns[f"name {name} margin"] = own[row, label] - own.max(axis=1)[row]
    for name, values in (extra or {}).items():
        columns[name] = values[groups[row], label]
    columns["log prior"] = np.log(found.prior[row, label] + 1e-4)
    for at, name in enumerate(data.fact_names):
        columns[name] = data.facts[groups, at][row]
    matrix = np.stack([np.asarray(column, np.float32) for column in columns.values()], axis=1)
    return Evidence(groups, row, label, matrix, tuple(columns))


def _speaks_for(column: str) -> bool:
    return column in ("graph", "votes basket") or (column.startswith("name ") and not column.endswith("margin"))


def _candidates(data: TagData, groups: IntArray, found: Signals) -> tuple[IntArray, IntArray]:
    chosen = np.zeros((len(groups), len(data.labels)), bool)
    wanted = [(found.scores[name], many) for name, many in CANDIDATES.items() if name in found.scores]
    wanted += [(alike[groups], NAMED) for alike in data.names.values()]
    for scores, many in wanted:
        many = min(many, len(data.labels))
        np.put_along_axis(chosen, np.argpartition(-scores, many - 1, axis=1)[:, :many], True, axis=1)
    row, label = np.nonzero(chosen)
    return row, label


def _signals(scores: Mapping[str, Matrix], voted: Mapping[str, tuple[Matrix, Matrix]], prior: Matrix) -> Signals:
    return Signals(
        scores,
        {name: found[0] for name, found in voted.items()},
        {name: found[1] for name, found in voted.items()},
        prior,
    )
