"""Artifacts appear whole, and nothing that was changed since is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from models import artifacts
from models.errors import ArtifactMismatch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    def write(where: Path) -> None:
        (where / "model.txt").write_text("leaves")
        (where / "deep").mkdir()
        (where / "deep" / "table.bin").write_bytes(b"\0\1")

    return artifacts.save(tmp_path / "ranker", "ranker", {"schema_hash": "abc", "rounds": 7}, write)


def test_a_loaded_manifest_says_what_was_saved(folder: Path) -> None:
    manifest = artifacts.load(folder, "ranker", {"schema_hash": "abc"})
    assert (manifest["kind"], manifest["rounds"]) == ("ranker", 7)
    assert set(manifest["files"]) == {"model.txt", "deep/table.bin"}
    assert manifest["files"]["model.txt"] == artifacts.file_hash(folder / "model.txt")


def test_another_schema_is_refused_with_both_values_and_the_remedy(folder: Path) -> None:
    with pytest.raises(ArtifactMismatch, match=r"schema_hash is 'abc' in the manifest, this code needs 'xyz'.*tandem"):
        artifacts.load(folder, "ranker", {"schema_hash": "xyz"})
    with pytest.raises(ArtifactMismatch, match="data_hash is None in the manifest, this code needs 'd'"):
        artifacts.load(folder, "ranker", {"data_hash": "d"})
    with pytest.raises(ArtifactMismatch, match="kind is 'ranker' in the manifest, this code needs 'guardrail'"):
        artifacts.load(folder, "guardrail")


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize("name", ["model.txt", "deep/table.bin"])
def test_one_changed_bit_is_found(folder: Path, name: str) -> None:
    rewrite(folder / name, lambda content: bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(ArtifactMismatch, match=rf"{name} is not the file its manifest names"):
        artifacts.load(folder, "ranker")


@pytest.mark.parametrize("name", ["model.txt", "deep/table.bin"])
def test_a_file_that_is_gone_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactMismatch, match=rf"{name} is missing. Run: tandem train"):
        artifacts.load(folder, "ranker")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"files": 3}'])
def test_a_damaged_manifest_is_refused_with_the_remedy(folder: Path, content: bytes) -> None:
    (folder / artifacts.MANIFEST).write_bytes(content)
    with pytest.raises(ArtifactMismatch, match=r"damaged.*tandem train"):
        artifacts.load(folder, "ranker")


def test_a_folder_without_artifact_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMismatch, match=r"holds no ranker.*tandem train"):
        artifacts.load(tmp_path / "nothing", "ranker")
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactMismatch, match=r"holds no ranker.*tandem train"):
        artifacts.load(tmp_path / "file", "ranker")


def test_a_save_that_fails_leaves_the_old_artifact_and_nothing_else(folder: Path) -> None:
    def fail(where: Path) -> None:
        (where / "model.txt").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        artifacts.save(folder, "ranker", {}, fail)
    assert artifacts.load(folder, "ranker")["rounds"] == 7
    assert [path.name for path in folder.parent.iterdir()] == ["ranker"]


def test_a_new_artifact_replaces_the_old_one(folder: Path) -> None:
    artifacts.save(folder, "ranker", {"rounds": 8}, lambda where: (where / "other.txt").touch())
    assert artifacts.load(folder, "ranker")["rounds"] == 8
    assert not (folder / "model.txt").exists()
    assert json.loads((folder / artifacts.MANIFEST).read_text())["created"].endswith("+00:00")


def test_content_hashes_follow_the_value_not_the_order_of_keys() -> None:
    assert artifacts.content_hash({"a": 1, "b": [2]}) == artifacts.content_hash({"b": [2], "a": 1})
    assert artifacts.content_hash([1, 2]) != artifacts.content_hash([2, 1])


def test_versions_of_absent_packages_are_left_out() -> None:
    assert set(artifacts.package_versions("numpy", "no-such-package-anywhere")) == {"numpy"}
