"""The workspace: one folder that holds everything derived from one catalog, and can be deleted."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from features.errors import WorkspaceError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class WorkspaceConfig:
    """What ingestion learned about a catalog; written once per ingest, read by everything after it.

    ``clock`` is ``data`` where the data ended long ago: "now" is then the data's end, so that recency features mean
    what they meant in training; ``wall`` where events are current.
    """

    dataset: str
    data_hash: str
    label_column: str | None
    ontology: str
    clock: Literal["data", "wall"]
    data_end: int
    item_attributes: dict[str, str] = field(default_factory=dict)
    user_attributes: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Workspace:
    """Paths of a workspace. Creating one touches nothing."""

    root: Path

    @property
    def config_file(self) -> Path:
        return self.root / "workspace.json"

    @property
    def items(self) -> Path:
        return self.root / "data" / "items.parquet"

    @property
    def interactions(self) -> Path:
        return self.root / "data" / "interactions.parquet"

    @property
    def users(self) -> Path:
        return self.root / "data" / "users.parquet"

    @property
    def offers(self) -> Path:
        """Which items stand together in an offer; no file where the catalog brought none."""
        return self.root / "data" / "offers.parquet"

    @property
    def ingest_report(self) -> Path:
        return self.root / "data" / "ingest.json"

    @property
    def rejects(self) -> Path:
        return self.root / "data" / "rejects"

    @property
    def features(self) -> Path:
        return self.root / "features"

    @property
    def events(self) -> Path:
        return self.root / "events" / "events.db"

    @property
    def arrivals(self) -> Path:
        return self.root / "events" / "items.db"

    @property
    def facts(self) -> Path:
        return self.root / "events" / "facts.db"

    @property
    def review(self) -> Path:
        return self.root / "events" / "review.db"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def llm(self) -> Path:
        return self.root / "llm"

    @property
    def gateway(self) -> Path:
        return self.root / "gateway"

    @property
    def llm_spend(self) -> Path:
        return self.gateway / "spend.db"

    @property
    def llm_cache(self) -> Path:
        return self.gateway / "answers.db"

    @property
    def llm_contexts(self) -> Path:
        return self.gateway / "contexts.db"

    @property
    def prompts(self) -> Path:
        return self.root / "prompts"

    @property
    def releases(self) -> Path:
        return self.root / "releases"

    @property
    def api_key(self) -> Path:
        return self.root / "secrets" / "api_key"

    def config(self) -> WorkspaceConfig:
        """The catalog's configuration. Raises WorkspaceError where nothing was ingested or the format is another."""
        try:
            raw = cast("Any", json.loads(self.config_file.read_text()))
            if not isinstance(raw, dict):
                raise ValueError(f"it holds a {type(raw).__name__}, no object")
        except FileNotFoundError:
            raise WorkspaceError(
                f"{self.root} is no Tandem workspace (no workspace.json). Run: tandem ingest --workspace {self.root}"
            ) from None
        except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are two of them
            raise self._damaged(error) from error
        if raw.get("format") != FORMAT:
            raise WorkspaceError(
                f"{self.root} has workspace format {raw.get('format')!r}, this code reads {FORMAT}. "
                "Delete the folder and run tandem ingest again"
            )
        try:
            return WorkspaceConfig(**raw)
        except TypeError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> WorkspaceError:
        return WorkspaceError(
            f"{self.config_file} is damaged ({error}). Delete {self.root} and run tandem ingest again"
        )

    def write_config(self, config: WorkspaceConfig) -> None:
        write_atomically(self.config_file, json.dumps(asdict(config), indent=2, sort_keys=True) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Replace the file's content in one step, so that a reader or a crash never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
