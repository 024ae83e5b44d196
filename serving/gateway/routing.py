"""Who is asked: the routing table, experiments, shadows, and tenants whose prompts stay in the house."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from models.errors import EngineUnavailable
from serving.gateway.config import GatewayConfig, Match, Split
from serving.gateway.ports import Ask
from serving.gateway.targets import InHouse, InHouseTarget, Target, Targets

_LISTS: Final = 64
"""Lists of targets that are remembered: a table has few."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Who answers an ask, in order, and who is asked beside. ``split``: the experiment that put the first there."""

    targets: Targets
    shadows: Targets
    split: Split | None = None

    @property
    def kept(self) -> tuple[Target, ...]:
        """Targets whose cached answers may be given and whose answers may be kept."""
        if self.split is not None:
            return self.targets.ordered[:1] if self.split.cache else ()
        return tuple(target for target in self.targets.ordered if target.config.cache)


@dataclass(frozen=True, slots=True)
class PinnedPlan(Plan):
    """A plan of in-house models only: its lists are of a type that can hold no other."""

    targets: InHouse
    shadows: InHouse

    def __post_init__(self) -> None:
        if not isinstance(self.targets, InHouse) or not isinstance(self.shadows, InHouse):
            raise TypeError("a pinned plan is made of in-house targets")


class Router:
    """Reads the tables. ``hashed`` gives a user the same place between 0 and 1 in every process and every release."""

    def __init__(self, config: GatewayConfig, targets: Targets) -> None:
        self._config = config
        self._targets = targets
        self._by_name = {target.name: target for target in targets.ordered}
        self._named = lru_cache(_LISTS)(lambda names: Targets(targets.named(names)))
        self._all = tuple(self._by_name)
        self._in_house = InHouse(tuple(target for target in targets.ordered if isinstance(target, InHouseTarget)))

    def pinned(self, tenant: str) -> bool:
        """Whether this tenant's prompts stay in the house."""
        return tenant in self._config.pinned_tenants or self._tier(tenant) in self._config.pinned_tiers

    def plan(self, ask: Ask) -> Plan:
        """Raises EngineUnavailable where nobody may be asked."""
        if not self._by_name:
            raise EngineUnavailable("no LLM is configured")
        names = self._row(ask)
        split, arm = self._arm(ask)
        shadows = [
            shadow.target
            for shadow in self._config.shadows
            if self._matches(shadow, ask) and hashed(f"shadow:{shadow.target}", ask.request_id) < shadow.share
        ]
        if self.pinned(ask.tenant):
            return self._pinned(ask, names, split, arm, shadows)
        ordered = names if arm is None else (arm, *(name for name in names if name != arm))
        return Plan(self._named(ordered), self._named(tuple(shadows)), split)

    def _pinned(
        self, ask: Ask, names: tuple[str, ...], split: Split | None, arm: str | None, shadows: list[str]
    ) -> PinnedPlan:
        usual = self._in_house.pick(names)
        if not usual.ordered:
            usual = self._in_house
        if not usual.ordered:
            raise EngineUnavailable(f"tenant {ask.tenant!r} may use in-house models only, and none is configured")
        first = self._in_house.pick(() if arm is None else (arm,))
        rest = tuple(target for target in usual.ordered if target not in first.ordered)
        return PinnedPlan(InHouse(first.ordered + rest), self._in_house.pick(shadows), split if first.ordered else None)

    def _row(self, ask: Ask) -> tuple[str, ...]:
        for route in self._config.routes:
            if self._matches(route, ask):
                return route.targets
        return self._all

    def _arm(self, ask: Ask) -> tuple[Split | None, str | None]:
        for split in self._config.splits:
            unit = {"user": ask.user, "tenant": ask.tenant, "request": ask.request_id}[split.by]
            if not unit or not self._matches(split, ask):
                continue
            place = hashed(split.name, unit)
            for target, share in split.arms.items():
                if place < share:
                    return split, target
                place -= share
        return None, None

    def _matches(self, row: Match, ask: Ask) -> bool:
        chars = len(ask.request.system) + len(ask.request.user)
        return (
            (row.tasks is None or ask.task in row.tasks)
            and (row.tenants is None or ask.tenant in row.tenants)
            and (row.tiers is None or self._tier(ask.tenant) in row.tiers)
            and _within(chars, row.min_prompt_chars, row.max_prompt_chars)
            and row.min_remaining_s <= ask.budget_s <= row.max_remaining_s
            and all(self._by_name[name].load >= share for name, share in row.loaded.items())
            and (
                (row.min_choices == 0 and row.max_choices is None)
                or _within(choices(ask.request.json_schema), row.min_choices, row.max_choices)
            )
        )

    def _tier(self, tenant: str) -> str:
        return self._config.tiers.get(tenant, "")


def hashed(name: str, unit: str) -> float:
    """A number in [0, 1) that depends on both texts alone, evenly spread over units."""
    digest = hashlib.blake2b(f"{name}\0{unit}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def choices(schema: Any) -> int:
    """Values of all enumerations in a JSON schema."""
    if isinstance(schema, list | tuple):
        return sum(map(choices, schema))
    if not isinstance(schema, Mapping):
        return 0
    return sum(
        len(value) if key == "enum" and isinstance(value, list | tuple) else choices(value)
        for key, value in schema.items()
    )


def _within(value: int, low: int, high: int | None) -> bool:
    return low <= value and (high is None or value <= high)
