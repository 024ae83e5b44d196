"""``tandem finetune`` and ``evaluate --fine-tune``: what cannot be run is refused before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.console import UsageError
from cli.evaluate import evaluate
from cli.finetune import finetune_app
from features.workspace import Workspace, WorkspaceConfig
from models.errors import ArtifactMismatch


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    Workspace(tmp_path).write_config(WorkspaceConfig("made", "0", "category", "generic", "data", 0))
    return tmp_path


def model(folder: Path) -> Path:
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    return folder / "model"


def settings(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text)
    return path


def run_finetune(*arguments: str) -> None:
    app = typer.Typer()
    app.add_typer(finetune_app, name="finetune")
    CliRunner().invoke(app, ["finetune", "tag", *arguments], catch_exceptions=False, standalone_mode=False)


def run_evaluate(*arguments: str) -> None:
    app = typer.Typer()
    app.command()(evaluate)
    CliRunner().invoke(app, ["tags", *arguments], catch_exceptions=False, standalone_mode=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("llm = false\n", "the settings say llm = false: name the model to fine-tune"),
        ('[llm]\nengine = "openai"\nmodel = "m"\nbase_url = "http://x/v1"\n', "an endpoint's weights cannot be"),
        ('[llm]\nmodel = "m"\nadapter = "a"\n', r"has an adapter already \(a\): leave \[llm\] adapter out"),
    ],
)
def test_settings_without_weights_of_their_own_are_refused(workspace: Path, text: str, message: str) -> None:
    config = settings(workspace, text)
    with pytest.raises(UsageError, match=message):
        run_finetune("-w", str(workspace), "-c", str(config), "-o", str(workspace / "adapter"))


def test_folder_without_a_model_and_workspace_without_a_release_are_refused(workspace: Path) -> None:
    nowhere = settings(workspace, '[llm]\nmodel = "nowhere"\n')
    with pytest.raises(ArtifactMismatch, match="nowhere holds no model"):
        run_finetune("-w", str(workspace), "-c", str(nowhere), "-o", str(workspace / "adapter"))
    there = settings(workspace, f'[llm]\nmodel = "{model(workspace)}"\n')
    with pytest.raises(ArtifactMismatch, match="tandem train"):
        run_finetune("-w", str(workspace), "-c", str(there), "-o", str(workspace / "adapter"))
    assert not (workspace / "adapter").exists()


def test_fine_tuning_is_evaluated_beside_the_llm_and_where_it_is_defined(workspace: Path) -> None:
    config = settings(workspace, f'[llm]\nmodel = "{model(workspace)}"\n')
    common = ("--fine-tune", "-c", str(config), "-w", str(workspace))
    with pytest.raises(UsageError, match="compares the LLM before and after: say --llm too"):
        run_evaluate(*common)
    with pytest.raises(UsageError, match="measured on complete-journey alone, not on 'oa-mine'"):
        run_evaluate("--llm", "--dataset", "oa-mine", *common)
