"""Cached answers in Redis, for replicas on many machines. One script keeps counts, order and bounds in step."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from features.errors import StoreUnavailable
from serving.gateway.cachestore import Row, read_result, result_json

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from serving.gateway.cache import CacheConfig

_ROOT: Final = "{tandem:answers}"
"""The braces put all keys on one node of a cluster, which a script needs."""
_ORDER, _MEANT, _SIZES, _TOTAL, _NUMBER = (f"{_ROOT}:{name}" for name in ("order", "meant", "sizes", "bytes", "number"))
_PAGE: Final = 500

# KEYS: order, meant, sizes, bytes, number, the row. ARGV: name, blob, size, milliseconds to live, 1 with a meaning,
# entries, bytes, prefix of rows. Rows that expired by themselves are counted out when they are the oldest.
_PUT: Final = """
local name, size = ARGV[1], tonumber(ARGV[3])
local number = redis.call('INCR', KEYS[5])
redis.call('INCRBY', KEYS[4], size - tonumber(redis.call('HGET', KEYS[3], name) or '0'))
redis.call('SET', KEYS[6], ARGV[2], 'PX', ARGV[4])
redis.call('HSET', KEYS[3], name, size)
redis.call('ZADD', KEYS[1], number, name)
if ARGV[5] == '1' then redis.call('ZADD', KEYS[2], number, name) else redis.call('ZREM', KEYS[2], name) end
while true do
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
  if not oldest then return end
  local over = redis.call('ZCARD', KEYS[1]) > tonumber(ARGV[6])
    or tonumber(redis.call('GET', KEYS[4])) > tonumber(ARGV[7])
  if not over and redis.call('EXISTS', ARGV[8] .. oldest) == 1 then return end
  redis.call('DEL', ARGV[8] .. oldest)
  redis.call('ZREM', KEYS[1], oldest)
  redis.call('ZREM', KEYS[2], oldest)
  redis.call('INCRBY', KEYS[4], -tonumber(redis.call('HGET', KEYS[3], oldest) or '0'))
  redis.call('HDEL', KEYS[3], oldest)
end
"""
# KEYS: order, meant, sizes, bytes. ARGV: prefix of rows, names.
_FORGET: Final = """
for at = 2, #ARGV do
  redis.call('DEL', ARGV[1] .. ARGV[at])
  redis.call('ZREM', KEYS[1], ARGV[at])
  redis.call('ZREM', KEYS[2], ARGV[at])
  redis.call('INCRBY', KEYS[4], -tonumber(redis.call('HGET', KEYS[3], ARGV[at]) or '0'))
  redis.call('HDEL', KEYS[3], ARGV[at])
end
"""


class RedisStore:
    """See CacheStore. A row expires by Redis's own clock; bounds hold after every write."""

    def __init__(self, client: Redis, entries: int, size: int) -> None:
        """``size``: bytes."""
        self._redis: Any = client
        self._entries, self._bytes = entries, size
        self._put_script = self._redis.register_script(_PUT)
        self._forget_script = self._redis.register_script(_FORGET)

    @staticmethod
    def open(config: CacheConfig) -> RedisStore:
        """Connects when first used. Raises ValueError where the password's variable is not set."""
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        host, _, port = config.redis.rpartition(":")
        name = config.redis_password_env
        if name is not None and name not in os.environ:
            raise ValueError(f"the cache's redis_password_env is {name!r}, which is not set: set it to the password")
        seconds = config.redis_timeout_ms / 1e3
        client = Redis(
            host=host,
            port=int(port),
            ssl=config.redis_tls,
            password=None if name is None else os.environ[name],
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            retry=Retry(NoBackoff(), 0),  # a miss now is better than a hit later
        )
        return RedisStore(client, config.stored_entries, config.stored_mib * 2**20)

    async def get(self, key: str) -> Row | None:
        """See CacheStore."""
        async with _guard():
            blob = await self._redis.get(_name(key))
        return None if blob is None else _read(key, blob)

    async def put(self, rows: Sequence[Row], now: float) -> None:
        """See CacheStore."""
        for row in rows:
            left = int((row.expires - now) * 1e3)
            if left <= 0:
                continue
            arguments: list[str | bytes | int] = [row.key, _blob(row), row.size, left, int(row.vector is not None)]
            async with _guard():
                await self._put_script(
                    keys=[_ORDER, _MEANT, _SIZES, _TOTAL, _NUMBER, _name(row.key)],
                    args=[*arguments, self._entries, self._bytes, _name("")],
                )

    async def learn(self) -> None:
        """See CacheStore. Redis is asked each time."""

    async def meanings(self, after: int, most: int) -> tuple[list[Row], int]:
        """See CacheStore."""
        async with _guard():
            found = await self._redis.zrange(
                _MEANT, "+inf", f"({after}", desc=True, byscore=True, offset=0, num=most, withscores=True
            )
        rows: list[Row] = []
        for start in range(0, len(found), _PAGE):
            names = [name.decode() for name, _ in found[start : start + _PAGE]]
            async with _guard():
                blobs = await self._redis.mget([_name(name) for name in names])
            rows.extend(_read(name, blob) for name, blob in zip(names, blobs) if blob is not None)
        return rows[::-1], max((int(number) for _, number in found), default=after)

    async def purge(self, release: str, now: float) -> None:  # noqa: ARG002 - Redis forgets what expired by itself
        """See CacheStore."""
        async with _guard():
            names = [name.decode() for name in await self._redis.zrange(_ORDER, 0, -1)]
            for start in range(0, len(names), _PAGE):
                page = names[start : start + _PAGE]
                blobs = await self._redis.mget([_name(name) for name in page])
                gone = [name for name, blob in zip(page, blobs) if blob is None or _release(blob) != release]
                if gone:
                    await self._forget_script(keys=[_ORDER, _MEANT, _SIZES, _TOTAL], args=[_name(""), *gone])

    async def aclose(self) -> None:
        await self._redis.aclose()

    async def totals(self) -> tuple[int, int]:
        """Rows and bytes that are counted."""
        async with _guard():
            return int(await self._redis.zcard(_ORDER)), int(await self._redis.get(_TOTAL) or 0)


@asynccontextmanager
async def _guard() -> AsyncIterator[None]:
    from redis.exceptions import RedisError

    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailable(
            f"Redis keeps no answers now ({type(error).__name__}); check that it runs where the cache's redis points"
        ) from None


def _name(key: str) -> str:
    return f"{_ROOT}:row:{key}"


def _blob(row: Row) -> bytes:
    header = {"release": row.release, "model": row.model, "group": row.group, "expires": row.expires}
    vector = b"" if row.vector is None else row.vector.astype(np.float32).tobytes()
    return b"\n".join((json.dumps(header).encode(), result_json(row.result).encode(), vector))


def _header(blob: bytes) -> dict[str, Any]:
    """Raises ValueError."""
    header = json.loads(blob.split(b"\n", 1)[0])
    if not isinstance(header, dict) or not {"release", "model", "group", "expires"} <= header.keys():
        raise ValueError("a cached answer in Redis has another form than was written; it is asked again")
    return header


def _release(blob: bytes) -> str | None:
    try:
        return str(_header(blob)["release"])
    except ValueError:
        return None


def _read(key: str, blob: bytes) -> Row:
    header = _header(blob)
    result, vector = blob.split(b"\n", 2)[1:]
    return Row(
        key,
        str(header["release"]),
        str(header["model"]),
        read_result(result),
        float(header["expires"]),
        str(header["group"]),
        np.frombuffer(vector, np.float32) if vector else None,
    )
