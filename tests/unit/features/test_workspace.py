"""A workspace that cannot be read says what is wrong and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import WorkspaceError
from features.workspace import FORMAT, Workspace, write_atomically
from tests.unit.features.shop import CONFIG


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "shop")
    made.write_config(CONFIG)
    return made


def test_a_configuration_comes_back_as_written(workspace: Workspace) -> None:
    assert workspace.config() == CONFIG
    assert [path.name for path in workspace.root.iterdir()] == ["workspace.json"]


def test_a_folder_that_is_no_workspace_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=rf"Run: tandem ingest --workspace {tmp_path}"):
        Workspace(tmp_path).config()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 1}', b'{"format": 1, "unheard": 2}'],
    ids=["empty", "cut", "list", "null", "binary", "fields-missing", "field-unknown"],
)
def test_a_damaged_configuration_names_the_remedy(workspace: Workspace, content: bytes) -> None:
    workspace.config_file.write_bytes(content)
    with pytest.raises(WorkspaceError, match=rf"damaged.*Delete {workspace.root} and run tandem ingest again"):
        workspace.config()


@pytest.mark.parametrize("other", ["2", '"1"', "null"])
def test_another_format_names_both_and_the_remedy(workspace: Workspace, other: str) -> None:
    text = workspace.config_file.read_text()
    workspace.config_file.write_text(text.replace(f'"format": {FORMAT}', f'"format": {other}'))
    with pytest.raises(WorkspaceError, match=rf"this code reads {FORMAT}.*run tandem ingest again"):
        workspace.config()


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]
