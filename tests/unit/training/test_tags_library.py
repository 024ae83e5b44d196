"""The tag guardrail of either library, on real products: trained, certified, saved and loaded by the same code."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.workspace import Workspace
from graph import ontology
from models import prompts, release
from models.catalog import Catalog
from models.guardrail import MODELS, Guardrail
from models.index import load_index
from models.policy import EVIDENCE, TagConfig, TagPolicy
from models.tagging import TAG_COLUMNS
from training import tags

CONFIG = TagConfig(trees=20, examples=300, threads=1)


@pytest.fixture(scope="module")
def catalog(trained_workspace: Workspace) -> Catalog:
    return Catalog.load(release.read(trained_workspace.releases)[1] / "catalog", load_index)


@pytest.fixture(scope="module")
def items(trained_workspace: Workspace) -> pl.DataFrame:
    return pl.read_parquet(trained_workspace.items)


@pytest.fixture(scope="module")
def examples(trained_workspace: Workspace, catalog: Catalog, items: pl.DataFrame) -> tags.TagExamples:
    graph = ontology.load(trained_workspace.config().ontology)
    template = prompts.load("tag")
    return asyncio.run(tags.build_examples(items, catalog, graph, template, None, 0, CONFIG, 1, lambda *_: None))


@pytest.mark.parametrize("model", MODELS)
def test_guardrail_of_each_library_is_certified_and_read_back(
    model: str,
    examples: tags.TagExamples,
    items: pl.DataFrame,
    catalog: Catalog,
    tmp_path: Path,
) -> None:
    config = CONFIG.model_copy(update={"model": model})
    fitted = tags.fit(config, examples, items, catalog, "category", {})
    assert fitted.manifest["parameters"]["model"] == model
    assert fitted.manifest["held_out"]["auc"] > 0.7
    assert set(TagPolicy.from_manifest(fitted.manifest).certificates) == set(EVIDENCE)
    fitted.save(tmp_path / "guardrail")
    loaded = Guardrail.load(tmp_path / "guardrail", TAG_COLUMNS)
    matrix = examples.learn.matrix[:400]
    assert loaded.predict(matrix).tobytes() == fitted.predict(matrix).tobytes()
    reasons = loaded.explain(matrix[:3], len(TAG_COLUMNS))
    assert all({each.feature for each in row} <= set(TAG_COLUMNS) for row in reasons)
    assert np.ptp(loaded.predict(matrix)) > 0.3
