"""Any HTTP endpoint that speaks OpenAI's chat completions: vendors, vLLM's server, llama.cpp, Ollama."""

from __future__ import annotations

import asyncio
import codecs
import math
from typing import Any

import httpx

from models.errors import EngineTimeout, EngineUnavailable, PromptTooLong
from models.ports import LLMRequest, LLMResult, Token

_TOO_LONG = ("context_length_exceeded", "context length", "maximum model length", "context size")


class OpenAIEngine:
    """Client of POST {base_url}/chat/completions. Keeps no state of a request but open connections.

    Errors carry no header and no body of a reply: vendors repeat the key in them.
    """

    def __init__(
        self, base_url: str, model: str, *, api_key: str | None, timeout_s: float, max_concurrency: int
    ) -> None:
        self._model = model
        self._where = httpx.URL(base_url).host
        self.model_id = f"{model}@{self._where}"
        self._timeout_s = timeout_s
        self._closed = False
        self._client = httpx.AsyncClient(
            base_url=base_url,
            headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
            timeout=None,  # one deadline over all of generate() instead of one per read
            limits=httpx.Limits(max_connections=max_concurrency),
            follow_redirects=False,
        )

    @property
    def alive(self) -> bool:
        """See LLMEngine."""
        return not self._closed

    async def generate(self, request: LLMRequest) -> LLMResult:
        """See LLMEngine. ``tokens`` is one token of NaN where the endpoint reports no logprobs that fit its text."""
        if self._closed:
            raise EngineUnavailable(f"LLM {self.model_id} is closed: create the engine again")
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await self._client.post("/chat/completions", json=self._body(request))
        except TimeoutError:
            raise EngineTimeout(
                f"LLM {self.model_id} did not answer within {self._timeout_s} s: raise timeout_s or fail over"
            ) from None
        except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: the client was closed meanwhile
            raise EngineUnavailable(f"LLM {self.model_id} cannot be reached: {type(error).__name__}") from None
        if reply.status_code != httpx.codes.OK:
            raise self._refusal(reply)
        try:
            return _parse(reply.json())
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            raise EngineUnavailable(
                f"LLM {self.model_id} sent a malformed reply: check that base_url ends in /v1"
            ) from None

    async def aclose(self) -> None:
        """Close the connections; a running generate() raises EngineUnavailable."""
        self._closed = True
        await self._client.aclose()

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
        if request.json_schema is not None:
            schema = {"name": "answer", "strict": True, "schema": dict(request.json_schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def _refusal(self, reply: httpx.Response) -> PromptTooLong | EngineUnavailable:
        status = reply.status_code
        if status in (400, 413, 422) and any(sign in reply.text.lower() for sign in _TOO_LONG):
            return PromptTooLong(f"LLM {self.model_id} refuses the prompt as too long for its context: shorten it")
        remedy = {
            401: "check the key",
            403: "check the key",
            404: "check base_url and the model's name",
            429: "lower the rate or raise the quota",
        }.get(status, "fail over, or read the endpoint's own log")
        return EngineUnavailable(f"LLM {self.model_id} answered HTTP {status}: {remedy}")


def _parse(reply: Any) -> LLMResult:
    choice = reply["choices"][0]
    text, finish, usage = choice["message"]["content"], choice["finish_reason"], reply["usage"]
    if not isinstance(text, str) or finish not in ("stop", "length"):
        raise ValueError(f"finish {finish!r}")  # a refusal, a content filter, a tool call
    return LLMResult(
        text=text,
        finish=finish,
        prompt_tokens=int(usage["prompt_tokens"]),
        completion_tokens=int(usage["completion_tokens"]),
        tokens=_tokens(choice, text),
    )


def _tokens(choice: Any, text: str) -> tuple[Token, ...]:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    tokens = tuple(
        Token(
            entry["token"] if entry.get("bytes") is None else decoder.decode(bytes(entry["bytes"])),
            min(0.0, float(entry["logprob"])),
        )
        for entry in (choice.get("logprobs") or {}).get("content") or ()
    )
    while tokens and "".join(token.text for token in tokens) != text and len(text) < sum(len(t.text) for t in tokens):
        tokens = tokens[:-1]  # some servers list the token that ends the turn
    return tokens if tokens and "".join(token.text for token in tokens) == text else (Token(text, math.nan),)
