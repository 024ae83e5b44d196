"""The real slice loaded once; what a test wants to break it exchanges with dataclasses.replace."""

from __future__ import annotations

import shutil

import polars as pl
import pytest

from features.workspace import Workspace
from serving.config import ServeConfig
from serving.load import load_services
from serving.services import Services


@pytest.fixture(scope="session")
def services(trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Services:
    """The promoted release of a copy of the slice, without an LLM: tests record events into it."""
    copy = tmp_path_factory.mktemp("serving") / "workspace"
    shutil.copytree(trained_workspace.root, copy)
    return load_services(Workspace(copy), ServeConfig(llm=None))


@pytest.fixture(scope="session")
def households(trained_workspace: Workspace) -> list[str]:
    """User ids with a history."""
    return pl.read_parquet(trained_workspace.interactions)["user_id"].cast(pl.String).unique().sort().to_list()
