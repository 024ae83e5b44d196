"""Tree models as the pipeline calls them: in this process (fused) or in a deployment of their own (split)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from models.errors import EngineUnavailable
from models.guardrail import Verdict
from models.ports import Contribution, FloatMatrix, FloatVector, TreeModel

if TYPE_CHECKING:
    from models.guardrail import Guardrail


class LocalScorer:
    """A tree model in this process."""

    def __init__(self, model: TreeModel) -> None:
        self._model = model

    async def score(self, matrix: FloatMatrix) -> FloatVector:
        return self._model.predict(matrix)

    async def explain(self, matrix: FloatMatrix, top: int) -> list[tuple[Contribution, ...]]:
        return self._model.explain(matrix, top)


class LocalJudge(LocalScorer):
    """A guardrail in this process."""

    def __init__(self, model: Guardrail) -> None:
        super().__init__(model)
        self._guardrail = model
        self.facts: Mapping[str, Any] = model.manifest

    def verdict(self, probability: float) -> Verdict:
        return self._guardrail.verdict(probability)


class RemoteScorer:
    """A tree model behind a Ray Serve handle. Raises EngineUnavailable where its deployment does not answer."""

    def __init__(self, handle: Any, name: str) -> None:
        self._handle = handle
        self._name = name

    async def score(self, matrix: FloatMatrix) -> FloatVector:
        scores: FloatVector = await self._call("score", matrix)
        return scores

    async def explain(self, matrix: FloatMatrix, top: int) -> list[tuple[Contribution, ...]]:
        reasons: list[tuple[Contribution, ...]] = await self._call("explain", matrix, top)
        return reasons

    async def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return await getattr(self._handle, method).remote(self._name, *arguments)
        except Exception as error:
            # Ray raises classes of its own for a dead, unavailable or overloaded deployment; all mean the same here.
            raise EngineUnavailable(f"the deployment of {self._name} does not answer") from error


class RemoteJudge(RemoteScorer):
    """A guardrail behind a handle; its thresholds come from the release, so a verdict costs no call."""

    def __init__(self, handle: Any, name: str, model: Guardrail) -> None:
        super().__init__(handle, name)
        self._accept_at = model.accept_at
        self._reject_below = model.reject_below
        self.facts: Mapping[str, Any] = model.manifest

    def verdict(self, probability: float) -> Verdict:
        if probability >= self._accept_at:
            return "accept"
        return "reject" if probability < self._reject_below else "review"
