"""``tandem prompts``: versions of what the LLM is told, their trials, releases and rollbacks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli import prompttrial
from cli.console import (
    DEFAULT_WORKSPACE,
    JsonOption,
    WorkspaceOption,
    err,
    fail,
)
from cli.prompttrial import NameArgument, VersionArgument, now, open_registry, warn_of_guardrail
from features.workspace import Workspace

if TYPE_CHECKING:
    from models.prompts.registry import PromptRegistry

prompts_app = typer.Typer(no_args_is_help=True, help="What the LLM is told: versions, trials, releases, rollbacks.")
prompts_app.command("test")(prompttrial.try_version)
prompts_app.command("release")(prompttrial.release)
prompts_app.command("results")(prompttrial.results)


@prompts_app.command("list")
def list_prompts(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Every version with its labels; production and candidate are what the promoted release serves.

    Example: tandem prompts list
    """
    from models.prompts.registry import NAMES

    registry, current = open_registry(workspace)
    versions = current.versions if current else {}
    rows = [row for name in NAMES for row in _rows(registry, name, versions)]
    learned = versions.get("guardrail_prompts") or {}
    if as_json:
        release_id = current.id if current else None
        print(json.dumps({"release": release_id, "prompts": rows, "guardrail_prompts": learned}))
        return
    table = Table(title=f"prompts of release {current.id}" if current else "prompts", title_justify="left")
    for column in ("name", "version", "labels", "max tokens"):
        table.add_column(column)
    for row in rows:
        share = f" ({row['share']:.1%} of users)" if row["share"] else ""
        table.add_row(row["name"], row["version"], ", ".join(row["labels"]) + share, str(row["max_tokens"]))
    Console().print(table)
    warn_of_guardrail(versions)


def _rows(registry: PromptRegistry, name: str, versions: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One prompt's versions with their labels; ``share`` of the users is of a candidate, else 0."""
    candidate = (versions.get("prompt_candidates") or {}).get(name, {"version": "", "share": 0.0})
    labelled = {
        "production": registry.find(name, "production", versions),
        "candidate": candidate["version"],
        "shipped": registry.shipped(name).version,
    }
    return [
        {
            "name": name,
            "version": version,
            "labels": [label for label, of in labelled.items() if of == version],
            "share": candidate["share"] if version == candidate["version"] else 0.0,
            "max_tokens": registry.get(name, version).max_tokens,
        }
        for version in registry.versions(name)
    ]


@prompts_app.command("show")
def show(
    name: NameArgument,
    version: VersionArgument = "production",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """One version's text; with --json its sections and what was done with it.

    Example: tandem prompts show tag production
    """
    registry, current = open_registry(workspace)
    found = registry.find(name, version, current.versions if current else {})
    if not as_json:
        print(registry.text(name, found), end="")
        return
    history = [
        asdict(entry) for entry in registry.history() if entry.name == name and found in (entry.version, entry.previous)
    ]
    print(json.dumps({**asdict(registry.get(name, found)), "history": history}))


@prompts_app.command("diff")
def diff(
    name: NameArgument,
    old: VersionArgument = "production",
    new: VersionArgument = "candidate",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """What differs between two versions. Exit code 0 in either case.

    Example: tandem prompts diff tag production 3f2a91
    """
    registry, current = open_registry(workspace)
    versions = current.versions if current else {}
    first, second = registry.find(name, old, versions), registry.find(name, new, versions)
    text = registry.diff(name, first, second)
    if as_json:
        print(json.dumps({"name": name, "old": first, "new": second, "diff": text}))
        return
    if not text:
        err.print(f"both are version {first}", highlight=False)
    else:
        print(text)


@prompts_app.command("add")
def add(
    name: NameArgument,
    file: Annotated[Path, typer.Argument(help=r"The prompt: sections \[system], \[user] with {holes}, \[max_tokens].")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Keep a file as a version. Nothing serves it before it is released.

    Example: tandem prompts add tag my_tag.prompt
    """
    registry, _ = open_registry(workspace)
    registry.shipped(name)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        fail(f"{file} cannot be read ({error.strerror}); give the file of a prompt")
    except UnicodeDecodeError:
        fail(f"{file} is no UTF-8 text; save it as UTF-8")
    prompt = registry.add(name, text, now())
    if as_json:
        print(json.dumps({"name": name, "version": prompt.version}))
    else:
        print(prompt.version)
        err.print(f"next: tandem prompts test {name} {prompt.version[:6]}", highlight=False)


@prompts_app.command("rollback")
def rollback(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Promote the release before the last prompt's release again, whole: the prompt and all that served with it.

    Example: tandem prompts rollback
    """
    from models.prompts.promote import roll_back

    registry, _ = open_registry(workspace)
    done = roll_back(Workspace(workspace).releases, registry, now())
    if as_json:
        print(json.dumps(asdict(done)))
        return
    err.print(
        f"release [bold]{done.release}[/bold] serves {done.name}@{done.version} again, in the place of "
        f"{done.previous_release} ({done.name}@{done.previous}); restart the service to load it"
    )
