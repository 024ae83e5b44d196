"""Ingestion: sources in any common shape become a workspace's canonical data, or one error that says all of why not."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import polars as pl

from features.arrivals import arrived_items
from features.errors import WorkspaceError
from features.workspace import Workspace, WorkspaceConfig
from training.datasets import complete_journey
from training.datasets.errors import WriteFailed
from training.datasets.hashing import content_hash
from training.datasets.report import Findings, IngestReport
from training.datasets.schema import CURRENT, REJECT_COLUMNS, AttributeKind, TableName
from training.datasets.sources import AUTO, Progress, Sources, Tables, file_hash, file_sources, silent
from training.datasets.tables import (
    FUTURE,
    UNKNOWN_ITEM,
    Canonical,
    canonical_interactions,
    canonical_items,
    canonical_offers,
    canonical_users,
    empty,
)


def ingest_files(
    items: Path,
    interactions: Path,
    users: Path | None,
    workspace: Workspace,
    *,
    offers: Path | None = None,
    dataset: str | None = None,
    label_column: str | None = AUTO,
    ontology: str = "generic",
    timestamp_format: str | None = None,
    progress: Progress = silent,
    now: datetime | None = None,
) -> IngestReport:
    """Ingest CSV or parquet files of the columns in `schema`. Raises and returns what `ingest` does."""
    sources = file_sources(
        items,
        interactions,
        users,
        offers,
        dataset=dataset,
        label_column=label_column,
        ontology=ontology,
        timestamp_format=timestamp_format,
    )
    return ingest(sources, workspace, progress, now=now)


def ingest_complete_journey(
    workspace: Workspace,
    households: int | None = None,
    *,
    label_column: str | None = AUTO,
    ontology: str = "grocery",
    progress: Progress = silent,
    now: datetime | None = None,
) -> IngestReport:
    """Ingest The Complete Journey, or the slice of ``households`` of it. Raises and returns what `ingest` does."""
    sources = complete_journey.sources(households, label_column=label_column, ontology=ontology)
    return ingest(sources, workspace, progress, now=now)


def ingest(
    sources: Sources, workspace: Workspace, progress: Progress = silent, *, now: datetime | None = None
) -> IngestReport:
    """Validate the sources and replace the workspace's data and configuration with their canonical form.

    The workspace changes only where all of it succeeded, and not at all where it already holds these sources (status
    ``unchanged``). A crash midway leaves the old data, the new data, or a workspace that asks for an ingest.
    Raises SourceUnreadable, InvalidTable (carrying every problem found) or WriteFailed.
    """
    started, now = time.perf_counter(), now or datetime.now(UTC)
    progress("checking the workspace", 0.0)
    with _exclusive(workspace):
        arrived = pl.Series([entry.item.item_id for entry in arrived_items(workspace)], dtype=pl.String)
        known = _unchanged(sources, workspace, now, arrived)
        if known is not None:
            progress("unchanged", 1.0)
            return replace(known, status="unchanged", seconds=round(time.perf_counter() - started, 3))
        progress("reading", 0.05)
        tables = sources.load()
        findings = Findings()
        canonical = _canonical(tables, sources, findings, progress, now, arrived)
        progress("hashing", 0.65)
        data_hash = content_hash({name: table.frame for name, table in canonical.items()})
        config = _config(sources, canonical, data_hash, findings, now)
        findings.raise_problems()
        progress("writing", 0.75)
        report = IngestReport(
            status="ingested",
            dataset=sources.dataset,
            data_hash=data_hash,
            fingerprint=sources.fingerprint,
            tables={name: table.count for name, table in canonical.items()},
            notices=tuple(findings.notices),
            files={},
            seconds=0.0,
        )
        report = _write(workspace, canonical, config, report, started)
        progress("ingested", 1.0)
        return report


def _canonical(
    tables: Tables, sources: Sources, findings: Findings, progress: Progress, now: datetime, arrived: pl.Series
) -> dict[TableName, Canonical]:
    progress("checking items", 0.15)
    items = canonical_items(tables.items, findings)
    users = canonical_users(tables.users, findings) if tables.users else empty("users")
    progress("checking interactions", 0.2)
    # Items that came through the service are known though the source does not have them: training adds them.
    known = pl.concat([items.frame["item_id"], arrived.alias("item_id")]).unique(maintain_order=True)
    events = canonical_interactions(tables.interactions, known, findings, now, sources.timestamp_format)
    findings.raise_problems()
    for table, canonical in ((tables.items, items), (tables.interactions, events)):
        if canonical.frame.is_empty():
            reasons = ", ".join(f"{n} rows: {reason}" for reason, n in canonical.count.rejected.items())
            findings.problem(table.name, f"no row is left ({reasons or 'all are excluded'}). Correct the source")
    findings.raise_problems()
    if tables.users:
        _note_unlisted(events, users, findings)
    found: dict[TableName, Canonical] = {"items": items, "interactions": events, "users": users}
    if tables.offers:
        progress("checking offers", 0.6)
        found["offers"] = canonical_offers(tables.offers, known, findings)
    return found


def _note_unlisted(events: Canonical, users: Canonical, findings: Findings) -> None:
    seen = events.frame["user_id"].unique().sort()
    unlisted = seen.filter(~seen.is_in(users.frame["user_id"].implode()))
    findings.note("users", "users with interactions and no row in users", unlisted.len(), tuple(unlisted.head(5)))


def _config(
    sources: Sources, canonical: dict[TableName, Canonical], data_hash: str, findings: Findings, now: datetime
) -> WorkspaceConfig:
    attributes = canonical["items"].attributes
    data_end = int(canonical["interactions"].frame.select(pl.col("timestamp").max().dt.epoch("s")).item())
    clock = _clock(data_end, now)
    if clock == "data":
        findings.note(
            "interactions",
            f"data ends at {datetime.fromtimestamp(data_end, UTC):%Y-%m-%d}: it runs on the data's clock",
            1,
        )
    return WorkspaceConfig(
        dataset=sources.dataset,
        data_hash=data_hash,
        label_column=_label(sources, attributes, findings),
        ontology=sources.ontology,
        clock=clock,
        data_end=data_end,
        item_attributes=dict(attributes),
        user_attributes=dict(canonical["users"].attributes),
    )


def _label(sources: Sources, attributes: dict[str, AttributeKind], findings: Findings) -> str | None:
    label = sources.label_column
    if label == AUTO:
        return "category" if attributes.get("category") == "categorical" else None
    if label is not None and attributes.get(label) != "categorical":
        # A certificate is about one label an item: which of several would be the right one?
        usable = [name for name, kind in attributes.items() if kind == "categorical"]
        found = f"is {attributes[label]}" if label in attributes else "is no attribute of the items"
        findings.problem(
            sources.dataset, f"label column '{label}' {found}. Choose one of {', '.join(usable) or 'none'}"
        )
    return label


def _clock(data_end: int, now: datetime) -> Literal["data", "wall"]:
    return "data" if data_end < (now - CURRENT).timestamp() else "wall"


def _unchanged(sources: Sources, workspace: Workspace, now: datetime, arrived: pl.Series) -> IngestReport | None:
    """The report of the ingest the workspace holds, where running again would change nothing."""
    try:
        report = IngestReport.from_json(workspace.ingest_report.read_text())
        config = workspace.config()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, WorkspaceError):
        return None
    same = report.fingerprint == sources.fingerprint and report.data_hash == config.data_hash
    # Both depend on the day of the ingest: what lay in the future may be past, what was current may be old.
    settled = FUTURE not in report.tables["interactions"].rejected and config.clock == _clock(config.data_end, now)
    data = workspace.ingest_report.parent
    if not (same and settled and all((data / name).is_file() for name in report.files)):
        return None
    for name, count in report.tables.items():
        if UNKNOWN_ITEM in count.rejected and len(arrived):
            refused = pl.read_parquet(workspace.rejects / f"{name}.parquet")
            refused = refused.filter(pl.col(REJECT_COLUMNS[1]) == UNKNOWN_ITEM)
            if refused["item_id"].cast(pl.String).is_in(arrived.implode()).any():
                return None
    return report if all(file_hash(data / name) == sha for name, sha in report.files.items()) else None


@contextmanager
def _exclusive(workspace: Workspace) -> Iterator[None]:
    """One ingest at a time per workspace; the lock goes with the process, however it ends."""
    try:
        workspace.root.mkdir(parents=True, exist_ok=True)
        lock = (workspace.root / ".ingest.lock").open("w")
    except OSError as error:
        raise WriteFailed(f"{workspace.root} cannot be written ({error.strerror}). Choose another workspace") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WriteFailed(f"{workspace.root} is being written by another ingest. Wait until it ends") from None
        yield


def _write(
    workspace: Workspace,
    canonical: dict[TableName, Canonical],
    config: WorkspaceConfig,
    report: IngestReport,
    started: float,
) -> IngestReport:
    data = workspace.ingest_report.parent
    new, old = workspace.root / ".ingest-new", workspace.root / ".ingest-old"
    try:
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)
        (new / "rejects").mkdir(parents=True)
        for name, table in canonical.items():
            table.frame.write_parquet(new / f"{name}.parquet")
            if table.rejects.height:
                table.rejects.write_parquet(new / "rejects" / f"{name}.parquet")
        files = {str(path.relative_to(new)): file_hash(path) for path in sorted(new.rglob("*.parquet"))}
        report = replace(report, files=files, seconds=round(time.perf_counter() - started, 3))
        (new / "ingest.json").write_text(report.to_json(), encoding="utf-8")
        # Without its configuration a workspace counts as not ingested: no reader sees new data under an old one.
        workspace.config_file.unlink(missing_ok=True)
        if data.exists():
            os.rename(data, old)
        os.rename(new, data)
        workspace.write_config(config)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        shutil.rmtree(new, ignore_errors=True)
        raise WriteFailed(
            f"{workspace.root} could not be written ({error}). Free space or check permissions"
        ) from error
    return report
