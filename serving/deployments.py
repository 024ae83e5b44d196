"""The deployments behind the ingress: the LLM, and trees of their own in the split topology."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

from features.workspace import Workspace
from models import release
from models.errors import EngineLoading, EngineUnavailable
from models.llm import LLMConfig
from models.llm.registry import create
from models.ports import Contribution, FloatMatrix, FloatVector, LLMEngine, LLMRequest, LLMResult
from serving.gateway.tracing import TraceConfig, Tracing
from serving.llmhandle import LOADING
from serving.load import Trees


class LLMServer:
    """An LLM engine in a process of its own.

    The engine loads in the background (a minute for vLLM on a CPU), so that the application is up before it; a load
    that fails makes the replica unhealthy, and Ray starts another.
    """

    def __init__(self, config: LLMConfig, traces: TraceConfig | None = None) -> None:
        self._loading = ThreadPoolExecutor(1, thread_name_prefix="load").submit(create, config)
        self._tracing = None if traces is None else Tracing.of(traces)

    @property
    def _engine(self) -> LLMEngine | None:
        done = self._loading.done() and self._loading.exception() is None
        return self._loading.result() if done else None

    async def generate(self, request: LLMRequest, traceparent: str = "") -> LLMResult:
        """Raises EngineUnavailable until the engine is loaded, and whatever the engine raises."""
        engine = self._engine
        if engine is None:
            raise EngineLoading(LOADING)
        with nullcontext() if self._tracing is None else self._tracing.engine(traceparent, engine.model_id):
            return await engine.generate(request)

    async def state(self) -> str:
        """Why the engine does not answer; empty where it does."""
        if not self._loading.done():
            return LOADING
        return "" if await self.ready() else "the LLM's engine has died or could not be loaded"

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
        if self._tracing is not None:
            self._tracing.close()


class TreeServer:
    """Some of a release's tree models in a process of their own, to be scaled apart from the ingress."""

    def __init__(self, workspace: Workspace) -> None:
        _, folder = release.read(workspace.releases)
        self._trees = Trees(folder)

    async def score(self, name: str, matrix: FloatMatrix) -> FloatVector:
        return self._trees.model(name).predict(matrix)

    async def explain(self, name: str, matrix: FloatMatrix, top: int) -> list[tuple[Contribution, ...]]:
        return self._trees.model(name).explain(matrix, top)
