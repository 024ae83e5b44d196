"""Implementations of the ports that need no model: exact, deterministic, instant."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from models.errors import EngineUnavailable
from models.ports import FloatMatrix, LLMRequest, LLMResult, Token

Answer = Callable[[LLMRequest], str | Exception]


class FakeLLM:
    """Answers with a fixed text, or what a function makes of the request; an exception it returns is raised.

    Each token is one character; ``requests`` records what was asked.
    """

    def __init__(self, answer: str | Answer, *, logprob: float = -0.1, delay_s: float = 0.0) -> None:
        self.model_id = "fake"
        self.requests: list[LLMRequest] = []
        self._answer = answer
        self._logprob = logprob
        self._delay_s = delay_s
        self._closed = False

    @property
    def alive(self) -> bool:
        return not self._closed

    async def generate(self, request: LLMRequest) -> LLMResult:
        if self._closed:
            raise EngineUnavailable("fake LLM is closed")
        self.requests.append(request)
        await asyncio.sleep(self._delay_s)
        answer = self._answer if isinstance(self._answer, str) else self._answer(request)
        if isinstance(answer, Exception):
            raise answer
        text = answer[: request.max_tokens]
        return LLMResult(
            text=text,
            finish="stop" if text == answer else "length",
            prompt_tokens=len(request.system) + len(request.user),
            completion_tokens=len(text),
            tokens=tuple(Token(character, self._logprob) for character in text),
        )

    async def aclose(self) -> None:
        self._closed = True


class FakeEmbedder:
    """Character trigrams hashed into 64 buckets: texts that share spelling are similar."""

    model_id = "fake-trigrams"
    dimension = 64

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            padded = f"  {text.lower()} "
            for start in range(len(padded) - 2):
                digest = hashlib.blake2b(padded[start : start + 3].encode(), digest_size=1).digest()
                vectors[row, digest[0] % self.dimension] += 1.0
        vectors[:, 0] += 1e-3  # an empty text has a direction too
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


class ExactIndex:
    """Brute force: the reference an approximate index is held against. Ties go to the lower row."""

    def __init__(self, vectors: FloatMatrix) -> None:
        self._vectors = vectors

    def search(self, queries: FloatMatrix, k: int) -> tuple[npt.NDArray[np.int64], FloatMatrix]:
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        similarities = np.full((len(queries), k), -np.inf, dtype=np.float32)
        scores = queries @ self._vectors.T
        found = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        rows[:, : found.shape[1]] = found
        similarities[:, : found.shape[1]] = np.take_along_axis(scores, found, axis=1)
        return rows, similarities
