"""The deployments behind the ingress: the LLM, and trees of their own in the split topology."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from features.workspace import Workspace
from models import llm, release
from models.errors import EngineTimeout, EngineUnavailable, PromptTooLong
from models.llm import LLMConfig
from models.ports import Contribution, FloatMatrix, FloatVector, LLMEngine, LLMRequest, LLMResult
from serving.gateway import Provider
from serving.load import Trees

_log = logging.getLogger("ray.serve")
_LOADING = "the LLM is still loading"


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
            raise EngineUnavailable(_LOADING)
        return await engine.generate(request)

    async def ready(self) -> bool:
        """Whether the engine answers."""
        return self._engine is not None and self._engine.alive

    async def check_health(self) -> None:
        if self._loading.done() and (error := self._loading.exception()) is not None:
            raise EngineUnavailable(f"the LLM could not be loaded: {error}")
        if self._engine is not None and not self._engine.alive:
            # Ray then replaces this replica, and with it the engine.
            raise EngineUnavailable("the LLM's engine has died")

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
        response = handle.generate.remote(request)
        try:
            result: LLMResult = await response
        except asyncio.CancelledError:
            # Ray does not: the LLM would go on writing what nobody reads. In a thread, for Ray may wait for a replica.
            asyncio.get_running_loop().run_in_executor(None, response.cancel)
            raise
        except Exception as error:
            # Ray wraps the engine's own error into a class that is both; its text then holds a stack trace.
            text = str(getattr(error, "cause", error))
            for kind in (PromptTooLong, EngineTimeout):
                if isinstance(error, kind):
                    raise kind(text) from error
            if text == _LOADING:
                raise EngineUnavailable(text) from error
            # The reply tells of it among what degraded: addresses and traces stay in the log.
            _log.warning("LLM: %s", text)
            raise EngineUnavailable("the LLM does not answer") from error
        return result

    return ask
