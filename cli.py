"""The command line of Tandem: from a catalog to a running service, and questions to it.

Wiring only. Exit codes: 0 done, 1 failed (one line on standard error, with the remedy), 2 wrong usage.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import tomllib
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from features.errors import FeatureError
from features.workspace import Workspace
from graph.errors import GraphError
from models.errors import ModelError
from serving.errors import ServingError

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import RenderableType

    from serving.client import Client
    from serving.config import ServeConfig
    from training.config import TrainConfig

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Tandem: recommendations and tags where an LLM proposes, and trees and a knowledge graph decide.",
)
graph_app = typer.Typer(no_args_is_help=True, help="Ask the knowledge graph.")
backfill_app = typer.Typer(no_args_is_help=True, help="Tag or recommend in bulk, as a resumable Ray Data job.")
items_app = typer.Typer(no_args_is_help=True, help="The catalog of the running service.")
app.add_typer(graph_app, name="graph")
app.add_typer(items_app, name="items")
app.add_typer(backfill_app, name="backfill")

_err = Console(stderr=True)

WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", envvar="TANDEM_WORKSPACE", help="Folder of everything derived.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", envvar="TANDEM_CONFIG", help="Settings (TOML); see deploy/tandem.toml.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
TargetOption = Annotated[str, typer.Option("--target", envvar="TANDEM_TARGET", help="host:port of the service.")]
DEFAULT_WORKSPACE = Path("workspace")
DEFAULT_TARGET = "127.0.0.1:9000"

# Nothing is downloaded or reported at run time; libraries' own bars and warnings would drown what a command says.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}


class UsageError(typer.TyperException):
    """A command cannot be meant as it was written."""

    exit_code = 2


class Settings(BaseModel):
    """The settings file: ``[online_store]`` and ``[llm]`` are shared by training and serving."""

    model_config = ConfigDict(extra="forbid")

    online_store: dict[str, Any] = {}
    llm: dict[str, Any] | bool = {}
    """``llm = false`` trains and serves without one."""
    train: dict[str, Any] = {}
    serve: dict[str, Any] = {}

    def _shared(self) -> dict[str, Any]:
        shared: dict[str, Any] = {"online_store": self.online_store}
        if self.llm is False:
            shared["llm"] = None
        elif isinstance(self.llm, dict) and self.llm:
            shared["llm"] = self.llm
        return shared

    def train_config(self) -> TrainConfig:
        from training.config import TrainConfig

        return TrainConfig.model_validate({**self._shared(), **self.train})

    def serve_config(self) -> ServeConfig:
        from serving.config import ServeConfig

        return ServeConfig.model_validate({**self._shared(), **self.serve})


def _settings(path: Path | None) -> Settings:
    if path is None:
        return Settings()
    try:
        return Settings.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        _fail(f"the settings file {path} cannot be read ({error.strerror}); check --config")
    except tomllib.TOMLDecodeError as error:
        _fail(f"the settings file {path} is no TOML: {error}")


# --- data, training, evaluation --------------------------------------------------------------------------------------


@app.command()
def ingest(
    items: Annotated[Path | None, typer.Option(help="Items: parquet or CSV with item_id, title, ...")] = None,
    interactions: Annotated[Path | None, typer.Option(help="Interactions: user_id, item_id, timestamp, ...")] = None,
    users: Annotated[Path | None, typer.Option(help="Users: user_id and attributes.")] = None,
    label_column: Annotated[str | None, typer.Option(help="The items' column that Tag predicts.")] = None,
    ontology: Annotated[str | None, typer.Option(help="Knowledge for the graph: grocery, generic.")] = None,
    households: Annotated[int | None, typer.Option(min=1, help="Only a slice of the built-in dataset.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Read a catalog into a workspace. Without files: The Complete Journey (real groceries) from its package.

    Example: tandem ingest --items items.parquet --interactions events.csv --workspace shop
    """
    from training.datasets.ingest import ingest_complete_journey, ingest_files
    from training.datasets.sources import AUTO

    if (items is None) != (interactions is None):
        raise UsageError("--items and --interactions go together; give both, or neither for the built-in dataset")
    place = Workspace(workspace)
    with _progress("ingest", as_json) as progress:
        if items is not None and interactions is not None:
            report = ingest_files(
                items,
                interactions,
                users,
                place,
                label_column=label_column or AUTO,
                ontology=ontology or "generic",
                progress=progress,
            )
        else:
            report = ingest_complete_journey(
                place,
                households,
                label_column=label_column or AUTO,
                ontology=ontology or "grocery",
                progress=progress,
            )
    if as_json:
        # The report as it is kept in the workspace: status, tables (rows in, out, set aside by reason), notices.
        print(json.dumps(json.loads(report.to_json()), sort_keys=True))
        return
    table = Table(title=f"{report.dataset}: {report.status} into {workspace}", title_justify="left")
    for column in ("table", "rows in", "rows kept", "set aside"):
        table.add_column(column)
    for name, count in report.tables.items():
        aside = {**count.rejected, **count.excluded}
        reasons = "; ".join(f"{number:,} {reason}" for reason, number in aside.items())
        table.add_row(name, f"{count.rows_in:,}", f"{count.rows_out:,}", reasons)
    Console().print(table)
    for notice in report.notices:
        _err.print(f"{notice.level}: {notice.table}: {notice.kind} ({notice.count:,})", highlight=False)


@app.command()
def train(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Materialize features, train ranker and guardrails, build the index, release.

    Example: tandem train --workspace shop
    """
    from training.train import train as run

    with _progress("train", as_json) as progress:
        report = run(Workspace(workspace), _settings(config).train_config(), progress)
    if as_json:
        print(json.dumps({"release": report.release, "metrics": report.metrics, "seconds": report.seconds}))
        return
    Console().print(f"released [bold]{report.release}[/bold] in {sum(report.seconds.values()):.0f} s")
    _show_metrics(report.metrics)


@app.command()
def evaluate(
    what: Annotated[str, typer.Argument(help="ranking, release, tags, cold-start or parity.")] = "ranking",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
    target: TargetOption = DEFAULT_TARGET,
    requests: Annotated[int, typer.Option(min=1, help="parity: users and times asked for.")] = 200,
    seed: Annotated[int, typer.Option(help="parity: another seed draws other users and times.")] = 7,
    as_json: JsonOption = False,
) -> None:
    """How good it is on held-out data, next to baselines, with intervals.

    "ranking" fits ranker and baselines on the past of each protocol and compares them (minutes); the report is written
    to the workspace as HTML and JSON and kept as an MLflow run. "release", "tags" and "cold-start" show what was
    measured when the promoted release was trained, on data that it was not trained on. "parity" asks the running
    service for random users and times, and a backfill too, computes it all anew and fails where any bit differs.

    Example: tandem evaluate ranking --json
    Example: tandem evaluate parity --requests 500
    """
    if what == "parity":
        _evaluate_parity(Workspace(workspace), _settings(config).serve_config(), target, requests, seed, as_json)
        return
    if what == "ranking":
        _evaluate_ranking(Workspace(workspace), _settings(config).train_config(), as_json)
        return
    from models import release

    keys = {"release": "ranking", "tags": "tags", "cold-start": "cold_start"}
    if what not in keys:
        raise UsageError(f"there is no evaluation {what!r}; choose from ranking, {', '.join(keys)}, parity")
    current, _ = release.read(Workspace(workspace).releases)
    metrics = current.metrics.get(keys[what])
    if as_json:
        print(json.dumps({"release": current.id, **(metrics or {})}))
        return
    Console().print(f"release [bold]{current.id}[/bold] of {current.created}")
    _show_metrics({keys[what]: metrics})


def _evaluate_ranking(workspace: Workspace, config: TrainConfig, as_json: bool) -> None:
    from training import fit
    from training.report import files, run, table

    with _progress("evaluate", as_json) as progress:
        system, repeats = fit.system_of(workspace, config, progress)
        result = run.evaluate_ranking(workspace, system, repeats=repeats, seed=config.seed, progress=progress)
        written = files.write(workspace, result)
    if as_json:
        print(json.dumps(result))
        return
    console = Console()
    console.print(table.render(result))
    console.print(f"report: {written.html}\nruns:   mlflow ui --backend-store-uri {written.store}", highlight=False)


def _evaluate_parity(
    workspace: Workspace, config: ServeConfig, target: str, requests: int, seed: int, as_json: bool
) -> None:
    from dataclasses import asdict

    from serving import parity, render

    with _progress("parity", as_json) as progress, _client(workspace.root, target) as client:
        report = parity.evaluate(workspace, config, client, requests, seed, progress)
    if as_json:
        print(json.dumps(asdict(report)))
    else:
        render.show(parity.table(report))
    if report.differences:
        raise typer.Exit(1)


def _show_metrics(metrics: Any) -> None:
    console = Console()
    if ranking := metrics.get("ranking"):
        table = Table(title=f"ranking: {ranking['targets']} held-out sessions after training", title_justify="left")
        names = list(ranking["models"]["tandem"])
        for column in ("model", *names):
            table.add_column(column)
        for model, values in ranking["models"].items():
            table.add_row(model, *(f"{values[name]:.4f}" for name in names))
        console.print(table)
        gain = ranking["gain"]
        (metric,) = (name for name in gain if name != "best_baseline")
        span = gain[metric]
        interval = f"[{span['low']:+.4f}, {span['high']:+.4f}]"
        console.print(
            f"gain over {gain['best_baseline']} in {metric}: {span['mean']:+.4f}, 95 % interval {interval}",
            highlight=False,
        )
    for name in ("tags", "cold_start"):
        if not (values := metrics.get(name)):
            continue
        table = Table(title=f"{name.replace('_', ' ')}: guardrail on held-out groups", title_justify="left")
        table.add_column("measure")
        table.add_column("value")
        for key, value in values.items():
            if isinstance(value, dict):
                for order, numbers in value.items():
                    if isinstance(numbers, dict):
                        low, high = numbers["low"], numbers["high"]
                        table.add_row(
                            f"precision@10, {order}", f"{numbers['precision@10']:.4f} [{low:.4f}, {high:.4f}]"
                        )
            else:
                table.add_row(key, "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value))
        console.print(table)


# --- serving ---------------------------------------------------------------------------------------------------------


@app.command()
def serve(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
    port: Annotated[int | None, typer.Option(help="gRPC port; overrides the settings.")] = None,
) -> None:
    """Serve the promoted release over gRPC until Ctrl-C.

    Example: tandem serve --workspace shop --port 9000
    """
    from serving.app import running

    settings = _settings(config).serve_config()
    if port is not None:
        settings = settings.model_copy(update={"ingress": settings.ingress.model_copy(update={"port": port})})
    with _interruptible(), ExitStack() as stack:
        with _err.status("starting Ray and the ingress"):
            address = stack.enter_context(running(Workspace(workspace), settings))
        _err.print(
            f"serving on [bold]{address}[/bold]; the API key is in {Workspace(workspace).api_key}; Ctrl-C ends it"
        )
        _wait_for_end()


@app.command()
def recommend(
    user: Annotated[str, typer.Argument(help="User id; empty with --profile.")] = "",
    profile: Annotated[str, typer.Option(help="Somebody described in words.")] = "",
    k: Annotated[int, typer.Option(help="How many items.")] = 10,
    avoid: Annotated[list[str] | None, typer.Option(help="Property or category no item may have; repeatable.")] = None,
    require: Annotated[list[str] | None, typer.Option(help="Property or category every item must have.")] = None,
    deadline_ms: Annotated[int, typer.Option(help="Time to answer in; 0 takes the service's default.")] = 0,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """Ask the running service for recommendations.

    Example: tandem recommend 900 --avoid dairy --avoid alcohol
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
    )
    with _client(workspace, target) as client:
        _print(client.recommend(request), render.recommendation, as_json)


@app.command()
def tag(
    title: Annotated[str, typer.Argument(help="The product's name.")],
    text: Annotated[str, typer.Option(help="Its description.")] = "",
    attribute: Annotated[list[str] | None, typer.Option(help="name=value; repeatable.")] = None,
    deadline_ms: Annotated[int, typer.Option(help="Time to answer in; 0 takes the service's default.")] = 0,
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

    request = recommender_pb2.TagRequest(item=item(title, text, _pairs(attribute)), deadline_ms=deadline_ms)
    with _client(workspace, target) as client:
        _print(client.tag(request), render.tags, as_json)


@app.command()
def score(
    title: Annotated[str, typer.Argument(help="The product's name.")],
    claimed: Annotated[list[str], typer.Option("--tag", help="A tag an LLM claims; repeatable.")],
    text: Annotated[str, typer.Option(help="The product's description.")] = "",
    attribute: Annotated[list[str] | None, typer.Option(help="name=value; repeatable.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: TargetOption = DEFAULT_TARGET,
    as_json: JsonOption = False,
) -> None:
    """Let the ensemble judge tags that some LLM claims of a product.

    Example: tandem score "Vegan burger patties" --tag "BEEF" --tag "MEAT - MISC"
    """
    from protos.tandem.v1 import ensemble_pb2
    from serving import render
    from serving.client import item

    product = item(title, text, _pairs(attribute))
    claims = [ensemble_pb2.Claim(tag=ensemble_pb2.TagClaim(item=product, tag=name)) for name in claimed]
    with _client(workspace, target) as client:
        _print(client.score(ensemble_pb2.ScoreRequest(claims=claims)), render.judgements, as_json)


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

    with _progress("items", as_json) as progress, _client(workspace, target) as client:
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
            _err.print(f"no column of the catalog, not used: {', '.join(report.unknown_attributes)}", highlight=False)
        for row in report.rejected[:20]:
            _err.print(f"row {row.row} ({row.item_id}): {row.reason}", highlight=False, markup=False)
        if len(report.rejected) > 20:
            _err.print(f"and {len(report.rejected) - 20:,} more; --json has all", highlight=False)
    if report.rejected:
        raise typer.Exit(1)


# --- graph -----------------------------------------------------------------------------------------------------------

OntologyOption = Annotated[str, typer.Option("--ontology", help="family, generic or grocery.")]
FactsOption = Annotated[Path | None, typer.Option("--facts", help="More facts: TSV a<TAB>relation<TAB>b, or CSV.")]
AssertOption = Annotated[list[str] | None, typer.Option("--assert", help="A fact, e.g. 'daughter(malia, obama)'.")]


@graph_app.command("query")
def graph_query(
    pattern: Annotated[str, typer.Argument(help="predicate(arg, ?variable).")],
    ontology: OntologyOption = "grocery",
    facts: FactsOption = None,
    asserted: AssertOption = None,
    as_json: JsonOption = False,
) -> None:
    """All facts that match a pattern.

    Example: tandem graph query 'category_contains(CHEESES, ?x)'
    """
    graph = _graph(ontology, facts, asserted)
    found = graph.query(_fact(pattern))
    if as_json:
        print(json.dumps({"facts": [{"predicate": fact.predicate, "args": list(fact.args)} for fact in found]}))
        return
    for fact in found:
        print(fact)


@graph_app.command("explain")
def graph_explain(
    fact: Annotated[str, typer.Argument(help="predicate(arg, arg).")],
    ontology: OntologyOption = "grocery",
    facts: FactsOption = None,
    asserted: AssertOption = None,
    form: Annotated[str, typer.Option("--format", help="text or dot.")] = "text",
) -> None:
    """The proof of a fact, down to what was asserted.

    Example: tandem graph explain 'daughter(sasha, obama)' --ontology family
    --assert 'daughter(malia, obama)' --assert 'full_sister(sasha, malia)'
    """
    from graph.view import proof_graph, to_dot

    proof = _graph(ontology, facts, asserted).prove(_fact(fact))
    if form not in ("text", "dot"):
        raise UsageError(f"there is no format {form!r}; choose text or dot")
    print(to_dot(proof_graph(proof)) if form == "dot" else "\n".join(proof.lines()))


def _graph(ontology: str, facts: Path | None, asserted: list[str] | None) -> Any:
    from graph.ontology import load, load_facts

    graph = load(ontology)
    if facts is not None:
        graph = graph.extend(load_facts(facts), facts.name)
    if asserted:
        graph = graph.extend([_fact(text) for text in asserted], "command line")
    return graph


def _fact(text: str) -> Any:
    from graph.ports import Fact

    name, bracket, rest = text.strip().partition("(")
    if not bracket or not rest.endswith(")") or not name:
        raise UsageError(f"{text!r} is no fact; write predicate(argument, argument)")
    return Fact(name.strip(), tuple(part.strip().strip("\"'") for part in rest[:-1].split(",")))


# --- backfill --------------------------------------------------------------------------------------------------------


@backfill_app.command("tags")
def backfill_tags(
    source: Annotated[Path, typer.Option("--input", help="Products: parquet or CSV with item_id, title, ...")],
    output: Annotated[Path, typer.Option(help="Folder of the results; a killed job resumes here.")],
    llm: Annotated[bool, typer.Option(help="Ask the LLM as well (slow without a GPU).")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tag a file of products.

    Example: tandem backfill tags --input new_products.parquet --output tagged/
    """
    from serving.backfill import tag_products

    with _progress("backfill", as_json) as progress:
        report = tag_products(
            Workspace(workspace), _settings(config).serve_config(), source, output, with_llm=llm, progress=progress
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

    with _progress("backfill", as_json) as progress:
        report = recommend_all(Workspace(workspace), _settings(config).serve_config(), output, k, progress=progress)
    _print_backfill(report, as_json)


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


# --- demo ------------------------------------------------------------------------------------------------------------


@app.command()
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

    settings, place = _settings(config), Workspace(workspace)
    started = time.perf_counter()
    with _progress("ingest", False) as progress:
        ingest_complete_journey(place, progress=progress)
    if not up_to_date(place):
        with _progress("train", False) as progress:
            run(place, settings.train_config(), progress)
    serve_config = settings.serve_config()
    with _interruptible(), ExitStack() as stack:
        with _err.status("starting Ray and the ingress"):
            address = stack.enter_context(running(place, serve_config, quiet=True))
        _err.print(
            f"up on {address} after {time.perf_counter() - started:.0f} s; the LLM loads beside it", highlight=False
        )
        with _client(workspace, address) as client:
            _show_demo(client, with_llm=serve_config.llm is not None)
        _err.print(f"all three answers after {time.perf_counter() - started:.0f} s", highlight=False)
        if not once:
            _err.print(f"serving on {address} until Ctrl-C; try: tandem recommend 900 --avoid dairy", highlight=False)
            _wait_for_end()


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
        with _progress("loading the LLM", False) as progress:
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
            _fail(f"the LLM did not load within {most_s:.0f} s; the trees serve without it. See Ray's log of LLM")
        progress("loading the LLM", min(0.99, waited / 80.0))
        time.sleep(0.5)
    progress("loading the LLM", 1.0)


@app.command()
def bench(
    what: Annotated[str, typer.Argument(help="all or recommend.")] = "all",
    growth: Annotated[bool, typer.Option(help="A larger catalog: 100,000 and 1,000,000 items.")] = False,
    soak: Annotated[bool, typer.Option(help="Memory over 50,000 requests.")] = False,
    offline: Annotated[bool, typer.Option(help="A million rows in a batch.")] = False,
    every: Annotated[bool, typer.Option("--all", help="All of these; so does: tandem bench all.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure latency and throughput of Recommend next to an empty RPC and a plain gRPC echo, in one run.

    A minute for "recommend", about six for "all". What has a target is shown beside it, met or not.

    Example: tandem bench recommend --json
    Example: tandem bench recommend --soak
    """
    if what not in ("all", "recommend"):
        raise UsageError(f"there is no benchmark {what!r}; choose all or recommend")
    from serving.bench import PARTS, bench_recommend, show_report

    wanted = {"growth": growth, "soak": soak, "offline": offline}
    parts = [part for part in PARTS if every or what == "all" or wanted[part]]
    with _progress("bench", as_json) as progress:
        report = bench_recommend(Workspace(workspace), _settings(config).serve_config(), progress, parts)
    if as_json:
        print(json.dumps(report))
    else:
        show_report(report)


# --- shared ----------------------------------------------------------------------------------------------------------


@contextmanager
def _progress(title: str, quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """A bar on standard error that names the stage; nothing where output is for a script."""
    if quiet:
        yield lambda *_: None
        return
    columns = (TextColumn("{task.description:<40}"), BarColumn(bar_width=30), TimeElapsedColumn())
    with Progress(*columns, console=_err, transient=not _err.is_terminal) as bars:
        task = bars.add_task(title, total=1.0)
        shown = [title]

        def update(stage: str, fraction: float) -> None:
            if not _err.is_terminal and stage != shown[0]:
                # A log gets one line a stage instead of a bar that cannot move.
                print(f"{title}: {stage}", file=sys.stderr, flush=True)
                shown[0] = stage
            bars.update(task, description=stage, completed=fraction)

        yield update


@contextmanager
def _client(workspace: Path, target: str) -> Iterator[Client]:
    from serving.client import Client, find_key

    with Client(target, find_key(workspace)) as client:
        yield client


def _print(reply: Message, table: Callable[[Any], RenderableType], as_json: bool) -> None:
    if as_json:
        from google.protobuf.json_format import MessageToDict

        # Keys are the proto's field names (protos/tandem/v1); fields without a value are there with their default.
        print(
            json.dumps(
                MessageToDict(reply, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
            )
        )
        return
    from serving import render

    render.show(table(reply))


def _pairs(values: list[str] | None) -> dict[str, str]:
    pairs = {}
    for value in values or []:
        name, equals, content = value.partition("=")
        if not equals:
            raise UsageError(f"--attribute {value!r} is no name=value")
        pairs[name] = content
    return pairs


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends like Ctrl-C: the context managers stop what they started."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    yield


def _wait_for_end() -> None:
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        _err.print("stopping")


def _fail(message: str) -> NoReturn:
    raise typer.TyperException(message)


def main() -> None:
    """Entry point of the ``tandem`` command."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")
    try:
        # Outside of its standalone mode typer hands `typer.Exit`'s code back instead of raising it.
        code = app(standalone_mode=False)
        if isinstance(code, int):
            sys.exit(code)
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see: {context.command_path} --help)" if context else ""
        print(f"tandem: {' '.join(error.format_message().split())}{hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())
        print(f"tandem: the settings do not fit: {problems}", file=sys.stderr)
        sys.exit(2)
    except (FeatureError, ModelError, GraphError, ServingError) as error:
        print(f"tandem: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        from training.datasets.errors import IngestError

        if not isinstance(error, IngestError):
            raise
        print(f"tandem: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
