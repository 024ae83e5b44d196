"""``tandem serve`` and ``tandem demo``."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from cli.console import (
    DEFAULT_WORKSPACE,
    ConfigOption,
    WorkspaceOption,
    connected,
    err,
    fail,
    interruptible,
    progress_bar,
    wait_for_end,
)
from cli.settings import opener, read_settings
from features.workspace import Workspace

if TYPE_CHECKING:
    from serving.client import Client


def serve(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="gRPC port; overrides the settings.")] = None,
) -> None:
    """Serve the promoted release over gRPC until Ctrl-C.

    Example: tandem serve --workspace shop --port 9000
    """
    from serving.app import running

    settings = read_settings(config).serve_config()
    if port is not None:
        settings = settings.model_copy(update={"ingress": settings.ingress.model_copy(update={"port": port})})
    with interruptible(), ExitStack() as stack:
        with err.status("starting Ray and the ingress"):
            address = stack.enter_context(running(Workspace(workspace), settings))
        err.print(
            f"serving on [bold]{address}[/bold]; the API key is in {Workspace(workspace).api_key}; Ctrl-C ends it"
        )
        wait_for_end()


def demo(
    once: Annotated[bool, typer.Option(help="Exit after the three answers instead of serving on.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
) -> None:
    """Ingest real groceries, train, serve, and show three answers.

    Example: tandem demo --once
    """
    from serving.app import running
    from training.datasets.ingest import ingest_complete_journey
    from training.train import train as run
    from training.train import up_to_date

    settings, place = read_settings(config), Workspace(workspace)
    started = time.perf_counter()
    with progress_bar("ingest", False) as progress:
        ingest_complete_journey(place, progress=progress)
    if not up_to_date(place):
        with progress_bar("train", False) as progress:
            run(place, settings.train_config(), opener(place, settings), progress)
    serve_config = settings.serve_config()
    with interruptible(), ExitStack() as stack:
        with err.status("starting Ray and the ingress"):
            address = stack.enter_context(running(place, serve_config, quiet=True))
        err.print(
            f"up on {address} after {time.perf_counter() - started:.0f} s; the LLM loads beside it", highlight=False
        )
        with connected(workspace, address) as client:
            _show_demo(client, with_llm=serve_config.llm is not None)
        err.print(f"all three answers after {time.perf_counter() - started:.0f} s", highlight=False)
        if not once:
            err.print(f"serving on {address} until Ctrl-C; try: tandem recommend 900 --avoid dairy", highlight=False)
            wait_for_end()


DEMO_PROFILE = "two adults, a new baby, mostly vegetarian, cooks Mexican food"
DEMO_TITLE = "Organic refried black beans, 16 oz"
DEMO_TEXT = "Vegan refried beans with green chile and lime, for tacos and burritos."


def _show_demo(client: Client, with_llm: bool) -> None:
    from protos.tandem.v1 import recommender_pb2
    from serving import render
    from serving.client import item

    console = Console()
    console.rule("1. Recommend for household 900: trees decide, no LLM on the way")
    request = recommender_pb2.RecommendRequest(user_id="900", k=10, explain=True)
    client.recommend(request)  # the first call of a connection pays for it
    render.show(render.recommendation(client.recommend(request)))
    if with_llm:
        with progress_bar("loading the LLM", False) as progress:
            _wait_for_llm(client, progress)
    console.rule(f"2. Recommend for a household nobody has seen: “{DEMO_PROFILE}”")
    request = recommender_pb2.RecommendRequest(profile_text=DEMO_PROFILE, k=10, explain=True, deadline_ms=30_000)
    render.show(render.recommendation(client.recommend(request)))
    console.rule(f"3. Tag a product that is not in the catalog: “{DEMO_TITLE}”")
    product = item(DEMO_TITLE, DEMO_TEXT, {"brand": "National"})
    render.show(render.tags(client.tag(recommender_pb2.TagRequest(item=product, deadline_ms=30_000))))


def _wait_for_llm(client: Client, progress: Callable[[str, float], None], most_s: float = 300.0) -> None:
    started = time.monotonic()
    while not client.serving("tandem.llm"):
        waited = time.monotonic() - started
        if waited > most_s:
            fail(f"the LLM did not load within {most_s:.0f} s; the trees serve without it. See Ray's log of LLM")
        progress("loading the LLM", min(0.99, waited / 80.0))
        time.sleep(0.5)
    progress("loading the LLM", 1.0)
