"""Any HTTP endpoint that speaks OpenAI's chat completions: vendors, vLLM's server, llama.cpp, Ollama."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx2

from models.errors import EngineTimeout, EngineUnavailable, PromptTooLong
from models.llm.openai_reply import Events, refused, whole
from models.ports import LLMRequest, LLMResult

_TOO_LONG = ("context_length_exceeded", "context length", "maximum model length", "context size")
_REMEDIES = {
    401: "check the key",
    403: "check the key",
    404: "check base_url and the model's name",
    429: "lower the rate or raise the quota",
}
_LONGEST_LINE = 1 << 20
_ENDING_S = 0.05


class OpenAIEngine:
    """Client of POST {base_url}/chat/completions. Keeps no state of a request but open connections.

    Errors carry no header and no body of a reply: vendors repeat the key in them.
    httpx2, not httpx: the pool of the latter loses a connection now and then when a request is cancelled, and our
    deadlines cancel many (encode/httpcore#1093).
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None,
        timeout_s: float,
        max_concurrency: int,
        stream: bool = True,
        headers: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._model = model
        self._where = httpx2.URL(base_url).host
        self.model_id = f"{model}@{self._where}"
        self._timeout_s = timeout_s
        self._stream = stream
        self._headers = headers
        self._closed = False
        self._client = httpx2.AsyncClient(
            base_url=base_url,
            headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
            timeout=None,  # one deadline over all of generate() instead of one per read
            limits=httpx2.Limits(max_connections=max_concurrency),
            follow_redirects=False,
        )

    @property
    def alive(self) -> bool:
        """See LLMEngine."""
        return not self._closed

    async def generate(self, request: LLMRequest) -> LLMResult:
        """See LLMEngine. ``tokens`` is one token of NaN where the endpoint reports no logprobs that fit its text.

        Streamed, an answer that passes ``request.max_tokens`` is cut off here; its usage is then an upper bound.
        """
        if self._closed:
            raise EngineUnavailable(f"LLM {self.model_id} is closed: create the engine again")
        try:
            async with asyncio.timeout(self._timeout_s):
                return await (self._streamed(request) if self._stream else self._whole(request))
        except TimeoutError:
            raise EngineTimeout(
                f"LLM {self.model_id} did not answer within {self._timeout_s} s: raise timeout_s or fail over"
            ) from None
        except (httpx2.ConnectError, httpx2.PoolTimeout, httpx2.UnsupportedProtocol) as error:
            raise EngineUnavailable(f"LLM {self.model_id} cannot be reached: {type(error).__name__}") from None
        except (httpx2.HTTPError, RuntimeError) as error:  # RuntimeError: the client was closed meanwhile
            raise EngineUnavailable(
                f"LLM {self.model_id} cannot be reached: {type(error).__name__}", usage=None
            ) from None
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            raise EngineUnavailable(
                f"LLM {self.model_id} sent a malformed reply: check that base_url ends in /v1", usage=None
            ) from None

    async def aclose(self) -> None:
        """Close the connections; a running generate() raises EngineUnavailable."""
        self._closed = True
        await self._client.aclose()

    async def _whole(self, request: LLMRequest) -> LLMResult:
        reply = await self._client.post("/chat/completions", json=self._body(request), headers=self._headers())
        if reply.status_code != httpx2.codes.OK:
            raise self._refusal(reply)
        body = reply.json()
        if (kind := refused(body["choices"][0])) is not None:
            usage = body.get("usage") or {}
            raise self._declined(kind, (int(usage["prompt_tokens"]), int(usage["completion_tokens"])))
        return whole(body)

    async def _streamed(self, request: LLMRequest) -> LLMResult:
        started = time.perf_counter()
        events, first = Events(), math.nan
        body, headers = self._body(request), self._headers()
        async with self._client.stream("POST", "/chat/completions", json=body, headers=headers) as reply:
            if reply.status_code != httpx2.codes.OK:
                await reply.aread()
                raise self._refusal(reply)
            lines = reply.aiter_lines()
            async for line in lines:
                if len(line) > _LONGEST_LINE:
                    raise ValueError("a line without end")
                if not line.startswith("data:"):
                    continue  # comments keep the connection alive
                if (data := line[5:].strip()) == "[DONE]":
                    await _finish(lines)
                    break
                if events.add(data) and math.isnan(first):
                    first = time.perf_counter() - started
                if events.count > request.max_tokens:
                    return events.cut_off(request, first)
        if events.refusal is not None:
            raise self._declined(events.refusal, events.usage)
        if events.finish is None:
            raise EngineUnavailable(f"LLM {self.model_id} cut its answer off in the middle", usage=events.usage)
        if events.usage is None:
            raise EngineUnavailable(
                f"LLM {self.model_id} streams no usage: set stream = false for this endpoint", usage=None
            )
        return events.result(first)

    def _body(self, request: LLMRequest) -> dict[str, Any]:
        messages = [{"role": "user", "content": request.user}]
        if request.system:
            messages.insert(0, {"role": "system", "content": request.system})
        body: dict[str, Any] = {
            "model": self._model,
            "messages": messages,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "seed": request.seed,
            "logprobs": True,
        }
        if self._stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if request.json_schema is not None:
            schema = {"name": "answer", "strict": True, "schema": dict(request.json_schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def _declined(self, kind: str, usage: tuple[int, int] | None) -> EngineUnavailable:
        return EngineUnavailable(f"LLM {self.model_id} declined to answer ({kind})", usage=usage)

    def _refusal(self, reply: httpx2.Response) -> PromptTooLong | EngineUnavailable:
        status = reply.status_code
        if status in (400, 413, 422) and any(sign in reply.text.lower() for sign in _TOO_LONG):
            return PromptTooLong(f"LLM {self.model_id} refuses the prompt as too long for its context: shorten it")
        remedy = _REMEDIES.get(status, "fail over, or read the endpoint's own log")
        return EngineUnavailable(
            f"LLM {self.model_id} answered HTTP {status}: {remedy}",
            retry_after_s=_seconds(reply.headers.get("retry-after", "")),
        )


async def _finish(lines: AsyncIterator[str]) -> None:
    """Read to the end of the reply, which is there already: only then is the connection used again."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_ENDING_S):
            async for _ in lines:
                pass


def _seconds(header: str) -> float:
    """Retry-After in seconds; NaN where it is absent or a date (no LLM endpoint is known to send one)."""
    try:
        seconds = float(header)
    except ValueError:
        return math.nan
    return seconds if 0 <= seconds < math.inf else math.nan
