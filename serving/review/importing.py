"""Results of a batch job into the queue: what the service would have put up had it tagged the products itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from features.gold import SET_GROUP
from models.ports import Contribution
from models.tagging import TagItem
from serving.batch import TAGS
from serving.errors import BackfillFailed, InvalidRequest, NotReady
from serving.products import ProductFile, product
from serving.review.cases import Proposal, Span
from serving.review.desk import ReviewDesk
from serving.review.proposals import group_of, kind_of, promise_of, unit_of
from serving.services import Services

_TOGETHER: Final = 1_000
_NEEDED: Final = ("item_id", "tag", "probability", "verdict", "decided_by", "release")
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Imported:
    """``tags`` read; ``review`` and ``audit`` cases among them, of which ``opened`` were not there before.

    ``unknown``: tags that would be cases, left out for nobody knows their items' words.
    """

    tags: int
    review: int
    audit: int
    opened: int
    unknown: int


def import_tags(
    services: Services, sources: Sequence[Path], items: Path | None = None, progress: Progress = lambda *_: None
) -> Imported:
    """Open the cases of results (parquet files as `serving.batch.TAGS`, or folders of them); again is harmless.

    ``items``: the products that were tagged (CSV or parquet); else their words are the catalog's. Raises BackfillFailed
    where a file is none of tags, NotReady without a queue, StoreUnavailable.
    """
    desk = services.review
    if desk is None:
        raise NotReady("this process keeps no review queue; import into a workspace that has been served")
    tags, rows = _cases(desk, sources)
    words = _words(services, {row["item_id"] for row in rows}, items)
    found = [_proposal(services, desk, row, words[row["item_id"]]) for row in rows if row["item_id"] in words]
    opened = 0
    for start in range(0, len(found), _TOGETHER):
        progress("opening cases", start / len(found))
        opened += desk.queue.put(found[start : start + _TOGETHER])
    desk.queue.sync()
    audits = sum(proposal.kind == "audit" for proposal in found)
    return Imported(tags, len(found) - audits, audits, opened, len(rows) - len(found))


def _files(sources: Iterable[Path]) -> Iterator[Path]:
    for source in sources:
        parts = sorted(source.glob("part-*.parquet")) if source.is_dir() else [source]
        if not parts:
            raise BackfillFailed(f"{source} holds no part-*.parquet; give the --output of tandem backfill tags")
        yield from parts


def _read(path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise BackfillFailed(f"{path} cannot be read ({error}); give results of tandem backfill tags") from error
    missing = [name for name in _NEEDED if name not in frame.columns]
    if missing:
        raise BackfillFailed(f"{path} has no column {missing[0]}; give results of tandem backfill tags")
    try:
        known = [pl.col(name).cast(dtype) for name, dtype in TAGS.items() if name in frame.columns]
        frame = frame.select(known)
        if "vocabulary" in frame.columns:
            own = pl.col("vocabulary") != ""
            frame = frame.with_columns(
                tag=pl.when(own).then(pl.concat_str("vocabulary", "tag", separator="/")).otherwise("tag"),
                group=pl.when(own).then(pl.concat_str(pl.lit(SET_GROUP), "vocabulary", pl.lit("/"), "tag")),
                promised=pl.when(own).then(pl.col("certificate").struct.field("precision")),
            )
        return pl.concat([frame.filter(pl.col("tag").is_not_null()), _values(frame)], how="diagonal")
    except pl.exceptions.PolarsError as error:
        raise BackfillFailed(f"{path} holds other columns than tandem backfill tags writes ({error})") from error


def _values(frame: pl.DataFrame) -> pl.DataFrame:
    """Values of attributes as rows of their own, with their ``group``, as a case calls them."""
    if "attributes" not in frame.columns:
        return pl.DataFrame()
    rows = frame.select("row", "item_id", "release", "attributes").explode("attributes").drop_nulls("attributes")
    value = rows.unnest("attributes")
    return value.with_columns(
        tag=pl.concat_str("attribute", "value", separator="="),
        group=pl.col("certificate").struct.field("group"),
        promised=pl.col("certificate").struct.field("precision"),
        decided_by=pl.lit("guardrail"),
    )


def _cases(desk: ReviewDesk, sources: Sequence[Path]) -> tuple[int, list[Mapping[str, Any]]]:
    """How many tags there are, and the rows that are cases, with their ``kind``."""
    tags = 0
    found: list[Mapping[str, Any]] = []
    for path in _files(sources):
        frame = _read(path)
        tags += len(frame)
        for row in frame.filter(pl.col("verdict").is_in(["review", "accept"])).iter_rows(named=True):
            kind = kind_of(desk, row["item_id"], row["tag"], row["verdict"], row["decided_by"], row["release"])
            if kind is not None:
                found.append({**row, "kind": kind})
    return tags, found


def _words(services: Services, wanted: set[str], items: Path | None) -> dict[str, TagItem]:
    """The products' words by id: the file's where there is one, and the catalog's."""
    found: dict[str, TagItem] = {}
    if items is not None:
        file = ProductFile.open(items, _TOGETHER)
        for start in range(0, file.rows, _TOGETHER):
            for row in file.read(start, min(start + _TOGETHER, file.rows)):
                try:
                    item_id, item = product(row)
                except InvalidRequest:  # it was a dead letter of the job as well
                    continue
                if item_id in wanted:
                    found[item_id] = item
    for item_id in wanted - set(found):
        row_number = services.table.row_of(item_id)
        if row_number >= 0:
            record = services.table.frame.row(row_number, named=True)
            found[item_id] = TagItem(record["title"], record["text"] or "", services.table.attributes(row_number))
    return found


def _prompt(services: Services, row: Mapping[str, Any]) -> str:
    return services.prompts["attributes" if row.get("attribute") else "tag"].of(row["item_id"]).id


def _proposal(services: Services, desk: ReviewDesk, row: Mapping[str, Any], item: TagItem) -> Proposal:
    field, sources = row.get("evidence_field"), tuple(row.get("sources") or ())
    asked = "llm" in sources and row["release"] == services.release.id
    return Proposal(
        row["kind"],
        row["item_id"],
        item,
        row["tag"],
        row["probability"],
        row.get("group") or group_of(services, row["tag"]),
        unit_of(services, row["item_id"], item),
        row["release"],
        row.get("promised") or promise_of(services, desk),
        sources,
        Span(field, row["evidence_start"], row["evidence_end"], row["evidence_text"] or "") if field else None,
        tuple(Contribution(**reason) for reason in row.get("reasons") or ()),
        tuple(row.get("facts") or ()),
        _prompt(services, row) if asked else "",
    )
