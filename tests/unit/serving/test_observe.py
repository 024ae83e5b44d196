"""Metrics, log lines and the context store as the gateway's events make them; nothing they do reaches a request."""

from __future__ import annotations

import json
import sqlite3
import threading
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from models.ports import LLMRequest
from serving.errors import NotReady
from serving.gateway.contexts import ContextConfig, ContextStore, read_contexts, results_by_prompt
from serving.gateway.logs import AskLog, LogFile
from serving.gateway.metrics import OTHER, Metrics, MetricsServer
from serving.gateway.observe import Drain, Observers, Part, safe_id
from serving.gateway.ports import Ask, Attempt, Outcome
from tests.unit.serving.observed import Clock, MailRedactor, answered, ask, attempt, failed, one_ask


def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def value(of: Metrics, name: str, **labels: str) -> float:
    """A sample of the registry; 0 where there is none yet."""
    return of.registry.get_sample_value(f"tandem_{name}", labels) or 0.0


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_an_ask_with_a_retry_and_a_repair_is_counted_once_with_all_its_tokens() -> None:
    told = metrics()
    calls = [
        attempt(error="EngineUnavailable", completion_tokens=0, cost=0.0),
        attempt(problem="malformed", first_token_s=0.05),
        attempt(repair=True, target="vendor", model="big"),
    ]
    one_ask(told, ask(tenant="shop"), calls, Outcome(answered().answer, "", 0.603, 3))
    assert value(told, "llm_ask_seconds_count", task="tag", outcome="answered") == 1
    assert value(told, "llm_tokens_total", tenant="shop", task="tag", kind="prompt") == 300
    assert value(told, "llm_tokens_total", tenant="shop", task="tag", kind="completion") == 24
    assert value(told, "llm_cost_total", tenant="shop", task="tag") == pytest.approx(0.002)
    assert value(told, "llm_retries_total", task="tag") == 2
    assert value(told, "llm_repairs_total", model="big", prompt="tag@1") == 1
    assert value(told, "llm_problems_total", model="smol", prompt="tag@1", problem="malformed") == 1
    assert value(told, "llm_calls_total", target="default", model="smol", error="EngineUnavailable") == 1
    assert value(told, "llm_first_token_seconds_count", target="default") == 1
    assert value(told, "llm_output_tokens_count", task="tag", prompt="tag@1") == 2
    assert value(told, "llm_tokens_per_second_sum", target="vendor") == pytest.approx(12 / 0.2)


def test_overhead_is_the_ask_without_its_engines_and_without_shadows() -> None:
    told = metrics()
    calls = [attempt(seconds=0.2), attempt(seconds=9.0, shadow=True, target="canary")]
    one_ask(told, ask(), calls, answered(seconds=0.2015))
    assert value(told, "llm_overhead_seconds_sum", task="tag") == pytest.approx(0.0015)
    assert value(told, "llm_shadow_calls_total", target="canary", error="") == 1
    assert value(told, "llm_calls_total", target="canary", model="smol", error="") == 0
    assert value(told, "llm_tokens_total", tenant="", task="tag", kind="prompt") == 200


def test_cache_hits_errors_and_budget_refusals_are_told_apart() -> None:
    told = metrics()
    for how in ("exact", "semantic", "exact"):
        one_ask(told, ask(), [], answered(seconds=0.0004, cache=how))
    one_ask(told, ask(tenant="shop"), [], failed("BudgetExceeded", attempts=0))
    one_ask(told, ask(), [attempt(error="EngineTimeout")], failed("EngineTimeout"))
    assert value(told, "llm_cache_total", task="tag", how="exact") == 2
    assert value(told, "llm_cache_total", task="tag", how="semantic") == 1
    assert value(told, "llm_ask_seconds_count", task="tag", outcome="cached") == 3
    assert value(told, "llm_ask_seconds_count", task="tag", outcome="failed") == 2
    assert value(told, "llm_budget_refusals_total", tenant="shop", task="tag") == 1
    assert value(told, "llm_errors_total", task="tag", error="EngineTimeout") == 1


def test_breaker_and_queue_show_the_state_of_now() -> None:
    told = metrics()
    for state, number in (("open", 2), ("half_open", 1), ("closed", 0)):
        told.breaker("vendor", state)  # type: ignore[arg-type]
        assert value(told, "llm_breaker_state", target="vendor") == number
    assert value(told, "llm_breaker_changes_total", target="vendor", state="open") == 1
    told.queued("vendor", 7)
    told.queued("vendor", 3)
    assert value(told, "llm_running", target="vendor") == 3


def test_a_thousand_tenants_make_no_thousand_series() -> None:
    told = Metrics(CollectorRegistry(), tenants=5)
    for number in range(1_000):
        one_ask(told, ask(tenant=f"tenant-{number}"), [attempt()], answered())
    series = {
        sample.labels["tenant"]
        for family in told.registry.collect()
        for sample in family.samples
        if sample.name == "tandem_llm_cost_total"
    }
    assert len(series) == 6
    assert value(told, "llm_cost_total", tenant=OTHER, task="tag") == pytest.approx(0.995)


def test_metrics_are_served_each_process_at_a_port_of_its_own() -> None:
    first = metrics()
    first.rpc("Tag", "OK", 0.012)
    with_first = MetricsServer(first.registry, "127.0.0.1", 19_464, 20)
    second = MetricsServer(metrics().registry, "127.0.0.1", 19_464, 20)
    try:
        assert second.port > with_first.port
        with urllib.request.urlopen(f"http://127.0.0.1:{with_first.port}/metrics", timeout=5) as reply:
            text = reply.read().decode()
        assert 'tandem_rpc_seconds_bucket{code="OK",le="0.015",method="Tag"} 1.0' in text
        with pytest.raises(NotReady, match=rf"no port of {second.port}-{second.port} .* is free"):
            MetricsServer(first.registry, "127.0.0.1", second.port, 1)
    finally:
        with_first.close()
        second.close()
    assert not [thread for thread in threading.enumerate() if "serve_forever" in thread.name]


# --- observers and their thread --------------------------------------------------------------------------------------


class Broken(Part):
    def attempted(self, ask: Ask, attempt: Attempt) -> None:
        raise ValueError(f"about {ask.request.user}, {attempt.model}")


def test_an_observer_that_fails_is_counted_and_the_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    told = metrics()
    observers = Observers([Broken(), told], told)
    for _ in range(3):
        one_ask(observers, ask(), [attempt()], answered())
    assert value(told, "observer_failures_total", part="Broken") == 3
    assert value(told, "llm_ask_seconds_count", task="tag", outcome="answered") == 3
    assert [record.getMessage() for record in caplog.records] == [
        "observer Broken failed with ValueError; counted from now on, not logged again"
    ]


def test_a_full_queue_drops_and_counts_and_what_was_taken_is_handled() -> None:
    told, entered, free, handled = metrics(), threading.Event(), threading.Event(), list[int]()

    def slow(batch: list[int]) -> None:
        entered.set()
        free.wait(10)
        handled.extend(batch)

    drain = Drain("slow", slow, 5, told, interval_s=0.001)
    drain.put(0)
    assert entered.wait(10)
    for number in range(1, 11):
        drain.put(number)
    free.set()
    drain.close()
    assert handled == [0, 1, 2, 3, 4, 5]
    assert value(told, "observer_dropped_total", part="slow") == 5


def test_a_batch_that_fails_is_counted_and_the_next_is_handled() -> None:
    told, handled = metrics(), list[str]()

    def write(batch: list[str]) -> None:
        if "bad" in batch:
            raise OSError("disk full")
        handled.extend(batch)

    drain = Drain("disk", write, 10, told, interval_s=60)
    drain.put("bad")
    drain.flush()
    drain.put("good")
    drain.close()
    assert handled == ["good"]
    assert value(told, "observer_dropped_total", part="disk") == 1


# --- log lines -------------------------------------------------------------------------------------------------------


def test_a_log_line_tells_all_but_texts_and_people(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "logs" / "x.jsonl", 1_000_000, 2)
    log = AskLog(file, MailRedactor(), Clock())
    secret = LLMRequest("s", "Customer: Ann, ann@example.org", 48)
    asked = ask(request=secret, tenant="shop", request_id="r-1", user="ann@example.org", job="b1")
    one_ask(log, asked, [attempt(problem="schema"), attempt(repair=True)], answered(repaired=True, attempts=2))
    one_ask(log, ask(request_id="of ann@example.org"), [attempt(error="EngineTimeout")], failed("EngineTimeout"))
    log.close()
    file.close()
    text = (tmp_path / "logs" / "x.jsonl").read_text()
    first, second = (json.loads(line) for line in text.splitlines())
    assert "ann" not in text.lower().replace("tandem", "")
    assert first == {
        "time": "1970-01-12T13:46:40.000+00:00",
        "request_id": "r-1",
        "task": "tag",
        "tenant": "shop",
        "job": "b1",
        "prompt": "tag@1",
        "target": "default",
        "model": "smol",
        "prompt_tokens": 100,
        "completion_tokens": 12,
        "cost": 0.001,
        "cache": "",
        "attempts": 1,
        "repaired": True,
        "problem": "",
        "error": "",
        "ms": 201.0,
    }
    assert second["request_id"].startswith("id-")
    assert (second["error"], second["prompt_tokens"], second["model"]) == ("EngineTimeout", 100, "smol")
    assert (tmp_path / "logs" / "x.jsonl").stat().st_mode & 0o077 == 0


def test_log_files_are_bounded(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "x.jsonl", 1_000, 2)
    for number in range(100):
        file(f"{number:0100d}")
    file.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.jsonl", "x.jsonl.1", "x.jsonl.2"]
    assert all(path.stat().st_size <= 1_000 for path in tmp_path.iterdir())


def test_ids_stay_distinct_when_personal_data_is_taken_out() -> None:
    first, second = (safe_id(MailRedactor(), f"{name}@example.org") for name in ("ann", "bob"))
    assert first != second
    assert "example" not in first + second
    assert safe_id(MailRedactor(), "r-1") == "r-1"


# --- the context store -----------------------------------------------------------------------------------------------


def store(path: Path, clock: Clock, **config: float) -> ContextStore:
    return ContextStore(path, ContextConfig.model_validate(config), MailRedactor(), clock)


def test_a_context_is_found_by_request_id_without_personal_data(tmp_path: Path) -> None:
    path = tmp_path / "contexts.db"
    kept = store(path, Clock())
    request = LLMRequest("You pick.", "Customer: write to ann@example.org", 96, {"type": "object"})
    asked = ask("cold_start", "cold_start@2", request=request, request_id="r-1", tenant="shop", user="ann")
    one_ask(kept, asked, [attempt(), attempt(target="vendor")], answered("mail ann@example.org"))
    kept.judged("r-1", "cold_start", "cold_start@2", ["accept", "reject"])
    one_ask(kept, ask(request_id="r-2"), [], answered(cache="exact"))
    kept.close()
    first, last = read_contexts(path, "r-1", MailRedactor())
    assert (first.target, first.answer, last.target) == ("default", None, "vendor")
    assert (last.user, last.answer) == ("Customer: write to [EMAIL]", "mail [EMAIL]")
    assert (last.system, last.prompt, last.tenant, last.time) == ("You pick.", "cold_start@2", "shop", 1_000_000.0)
    assert last.parameters == {"max_tokens": 96, "temperature": 0.0, "seed": 0, "json_schema": {"type": "object"}}
    assert last.verdicts == ("accept", "reject")
    (cached,) = read_contexts(path, "r-2", MailRedactor())
    assert (cached.cache, cached.answer, cached.user) == ("exact", '{"tags": ["MILK"]}', "Product: milk")
    assert read_contexts(path, "r-3", MailRedactor()) == []
    assert read_contexts(tmp_path / "none.db", "r-1", MailRedactor()) == []
    assert b"ann@" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_contexts_are_deleted_for_their_age_and_their_number(tmp_path: Path) -> None:
    path, clock = tmp_path / "contexts.db", Clock()
    kept = store(path, clock, days=1.0, most=20, queue=10_000)

    def ids() -> list[str]:
        with sqlite3.connect(path) as db:
            return [row[0] for row in db.execute("SELECT request_id FROM contexts ORDER BY seq")]

    for number in range(1_500):
        kept.rendered(ask(request_id=f"old-{number}"), "default", LLMRequest("s", "u", 1))
    kept.flush()
    # What the thread takes at once is its own affair, so where it last swept is, too: within 500 of the end.
    left = ids()
    assert 20 <= len(left) < 20 + 500
    assert left == [f"old-{number}" for number in range(1_500 - len(left), 1_500)]
    clock.now += 86_401
    for number in range(500):
        kept.rendered(ask(request_id="new"), "default", LLMRequest("s", "u", 1))
        if number == 9:
            kept.flush()
    kept.close()
    assert set(ids()) == {"new"}


def test_results_are_counted_by_prompt_version(tmp_path: Path) -> None:
    path = tmp_path / "contexts.db"
    kept = store(path, Clock())
    for number in range(6):
        asked = ask(prompt=f"tag@{number % 2}", request_id=f"r-{number}")
        one_ask(kept, asked, [attempt(), attempt(repair=True)], failed("UnusableAnswer") if number == 3 else answered())
        kept.judged(f"r-{number}", "tag", asked.prompt, ["accept", "reject"] if number % 2 else ["accept"])
    one_ask(kept, ask(prompt="tag@0", request_id="r-9"), [], answered(cache="exact"))
    one_ask(kept, ask("cold_start", "cold_start@0", request_id="r-0"), [attempt()], answered())
    kept.close()
    first, second = results_by_prompt(path, "tag")
    assert (first.prompt, first.asks, first.answered, first.verdicts) == ("tag@0", 3, 3, {"accept": 3})
    assert (second.prompt, second.asks, second.answered) == ("tag@1", 3, 2)
    assert second.verdicts == {"accept": 3, "reject": 3}
    assert results_by_prompt(tmp_path / "none.db", "tag") == []


def test_two_replicas_share_the_store(tmp_path: Path) -> None:
    path, clock = tmp_path / "contexts.db", Clock()
    first, second = store(path, clock), store(path, clock)
    for kept in (first, second):
        one_ask(kept, ask(request_id="r-1"), [attempt()], answered())
    first.close()
    second.close()
    assert len(read_contexts(path, "r-1", MailRedactor())) == 2
