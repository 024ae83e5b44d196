"""Stable integer keys for item ids: a history stored today must mean the same items after any later ingest."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

KeyArray = npt.NDArray[np.int64]

NOWHERE: Final = 0
"""Key of a place that was not told."""


def item_keys(item_ids: Sequence[str]) -> KeyArray:
    """64-bit keys [len(item_ids)]; equal ids give equal keys on every machine and in every process.

    Two of a million ids collide with a probability of about 3e-8, and the item table refuses to be built if they do.
    """
    digest = b"".join(blake2b(item_id.encode(), digest_size=8).digest() for item_id in item_ids)
    return np.frombuffer(digest, dtype="<i8").astype(np.int64)


def distinct(numbers: KeyArray) -> KeyArray:
    """The distinct numbers [n], ascending.

    As np.unique has them, which hashes since NumPy 2.3 and takes fifty times as long for a million.
    """
    ordered = np.sort(numbers)
    found: KeyArray = ordered[np.diff(ordered, prepend=ordered[:1] - 1) != 0]
    return found


class KeyIndex(NamedTuple):
    """Rows of items by key. ``keys`` int64 [n], ascending; ``rows`` int64 [n]: of each.

    Keys are hashes, so their highest ``bits`` part them evenly: ``starts`` int32 [2^bits] says where the keys begin
    whose highest bits are so, the sign's bit turned over, or higher.
    """

    keys: KeyArray
    rows: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int32]
    bits: int

    @staticmethod
    def of(keys: KeyArray) -> KeyIndex:
        """Of distinct keys [n] by row."""
        rows = np.argsort(keys, kind="stable")
        bits = max(1, len(keys).bit_length())
        ordered = keys[rows]
        highest = (ordered.view(np.uint64) ^ np.uint64(1 << 63)) >> np.uint64(64 - bits)
        starts = np.searchsorted(highest, np.arange(1 << bits, dtype=np.uint64)).astype(np.int32)
        return KeyIndex(ordered, rows, starts, bits)


def place_key(place: str) -> int:
    """The key of one place; NOWHERE for an empty name."""
    return int(item_keys([place])[0]) if place else NOWHERE


def place_keys(places: Sequence[str]) -> KeyArray:
    """64-bit keys [len(places)] of stores, branches or channels; NOWHERE for an empty name."""
    known = {place: key for place, key in zip(set(places), item_keys(tuple(set(places))).tolist()) if place}
    return np.array([known.get(place, NOWHERE) for place in places], np.int64)
