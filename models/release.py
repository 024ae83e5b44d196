"""A release: every version that decides an answer, as one folder, promoted and rolled back as one."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.artifacts import MANIFEST, content_hash, file_hash
from models.errors import ArtifactMismatch

CURRENT = "current"
_FILE = "release.json"
_ID = re.compile(r"^r-[0-9a-f]{12}$")


@dataclass(frozen=True, slots=True)
class Release:
    """``id`` is the hash of ``versions``: what was trained twice alike is one release.

    ``versions``: hashes and names of the parts: ranker, guardrails, graph, prompts, LLM, embedder, schema, data.
    ``repeats``: whether items a user had are recommended again. ``metrics``: measured at training, with their split.
    """

    id: str
    versions: Mapping[str, Any]
    repeats: bool
    metrics: Mapping[str, Any]
    created: str


def write(
    releases: Path,
    versions: Mapping[str, Any],
    repeats: bool,
    metrics: Mapping[str, Any],
    build: Callable[[Path], None],
) -> Release:
    """Let ``build`` write the parts into a new folder and name it by what it holds. Does not promote it."""
    releases.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=releases, prefix=".building."))
    try:
        build(temporary)
        files = {
            str(path.relative_to(temporary)): _hash(path) for path in sorted(temporary.rglob("*")) if path.is_file()
        }
        complete = {**versions, "files": content_hash(files), "repeats": repeats}
        release = Release(
            _id(complete),
            complete,
            repeats,
            metrics,
            datetime.now(UTC).isoformat(timespec="seconds"),
        )
        (temporary / _FILE).write_text(json.dumps(asdict(release), indent=2, sort_keys=True, default=str) + "\n")
        folder = releases / release.id
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return release


def derive(releases: Path, base_id: str, changes: Mapping[str, Any], metrics: Mapping[str, Any]) -> Release:
    """A release with the files of another and other ``versions``: a change's None removes the entry.

    ``metrics`` are added to the other's. The files are hard links where the disk allows it. A release of that name that
    is there already is answered as it is. Does not promote it. Raises ArtifactMismatch.
    """
    base, folder = read(releases, base_id)
    versions = {name: value for name, value in {**base.versions, **changes}.items() if value is not None}
    if (releases / _id(versions) / _FILE).exists():
        return read(releases, _id(versions))[0]

    def build(where: Path) -> None:
        shutil.copytree(
            folder, where, copy_function=_link, ignore=shutil.ignore_patterns(_FILE), dirs_exist_ok=True, symlinks=True
        )

    made = write(releases, versions, base.repeats, {**base.metrics, **metrics}, build)
    if made.versions["files"] != base.versions["files"]:
        shutil.rmtree(releases / made.id)
        raise ArtifactMismatch(
            f"the files of release {base.id} are not those it was made of; promote another one, or run: tandem train"
        )
    return made


def _link(source: str, target: str) -> None:
    """Released files are never written again, so two releases may share them."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _id(versions: Mapping[str, Any]) -> str:
    return f"r-{content_hash(versions)[:12]}"


def _hash(path: Path) -> str:
    """A file's hash. A manifest decides answers too (calibration, thresholds), but not by when it was written."""
    if path.name != MANIFEST:
        return file_hash(path)
    manifest = json.loads(path.read_text())
    return content_hash({key: value for key, value in manifest.items() if key != "created"})


def read(releases: Path, release_id: str | None = None) -> tuple[Release, Path]:
    """A release and its folder; None is the promoted one. Raises ArtifactMismatch."""
    if release_id is None:
        try:
            release_id = (releases / CURRENT).read_text().strip()
        except FileNotFoundError:
            raise ArtifactMismatch(f"nothing is released in {releases}. Run: tandem train") from None
    if not _ID.match(release_id):
        raise ArtifactMismatch(f"{release_id!r} is no release id (r- and 12 hex digits); see the folders of {releases}")
    folder = releases / release_id
    try:
        raw = json.loads((folder / _FILE).read_text())
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise ArtifactMismatch(f"release {release_id} in {folder} is missing or damaged. Run: tandem train") from error
    return Release(**raw), folder


def promote(releases: Path, release_id: str) -> None:
    """Make a release the one that serving loads next, in one step."""
    read(releases, release_id)
    temporary = releases / f".{CURRENT}.{os.getpid()}"
    temporary.write_text(release_id + "\n")
    os.replace(temporary, releases / CURRENT)
