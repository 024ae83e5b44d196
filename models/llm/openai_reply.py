"""What an OpenAI-compatible endpoint replies, whole or in events, read into an LLMResult."""

from __future__ import annotations

import codecs
import json
import math
from typing import Any

from models.ports import LLMRequest, LLMResult, Token

_TEMPLATE_TOKENS = 64
"""What a chat template adds to the texts at most."""


def whole(reply: Any) -> LLMResult:
    """A reply that came at once. Raises ValueError, KeyError, TypeError, IndexError, AttributeError: malformed."""
    choice = reply["choices"][0]
    prompt_tokens, completion_tokens = _usage(reply["usage"])
    text = choice["message"]["content"]
    entries = (choice.get("logprobs") or {}).get("content") or ()
    return _result(text, choice["finish_reason"], prompt_tokens, completion_tokens, entries, math.nan)


def refused(choice: Any) -> str | None:
    """Why a choice holds no answer although the endpoint worked: a refusal, a content filter; None where it does."""
    if (choice.get("message") or choice.get("delta") or {}).get("refusal"):
        return "refusal"
    return "content_filter" if choice.get("finish_reason") == "content_filter" else None


class Events:
    """Gathers the events of a stream. ``count``: tokens so far, at least: an event may hold several."""

    def __init__(self) -> None:
        self.count = 0
        self.finish: str | None = None
        self.usage: tuple[int, int] | None = None
        self.refusal: str | None = None
        self._texts: list[str] = []
        self._entries: list[Any] = []

    def add(self, data: str) -> bool:
        """Take in one event's JSON; whether it held text. Raises what `whole` raises."""
        event = json.loads(data)
        if event.get("usage"):
            self.usage = _usage(event["usage"])
        if not event.get("choices"):
            if "error" in event:
                raise ValueError("an error in the stream")
            return False
        choice = event["choices"][0]
        self.refusal = refused(choice) or self.refusal
        self.finish = choice.get("finish_reason") or self.finish
        entries = (choice.get("logprobs") or {}).get("content") or ()
        self._entries.extend(entries)
        text = (choice.get("delta") or {}).get("content")
        if not text:
            return False
        self._texts.append(text)
        self.count += max(1, len(entries))
        return True

    def result(self, first_token_s: float) -> LLMResult:
        """The answer of a stream that ended well. Raises what `whole` raises."""
        if self.usage is None:
            raise ValueError("no usage")
        return _result("".join(self._texts), self.finish, *self.usage, self._entries, first_token_s)

    def cut_off(self, request: LLMRequest, first_token_s: float) -> LLMResult:
        """The answer up to its limit, of an endpoint that does not keep it. It tells no usage any more: an upper bound
        of it is taken, a token for each byte of the prompt."""
        prompt = len(request.system.encode()) + len(request.user.encode()) + _TEMPLATE_TOKENS
        text = "".join(self._texts[:-1])
        return LLMResult(text, "length", prompt, request.max_tokens, (Token(text, math.nan),), first_token_s)


def _usage(usage: Any) -> tuple[int, int]:
    return int(usage["prompt_tokens"]), int(usage["completion_tokens"])


def _result(
    text: Any, finish: Any, prompt_tokens: int, completion_tokens: int, entries: Any, first_token_s: float
) -> LLMResult:
    if not isinstance(text, str) or finish not in ("stop", "length"):
        raise ValueError(f"finish {finish!r}")  # a tool call, or nothing at all
    return LLMResult(
        text=text,
        finish="stop" if finish == "stop" else "length",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        tokens=_tokens(entries, text),
        first_token_s=first_token_s,
    )


def _tokens(entries: Any, text: str) -> tuple[Token, ...]:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    tokens = tuple(
        Token(
            entry["token"] if entry.get("bytes") is None else decoder.decode(bytes(entry["bytes"])),
            min(0.0, float(entry["logprob"])),
        )
        for entry in entries
    )
    while tokens and "".join(token.text for token in tokens) != text and len(text) < sum(len(t.text) for t in tokens):
        tokens = tokens[:-1]  # some servers list the token that ends the turn
    return tokens if tokens and "".join(token.text for token in tokens) == text else (Token(text, math.nan),)
