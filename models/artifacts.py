"""Artifacts: files of a model with a manifest that says what they are; loading checks it and unpickles nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from models.errors import ArtifactMismatch

MANIFEST = "manifest.json"


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def package_versions(*names: str) -> dict[str, str]:
    """Installed versions of the packages an artifact depends on; absent ones are left out."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def save(folder: Path, kind: str, facts: Mapping[str, Any], write: Callable[[Path], None]) -> Path:
    """Write an artifact's files by ``write(folder)`` and its manifest; the folder appears whole or not at all.

    ``facts``: what a reader must know to trust it (schema hash, data hash, parameters, versions, metrics).
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        write(temporary)
        files = {
            str(path.relative_to(temporary)): file_hash(path) for path in sorted(temporary.rglob("*")) if path.is_file()
        }
        manifest = {"kind": kind, "created": datetime.now(UTC).isoformat(timespec="seconds"), "files": files, **facts}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder


def load(folder: Path, kind: str, expected: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The manifest, after its kind, every file's hash and the ``expected`` entries were found to agree.

    Raises ArtifactMismatch, naming the entry, both values and the remedy.
    """
    try:
        manifest = cast("dict[str, Any]", json.loads((folder / MANIFEST).read_text()))
        files = dict(manifest["files"])
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactMismatch(f"{folder} holds no {kind} (no {MANIFEST}). Run: tandem train") from None
    except (ValueError, TypeError, KeyError) as error:  # no JSON, no UTF-8, or not what `save` writes
        raise ArtifactMismatch(f"{folder / MANIFEST} is damaged ({error}). Run: tandem train") from error
    for entry, value in {"kind": kind, **(expected or {})}.items():
        if manifest.get(entry) != value:
            raise ArtifactMismatch(
                f"{folder}: {entry} is {manifest.get(entry)!r} in the manifest, this code needs {value!r}. "
                "Run: tandem train"
            )
    for name, digest in files.items():
        path = folder / name
        if not path.is_file():
            raise ArtifactMismatch(f"{path} is missing. Run: tandem train")
        if file_hash(path) != digest:
            raise ArtifactMismatch(f"{path} is not the file its manifest names (hash differs). Run: tandem train")
    return manifest


def content_hash(value: Any) -> str:
    """A short hash of a JSON-serializable value, equal for equal values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
