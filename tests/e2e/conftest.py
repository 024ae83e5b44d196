"""One server with the real LLM for most tests; the split topology has its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import polars as pl
import pytest

from features.workspace import Workspace
from protos.tandem.v1 import recommender_pb2
from serving.client import Client
from tests.e2e.server import Early, Server, serving, wait_until

LLM_S = 240.0


def copy_of(workspace: Workspace, folder: pytest.TempPathFactory, name: str) -> Workspace:
    copy = Workspace(folder.mktemp(name) / "workspace")
    shutil.copytree(workspace.root, copy.root)
    return copy


@pytest.fixture(scope="session")
def households(trained_workspace: Workspace) -> list[str]:
    return pl.read_parquet(trained_workspace.interactions)["user_id"].cast(pl.String).unique().sort().to_list()


@pytest.fixture(scope="module")
def started(
    trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory, households: list[str]
) -> Iterator[tuple[Server, Early]]:
    """The default configuration, LLM included, with bounds small enough to be reached; asked at its first breath.

    A budget nobody reaches makes every call of the LLM reserve what it may cost.
    """
    budget = "[gateway.budgets.everything]\ntokens_per_day = 100_000_000"
    workspace = copy_of(trained_workspace, tmp_path_factory, "served")
    with serving(workspace, workspace.root.parent, budget, "max_ongoing = 6\nmax_queued = 6") as running:
        with running.client() as client:
            reply = client.recommend(recommender_pb2.RecommendRequest(user_id=households[0], k=10))
            words = client.recommend(recommender_pb2.RecommendRequest(profile_text="vegan family", deadline_ms=5_000))
            early = Early(reply, words, client.serving("tandem.llm"))
        yield running, early


@pytest.fixture(scope="module")
def server(started: tuple[Server, Early]) -> Server:
    return started[0]


@pytest.fixture(scope="module")
def early(started: tuple[Server, Early]) -> Early:
    return started[1]


@pytest.fixture(scope="module")
def llm(server: Server) -> Server:
    """The server once its LLM answers."""
    with server.client() as client:
        wait_until(lambda: client.serving("tandem.llm"), LLM_S, f"the LLM serves; the log is {server.log}")
    return server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with server.client() as connected:
        yield connected
