"""The cache's benchmark on catalogs whose right answer is known by construction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.workspace import Workspace
from models.catalog import Catalog
from models.index import create_index
from serving.cachebench import BUDGET, measure_cache, upper_bound
from serving.errors import NotReady
from tests.fakes import FakeEmbedder

TYPES = [
    f"{first} {second}" for first in ("sour", "sweet", "dried", "smoked") for second in ("plum", "ham", "fig", "cod")
]


def shop(folder: Path, labels: list[str], items: int = 1_600) -> tuple[Workspace, Catalog]:
    """Items of sixteen types in a hundred sizes each; the label of item n is labels[n modulo their number]."""
    workspace = Workspace(folder)
    workspace.items.parent.mkdir(parents=True)
    names = [TYPES[number % len(TYPES)] for number in range(items)]
    table = pl.DataFrame(
        {
            "item_id": [str(number) for number in range(items)],
            "title": [f"{name}, {number} g" for number, name in enumerate(names)],
            "text": pl.Series([None] * items, dtype=pl.String),
            "product_type": names,
            "category": [labels[number % len(labels)] for number in range(items)],
        }
    )
    table.write_parquet(workspace.items)
    bought = np.random.default_rng(1).integers(0, items, 20_000)
    pl.DataFrame({"item_id": [str(number) for number in bought]}).write_parquet(workspace.interactions)
    return workspace, Catalog.build(table, "category", ["category"], FakeEmbedder(), create_index)


def test_where_words_decide_near_questions_are_answered_and_never_wrongly(tmp_path: Path) -> None:
    report = measure_cache(*shop(tmp_path / "shop", [name.upper() for name in TYPES]), requests=1_500)
    semantic, exact = report["semantic"], report["exact"]
    assert semantic["threshold"] is not None
    assert semantic["hits"] > 100
    assert (semantic["false_hit_rate"], exact["false_hit_rate"]) == (0.0, 0.0)
    assert report["hit_rate"] == pytest.approx(exact["hit_rate"] + semantic["hit_rate"])
    assert report["tokens_saved"] == exact["tokens_saved"] + semantic["tokens_saved"] < report["tokens_asked"]
    assert 0 < exact["p50_ms"] <= exact["p99_ms"]


def test_where_words_do_not_decide_no_near_question_is_answered(tmp_path: Path) -> None:
    # 7 and 16 have no common divisor: every type has every label, equally often.
    report = measure_cache(*shop(tmp_path / "shop", [f"L{number}" for number in range(7)]), requests=500)
    assert report["semantic"]["threshold"] is None
    assert report["semantic"]["hits"] == 0


def test_a_catalog_nobody_buys_from_cannot_be_measured(tmp_path: Path) -> None:
    workspace, catalog = shop(tmp_path / "shop", ["A", "B"], items=64)
    with pytest.raises(NotReady, match="too few"):
        measure_cache(workspace, catalog, requests=10)


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    assert upper_bound(0, 0) == 1.0
    assert upper_bound(298, 0) > BUDGET >= upper_bound(299, 0)  # 0.99 ** 299 is below 5 %
    assert upper_bound(10, 10) == 1.0
