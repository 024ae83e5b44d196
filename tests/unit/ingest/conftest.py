"""A small shop on disk, and an `ingest` of it whose tables a test replaces one by one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features.workspace import Workspace
from training.datasets.ingest import ingest_files
from training.datasets.report import IngestReport

NOW = datetime(2024, 6, 1, tzinfo=UTC)
ITEMS = "item_id,title,category,price\na,Apple,fruit,1.5\nb,Bread,bakery,3\nc,Cheese,dairy,\n"
EVENTS = "user_id,item_id,timestamp\nu2,b,2024-05-03T10:00:00Z\nu1,a,2024-05-01T10:00:00Z\nu1,b,2024-05-01T10:00:00Z\n"

Table = str | pl.DataFrame
Ingest = Callable[..., IngestReport]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def shop(tmp_path: Path, workspace: Workspace) -> Ingest:
    """Text becomes a CSV file, a frame a parquet file; options go to `ingest_files`."""

    def run(
        items: Table = ITEMS,
        interactions: Table = EVENTS,
        users: Table | None = None,
        offers: Table | None = None,
        **options: Any,
    ) -> IngestReport:
        def put(name: str, table: Table) -> Path:
            path = tmp_path / (f"{name}.csv" if isinstance(table, str) else f"{name}.parquet")
            path.write_text(table) if isinstance(table, str) else table.write_parquet(path)
            return path

        options = {"dataset": "shop", "now": NOW, **options}
        listed, together = (
            None if table is None else put(name, table) for name, table in (("users", users), ("offers", offers))
        )
        return ingest_files(
            put("items", items), put("interactions", interactions), listed, workspace, offers=together, **options
        )

    return run
