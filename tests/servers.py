"""Real servers in this process, for clients under test."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

Mode = Literal["answer", "no-logprobs", "rate-limited", "broken", "hang", "malformed", "not-json", "drop", "refusal"]

CONTEXT = 2048
"""Characters of prompt and completion together that ChatServer accepts; each character is its token."""


class ChatServer:
    """OpenAI's chat completions on localhost. Answers with the smallest value of the JSON schema, or echoes the user.

    ``mode`` may be set at any time; ``seen`` holds the bodies received, ``keys`` their Authorization headers and
    ``traces`` their traceparents.
    """

    def __init__(self, mode: Mode = "answer") -> None:
        self.mode: Mode = mode
        self.seen: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.traces: list[str | None] = []
        self.released = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _handler(outer) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.seen.append(body)
                outer.keys.append(self.headers["Authorization"])
                outer.traces.append(self.headers["traceparent"])
                match outer.mode:
                    case "hang":
                        outer.released.wait(30)
                        self.close_connection = True
                    case "drop":
                        self.close_connection = True
                    case "rate-limited":
                        self._reply(429, {"error": {"message": f"slow down, {self.headers['Authorization']}"}})
                    case "broken":
                        self._reply(500, {"error": {"message": f"stack trace of {self.headers['Authorization']}"}})
                    case "malformed":
                        self._reply(200, {"choices": []})
                    case "not-json":
                        self._send(200, b"<html>gateway</html>")
                    case "refusal":
                        self._complete(body, _completion(body, None, "content_filter"))
                    case _:
                        self._answer(body)

            def _answer(self, body: dict[str, Any]) -> None:
                if _prompt_length(body) + body["max_tokens"] > CONTEXT:
                    message = f"This model's maximum context length is {CONTEXT} tokens"
                    self._reply(400, {"error": {"message": message, "code": "context_length_exceeded"}})
                    return
                text = _text(body)
                cut = text[: body["max_tokens"]]
                reply = _completion(body, cut, "stop" if cut == text else "length")
                if outer.mode == "no-logprobs":
                    del reply["choices"][0]["logprobs"]
                self._complete(body, reply)

            def _complete(self, body: dict[str, Any], reply: dict[str, Any]) -> None:
                if not body.get("stream"):
                    self._reply(200, reply)
                    return
                payload = "".join(f"data: {json.dumps(event)}\n\n" for event in events(reply)) + "data: [DONE]\n\n"
                self._send(200, payload.encode())

            def _reply(self, status: int, body: dict[str, Any]) -> None:
                self._send(status, json.dumps(body).encode())

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _completion(body: dict[str, Any], text: str | None, finish: str) -> dict[str, Any]:
    pieces = list((text or "").encode())  # a byte each, as vendors split characters
    entries = [{"token": f"\\x{piece:02x}", "bytes": [piece], "logprob": -0.25} for piece in pieces]
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": text},
        "logprobs": {"content": entries} if body.get("logprobs") else None,
    }
    usage = {"prompt_tokens": _prompt_length(body), "completion_tokens": len(text or "")}
    return {"object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}


def events(reply: dict[str, Any]) -> list[dict[str, Any]]:
    """A completion as the events of its stream: a few characters each, the finish, and the usage last."""
    (choice,) = reply["choices"]
    text = choice["message"]["content"] or ""
    entries = (choice.get("logprobs") or {}).get("content") or []
    parts: list[dict[str, Any]] = []
    at = 0
    for start in range(0, len(text), 4):
        piece = text[start : start + 4]
        until = at + len(piece.encode())
        part: dict[str, Any] = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
        if entries:
            part["logprobs"] = {"content": entries[at:until]}
        parts.append({"choices": [part]})
        at = until
    parts.append({"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    return [*parts, {"choices": [], "usage": reply["usage"]}]


def _prompt_length(body: dict[str, Any]) -> int:
    return sum(len(message["content"]) for message in body["messages"])


def _text(body: dict[str, Any]) -> str:
    if (shape := body.get("response_format")) is None:
        return f"you said: {body['messages'][-1]['content']} " * 50
    return json.dumps(_smallest(shape["json_schema"]["schema"]), separators=(",", ":"), ensure_ascii=False)


def _smallest(schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    match schema["type"]:
        case "object":
            return {name: _smallest(schema["properties"][name]) for name in schema["required"]}
        case "array":
            return [_smallest(schema["items"]) for _ in range(schema.get("minItems", 0))]
        case "string":
            return ""
        case kind:
            raise ValueError(f"ChatServer makes no {kind}: give it an enum")
