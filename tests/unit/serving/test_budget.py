"""Budgets hold: in one process, in several at once, after a restart and after a kill."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from features.errors import StoreUnavailable
from models.errors import EngineTimeout, EngineUnavailable
from models.ports import LLMRequest
from serving.errors import BudgetExceeded
from serving.gateway.budget import UNIT, Booking, Bound, Spent, bounds_of, prompt_bound, read_spent, units
from serving.gateway.config import BudgetConfig, TargetConfig
from serving.gateway.gateway import Gateway
from serving.gateway.ledger import Ledger
from tests.fakes import FakeLLM
from tests.unit.serving.gateways import Hand, Watched, ask, gateway

NOON = 1_800_000_000.0
DAY = "2027-01-15"


def booking(tenant: str = "acme", job: str = "") -> Booking:
    return Booking(DAY, tenant, "tag", job, "a", "a-model")


def bounds(tokens: int | None = 1_000, *, tenant: str = "acme", job: str = "", **limit: Any) -> tuple[Bound, ...]:
    config = BudgetConfig.model_validate({"tenant": {"tokens_per_day": tokens}, "job": limit})
    return bounds_of(config, tenant, job, DAY)


@pytest_asyncio.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    one = Ledger(tmp_path / "ledger.db", wall=Hand(NOON))
    yield one
    await one.aclose()


async def test_reservation_is_refused_where_the_rest_does_not_hold_it(ledger: Ledger) -> None:
    first = await ledger.reserve(booking(), 600, 0, bounds())
    with pytest.raises(BudgetExceeded, match="tenant 'acme' on 2027-01-15 is 1000 tokens: 600 are spent or reserved"):
        await ledger.reserve(booking(), 401, 0, bounds())
    await ledger.reserve(booking("other"), 900, 0, bounds(tenant="other"))
    ledger.settle(first, Spent(1, 100, 50))
    await ledger.reserve(booking(), 850, 0, bounds())
    with pytest.raises(BudgetExceeded):
        await ledger.reserve(booking(), 1, 0, bounds())


async def test_money_is_bounded_as_tokens_are(ledger: Ledger) -> None:
    limit = bounds(None, job="j", cost_total=1.0)
    held = await ledger.reserve(booking(job="j"), 10, int(0.9 * UNIT), limit)
    with pytest.raises(BudgetExceeded, match=r"budget of job 'j' is 1: 0\.9 are spent or reserved.*0\.2"):
        await ledger.reserve(booking(job="j"), 10, int(0.2 * UNIT), limit)
    ledger.settle(held, Spent(1, 5, 5, 0, int(0.3 * UNIT)))
    await ledger.reserve(booking(job="j"), 10, int(0.7 * UNIT), limit)


async def test_reservations_of_one_moment_share_the_rest(ledger: Ledger) -> None:
    tries = [ledger.reserve(booking(), 300, 0, bounds()) for _ in range(10)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert [isinstance(outcome, BudgetExceeded) for outcome in outcomes] == [False] * 3 + [True] * 7


async def test_refused_reservation_holds_nothing_anywhere(ledger: Ledger) -> None:
    limit = bounds(1_000, job="j", tokens_total=100)
    with pytest.raises(BudgetExceeded, match="job 'j' is 100"):
        await ledger.reserve(booking(job="j"), 500, 0, limit)
    await ledger.reserve(booking(), 1_000, 0, bounds())


async def test_job_keeps_its_total_over_days_and_a_tenant_gets_a_new_day(ledger: Ledger) -> None:
    config = BudgetConfig.model_validate({"tenant": {"tokens_per_day": 100}, "job": {"tokens_total": 150}})
    for day, fits in (("2027-01-15", True), ("2027-01-16", True), ("2027-01-17", False)):
        limit = bounds_of(config, "acme", "j", day)
        if fits:
            held = await ledger.reserve(Booking(day, "acme", "tag", "j", "a", "m"), 70, 0, limit)
            ledger.settle(held, Spent(1, 70, 0))
        else:
            with pytest.raises(BudgetExceeded, match="job 'j' is 150 tokens: 140"):
                await ledger.reserve(Booking(day, "acme", "tag", "j", "a", "m"), 70, 0, limit)


async def test_caller_that_goes_away_takes_nothing_with_him(ledger: Ledger) -> None:
    for turns in range(4):
        task = asyncio.ensure_future(ledger.reserve(booking(), 1_000, 0, bounds()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        if not isinstance(outcome, BaseException):
            ledger.settle(outcome, Spent())
        await ledger.flush()
    ledger.settle(await ledger.reserve(booking(), 1_000, 0, bounds()), Spent())


async def test_what_is_spent_is_found_again_after_a_restart(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "ledger.db", wall=Hand(NOON))
    first.settle(await first.reserve(booking(), 800, 5, bounds()), Spent(1, 500, 200, 0, 3))
    await first.aclose()
    second = Ledger(tmp_path / "ledger.db", wall=Hand(NOON))
    with pytest.raises(BudgetExceeded, match="700 are spent"):
        await second.reserve(booking(), 301, 0, bounds())
    row = second.spent(DAY, DAY).row(0, named=True)
    assert row == {
        "day": DAY,
        "tenant": "acme",
        "task": "tag",
        "job": "",
        "target": "a",
        "model": "a-model",
        "calls": 1,
        "prompt_tokens": 500,
        "completion_tokens": 200,
        "assumed_tokens": 0,
        "cost": pytest.approx(3 / UNIT),
    }
    assert second.spent("2027-01-16").is_empty()
    await second.aclose()


async def test_process_that_ends_well_leaves_nothing_to_be_found_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "ledger.db", Hand(NOON)
    first, second = Ledger(path, wall=clock), Ledger(path, wall=clock)
    for ledger in (first, second):
        ledger.settle(await ledger.reserve(booking(), 10, 0, bounds()), Spent(1, 10, 0))
    await first.aclose()
    clock.now += 1_000.0
    held = await second.reserve(booking(), 10, 0, bounds())
    assert caplog.records == []
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM owner").fetchone() == (1,)
    db.close()
    second.settle(held, Spent())
    await second.aclose()


async def test_without_limits_nothing_is_waited_for_and_all_is_booked(ledger: Ledger) -> None:
    none = bounds(None)
    coroutine = ledger.reserve(booking(), 10**9, 0, none)
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    ledger.settle(done.value.value, Spent(1, 7, 3))
    await ledger.flush()
    assert ledger.spent()["prompt_tokens"].to_list() == [7]
    with pytest.raises(BudgetExceeded, match="10 are spent"):
        await ledger.reserve(booking(), 1, 0, bounds(10))


async def test_spending_is_read_without_a_service(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    assert read_spent(path, 7).is_empty()
    ledger = Ledger(path, wall=Hand(NOON))
    for tenant, day in (("acme", DAY), ("other", DAY), ("acme", "2027-01-08")):
        where = Booking(day, tenant, "tag", "", "a", "a-model")
        ledger.settle(await ledger.reserve(where, 1, 0, bounds(None, tenant=tenant)), Spent(1, 10, 5, 0, UNIT // 2))
    await ledger.flush()
    week = read_spent(path, 7, today=DAY)
    assert week.select("day", "tenant", "cost").rows() == [(DAY, "acme", 0.5), (DAY, "other", 0.5)]
    assert read_spent(path, 8, "acme", today=DAY)["day"].to_list() == ["2027-01-08", DAY]
    await ledger.aclose()
    path.write_bytes(b"not a database")
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        read_spent(path, 7)


def _spender(path: str, rounds: int, ready: Any, granted: Any) -> None:
    async def run() -> int:
        ledger = Ledger(Path(path), wall=Hand(NOON))
        count = 0
        ready.wait()
        for _ in range(rounds):
            tries = [ledger.reserve(booking(), 30, 0, bounds()) for _ in range(3)]
            for outcome in await asyncio.gather(*tries, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    assert isinstance(outcome, BudgetExceeded)
                    continue
                count += 1
                ledger.settle(outcome, Spent(1, 9, 1))
        await ledger.aclose()
        return count

    granted.put(asyncio.run(run()))


def test_processes_that_spend_at_once_keep_within_one_budget(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    context = multiprocessing.get_context("fork")
    ready, granted = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_spender, args=(str(path), 40, ready, granted)) for _ in range(3)]
    for process in processes:
        process.start()
    counts = [granted.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    with sqlite3.connect(path) as db:
        spent = db.execute("SELECT tokens FROM account WHERE scope = 'tenant' AND period <> ''").fetchone()[0]
        held = db.execute("SELECT count(*) FROM held").fetchone()[0]
    db.close()
    assert spent == 10 * sum(counts) <= 1_000
    assert 1_000 - spent < 30, "what was left did not hold one more reservation"
    assert held == 0


async def test_calls_that_follow_closely_share_a_transaction(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger, other = Ledger(path, wall=Hand(NOON)), Ledger(path, wall=Hand(NOON))
    limit = bounds(64_000)
    for _ in range(100):
        ledger.settle(await ledger.reserve(booking(), 20, 0, limit), Spent(1, 8, 2))
    assert ledger._transactions < 50
    await ledger.flush()
    assert ledger.spent()["calls"].to_list() == [100]
    # At most a 64th of what was left is out of others' reach, and only while calls come.
    with pytest.raises(BudgetExceeded):
        await other.reserve(booking(), 63_001, 0, limit)
    other.settle(await other.reserve(booking(), 62_000, 0, limit), Spent())
    async with asyncio.timeout(10):
        while True:
            try:
                other.settle(await other.reserve(booking(), 63_000, 0, limit), Spent())
                break
            except BudgetExceeded:
                await asyncio.sleep(0.02)
    await ledger.aclose()
    await other.aclose()


async def test_a_burst_after_a_pause_needs_no_transaction_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.gateway.ledger._LINGER_S", 30.0)
    ledger, limit = Ledger(tmp_path / "ledger.db", wall=Hand(NOON)), bounds(640_000)

    async def burst() -> None:
        held = await asyncio.gather(*(ledger.reserve(booking(), 20, 0, limit) for _ in range(32)))
        for one in held:
            ledger.settle(one, Spent(1, 8, 2))

    await burst()
    await burst()
    await ledger.flush()
    before = ledger._transactions
    await burst()
    assert ledger._transactions == before
    await ledger.aclose()
    assert ledger.held == {}
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        assert db.execute("SELECT count(*) FROM held").fetchone() == (0,)
        assert db.execute("SELECT sum(calls) FROM spend").fetchone() == (96,)
    db.close()


async def test_what_was_set_aside_is_given_back_when_no_burst_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.gateway.ledger._LINGER_S", 0.3)
    path = tmp_path / "ledger.db"
    ledger, limit = Ledger(path, wall=Hand(NOON)), bounds(640_000)
    for _ in range(50):
        ledger.settle(await ledger.reserve(booking(), 20, 0, limit), Spent(1, 8, 2))
    await ledger.flush()
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*) FROM held").fetchone() > (0,)
    async with asyncio.timeout(10):
        while db.execute("SELECT count(*) FROM held").fetchone() != (0,):
            await asyncio.sleep(0.02)
    db.close()
    await ledger.aclose()


async def test_what_is_set_aside_for_calls_to_come_is_never_more_than_the_budget_has(tmp_path: Path) -> None:
    path, limit = tmp_path / "ledger.db", bounds(5_000)
    ledgers = [Ledger(path, wall=Hand(NOON)) for _ in range(3)]
    granted = 0

    async def spend(ledger: Ledger) -> None:
        nonlocal granted
        while True:
            try:
                held = await ledger.reserve(booking(), 10, 0, limit)
            except BudgetExceeded:
                return
            granted += 1
            await asyncio.sleep(0)
            ledger.settle(held, Spent(1, 10, 0))

    await asyncio.gather(*(spend(ledger) for ledger in ledgers for _ in range(4)))
    for ledger in ledgers:
        await ledger.aclose()
    assert granted * 10 <= 5_000
    assert granted * 10 > 5_000 - 3 * 4 * 10 - 5_000 / 64
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM held").fetchone() == (0,)
    db.close()


def _dies_spending(path: str, booked: bool) -> None:
    async def run() -> None:
        ledger = Ledger(Path(path), wall=Hand(NOON))
        done = await ledger.reserve(booking(), 300, 2, bounds())
        ledger.settle(done, Spent(1, 100, 0))
        if booked:
            await ledger.flush()
        await ledger.reserve(booking(), 400, 7, bounds())
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(run())


@pytest.mark.parametrize(("booked", "unclear"), [(True, 400), (False, 500)])
async def test_what_a_killed_process_held_is_kept_and_then_booked(tmp_path: Path, booked: bool, unclear: int) -> None:
    path = tmp_path / "ledger.db"
    process = multiprocessing.get_context("fork").Process(target=_dies_spending, args=(str(path), booked))
    process.start()
    await asyncio.to_thread(process.join)
    clock = Hand(NOON + 60)
    ledger = Ledger(path, wall=clock, stale_s=120.0)
    with pytest.raises(BudgetExceeded, match="500 are spent or reserved"):
        await ledger.reserve(booking(), 501, 0, bounds())
    clock.now = NOON + 200
    with pytest.raises(BudgetExceeded, match="500 are spent or reserved"):
        await ledger.reserve(booking(), 501, 0, bounds())
    lost = ledger.spent().filter(task="(lost)").row(0, named=True)
    assert (lost["assumed_tokens"], lost["cost"]) == (unclear, pytest.approx(7 / UNIT))
    await ledger.aclose()


async def test_other_process_in_the_way_is_waited_for_without_stopping_the_loop(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db", wall=Hand(NOON))
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.ensure_future(ledger.reserve(booking(), 10, 0, bounds()))
    started = time.perf_counter()
    await asyncio.sleep(0.05)
    assert time.perf_counter() - started < 1.0
    assert not waiting.done()
    other.execute("COMMIT")
    other.close()
    ledger.settle(await waiting, Spent(1, 3, 4))
    await ledger.aclose()
    assert read_spent(tmp_path / "ledger.db", 1, today=DAY)["calls"].to_list() == [1]


async def test_all_that_is_settled_can_be_written_at_any_moment_of_a_busy_day(ledger: Ledger) -> None:
    async def spend(rounds: int) -> None:
        for _ in range(rounds):
            ledger.settle(await ledger.reserve(booking(), 5, 0, bounds(10**9)), Spent(1, 2, 3))

    busy = asyncio.gather(*(spend(200) for _ in range(8)))
    for _ in range(5):
        await asyncio.sleep(0.01)
        await ledger.flush()
    await busy
    await ledger.flush()
    assert ledger.spent().select("calls", "prompt_tokens", "completion_tokens").row(0) == (1_600, 3_200, 4_800)
    assert ledger.held == {}


async def test_file_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="ledger of LLM budgets"):
        Ledger(tmp_path / "file" / "ledger.db")


async def test_ledger_that_breaks_stops_spending_and_costs_no_answer_its_books(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db", wall=Hand(NOON))
    llm = FakeLLM("yes")
    tables = {"budgets": {"tenant": {"tokens_per_day": 1_000}}}  # too little to set anything aside
    one = gateway({"a": llm.generate}, tables, ledger=ledger)
    await one.ask(ask(tenant="acme"))
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute("ALTER TABLE account RENAME TO gone")
    with pytest.raises(EngineUnavailable, match="budgets of LLMs cannot be checked"):
        await one.ask(ask(tenant="acme"))
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute("ALTER TABLE gone RENAME TO account")
    await one.ask(ask(tenant="acme"))
    await ledger.flush()
    assert ledger.spent()["calls"].to_list() == [2]
    assert len(llm.requests) == 2
    await one.aclose()


def test_prompt_has_no_more_tokens_than_bytes_and_the_template() -> None:
    assert prompt_bound(LLMRequest("é", "日本", 5), 64) == 2 + 6 + 64


def test_schema_counts_where_an_endpoint_may_put_it_into_the_prompt() -> None:
    request = LLMRequest("", "x", 5, {"enum": ["日"]})
    assert prompt_bound(request, 0) == 1
    assert prompt_bound(request, 0, with_schema=True) >= 1 + len('{"enum": ["日"]}'.encode())


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.floats(0, 100), st.floats(0, 100))
def test_worst_case_costs_at_least_what_any_answer_does(prompt: int, output: int, low: float, high: float) -> None:
    config = TargetConfig(price_per_1k_prompt=low, price_per_1k_completion=high)
    assert units(config, prompt, output) <= units(config, prompt + 3, output + 5)


class TestThroughTheGateway:
    """The reservation of an ask below: 15 bytes of prompt, 64 of template, 20 to generate: 99 tokens."""

    def gateway(self, ledger: Ledger, provider: Any, tokens: int, **target: Any) -> Gateway:
        tables = {"targets": {"a": target}, "budgets": {"tenants": {"acme": {"tokens_per_day": tokens}}}}
        return gateway({"a": provider}, tables, ledger=ledger)

    async def test_over_budget_nothing_is_sent(self, ledger: Ledger) -> None:
        llm = FakeLLM("yes")
        one = self.gateway(ledger, llm.generate, 98)
        with pytest.raises(BudgetExceeded, match="98 tokens: 0 are spent or reserved and this call may take 99"):
            await one.ask(ask(tenant="acme"))
        assert not llm.requests
        await one.ask(ask(tenant="free"))

    async def test_budget_of_money_at_a_vendor_leaves_the_house(self, ledger: Ledger) -> None:
        dear, free = FakeLLM("dear"), FakeLLM("free")
        tables = {
            "targets": {"dear": {"price_per_1k_completion": 1.0}, "free": {}},
            "budgets": {"tenant": {"cost_per_day": 0.01}},
        }
        one = gateway({"dear": dear.generate, "free": free.generate}, tables, ledger=ledger)
        assert (await one.ask(ask(tenant="acme"))).target == "free"

    async def test_exactly_what_engines_counted_is_booked(self, ledger: Ledger) -> None:
        llm = FakeLLM(lambda request: "x" * len(request.user))
        one = self.gateway(ledger, llm.generate, 10_000)
        await asyncio.gather(*(one.ask(ask("y" * n, tenant="acme")) for n in range(1, 20)))
        await ledger.flush()
        row = ledger.spent().row(0, named=True)
        assert (row["prompt_tokens"], row["completion_tokens"]) == (19 * 8 + sum(range(1, 20)), sum(range(1, 20)))

    async def test_call_nobody_knows_the_end_of_is_booked_at_its_worst(self, ledger: Ledger) -> None:
        one = self.gateway(ledger, Watched(), 10_000)
        with pytest.raises(EngineTimeout):
            await one.ask(ask(tenant="acme", budget_s=0.02))
        call = asyncio.create_task(one.ask(ask(tenant="acme")))
        await asyncio.sleep(0.02)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await ledger.flush()
        assert ledger.spent().row(0, named=True)["assumed_tokens"] == 2 * 99

    async def test_call_that_was_turned_away_costs_nothing(self, ledger: Ledger) -> None:
        one = self.gateway(ledger, FakeLLM(lambda _: EngineUnavailable("HTTP 500")).generate, 10_000)
        with pytest.raises(EngineUnavailable):
            await one.ask(ask(tenant="acme"))
        await ledger.flush()
        assert ledger.spent().is_empty()
        assert ledger.held == {}

    async def test_engine_that_declined_is_paid_what_it_counted(self, ledger: Ledger) -> None:
        refusal = EngineUnavailable("declined", usage=(15, 2))
        one = self.gateway(ledger, FakeLLM(lambda _: refusal).generate, 10_000)
        with pytest.raises(EngineUnavailable):
            await one.ask(ask(tenant="acme"))
        await ledger.flush()
        calls = ledger.spent().row(0, named=True)["calls"]
        assert ledger.spent().row(0, named=True)["prompt_tokens"] == 15 * calls
