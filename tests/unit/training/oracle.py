"""An LLM engine that answers what a test tells it to."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

from models.ports import LLMRequest, LLMResult, Token


class Oracle:
    """An engine that answers what it is told to, from a request's product and choices."""

    alive = True

    def __init__(self, answer: Callable[[str, list[str]], str], model_id: str = "oracle") -> None:
        self.model_id = model_id
        self._answer = answer
        self.asked = 0
        self.closed = False

    async def generate(self, request: LLMRequest) -> LLMResult:
        assert request.json_schema is not None
        self.asked += 1
        ((name, field),) = request.json_schema["properties"].items()
        said = self._answer(request.user.splitlines()[0].removeprefix("Product: "), field["items"]["enum"])
        text = json.dumps({name: [said]})
        return LLMResult(text, "stop", 10, 5, (Token(text, math.log(0.8)),))

    async def aclose(self) -> None:
        self.closed = True
