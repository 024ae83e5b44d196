"""Where a report goes: HTML and JSON in the workspace, and a run in the MLflow store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.workspace import Workspace, write_atomically
from training.report import html, tracking


@dataclass(frozen=True, slots=True)
class Written:
    """The newest report's files, the MLflow run and the store it is in."""

    html: Path
    json: Path
    run: str
    store: str


def write(workspace: Workspace, result: Mapping[str, Any]) -> Written:
    """Raises MissingExtra where mlflow is not installed."""
    page, numbers = workspace.reports / "ranking.html", workspace.reports / "ranking.json"
    rendered = html.render(result)
    write_atomically(page, rendered)
    write_atomically(numbers, json.dumps(result, indent=2, allow_nan=False) + "\n")
    return Written(page, numbers, tracking.record(workspace, result, rendered), tracking.store(workspace))
