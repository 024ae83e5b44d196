"""A user's recent events as parallel arrays: the one state every user feature is computed from.

Keeping the events themselves, not counters derived from them, makes parity a matter of construction: training slices
the same arrays at the target's time, serving reads them whole, and one function turns either into features. It also
makes an update an append, and a feature added tomorrow needs no new state.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from features.errors import SchemaMismatch
from features.keys import KeyArray

EVENT_KINDS: Final = ("purchase", "view", "click", "cart", "rating")
"""Code of a kind is its position: append to this tuple, never reorder it."""

MAX_EVENTS: Final = 4096
"""Most recent events kept per user; of older ones only the items stay (and all in the log and the training data)."""

_HEADER = struct.Struct("<4sII")
_MAGIC = b"TUH3"
_EVENT_BYTES: Final = 41


_NO_KEYS: Final = np.empty(0, np.int64)
_NO_KINDS: Final = np.empty(0, np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Events in order of (time, session, arrival).

    ``item``: item keys int64 [n]. ``time``: seconds since 1970, int64 [n]. ``session``: key of the basket or visit,
    int64 [n]. ``kind``: position in EVENT_KINDS, uint8 [n]. ``value``: quantity or rating, float32 [n]. ``place``: key
    of the store, branch or channel, int64 [n], NOWHERE where not told. ``price``: of one unit, float32 [n], NaN where
    not told.
    ``forgotten``: distinct keys of the items of events that had to leave, ascending, int64 [f]; ``forgotten_kinds``
    uint8 [f]: a bit for each kind of those events. A film seen long ago is seen for good.
    """

    item: KeyArray
    time: npt.NDArray[np.int64]
    session: npt.NDArray[np.int64]
    kind: npt.NDArray[np.uint8]
    value: npt.NDArray[np.float32]
    place: KeyArray
    price: npt.NDArray[np.float32]
    forgotten: KeyArray = field(default_factory=lambda: _NO_KEYS)
    forgotten_kinds: npt.NDArray[np.uint8] = field(default_factory=lambda: _NO_KINDS)

    def __len__(self) -> int:
        return len(self.item)

    @staticmethod
    def empty() -> History:
        return History(
            np.empty(0, np.int64),
            np.empty(0, np.int64),
            np.empty(0, np.int64),
            np.empty(0, np.uint8),
            np.empty(0, np.float32),
            np.empty(0, np.int64),
            np.empty(0, np.float32),
        )

    def before(self, time: int) -> History:
        """Only the events strictly before ``time``, the newest MAX_EVENTS of them: what could be known at ``time``."""
        end = int(np.searchsorted(self.time, time, side="left"))
        start = max(0, end - MAX_EVENTS)
        if start == 0 and end == len(self):
            return self
        window = slice(start, end)
        return History(
            self.item[window],
            self.time[window],
            self.session[window],
            self.kind[window],
            self.value[window],
            self.place[window],
            self.price[window],
            *self._forgetting((self.item[:start], _bit(self.kind[:start]))),
        )

    def append(self, other: History) -> History:
        """Both histories' events, in order and bounded to the newest MAX_EVENTS; late events find their place."""
        time = np.concatenate((self.time, other.time))
        session = np.concatenate((self.session, other.session))
        item, kind = np.concatenate((self.item, other.item)), np.concatenate((self.kind, other.kind))
        order = np.lexsort((np.arange(len(time)), session, time))
        left, order = order[:-MAX_EVENTS], order[-MAX_EVENTS:]
        return History(
            item[order],
            time[order],
            session[order],
            kind[order],
            np.concatenate((self.value, other.value))[order],
            np.concatenate((self.place, other.place))[order],
            np.concatenate((self.price, other.price))[order],
            *self._forgetting((item[left], _bit(kind[left])), (other.forgotten, other.forgotten_kinds)),
        )

    def _forgetting(self, *left: tuple[KeyArray, npt.NDArray[np.uint8]]) -> tuple[KeyArray, npt.NDArray[np.uint8]]:
        """``forgotten`` and ``forgotten_kinds`` once these too, keys and bits, have left."""
        left = tuple(part for part in left if len(part[0]))
        if not left:
            return self.forgotten, self.forgotten_kinds
        keys, bits = (np.concatenate(both) for both in zip((self.forgotten, self.forgotten_kinds), *left))
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order], prepend=keys[order[0]] - 1))
        return keys[order][starts], np.bitwise_or.reduceat(bits[order], starts)

    def encode(self) -> bytes:
        """The arrays as little-endian bytes behind a header; ``decode`` reads them without a copy."""
        return b"".join(
            (
                _HEADER.pack(_MAGIC, len(self), len(self.forgotten)),
                self.item.astype("<i8", copy=False).tobytes(),
                self.time.astype("<i8", copy=False).tobytes(),
                self.session.astype("<i8", copy=False).tobytes(),
                self.place.astype("<i8", copy=False).tobytes(),
                self.value.astype("<f4", copy=False).tobytes(),
                self.price.astype("<f4", copy=False).tobytes(),
                self.kind.tobytes(),
                self.forgotten.astype("<i8", copy=False).tobytes(),
                self.forgotten_kinds.tobytes(),
            )
        )

    @staticmethod
    def decode(blob: bytes) -> History:
        """Raises SchemaMismatch where the bytes are not a history of this version."""
        if not blob:
            return History.empty()
        magic, n, f = _HEADER.unpack_from(blob) if len(blob) >= _HEADER.size else (b"", 0, 0)
        if magic != _MAGIC or len(blob) != _HEADER.size + n * _EVENT_BYTES + f * 9:
            raise SchemaMismatch(
                f"a stored user history starts with {blob[:4]!r} and has {len(blob)} bytes; this code reads "
                f"{_MAGIC!r}. Run tandem train again to materialize the features"
            )
        offset = _HEADER.size
        item = np.frombuffer(blob, "<i8", n, offset)
        time = np.frombuffer(blob, "<i8", n, offset + 8 * n)
        session = np.frombuffer(blob, "<i8", n, offset + 16 * n)
        place = np.frombuffer(blob, "<i8", n, offset + 24 * n)
        value = np.frombuffer(blob, "<f4", n, offset + 32 * n)
        price = np.frombuffer(blob, "<f4", n, offset + 36 * n)
        kind = np.frombuffer(blob, np.uint8, n, offset + 40 * n)
        forgotten = np.frombuffer(blob, "<i8", f, offset + _EVENT_BYTES * n)
        bits = np.frombuffer(blob, np.uint8, f, offset + _EVENT_BYTES * n + 8 * f)
        return History(item, time, session, kind, value, place, price, forgotten, bits)


def _bit(kind: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.left_shift(np.uint8(1), kind)
