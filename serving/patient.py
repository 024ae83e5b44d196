"""The gateway as an engine, for work that no request waits for: training, trials of prompts, evaluations."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from features.workspace import Workspace
from models.errors import EngineUnavailable
from models.llm import LLMConfig, name_of
from models.llm.registry import create
from models.ports import LLMEngine, LLMRequest, LLMResult
from serving import telemetry
from serving.config import ServeConfig
from serving.errors import BudgetExceeded
from serving.gateway import Gateway
from serving.gateway.config import DEFAULT_TARGET, GatewayConfig
from serving.gateway.ledger import Ledger
from serving.gateway.ports import Ask
from serving.gateway.safety import WordModerator
from serving.gateway.tracing import trace_headers
from serving.gateway.validate import AnswerValidator
from serving.llms import redactor
from serving.telemetry import Telemetry

_PATIENCE_S: Final = 3_600.0
"""Nobody waits: an answer is given up after the target's own ``timeout_s``, never refused for want of time."""


@dataclass(slots=True, eq=False)
class PatientEngine:
    """An LLMEngine whose every call goes through a gateway of its own: budgets, redaction, retries, breaker, books.

    One target and no cache, for what is asked here is what *this* model says. Calls beyond what the engine takes at
    once wait outside, where no time limit runs.
    """

    _engine: LLMEngine
    _gateway: Gateway
    _telemetry: Telemetry
    _task: str
    _turns: asyncio.Semaphore

    @property
    def model_id(self) -> str:
        return self._engine.model_id

    @property
    def alive(self) -> bool:
        return self._engine.alive

    async def generate(self, request: LLMRequest) -> LLMResult:
        """See LLMEngine. Raises UnusableAnswer too, where answers are judged; a spent budget is EngineUnavailable."""
        async with self._turns:
            try:
                ask = Ask(self._task, request, _PATIENCE_S, job=self._task, personal=())
                return (await self._gateway.ask(ask)).result
            except BudgetExceeded as error:
                raise EngineUnavailable(str(error)) from error

    async def aclose(self) -> None:
        """Close the books, then the engine."""
        await self._gateway.aclose()
        await self._engine.aclose()
        self._telemetry.close()


def open_patient(
    workspace: Workspace, config: ServeConfig, model: LLMConfig, task: str, *, judged: bool, timeout_s: float = 0.0
) -> PatientEngine:
    """The engine of ``model`` behind a gateway with the settings' budgets; blocks while it loads.

    ``task`` is both task and job in budgets and books: ``train``, ``trial``, ``evaluate``. ``judged``: answers are
    validated, repaired once and moderated as in the service; False gives them as they come, to be measured. A target of
    the settings that runs the same model lends its place and prices. ``timeout_s``: at least, of a call.
    Raises what `models.llm.registry.create` and `telemetry.start` do, StoreUnavailable where the books cannot be
    opened.
    """
    placed = model.model_copy(update={"weights_dir": workspace.llm, "timeout_s": max(model.timeout_s, timeout_s)})
    settings = _alone(workspace, config, placed)
    private = redactor()
    # Contexts are what prompts are compared by in service; metrics are for what lives long enough to be scraped.
    quiet = {"metrics": False, "contexts": config.telemetry.contexts.model_copy(update={"enabled": False})}
    with ExitStack() as stack:
        told = telemetry.start(config.telemetry.model_copy(update=quiet), workspace.gateway, private, task)
        stack.callback(told.close)
        workspace.llm_spend.parent.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(workspace.llm_spend)
        engine = create(placed, trace_headers)
        gateway = Gateway(
            settings,
            {DEFAULT_TARGET: engine.generate},
            {DEFAULT_TARGET: engine.model_id},
            ledger=ledger,
            redactor=private,
            validator=AnswerValidator() if judged else None,
            moderator=WordModerator() if judged else None,
            observer=told.observer,
        )
        stack.pop_all()
    # The in-process engine answers one by one: others would spend their time in its queue.
    together = 1 if placed.engine == "transformers" else placed.max_concurrency
    return PatientEngine(engine, gateway, told, task, asyncio.Semaphore(together))


def price_per_1k(workspace: Workspace, config: ServeConfig, model: LLMConfig) -> tuple[float, float]:
    """What `open_patient` books for 1,000 tokens of a prompt and for 1,000 of an answer."""
    placed = model.model_copy(update={"weights_dir": workspace.llm})
    target = _alone(workspace, config, placed).targets[DEFAULT_TARGET]
    return target.price_per_1k_prompt, target.price_per_1k_completion


def _alone(workspace: Workspace, config: ServeConfig, model: LLMConfig) -> GatewayConfig:
    """The settings' gateway with one target, ``model``."""
    alone = GatewayConfig(
        budgets=config.gateway.budgets, retries=config.gateway.retries, breaker=config.gateway.breaker
    )
    for target in config.gateway.targets.values():
        if name_of(target.model_copy(update={"weights_dir": workspace.llm})) == name_of(model):
            lent = target.model_copy(update=model.model_dump())
            return alone.model_copy(update={"targets": {DEFAULT_TARGET: lent}})
    return alone.or_single(model, config.llm_cost_per_1k_prompt, config.llm_cost_per_1k_completion)
