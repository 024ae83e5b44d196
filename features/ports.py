"""Ports of the feature side: where a user's state and profile are read online, and where events go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from features.history import History


@dataclass(frozen=True, slots=True, eq=False)
class UserRow:
    """What the online store holds of one user; ``known`` is False for a user nobody has seen."""

    history: History
    profile: Mapping[str, str]
    known: bool


@dataclass(frozen=True, slots=True)
class Event:
    """One thing a user did. ``timestamp`` in seconds since 1970; ``kind`` one of EVENT_KINDS.

    ``place``: the store, branch or channel, empty where not told. ``price``: of one unit, 0 where not told.
    """

    event_id: str
    user_id: str
    item_id: str
    kind: str
    value: float
    timestamp: int
    session_id: str
    place: str = ""
    price: float = 0.0


class OnlineStore(Protocol):
    """Features of users at request time."""

    def history(self, user_id: str) -> History:
        """A user's events; none for somebody nobody has seen. Raises StoreUnavailable where nothing answers."""
        ...

    def push(self, histories: Mapping[str, History]) -> None:
        """Replace users' histories; a ``history`` call that starts afterwards sees them. Raises StoreUnavailable."""
        ...


class EventLog(Protocol):
    """The durable record of events: what ``append`` returned for is on disk."""

    def append(self, events: Sequence[Event]) -> int:
        """Append events not seen before (by event_id), all or none; answers how many were new."""
        ...

    def of_user(self, user_id: str) -> list[Event]:
        """A user's events in order of arrival."""
        ...
