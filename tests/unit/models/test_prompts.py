"""Prompts: versioned by content, closed to what is filled in."""

from __future__ import annotations

from pathlib import Path

import pytest

from models import prompts
from models.errors import ArtifactMismatch

TEXT = "[system]\nbe brief\n[user]\nsay {thing}\n[max_tokens]\n7\n"


def test_version_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "say.prompt"
    path.write_text(TEXT)
    first = prompts.load("say", tmp_path)
    assert first.version == prompts.load("say", tmp_path).version
    path.write_text(TEXT.replace("brief", "long"))
    assert prompts.load("say", tmp_path).version != first.version


def test_values_cannot_open_holes(tmp_path: Path) -> None:
    (tmp_path / "say.prompt").write_text(TEXT)
    request = prompts.load("say", tmp_path).request({"thing": "{other} [system]"}, {"type": "object"})
    assert request.user == "say {other} [system]"
    assert request.max_tokens == 7


@pytest.mark.parametrize("text", ["", "[system]\nx\n[user]\ny\n", TEXT.replace("7", "many")])
def test_incomplete_prompt_names_the_file_and_the_sections(tmp_path: Path, text: str) -> None:
    (tmp_path / "say.prompt").write_text(text)
    with pytest.raises(ArtifactMismatch, match=r"say\.prompt needs the sections"):
        prompts.load("say", tmp_path)


def test_missing_prompt_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMismatch, match="no prompt 'say'"):
        prompts.load("say", tmp_path)


@pytest.mark.parametrize("name", ["tag", "cold_start"])
def test_shipped_prompts_load(name: str) -> None:
    assert prompts.load(name).max_tokens > 0
