"""What a running service may be told; unknown keys are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from features.store import OnlineStoreConfig
from models.llm import LLMConfig
from serving.gateway.cache import CacheConfig
from serving.gateway.config import GatewayConfig
from serving.review.config import ReviewConfig
from serving.telemetry import TelemetryConfig


class Limits(BaseModel):
    """Bounds of a request; what exceeds one is refused with INVALID_ARGUMENT, naming the bound."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    k: int = Field(default=100, ge=1, le=1_000)
    """Items a Recommend may ask for."""
    id_length: int = Field(default=256, ge=1)
    """Characters of any id."""
    text_length: int = Field(default=4_000, ge=1)
    """Characters of a profile, a title or a text."""
    list_length: int = Field(default=200, ge=1)
    """Entries of a constraint list, attributes of an item, or claims of a Score."""
    events: int = Field(default=1_000, ge=1)
    """Events of one RecordEvents."""
    items: int = Field(default=200, ge=1)
    """Items of one UpsertItems; each takes milliseconds to embed."""
    title_length: int = Field(default=2_000, ge=1)
    """Characters of an item's title in the catalog: a longer one is a description in the wrong field."""
    facts: int = Field(default=1_000, ge=1)
    """Facts of one Assert or Retract, and of a page of Query."""
    stream: int = Field(default=4, ge=1, le=256)
    """Requests of one ScoreStream that are worked on at once; the replies keep their order."""
    max_tags: int = Field(default=20, ge=1, le=100)
    deadline_ms: int = Field(default=60_000, ge=1)
    """The longest deadline a request may set, milliseconds."""


class IngressConfig(BaseModel):
    """Where the service listens and how much it takes on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    """Interface of the HAProxy front end. Replicas' own ports bind every interface whatever this says (see
    ARCHITECTURE.md), which is why every call needs the API key."""
    port: int = Field(default=9000, ge=1, le=65535)
    """gRPC."""
    http_port: int = Field(default=8000, ge=1, le=65535)
    """Ray Serve always opens an HTTP front end; it answers that the service speaks gRPC."""
    internal_ports: int = Field(default=8500, ge=1024, le=60_000)
    """First of a range for what Ray opens beside the front end: fallback proxies at +0 (HTTP) and +1 (gRPC), HAProxy's
    statistics at +2 and metrics at +3, the replicas' HTTP ports from +100 and gRPC ports from +300 (100 each)."""
    replicas: int = Field(default=1, ge=1)
    """Ingress processes; each holds ranker, guardrails, graph and item table."""
    max_ongoing: int = Field(default=16, ge=1)
    """Requests a replica works on at once."""
    max_queued: int = Field(default=64, ge=1)
    """Requests that may wait per replica; the next one is refused with RESOURCE_EXHAUSTED."""
    num_cpus: float = Field(default=1.0, ge=0)
    """Cores Ray reserves per replica."""


class BackfillConfig(BaseModel):
    """How a batch job is cut and how much of the machine it takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partition_rows: int = Field(default=1_000, ge=1)
    """Rows per result file: what a killed job may have to do again, and how often progress moves."""
    workers: int | None = Field(default=None, ge=1)
    """Processes that each hold the release (about 1 GB for the default dataset); None takes the cores of the Ray
    cluster, and one where an LLM is loaded in each."""
    num_cpus: float = Field(default=1.0, gt=0)
    """Cores Ray reserves per worker."""


class ServeConfig(BaseModel):
    """Settings of ``tandem serve``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ingress: IngressConfig = IngressConfig()
    limits: Limits = Limits()
    online_store: OnlineStoreConfig = OnlineStoreConfig()
    llm: LLMConfig | None = LLMConfig()
    """The LLM of cold starts and tags, where ``gateway`` names no targets; None serves trees, index and graph only."""
    gateway: GatewayConfig = GatewayConfig()
    """Which LLMs there are, who is asked when, and for how much."""
    cache: CacheConfig = CacheConfig()
    """Answers of LLMs that are kept."""
    telemetry: TelemetryConfig = TelemetryConfig()
    """Metrics, traces, logs, contexts and quality monitors."""
    llm_num_cpus: float = Field(default=1.0, ge=0)
    """Cores Ray reserves for the LLM's replica; Ray sets its OpenMP threads by it."""
    llm_num_gpus: float = Field(default=0.0, ge=0)
    llm_cost_per_1k_prompt: float = Field(default=0.0, ge=0)
    """Price of 1,000 prompt tokens, in whatever currency ``usage.cost`` shall have; 0 for a model in house."""
    llm_cost_per_1k_completion: float = Field(default=0.0, ge=0)
    llm_reserve_ms: int = Field(default=300, ge=0)
    """Milliseconds of a deadline kept for the stages after the LLM."""
    topology: Literal["fused", "split"] = "fused"
    """``fused``: ranker and ensemble inside the ingress process (fewest hops). ``split``: deployments of their own."""
    default_deadline_ms: int = Field(default=8_000, ge=1)
    """For requests that set none."""
    backfill: BackfillConfig = BackfillConfig()
    review: ReviewConfig = ReviewConfig()
    candidates: int = Field(default=200, ge=10, le=2_000)
    """Candidates scored per Recommend; the ranker was trained on 200."""

    @property
    def llms(self) -> GatewayConfig:
        """``gateway``, or where it names no target, with ``llm`` as its only one."""
        return self.gateway.or_single(self.llm, self.llm_cost_per_1k_prompt, self.llm_cost_per_1k_completion)


def from_sections(settings: Mapping[str, Any]) -> ServeConfig:
    """The serving part of a settings file (deploy/tandem.toml): [serve], and [online_store], [llm], [gateway].

    Other sections are training's. Raises pydantic's ValidationError for what does not fit.
    """
    beside = ("online_store", "llm", "gateway")
    shared = {name: settings[name] for name in beside if settings.get(name) not in (None, {}, True)}
    if shared.get("llm") is False:
        shared["llm"] = None
    return ServeConfig.model_validate({**shared, **settings.get("serve", {})})
