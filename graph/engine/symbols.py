"""Constants as numbers: every text a graph knows has an id, and an id its text and, if it is a decimal, a value."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import compress, repeat

import numpy as np
from numpy.typing import NDArray

from graph.engine import kernel as k
from graph.engine.memory import address

_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_ABSENT = repeat(-1)
_FEW = 1_000
"""Texts that a dictionary takes as fast as looking whether they differ."""
_JOINED = 1 << 16


def is_number(text: str) -> bool:
    """Whether the text is a decimal number as rules write them."""
    return _NUMBER.fullmatch(text) is not None


class Symbols:
    """Texts and their ids from 0 in order of arrival. A table laid over another one, itself over none, leaves that as
    it is."""

    __slots__ = ("_below", "_first", "_ids", "_ids_below", "_names", "_names_below", "_numbers")

    def __init__(self, below: Symbols | None = None) -> None:
        self._below = below
        self._ids_below: dict[str, int] = below._ids if below else {}
        self._names_below: list[str] = below._names if below else []
        self._first = len(below) if below else 0
        self._ids: dict[str, int] = {}
        self._names: list[str] = []
        self._numbers: NDArray[np.float64] = np.empty(0)

    def __len__(self) -> int:
        return self._first + len(self._names)

    def copy(self) -> Symbols:
        """A table of its own over the same one below."""
        twin = Symbols(self._below)
        twin._ids, twin._names, twin._numbers = self._ids.copy(), self._names.copy(), self._numbers
        return twin

    def flat(self) -> Symbols:
        """One table with the same ids over none."""
        twin = Symbols()
        twin._names = self.names()
        return twin

    def get(self, texts: Sequence[str]) -> list[int]:
        """The ids of texts, -1 for one that has none."""
        found = list(map(self._ids_below.get, texts, _ABSENT))
        if -1 in found:
            if self._below and len(self._below._ids) < len(self._below):
                self._below._known()
                return self.get(texts)
            own = self._known().get
            found = [own(text, -1) if symbol < 0 else symbol for text, symbol in zip(texts, found)]
        return found

    def add(self, text: str) -> int:
        """The id of a text, a new one where it has none. Raises TypeError for what is no text."""
        found = self.get((text,))[0]
        if found < 0:
            found = self._new(text)
        return found

    def add_all(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """Ids int32[n] of many texts. Raises TypeError as ``add``."""
        if self._below is not None:
            return np.fromiter(map(self.add, texts), np.int32, len(texts))
        ids, first, some = self._known(), len(self._names), texts[:_FEW]
        is_many = len(texts) > _FEW and len(set(some)) == _FEW
        if is_many and distinct(hashes := _hashes(_checked(texts))):
            # Names, each given once: a dictionary of them can wait until somebody asks by name.
            likely = np.flatnonzero(np.isin(hashes, _hashes(ids))).tolist()
            known = [i for i in likely if texts[i] in ids]
            fresh = np.ones(len(texts), np.bool_)
            fresh[known] = False
            self._names += compress(texts, fresh.tolist()) if known else texts
            found = np.cumsum(fresh, dtype=np.int32) + np.int32(first - 1)
            found[known] = [ids[texts[i]] for i in known]
            return found
        # A dict keeps order, so new texts get the next ids as they come.
        self._names += _checked([text for text in dict.fromkeys(texts) if text not in ids])
        return np.fromiter(map(self._known().__getitem__, texts), np.int32, len(texts))

    def name(self, symbol: int) -> str:
        """The text of an id."""
        return self.texts((symbol,))[0]

    def texts(self, symbols: Sequence[int]) -> list[str]:
        """The texts of ids."""
        first, own, below = self._first, self._names, self._names_below
        return [own[symbol - first] if symbol >= first else below[symbol] for symbol in symbols]

    def names(self) -> list[str]:
        """Every text, by id."""
        return (self._below.names() if self._below else []) + self._names

    def numbers(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The values of the texts below and of this table's own, NaN for a text that is no number."""
        return self._below._values() if self._below else np.empty(0), self._values()

    def _known(self) -> dict[str, int]:
        """The ids of this table's own texts. Threads that fill it at once write the same."""
        ids = self._ids
        if len(ids) < len(self._names):
            ids.update(zip(self._names[len(ids) :], range(self._first + len(ids), len(self))))
        return ids

    def _values(self) -> NDArray[np.float64]:
        # Graphs that share what is below may ask at once: each goes on from the array it saw.
        known = self._numbers
        if len(known) < len(self._names):
            new = (float(text) if is_number(text) else np.nan for text in self._names[len(known) :])
            known = self._numbers = np.concatenate([known, np.fromiter(new, np.float64)])
        return known

    def _new(self, text: str) -> int:
        _checked((text,))
        self._known()[text] = symbol = len(self)
        self._names.append(text)
        return symbol


def _hashes(texts: Collection[str]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, texts), np.int64, len(texts))


def distinct(hashes: NDArray[np.int64]) -> bool:
    """Whether no two are equal, so what they are of differs."""
    parts = max(1, len(hashes) >> 3)
    ends = np.zeros(parts + 1, np.int64)
    grouped = np.empty_like(hashes)
    return bool(k.all_differ(address(hashes), len(hashes), address(ends), parts, address(grouped)))


def _checked(texts: Sequence[str]) -> Sequence[str]:
    for first in range(0, len(texts), _JOINED):
        try:
            "".join(texts[first : first + _JOINED])  # the cheapest look at every type
        except TypeError:
            wrong = next(text for text in texts if not isinstance(text, str))
            raise TypeError(f"{wrong!r}, which is no text") from None
    return texts
