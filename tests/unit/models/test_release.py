"""Releases: named by content, promoted in one step, refused when damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models import release
from models.errors import ArtifactMismatch


def write(folder: Path, content: str, **versions: str) -> release.Release:
    def build(where: Path) -> None:
        (where / "model.txt").write_text(content)

    return release.write(folder, versions, repeats=True, metrics={}, build=build)


def test_equal_content_gives_an_equal_name_and_any_difference_another(tmp_path: Path) -> None:
    first = write(tmp_path, "trees", graph="g1")
    assert write(tmp_path, "trees", graph="g1").id == first.id
    assert write(tmp_path, "other trees", graph="g1").id != first.id
    assert write(tmp_path, "trees", graph="g2").id != first.id


def test_a_manifest_counts_by_what_it_says_not_by_when_it_was_written(tmp_path: Path) -> None:
    def make(threshold: float, created: str) -> str:
        def build(where: Path) -> None:
            (where / "manifest.json").write_text(json.dumps({"accept_at": threshold, "created": created}))

        return release.write(tmp_path, {}, True, {}, build).id

    assert make(0.5, "monday") == make(0.5, "tuesday") != make(0.6, "monday")


def test_reading_answers_the_promoted_one_until_another_is_promoted(tmp_path: Path) -> None:
    first, second = write(tmp_path, "a"), write(tmp_path, "b")
    release.promote(tmp_path, first.id)
    assert release.read(tmp_path)[0].id == first.id
    release.promote(tmp_path, second.id)
    assert release.read(tmp_path)[0].id == second.id
    assert release.read(tmp_path, first.id)[0].id == first.id


def test_nothing_is_left_of_a_build_that_failed(tmp_path: Path) -> None:
    def build(_: Path) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        release.write(tmp_path, {}, True, {}, build)
    assert not list(tmp_path.iterdir())


def test_unknown_damaged_and_unnamed_releases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMismatch, match="nothing is released"):
        release.read(tmp_path)
    with pytest.raises(ArtifactMismatch, match="is no release id"):
        release.read(tmp_path, "../secrets")
    made = write(tmp_path, "a")
    (tmp_path / made.id / "release.json").write_text("{")
    with pytest.raises(ArtifactMismatch, match="missing or damaged"):
        release.read(tmp_path, made.id)
    with pytest.raises(ArtifactMismatch, match="missing or damaged"):
        release.promote(tmp_path, made.id)
