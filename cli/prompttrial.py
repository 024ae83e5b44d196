"""Trials of prompts and what follows from them: ``tandem prompts test``, ``release`` and ``results``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.console import (
    DEFAULT_WORKSPACE,
    ConfigOption,
    JsonOption,
    UsageError,
    WorkspaceOption,
    err,
    fail,
    progress_bar,
)
from cli.settings import read_settings
from features.workspace import Workspace

if TYPE_CHECKING:
    from models.prompts.registry import PromptRegistry
    from models.release import Release
    from training.trial import Trial

NameArgument = Annotated[str, typer.Argument(help="tag, cold_start or attributes.")]
VersionArgument = Annotated[
    str, typer.Argument(help="A version, 4 of its digits or more, or production, candidate, shipped.")
]
ItemsOption = Annotated[int, typer.Option("--items", min=20, help="Gold items both versions are asked about.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Another seed draws other items.")]


def try_version(
    name: NameArgument,
    version: VersionArgument,
    items: ItemsOption = 100,
    seed: SeedOption = 7,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the LLM with this version and with production's about held-out gold items, and compare.

    Accuracy (tag: gold is named first; cold_start: share of the named categories bought from later;
    attributes: share of the values that the catalog has and the product's words say) and malformed
    answers, with 95 % bootstrap intervals of the paired differences. Exit code 1 where it is worse beyond noise.

    Example: tandem prompts test tag 3f2a91 --items 100
    """
    registry, current = open_registry(workspace)
    found = registry.find(name, version, current.versions if current else {})
    trial = _try(workspace, config, registry, name, found, items, seed, as_json)
    _show_trial(trial, as_json, {})
    if trial.worse:
        raise typer.Exit(1)


def release(
    name: NameArgument,
    version: VersionArgument,
    share: Annotated[
        float, typer.Option(min=0.001, max=1.0, help="Below 1: a candidate, for this share of users.")
    ] = 1.0,
    items: ItemsOption = 100,
    seed: SeedOption = 7,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the version's trial and, unless it is worse beyond noise, make and promote a release that serves it.

    The new release has the trees and the index of the promoted one. The running service serves it from its next start.
    With --share the version is the candidate: shown to that share of the users, by a stable hash of their ids.

    Example: tandem prompts release tag 3f2a91
    Example: tandem prompts release tag 3f2a91 --share 0.1
    """
    from models.prompts.promote import release_prompt

    registry, current = open_registry(workspace)
    versions = current.versions if current else {}
    found = registry.find(name, version, versions)
    if share == 1.0 and found == (versions.get("prompts") or {}).get(name):
        fail(f"version {found} of the prompt {name!r} is production already; see: tandem prompts list")
    trial = _try(workspace, config, registry, name, found, items, seed, as_json)
    figures = trial.to_dict()
    if trial.worse:
        _show_trial(trial, as_json, {"release": None})
        err.print(f"not released: worse than production in {' and '.join(trial.worse)}", highlight=False)
        raise typer.Exit(1)
    against = trial.production.version
    made = release_prompt(Workspace(workspace).releases, registry, name, found, now(), share, figures, against)
    _show_trial(trial, as_json, {"release": made.id, "share": share})
    if not as_json:
        whom = "everybody" if share == 1.0 else f"{share:.1%} of the users"
        err.print(f"release [bold]{made.id}[/bold] serves {name}@{found} to {whom}; restart the service to load it")
        warn_of_guardrail(made.versions)


def results(name: NameArgument, workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """What each version was worth while it served, of the contexts kept: answers, and the guardrail's verdicts on them.

    Shares have 95 % intervals (Wilson). A candidate is better where its interval lies above production's.

    Example: tandem prompts results tag
    """
    from serving.gateway.contexts import results_by_prompt
    from serving.gateway.monitors import VERDICTS, wilson

    registry, _ = open_registry(workspace)
    registry.shipped(name)
    rows = []
    for each in results_by_prompt(Workspace(workspace).llm_contexts, name):
        proposed = sum(each.verdicts.values())
        counts = {"answered": (each.answered, each.asks)}
        counts |= {verdict: (each.verdicts.get(verdict, 0), proposed) for verdict in VERDICTS}
        shares = {
            label: {"share": hits / of if of else None, "interval": wilson(hits, of)}
            for label, (hits, of) in counts.items()
        }
        rows.append({"prompt": each.prompt, "asks": each.asks, "proposals": proposed, **shares})
    if as_json:
        print(json.dumps({"name": name, "results": rows}))
        return
    if not rows:
        err.print(
            f"no context of the prompt {name!r} is kept; ask the service, or see telemetry.contexts in its settings"
        )
        return
    table = Table(title="by version, shares with 95 % intervals", title_justify="left")
    for column in ("prompt", "asks", "proposals", "answered", *VERDICTS):
        table.add_column(column)
    for row in rows:
        shown = [_share(row[label]) for label in ("answered", *VERDICTS)]
        table.add_row(str(row["prompt"]), str(row["asks"]), str(row["proposals"]), *shown)
    Console().print(table)


def _share(of: Any) -> str:
    low, high = of["interval"]
    return "-" if of["share"] is None else f"{of['share']:.3f} [{low:.3f}, {high:.3f}]"


def _try(
    workspace: Path,
    config: Path | None,
    registry: PromptRegistry,
    name: str,
    version: str,
    items: int,
    seed: int,
    quiet: bool,
) -> Trial:
    """The trial of a version against production's, through the LLM of the settings."""
    from models import release as releases
    from serving.patient import open_patient
    from training import trial

    place, settings = Workspace(workspace), read_settings(config).serve_config()
    current, _ = releases.read(place.releases)
    engine_config = settings.llm
    if engine_config is None:
        fail("the settings say llm = false: a prompt is tried by asking an LLM; give --config with an [llm] section")
    with progress_bar("prompt's trial", quiet) as progress:
        progress("gold items", 0.0)
        cases = trial.gold_cases(place, name, items, seed)
        production = registry.get(name, registry.find(name, "production", current.versions))
        progress("loading the LLM", 0.0)
        # As they come: what is compared is what the prompts make the LLM say, before anybody mends it.
        engine = open_patient(place, settings, engine_config, "trial", judged=False)

        async def run() -> Trial:
            try:
                return await trial.compare(
                    cases,
                    engine,
                    production,
                    registry.get(name, version),
                    seed,
                    lambda done: progress("asking the LLM", done),
                )
            finally:
                await engine.aclose()

        if (trained := current.versions.get("llm")) not in (None, engine.model_id):
            asyncio.run(engine.aclose())
            raise UsageError(
                f"the settings' LLM is {engine.model_id}, release {current.id} is made for {trained}; name that one, "
                "for a prompt is tried with the LLM it serves with"
            )
        return asyncio.run(run())


def _show_trial(trial: Trial, as_json: bool, more: dict[str, Any]) -> None:
    figures = trial.to_dict()
    if as_json:
        print(json.dumps({**figures, **more}))
        return
    title = f"{trial.name}: {trial.items} held-out items, {trial.model}"
    table = Table(title=title, title_justify="left")
    for column in ("", "version", "accuracy", "malformed", "completion tokens"):
        table.add_column(column)
    for kind, each in (("production", trial.production), ("candidate", trial.candidate)):
        table.add_row(kind, each.version, f"{each.accuracy:.3f}", f"{each.malformed:.3f}", f"{each.tokens:.1f}")
    spans = [f"{span.mean:+.3f} [{span.low:+.3f}, {span.high:+.3f}]" for span in (trial.accuracy, trial.malformed)]
    table.add_row("difference", "", *spans, "")
    Console().print(table)


def open_registry(workspace: Path) -> tuple[PromptRegistry, Release | None]:
    """The registry, and the promoted release if there is one."""
    from models import release as releases
    from models.errors import ArtifactMismatch
    from models.prompts.registry import PromptRegistry

    place = Workspace(workspace)
    place.config()
    try:
        current, _ = releases.read(place.releases)
    except ArtifactMismatch:
        if (place.releases / releases.CURRENT).exists():
            raise
        return PromptRegistry(place.prompts), None
    return PromptRegistry(place.prompts), current


def warn_of_guardrail(versions: Mapping[str, Any]) -> None:
    learned = versions.get("guardrail_prompts") or {}
    for name, version in (versions.get("prompts") or {}).items():
        if learned.get(name, version) != version:
            err.print(
                f"the guardrail learned what the LLM is worth with {name}@{learned[name]}; "
                f"it serves {name}@{version} until: tandem train",
                highlight=False,
            )


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
