"""The cache of answers in a real Redis: shared, bounded, purged, and quick to give up where the server is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as Client

from serving.gateway.cache import CacheConfig, TieredCache, open_store
from serving.gateway.cachestore_redis import RedisStore
from tests.integration.test_online_store import Redis, redis_server
from tests.unit.serving.caching import Clock, ask, result


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def redis(server: Redis) -> Redis:
    with Client(port=server.port) as client:
        client.flushall()
    return server


def replica(redis: Redis, clock: Clock, release: str = "r1", **config: Any) -> tuple[TieredCache, RedisStore]:
    settings = CacheConfig(kind="redis", redis=f"127.0.0.1:{redis.port}", redis_timeout_ms=2_000, **config)
    store = open_store(settings, Path("unused"))
    assert isinstance(store, RedisStore)
    return TieredCache(settings, release, store, clock), store


async def test_replicas_share_equal_and_near_questions(redis: Redis) -> None:
    clock = Clock()
    first, _ = replica(redis, clock)
    first.put(ask(degrees=0), "m", result())
    first.put(ask("Brie", degrees=1), "m", result())
    await first.flush()
    second, _ = replica(redis, clock)
    await second.start()
    exact = await second.get(ask(), ["m"])
    near = await second.get(ask("Gouda", degrees=2), ["m"])
    assert exact is not None
    assert near is not None
    assert (exact.how, exact.result, near.how) == ("exact", result(), "semantic")
    await first.aclose()
    await second.aclose()


async def test_the_oldest_go_where_a_bound_is_passed(redis: Redis) -> None:
    kept, store = replica(redis, Clock(), entries=0, stored_entries=10)
    for number in range(30):
        kept.put(ask(str(number), degrees=number), "m", result())
    await kept.flush()
    found = [await kept.get(ask(str(number)), ["m"]) is not None for number in (19, 20, 29)]
    entries, size = await store.totals()
    rows, _ = await store.meanings(0, 100)
    assert (found, entries, len(rows)) == ([False, True, True], 10, 10)
    assert size == sum(row.size for row in rows)
    await kept.aclose()


async def test_bytes_are_bounded_and_a_rewritten_row_is_counted_once(redis: Redis) -> None:
    kept, store = replica(redis, Clock(), entries=0, stored_mib=1)
    for number in range(12):
        kept.put(ask(str(number % 6)), "m", result(text='"' + "x" * 50_000 + '"', tokens=()))
    await kept.flush()
    assert await store.totals() == (5, 5 * 200_264)
    await kept.aclose()


async def test_redis_forgets_what_expired_and_the_counts_follow(redis: Redis) -> None:
    clock = Clock()
    kept, store = replica(redis, clock, entries=0, ttl_s=0.02)
    kept.put(ask("old"), "m", result())
    await kept.flush()
    with Client(port=redis.port) as client:
        until = time.monotonic() + 5
        while client.keys("*row*") and time.monotonic() < until:
            pass
    kept.put(ask("new"), "m", result())
    await kept.flush()
    assert (await store.totals())[0] == 1
    await kept.aclose()


async def test_another_release_is_purged(redis: Redis) -> None:
    old, _ = replica(redis, Clock(), "r1")
    old.put(ask(degrees=0), "m", result())
    await old.aclose()
    new, store = replica(redis, Clock(), "r2")
    new.put(ask("mine"), "m", result())
    await new.flush()
    await new.start()
    assert (await store.totals())[0] == 1
    assert await new.get(ask(), ["m"]) is None
    await new.aclose()


async def test_a_damaged_row_is_a_miss(redis: Redis) -> None:
    kept, _ = replica(redis, Clock(), entries=0)
    kept.put(ask(), "m", result())
    await kept.flush()
    with Client(port=redis.port) as client:
        for name in client.keys("*row*"):
            client.set(name, b"\xff{}\n\n")
    assert await kept.get(ask(), ["m"]) is None
    await kept.start()
    await kept.aclose()


async def test_a_server_that_is_gone_or_hangs_costs_one_timeout(tmp_path: Path) -> None:
    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()
        writer.close()

    hanging = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = hanging.sockets[0].getsockname()[1]
    settings = CacheConfig(kind="redis", redis=f"127.0.0.1:{port}", redis_timeout_ms=100)
    kept = TieredCache(settings, "r1", open_store(settings, tmp_path), Clock())
    started = time.perf_counter()
    for number in range(100):
        assert await kept.get(ask(str(number)), ["m"]) is None
    assert time.perf_counter() - started < 1.0
    kept.put(ask(), "m", result())
    assert await kept.get(ask(), ["m"]) is not None
    await kept.aclose()
    hanging.close()


def test_a_password_that_is_not_set_is_said() -> None:
    with pytest.raises(ValueError, match="TANDEM_TEST_NO_PASSWORD"):
        open_store(CacheConfig(kind="redis", redis_password_env="TANDEM_TEST_NO_PASSWORD"), Path("unused"))
