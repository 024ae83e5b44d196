"""``tandem prompts`` as a person uses it, through a real HTTP server in the LLM's place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli import app
from features.workspace import Workspace
from models import prompts, release
from models.errors import ArtifactMismatch
from serving.gateway.contexts import ContextConfig, ContextStore
from tests.servers import ChatServer
from tests.unit.serving.observed import MailRedactor, answered, ask, attempt, one_ask

BETTER = """[system]
You file products under the right category. Answer with JSON only.
[user]
Product: {title}

Categories:
{choices}
[max_tokens]
64
"""
CUT_OFF = BETTER.replace("64", "3")


@pytest.fixture(scope="module")
def place(trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the slice's promoted release and its data."""
    copy = tmp_path_factory.mktemp("prompts") / "workspace"
    shutil.copytree(trained_workspace.root, copy)
    return copy


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Settings whose LLM takes the first choice it is shown."""
    path = tmp_path_factory.mktemp("settings") / "tandem.toml"
    with ChatServer() as server:
        path.write_text(
            f'[llm]\nengine = "openai"\nmodel = "first-choice"\nmax_concurrency = 4\nbase_url = "{server.base_url}"\n'
        )
        yield path


def run(place: Path, *words: str) -> Result:
    wide = {"COLUMNS": "200"}
    return CliRunner(env=wide).invoke(app, ["prompts", *words, "--workspace", str(place)], catch_exceptions=True)


def answer(place: Path, *words: str) -> Any:
    result = run(place, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def labels(place: Path) -> dict[str, list[str]]:
    return {row["version"]: row["labels"] for row in answer(place, "list")["prompts"] if row["name"] == "tag"}


def test_from_a_file_to_production_and_back(place: Path, settings: Path, tmp_path: Path) -> None:
    shipped, releases = prompts.load("tag").version, Workspace(place).releases
    before = release.read(releases)[0].id
    assert labels(place) == {shipped: ["production", "shipped"]}

    (tmp_path / "better.prompt").write_text(BETTER)
    version = answer(place, "add", "tag", str(tmp_path / "better.prompt"))["version"]
    assert run(place, "show", "tag", version[:5]).stdout == BETTER
    assert "+Product: {title}" not in answer(place, "diff", "tag", "production", version)["diff"]
    assert "-Description: {text}" in answer(place, "diff", "tag", "production", version)["diff"]

    tried = answer(place, "test", "tag", version, "--items", "30", "--config", str(settings))
    assert (tried["items"], tried["worse"], tried["candidate"]["version"]) == (30, [], version)
    assert labels(place)[version] == []

    shown = answer(place, "release", "tag", version, "--items", "30", "--share", "0.25", "--config", str(settings))
    assert labels(place) == {shipped: ["production", "shipped"], version: ["candidate"]}
    made = answer(place, "release", "tag", version, "--items", "30", "--config", str(settings))["release"]
    assert labels(place) == {shipped: ["shipped"], version: ["production"]}
    assert len({before, shown["release"], made}) == 3
    assert release.read(releases)[0].metrics["prompts"]["tag"]["accuracy_difference"]["mean"] == 0.0
    assert answer(place, "list")["guardrail_prompts"]["tag"] == shipped
    assert f"guardrail learned what the LLM is worth with tag@{shipped}" in run(place, "list").output.replace("\n", "")

    assert answer(place, "rollback")["release"] == shown["release"]
    assert answer(place, "rollback")["release"] == release.read(releases)[0].id == before
    assert isinstance(run(place, "rollback").exception, ArtifactMismatch)
    actions = [entry["action"] for entry in answer(place, "show", "tag", version)["history"]]
    assert actions == ["add", "release", "release", "rollback", "rollback"]


def test_a_worse_prompt_is_refused_with_its_figures(place: Path, settings: Path, tmp_path: Path) -> None:
    before = release.read(Workspace(place).releases)[0].id
    (tmp_path / "cut.prompt").write_text(CUT_OFF)
    version = answer(place, "add", "tag", str(tmp_path / "cut.prompt"))["version"]
    refused = run(place, "release", "tag", version, "--items", "30", "--config", str(settings), "--json")
    assert refused.exit_code == 1
    shown = json.loads(refused.stdout)
    assert (shown["release"], shown["worse"]) == (None, ["accuracy", "malformed"])
    assert shown["candidate"]["malformed"] == 1.0
    assert release.read(Workspace(place).releases)[0].id == before
    readable = run(place, "release", "tag", version, "--items", "30", "--config", str(settings))
    assert readable.exit_code == 1
    assert "not released: worse than production in accuracy and malformed" in readable.output


def test_results_by_version_come_from_the_contexts_kept(place: Path) -> None:
    assert answer(place, "results", "tag")["results"] == []
    kept = ContextStore(Workspace(place).llm_contexts, ContextConfig(), MailRedactor())
    for number in range(20):
        one_ask(kept, ask(prompt=f"tag@{number % 2}", request_id=f"r-{number}"), [attempt()], answered())
        kept.judged(f"r-{number}", "tag", "", ["accept" if number % 2 else "reject"])
    kept.close()
    first, second = answer(place, "results", "tag")["results"]
    assert (first["asks"], first["answered"]["share"], first["accept"]["share"]) == (10, 1.0, 0.0)
    assert second["accept"]["interval"][0] > first["accept"]["interval"][1]
    assert "1.000 [0.722, 1.000]" in run(place, "results", "tag").stdout


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("release", "tag", "shipped"), "is production already"),
        (("add", "tag", "/nowhere/x.prompt"), "cannot be read"),
        (("show", "poem"), "no prompt 'poem'; choose from tag, cold_start"),
        (("diff", "tag"), "no candidate"),
    ],
)
def test_what_cannot_be_is_said_with_the_remedy(place: Path, words: tuple[str, ...], problem: str) -> None:
    result = run(place, *words)
    assert result.exit_code != 0
    assert problem in f"{result.output} {result.exception}"


def test_without_an_llm_nothing_is_tried(place: Path, tmp_path: Path) -> None:
    (tmp_path / "none.toml").write_text("llm = false\n")
    (tmp_path / "better.prompt").write_text(BETTER)
    version = answer(place, "add", "tag", str(tmp_path / "better.prompt"))["version"]
    result = run(place, "test", "tag", version, "--config", str(tmp_path / "none.toml"))
    assert result.exit_code != 0
    assert "llm = false" in f"{result.output} {result.exception}"
