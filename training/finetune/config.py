"""How an adapter is fitted."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class FineTuneConfig(BaseModel):
    """Hyperparameters of one adapter, all in its manifest; an unknown key is refused.

    The defaults are the usual ones for LoRA on a small model; none was chosen by a test split.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(default=16, ge=1, le=512)
    """Columns of the two matrices beside every linear layer: what the adapter can hold, and its size on disk."""
    alpha: int = Field(default=32, ge=1)
    """The adapter's output is scaled by alpha / rank."""
    epochs: int = Field(default=2, ge=1)
    """How often every pair is seen."""
    batch: int = Field(default=8, ge=1)
    """Pairs a step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Of AdamW, at its highest: it rises from 0 and falls to 0 in straight lines."""
    warm_up: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training in which it rises."""
    clip: float = Field(default=1.0, gt=0)
    """Longest gradient of a step (L2 norm)."""
    max_seconds: float | None = Field(default=None, gt=0)
    """Wall time after which training ends, with the learning rate falling to 0 by then; how far it comes then depends
    on the machine. None trains all epochs."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Number format of the frozen model, on a GPU and on a CPU; the adapter is float32. A CPU without instructions for
    bfloat16 is faster in float32."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads, of the whole process; None leaves torch's default. Where others compute, one is faster than two."""
    max_model_len: int = Field(default=2048, ge=16)
    """Tokens of prompt and completion together; a longer request raises PromptTooLong, as the engine would."""
    seed: int = 7
    """Of the adapter's first weights and of the order of the pairs."""
