"""Constants as numbers: every text a graph knows has an id, and an id its text and, if it is a decimal, a value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


def is_number(text: str) -> bool:
    """Whether the text is a decimal number as rules write them."""
    return _NUMBER.fullmatch(text) is not None


class Symbols:
    """Texts and their ids from 0 in order of arrival. A table laid over another one leaves that as it is."""

    __slots__ = ("_below", "_first", "_ids", "_names", "_numbers")

    def __init__(self, below: Symbols | None = None) -> None:
        self._below = below
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
        twin._ids = {name: i for i, name in enumerate(twin._names)}
        return twin

    def get(self, text: str) -> int:
        """The id of a text, -1 where it has none."""
        found = self._below.get(text) if self._below else -1
        return found if found >= 0 else self._ids.get(text, -1)

    def add(self, text: str) -> int:
        """The id of a text, a new one where it has none."""
        found = self.get(text)
        if found < 0:
            found = self._ids[text] = len(self)
            self._names.append(text)
        return found

    def add_all(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """Ids int32[n] of many texts."""
        if self._below is None:
            ids = self._ids
            # A dict keeps order, so new texts get the next ids as they come.
            for text in dict.fromkeys(texts):
                if text not in ids:
                    ids[text] = len(self._names)
                    self._names.append(text)
            return np.fromiter(map(ids.__getitem__, texts), np.int32, len(texts))
        return np.fromiter(map(self.add, texts), np.int32, len(texts))

    def name(self, symbol: int) -> str:
        """The text of an id."""
        if self._below is not None and symbol < self._first:
            return self._below.name(symbol)
        return self._names[symbol - self._first]

    def names(self) -> list[str]:
        """Every text, by id."""
        return (self._below.names() if self._below else []) + self._names

    def numbers(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The values of the texts below and of this table's own, NaN for a text that is no number."""
        done = len(self._numbers)
        if done < len(self._names):
            new = (float(text) if is_number(text) else np.nan for text in self._names[done:])
            self._numbers = np.concatenate([self._numbers, np.fromiter(new, np.float64)])
        return (np.concatenate(self._below.numbers()) if self._below else np.empty(0)), self._numbers


def first_that_is_no_number(texts: Iterable[str]) -> str | None:
    """The first text that is no decimal number, or None."""
    return next((text for text in texts if not is_number(text)), None)
