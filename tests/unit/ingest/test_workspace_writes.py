"""Writing: idempotent, whole or not at all, one at a time."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from features.workspace import Workspace
from tests.unit.ingest.conftest import EVENTS, ITEMS, Ingest
from training.datasets.errors import WriteFailed


def contents(workspace: Workspace) -> dict[Path, tuple[bytes, int]]:
    files = (path for path in sorted(workspace.root.rglob("*")) if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files if path.name != ".ingest.lock"}


def test_the_same_sources_again_change_nothing(shop: Ingest, workspace: Workspace) -> None:
    first, before = shop(), contents(workspace)
    stages: list[tuple[str, float]] = []
    second = shop(progress=lambda stage, done: stages.append((stage, done)))
    assert (first.status, second.status) == ("ingested", "unchanged")
    assert (second.data_hash, second.tables, second.notices) == (first.data_hash, first.tables, first.notices)
    assert contents(workspace) == before
    assert stages == [("checking the workspace", 0.0), ("unchanged", 1.0)]


def test_progress_rises_from_zero_to_one(shop: Ingest) -> None:
    done: list[float] = []
    shop(progress=lambda _stage, fraction: done.append(fraction))
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0.0, 1.0)


def test_changed_sources_replace_the_data_and_their_rejects(shop: Ingest, workspace: Workspace) -> None:
    shop(interactions=EVENTS + "u1,zz,2024-05-01T10:00:00Z\n")
    assert ((workspace.items.parent / "rejects") / "interactions.parquet").exists()
    report = shop()
    assert report.status == "ingested"
    assert not ((workspace.items.parent / "rejects") / "interactions.parquet").exists()
    assert not list(workspace.root.glob(".ingest-*"))


def test_changed_options_are_a_changed_ingest(shop: Ingest) -> None:
    first, second = shop(), shop(label_column=None)
    assert second.status == "ingested"
    assert second.data_hash == first.data_hash


@pytest.mark.parametrize("name", ["items.parquet", "users.parquet", "ingest.json"])
@pytest.mark.parametrize("damage", ["delete", "truncate"])
def test_damaged_data_is_written_again(shop: Ingest, workspace: Workspace, name: str, damage: str) -> None:
    first = shop()
    path = workspace.items.parent / name
    path.unlink() if damage == "delete" else path.write_bytes(path.read_bytes()[:10])
    second = shop()
    assert (second.status, second.data_hash, second.files) == ("ingested", first.data_hash, first.files)


def test_missing_configuration_is_written_again(shop: Ingest, workspace: Workspace) -> None:
    shop()
    config = workspace.config()
    workspace.config_file.unlink()
    assert shop().status == "ingested"
    assert workspace.config() == config


def test_leftovers_of_a_killed_ingest_do_not_matter(shop: Ingest, workspace: Workspace) -> None:
    for name in (".ingest-new", ".ingest-old"):
        (workspace.root / name / "rejects").mkdir(parents=True)
        (workspace.root / name / "items.parquet").write_text("half")
    assert shop().status == "ingested"
    assert not list(workspace.root.glob(".ingest-*"))


def test_two_ingests_at_once_are_refused(shop: Ingest, workspace: Workspace) -> None:
    workspace.root.mkdir()
    with (workspace.root / ".ingest.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(WriteFailed, match="being written by another ingest"):
            shop()


def test_unwritable_workspace_is_one_error(shop: Ingest, workspace: Workspace) -> None:
    workspace.root.write_text("a file where the folder should be")
    with pytest.raises(WriteFailed, match="cannot be written"):
        shop()


def test_data_hash_does_not_depend_on_the_process(shop: Ingest, tmp_path: Path) -> None:
    first = shop(items=ITEMS)
    code = (
        "from pathlib import Path; from features.workspace import Workspace;"
        "from training.datasets.ingest import ingest_files;"
        f"d = Path({str(tmp_path)!r});"
        "print(ingest_files(d / 'items.csv', d / 'interactions.csv', None, Workspace(d / 'other')).data_hash)"
    )
    root = Path(__file__).parents[3]
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert other.stdout.strip() == first.data_hash
