"""What an operator decides about LLMs: which there are, who is asked when, how often, and for how much."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.llm import LLMConfig

DEFAULT_TARGET = "default"

Place = Literal["in_house", "vendor"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetConfig(LLMConfig):
    """One model that can be asked: an engine (see LLMConfig) and what the gateway must know of it."""

    place: Place | None = None
    """`vendor` where prompts leave the house, `in_house` where they do not. An `openai` endpoint must say which: only
    its operator knows whose it is. Engines with weights of their own are in house."""
    price_per_1k_prompt: float = Field(default=0.0, ge=0)
    """Price of 1,000 prompt tokens, in whatever currency `usage.cost` shall have."""
    price_per_1k_completion: float = Field(default=0.0, ge=0)
    """Price of 1,000 generated tokens."""
    prompt_tokens_per_s: float | None = Field(default=None, gt=0)
    """Tokens of a prompt read in a second, until it has been observed; None expects no time at all."""
    output_tokens_per_s: float | None = Field(default=None, gt=0)
    """Tokens generated in a second for one request, until it has been observed; None starts every request."""
    template_tokens: int = Field(default=64, ge=0)
    """Tokens the chat template adds to the texts at most. A prompt is reserved at a token per byte and these."""
    cache: bool = True
    """Whether its answers are kept for equal questions. False for a model that only stands in."""
    num_cpus: float | None = Field(default=None, ge=0)
    """Cores Ray reserves for an engine with weights of its own; None takes `serve.llm_num_cpus`."""
    num_gpus: float | None = Field(default=None, ge=0)
    """GPUs likewise; None takes `serve.llm_num_gpus`."""
    redact: bool = True
    """`vendor` only: whether personal data is taken out before a prompt is sent. False needs a contract."""

    @model_validator(mode="after")
    def _has_a_place(self) -> Self:
        if self.engine == "openai" and self.place is None:
            raise ValueError("an 'openai' target needs place: 'in_house' or 'vendor'")
        if self.engine != "openai" and self.place == "vendor":
            raise ValueError(f"engine {self.engine!r} runs in house: remove place")
        return self

    @property
    def vendor(self) -> bool:
        """Whether prompts leave the house."""
        return self.place == "vendor"

    @property
    def own_weights(self) -> bool:
        """Whether the engine loads a model, in a process of its own."""
        return self.engine != "openai"


class Match(_Section):
    """Which asks a row is for; what is left out matches everything."""

    tasks: frozenset[str] | None = None
    """Tasks: `tag`, `attributes`, `cold_start`, `ask`."""
    tenants: frozenset[str] | None = None
    tiers: frozenset[str] | None = None
    """Tiers of tenants, as `tiers` names them."""
    min_prompt_chars: int = Field(default=0, ge=0)
    """Characters of system and user text together; a token is about four."""
    max_prompt_chars: int | None = Field(default=None, ge=0)
    min_choices: int = Field(default=0, ge=0)
    """Values the answer's schema lets the LLM choose from: what makes a question hard."""
    max_choices: int | None = Field(default=None, ge=0)
    min_remaining_s: float = Field(default=-math.inf)
    """Seconds until the caller needs the answer."""
    max_remaining_s: float = Field(default=math.inf)
    loaded: Mapping[str, float] = Field(default_factory=dict)
    """Target to share of its `max_concurrency` (0 to 1): the row holds while each has as many calls under way."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        for low, high in (
            (self.min_prompt_chars, self.max_prompt_chars),
            (self.min_choices, self.max_choices),
            (self.min_remaining_s, self.max_remaining_s),
        ):
            if high is not None and low > high:
                raise ValueError(f"a row from {low} to {high} matches nothing: exchange the bounds")
        return self

    @property
    def anything(self) -> bool:
        """Whether every ask matches."""
        return self.model_dump(include=set(Match.model_fields)) == Match().model_dump()


class Route(Match):
    """A row of the routing table."""

    targets: tuple[str, ...] = Field(min_length=1)
    """Who is asked, in this order: the next one where the one before fails, rests, is full, or cannot be in time."""


class Split(Match):
    """An experiment: some users' asks go to another target first. Fewer than a tenth makes it a canary."""

    name: str
    """Part of the hash, so that two experiments divide users differently."""
    by: Literal["user", "tenant", "request"] = "user"
    """What is hashed; an ask without it takes no part."""
    arms: Mapping[str, float] = Field(min_length=1)
    """Target to share of the asks (0 to 1); the rest goes its usual way."""
    cache: bool = True
    """Whether answers of the arms are kept; a question of an arm is never given another's answer."""

    @model_validator(mode="after")
    def _shares_add_up(self) -> Self:
        if any(share < 0 for share in self.arms.values()) or sum(self.arms.values()) > 1 + 1e-9:
            raise ValueError(f"shares of {self.name!r} are {dict(self.arms)}: they are 0 to 1, at most 1 together")
        return self


class Shadow(Match):
    """A target that is asked too, to be compared: its answer is logged and counted, never served."""

    target: str
    share: float = Field(default=1.0, ge=0, le=1)
    """Of the matching asks, by hash of the request id."""


class Limit(_Section):
    """How much may be spent; None is without bound."""

    tokens_per_day: int | None = Field(default=None, ge=0)
    """Prompt and generated tokens together, in a day of UTC."""
    cost_per_day: float | None = Field(default=None, ge=0)
    tokens_total: int | None = Field(default=None, ge=0)
    """Over all days: for a job."""
    cost_total: float | None = Field(default=None, ge=0)


class RequestLimit(_Section):
    """How much one ask may spend with every retry and repair; None is without bound."""

    tokens: int | None = Field(default=None, ge=1)
    cost: float | None = Field(default=None, ge=0)


class BudgetConfig(_Section):
    """Before a call its worst case is reserved in every budget it falls under; one that does not hold it refuses it."""

    request: RequestLimit = RequestLimit()
    everything: Limit = Limit()
    """All tenants and jobs together."""
    tenant: Limit = Limit()
    """Each tenant that `tenants` does not name. Asks without a tenant fall under `everything` alone."""
    tenants: Mapping[str, Limit] = Field(default_factory=dict)
    job: Limit = Limit()
    """Each job that `jobs` does not name. Shadow calls are the job `shadow`."""
    jobs: Mapping[str, Limit] = Field(default_factory=dict)
    max_output_tokens: Mapping[str, int] = Field(default_factory=dict)
    """Task to the longest answer in tokens, whatever its prompt asks for."""
    max_output_tokens_default: int = Field(default=1_024, ge=1)
    """For tasks `max_output_tokens` does not name."""


class RetryConfig(_Section):
    per_ask: int = Field(default=2, ge=0)
    """Engine calls an ask may make beyond its first, on whatever target, repairs not counted (one at most)."""
    share: float = Field(default=0.2, ge=0)
    """Calls of a target that already failed the ask, as a share of the asks: the budget that keeps retries from
    burying a target that is in trouble. Calls of another target need none of it."""
    burst: float = Field(default=10.0, ge=0)
    """Such calls that may come at once."""
    backoff_ms: float = Field(default=50.0, ge=0)
    """Before the first of them, doubling; between half of it and all of it by chance."""


class BreakerConfig(_Section):
    """When a target is left alone."""

    window_s: float = Field(default=30.0, gt=0)
    """Calls this old are forgotten."""
    min_calls: int = Field(default=3, ge=1)
    """Fewer calls in the window prove nothing."""
    failure_share: float = Field(default=0.5, gt=0, le=1)
    """Of the calls in the window, from which on the target rests."""
    rest_s: float = Field(default=5.0, gt=0)
    """The first rest; then one call tries, and a failure doubles the next rest."""
    longest_rest_s: float = Field(default=60.0, gt=0)


class GatewayConfig(_Section):
    """Section [gateway] of the settings."""

    targets: Mapping[str, TargetConfig] = Field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    """The first row that matches decides. The last must match everything; without rows all targets are asked in the
    order they are named in."""
    splits: tuple[Split, ...] = ()
    """The first that matches and takes the ask decides who is asked before the row's targets."""
    shadows: tuple[Shadow, ...] = ()
    max_shadows: int = Field(default=16, ge=0)
    """Shadow calls under way at once; more are left out, as are those of a target without a call to spare."""
    tiers: Mapping[str, str] = Field(default_factory=dict)
    """Tenant to tier."""
    pinned_tenants: frozenset[str] = frozenset()
    """Tenants whose asks never leave the house, whatever the tables say."""
    pinned_tiers: frozenset[str] = frozenset()
    cache_by_tenant: bool = True
    """Whether a tenant gets only answers that it caused itself."""
    budgets: BudgetConfig = BudgetConfig()
    retries: RetryConfig = RetryConfig()
    breaker: BreakerConfig = BreakerConfig()

    @model_validator(mode="after")
    def _names_what_exists(self) -> Self:
        for where, target in self._named():
            if target not in self.targets:
                raise ValueError(f"{where} names the target {target!r}; there are {sorted(self.targets)}")
        if self.routes and not self.routes[-1].anything:
            raise ValueError("the last route must match everything: add one with targets and nothing else")
        if len({split.name for split in self.splits}) < len(self.splits):
            raise ValueError("two splits have one name: they would divide users alike")
        pinned = self.pinned_tenants or self.pinned_tiers
        if pinned and self.targets and all(target.vendor for target in self.targets.values()):
            raise ValueError(f"{sorted(pinned)} may use in-house models only, and no target is in house: add one")
        return self

    def _named(self) -> Iterator[tuple[str, str]]:
        for number, route in enumerate(self.routes, 1):
            yield from ((f"route {number}", target) for target in route.targets)
        for split in self.splits:
            yield from ((f"split {split.name!r}", target) for target in split.arms)
        for shadow in self.shadows:
            yield "a shadow", shadow.target
        for row in (*self.routes, *self.splits, *self.shadows):
            yield from (("loaded", target) for target in row.loaded)

    def or_single(self, llm: LLMConfig | None, prompt_price: float = 0.0, completion_price: float = 0.0) -> Self:
        """This, or where it names no target, with ``llm`` as its only one (none where that is None, too)."""
        if self.targets or llm is None:
            return self
        place: Place | None = "vendor" if llm.engine == "openai" else None
        target = TargetConfig(
            **llm.model_dump(), place=place, price_per_1k_prompt=prompt_price, price_per_1k_completion=completion_price
        )
        # Validated again: pinned tenants need an in-house target.
        return type(self).model_validate(
            {**self.model_dump(exclude_defaults=True), "targets": {DEFAULT_TARGET: target}}
        )
