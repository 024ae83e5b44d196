"""Which budgets a call falls under, and what it may cost at worst."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from features.errors import StoreUnavailable
from models.ports import LLMRequest
from serving.errors import BudgetExceeded
from serving.gateway import ledgersql
from serving.gateway.config import BudgetConfig, Limit, RequestLimit, TargetConfig

UNIT = 10**9
"""Costs are kept as whole billionths of the currency, so that sums are exact."""


class Account(NamedTuple):
    """What is spent together: ``period`` is a day of UTC, or "" for all of them."""

    scope: str
    key: str
    period: str

    def __str__(self) -> str:
        whose = f"{self.scope} {self.key!r}" if self.key else "everybody"
        return f"{whose} on {self.period}" if self.period else whose


class Bound(NamedTuple):
    """An account and how much it may come to; None is without bound."""

    account: Account
    tokens: int | None
    units: int | None

    @property
    def limited(self) -> bool:
        return self.tokens is not None or self.units is not None


class Booking(NamedTuple):
    """Who spends on what: a row of the ledger."""

    day: str
    tenant: str
    task: str
    job: str
    target: str
    model: str


@dataclass(frozen=True, slots=True)
class Spent:
    """What engine calls came to. ``assumed_tokens`` are charged for calls whose engine never told: their worst case."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    assumed_tokens: int = 0
    units: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens + self.assumed_tokens

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.assumed_tokens + other.assumed_tokens,
            self.units + other.units,
        )


def day_of(seconds: float) -> str:
    """The day of UTC at a Unix time."""
    return _day(int(seconds // 86_400))


@lru_cache(4)
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * 86_400, UTC).date().isoformat()


def units(config: TargetConfig, prompt_tokens: int, completion_tokens: int) -> int:
    """Cost in `UNIT`, rounded up."""
    price = prompt_tokens * config.price_per_1k_prompt + completion_tokens * config.price_per_1k_completion
    return math.ceil(round(price * UNIT / 1e3, 3))


def prompt_bound(request: LLMRequest, template_tokens: int, *, with_schema: bool = False) -> int:
    """Tokens the prompt has at most: tokenizers of today make no more of them than there are bytes.

    ``with_schema``: an endpoint may put the schema into the prompt, and counts it there.
    """
    texts = len(request.system.encode()) + len(request.user.encode())
    if with_schema and request.json_schema is not None:
        texts += len(json.dumps(dict(request.json_schema)))  # escapes: as many bytes as characters
    return texts + template_tokens


def bounds_of(config: BudgetConfig, tenant: str, job: str, day: str) -> tuple[Bound, ...]:
    """Every account a call is booked to, with its limits."""
    bounds = list(_bounds("", "", day, config.everything))
    if tenant:
        bounds.extend(_bounds("tenant", tenant, day, config.tenants.get(tenant, config.tenant)))
    if job:
        bounds.extend(_bounds("job", job, day, config.jobs.get(job, config.job)))
    return tuple(bounds)


def _bounds(scope: str, key: str, day: str, limit: Limit) -> tuple[Bound, Bound]:
    return (
        Bound(Account(scope, key, day), limit.tokens_per_day, _units(limit.cost_per_day)),
        Bound(Account(scope, key, ""), limit.tokens_total, _units(limit.cost_total)),
    )


def _units(cost: float | None) -> int | None:
    return None if cost is None else math.floor(round(cost * UNIT, 3))


def read_spent(path: Path, days: int, tenant: str | None = None, today: str | None = None) -> pl.DataFrame:
    """What the ledger at ``path`` has of the last ``days`` days (``today`` by default included), of one tenant or all.

    Columns: see `ledgersql.COLUMNS`, ``cost`` in the currency. Empty where there is no file. Needs no running service.
    Raises StoreUnavailable.
    """
    last = date.fromisoformat(today or day_of(time.time()))
    first = last - timedelta(days=max(days, 1) - 1)
    rows: list[tuple[Any, ...]] = []
    if path.exists():
        try:
            with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
                rows = db.execute(ledgersql.SPENT, (first.isoformat(), last.isoformat())).fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the ledger of LLM budgets {path} cannot be read ({error})") from error
    frame = frame_of(rows)
    return frame if tenant is None else frame.filter(pl.col("tenant") == tenant)


def frame_of(rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    """Rows of the ledger's table ``spend`` with their names and the cost in the currency."""
    frame = pl.DataFrame(rows, schema=ledgersql.COLUMNS, orient="row")
    return frame.with_columns(cost=pl.col("cost") / UNIT)


@dataclass(slots=True)
class Spending:
    """What one ask has spent so far, and may. ``attempts``: engine calls made for it."""

    limit: RequestLimit
    spent: Spent = Spent()
    attempts: int = 0
    prompt_tokens: int = field(default=0)
    completion_tokens: int = field(default=0)

    def check(self, tokens: int, cost: int) -> None:
        """Raises BudgetExceeded where a call of ``tokens`` and ``cost`` (`UNIT`) passes the ask's own limit."""
        after = self.spent.tokens + tokens
        if self.limit.tokens is not None and after > self.limit.tokens:
            raise BudgetExceeded(
                f"a request may take {self.limit.tokens} tokens: {self.spent.tokens} are spent and one more call may "
                f"take {tokens}; ask for less or raise [gateway.budgets.request] tokens"
            )
        most = _units(self.limit.cost)
        if most is not None and self.spent.units + cost > most:
            raise BudgetExceeded(
                f"a request may cost {self.limit.cost}: {self.spent.units / UNIT:g} are spent and one more call may "
                f"cost {cost / UNIT:g}; ask for less or raise [gateway.budgets.request] cost"
            )

    def add(self, spent: Spent, prompt_tokens: int, completion_tokens: int) -> None:
        """Note a call; the counts are what was reported, or else assumed."""
        self.spent += spent
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens


def refuse(bound: Bound, used: tuple[int, int], wanted: tuple[int, int]) -> None:
    """Raises BudgetExceeded where ``used`` and ``wanted`` (tokens, `UNIT`) together pass the bound."""
    account = bound.account
    more = "there is more tomorrow (UTC), or" if account.period else "there is no more, unless you"
    if bound.tokens is not None and used[0] + wanted[0] > bound.tokens:
        raise BudgetExceeded(
            f"the budget of {account} is {bound.tokens} tokens: {used[0]} are spent or reserved and this call may "
            f"take {wanted[0]}; {more} raise [gateway.budgets]"
        )
    if bound.units is not None and used[1] + wanted[1] > bound.units:
        raise BudgetExceeded(
            f"the budget of {account} is {bound.units / UNIT:g}: {used[1] / UNIT:g} are spent or reserved and this "
            f"call may cost {wanted[1] / UNIT:g}; {more} raise [gateway.budgets]"
        )
