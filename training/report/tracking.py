"""The record of runs in MLflow's local store: the one file that imports mlflow. No server, no network, no telemetry."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from features.workspace import Workspace
from models.errors import MissingExtra
from training.report.build import SYSTEM

EXPERIMENT: Final = "ranking"
_FOLDER: Final = "mlflow"
_LONGEST_PARAMETER: Final = 500
_BATCH: Final = 100
"""Parameters MLflow takes at once."""


def store(workspace: Workspace) -> str:
    """The store's address: ``mlflow ui --backend-store-uri`` opens it."""
    return f"sqlite:///{(workspace.root / _FOLDER / 'mlflow.db').resolve()}"


def record(workspace: Workspace, result: Mapping[str, Any], html: str) -> str:
    """Keep a run of the ranking: see `record_run`, with the parameters and metrics of its report."""
    return record_run(workspace, EXPERIMENT, result, html, parameters(result), metrics(result))


def record_run(
    workspace: Workspace,
    name: str,
    result: Mapping[str, Any],
    html: str,
    parameters: Mapping[str, str],
    metrics: Mapping[str, float],
) -> str:
    """Keep a run of the experiment ``name``: data hash, revision, parameters, metrics, and the report as HTML and JSON.

    Returns the run's id. Raises MissingExtra where mlflow is not installed.
    """
    client = _client(store(workspace), workspace.root / _FOLDER)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        artifacts = (workspace.root / _FOLDER / "artifacts").resolve().as_uri()
        identifier = client.create_experiment(name, artifact_location=artifacts)
    else:
        identifier = experiment.experiment_id
    tags = {name: str(result.get(name)) for name in ("data_hash", "revision", "dataset")}
    run: str = client.create_run(identifier, tags=tags).info.run_id
    try:
        _log(client, run, parameters, metrics)
        client.log_text(run, html, "report.html")
        client.log_text(run, json.dumps(result, indent=2, allow_nan=False), "report.json")
    except BaseException:
        client.set_terminated(run, "FAILED")
        raise
    client.set_terminated(run)
    return run


def _log(client: Any, run: str, found: Mapping[str, str], numbers: Mapping[str, float]) -> None:
    """In batches: one by one takes twenty seconds."""
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    params = [Param(name, value[:_LONGEST_PARAMETER]) for name, value in found.items()]
    values = [Metric(name, value, now, 0) for name, value in numbers.items()]
    for at in range(0, max(len(params), len(values)), _BATCH):
        client.log_batch(run, metrics=values[at : at + _BATCH], params=params[at : at + _BATCH])


def parameters(result: Mapping[str, Any]) -> dict[str, str]:
    """What decided the run: the system's parameters in each protocol, those for new items, and what every baseline was
    tuned to."""
    found = {f"{SYSTEM}.{name}": str(value) for name, value in result["parameters"].items()}
    for protocol, part in result["protocols"].items():
        for name, own in part.get("fitted", {}).items():
            found |= {f"{protocol}.{name}.{key}": str(value) for key, value in own.items()}
        for name, tuned in part.get("tuned", {}).items():
            found |= {f"{protocol}.{name}.{key}": str(value) for key, value in tuned["parameters"].items()}
        for name, tuned in (part.get("new_items") or {}).get("tuned", {}).items():
            found |= {f"{protocol}.new_items.{name}.{key}": str(value) for key, value in tuned["parameters"].items()}
    return {**found, "repeats": str(result["repeats"]), "seed": str(result["seed"])}


def metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Every number of models and gains under a path; MLflow knows no ``@``, so ``ndcg@10`` is ``ndcg_at_10``."""
    named = {name: part for name, part in result["protocols"].items() if "skipped" not in part}
    parts: dict[str, Any] = {
        name: {"models": part["models"], "gain": part["gain"], "facts": part["facts"]} for name, part in named.items()
    }
    parts["new_items"] = {
        name: {"models": part["new_items"]["models"], "gain": part["new_items"]["gain"]}
        for name, part in named.items()
        if part["new_items"] is not None
    }
    parts["buckets"] = {
        f"{bucket['baskets']} {bucket['unit']}": bucket["models"][SYSTEM] for bucket in result["buckets"]
    }
    parts["beyond_accuracy"] = result.get("beyond_accuracy", {})
    parts["seconds"] = result.get("seconds", {})
    parts["slices"] = {name: part for name in ("worst_slice", "least_gain_slice") if (part := result.get(name))}
    return flat(parts)


def flat(tree: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a tree of mappings by their path, under names that MLflow takes."""
    return {_name(path): value for path, value in _numbers(tree)}


def _numbers(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{path}{name}/")
        elif isinstance(value, int | float):
            yield f"{path}{name}", float(value)


def _name(path: str) -> str:
    """With the characters MLflow takes: letters, digits, ``_-./``, blanks and colons."""
    return "".join(
        c if c.isalnum() or c in "_-./: " else "_" for c in path.replace("@", "_at_").replace("+", " or more")
    )


def _client(address: str, folder: Path) -> Any:
    # Read when mlflow is imported: it would report home otherwise.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    try:
        from mlflow.tracking import MlflowClient
    except ModuleNotFoundError as error:
        raise MissingExtra("recording runs needs mlflow. Run: pip install 'tandem-rec[train]'") from error
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=address, registry_uri=address)
