"""``tandem evaluate``: how good it is on held-out data."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.console import (
    DEFAULT_TARGET,
    DEFAULT_WORKSPACE,
    ConfigOption,
    JsonOption,
    TargetOption,
    UsageError,
    WorkspaceOption,
    connected,
    progress_bar,
)
from cli.settings import read_settings
from features.workspace import Workspace

if TYPE_CHECKING:
    from models.ports import LLMEngine
    from serving.config import ServeConfig
    from training.config import TrainConfig
    from training.finetune.pairs import Pair
    from training.tagging.llm_tuned import Tuning
    from training.tagging.spent import Price

DEFAULT_DATA = Path("../shared/data")


def evaluate(
    what: Annotated[str, typer.Argument(help="ranking, release, tags, cold-start or parity.")] = "ranking",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
    target: TargetOption = DEFAULT_TARGET,
    dataset: Annotated[
        str,
        typer.Option(help="tags: catalog (the ingested one), complete-journey, openfoodfacts, oa-mine, or all."),
    ] = "complete-journey",
    data: Annotated[
        Path, typer.Option(help="tags: folder of the public datasets, a folder each; complete-journey needs none.")
    ] = DEFAULT_DATA,
    llm: Annotated[
        bool, typer.Option("--llm", help="tags: also ask the LLM of the settings; about a second an answer on a CPU.")
    ] = False,
    llm_sample: Annotated[
        int, typer.Option(min=10, help="tags: product types asked about, of the first split's gold and of its test.")
    ] = 100,
    fine_tune: Annotated[
        bool, typer.Option("--fine-tune", help="tags, with --llm: also fine-tune it (LoRA), and ask again.")
    ] = False,
    fine_tune_types: Annotated[
        int, typer.Option(min=10, help="tags: product types of the first split's gold it is fine-tuned on at most.")
    ] = 500,
    requests: Annotated[int, typer.Option(min=1, help="parity: users and times asked for.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="parity: another seed draws other users and times.")] = 7,
    as_json: JsonOption = False,
) -> None:
    """How good it is on held-out data, next to baselines, with intervals.

    "ranking" fits ranker and baselines on the past of each protocol and compares them (minutes); the report is written
    to the workspace as HTML and JSON and kept as an MLflow run. "tags" holds product types out (or products, or the
    published test titles: --dataset) and compares the guardrail and its baselines under one certificate (minutes);
    --llm asks the LLM too, and --fine-tune measures what an adapter fitted to other types' gold changes (about
    forty minutes more on two cores). "release" and "cold-start" show what was measured when
    the promoted release was trained, on data that it was not trained on. "parity" asks the running service for random
    users and times, and a backfill too, computes it all anew and fails where any bit differs.

    Example: tandem evaluate ranking --json
    Example: tandem evaluate tags --dataset complete-journey --json
    Example: tandem evaluate tags --dataset catalog --workspace shop
    Example: tandem evaluate tags --dataset openfoodfacts --data ../shared/data
    Example: tandem evaluate tags --llm --fine-tune
    Example: tandem evaluate parity --requests 500
    """
    if what == "parity":
        _evaluate_parity(Workspace(workspace), read_settings(config).serve_config(), target, requests, seed, as_json)
        return
    if what == "ranking":
        _evaluate_ranking(Workspace(workspace), read_settings(config).train_config(), as_json)
        return
    if what == "tags":
        engine, price = _llm(Workspace(workspace), config) if llm else (None, None)
        tuning = _tuning(Workspace(workspace), config, dataset, llm, fine_tune_types) if fine_tune else None
        _evaluate_tags(Workspace(workspace), dataset, data, engine, price, llm_sample, tuning, as_json)
        return
    from models import release

    keys = {"release": ("ranking", "tags", "sets", "attributes", "without"), "cold-start": ("cold_start", "without")}
    if what not in keys:
        raise UsageError(f"there is no evaluation {what!r}; choose from ranking, tags, {', '.join(keys)}, parity")
    current, _ = release.read(Workspace(workspace).releases)
    metrics = {key: current.metrics.get(key) for key in keys[what]}
    if as_json:
        first, *others = metrics
        more = {key: metrics[key] for key in others}
        print(json.dumps({"release": current.id, **(metrics[first] or {}), **more}))
        return
    Console().print(f"release [bold]{current.id}[/bold] of {current.created}")
    show_metrics(metrics)


def _evaluate_ranking(workspace: Workspace, config: TrainConfig, as_json: bool) -> None:
    from training import fit
    from training.report import files, run, table

    with progress_bar("evaluate", as_json) as progress:
        system, repeats = fit.system_of(workspace, config, progress)
        result = run.evaluate_ranking(workspace, system, repeats=repeats, seed=config.seed, progress=progress)
        written = files.write(workspace, result)
    if as_json:
        print(json.dumps(result))
        return
    console = Console()
    console.print(table.render(result))
    console.print(f"report: {written.html}\nruns:   mlflow ui --backend-store-uri {written.store}", highlight=False)


def _evaluate_tags(
    workspace: Workspace,
    dataset: str,
    data: Path,
    engine: Callable[[], LLMEngine] | None,
    price: Price | None,
    sample: int,
    tuning: Tuning | None,
    as_json: bool,
) -> None:
    from training.tagging import report, run
    from training.tagging.llm_sizes import Sample

    if dataset not in (*run.DATASETS, run.ALL):
        raise UsageError(f"there is no tag dataset {dataset!r}; choose from {', '.join(run.DATASETS)}, {run.ALL}")
    with progress_bar("evaluate tags", as_json) as progress:
        asked = Sample(sample, sample)
        result = run.evaluate_tags(
            workspace, [dataset], progress, data, llm=engine, sample=asked, tuning=tuning, price=price
        )
        page = report.write(workspace, result)
    if as_json:
        print(json.dumps(result, allow_nan=False))
        return
    console = Console()
    console.print(report.render(result))
    console.print(f"report: {page}", highlight=False)


def _llm(workspace: Workspace, config: Path | None) -> tuple[Callable[[], LLMEngine], Price]:
    """Makes the engine of the settings, and what its tokens cost; nobody waits for an answer here, so that none is cut
    off."""
    settings = read_settings(config)
    model = settings.train_config().llm
    if model is None:
        raise UsageError("--llm asks the LLM of the settings, which say llm = false: name one in [llm]")
    from serving.patient import open_patient, price_per_1k
    from training.tagging.spent import Price

    serve = settings.serve_config()
    # As they come: what is measured is the LLM, not what the gateway makes of it.
    opened = partial(open_patient, workspace, serve, model, "evaluate", judged=False, timeout_s=3_600.0)
    return opened, Price(*price_per_1k(workspace, serve, model))


def _tuning(workspace: Workspace, config: Path | None, dataset: str, llm: bool, types: int) -> Tuning:
    """How the LLM of the settings is fine-tuned, and opened as `_llm` does with what came of it."""
    from cli.finetune import base_of
    from serving.patient import open_patient
    from training.finetune.config import FineTuneConfig
    from training.finetune.lora import fitted_once
    from training.tagging.datasets import COMPLETE_JOURNEY
    from training.tagging.llm_tuned import Tuning
    from training.tagging.run import ALL

    if not llm:
        raise UsageError("--fine-tune compares the LLM before and after: say --llm too")
    if dataset not in (COMPLETE_JOURNEY, ALL):
        raise UsageError(f"--fine-tune is measured on {COMPLETE_JOURNEY} alone, not on {dataset!r}")
    settings = read_settings(config)
    model, folder = base_of(workspace, settings)

    # One epoch: the study asks about each type in two ways already.
    tuned_as = FineTuneConfig(epochs=1, max_model_len=model.max_model_len, threads=model.threads)

    def opened(adapter: Path) -> LLMEngine:
        tuned = model.model_copy(update={"adapter": adapter})
        return open_patient(workspace, settings.serve_config(), tuned, "evaluate", judged=False, timeout_s=3_600.0)

    def fit(pairs: Sequence[Pair], within: Path, progress: Callable[[str, float], None]) -> tuple[Path, dict[str, Any]]:
        return fitted_once(folder, pairs, within, tuned_as, {}, progress)

    return Tuning(fit, opened, types)


def _evaluate_parity(
    workspace: Workspace, config: ServeConfig, target: str, requests: int, seed: int, as_json: bool
) -> None:
    from dataclasses import asdict

    from serving import parity, render

    with progress_bar("parity", as_json) as progress, connected(workspace.root, target) as client:
        report = parity.evaluate(workspace, config, client, requests, seed, progress)
    if as_json:
        print(json.dumps(asdict(report)))
    else:
        render.show(parity.table(report))
    if report.differences:
        raise typer.Exit(1)


def show_metrics(metrics: Any) -> None:
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
    if read := metrics.get("attributes"):
        table = Table(title="attributes: values on held-out product types", title_justify="left")
        columns = ("items", "learned", "units", "units_proposed", "precision", "accepted", "wrong", "threshold")
        for column in ("attribute", *columns):
            table.add_column(column.replace("_", " "))
        for name, figures in read.items():
            shown = (figures.get(column) for column in columns)
            cells = ("" if each is None else f"{each:.4f}" if isinstance(each, float) else str(each) for each in shown)
            table.add_row(name, *cells)
        console.print(table)
    sets = {f"label set {name}": values for name, values in (metrics.get("sets") or {}).items()}
    for name, values in {"tags": metrics.get("tags"), **sets, "cold start": metrics.get("cold_start")}.items():
        if not values:
            continue
        table = Table(title=f"{name}: guardrail on held-out groups", title_justify="left")
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
    for part, why in (metrics.get("without") or {}).items():
        console.print(f"no {part}: {why}", highlight=False)
