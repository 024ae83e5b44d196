"""A stream of requests answered some at a time, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

Request = TypeVar("Request")
Reply = TypeVar("Reply")


async def in_order(
    requests: AsyncIterator[Request], answer: Callable[[Request], Awaitable[Reply]], most: int
) -> AsyncIterator[Reply]:
    """Replies in the order of the requests, each as soon as it and all before it are there.

    At most ``most`` requests are read whose replies nobody took yet: a slow reader is not answered far ahead of.
    ``answer`` handles its own errors; one that it raises ends the stream, as does one of ``requests``. Whoever stops
    listening ends what is being answered.
    """
    waiting: asyncio.Queue[asyncio.Future[Reply] | None] = asyncio.Queue()
    free = asyncio.Semaphore(most)

    async def read() -> None:
        try:
            while True:
                await free.acquire()
                request = await anext(requests, None)
                if request is None:
                    return
                waiting.put_nowait(asyncio.ensure_future(answer(request)))
        finally:
            waiting.put_nowait(None)

    reader = asyncio.ensure_future(read())
    under_way: asyncio.Future[Reply] | None = None
    try:
        while (under_way := await waiting.get()) is not None:
            yield await under_way
            free.release()
        await reader  # raises what reading raised
    finally:
        reader.cancel()
        left = [under_way, *(waiting.get_nowait() for _ in range(waiting.qsize()))]
        for each in left:
            if each is not None:
                each.cancel()
