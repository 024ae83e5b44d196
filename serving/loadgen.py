"""The processes beside a measured service: a load generator and a plain gRPC echo, each with an interpreter of its own.

``python -m serving.loadgen generate`` reads one load per line on standard input (a `Load` as JSON) and answers each
with one line (a `Result` as JSON). ``python -m serving.loadgen echo`` prints its port and serves until it is ended.
Light: gRPC and protobuf only, so that neither takes time from what is measured.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import grpc
import grpc.aio

from protos.tandem.v1 import recommender_pb2
from serving.auth import HEADER

Call = Literal["recommend", "empty", "echo"]
ECHO = "/tandem.bench.Echo/Echo"
METHODS: dict[Call, str] = {
    "recommend": "/tandem.v1.Recommender/Recommend",
    "empty": "/grpc.health.v1.Health/Check",
    "echo": ECHO,
}


@dataclass(frozen=True, slots=True)
class Load:
    """``concurrency`` callers that ask as soon as they are answered, until ``requests`` or ``seconds`` are used up.

    ``users`` are asked for in turn, all at ``place`` where one is told. The first ``warm_up`` calls of each caller are
    not counted.
    """

    target: str
    call: Call
    key: str
    users: tuple[str, ...]
    concurrency: int
    requests: int
    seconds: float
    warm_up: int = 20
    k: int = 10
    place: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """Milliseconds of every counted call, the seconds they took together, and what the replies of Recommend say.

    ``stages``: milliseconds by stage, summed over ``replies`` replies. ``paths``: how many replies took each path.
    """

    ms: tuple[float, ...]
    seconds: float
    stages: dict[str, float]
    replies: int
    paths: dict[str, int]
    degraded: int
    failed: str = ""


async def generate(load: Load) -> Result:
    """Run one load. A failed call ends it and is told in ``failed``: figures of refused calls would mean nothing."""
    messages = _messages(load)
    metadata = ((HEADER, f"Bearer {load.key}"),)
    latencies: list[float] = []
    replies: list[bytes] = []
    numbers = iter(range(load.requests))
    async with grpc.aio.insecure_channel(load.target) as channel:
        method = channel.unary_unary(METHODS[load.call])  # bytes in and out: no time goes into messages

        async def warm_up(first: int) -> None:
            for number in range(load.warm_up):
                await method(messages[(first + number) % len(messages)], metadata=metadata, timeout=60)

        async def caller(end: float) -> None:
            for number in numbers:
                started = time.perf_counter()
                if started >= end:
                    return
                reply = await method(messages[number % len(messages)], metadata=metadata, timeout=60)
                latencies.append((time.perf_counter() - started) * 1e3)
                replies.append(reply)

        try:
            await asyncio.gather(*(warm_up(first * load.warm_up) for first in range(load.concurrency)))
            started = time.perf_counter()
            await asyncio.gather(*(caller(started + load.seconds) for _ in range(load.concurrency)))
            seconds = time.perf_counter() - started
        except grpc.aio.AioRpcError as error:
            return Result((), 0.0, {}, 0, {}, 0, f"{error.code().name}: {error.details()}")
    return _result(latencies, seconds, replies if load.call == "recommend" else [])


def _messages(load: Load) -> list[bytes]:
    if load.call == "empty":
        return [b""]  # Check of the whole service: a message whose fields all have their default
    return [
        recommender_pb2.RecommendRequest(user_id=user, k=load.k, place=load.place).SerializeToString()
        for user in load.users
    ]


def _result(latencies: Sequence[float], seconds: float, replies: Sequence[bytes]) -> Result:
    stages: dict[str, float] = {}
    paths: dict[str, int] = {}
    degraded = 0
    for reply in map(recommender_pb2.RecommendReply.FromString, replies):
        paths[reply.path] = paths.get(reply.path, 0) + 1
        degraded += bool(reply.degraded)
        for stage in reply.stages:
            stages[stage.name] = stages.get(stage.name, 0.0) + stage.ms
    return Result(tuple(latencies), seconds, stages, len(replies), paths, degraded)


async def echo() -> None:
    """A `grpc.aio` server that returns what it gets, on a free port of the loopback; serves until cancelled."""

    async def same(request: bytes, _: Any) -> bytes:
        return request

    service, method = ECHO.strip("/").split("/")
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(same)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


def main(arguments: Sequence[str]) -> None:
    if list(arguments) == ["echo"]:
        asyncio.run(echo())
    elif list(arguments) == ["generate"]:
        for line in sys.stdin:
            print(json.dumps(asdict(asyncio.run(generate(Load(**json.loads(line)))))), flush=True)
    else:
        sys.exit("usage: python -m serving.loadgen echo | generate")


if __name__ == "__main__":
    main(sys.argv[1:])
