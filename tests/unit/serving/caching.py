"""What tests of the cache share: asks that differ where a test says so, a clock it sets, a store that fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from features.errors import StoreUnavailable
from models.ports import LLMRequest, LLMResult, Token
from models.tagging import choice_schema
from serving.gateway.cachestore import Row
from serving.gateway.ports import Ask, Check, Meaning

SCHEMA = choice_schema("tags", ["CHEESE", "MILK"], 2)


class Clock:
    """Seconds since 1970, as the test says."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def direction(degrees: float, dimension: int = 4) -> npt.NDArray[np.float32]:
    """A unit vector; two of them are as near as their angles."""
    vector = np.zeros(dimension, np.float32)
    vector[:2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return vector


def ask(
    user: str = "Cheddar",
    *,
    degrees: float | None = None,
    scope: str = "tag",
    schema: Mapping[str, Any] | None = SCHEMA,
    check: Check | None = None,
    **request: Any,
) -> Ask:
    """A question; with ``degrees`` it may be answered by a near one."""
    meaning = None if degrees is None else Meaning(scope, direction(degrees))
    asked = LLMRequest(system="Answer.", user=user, max_tokens=32, json_schema=schema, **request)
    return Ask(task="tag", request=asked, budget_s=1.0, check=check, meaning=meaning)


def result(label: str = "CHEESE", **changes: Any) -> LLMResult:
    """A right answer of three tokens."""
    pieces = ('{"tags":["', label, '"]}')
    whole: dict[str, Any] = {
        "text": "".join(pieces),
        "finish": "stop",
        "prompt_tokens": 40,
        "completion_tokens": 4,
        "tokens": tuple(Token(piece, -0.25) for piece in pieces),
    }
    return LLMResult(**{**whole, **changes})


class DeadStore:
    """A store nobody reaches; counts how often it was tried."""

    def __init__(self) -> None:
        self.calls = 0

    async def get(self, key: str) -> Row | None:
        self._fail(key)

    async def put(self, rows: Sequence[Row], now: float) -> None:
        self._fail(rows, now)

    async def learn(self) -> None:
        self._fail()

    async def meanings(self, after: int, most: int) -> tuple[list[Row], int]:
        self._fail(after, most)

    async def purge(self, release: str, now: float) -> None:
        self._fail(release, now)

    async def aclose(self) -> None:
        pass

    def _fail(self, *_: object) -> NoReturn:
        self.calls += 1
        raise StoreUnavailable("the store of this test is down")
