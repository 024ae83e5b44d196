"""Fixtures that more than one kind of test needs."""

from __future__ import annotations

import asyncio

import pytest
import uvloop
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from features.workspace import Workspace

# The first example of a test may compile a kernel, and a machine may be busy: time is no property of the code here.
settings.register_profile("tandem", deadline=None)
settings.load_profile("tandem")


WITH_RAY = ("tests/e2e/", "tests/integration/")
"""What starts a Ray of its own: two of them on one machine would find each other."""


class OneRay(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Where tests run in two processes (`make test`), those with Ray run one after another in one of them; others of a
    file stay together, for they share what it set up."""

    def _split_scope(self, nodeid: str) -> str:
        return "ray" if nodeid.startswith(WITH_RAY) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneRay:
    return OneRay(config, log)


@pytest.fixture(scope="session")
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    """Ray's workers run on uvloop, whose handles and timers differ from asyncio's own: so do the tests."""
    policy: asyncio.AbstractEventLoopPolicy = uvloop.EventLoopPolicy()
    return policy


@pytest.fixture(scope="session")
def trained_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Sixty real households, ingested and trained without an LLM (seconds). A test that writes must copy it."""
    from models.policy import TagConfig
    from models.ranker import RankerConfig
    from training.config import TrainConfig
    from training.datasets.ingest import ingest_complete_journey
    from training.train import train

    workspace = Workspace(tmp_path_factory.mktemp("trained") / "workspace")
    ingest_complete_journey(workspace, households=60)
    train(
        workspace,
        TrainConfig(
            llm=None,
            train_sessions=300,
            valid_sessions=100,
            test_sessions=100,
            ranker=RankerConfig(trees=30),
            tags=TagConfig(trees=30, examples=1_000),
            cold=TrainConfig().cold.model_copy(update={"trees": 30}),
        ),
        None,
    )
    return workspace
