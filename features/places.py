"""What was sold where and for how much: prices of items, and items of a store, a branch or a channel, as of any day.

Like `features.statistics`, counts by day are kept and a day's state is summed up when it is asked for: from events of
all days before it (UTC). Where no event tells a place or a price, the columns made of this are NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from features.keys import NOWHERE, KeyArray

DAY: Final = 86_400
USUAL: Final = 0.03
RECENT: Final = 0.3
"""What one event adds to an item's usual and to its recent price: they remember some 33 events, and 3."""
KIND_DAYS: Final = 3.0
"""Days in which what was sold of a kind somewhere halves."""
_LOOK_BACK: Final = int(20 * KIND_DAYS)
"""Days after which it is forgotten, a millionth of it being left."""
FIELDS: Final = ("places", "starts", "rows", "day", "pair", "n", "price")


@dataclass(frozen=True, slots=True, eq=False)
class Here:
    """One place on one day. ``rows`` int32 [r]: items ever sold there, ascending; ``last`` int32 [r]: day of each
    item's last event before, -1 for none; ``price`` float64 [r]: log of its price then, NaN where not told;
    ``kinds`` float64 [kinds]: events with each kind of item, halved every KIND_DAYS. ``starts`` int32 and ``shift``:
    where in ``rows`` to look for a row, see `RowIndex`."""

    rows: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int32]
    shift: int
    last: npt.NDArray[np.int32]
    price: npt.NDArray[np.float64]
    kinds: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PlaceDay:
    """All places when day number ``day`` began: see Here. ``usual`` and ``recent`` float64 [items]: logs of an item's
    prices everywhere, NaN for none. ``kind`` int64 [items]: of each item, below ``kinds``.

    ``end``: entries before that day; ``sums`` float64 [4, items]: what the averages are made of, so that a later day
    goes on from here.

    What was sold of each kind is counted for the places that are asked for, when they first are, and only kinds sold
    there are kept: all places times all kinds would be 114 MiB for 5,000 and 3,000, whatever was sold.
    """

    usual: npt.NDArray[np.float64]
    recent: npt.NDArray[np.float64]
    last: npt.NDArray[np.int32]
    price: npt.NDArray[np.float64]
    day: int
    kind: npt.NDArray[np.int64]
    kinds: int
    end: int
    sums: npt.NDArray[np.float64]
    _sold: dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = field(default_factory=dict)


class RowIndex(NamedTuple):
    """Where the rows of each of several places are, without a search.

    Row r of place q is, if anywhere, among those from ``starts[first[q] + (r >> shift[q])]`` to the next start, counted
    from the place's first; a place's starts end before ``first[q + 1]``, and rows beyond them are none of its. Some two
    rows share a start. ``first`` int64 [p + 1], ``shift`` int64 [p], ``starts`` int32.
    """

    first: npt.NDArray[np.int64]
    shift: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int32]

    @staticmethod
    def of(starts: npt.NDArray[np.int64], rows: npt.NDArray[np.int32]) -> RowIndex:
        """See PlaceActivity."""
        sizes = np.diff(starts)
        most = rows[starts[1:] - 1].astype(np.int64) + 1  # no place is without rows
        shift = np.floor(np.log2(np.maximum(2 * most / sizes, 1.0))).astype(np.int64)
        first = np.append(0, np.cumsum((most >> shift) + 2))
        begun = []
        for place in range(len(sizes)):
            buckets = rows[starts[place] : starts[place + 1]] >> shift[place]
            begun.append(np.searchsorted(buckets, np.arange(first[place + 1] - first[place])).astype(np.int32))
        return RowIndex(first, shift, np.concatenate(begun) if begun else np.empty(0, np.int32))


@dataclass(frozen=True, slots=True, eq=False)
class PlaceActivity:
    """Events by day, place and item, in order of (day, place, item).

    ``places`` int64 [p]: keys, ascending, NOWHERE among them where events tell no place. Pairs of a place and an item
    sold there: those of place q are ``starts[q]`` to ``starts[q + 1]`` (int64 [p + 1]), with the items' rows ascending
    in ``rows`` (int32 [pairs]). Entries: ``day`` int32, since 1970; ``pair`` int32; ``n`` int32, events; ``price``
    float64, mean log price, NaN where none was told.
    """

    places: KeyArray
    starts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int32]
    day: npt.NDArray[np.int32]
    pair: npt.NDArray[np.int32]
    n: npt.NDArray[np.int32]
    price: npt.NDArray[np.float64]
    index: RowIndex = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", RowIndex.of(self.starts, self.rows))

    def __len__(self) -> int:
        return len(self.day)

    @staticmethod
    def none() -> PlaceActivity:
        """Of a catalog without events, or whose events tell neither places nor prices."""
        rows = np.empty(0, np.int32)
        return PlaceActivity(
            np.empty(0, np.int64), np.zeros(1, np.int64), rows, rows, rows, rows, np.empty(0, np.float64)
        )

    @staticmethod
    def count(
        place: KeyArray,
        row: npt.NDArray[np.int64],
        time: npt.NDArray[np.int64],
        price: npt.NDArray[np.float32],
        items: int,
    ) -> PlaceActivity:
        """From events [n] in any order: keys of places, item rows (0 to ``items`` - 1), seconds since 1970, and
        prices of one unit, NaN where not told."""
        told = np.isfinite(price) & (price > 0)
        if not told.any() and not (place != NOWHERE).any():
            return PlaceActivity.none()
        places, at = np.unique(place, return_inverse=True)
        pairs, pair = np.unique(at.astype(np.int64) * items + row, return_inverse=True)
        first = int(time.min()) // DAY
        entries, entry = np.unique((time // DAY - first) * len(pairs) + pair, return_inverse=True)
        logs = np.log(np.where(told, price, 1.0).astype(np.float64))
        priced = np.bincount(entry, told, len(entries))
        with np.errstate(invalid="ignore"):
            mean = np.bincount(entry, logs, len(entries)) / np.where(priced > 0, priced, np.nan)
        return PlaceActivity(
            places,
            np.searchsorted(pairs, np.arange(len(places) + 1) * items),
            (pairs % items).astype(np.int32),
            (entries // len(pairs) + first).astype(np.int32),
            (entries % len(pairs)).astype(np.int32),
            np.bincount(entry, minlength=len(entries)).astype(np.int32),
            mean,
        )

    def at(
        self, day: int, items: int, kind: npt.NDArray[np.int64], kinds: int, before: PlaceDay | None = None
    ) -> PlaceDay:
        """What all days before ``day`` say. ``kind`` int64 [items]: of each item, below ``kinds``. ``before``: an
        earlier day of the same items, from which the sums go on; the result is the same to the bit without it."""
        end = int(np.searchsorted(self.day, day, side="left"))
        if before is None:
            last, price = np.full(len(self.rows), -1, np.int32), np.full(len(self.rows), np.nan)
            start, sums = 0, np.zeros((4, items))
        else:
            start, sums, last, price = before.end, before.sums.copy(), before.last.copy(), before.price.copy()
        usual, recent = _go_on(start, end, self.day, self.pair, self.n, self.price, self.rows, last, price, sums)
        return PlaceDay(usual, recent, last, price, day, kind, kinds, end, sums)

    def here(self, state: PlaceDay, place: int) -> Here | None:
        """What ``state``, of this activity, says of a place; None for one where nothing was ever sold."""
        at = int(np.searchsorted(self.places, place))
        if place == NOWHERE or at == len(self.places) or self.places[at] != place:
            return None
        pairs = slice(int(self.starts[at]), int(self.starts[at + 1]))
        first, shift, starts = self.index
        own = starts[int(first[at]) : int(first[at + 1])]
        kinds = self._kinds(state, at)
        return Here(self.rows[pairs], own, int(shift[at]), state.last[pairs], state.price[pairs], kinds)

    def _kinds(self, state: PlaceDay, at: int) -> npt.NDArray[np.float64]:
        """See Here, of the place numbered ``at``."""
        kept = state._sold.get(at)
        if kept is None:
            # Of several threads that get here at once each counts; all find the same.
            first, last = int(self.starts[at]), int(self.starts[at + 1])
            kept = state._sold[at] = _recently(
                state.day, state.end, self.day, self.pair, self.n, self.rows, first, last, state.kind, state.kinds
            )
        kinds = np.zeros(state.kinds)
        kinds[kept[0]] = kept[1]
        return kinds

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """By name, to save and to load."""
        return {name: getattr(self, name) for name in FIELDS}


_NONE: Final = np.empty(0, np.float64)
_NOTHING: Final = np.empty(0, np.int32)
NO_PLACE: Final = Here(_NOTHING, _NOTHING, 0, _NOTHING, _NONE, _NONE)
"""Where nothing was ever sold, or nobody said where."""


@njit(cache=True, nogil=True)
def _go_on(start, end, days, pair, n, price, rows, last, here, sums):  # type: ignore[no-untyped-def]
    """Add the entries ``start`` to ``end`` to ``last``, ``here`` [pairs] and ``sums`` [4, items]; usual and recent log
    prices [items]. Averages forget by events and are free of where they began."""
    slow, slow_weight, fast, fast_weight = sums[0], sums[1], sums[2], sums[3]
    for entry in range(start, end):
        at = pair[entry]
        last[at] = days[entry]
        if np.isnan(price[entry]):
            continue
        row = rows[at]
        here[at] = price[entry]
        many = n[entry] > 1  # powers are dear
        keep = (1.0 - USUAL) ** n[entry] if many else 1.0 - USUAL
        slow[row] = slow[row] * keep + price[entry] * (1.0 - keep)
        slow_weight[row] = slow_weight[row] * keep + 1.0 - keep
        keep = (1.0 - RECENT) ** n[entry] if many else 1.0 - RECENT
        fast[row] = fast[row] * keep + price[entry] * (1.0 - keep)
        fast_weight[row] = fast_weight[row] * keep + 1.0 - keep
    items = sums.shape[1]
    usual, recent = np.full(items, np.nan), np.full(items, np.nan)
    for row in range(items):
        if slow_weight[row] > 0.0:
            usual[row] = slow[row] / slow_weight[row]
            recent[row] = fast[row] / fast_weight[row]
    return usual, recent


@njit(cache=True, nogil=True)
def _begin(values, wanted, start, end):  # type: ignore[no-untyped-def]
    """The first of the ascending ``values[start:end]`` that is not below ``wanted``; ``end`` where all are."""
    while start < end:
        middle = (start + end) // 2
        if values[middle] < wanted:
            start = middle + 1
        else:
            end = middle
    return start


@njit(cache=True, nogil=True)
def _recently(day, end, days, pair, n, rows, first, last, kind, kinds):  # type: ignore[no-untyped-def]
    """Kinds among the entries before ``end`` of the pairs ``first`` to ``last``, a place's, and their events, halved
    every KIND_DAYS.

    Entries are in order of (day, pair), so those of the place are one run a day: two searches find it, and the place's
    events are added in the order they have among all, which makes the sums the same to the bit.
    """
    fresh = 2.0 ** (-np.arange(_LOOK_BACK + 1) / KIND_DAYS)
    sold = np.zeros(kinds)
    begun = _begin(days, day - _LOOK_BACK, 0, end)
    while begun < end:
        ended = _begin(days, days[begun] + 1, begun, end)
        worth = fresh[day - days[begun]]
        for entry in range(_begin(pair, first, begun, ended), _begin(pair, last, begun, ended)):
            sold[kind[rows[pair[entry]]]] += n[entry] * worth
        begun = ended
    found = np.flatnonzero(sold)
    return found, sold[found]
