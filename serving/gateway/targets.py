"""The models that can be asked, and the kind of list that a pinned tenant's asks are made from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from serving.gateway.breaker import Breaker
from serving.gateway.config import BreakerConfig, GatewayConfig, Place, TargetConfig
from serving.gateway.estimate import Estimator
from serving.gateway.ports import BreakerState, Observer, Provider


class Target:
    """A model, who runs it, and what is known of how it fares now. Only its two subclasses are ever made."""

    def __init__(
        self,
        name: str,
        config: TargetConfig,
        provider: Provider,
        model: str,
        breaker: BreakerConfig,
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self.config = config
        self.provider = provider
        self.model = model
        self.breaker = Breaker(breaker, clock, lambda state: observer.breaker(name, state))
        self.estimator = Estimator(config, clock)
        self.free = asyncio.Semaphore(config.max_concurrency)
        self.running = 0

    @property
    def state(self) -> TargetState:
        """A copy of what is known now."""
        return TargetState(
            name=self.name,
            engine=self.config.engine,
            model=self.model,
            place="vendor" if self.config.vendor else "in_house",
            breaker=self.breaker.state,
            rest_s=self.breaker.rest_s,
            running=self.running,
            max_concurrency=self.config.max_concurrency,
            output_tokens_per_s=self.estimator.output_tokens_per_s,
        )

    @property
    def load(self) -> float:
        """Calls under way as a share of those that may be."""
        return self.running / self.config.max_concurrency


@dataclass(frozen=True, slots=True)
class TargetState:
    """How a target fares now. ``output_tokens_per_s``: NaN where nobody knows yet."""

    name: str
    engine: str
    model: str
    place: Place
    breaker: BreakerState
    rest_s: float
    running: int
    max_concurrency: int
    output_tokens_per_s: float


class InHouseTarget(Target):
    """Prompts stay here."""


class VendorTarget(Target):
    """Prompts leave the house."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets in the order they are asked."""

    ordered: tuple[Target, ...]

    def named(self, names: Iterable[str]) -> tuple[Target, ...]:
        """Those of ``names`` that are here, in the order of the names."""
        here = {target.name: target for target in self.ordered}
        return tuple(here[name] for name in names if name in here)


@dataclass(frozen=True, slots=True)
class InHouse(Targets):
    """Targets that keep prompts in the house. One that does not cannot be in it: TypeError."""

    ordered: tuple[InHouseTarget, ...]

    def __post_init__(self) -> None:
        for target in self.ordered:
            if not isinstance(target, InHouseTarget) or target.config.vendor:
                raise TypeError(f"target {target.name!r} is a vendor: it has no place among in-house models")

    def pick(self, names: Iterable[str]) -> InHouse:
        """Those of ``names`` that are in house."""
        here = {target.name: target for target in self.ordered}
        return InHouse(tuple(here[name] for name in names if name in here))


def make_targets(
    config: GatewayConfig,
    providers: Mapping[str, Provider],
    models: Mapping[str, str],
    observer: Observer,
    clock: Callable[[], float],
) -> Targets:
    """All of the configuration's targets. Raises ValueError where one has no provider."""
    if missing := set(config.targets) - set(providers):
        raise ValueError(f"no provider for the targets {sorted(missing)}: create their engines first")
    return Targets(
        tuple(
            (VendorTarget if target.vendor else InHouseTarget)(
                name, target, providers[name], models.get(name) or target.model, config.breaker, observer, clock
            )
            for name, target in config.targets.items()
        )
    )
