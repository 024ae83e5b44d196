"""The gateway of one process, from the settings: engines, budgets, cache, safety and observers. Wiring only."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from features.workspace import Workspace
from models import llm
from models.llm.registry import create
from models.ports import LLMEngine
from models.prompts.promote import trial_lengths
from models.release import Release
from serving import telemetry
from serving.config import ServeConfig
from serving.gateway import Gateway
from serving.gateway.budget import read_spent
from serving.gateway.cache import TieredCache, open_store
from serving.gateway.config import GatewayConfig
from serving.gateway.contexts import Context, read_contexts
from serving.gateway.ledger import Ledger
from serving.gateway.logfilter import RedactingFilter
from serving.gateway.ports import Provider, Redactor
from serving.gateway.privacy import PatternRedactor
from serving.gateway.safety import WordModerator
from serving.gateway.targets import TargetState
from serving.gateway.tracing import trace_headers
from serving.gateway.validate import AnswerValidator
from serving.llmhandle import engine_state, llm_provider
from serving.pipeline.ask import Health
from serving.telemetry import Telemetry

_PATIENCE_S: Final = 600.0
"""What an engine that loads its weights in this process may take for an answer, whatever its ``timeout_s``."""


def redactor() -> Redactor:
    """What takes personal data out of prompts for vendors, of logs, traces and contexts."""
    return PatternRedactor()


@dataclass(slots=True, eq=False)
class LLMs:
    """A process's gateway and what is opened for it. For the event loop that calls `start`."""

    release: str
    gateway: Gateway
    telemetry: Telemetry
    _workspace: Workspace
    _handles: Mapping[str, Any]
    _engines: Mapping[str, LLMEngine]
    _cache: TieredCache
    _ledger: Ledger

    async def start(self) -> None:
        """Make the cache what other processes know. Answers are right without it."""
        await self._cache.start()

    async def health(self) -> list[Health]:
        """How each target fares: its breaker and load, and whether its engine says that it lives."""
        states = self.gateway.states()
        causes = await asyncio.gather(*(self._cause(state) for state in states))
        return [Health(state, cause) for state, cause in zip(states, causes)]

    async def _cause(self, state: TargetState) -> str:
        """Why a target would not answer now; empty where it would."""
        if (handle := self._handles.get(state.name)) is not None:
            if why := await engine_state(handle):
                return why
        elif (engine := self._engines.get(state.name)) is not None and not engine.alive:
            return "its engine is closed"
        # Once its rest is over a target may be asked, and the next call tries it. A breaker turns with that call only:
        # who waits for health before asking would wait for ever.
        return f"left alone for {math.ceil(state.rest_s)} s after failures" if state.rest_s > 0 else ""

    async def flush(self) -> None:
        """Write down what is settled, cached and told so far. Raises StoreUnavailable where the ledger cannot be."""
        await self._ledger.flush()
        await self._cache.flush()
        if self.telemetry.contexts is not None:
            await asyncio.to_thread(self.telemetry.contexts.flush)

    async def spent(self, days: int, tenant: str | None) -> pl.DataFrame:
        """See `read_spent`: what every process of the workspace has settled, this one to its last call."""
        await self._ledger.flush()
        return await asyncio.to_thread(read_spent, self._workspace.llm_spend, days, tenant)

    async def contexts(self, request_id: str) -> Sequence[Context]:
        """What was kept of a request: see `read_contexts`."""
        return await asyncio.to_thread(self._contexts, request_id)

    def _contexts(self, request_id: str) -> Sequence[Context]:
        if self.telemetry.contexts is not None:
            self.telemetry.contexts.flush()
        return read_contexts(self._workspace.llm_contexts, request_id, self.telemetry.redactor)

    async def aclose(self) -> None:
        """Write what is settled, told and cached, and close the engines of this process."""
        await self.gateway.aclose()
        await self._cache.aclose()
        for engine in self._engines.values():
            await engine.aclose()
        self.telemetry.close()


def guard_logs(config: ServeConfig, *secrets: str) -> None:
    """Take personal data and keys out of all that this process's log handlers write from now on."""
    keys = [os.environ.get(each.api_key_env, "") for each in config.llms.targets.values() if each.api_key_env]
    guard = RedactingFilter(redactor(), [*secrets, *keys])
    for name in (None, "ray.serve"):
        for handler in logging.getLogger(name).handlers:
            if not any(isinstance(each, RedactingFilter) for each in handler.filters):
                handler.addFilter(guard)


def open_llms(
    workspace: Workspace,
    config: ServeConfig,
    release: Release,
    name: str,
    handles: Mapping[str, Any] | None = None,
) -> LLMs:
    """The gateway of this process (``name``: ingress, backfill).

    ``handles``: Ray deployments by target; engines of other targets are made here: endpoints at once, weights as long
    as they take to load. Weights are loaded here by jobs alone, for which nobody waits: see `_patient`.
    Raises what `models.llm.registry.create` and `telemetry.start` do.
    """
    settings = config.llms
    handles = {target: handle for target, handle in (handles or {}).items() if target in settings.targets}
    settings = _patient(settings, handles)
    placed = {
        target: each.model_copy(update={"weights_dir": workspace.llm}) for target, each in settings.targets.items()
    }
    engines = {target: create(each, trace_headers) for target, each in placed.items() if target not in handles}
    providers: dict[str, Provider] = {target: engine.generate for target, engine in engines.items()}
    providers |= {target: llm_provider(handle) for target, handle in handles.items()}
    private = redactor()
    told = telemetry.start(config.telemetry, workspace.gateway, private, name, trial_lengths(release.metrics))
    cache = TieredCache(config.cache, release.id, open_store(config.cache, _made(workspace.llm_cache)))
    ledger = Ledger(_made(workspace.llm_spend))
    gateway = Gateway(
        settings,
        providers,
        {target: llm.name_of(each) for target, each in placed.items()},
        ledger=ledger,
        cache=cache,
        redactor=private,
        validator=AnswerValidator(),
        moderator=WordModerator(),
        observer=told.observer,
    )
    return LLMs(release.id, gateway, told, workspace, handles, engines, cache, ledger)


def _patient(settings: GatewayConfig, handles: Mapping[str, Any]) -> GatewayConfig:
    """The settings where engines of own weights without a handle have _PATIENCE_S for an answer.

    A job keeps ``max_concurrency`` questions under way, of which each waits for the words of all others to be read: on
    a CPU longer than the ``timeout_s`` that suits a caller. Timeouts would degrade their rows and, by the breaker, the
    next ones. An engine whose process dies says so at once.
    """
    targets = {
        name: target.model_copy(update={"timeout_s": max(target.timeout_s, _PATIENCE_S)})
        if target.own_weights and name not in handles
        else target
        for name, target in settings.targets.items()
    }
    return settings.model_copy(update={"targets": targets})


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
