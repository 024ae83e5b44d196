"""What was summed up for the days asked for last: it takes long to make, and few days are asked for, over and over."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

DAYS_KEPT: Final = 8
"""Days whose state is kept at hand: serving asks for today's, training goes day by day."""

State = TypeVar("State")


class DayStates(Generic[State]):
    """States by number of the day, at most DAYS_KEPT of them. Safe to use from several threads.

    The one asked for longest ago makes room: requests about other days must not push out today, which others ask for.
    """

    def __init__(self) -> None:
        self._states: OrderedDict[int, State] = OrderedDict()
        self._last: tuple[int, State] | None = None  # asked for: most requests ask for it again, and need no lock then
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, number: int) -> bool:
        """Whether the day is at hand; this is not asking for it."""
        return number in self._states

    def of(self, number: int, make: Callable[[int], State]) -> State:
        """The state of a day, made where it is not at hand.

        Of several threads that get here at once each may make it; all must make the same.
        """
        last = self._last
        if last is not None and last[0] == number:
            return last[1]
        with self._lock:
            found = self._states.get(number)
            if found is not None:
                self._states.move_to_end(number)
                self._last = number, found
                return found
        found = make(number)  # takes long: who asks for another day must not wait
        with self._lock:
            self._states[number] = found
            self._states.move_to_end(number)
            self._last = number, found
            if len(self._states) > DAYS_KEPT:
                self._states.popitem(last=False)
        return found

    def newest_before(self, number: int) -> State | None:
        """The state of the nearest day at hand before a day; None where there is none."""
        with self._lock:
            return self._states.get(max((day for day in self._states if day < number), default=number))
