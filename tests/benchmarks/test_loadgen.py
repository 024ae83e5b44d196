"""The benchmark's own instruments, on a real echo server: they count what they should and refuse what failed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serving.bench import _line, _process
from serving.loadgen import Load, generate


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    with _process("echo") as server:
        yield f"127.0.0.1:{int(_line(server))}"


def load(target: str, concurrency: int = 4, requests: int = 50, seconds: float = 30.0) -> Load:
    return Load(target, "echo", "key", ("ann", "ben"), concurrency, requests, seconds, warm_up=3)


async def test_counts_the_requests_asked_for_and_no_warm_up(echo: str) -> None:
    result = await generate(load(echo))
    assert len(result.ms) == 50
    assert not result.failed
    # Four callers, each busy for no longer than the whole took.
    assert 0 < sum(result.ms) / 1e3 <= 4 * result.seconds


async def test_stops_when_the_time_is_over(echo: str) -> None:
    result = await generate(load(echo, requests=10**9, seconds=0.2))
    assert result.ms
    assert 0.2 <= result.seconds < 5


async def test_a_refused_call_gives_a_reason_and_no_figures() -> None:
    result = await generate(load("127.0.0.1:1"))
    assert result.failed.startswith("UNAVAILABLE")
    assert not result.ms
