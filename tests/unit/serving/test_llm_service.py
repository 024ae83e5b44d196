"""The LLM service over a real gRPC server: targets that are real HTTP servers, budgets, cache, contexts, metrics."""

from __future__ import annotations

import json
import shutil
import sys
import time
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from cli import main
from features.workspace import Workspace
from protos.tandem.v1 import llm_pb2, recommender_pb2, types_pb2
from serving.client import CallFailed, Client
from serving.config import ServeConfig
from serving.gateway.budget import read_spent
from serving.ingress import Ingress
from tests.servers import ChatServer
from tests.unit.serving.replica import served


@pytest.fixture(scope="module")
def vendor() -> Iterator[ChatServer]:
    with ChatServer() as server:
        yield server


@pytest.fixture(scope="module")
def running(
    trained_workspace: Workspace, vendor: ChatServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Client, Ingress, Path]]:
    root = tmp_path_factory.mktemp("llm") / "workspace"
    shutil.copytree(trained_workspace.root, root)
    target = {"engine": "openai", "model": "m", "base_url": vendor.base_url, "place": "vendor", "stream": False}
    config = ServeConfig.model_validate(
        {
            "llm": None,
            "gateway": {
                "targets": {"vendor": {**target, "price_per_1k_prompt": 1.0, "price_per_1k_completion": 2.0}},
                "budgets": {"tenants": {"poor": {"tokens_per_day": 10}}},
            },
        }
    )
    with served(root, config) as (client, ingress):
        yield client, ingress, root


def ask(client: Client, prompt: str = "Name a cheese.", **fields: object) -> llm_pb2.LLMAskReply:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    request = llm_pb2.LLMAskRequest(prompt=prompt, json_schema=json.dumps(schema), **fields)  # type: ignore[arg-type]
    return client.llm_ask(request)


def test_a_prompt_is_answered_and_paid_for(running: tuple[Client, Ingress, Path]) -> None:
    client, _, root = running
    reply = ask(client, tenant="shop", request_id="paid")
    assert json.loads(reply.text) == {"name": ""}
    assert (reply.target, reply.finish, reply.attempts, reply.cache) == ("vendor", "stop", 1, "")
    assert reply.usage.cost == pytest.approx((reply.usage.prompt_tokens + 2 * reply.usage.completion_tokens) / 1e3)
    spent = client.llm_cost(llm_pb2.LLMCostRequest(tenant="shop")).spent
    assert [(row.task, row.target, row.calls, row.prompt_tokens) for row in spent] == [
        ("ask", "vendor", 1, reply.usage.prompt_tokens)
    ]
    kept = read_spent(Workspace(root).llm_spend, days=1, tenant="shop")
    assert kept["cost"].sum() == pytest.approx(reply.usage.cost)


def test_an_equal_question_comes_from_the_cache_and_costs_nothing(running: tuple[Client, Ingress, Path]) -> None:
    client, _, _ = running
    first, second = ask(client, "Name a wine.", tenant="shop"), ask(client, "Name a wine.", tenant="shop")
    assert (first.cache, second.cache) == ("", "exact")
    assert second.text == first.text
    assert second.usage.cached
    assert (second.usage.cost, second.usage.prompt_tokens) == (0.0, 0)


def test_personal_data_reaches_neither_vendor_nor_context_store(
    running: tuple[Client, Ingress, Path], vendor: ChatServer
) -> None:
    client, _, _ = running
    ask(client, "Write to ann.lee@example.org about a cheese.", tenant="shop", request_id="private")
    sent = json.dumps(vendor.seen[-1])
    assert "example.org" not in sent
    assert "[EMAIL]" in sent
    (context,) = client.llm_context(llm_pb2.LLMContextRequest(of="private")).contexts
    assert "[EMAIL]" in context.user
    assert "example.org" not in context.user + context.system + context.answer


def test_a_tenant_without_budget_is_refused_before_anything_is_sent(
    running: tuple[Client, Ingress, Path], vendor: ChatServer
) -> None:
    client, _, _ = running
    before = len(vendor.seen)
    with pytest.raises(CallFailed) as refused:
        ask(client, tenant="poor")
    assert refused.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "poor" in refused.value.details
    assert len(vendor.seen) == before


def test_tags_go_through_the_same_gateway(running: tuple[Client, Ingress, Path], vendor: ChatServer) -> None:
    client, _, _ = running
    before = len(vendor.seen)
    reply = client.tag(
        recommender_pb2.TagRequest(
            item=types_pb2.Item(title="Sharp cheddar cheese"), tenant="tagger", deadline_ms=9_000
        )
    )
    assert len(vendor.seen) == before + 1
    assert reply.usage.prompt_tokens > 0
    assert reply.usage.cost > 0
    spent = client.llm_cost(llm_pb2.LLMCostRequest(tenant="tagger")).spent
    assert [(row.task, row.prompt_tokens) for row in spent] == [("tag", reply.usage.prompt_tokens)]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt": "  "}, "prompt is empty"),
        ({"prompt": "x", "temperature": 9.0}, "temperature is 9"),
        ({"prompt": "x", "json_schema": "{"}, "json_schema is no JSON"),
        ({"prompt": "x", "json_schema": "[]"}, "json_schema is no object"),
        ({"prompt": "x" * 5_000}, "prompt has 5000 characters"),
    ],
)
def test_bad_questions_are_refused_by_name(
    running: tuple[Client, Ingress, Path], fields: dict[str, object], said: str
) -> None:
    with pytest.raises(CallFailed, match=said) as refused:
        running[0].llm_ask(llm_pb2.LLMAskRequest(**fields))  # type: ignore[arg-type]
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_metrics_tell_tokens_and_cost_by_tenant(running: tuple[Client, Ingress, Path]) -> None:
    client, ingress, _ = running
    ask(client, "Name a bread.", tenant="counted")
    port = ingress._llms.telemetry.port
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        text = page.read().decode()
    assert 'tandem_llm_tokens_total{kind="prompt",task="ask",tenant="counted"}' in text
    assert "tandem_rpc_seconds" in text


def tandem(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    """``tandem llm`` in this process: its exit code and standard output."""
    monkeypatch.setattr(sys, "argv", ["tandem", "llm", *arguments])
    code = 0
    capsys.readouterr()
    with warnings.catch_warnings():
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return code, capsys.readouterr().out


def test_the_command_line_asks_counts_and_shows_the_context(
    running: tuple[Client, Ingress, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, _, root = running
    where = ("--workspace", str(root), "--target", client.target)
    code, out = tandem(capsys, monkeypatch, "status", "--json", *where)
    assert code == 0
    assert [target["name"] for target in json.loads(out)["targets"]] == ["vendor"]
    schema = root / "schema.json"
    schema.write_text('{"type": "object", "properties": {"fruit": {"type": "string"}}, "required": ["fruit"]}')
    code, out = tandem(
        capsys, monkeypatch, "ask", "Name a fruit.", "--schema", str(schema), "--tenant", "cli", "--json", *where
    )
    asked = json.loads(out)
    assert (code, json.loads(asked["text"]), asked["target"]) == (0, {"fruit": ""}, "vendor")
    client.llm_cost(llm_pb2.LLMCostRequest())  # has what was just spent written
    code, out = tandem(capsys, monkeypatch, "cost", "--tenant", "cli", "--json", "--workspace", str(root))
    (row,) = json.loads(out)["spent"]
    assert (row["task"], row["calls"], row["cost"]) == ("ask", 1, pytest.approx(asked["usage"]["cost"]))
    client.llm_context(llm_pb2.LLMContextRequest(of=asked["request_id"]))
    code, out = tandem(capsys, monkeypatch, "context", asked["request_id"], "--json", "--workspace", str(root))
    (context,) = json.loads(out)["contexts"]
    assert (context["user"], context["answer"]) == ("Name a fruit.", asked["text"])
    for command in (("status", *where), ("cost", "--workspace", str(root))):
        code, out = tandem(capsys, monkeypatch, *command)
        assert (code, "vendor" in out) == (0, True)


def test_a_context_nobody_kept_is_an_error_with_its_remedy(
    running: tuple[Client, Ingress, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert tandem(capsys, monkeypatch, "context", "nobody", "--workspace", str(running[2]))[0] == 1


def test_status_names_every_target_and_the_failing_one(
    running: tuple[Client, Ingress, Path], vendor: ChatServer
) -> None:
    client, _, _ = running
    (healthy,) = client.llm_status(llm_pb2.LLMStatusRequest()).targets
    assert (healthy.name, healthy.engine, healthy.place, healthy.healthy) == ("vendor", "openai", "vendor", True)
    vendor.mode = "broken"
    try:
        for number in range(4):
            with pytest.raises(CallFailed):
                ask(client, f"Broken {number}", tenant="shop", deadline_ms=2_000)
        (failing,) = client.llm_status(llm_pb2.LLMStatusRequest()).targets
    finally:
        vendor.mode = "answer"
    assert (failing.healthy, failing.breaker) == (False, "open")
    assert "left alone" in failing.cause
    # Health must come back by itself: who waits for it before asking would wait for ever.
    until = time.monotonic() + 60
    while not (rested := client.llm_status(llm_pb2.LLMStatusRequest()).targets[0]).healthy:
        assert time.monotonic() < until, rested.cause
        time.sleep(0.2)
    assert rested.breaker == "open"
    assert ask(client, "Is it well again?", tenant="shop").text
    assert client.llm_status(llm_pb2.LLMStatusRequest()).targets[0].breaker == "closed"
