"""Questions to the graph: what the catalog says of an item is joined to it when the item is asked about.

No replica holds the facts of every item. A pattern with an item's id is answered from that item; one with a variable in
an item's place goes through the catalog, page by page, and only through items whose properties may match where it asks
for a property.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from graph.ports import Fact, Proof
from serving.clock import RequestClock
from serving.errors import InvalidRequest
from serving.factlog import Told
from serving.facts import Recorded, Retracted, about, with_catalog
from serving.knowledge import ITEM, types_of
from serving.live import LiveServices
from serving.services import Services

Found = TypeVar("Found")

TOGETHER: Final = 50
"""Items whose facts are joined at once: their common extension is cheaper than one each."""
SHARE: Final = 0.5
"""Part of the deadline after which a page ends, full or not."""
GENERAL: Final = -1
"""The row of a page token while the facts that are no catalog item's are listed."""


@dataclass(frozen=True, slots=True)
class FactQuery:
    """A pattern; at most ``page_size`` facts; ``page_token`` says where the page before ended."""

    request_id: str
    deadline_ms: int
    pattern: Fact
    page_size: int
    page_token: str = ""


@dataclass(frozen=True, slots=True)
class FactPage:
    """Facts, and where the next page begins; empty where there is none."""

    facts: tuple[Fact, ...]
    next_page_token: str


async def query(services: Services, asked: FactQuery, clock: RequestClock) -> FactPage:
    """A page of facts. Raises UnknownPredicate, and InvalidRequest for a token that is not of this pattern."""
    with clock.stage("graph"):
        return await asyncio.to_thread(_page, services, asked, clock.remaining_s * SHARE)


async def explain(services: Services, fact: Fact, clock: RequestClock) -> Proof:
    """A proof of least height. Raises UnknownPredicate and NotDerived."""
    with clock.stage("graph"):
        return await asyncio.to_thread(lambda: about(services, fact).prove(fact))


async def assert_facts(live: LiveServices, told: list[Told]) -> Recorded:
    """Off the event loop: properties of the items concerned are made anew. Raises as `LiveServices.assert_facts`."""
    return await asyncio.to_thread(live.assert_facts, told)


async def retract_facts(live: LiveServices, facts: list[Fact], source: str) -> Retracted:
    """Off the event loop, as assert_facts. Raises as `LiveServices.retract_facts`."""
    return await asyncio.to_thread(live.retract_facts, facts, source)


def _page(services: Services, asked: FactQuery, seconds: float) -> FactPage:
    question = json.dumps([asked.pattern.predicate, asked.pattern.args])
    rows = partial(_rows, services, asked.pattern)
    found, token = paged(rows, lambda fact: fact.args, question, asked.page_size, asked.page_token, seconds)
    return FactPage(found, token)


def paged(
    rows: Callable[[int], Iterable[tuple[int, list[Found]]]],
    key: Callable[[Found], tuple[str, ...]],
    question: str,
    page_size: int,
    page_token: str,
    seconds: float,
) -> tuple[tuple[Found, ...], str]:
    """A page of what ``rows`` finds from an item's row on, each row's sorted by ``key``, and the next page's token.

    It ends after ``seconds`` too, with a row. Raises InvalidRequest for a token that is not of this ``question``.
    """
    until = time.monotonic() + seconds
    digest = hashlib.sha256(question.encode()).hexdigest()[:16]
    at, after = _read_token(page_token, digest)
    last_row = at
    found: list[Found] = []
    for row, values in rows(at):
        for value in values:
            if row == at and after is not None and key(value) <= after:
                continue
            if len(found) == page_size:
                return tuple(found), _token(digest, last_row, key(found[-1]))
            found.append(value)
            last_row = row
        if row >= 0 and time.monotonic() > until:
            return tuple(found), _token(digest, row + 1, None)
    return tuple(found), ""


def _rows(services: Services, pattern: Fact, start: int) -> Iterator[tuple[int, list[Fact]]]:
    """Facts that match, with the row of the item they are about: first those of no item (row -1), sorted."""
    services.graph.holds(pattern)  # refuses what nobody declared before any item is read
    kinds = types_of(services.graph.program, pattern.predicate)
    places = [place for place, kind in enumerate(kinds) if kind == ITEM]
    open_places = [place for place in places if pattern.args[place].startswith("?")]
    if not open_places:
        yield GENERAL, with_catalog(services, [pattern.args[place] for place in places]).query(pattern)
        return
    place = open_places[0]
    fixed = [pattern.args[other] for other in places if other not in open_places]
    if start == GENERAL:
        found = with_catalog(services, fixed).query(pattern)
        yield GENERAL, [fact for fact in found if services.table.row_of(fact.args[place]) < 0]
    rows = candidates(services, pattern, place)
    rows = rows[rows >= max(start, 0)]
    for first in range(0, len(rows), TOGETHER):
        some = rows[first : first + TOGETHER].tolist()
        ids = [services.table.item_ids[row] for row in some]
        graph = with_catalog(services, [*fixed, *ids])
        for row, item in zip(some, ids):
            yield row, graph.query(_bound(pattern, place, item))


def _bound(pattern: Fact, place: int, item: str) -> Fact:
    """The pattern with the variable at ``place`` bound, wherever else it stands."""
    name = pattern.args[place]
    return replace(pattern, args=tuple(item if arg == name else arg for arg in pattern.args))


def candidates(services: Services, pattern: Fact, place: int) -> npt.NDArray[np.int64]:
    """Rows that may match: those with the property the pattern asks for, and those services told something about."""
    properties = services.properties
    everything = np.arange(len(services.table))
    if pattern.predicate not in ("contains", "serves", "may_contain") or place != 0 or len(pattern.args) != 2:
        return everything
    if (name := pattern.args[1]) not in properties.names:
        return everything
    if pattern.predicate == "may_contain":
        return np.flatnonzero(properties.may_have(everything, name))
    return np.flatnonzero(properties.has(everything, name))


def _token(digest: str, row: int, after: tuple[str, ...] | None) -> str:
    return base64.urlsafe_b64encode(json.dumps([digest, row, after]).encode()).decode()


def _read_token(token: str, expected: str) -> tuple[int, tuple[str, ...] | None]:
    if not token:
        return GENERAL, None
    try:
        digest, row, after = json.loads(base64.urlsafe_b64decode(token.encode()))
        if digest != expected:
            raise ValueError("of another question")
        return int(row), None if after is None else tuple(map(str, after))
    except (ValueError, TypeError) as error:
        raise InvalidRequest(
            "page_token is none of this pattern's; send next_page_token as it came, with the pattern as it was"
        ) from error
