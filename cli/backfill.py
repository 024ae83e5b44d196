"""``tandem backfill``: jobs over whole catalogs."""

from __future__ import annotations

import json
import tempfile
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from cli.console import (
    DEFAULT_WORKSPACE,
    ConfigOption,
    JsonOption,
    UsageError,
    WorkspaceOption,
    progress_bar,
)
from cli.settings import read_settings
from features.workspace import Workspace

if TYPE_CHECKING:
    from training.tagging.untagged import Untagged

backfill_app = typer.Typer(no_args_is_help=True, help="Tag or recommend in bulk, as a resumable Ray Data job.")


@backfill_app.command("tags")
def backfill_tags(
    source: Annotated[Path, typer.Option("--input", help="Products: parquet or CSV with item_id, title, ...")],
    output: Annotated[Path, typer.Option(help="Folder of the results; a killed job resumes here.")],
    llm: Annotated[bool, typer.Option(help="Ask the LLM as well (slow without a GPU).")] = False,
    vocabulary: Annotated[str, typer.Option(help="A label set (train.several) in place of the catalog's labels.")] = "",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tag a file of products.

    Example: tandem backfill tags --input new_products.parquet --output tagged/
    Example: tandem backfill tags --input new_products.parquet --output labelled/ --vocabulary diets
    """
    from serving.backfill import tag_products

    with progress_bar("backfill", as_json) as progress:
        report = tag_products(
            Workspace(workspace),
            read_settings(config).serve_config(),
            source,
            output,
            with_llm=llm,
            vocabulary=vocabulary,
            progress=progress,
        )
    _print_backfill(report, as_json)


@backfill_app.command("recommendations")
def backfill_recommendations(
    output: Annotated[Path, typer.Option(help="Folder of the results; a killed job resumes here.")],
    k: Annotated[int, typer.Option(min=1, max=1000, help="Items per user.")] = 10,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend for every known user.

    Example: tandem backfill recommendations --k 20 --output recommendations/
    """
    from serving.backfill import recommend_all

    with progress_bar("backfill", as_json) as progress:
        report = recommend_all(Workspace(workspace), read_settings(config).serve_config(), output, k, progress=progress)
    _print_backfill(report, as_json)


@backfill_app.command("untagged")
def backfill_untagged(
    output: Annotated[Path, typer.Option(help="Folder of the results, as of tandem backfill tags; must be new.")],
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other folds.")] = 7,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tag the catalog's products of kinds that nobody labelled, kind by kind.

    By all that the catalog knows of a kind: words, makers, what it is bought with and by whom (minutes). What is
    accepted has a certificate of its own, counted on labelled kinds; tandem evaluate tags --dataset catalog shows how
    good it is. Products of labelled kinds are for tandem backfill tags. Needs the extra 'train'.

    Example: tandem backfill untagged --output untagged/
    Example: tandem review import untagged/
    """
    from models import release
    from models.embedder import MiniLMEmbedder
    from serving.review.queue import ReviewQueue
    from training.tagging.untagged import tag_untagged

    place = Workspace(workspace)
    place.config()
    current, _ = release.read(place.releases)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} is there already; name a new folder, or remove it")
    settings = read_settings(config)
    promise = settings.train_config().tags
    queue = ReviewQueue(place.review, settings.serve_config().review)
    switched = frozenset(queue.switched())
    queue.close()
    with progress_bar("backfill", as_json) as progress:
        found = tag_untagged(place, promise, MiniLMEmbedder(), seed, progress, review_only=switched.__contains__)
    _write_untagged(found, output, current.id)
    _print_untagged(found, promise.confidence, output, as_json)


def _write_untagged(found: Untagged, output: Path, release_id: str) -> None:
    import polars as pl

    from serving.batch import TAGS, certificate_row

    rows = []
    for item in found.items:
        field, start, end = item.evidence or (None, None, None)
        rows.append(
            {
                "row": item.row,
                "item_id": item.item_id,
                "vocabulary": "",
                "abstained": item.verdict == "reject",
                "rank": 1,
                "tag": item.tag,
                "probability": item.probability,
                "verdict": item.verdict,
                "decided_by": "graph" if item.facts or not item.warrant else "guardrail",
                "sources": ["neighbours"],
                "evidence_field": field,
                "evidence_start": start,
                "evidence_end": end,
                "evidence_text": item.evidence_text if item.evidence else None,
                "facts": ["\n".join(proof.lines()) for proof in item.facts],
                "reasons": [],
                "certificate": certificate_row(item.warrant),
                "attributes": [],
                "degraded": [],
                "release": release_id,
            }
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not there, whatever is killed.
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
        pl.DataFrame(rows, schema=TAGS).write_parquet(Path(folder) / "results" / "part-00000.parquet", mkdir=True)
        (Path(folder) / "results").replace(output)


def _print_untagged(found: Untagged, confidence: float, output: Path, as_json: bool) -> None:
    verdicts = {name: sum(item.verdict == name for item in found.items) for name in ("accept", "review", "reject")}
    bound = found.bound
    if as_json:
        report = {
            "output": str(output),
            "items": len(found.items),
            **verdicts,
            "kinds": {
                "labelled": found.labelled,
                "asked": found.asked,
                "accepted": found.accepted,
                "left_out": found.left_out,
            },
            "certificate": {
                "threshold": None if bound.threshold == inf else bound.threshold,
                "units": bound.units,
                "accepted": bound.accepted,
                "wrong": bound.wrong,
                "lower_bound": bound.lower,
                "confidence": confidence,
                "reason": bound.reason,
            },
            "seconds": found.seconds,
        }
        print(json.dumps(report))
        return
    console = Console()
    console.print(
        f"{len(found.items)} products of {found.asked} kinds without labels: {verdicts['accept']} accepted "
        f"({found.accepted} kinds), {verdicts['review']} for review, {verdicts['reject']} rejected, "
        f"{found.seconds:.1f} s, in {output}"
    )
    if bound.reason:
        console.print(f"accepted nothing: {bound.reason}")
    elif found.asked:
        console.print(
            f"certificate: from {bound.threshold:.4f} on {bound.wrong} of {bound.accepted} labelled kinds were wrong, "
            f"so {bound.lower:.1%} or more are right (confidence {confidence:.0%})"
        )
    if found.left_out:
        console.print(f"{found.left_out} smaller kinds are left; label what is sure of these, and run again")


def _print_backfill(report: Any, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print(json.dumps(asdict(report)))
        return
    Console().print(
        f"{report.rows} rows: {report.done} done, {report.dead} in dead letters, "
        f"{report.partitions_reused} of {report.partitions} partitions reused, "
        f"{report.seconds:.1f} s, in {report.output}"
    )
