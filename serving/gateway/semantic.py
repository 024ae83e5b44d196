"""Near questions: vectors of what was asked, what was answered to each, and when an answer may serve for another.

Similarity alone does not say whether two questions have one answer: among real groceries "Premium" is ice cream, bacon
and pasta sauce, all at cosine 1. Two more things must hold. Every near question in memory got the same answer, and at
least ``agreeing`` of them did: one that differs shows that here the vector does not decide. And the scope names what
else the answer depends on (`tag_meaning`). After the idea of verified caches that learn where similarity can be trusted
(Schroeder et al., vCache, https://arxiv.org/abs/2502.03771); what it is worth here: `serving.cachebench`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from models.tagging import Retrieved
from serving.gateway.ports import Meaning

Vector = npt.NDArray[np.float32]

_FIRST_ROWS: Final = 8
SURE: Final = 0.8
"""Share of the neighbours' votes from which on an item's likeliest label says enough to share an answer by."""


class _Group:
    """Up to ``most`` questions of one scope, the oldest overwritten: vectors [rows, dimension], keys, answers."""

    def __init__(self, dimension: int, most: int) -> None:
        self.vectors = np.empty((min(_FIRST_ROWS, most), dimension), np.float32)
        self.keys: list[str] = []
        self.says: list[int] = []
        self.expires: list[float] = []
        self._row: dict[str, int] = {}
        self._oldest = 0
        self._most = most

    def add(self, key: str, vector: Vector, says: int, expires: float) -> int:
        """Answers how many rows the group grew by: 1 or 0."""
        at = self._row.get(key)
        grown = 0
        if at is None and len(self.keys) < self._most:
            at, grown = self._grow(), 1
        elif at is None:
            at, self._oldest = self._oldest, (self._oldest + 1) % self._most
            del self._row[self.keys[at]]
        self._row[key] = at
        self.vectors[at], self.keys[at], self.says[at], self.expires[at] = vector, key, says, expires
        return grown

    def _grow(self) -> int:
        at = len(self.keys)
        if at == len(self.vectors):
            more = min(at, self._most - at)
            self.vectors = np.concatenate((self.vectors, np.empty((more, self.vectors.shape[1]), np.float32)))
        self.keys.append("")
        self.says.append(0)
        self.expires.append(0.0)
        return at


class MeaningIndex:
    """The questions in memory, by group. Compares with every row of the group: exact, and a group is small.

    ``rows``: of all groups together, the group unused for longest goes first. ``group_rows``: of one.
    """

    def __init__(self, rows: int, group_rows: int) -> None:
        self._rows, self._group_rows = rows, min(rows, group_rows)
        self._groups: OrderedDict[str, _Group] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, group: str, key: str, vector: Vector, text: str, expires: float) -> None:
        """A question and the text of its answer. One of another dimension than the group's begins the group anew."""
        held = self._groups.get(group)
        if held is None or held.vectors.shape[1] != len(vector):
            self._drop(group)
            held = self._groups[group] = _Group(len(vector), self._group_rows)
        self._groups.move_to_end(group)
        self._count += held.add(key, vector, _said(text), expires)
        while self._count > self._rows and len(self._groups) > 1:
            self._drop(next(iter(self._groups)))

    def agreed(self, group: str, vector: Vector, threshold: float, agreeing: int, now: float) -> Sequence[str]:
        """Keys of the questions at cosine ``threshold`` or nearer, nearest first; none unless at least ``agreeing`` are
        and all of them were answered alike."""
        held = self._groups.get(group)
        if held is None or held.vectors.shape[1] != len(vector):
            return ()
        self._groups.move_to_end(group)
        cosine = held.vectors[: len(held.keys)] @ vector
        near = [at for at in np.flatnonzero(cosine >= threshold).tolist() if held.expires[at] > now]
        if len(near) < agreeing or len({held.says[at] for at in near}) != 1:
            return ()
        return [held.keys[at] for at in sorted(near, key=lambda at: -float(cosine[at]))]

    def _drop(self, group: str) -> None:
        if (held := self._groups.pop(group, None)) is not None:
            self._count -= len(held.keys)


def tag_meaning(prompt: str, found: Retrieved, labels: Sequence[str], vector: Vector) -> Meaning | None:
    """What a Tag depends on: the item's words (``vector`` [d], L2 norm 1), the prompt, the label its neighbours name.

    ``labels``: names by code. None where the neighbours are divided (less than ``SURE`` of the votes for one label):
    then words do not decide, and only the LLM may.
    """
    if not found.votes:
        return None
    best = max(found.votes, key=lambda label: (found.votes[label], -label))
    return Meaning(f"tag|{prompt}|{labels[best]}", vector) if found.votes[best] >= SURE else None


def _said(text: str) -> int:
    return hash(" ".join(text.split()))
