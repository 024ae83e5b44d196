"""Ports of the model side: values that cross it and the protocols adapters implement. No heavy library is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

FloatMatrix = npt.NDArray[np.float32]
FloatVector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LLMRequest:
    """One chat turn for an LLM. ``json_schema`` constrains the output to JSON valid under it; None leaves it free."""

    system: str
    user: str
    max_tokens: int
    json_schema: Mapping[str, Any] | None = None
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Token:
    """A generated token: its text and its natural-log probability before any constraint masked the distribution.

    ``logprob`` is NaN where the engine does not report one (some vendors).
    """

    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class LLMResult:
    """What an engine answered. ``finish`` is ``length`` where the token limit cut the text off.

    The texts of ``tokens`` join to ``text``: the token that ends the turn is in ``completion_tokens`` only. A part of a
    character that takes several tokens has the text "".

    ``first_token_s``: seconds from the call to the first token, NaN where the engine does not tell.
    """

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    tokens: tuple[Token, ...] = ()
    first_token_s: float = field(default=nan, compare=False)


class LLMEngine(Protocol):
    """A loaded language model. Safe to call from many tasks at once; batching is the engine's business."""

    @property
    def model_id(self) -> str:
        """Which weights answer, as recorded in a release."""
        ...

    @property
    def alive(self) -> bool:
        """False once the engine will never answer again; only a new one does."""
        ...

    async def generate(self, request: LLMRequest) -> LLMResult:
        """One completion. Cancelling the call stops the work.

        Raises PromptTooLong, EngineTimeout, EngineUnavailable, or ValueError for a JSON schema that cannot be enforced.
        """
        ...

    async def aclose(self) -> None:
        """Free the model and end every process it started; what runs or comes raises EngineUnavailable."""
        ...


class Embedder(Protocol):
    """Texts to unit vectors."""

    @property
    def model_id(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        """Array [len(texts), dimension], float32, rows of L2 norm 1; an empty text is embedded like any other."""
        ...


class VectorIndex(Protocol):
    """Nearest neighbours by inner product over rows added once."""

    def search(self, queries: FloatMatrix, k: int) -> tuple[npt.NDArray[np.int64], FloatMatrix]:
        """Row numbers and similarities, both [len(queries), k], best first; -1 and -inf where fewer than k rows exist.

        Raises ValueError where the queries have another dimension than the rows.
        """
        ...

    def save(self, path: Path) -> None:
        """Write the index to one file."""
        ...


@dataclass(frozen=True, slots=True)
class Contribution:
    """How far one feature moved one score, in the model's margin (log-odds or rank score)."""

    feature: str
    value: float
    contribution: float


class TreeModel(Protocol):
    """A tree ensemble, or what serves in its place, over a fixed list of columns."""

    @property
    def columns(self) -> tuple[str, ...]: ...

    def predict(self, matrix: FloatMatrix) -> FloatVector:
        """Scores [n] of rows [n, len(columns)]: rank score for a ranker, probability for a guardrail."""
        ...

    def explain(self, matrix: FloatMatrix, top: int) -> list[tuple[Contribution, ...]]:
        """Per row the ``top`` largest contributions; all of them with the bias sum to the margin.

        Those of trees are exact tree SHAP; `models.blend.Blend` adds a network's.
        """
        ...
