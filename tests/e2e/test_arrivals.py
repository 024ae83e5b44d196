"""Items that arrive while the real server runs, with two ingress processes that follow one log."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
import polars as pl
import pytest

from features.workspace import Workspace
from protos.tandem.v1 import graph_pb2, recommender_pb2, types_pb2
from serving.client import CallFailed, Client, item
from tests.e2e.conftest import copy_of
from tests.e2e.server import ROOT, Server, serving, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

Recommend = recommender_pb2.RecommendRequest
SEEN_S = 15.0
"""Every process looks once a second; two cores are shared by all of them."""
ASKED = 12
"""Calls in a row that must agree: each process is asked with near certainty."""


@pytest.fixture(scope="module")
def server(trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    workspace = copy_of(trained_workspace, tmp_path_factory, "arrivals")
    with serving(workspace, workspace.root.parent, "llm = false", "replicas = 2") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with server.client() as connected:
        yield connected


def ids(client: Client, request: recommender_pb2.RecommendRequest) -> list[str]:
    return [one.item_id for one in client.recommend(request).items]


def known_everywhere(client: Client, item_id: str) -> bool:
    """Whether the catalog of every process has the item: none reports it as unknown."""
    request = Recommend(k=1, constraints=recommender_pb2.Constraints(exclude_items=[item_id]))
    return not any(client.recommend(request).unknown_items for _ in range(ASKED))


def follows(client: Client, fact: graph_pb2.Fact) -> bool:
    """Whether the process that answers derives the fact."""
    try:
        client.explain(fact)
    except CallFailed as error:
        if error.code is not grpc.StatusCode.NOT_FOUND:
            raise
        return False
    return True


def bought(user: str, item_id: str) -> recommender_pb2.Event:
    return recommender_pb2.Event(event_id=uuid.uuid4().hex, user_id=user, item_id=item_id)


def test_item_added_is_recommended_and_once_bought_a_repeat(client: Client, trained_workspace: Workspace) -> None:
    sold = pl.read_parquet(trained_workspace.interactions)["item_id"].value_counts(sort=True)["item_id"][0]
    like = pl.read_parquet(trained_workspace.items).row(by_predicate=pl.col("item_id") == sold, named=True)
    new, user = f"new-{uuid.uuid4().hex}", f"user-{uuid.uuid4().hex}"
    product = item(f"{like['title']} new recipe", like["text"] or "", {"category": like["category"]}, new)
    client.record_events([bought(user, sold)])
    assert new not in ids(client, Recommend(user_id=user, k=100))

    reply = client.upsert_items([product])
    assert (reply.recorded, reply.updated, reply.unchanged, list(reply.rejected)) == (1, 0, 0, [])
    wait_until(lambda: known_everywhere(client, new), SEEN_S, "every process shows the item")
    assert client.upsert_items([product]).unchanged == 1

    # Asked for this category alone, the answer holds every candidate of it, wherever the ranker puts it.
    alone = recommender_pb2.Constraints(require=[like["category"]])

    def proposed_by() -> set[str]:
        reply = client.recommend(Recommend(user_id=user, k=100, constraints=alone))
        return {source for one in reply.items if one.item_id == new for source in one.sources}

    for _ in range(ASKED):
        assert proposed_by() == {"similar"}, "by what the user bought"
    assert list(client.record_events([bought(user, new)]).unknown_items) == []
    assert "repeat" in proposed_by()
    assert new in ids(client, Recommend(user_id=user, k=100))


def test_rules_hold_for_an_item_added(client: Client) -> None:
    new, user = f"cheese-{uuid.uuid4().hex}", f"user-{uuid.uuid4().hex}"
    client.upsert_items([item("Aged cheddar of tomorrow", "", {"category": "CHEESE"}, new)])
    wait_until(lambda: known_everywhere(client, new), SEEN_S, "every process shows the item")
    client.record_events([bought(user, new)])
    assert new in ids(client, Recommend(user_id=user, k=100))
    avoiding = recommender_pb2.Constraints(avoid=["dairy"])
    for _ in range(ASKED):
        assert new not in ids(client, Recommend(user_id=user, k=100, constraints=avoiding))


def test_an_asserted_fact_is_obeyed_by_every_process_until_it_is_retracted(
    client: Client, households: list[str]
) -> None:
    safe = Recommend(user_id=households[0], k=10, constraints=recommender_pb2.Constraints(avoid=["alcohol"]))
    item_id = ids(client, safe)[0]
    fact = graph_pb2.Fact(predicate="contains", args=[item_id, "alcohol"])
    reply = client.assert_facts([graph_pb2.Assertion(fact=fact)], "supplier feed")
    assert reply.recorded == 1
    assert client.assert_facts([graph_pb2.Assertion(fact=fact)], "supplier feed").unchanged == 1
    wait_until(lambda: all(item_id not in ids(client, safe) for _ in range(ASKED)), SEEN_S, "everywhere forbidden")
    # A dozen calls may all have met one process: what follows is waited for as well.
    wider = graph_pb2.Fact(predicate="may_contain", args=[item_id, "alcohol"])
    wait_until(lambda: all(follows(client, wider) for _ in range(ASKED)), SEEN_S, "derived by every process")
    *_, step = client.explain(fact).steps
    assert step.source.startswith("supplier feed, 20")
    assert fact in [one.fact for one in client.explain(wider).steps]
    assert client.retract_facts([fact], "supplier feed").retracted == 1
    wait_until(lambda: all(item_id in ids(client, safe) for _ in range(ASKED)), SEEN_S, "allowed again everywhere")
    assert fact not in list(client.facts(fact))


def test_bad_items_are_refused_with_value_and_remedy_and_nothing_is_kept(client: Client) -> None:
    good = item("Good thing", item_id="good-thing")
    for bad, words in (
        (types_pb2.Item(title="No id"), "items[1].item_id is ''; give the catalog's id"),
        (types_pb2.Item(item_id="long", title="x" * 2_001), "has 2001 characters; at most 2000 are read"),
        (types_pb2.Item(item_id="untitled"), "title of item 'untitled' is empty"),
    ):
        with pytest.raises(CallFailed) as refused:
            client.upsert_items([good, bad])
        assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
        assert words in refused.value.details
    request = Recommend(k=1, constraints=recommender_pb2.Constraints(exclude_items=["good-thing"]))
    assert list(client.recommend(request).unknown_items) == ["good-thing"]


def test_nothing_left_to_recommend_is_an_empty_list_with_its_reason(client: Client, households: list[str]) -> None:
    impossible = recommender_pb2.Constraints(avoid=["dairy"], require=["dairy"])
    for user in (households[0], "nobody"):
        reply = client.recommend(Recommend(user_id=user, constraints=impossible))
        assert list(reply.items) == []
        assert reply.shortfall.startswith("the rules leave 0 items")


def test_file_of_items_is_uploaded_from_the_command_line(server: Server, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "items.csv"
    rows = [f"cli-{number},Snack of tomorrow {number}," for number in range(250)]
    file.write_text("\n".join(["item_id,title,color", *rows, ",Without an id,", f"long,{'x' * 2_001},", ""]))
    command = [sys.executable, "-m", "cli", "items", "add", "--input", str(file), "--json"]
    command += ["--workspace", str(server.workspace), "--target", server.target]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert (report["rows"], report["recorded"], report["unchanged"]) == (252, 250, 0)
    assert [(row["row"], row["item_id"]) for row in report["rejected"]] == [(251, ""), (252, "long")]
    wait_until(lambda: known_everywhere(client, "cli-249"), SEEN_S, "every process shows the items")
