"""An OpenAI-compatible server in this process that fails in every way a real one has been seen to."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from aiohttp import web

from tests.servers import events

Fault = Literal[
    "answer", "hang", "drip", "busy", "broken", "cut", "garbage", "malformed", "ramble", "overrun", "invent", "refuse"
]
FAULTS: tuple[Fault, ...] = get_args(Fault)
INVENTED = "an id nobody ever had"
PIECE = 4
"""Characters of a token."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What the server would charge for a call; ``whole`` where it told the client so."""

    fault: Fault
    user: str
    prompt_tokens: int
    completion_tokens: int
    whole: bool


class FaultServer:
    """Answers on localhost, each request with what ``choose`` says of it; ``mix`` makes one from shares and a seed.

    A constrained answer takes the first value of every enumeration. ``bills`` holds what every call came to, ``asked``
    counts calls by fault, ``connections`` are those open now.
    """

    def __init__(
        self,
        choose: Callable[[dict[str, Any]], Fault] | Fault = "answer",
        *,
        answer_s: float = 0.0,
        drip_s: float = 0.05,
        retry_after_s: float | None = None,
    ) -> None:
        self.choose: Callable[[dict[str, Any]], Fault] = (lambda _: choose) if isinstance(choose, str) else choose
        self.bills: list[Bill] = []
        self.asked: dict[Fault, int] = dict.fromkeys(FAULTS, 0)
        self.running = 0
        self._answer_s = answer_s
        self._drip_s = drip_s
        self._retry_after_s = retry_after_s
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner
        self._stopping: asyncio.Event
        self._thread = threading.Thread(target=self._serve, name="faults")
        self.base_url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    @property
    def connections(self) -> int:
        """Connections open now."""
        return 0 if self._runner.server is None else len(self._runner.server.connections)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._run())
        self._loop.close()

    async def _run(self) -> None:
        self._stopping = asyncio.Event()
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        self._started.set()
        await self._stopping.wait()
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        fault = self.choose(body)
        self.asked[fault] += 1
        self.running += 1
        call = _Call(request, body, fault)
        try:
            if fault != "drip":
                await asyncio.sleep(self._answer_s)
            return await call.reply(self._drip_s, self._retry_after_s)
        except ConnectionError:
            return web.Response()
        finally:
            self.running -= 1
            if call.sent is not None:
                self.bills.append(Bill(fault, call.user, call.prompt_tokens, call.sent, call.whole))


class _Call:
    """One request. ``sent``: tokens generated for it, None where it was turned away."""

    def __init__(self, request: web.Request, body: dict[str, Any], fault: Fault) -> None:
        self._request = request
        self._body = body
        self._fault = fault
        self.user = body["messages"][-1]["content"]
        self.prompt_tokens = sum(-(-len(message["content"].encode()) // PIECE) for message in body["messages"])
        self.sent: int | None = None
        self.whole = False

    async def reply(self, drip_s: float, retry_after_s: float | None) -> web.StreamResponse:
        match self._fault:
            case "busy":
                headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
                return web.json_response({"error": {"message": "slow down"}}, status=429, headers=headers)
            case "broken":
                return web.json_response({"error": {"message": "stack trace"}}, status=500)
            case "hang":
                self.sent = 0
                await asyncio.sleep(600)
        text, finish = self._text()
        if self._fault == "garbage":
            self.sent = self._tokens(text)
            return web.Response(text="<html>something went wrong</html>", content_type="text/html")
        if self._body.get("stream"):
            return await self._stream(text, finish, drip_s if self._fault == "drip" else 0.0)
        return await self._at_once(text, finish, drip_s)

    def _text(self) -> tuple[str, str]:
        limit = PIECE * self._body["max_tokens"]
        match self._fault:
            case "malformed":
                return '{"tags": ["', "stop"
            case "ramble":
                return ("and so on, " * limit)[:limit], "length"
            case "overrun":
                return ("and so on, " * limit)[: 4 * limit], "stop"
            case "refuse":
                return "", "content_filter"
        shape = self._body.get("response_format")
        if shape is None:
            text = f"you said: {self.user}"
        else:
            text = json.dumps(_first(shape["json_schema"]["schema"], invent=self._fault == "invent"))
        return (text, "stop") if len(text) <= limit else (text[:limit], "length")

    async def _at_once(self, text: str, finish: str, drip_s: float) -> web.StreamResponse:
        self.sent = 0
        if self._fault == "drip":
            await asyncio.sleep(drip_s * self._tokens(text))
        self.sent = self._tokens(text)
        if self._fault == "cut":
            self._abort()
        self.whole = True
        return web.json_response(self._completion(text, finish))

    async def _stream(self, text: str, finish: str, drip_s: float) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(self._request)
        self.sent = 0
        parts = events(self._completion(text, finish))
        for number, event in enumerate(parts):
            if drip_s:
                await asyncio.sleep(drip_s)
            if self._fault == "cut" and number >= len(parts) // 2:
                self._abort()
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
            self.sent = min(number + 1, self._tokens(text))
            if self._fault == "overrun":
                await asyncio.sleep(0)
        self.whole = True
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    def _abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()
        raise ConnectionResetError("cut on purpose")

    def _completion(self, text: str, finish: str) -> dict[str, Any]:
        usage = {"prompt_tokens": self.prompt_tokens, "completion_tokens": self._tokens(text)}
        choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
        return {"choices": [choice], "usage": usage}

    @staticmethod
    def _tokens(text: str) -> int:
        return -(-len(text) // PIECE)


def mix(shares: Mapping[Fault, float], seed: int) -> Callable[[dict[str, Any]], Fault]:
    """Chooses by chance; what the shares leave to 1 is "answer"."""
    chance = random.Random(seed)
    faults = list(shares)
    weights = [*shares.values(), 1.0 - sum(shares.values())]
    return lambda _: chance.choices([*faults, "answer"], weights)[0]


def _first(schema: Mapping[str, Any], *, invent: bool) -> Any:
    if "enum" in schema:
        return INVENTED if invent else schema["enum"][0]
    if schema["type"] == "object":
        return {name: _first(schema["properties"][name], invent=invent) for name in schema["required"]}
    return [_first(schema["items"], invent=invent) for _ in range(schema.get("minItems", 0))]
