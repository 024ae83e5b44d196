"""Where a value stands in a JSON answer, and how probable the model found it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from models.ports import LLMResult

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}:]', re.DOTALL)


class StringValue(NamedTuple):
    """A JSON string: its decoded value, and the span [start, end) between its quotes in the raw text, in characters."""

    value: str
    start: int
    end: int


def string_values(text: str, field: str | None = None) -> list[StringValue]:
    """String items of the array under ``field`` of a top-level object, in order; None takes every such array.

    Of a text that was cut off, the strings complete before the cut are returned. A string that is no valid JSON (a bad
    escape) is left out.
    """
    return list(_scan(text, field))


def _scan(text: str, field: str | None) -> Iterator[StringValue]:
    stack = ""
    last, key = "", None
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token in "[{":
            stack += token
        elif token in "]}":
            stack = stack[:-1]
        elif token == ":":
            if stack == "{":
                key = last
        elif stack in ("{", "{[") and (value := _decode(token)) is not None:
            if stack == "{":
                last = value
            elif field is None or field == key:
                yield StringValue(value, match.start() + 1, match.end() - 1)


def _decode(token: str) -> str | None:
    try:
        return str(json.loads(token))
    except ValueError:
        return None


def span_logprob(result: LLMResult, start: int, end: int) -> float:
    """Natural-log probability of the tokens that overlap characters [start, end) of ``result.text``.

    The sum over whole tokens: one that also holds a neighbouring quote counts fully. An empty-text token (a part of a
    character that takes several tokens) counts with the character it begins. NaN where any logprob is unknown or the
    tokens do not make up the text. Raises ValueError for a span outside the text.
    """
    if not 0 <= start <= end <= len(result.text):
        raise ValueError(f"span [{start}, {end}) lies outside a text of {len(result.text)} characters")
    total: list[float] = []
    at = 0
    for token in result.tokens:
        after = at + len(token.text)
        if at < end and (after > start or at == start):
            total.append(token.logprob)
        at = after
    return math.fsum(total) if at == len(result.text) else math.nan
