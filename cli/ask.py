"""Questions to the running service, and items for it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from cli.console import (
    DEFAULT_TARGET,
    DEFAULT_WORKSPACE,
    DeadlineOption,
    JsonOption,
    TargetOption,
    UsageError,
    WorkspaceOption,
    connected,
    err,
    fail,
    label_of,
    pairs,
    progress_bar,
    show_reply,
)

if TYPE_CHECKING:
    pass

items_app = typer.Typer(no_args_is_help=True, help="The catalog of the running service.")


def recommend(
    user: Annotated[str, typer.Argument(help="User id; empty with --profile.")] = "",
    profile: Annotated[str, typer.Option(help="Somebody described in words.")] = "",
    k: Annotated[int, typer.Option(min=1, max=1000, help="How many items.")] = 10,
    avoid: Annotated[list[str] | None, typer.Option(help="Property or category no item may have; repeatable.")] = None,
    require: Annotated[list[str] | None, typer.Option(help="Property or category every item must have.")] = None,
    new: Annotated[bool, typer.Option("--new", help="Only items the user has not had.")] = False,
    place: Annotated[str, typer.Option(help="The store, branch or channel the user is at.")] = "",
    deadline_ms: DeadlineOption = 0,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """Ask the running service for recommendations.

    Example: tandem recommend 900 --avoid dairy --avoid alcohol
    Example: tandem recommend 900 --new
    Example: tandem recommend --profile "two adults, a new baby, mostly vegetarian"
    """
    from protos.tandem.v1 import recommender_pb2
    from serving import render

    request = recommender_pb2.RecommendRequest(
        user_id=user,
        profile_text=profile,
        k=k,
        constraints=recommender_pb2.Constraints(avoid=avoid or [], require=require or []),
        deadline_ms=deadline_ms,
        explain=True,
        new_only=new,
        place=place,
    )
    with connected(workspace, target) as client:
        table = partial(render.recommendation, label=label_of(workspace))
        show_reply(client.recommend(request), table, as_json)


def tag(
    title: Annotated[str, typer.Argument(help="The product's name.")],
    text: Annotated[str, typer.Option(help="Its description.")] = "",
    attribute: Annotated[list[str] | None, typer.Option(help="name=value; repeatable.")] = None,
    item_id: Annotated[str, typer.Option(help="Its id: tags for review become cases of it (tandem review).")] = "",
    vocabulary: Annotated[str, typer.Option(help="A label set (train.several) in place of the catalog's labels.")] = "",
    tenant: Annotated[str, typer.Option(help="On whose budget of the LLM.")] = "",
    deadline_ms: DeadlineOption = 0,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """Ask the running service for a product's tags.

    Example: tandem tag "Greek yogurt strawberry, 5.3 oz" --text "Nonfat strained yogurt" --attribute brand=National
    """
    from protos.tandem.v1 import recommender_pb2
    from serving import render
    from serving.client import item

    product = item(title, text, pairs(attribute), item_id)
    request = recommender_pb2.TagRequest(item=product, tenant=tenant, deadline_ms=deadline_ms, vocabulary=vocabulary)
    with connected(workspace, target) as client:
        show_reply(client.tag(request), render.tags, as_json)


def score(
    title: Annotated[str, typer.Argument(help="The product's name; left out with --stream.")] = "",
    claimed: Annotated[list[str] | None, typer.Option("--tag", help="A tag an LLM claims; repeatable.")] = None,
    text: Annotated[str, typer.Option(help="The product's description.")] = "",
    attribute: Annotated[list[str] | None, typer.Option(help="name=value; repeatable.")] = None,
    vocabulary: Annotated[str, typer.Option(help="The label set that the tags are of, if they are of one.")] = "",
    stream: Annotated[
        Path | None, typer.Option(help="JSON lines, each a ScoreRequest (protos/tandem/v1); - reads standard input.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """Let the ensemble judge tags that some LLM claims of a product.

    With --stream, every line is a request and has one line of JSON as its reply, in the same order; request_id tells
    them apart (line-N where a line has none). The exit code is 1 where a line could not be answered.

    Example: tandem score "Vegan burger patties" --tag "BEEF" --tag "MEAT - MISC"
    Example: echo '{"claims": [{"tag": {"item": {"title": "Brie"}, "tag": "CHEESE"}}]}' | tandem score --stream -
    """
    if stream is not None:
        if title or claimed or text or attribute or vocabulary:
            raise UsageError("--stream takes its products and claims from the lines; leave the others out")
        _score_stream(stream, workspace, target)
        return
    if not title or not claimed:
        raise UsageError("give the product's name and at least one --tag, or --stream FILE")
    from protos.tandem.v1 import ensemble_pb2
    from serving import render
    from serving.client import item

    product = item(title, text, pairs(attribute))
    claims = [
        ensemble_pb2.Claim(tag=ensemble_pb2.TagClaim(item=product, tag=name, vocabulary=vocabulary)) for name in claimed
    ]
    with connected(workspace, target) as client:
        show_reply(client.score(ensemble_pb2.ScoreRequest(claims=claims)), render.judgements, as_json)


def _score_stream(source: Path, workspace: Path, target: str) -> None:
    from serving.scorelines import Lines, reply_line

    try:
        with connected(workspace, target) as client, Lines.open(source) as lines:
            for reply in client.score_stream(lines.requests()):
                print(reply_line(reply), flush=True)
                lines.failed += reply.HasField("failure")
    except OSError as error:
        fail(f"{source} cannot be read ({error.strerror}); give a file of JSON lines, or - for standard input")
    for problem in lines.problems:
        err.print(problem, highlight=False, markup=False, soft_wrap=True)
    if lines.failed or lines.problems:
        raise typer.Exit(1)


@items_app.command("add")
def items_add(
    source: Annotated[Path, typer.Option("--input", help="Items: parquet or CSV with item_id, title, ...")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """Add items to the running service, or replace what it knows of them: usable at once, without retraining.

    A row holds the whole item. Rows that are refused are named with the reason, and the exit code is 1.

    Example: tandem items add --input new_items.parquet
    """
    from dataclasses import asdict

    from serving.upload import upload

    with progress_bar("items", as_json) as progress, connected(workspace, target) as client:
        report = upload(client, source, progress)
    if as_json:
        print(json.dumps(asdict(report)))
    else:
        Console().print(
            f"{report.rows:,} rows: {report.recorded:,} recorded ({report.updated:,} of known items), "
            f"{report.unchanged:,} unchanged, {len(report.rejected):,} refused",
            highlight=False,
        )
        if report.unknown_attributes:
            err.print(f"no column of the catalog, not used: {', '.join(report.unknown_attributes)}", highlight=False)
        for row in report.rejected[:20]:
            err.print(f"row {row.row} ({row.item_id}): {row.reason}", highlight=False, markup=False)
        if len(report.rejected) > 20:
            err.print(f"and {len(report.rejected) - 20:,} more; --json has all", highlight=False)
    if report.rejected:
        raise typer.Exit(1)
