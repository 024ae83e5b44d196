"""Prompts as versioned files: what an LLM is told is part of a release, by content hash."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import ArtifactMismatch
from models.ports import LLMRequest

_HOLE = re.compile(r"\{([a-z_]+)\}")
_SECTION = re.compile(r"^\[(system|user|max_tokens)\]\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A template of three sections: ``[system]``, ``[user]`` with ``{holes}``, ``[max_tokens]``."""

    name: str
    version: str
    system: str
    user: str
    max_tokens: int

    @property
    def id(self) -> str:
        """NAME@VERSION, as metrics, logs and traces have it."""
        return f"{self.name}@{self.version}"

    @property
    def holes(self) -> frozenset[str]:
        """What ``request`` fills in."""
        return frozenset(_HOLE.findall(self.user))

    def request(self, values: Mapping[str, str], schema: Mapping[str, Any]) -> LLMRequest:
        """Fill the holes. A value's own braces stay text: catalog and profile words cannot open a hole."""
        user = _HOLE.sub(lambda match: values[match.group(1)], self.user)
        return LLMRequest(system=self.system, user=user, max_tokens=self.max_tokens, json_schema=schema)


def load(name: str, folder: Path | None = None) -> Prompt:
    """The prompt ``name`` from its file; its version is the content's hash. Raises ArtifactMismatch."""
    path = (folder or Path(__file__).parent) / f"{name}.prompt"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ArtifactMismatch(f"no prompt {name!r} in {path.parent}; restore the file {path.name}") from None
    except UnicodeDecodeError as error:
        raise ArtifactMismatch(f"{path} is no UTF-8 ({error}); write it anew") from None
    return parse(name, text, str(path))


def parse(name: str, text: str, where: str) -> Prompt:
    """The prompt that a file's text is; ``where`` it is names it in errors. Raises ArtifactMismatch."""
    parts = _SECTION.split(text)
    sections = {key: body.strip() for key, body in zip(parts[1::2], parts[2::2])}
    if set(sections) != {"system", "user", "max_tokens"} or not sections["max_tokens"].isdigit():
        raise ArtifactMismatch(
            f"{where} needs the sections [system], [user] and [max_tokens] (a number); it has {sorted(sections)}"
        )
    return Prompt(name, version_of(text), sections["system"], sections["user"], int(sections["max_tokens"]))


def version_of(text: str) -> str:
    """The hash that names a prompt's text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
