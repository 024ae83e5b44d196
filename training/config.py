"""What a training run may be told; every field has a default that suits the default dataset on two cores."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from features.store import OnlineStoreConfig
from models.guardrail import GuardrailConfig
from models.llm import LLMConfig
from models.networkfit import NetworkConfig
from models.policy import TagConfig
from models.ranker import RankerConfig


class TrainConfig(BaseModel):
    """Settings of ``tandem train``; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ranker: RankerConfig = RankerConfig()
    network: NetworkConfig | None = NetworkConfig()
    """The network beside the ranker's trees, kept where validation says it helps; ``network = false`` trains none."""
    tags: TagConfig = TagConfig()
    cold: GuardrailConfig = GuardrailConfig(accept_precision=0.2, reject_below=0.005, depth=4)
    """A cold start's proposals are right when the user buys the item later: base rates are far below those of tags."""
    online_store: OnlineStoreConfig = OnlineStoreConfig()
    llm: LLMConfig | None = LLMConfig()
    """The LLM the guardrails are trained to judge: the one that will serve. None trains them without."""
    llm_tag_examples: int = Field(default=160, ge=0)
    """Products the LLM is asked to tag; each costs about 260 prompt tokens."""
    llm_cold_examples: int = Field(default=64, ge=0)
    """Households the LLM is asked about; each costs about 250 prompt tokens."""
    repeats: Literal["measure", "always", "never"] = "measure"
    """Whether items a user had may be recommended again; ``measure`` decides by the share of repeats in the data."""
    train_sessions: int = Field(default=14_000, ge=10)
    """Targets (baskets, or a user's weeks) the ranker learns from at most, 200 candidates each."""
    discovery: RankerConfig = RankerConfig(objective="binary", trees=60, learning_rate=0.2, min_leaf=300)
    """The ranker of items a user has not had, where repeats are recommended. So few of its candidates are wanted that
    comparing positions within a target teaches less than asking of each candidate whether it is."""
    discovery_sessions: int = Field(default=14_000, ge=0)
    """Targets looked through for that ranker at most; those that want none of their new candidates, about half, are
    left out. 0 fits none."""
    valid_sessions: int = Field(default=5_000, ge=10)
    test_sessions: int = Field(default=5_000, ge=10)
    search: bool | Literal["wide"] = True
    """Whether the regularization of the ranker's trees is chosen on validation or taken from ``ranker``. "wide"
    compares the size of the trees too, which is done anyway where training targets are few."""
    labels: Path | None = None
    """A vocabulary (as ``tandem vocabulary check`` reads it) of the labels that Tag chooses from, one an item. Its
    entries are the label column's values by id, else by name without regard to case. A value's names, definition and
    examples then say what it means; entries that no item carries are proposed too, for people alone to accept; and an
    accepted tag implies its parents. None knows the column's values and nothing more of them."""
    several: dict[str, Literal[""] | Path] = {}
    """Label sets: list columns of the catalog whose labels Tag shall give too (``TagRequest.vocabulary``), any number
    an item; by column a vocabulary of its labels, or "" for the column's values and nothing more. An item's list holds
    all its labels: one that is not in it is wrong. Items without a list say nothing."""
    attributes: Path | None = None
    """A vocabulary (JSON) whose free attributes Tag shall read in products' words; None reads none."""
    item_tags: Path | None = None
    """Results of ``tandem backfill tags`` (its output folder, or a parquet file): probability-weighted columns for the
    ranker, kept only where they help on validation."""
    seed: int = 7

    @field_validator("network", mode="before")
    @classmethod
    def _switched_off(cls, value: Any) -> Any:
        """TOML has no word for nothing."""
        return None if value is False else value
