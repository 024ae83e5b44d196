"""A language model behind a Ray handle, as the gateway asks it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from models.errors import EngineLoading, EngineTimeout, EngineUnavailable, PromptTooLong
from models.ports import LLMRequest, LLMResult
from serving.gateway.ports import Provider
from serving.gateway.tracing import traceparent

LOADING: Final = "the LLM is still loading"
_PATIENCE_S: Final = 2.0
_log = logging.getLogger("ray.serve")


async def engine_state(handle: Any) -> str:
    """Why the deployment's engine does not answer; empty where it does."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return str(await handle.state.remote())
    except Exception as error:
        _log.info("LLM: its state is unknown: %s", error)
        return "its deployment does not answer"


def llm_provider(handle: Any) -> Provider:
    """Asks the LLM deployment; everything Ray raises on the way becomes EngineUnavailable."""

    async def ask(request: LLMRequest) -> LLMResult:
        response = handle.generate.remote(request, traceparent())
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
            if isinstance(error, EngineLoading):
                raise EngineLoading(LOADING) from error
            # The reply tells of it among what degraded: addresses and traces stay in the log.
            _log.warning("LLM: %s", text)
            raise EngineUnavailable("the LLM does not answer") from error
        return result

    return ask
