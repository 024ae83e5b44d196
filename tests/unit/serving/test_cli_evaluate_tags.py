"""``tandem evaluate tags``: what cannot be run is refused before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.console import UsageError
from cli.evaluate import evaluate
from features.workspace import Workspace, WorkspaceConfig
from models.errors import ArtifactMismatch


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    Workspace(tmp_path).write_config(WorkspaceConfig("made", "0", "category", "generic", "data", 0))
    return tmp_path


def run(*arguments: str) -> None:
    app = typer.Typer()
    app.command()(evaluate)
    CliRunner().invoke(app, ["tags", *arguments], catch_exceptions=False, standalone_mode=False)


def test_unknown_dataset_names_those_there_are(workspace: Path) -> None:
    with pytest.raises(UsageError, match="choose from complete-journey, catalog, openfoodfacts, oa-mine, all"):
        run("--dataset", "amazon", "-w", str(workspace))


def test_dataset_whose_folder_is_missing_names_the_option(workspace: Path) -> None:
    with pytest.raises(ArtifactMismatch, match=r"'openfoodfacts': there is no folder .* with --data"):
        run("--dataset", "openfoodfacts", "--data", str(workspace / "none"), "-w", str(workspace))


def test_llm_of_settings_without_one_is_refused(workspace: Path) -> None:
    settings = workspace / "settings.toml"
    settings.write_text("llm = false\n")
    with pytest.raises(UsageError, match=r"--llm asks the LLM of the settings, which say llm = false"):
        run("--llm", "-c", str(settings), "-w", str(workspace))
