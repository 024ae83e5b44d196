"""ScoreStream over a real gRPC server in this process: in order, each for itself, ended by nobody but the caller."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import typer
from typer.testing import CliRunner

from cli import app
from features.workspace import Workspace
from protos.tandem.v1 import ensemble_pb2, types_pb2
from serving.client import CallFailed, Client
from serving.config import Limits, ServeConfig
from tests.unit.serving.replica import served


@pytest.fixture(scope="module")
def root(trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("stream") / "workspace"
    shutil.copytree(trained_workspace.root, root)
    return root


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[Client]:
    with served(root, ServeConfig(llm=None, limits=Limits(list_length=5))) as (client, _):
        yield client


def request(
    name: str, title: str, tag: str = "CHEESE", claims: int = 1, deadline_ms: int = 0
) -> ensemble_pb2.ScoreRequest:
    claim = ensemble_pb2.Claim(tag=ensemble_pb2.TagClaim(item=types_pb2.Item(title=title), tag=tag))
    return ensemble_pb2.ScoreRequest(request_id=name, claims=[claim] * claims, deadline_ms=deadline_ms)


def test_replies_come_in_the_order_of_the_requests_and_equal_those_of_score(client: Client) -> None:
    titles = [f"Sharp cheddar cheese {number}" for number in range(12)]
    requests = [request(f"r{number}", title) for number, title in enumerate(titles)]
    replies = list(client.score_stream(requests))
    assert [reply.request_id for reply in replies] == [f"r{number}" for number in range(12)]
    for sent, reply in zip(requests, replies):
        assert not reply.HasField("failure")
        assert reply.judgements == client.score(sent).judgements


def test_bad_request_is_answered_as_one_and_the_stream_goes_on(client: Client) -> None:
    bad = [
        request("many", "Cheese", claims=6),
        request("nameless", "  "),
        ensemble_pb2.ScoreRequest(request_id="nothing", claims=[ensemble_pb2.Claim()]),
        request("hasty", "Cheese", deadline_ms=999_999_999),
    ]
    replies = list(client.score_stream([request("first", "Cheese"), *bad, request("last", "Cheese")]))
    assert [reply.request_id for reply in replies] == ["first", "many", "nameless", "nothing", "hasty", "last"]
    assert [reply.failure.code for reply in replies] == ["", *["INVALID_ARGUMENT"] * 4, ""]
    assert "at most 5 go into one Score" in replies[1].failure.message
    assert "claims[0].tag.item.title is empty" in replies[2].failure.message
    assert replies[0].judgements == replies[-1].judgements


def test_reply_comes_before_the_next_request_is_sent(client: Client) -> None:
    """A caller that waits for an answer before it asks on: the stream holds nothing back."""
    answered: list[str] = []

    def requests() -> Iterator[ensemble_pb2.ScoreRequest]:
        yield request("one", "Cheese")
        while not answered:
            pass
        yield request("two", "Milk")

    for reply in client.score_stream(requests()):
        answered.append(reply.request_id)
    assert answered == ["one", "two"]


def test_each_request_has_its_own_deadline(client: Client) -> None:
    """Together the requests take longer than any one may: none of them is late."""
    requests = [request(f"r{number}", f"Cheese {number}", deadline_ms=5_000) for number in range(30)]
    assert not [reply for reply in client.score_stream(requests) if reply.HasField("failure")]


@pytest.fixture
def run(client: Client, root: Path) -> Callable[[str], tuple[int, list[dict[str, Any]], str]]:
    """``tandem score --stream`` of these lines: exit code, replies, and what it complains of."""

    def score(lines: str) -> tuple[int, list[dict[str, Any]], str]:
        (root / "claims.jsonl").write_bytes(lines.encode("utf-8", "surrogateescape"))
        place = ["--workspace", str(root), "--target", client.target]
        done = CliRunner().invoke(app, ["score", "--stream", str(root / "claims.jsonl"), *place])
        return done.exit_code, [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    return score


Run = Callable[[str], tuple[int, list[dict[str, Any]], str]]


def line(**fields: Any) -> str:
    claim = {"tag": {"item": {"title": fields.pop("title", "Sharp cheddar cheese")}, "tag": "CHEESE"}}
    return json.dumps({"claims": [claim], **fields}) + "\n"


def test_file_of_claims_is_judged_line_by_line(client: Client, run: Run) -> None:
    code, replies, complaint = run(line(request_id="a") + "\n" + line(title="Milk") + line())
    assert (code, complaint) == (0, "")
    assert [reply["request_id"] for reply in replies] == ["a", "line-3", "line-4"]
    told = client.score(request("x", "Sharp cheddar cheese"))
    assert replies[0]["judgements"][0]["probability"] == told.judgements[0].probability
    assert replies[0]["judgements"][0] == replies[2]["judgements"][0]


def test_bad_lines_are_named_and_the_others_answered(run: Run) -> None:
    bad = ["no json\n", '{"claim": []}\n', "\udcff\n", '["a"]\n']
    lines = line(title=" ") + "".join(bad) + line(request_id="last")
    code, replies, complaint = run(lines)
    assert code == 1
    assert [reply["request_id"] for reply in replies] == ["line-1", "last"]
    assert replies[0]["failure"]["code"] == "INVALID_ARGUMENT"
    assert [each.split(" is ")[0] for each in complaint.splitlines()] == [f"line {number}" for number in range(2, 6)]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--stream", "absent.jsonl"), "absent.jsonl cannot be read"),
        (("Cheese", "--stream", "absent.jsonl"), "takes its products and claims from the lines"),
        (("Cheese",), "at least one --tag"),
        (("--tag", "CHEESE"), "give the product's name"),
    ],
)
def test_what_cannot_be_meant_is_said(client: Client, root: Path, arguments: tuple[str, ...], complaint: str) -> None:
    place = ["--workspace", str(root), "--target", client.target]
    done = CliRunner().invoke(app, ["score", *arguments, *place])
    assert isinstance(done.exception, typer.TyperException)
    assert complaint in done.exception.format_message()


def test_stream_asks_for_the_key(client: Client) -> None:
    with Client(client.target, "wrong") as stranger, pytest.raises(CallFailed) as caught:
        list(stranger.score_stream([request("r", "Cheese")]))
    assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED


def test_empty_stream_ends(client: Client) -> None:
    assert list(client.score_stream([])) == []
