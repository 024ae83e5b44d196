"""What goes into the pipelines and comes out: plain values. Protobuf ends at `serving.codec`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graph.ports import Proof
from models.policy import Warrant
from models.ports import Contribution
from models.tagging import TagItem


@dataclass(frozen=True, slots=True)
class Stage:
    """Milliseconds spent in one stage."""

    name: str
    ms: float


@dataclass(frozen=True, slots=True)
class Degradation:
    """A stage answered by its fallback, and why."""

    stage: str
    cause: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and cost of the LLM's part; ``cached`` where it came out of the cache."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    cached: bool = False
    model: str = ""

    def plus(self, other: Usage) -> Usage:
        """Of two questions together; cached where nobody had to answer either of them."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cost + other.cost,
            bool(self.model or other.model) and all(each.cached for each in (self, other) if each.model),
            self.model or other.model,
        )


@dataclass(frozen=True, slots=True)
class Header:
    """What every reply carries."""

    request_id: str
    release: str
    stages: tuple[Stage, ...] = ()
    degraded: tuple[Degradation, ...] = ()
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Judged:
    """The guardrail's view: calibrated probability, verdict, and the LLM's own log-probability if it proposed it."""

    probability: float
    verdict: str
    llm_logprob: float | None = None


@dataclass(frozen=True, slots=True)
class RecommendQuery:
    """See `protos/tandem/v1/recommender.proto`; defaults are resolved, bounds are checked."""

    request_id: str
    deadline_ms: int
    user_id: str
    profile_text: str
    k: int
    avoid: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    exclude_items: tuple[str, ...] = ()
    at: int | None = None
    explain: bool = False
    tenant: str = ""
    new_only: bool = False
    place: str = ""


@dataclass(frozen=True, slots=True)
class RecommendedItem:
    """One item with who proposed it, what decided its place, and why."""

    item_id: str
    title: str
    score: float
    sources: tuple[str, ...]
    decided_by: str
    reasons: tuple[Contribution, ...] = ()
    facts: tuple[Proof, ...] = ()
    guardrail: Judged | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The answer to a RecommendQuery."""

    header: Header
    items: tuple[RecommendedItem, ...]
    path: str
    facts: tuple[Proof, ...]
    unknown_items: tuple[str, ...]
    shortfall: str
    as_of: int


@dataclass(frozen=True, slots=True)
class TagQuery:
    """A product to tag."""

    request_id: str
    deadline_ms: int
    item_id: str
    item: TagItem
    max_tags: int
    tenant: str = ""
    job: str = ""
    """The backfill it is part of."""
    vocabulary: str = ""
    """Of which labels: the catalog's own, or the name of a label set."""


@dataclass(frozen=True, slots=True)
class ProposedTag:
    """One tag with its verdict; ``evidence`` is (field, start, end) in characters, ``evidence_text`` what is there."""

    tag: str
    probability: float
    verdict: str
    sources: tuple[str, ...]
    decided_by: str
    evidence: tuple[str, int, int] | None = None
    facts: tuple[Proof, ...] = ()
    reasons: tuple[Contribution, ...] = ()
    llm_logprob: float | None = None
    evidence_text: str = ""
    warrant: Warrant | None = None
    """The certificate its verdict rests on; None where the graph's veto decided."""


@dataclass(frozen=True, slots=True)
class ProposedValue:
    """A value of a free attribute with its verdict.

    ``value`` in normal form; ``number`` and ``unit`` of a number only. ``evidence``: field, start and end in
    characters, ``evidence_text``: what is there.
    """

    attribute: str
    value: str
    number: float | None
    unit: str
    probability: float
    verdict: str
    sources: tuple[str, ...]
    evidence: tuple[str, int, int]
    evidence_text: str
    warrant: Warrant
    llm_logprob: float | None = None

    @property
    def tag(self) -> str:
        """What a case for people calls it."""
        return f"{self.attribute}={self.value}"


@dataclass(frozen=True, slots=True)
class Tagging:
    """The answer to a TagQuery. ``abstained`` is about tags, ``attributes`` are values of free attributes."""

    header: Header
    tags: tuple[ProposedTag, ...]
    abstained: bool
    attributes: tuple[ProposedValue, ...] = ()


@dataclass(frozen=True, slots=True)
class TagClaim:
    """Somebody's LLM says: this product carries this tag."""

    item_id: str
    item: TagItem
    tag: str
    llm_logprob: float | None
    vocabulary: str = ""


@dataclass(frozen=True, slots=True)
class CandidateClaim:
    """Somebody's LLM says: a person described so would like this item."""

    profile_text: str
    item_id: str
    llm_logprob: float | None


@dataclass(frozen=True, slots=True)
class ScoreQuery:
    """Claims to judge."""

    request_id: str
    deadline_ms: int
    claims: tuple[TagClaim | CandidateClaim, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the ensemble says of one claim."""

    probability: float
    verdict: str
    decided_by: str
    reasons: tuple[Contribution, ...] = ()
    facts: tuple[Proof, ...] = ()
    warrant: Warrant | None = None
    """The certificate a tag's verdict rests on; no certificate is about candidates."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """The answer to a ScoreQuery: one judgement per claim, in their order."""

    header: Header
    judgements: tuple[Judgement, ...]


@dataclass(frozen=True, slots=True)
class UpsertedItems:
    """How many items were written down, how many of those were known before, how many the catalog held just so.

    ``rejected``: item id and reason. ``unknown_attributes``: names the catalog has no column for.
    """

    recorded: int
    updated: int
    unchanged: int
    rejected: tuple[tuple[str, str], ...]
    unknown_attributes: tuple[str, ...]
