"""The deployments behind the ingress: the LLM, and trees of their own in the split topology."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from features.workspace import Workspace
from models import llm, release
from models.errors import EngineTimeout, EngineUnavailable, PromptTooLong
from models.llm import LLMConfig
from models.ports import Contribution, FloatMatrix, FloatVector, LLMEngine, LLMRequest, LLMResult
from serving.gateway import Provider
from serving.load import Trees


class LLMServer:
    """An LLM engine in a process of its own.

    The engine loads in the background (a minute for vLLM on a CPU), so that the application is up before it; a load
    that fails makes the replica unhealthy, and Ray starts another.
    """

    def __init__(self, config: LLMConfig) -> None:
        self._loading = ThreadPoolExecutor(1, thread_name_prefix="load").submit(llm.create, config)

    @property
    def _engine(self) -> LLMEngine | None:
        done = self._loading.done() and self._loading.exception() is None
        return self._loading.result() if done else None

    async def generate(self, request: LLMRequest) -> LLMResult:
        """Raises EngineUnavailable until the engine is loaded, and whatever the engine raises."""
        engine = self._engine
        if engine is None:
            raise EngineUnavailable("the LLM is still loading")
        return await engine.generate(request)

    async def ready(self) -> bool:
        """Whether the engine answers."""
        return self._engine is not None

    async def check_health(self) -> None:
        if self._loading.done() and (error := self._loading.exception()) is not None:
            raise EngineUnavailable(f"the LLM could not be loaded: {error}")

    async def __del__(self) -> None:
        if (engine := self._engine) is not None:
            await engine.aclose()


class TreeServer:
    """Some of a release's tree models in a process of their own, to be scaled apart from the ingress."""

    def __init__(self, workspace: Workspace) -> None:
        _, folder = release.read(workspace.releases)
        self._trees = Trees(folder)

    async def score(self, name: str, matrix: FloatMatrix) -> FloatVector:
        return self._trees.model(name).predict(matrix)

    async def explain(self, name: str, matrix: FloatMatrix, top: int) -> list[tuple[Contribution, ...]]:
        return self._trees.model(name).explain(matrix, top)


def llm_provider(handle: Any) -> Provider:
    """Asks the LLM deployment; everything Ray raises on the way becomes EngineUnavailable."""

    async def ask(request: LLMRequest) -> LLMResult:
        try:
            result: LLMResult = await handle.generate.remote(request)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # Ray wraps the engine's own error into a class that is both; its text then holds a stack trace.
            for kind in (PromptTooLong, EngineTimeout, EngineUnavailable):
                if isinstance(error, kind):
                    raise kind(str(getattr(error, "cause", error))) from error
            raise EngineUnavailable("the LLM deployment does not answer") from error
        return result

    return ask
