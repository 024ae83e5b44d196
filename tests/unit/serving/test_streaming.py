"""Answers of a stream: in order, some at a time, and nothing left running when nobody listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from serving.streaming import in_order


class Answers:
    """Answers that end when a test says so; ``begun`` and ``cancelled`` by number."""

    def __init__(self, many: int) -> None:
        self.may_end = [asyncio.Event() for _ in range(many)]
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self.changed = asyncio.Event()

    async def __call__(self, number: int) -> str:
        self.begun.append(number)
        self.changed.set()
        try:
            await self.may_end[number].wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        return f"reply {number}"

    async def wait_for(self, many: int) -> None:
        async with asyncio.timeout(30):
            while len(self.begun) < many:
                self.changed.clear()
                await self.changed.wait()


async def numbers(many: int) -> AsyncIterator[int]:
    for number in range(many):
        yield number


async def settled() -> None:
    """What can run has run: each task of these tests needs a few turns of the loop."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.mark.parametrize("most", [1, 3, 50])
async def test_replies_keep_the_order_of_the_requests(most: int) -> None:
    answers = Answers(9)
    replies = in_order(numbers(9), answers, most)

    async def release() -> None:
        for first in range(0, 9, most):
            window = range(first, min(9, first + most))
            await answers.wait_for(window[-1] + 1)
            for number in reversed(window):
                answers.may_end[number].set()

    releasing = asyncio.ensure_future(release())
    assert [reply async for reply in replies] == [f"reply {number}" for number in range(9)]
    await releasing


async def test_no_more_are_begun_than_may_be_and_a_slow_listener_holds_the_rest_back() -> None:
    answers = Answers(10)
    for event in answers.may_end:
        event.set()
    replies = in_order(numbers(10), answers, 3)
    assert await anext(replies) == "reply 0"
    await settled()
    assert answers.begun == [0, 1, 2]
    assert await anext(replies) == "reply 1"
    await settled()
    assert answers.begun == [0, 1, 2, 3]
    assert [reply async for reply in replies] == [f"reply {number}" for number in range(2, 10)]


async def test_reply_comes_while_the_next_request_is_not_there() -> None:
    answered = asyncio.Event()

    async def asking() -> AsyncIterator[int]:
        yield 0
        await answered.wait()
        yield 1

    answers = Answers(2)
    for event in answers.may_end:
        event.set()
    replies = in_order(asking(), answers, 4)
    assert await anext(replies) == "reply 0"
    answered.set()
    assert [reply async for reply in replies] == ["reply 1"]


async def test_whoever_stops_listening_ends_what_is_being_answered() -> None:
    answers = Answers(5)
    answers.may_end[0].set()
    replies = in_order(numbers(5), answers, 3)
    assert await anext(replies) == "reply 0"
    await answers.wait_for(3)
    await replies.aclose()  # type: ignore[attr-defined]
    await settled()
    assert sorted(answers.cancelled) == [1, 2]
    assert answers.begun == [0, 1, 2]


async def test_cancelled_listener_ends_what_is_being_answered() -> None:
    answers = Answers(5)

    async def listen() -> list[str]:
        return [reply async for reply in in_order(numbers(5), answers, 2)]

    listening = asyncio.ensure_future(listen())
    await answers.wait_for(2)
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    await settled()
    assert sorted(answers.cancelled) == [0, 1]


async def test_stream_that_breaks_ends_the_replies_after_those_before_it() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 0
        raise OSError("gone")

    answers = Answers(1)
    answers.may_end[0].set()
    replies = in_order(broken(), answers, 2)
    assert await anext(replies) == "reply 0"
    with pytest.raises(OSError, match="gone"):
        await anext(replies)


async def test_no_requests_no_replies() -> None:
    assert [reply async for reply in in_order(numbers(0), Answers(0), 2)] == []
