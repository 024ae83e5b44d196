"""What importing costs: a notebook and a gRPC client must not load an engine or start a cluster's libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HEAVY = (
    *("vllm", "torch", "transformers", "faiss", "lightgbm", "xgboost", "ray", "feast", "networkx", "xgrammar"),
    "rdflib",
)
PACKAGES = ("features", "graph", "models")


def submodules(package: str) -> list[str]:
    return sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / package).rglob("*.py")
    )


def loaded_by(*modules: str) -> set[str]:
    """Heavy libraries in a fresh interpreter after these imports."""
    code = f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(HEAVY) & set(done.stdout.split())


def test_pipelines_load_no_engine_and_no_cluster() -> None:
    assert loaded_by("serving.pipeline") == set()


@pytest.mark.parametrize("module", ["serving.client", "serving.config", "serving.app", "serving.status", "cli"])
def test_command_line_and_client_start_light(module: str) -> None:
    assert loaded_by(module) == set()


def test_everything_below_serving_imports_without_ray_and_without_its_heavy_libraries() -> None:
    modules = [name for package in PACKAGES for name in submodules(package)]
    assert len(modules) > 30
    # Adapters that import their library at the top: one is for vLLM's own process, others draw, find paths, read RDF.
    adapters = ("models.llm.vllm_constraint", "graph.view", "graph.paths", "graph.exchange.turtle")
    light = [name for name in modules if name not in adapters]
    assert loaded_by(*light) == set()


@pytest.mark.parametrize(
    "modules",
    [
        ("features.transforms", "features.candidates", "features.history"),
        ("graph.engine", "graph.ontology"),
        ("models.ports",),
    ],
)
def test_light_parts_import_alone(modules: tuple[str, ...]) -> None:
    assert loaded_by(*modules) == set()
