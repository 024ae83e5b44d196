"""The real service: HAProxy, Ray Serve, Feast, trees, faiss, vLLM. Every RPC as a client sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from features.workspace import Workspace
from protos.tandem.v1 import ensemble_pb2, recommender_pb2, types_pb2
from serving.client import CallFailed, Client, item
from serving.status import INTERNAL_TEXT
from tests.e2e.server import ROOT, Early, Server, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

Recommend = recommender_pb2.RecommendRequest
Code = grpc.StatusCode
BACK_S = 240.0
"""The LLM's replica is replaced and its engine loads again: a minute or two on two cores."""

METHODS = (
    "/tandem.v1.Recommender/Recommend",
    "/tandem.v1.Recommender/Tag",
    "/tandem.v1.Recommender/RecordEvents",
    "/tandem.v1.Recommender/UpsertItems",
    "/tandem.v1.Ensemble/Score",
    "/tandem.v1.Graph/Query",
    "/tandem.v1.Graph/Explain",
    "/tandem.v1.Graph/Assert",
    "/tandem.v1.Graph/Retract",
    *(f"/tandem.v1.LLM/{name}" for name in ("Status", "Ask", "Cost", "Context")),
    *(f"/tandem.v1.Review/{name}" for name in ("ListCases", "Claim", "Resolve", "Release", "Audit", "Reset")),
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
)
STREAMS = (
    "/tandem.v1.Ensemble/ScoreStream",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)


def code_of(call: object, *arguments: object, **options: object) -> tuple[grpc.StatusCode, str]:
    """Status and text of a call that must fail."""
    with pytest.raises((CallFailed, grpc.RpcError)) as failed:
        call(*arguments, **options)  # type: ignore[operator]
    error = failed.value
    return (error.code, error.details) if isinstance(error, CallFailed) else (error.code(), error.details() or "")


def ids(reply: recommender_pb2.RecommendReply) -> list[str]:
    return [one.item_id for one in reply.items]


def stage_names(reply: recommender_pb2.RecommendReply) -> list[str]:
    return [stage.name for stage in reply.stages]


def rare_item(workspace: Workspace, household: str) -> str:
    """An item of the catalog that a household never had."""
    import polars as pl

    had = pl.read_parquet(workspace.interactions).filter(pl.col("user_id").cast(pl.String) == household)["item_id"]
    items = pl.read_parquet(workspace.items).filter(~pl.col("item_id").is_in(had.implode()))
    return str(items["item_id"][0])


# --- before the LLM is up --------------------------------------------------------------------------------------------


def test_trees_answer_before_the_llm_is_up(early: Early) -> None:
    assert not early.llm_was_serving
    assert early.reply.path == "known_user"
    assert len(early.reply.items) == 10
    assert not early.reply.degraded


def test_words_are_answered_before_the_llm_is_up_and_say_so(early: Early) -> None:
    assert early.words.path == "cold_words"
    assert len(early.words.items) == 10
    assert [(part.stage, part.cause) for part in early.words.degraded] == [("llm", "the LLM is still loading")]


# --- every RPC -------------------------------------------------------------------------------------------------------


def test_known_user_gets_ranked_items(client: Client, households: list[str]) -> None:
    for household in households[:5]:
        reply = client.recommend(Recommend(user_id=household, k=20, explain=True, request_id="mine"))
        assert (reply.request_id, reply.path) == ("mine", "known_user")
        assert len(set(ids(reply))) == 20
        scores = [one.score for one in reply.items]
        assert scores == sorted(scores, reverse=True)
        assert all(one.decided_by == "ranker" and one.sources and one.reasons for one in reply.items)
        assert stage_names(reply)[-1] == "total"
        assert reply.release
        assert reply.usage == types_pb2.Usage()


def test_unknown_user_gets_labelled_popular_items(client: Client) -> None:
    reply = client.recommend(Recommend(user_id="nobody"))
    assert reply.path == "cold_popular"
    assert {one.decided_by for one in reply.items} == {"ranker"}
    assert {tuple(one.sources) for one in reply.items} == {("popular",)}


def test_constraints_hold_and_unknown_exclusions_come_back(client: Client, households: list[str]) -> None:
    wishes = recommender_pb2.Constraints(avoid=["dairy"], exclude_items=["no-such-item"])
    reply = client.recommend(Recommend(user_id=households[0], constraints=wishes))
    assert list(reply.unknown_items) == ["no-such-item"]
    assert not {"CHEESE", "FLUID MILK PRODUCTS", "YOGURT"} & {one.attributes["category"] for one in reply.items}


def test_events_change_the_next_recommend(client: Client, trained_workspace: Workspace, households: list[str]) -> None:
    household = households[10]
    bought = rare_item(trained_workspace, household)
    before = client.recommend(Recommend(user_id=household, k=100))
    event = recommender_pb2.Event(event_id=uuid.uuid4().hex, user_id=household, item_id=bought)
    stranger = recommender_pb2.Event(user_id=f"new-{household}", item_id="not-in-the-catalog")
    reply = client.record_events([event, stranger])
    assert (reply.recorded, reply.duplicates, list(reply.unknown_items)) == (2, 0, ["not-in-the-catalog"])
    after = client.recommend(Recommend(user_id=household, k=100))
    assert ids(after) != ids(before) or [one.score for one in after.items] != [one.score for one in before.items]
    assert after.as_of > before.as_of
    assert client.recommend(Recommend(user_id=f"new-{household}")).path == "known_user"
    assert client.record_events([event]).duplicates == 1


def test_score_judges_claims(client: Client) -> None:
    claims = [
        ensemble_pb2.Claim(tag=ensemble_pb2.TagClaim(item=item("Vegan beef strips", "vegan"), tag="BEEF")),
        ensemble_pb2.Claim(tag=ensemble_pb2.TagClaim(item=item("Cheddar cheese"), tag="UNICORN")),
        ensemble_pb2.Claim(candidate=ensemble_pb2.CandidateClaim(profile_text="vegan", item_id="invented")),
        ensemble_pb2.Claim(tag=ensemble_pb2.TagClaim(item=item("Cheddar cheese"), tag="CHEESE"), llm_logprob=-0.1),
    ]
    reply = client.score(ensemble_pb2.ScoreRequest(claims=claims))
    assert [one.decided_by for one in reply.judgements] == ["graph", "taxonomy", "catalog", "guardrail"]
    assert [one.verdict for one in reply.judgements[:3]] == [types_pb2.VERDICT_REJECT] * 3
    assert reply.judgements[0].facts[0].predicate == "conflict"
    assert reply.judgements[3].reasons


def test_stream_of_claims_is_judged_in_order_and_outlives_a_bad_request(client: Client) -> None:
    claim = ensemble_pb2.Claim(tag=ensemble_pb2.TagClaim(item=item("Cheddar cheese"), tag="CHEESE"))
    claims = [[claim], [ensemble_pb2.Claim()], [claim]]
    requests = [ensemble_pb2.ScoreRequest(request_id=str(n), claims=each) for n, each in enumerate(claims)]
    replies = list(client.score_stream(requests))
    assert [(reply.request_id, reply.failure.code) for reply in replies] == [
        ("0", ""),
        ("1", "INVALID_ARGUMENT"),
        ("2", ""),
    ]
    assert replies[0].judgements == replies[2].judgements


@pytest.mark.parametrize(
    "service", ["", "tandem.v1.Recommender", "tandem.v1.Ensemble", "tandem.v1.Graph", "grpc.health.v1.Health"]
)
def test_health_says_serving(client: Client, service: str) -> None:
    assert client.serving(service)


def test_health_lists_every_service_and_the_llm(server: Server) -> None:
    with server.client() as client:
        listed = health_pb2_grpc.HealthStub(client.channel).List(
            health_pb2.HealthListRequest(), metadata=bearer(server), timeout=10
        )
        assert {"", "tandem.v1.Recommender", "tandem.v1.LLM", "tandem.llm"} <= set(listed.statuses)
        assert listed.statuses["tandem.v1.Recommender"].status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_an_unknown_service_is_not_found(server: Server) -> None:
    with server.client() as client:
        stub = health_pb2_grpc.HealthStub(client.channel)
        request = health_pb2.HealthCheckRequest(service="no.such")
        code, text = code_of(stub.Check, request, metadata=bearer(server), timeout=10)
        assert code is Code.NOT_FOUND
        assert "tandem.llm" in text


def bearer(server: Server) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {server.key}"),)


def test_reflection_lists_the_services_and_their_messages(server: Server) -> None:
    with server.client() as client:
        stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
        wanted = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="tandem.v1.Recommender"),
        ]
        listed, described = stub.ServerReflectionInfo(iter(wanted), metadata=bearer(server), timeout=10)
        names = {service.name for service in listed.list_services_response.service}
        assert {"tandem.v1.Recommender", "tandem.v1.Ensemble", "tandem.v1.Graph", "grpc.health.v1.Health"} <= names
        assert described.file_descriptor_response.file_descriptor_proto


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (Recommend(k=5_000), "k is 5000; at most 100"),
        (Recommend(user_id="x" * 300), "user_id has 300 characters"),
        (Recommend(user_id="a\0b"), "NUL"),
        (Recommend(deadline_ms=10**9), "deadline_ms is 1000000000"),
        (Recommend(constraints=recommender_pb2.Constraints(avoid=["diary"])), "did you mean dairy"),
    ],
)
def test_bad_input_is_refused_by_name(client: Client, request_: Recommend, text: str) -> None:
    code, details = code_of(client.recommend, request_)
    assert code is Code.INVALID_ARGUMENT
    assert text in details


def test_bad_tags_claims_and_events_are_refused_too(client: Client) -> None:
    assert code_of(client.tag, recommender_pb2.TagRequest())[0] is Code.INVALID_ARGUMENT
    assert code_of(client.record_events, [])[0] is Code.INVALID_ARGUMENT
    assert code_of(client.score, ensemble_pb2.ScoreRequest(claims=[ensemble_pb2.Claim()]))[0] is Code.INVALID_ARGUMENT


def test_deadline_that_cannot_be_met_is_exceeded(client: Client) -> None:
    claims = [ensemble_pb2.Claim(tag=ensemble_pb2.TagClaim(item=item(f"cheese {n}"), tag="CHEESE")) for n in range(50)]
    code, text = code_of(client.score, ensemble_pb2.ScoreRequest(claims=claims, deadline_ms=1))
    assert code is Code.DEADLINE_EXCEEDED
    assert "deadline of 1 ms passed" in text


@pytest.mark.parametrize("where", ["front", "replica", "fallback"])
def test_no_method_answers_without_the_key(server: Server, where: str) -> None:
    ports = {"front": server.port, "replica": server.own_port(), "fallback": server.internal_ports + 1}
    keys = ((), (("authorization", "Bearer " + "x" * 43),), (("authorization", server.key),))
    with grpc.insecure_channel(f"127.0.0.1:{ports[where]}") as channel:
        for method, metadata in product(METHODS, keys):
            code, text = code_of(channel.unary_unary(method), b"", metadata=metadata, timeout=20)
            assert (method, code) == (method, Code.UNAUTHENTICATED)
            assert server.key not in text
        for method, metadata in product(STREAMS, keys):
            replies = channel.stream_stream(method)(iter([b""]), metadata=metadata, timeout=20)
            if where == "fallback":
                # Ray's own proxy drops the status of a stream without replies; nothing is told all the same.
                assert (method, list(replies)) == (method, [])
            else:
                assert (method, code_of(list, replies)[0]) == (method, Code.UNAUTHENTICATED)


def test_bytes_that_are_no_message_tell_nothing_of_the_inside(server: Server) -> None:
    with grpc.insecure_channel(server.target) as channel:
        for method, data in product(METHODS[:5], (b"\xff\xff\xff\xff", b"\x0a\xff", b"\x0a\x02\xff\xfe")):
            code, text = code_of(channel.unary_unary(method), data, metadata=bearer(server), timeout=20)
            assert code is not Code.INTERNAL or text == INTERNAL_TEXT
            assert "Traceback" not in text
            assert "/" not in text


# --- the LLM ---------------------------------------------------------------------------------------------------------


def test_words_are_answered_with_the_llm(llm: Server) -> None:
    with llm.client() as client:
        request = Recommend(profile_text="vegetarian family with a baby, cooks Mexican food", deadline_ms=60_000)
        reply = client.recommend(request)
        assert reply.path == "cold_words"
        assert not reply.degraded
        assert reply.usage.prompt_tokens > 0
        assert "SmolLM2" in reply.usage.model or reply.usage.model == ""
        assert all(one.decided_by == "guardrail" and one.HasField("guardrail") for one in reply.items)
        assert {"wants", "avoids"} <= {fact.predicate for fact in reply.facts}
        again = client.recommend(request)
        assert again.usage.cached
        assert again.usage.prompt_tokens == 0
        assert ids(again) == ids(reply)


def test_product_is_tagged_with_the_llm(llm: Server) -> None:
    with llm.client() as client:
        reply = client.tag(recommender_pb2.TagRequest(item=item("Sharp cheddar cheese 8 oz"), deadline_ms=60_000))
        assert not reply.degraded
        assert reply.usage.completion_tokens > 0
        assert any("llm" in tag.sources for tag in reply.tags) or len(reply.tags) == 5
        assert reply.tags[0].reasons


def test_llm_that_is_too_slow_for_the_deadline_is_left_out_in_time(llm: Server) -> None:
    with llm.client() as client:
        client.recommend(Recommend(profile_text="warm", deadline_ms=200))
        started = time.perf_counter()
        reply = client.recommend(Recommend(profile_text=f"somebody new {uuid.uuid4()}", deadline_ms=700))
        assert time.perf_counter() - started < 1.5
        assert len(reply.items) == 10
        assert [part.stage for part in reply.degraded] in ([], ["llm"])


def test_overload_is_refused_and_hangs_nobody(llm: Server) -> None:
    """Six requests are worked on, six may wait, and thirty-six slow ones come at once."""

    def ask(number: int) -> str:
        with llm.client(timeout_s=90.0) as client:
            try:
                client.recommend(Recommend(profile_text=f"person {number} {uuid.uuid4()}", deadline_ms=20_000))
            except CallFailed as failed:
                return str(failed.code.name)
            return "OK"

    with ThreadPoolExecutor(36) as pool:
        outcomes = Counter(pool.map(ask, range(36)))
    assert set(outcomes) <= {"OK", "RESOURCE_EXHAUSTED"}, outcomes
    assert outcomes["RESOURCE_EXHAUSTED"] > 0, outcomes
    assert outcomes["OK"] >= 6, outcomes
    with llm.client() as client:
        assert client.recommend(Recommend(user_id="nobody")).items


# --- the command line against it -------------------------------------------------------------------------------------


def tandem(server: Server, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    options = ("--workspace", str(server.workspace), "--target", server.target)
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments, *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def test_service_and_backfill_answer_what_an_offline_computation_does(server: Server) -> None:
    """Over the wire, at random users and times: `tandem evaluate parity` as people run it."""
    done = tandem(server, "evaluate", "parity", "--requests", "10", "--json", timeout_s=300.0)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["differences"] == []
    assert min(report["scores"], report["values"]) > 0


def test_commands_print_json_for_scripts(server: Server, households: list[str]) -> None:
    done = tandem(server, "recommend", households[0], "--json", "--k", "3", "--avoid", "dairy")
    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    assert (reply["path"], len(reply["items"]), reply["degraded"]) == ("known_user", 3, [])
    done = tandem(server, "tag", "Bananas", "--json", "--attribute", "brand=National")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tags"]
    done = tandem(server, "score", "Vegan beef strips", "--text", "vegan", "--tag", "BEEF", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["judgements"][0]["verdict"] == "VERDICT_REJECT"


def test_commands_print_tables_for_people(server: Server, early: Early, households: list[str]) -> None:
    done = tandem(server, "recommend", households[0], "--k", "3")
    assert done.returncode == 0, done.stderr
    assert "path: known_user" in done.stdout
    assert f"release {early.reply.release}" in done.stdout


def test_refused_command_fails_with_one_line(server: Server) -> None:
    done = tandem(server, "recommend", "--avoid", "diary")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "did you mean dairy" in done.stderr


# --- the LLM is killed -----------------------------------------------------------------------------------------------


class Load:
    """Asks for known users until it is told to stop; keeps what went wrong."""

    def __init__(self, server: Server, households: list[str]) -> None:
        self._server = server
        self._households = households
        self._stop = threading.Event()
        self.done = 0
        self.failed: list[str] = []
        self.slowest_s = 0.0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with self._server.client(timeout_s=20.0) as client:
            while not self._stop.is_set() and self.done < 5_000:
                started = time.perf_counter()
                try:
                    reply = client.recommend(Recommend(user_id=self._households[self.done % len(self._households)]))
                    if reply.path != "known_user" or len(reply.items) != 10 or reply.degraded:
                        self.failed.append(f"{reply.path}, {len(reply.items)} items, {reply.degraded}")
                except CallFailed as error:
                    self.failed.append(str(error))
                self.slowest_s = max(self.slowest_s, time.perf_counter() - started)
                self.done += 1
                self._stop.wait(0.05)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


REPLICA, ENGINE = "ray::ServeReplica:tandem:LLM", "VLLM::EngineCore"


def kill(server: Server, title: str) -> None:
    """SIGKILL to every process of the server with this title."""
    victims = server.pids(title)
    assert victims, f"no process {title}"
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not set(server.pids(title)) & set(victims), 20, "the processes are gone")


def check_outage(client: Client) -> None:
    """Words are answered without the LLM, in time, and health says that it is gone."""
    started = time.perf_counter()
    words = client.recommend(Recommend(profile_text=f"somebody new {uuid.uuid4()}", deadline_ms=3_000))
    assert time.perf_counter() - started < 3.5
    assert len(words.items) == 10
    assert [part.stage for part in words.degraded] == ["llm"]
    assert not set("/[]") & set(words.degraded[0].cause), "the cause is for callers, not a trace"
    wait_until(lambda: not client.serving("tandem.llm"), 30, "health notices")


def test_llm_killed_twice_costs_known_users_nothing_and_comes_back(llm: Server, households: list[str]) -> None:
    with llm.client() as client, Load(llm, households) as load:
        wait_until(lambda: load.done > 10, 30, "known users are answered")
        kill(llm, ENGINE)
        check_outage(client)
        wait_until(lambda: client.serving("tandem.llm"), BACK_S, f"the LLM is back; the log is {llm.log}", 0.5)

        def answered() -> bool:
            request = Recommend(profile_text=f"somebody new {uuid.uuid4()}", deadline_ms=30_000)
            return not client.recommend(request).degraded

        wait_until(answered, 60, "words are answered with the LLM again")
        kill(llm, REPLICA)
        check_outage(client)
        # It loads again; the server is stopped meanwhile, and must leave nothing behind.
        wait_until(lambda: bool(llm.pids(REPLICA)), 60, "another replica is started")
    assert load.done > 50
    assert load.failed == []
