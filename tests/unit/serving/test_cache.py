"""Answers of equal and of near questions: which are given again, which never, and how much is kept."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from models.ports import LLMResult
from serving.gateway.cache import CacheConfig, TieredCache, open_store
from serving.gateway.cachestore import CacheStore, Row, SqliteStore, read_result, result_json
from serving.gateway.ports import Ask
from tests.unit.serving.caching import SCHEMA, Clock, DeadStore, ask, result


def cache(store: CacheStore | None = None, clock: Clock | None = None, **config: Any) -> TieredCache:
    return TieredCache(CacheConfig(**{"ttl_s": 100.0, **config}), "r1", store, clock or Clock())


async def answered(cache: TieredCache, question: Ask, label: str = "CHEESE", model: str = "m") -> None:
    cache.put(question, model, result(label))


async def test_an_equal_question_is_answered_with_its_tokens() -> None:
    kept = cache()
    await answered(kept, ask())
    hit = await kept.get(ask(), ["m"])
    assert hit is not None
    assert (hit.result, hit.how, hit.model) == (result(), "exact", "m")


@pytest.mark.parametrize(
    "other",
    [
        ask("Gouda"),
        ask(schema=None),
        ask(schema={**SCHEMA, "title": "other"}),
        ask(temperature=0.5),
        ask(seed=1),
    ],
)
async def test_whatever_decides_the_answer_is_part_of_the_question(other: Ask) -> None:
    kept = cache()
    await answered(kept, ask())
    assert await kept.get(other, ["m"]) is None


async def test_models_are_asked_in_the_order_they_are_named_and_no_others() -> None:
    kept = cache()
    await answered(kept, ask(), "CHEESE", "small")
    await answered(kept, ask(), "MILK", "large")
    first = await kept.get(ask(), ["large", "small"])
    assert first is not None
    assert (first.model, first.result) == ("large", result("MILK"))
    assert await kept.get(ask(), ["other"]) is None


async def test_a_partition_sees_nothing_of_another() -> None:
    kept = cache(agreeing=1)
    kept.put(ask(degrees=0), "m", result(), "tenant-a")
    assert await kept.get(ask(degrees=0), ["m"], "tenant-b") is None
    assert await kept.get(ask("Gouda", degrees=1), ["m"], "tenant-b") is None
    assert await kept.get(ask("Gouda", degrees=1), ["m"], "tenant-a") is not None


@pytest.mark.parametrize("bad", [result(finish="length"), result(text=" \n", tokens=())])
async def test_a_cut_off_or_empty_answer_is_not_kept(bad: LLMResult) -> None:
    kept = cache()
    kept.put(ask(), "m", bad)
    assert await kept.get(ask(), ["m"]) is None


async def test_what_the_check_refuses_by_now_is_no_hit() -> None:
    kept = cache()
    await answered(kept, ask())
    assert await kept.get(ask(check=lambda _: "unknown_id"), ["m"]) is None
    assert await kept.get(ask(check=lambda _: ""), ["m"]) is not None


async def test_an_answer_expires() -> None:
    clock = Clock()
    kept = cache(clock=clock)
    await answered(kept, ask(degrees=0))
    await answered(kept, ask("Brie", degrees=0))
    clock.now += 99
    assert await kept.get(ask(), ["m"]) is not None
    assert await kept.get(ask("Gouda", degrees=1), ["m"]) is not None
    clock.now += 2
    assert await kept.get(ask(), ["m"]) is None
    assert await kept.get(ask("Gouda", degrees=1), ["m"]) is None


async def test_memory_is_bounded_and_keeps_what_was_used_last() -> None:
    kept = cache(entries=2)
    await answered(kept, ask("a"))
    await answered(kept, ask("b"))
    await kept.get(ask("a"), ["m"])
    await answered(kept, ask("c"))
    assert [await kept.get(ask(name), ["m"]) is not None for name in "abc"] == [True, False, True]


async def test_memory_is_bounded_in_bytes() -> None:
    kept = cache(mib=1)
    for number in range(40):
        kept.put(ask(str(number)), "m", result(text='"' + "x" * 20_000 + '"', tokens=()))
    held = [await kept.get(ask(str(number)), ["m"]) is not None for number in range(40)]
    assert held == [False] * 27 + [True] * 13  # 80,264 bytes each


# Near questions


async def test_a_near_question_is_answered_where_two_agree() -> None:
    kept = cache()
    await answered(kept, ask("Cheddar", degrees=0))
    assert await kept.get(ask("Gouda", degrees=2), ["m"]) is None
    await answered(kept, ask("Brie", degrees=1))
    hit = await kept.get(ask("Gouda", degrees=2), ["m"])
    assert hit is not None
    assert (hit.how, hit.result) == ("semantic", result())


async def test_near_questions_that_differ_in_their_answer_decide_nothing() -> None:
    kept = cache()
    await answered(kept, ask("Cheddar", degrees=0))
    await answered(kept, ask("Brie", degrees=1))
    await answered(kept, ask("Cheese milk", degrees=3), "MILK")
    assert await kept.get(ask("Gouda", degrees=2), ["m"]) is None


@pytest.mark.parametrize(
    "far",
    [
        ask("Gouda", degrees=40),
        ask("Gouda", degrees=2, scope="cold_start"),
        ask("Gouda", degrees=2, schema={**SCHEMA, "properties": {"tags": {"items": {"enum": ["MILK"]}}}}),
        ask("Gouda", degrees=2, check=lambda _: "taxonomy"),
        ask("Gouda"),
    ],
    ids=["not near", "another scope", "answer not allowed", "check refuses", "no meaning"],
)
async def test_a_near_answer_must_be_allowed_for_this_question(far: Ask) -> None:
    kept = cache()
    await answered(kept, ask("Cheddar", degrees=0))
    await answered(kept, ask("Brie", degrees=1))
    assert await kept.get(far, ["m"]) is None


async def test_near_answers_are_of_the_model_that_is_named() -> None:
    kept = cache()
    await answered(kept, ask("Cheddar", degrees=0), model="vendor")
    await answered(kept, ask("Brie", degrees=1), model="vendor")
    assert await kept.get(ask("Gouda", degrees=2), ["in house"]) is None


async def test_near_questions_can_be_switched_off() -> None:
    kept = cache(semantic=False, agreeing=1)
    await answered(kept, ask("Cheddar", degrees=0))
    assert await kept.get(ask("Gouda", degrees=0), ["m"]) is None


async def test_a_scope_forgets_its_oldest_question() -> None:
    kept = cache(agreeing=1, scope_rows=2)
    for degrees in (0, 45, 90):
        await answered(kept, ask(f"at {degrees}", degrees=degrees))
    found = [await kept.get(ask("Gouda", degrees=degrees), ["m"]) is not None for degrees in (0, 45, 90)]
    assert found == [False, True, True]


# The store behind


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.db"


async def test_another_replica_and_a_restart_find_what_was_answered(path: Path) -> None:
    clock = Clock()
    first = cache(SqliteStore(path, 100, 2**20), clock)
    second = cache(SqliteStore(path, 100, 2**20), clock, sync_s=5.0)
    await second.start()
    await answered(first, ask(degrees=0))
    await answered(first, ask("Brie", degrees=1))
    await first.aclose()
    clock.now += 5
    await second.get(ask("Gouda", degrees=2), ["m"])  # notices that it is time to look
    await second.flush()
    hit = await second.get(ask(), ["m"])
    assert hit is not None
    assert hit.result == result()
    await second.aclose()
    third = cache(SqliteStore(path, 100, 2**20), clock)
    await third.start()
    near = await third.get(ask("Gouda", degrees=2), ["m"])
    assert near is not None
    assert near.how == "semantic"
    await third.aclose()


async def test_store_knows_what_others_put_once_it_has_looked(path: Path) -> None:
    ours, theirs = SqliteStore(path, 3, 2**20), SqliteStore(path, 3, 2**20)
    rows = [Row(f"{number:015x}{0:017x}", "r", "m", result(), 2e9) for number in range(9)]
    await theirs.put(rows[:3], 1e9)
    assert await ours.get(rows[0].key) is None
    await ours.learn()
    found = await ours.get(rows[0].key)
    assert found is not None
    assert found.result == rows[0].result
    await theirs.put(rows[3:6], 1e9)
    await ours.learn()
    assert await ours.get(rows[0].key) is None, "it made room"
    assert await ours.get(rows[5].key) is not None
    await theirs.put(rows[6:], 1e9)
    await ours.learn()  # of nine keys six are gone: forgets all and reads what there is
    await ours.learn()
    assert len(ours._known) == 3
    await ours.aclose()
    await theirs.aclose()


async def test_a_running_replica_learns_near_questions_of_another(path: Path) -> None:
    clock = Clock()
    first = cache(SqliteStore(path, 100, 2**20), clock)
    second = cache(SqliteStore(path, 100, 2**20), clock, sync_s=5.0)
    await answered(first, ask(degrees=0))
    await answered(first, ask("Brie", degrees=1))
    await first.flush()
    assert await second.get(ask("Gouda", degrees=2), ["m"]) is None
    clock.now += 5
    assert await second.get(ask("Gouda", degrees=2), ["m"]) is None  # looks, and does not wait for it
    await second.flush()
    assert await second.get(ask("Gouda", degrees=2), ["m"]) is not None
    await first.aclose()
    await second.aclose()


async def test_a_new_release_finds_nothing_of_the_old_one_and_purges_it(path: Path) -> None:
    old = cache(SqliteStore(path, 100, 2**20))
    await answered(old, ask(degrees=0))
    await old.aclose()
    store = SqliteStore(path, 100, 2**20)
    new = TieredCache(CacheConfig(agreeing=1), "r2", store, Clock())
    await new.start()
    assert store.totals() == (0, 0)
    assert await new.get(ask(degrees=0), ["m"]) is None
    await new.aclose()


async def test_the_file_is_bounded_in_entries_and_bytes(path: Path) -> None:
    store = SqliteStore(path, entries=10, size=2**20)
    kept = cache(store, entries=0)
    for number in range(30):
        await answered(kept, ask(str(number)))
    await kept.flush()
    assert store.totals()[0] == 10
    assert [await kept.get(ask(str(number)), ["m"]) is not None for number in (19, 20, 29)] == [False, True, True]
    for number in range(30):
        kept.put(ask(str(number)), "m", result(text='"' + "x" * 50_000 + '"', tokens=()))
    await kept.flush()
    entries, size = store.totals()
    assert (entries, size <= 2**20) == (5, True)  # 200,264 bytes each
    await kept.aclose()


async def test_a_dead_store_is_a_miss_and_is_left_alone_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    store, clock = DeadStore(), Clock()
    kept = cache(store, clock, rest_s=5.0)
    await kept.start()
    for number in range(20):
        assert await kept.get(ask(str(number)), ["m"]) is None
    await answered(kept, ask())
    assert await kept.get(ask(), ["m"]) is not None  # from memory
    await kept.flush()
    assert store.calls == 1
    assert "goes on without its store" in caplog.text
    clock.now += 5
    assert await kept.get(ask("later"), ["m"]) is None
    assert store.calls == 2
    await kept.aclose()


async def test_a_damaged_row_is_a_miss(path: Path) -> None:
    kept = cache(SqliteStore(path, 100, 2**20), entries=0)
    await answered(kept, ask())
    await kept.aclose()
    with sqlite3.connect(path) as file:
        file.execute("UPDATE answers SET result = '{}'")
    file.close()
    again = cache(SqliteStore(path, 100, 2**20))
    assert await again.get(ask(), ["m"]) is None
    await again.aclose()


def test_a_file_that_cannot_be_opened_leaves_the_memory(tmp_path: Path) -> None:
    (tmp_path / "cache.db").write_bytes(b"no database" * 100)
    assert open_store(CacheConfig(), tmp_path / "cache.db") is None
    assert open_store(CacheConfig(kind="memory"), tmp_path / "other.db") is None


def test_a_result_is_read_as_it_was_written() -> None:
    assert read_result(result_json(result())) == result()
    for bad in ("", "[]", '["a", "b", 1, []]', '{"a": 1}', '["a", 1, 1, [["t"]]]'):
        with pytest.raises(ValueError, match="asked again"):
            read_result(bad)
