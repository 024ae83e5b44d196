"""Every version of every prompt that a workspace ever had, none of them ever changed, and the log of their releases.

``<root>/<name>/<version>.prompt`` holds a version, named by its content's hash; ``<root>/history.jsonl`` only grows.
Which version serves is not written here: the promoted release says it (`models.release`), and a release names a version
for good. So labels cannot disagree with what is served: ``production`` is the promoted release's version, ``candidate``
the one it shows to a share of the users.
"""

from __future__ import annotations

import difflib
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from models import prompts
from models.errors import ArtifactMismatch
from models.prompts import Prompt

NAMES: Final = ("tag", "cold_start", "attributes")
"""The prompts the code has a use for. Each is shipped beside this file; the shipped one says which holes there are."""
_BUCKETS: Final = 10_000
_HISTORY: Final = "history.jsonl"

Action = Literal["add", "release", "rollback"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the history. ``time``: ISO 8601, UTC. ``version`` replaced ``previous``; ``release`` was promoted by
    it in the place of ``previous_release``. ``share`` of the users: below 1 for a candidate. ``figures`` of its trial.
    """

    time: str
    action: Action
    name: str
    version: str
    previous: str = ""
    release: str = ""
    previous_release: str = ""
    share: float = 1.0
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Variants:
    """What a release says of one prompt: its version, and a candidate for a share of the users."""

    production: Prompt
    candidate: Prompt | None = None
    share: float = 0.0

    def of(self, user: str) -> Prompt:
        """The version this user gets, the same at every request. Nobody (""): production."""
        if self.candidate is None or not user:
            return self.production
        # The version is hashed too: who is in the share of one candidate says nothing of the next one's.
        digest = hashlib.sha256(f"{self.candidate.id}\0{user}".encode()).digest()
        return self.candidate if int.from_bytes(digest[:8]) % _BUCKETS < self.share * _BUCKETS else self.production


class PromptRegistry:
    """The registry of one workspace. Reading writes nothing. ``shipped``: another folder of shipped prompts."""

    def __init__(self, root: Path, shipped: Path | None = None) -> None:
        self._root = root
        self._shipped_folder = shipped

    def shipped(self, name: str) -> Prompt:
        """The version that comes with the code. Raises ArtifactMismatch for another name than `NAMES`."""
        if name not in NAMES:
            raise ArtifactMismatch(f"there is no prompt {name!r}; choose from {', '.join(NAMES)}")
        return prompts.load(name, self._shipped_folder)

    def versions(self, name: str) -> list[str]:
        """Every version kept, the shipped one too, oldest first."""
        shipped = self.shipped(name).version
        kept = sorted((self._root / name).glob("*.prompt"), key=lambda path: (path.stat().st_mtime, path.name))
        found = [path.stem for path in kept]
        return found if shipped in found else [shipped, *found]

    def text(self, name: str, version: str) -> str:
        """A version's file. Raises ArtifactMismatch where there is none, or where it is no longer what was kept."""
        path = self._path(name, version)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            if self.shipped(name).version == version:
                return self._shipped_path(name).read_text(encoding="utf-8")
            raise ArtifactMismatch(
                f"there is no version {version} of the prompt {name!r} in {path.parent}; it has "
                f"{', '.join(self.versions(name))}"
            ) from None
        except UnicodeDecodeError as error:
            raise ArtifactMismatch(f"{path} is damaged ({error}); restore it from a copy of the workspace") from None
        if prompts.version_of(text) != version:
            raise ArtifactMismatch(
                f"{path} was edited after it was kept: its content is {prompts.version_of(text)}. Restore it, and add "
                f"the change as a version of its own: tandem prompts add {name} FILE"
            )
        return text

    def get(self, name: str, version: str) -> Prompt:
        """Raises ArtifactMismatch, as ``text`` does."""
        return prompts.parse(name, self.text(name, version), str(self._path(name, version)))

    def add(self, name: str, text: str, now: str) -> Prompt:
        """Keep a text as a version; one that is kept already stays as it is. ``now``: ISO 8601, for the history.

        Raises ArtifactMismatch for a text that is no prompt, or has holes nobody fills.
        """
        prompt = prompts.parse(name, text, f"the new version of {name!r}")
        known = self.shipped(name).holes
        if stray := sorted(prompt.holes - known):
            raise ArtifactMismatch(
                f"nobody fills {', '.join(f'{{{hole}}}' for hole in stray)} of the prompt {name!r}; it may use "
                f"{', '.join(f'{{{hole}}}' for hole in sorted(known))}"
            )
        if self._keep(name, prompt.version, text):
            self.record(Entry(now, "add", name, prompt.version))
        return prompt

    def keep_shipped(self) -> None:
        """Keep the shipped versions, so that a release that names them can be served by later code too."""
        for name in NAMES:
            self._keep(name, self.shipped(name).version, self._shipped_path(name).read_text(encoding="utf-8"))

    def find(self, name: str, word: str, release: Mapping[str, Any]) -> str:
        """The version meant by a label (production, candidate, shipped), a version, or at least 4 of its first digits.

        ``release``: the promoted release's versions. Raises ArtifactMismatch.
        """
        if word == "shipped":
            return self.shipped(name).version
        if word == "production":
            return str(_prompts(release).get(name, "") or self.shipped(name).version)
        if word == "candidate":
            if not (candidate := _candidates(release).get(name)):
                raise ArtifactMismatch(f"the promoted release has no candidate for the prompt {name!r}")
            return str(candidate["version"])
        found = [version for version in self.versions(name) if version.startswith(word)]
        if len(found) == 1 and len(word) >= 4:
            return found[0]
        raise ArtifactMismatch(
            f"{word!r} names {len(found)} versions of the prompt {name!r}, give 4 digits or more of one of "
            f"{', '.join(self.versions(name))}, or production, candidate, shipped"
        )

    def of_release(self, release: Mapping[str, Any]) -> dict[str, Variants]:
        """The prompts a release serves, from its ``versions``, each checked. Raises ArtifactMismatch."""
        named, candidates = _prompts(release), _candidates(release)
        if missing := [name for name in NAMES if name not in named]:
            raise ArtifactMismatch(f"the release names no version of the prompt {missing[0]!r}. Run: tandem train")
        return {
            name: Variants(
                self.get(name, named[name]),
                self.get(name, candidates[name]["version"]) if name in candidates else None,
                float(candidates[name]["share"]) if name in candidates else 0.0,
            )
            for name in NAMES
        }

    def for_training(self, release: Mapping[str, Any] | None) -> dict[str, Prompt]:
        """What the next release should be trained with: what somebody released here, else what is shipped.

        ``release``: the promoted release's versions, None without one.
        """
        chosen = {entry.name for entry in self.history() if entry.action != "add"}
        named = _prompts(release or {})
        return {
            name: self.get(name, named[name]) if name in chosen and name in named else self.shipped(name)
            for name in NAMES
        }

    def diff(self, name: str, old: str, new: str) -> str:
        """A unified diff of two versions, "" for equal ones."""
        lines = difflib.unified_diff(
            self.text(name, old).splitlines(), self.text(name, new).splitlines(), f"{name}@{old}", f"{name}@{new}", n=3
        )
        return "\n".join(line.rstrip("\n") for line in lines)

    def history(self) -> list[Entry]:
        """Everything that was done, oldest first. A last line that a crash cut off is left out."""
        try:
            lines = (self._root / _HISTORY).read_text(encoding="utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        try:
            return [Entry(**json.loads(line)) for line in lines if line.endswith("\n") and line.strip()]
        except (ValueError, TypeError) as error:
            raise ArtifactMismatch(
                f"{self._root / _HISTORY} is damaged ({error}); delete the line that is no JSON object"
            ) from error

    def record(self, entry: Entry) -> None:
        """Append to the history; on disk when this returns."""
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / _HISTORY).open("a+b") as file:
            file.seek(0)
            whole = file.read()
            # A line that a crash cut off would make the next one unreadable.
            file.truncate(whole.rfind(b"\n") + 1)
            file.write((json.dumps(asdict(entry), sort_keys=True) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the registry while the promoted release is exchanged: of two at once the second waits for the first."""
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _path(self, name: str, version: str) -> Path:
        return self._root / name / f"{version}.prompt"

    def _shipped_path(self, name: str) -> Path:
        return (self._shipped_folder or Path(__file__).parent) / f"{name}.prompt"

    def _keep(self, name: str, version: str, text: str) -> bool:
        """Whether the version is new. The file appears whole, read-only, and never replaces one."""
        path = self._path(name, version)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o444)
            with suppress(FileExistsError):
                os.link(temporary, path)
                return True
            return False
        finally:
            os.unlink(temporary)


def _prompts(release: Mapping[str, Any]) -> Mapping[str, str]:
    return release.get("prompts") or {}


def _candidates(release: Mapping[str, Any]) -> Mapping[str, Any]:
    return release.get("prompt_candidates") or {}


def last_of(history: Sequence[Entry], release: str) -> Entry | None:
    """The newest prompt's release that promoted this release."""
    return next((entry for entry in reversed(history) if entry.release == release and entry.action == "release"), None)
