"""What a release's label sets accept on real foods: Open Food Facts' labels, of which a product has several.

    python -m tests.benchmarks.label_sets FOLDER [--data ../shared/data/openfoodfacts] [--least 30]

Name, ingredients, brand and category are the foods'; the sales that a ranker needs are drawn at random and teach the
tags nothing. Figures are those of `tandem evaluate release`: of products whose text nothing was learned from. Gold are
products whose list of labels was filled in; a label nobody entered is no proof of its absence.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from features.workspace import Workspace
from models import release, vocabulary
from models.ranker import RankerConfig
from training.config import TrainConfig
from training.datasets.ingest import ingest_files
from training.tagging.openfoodfacts import main_text, with_wider
from training.train import train


def write_files(data: Path, folder: Path, least: int) -> tuple[Path, Path]:
    """The foods as a catalog, with labels that at least so many carry, and drawn sales."""
    labels, categories = (vocabulary.read(data / f"{name}.full.json.gz") for name in ("labels", "categories"))
    depths = categories.depths
    columns = ["code", "product_name", "ingredients_text", "brands_tags", "labels_tags", "categories_tags"]
    rows = []
    for row in pl.read_parquet(data / "products.parquet", columns=columns).sort("code").iter_rows(named=True):
        title = main_text(row["product_name"])
        filed = sorted(
            with_wider(categories, row["categories_tags"] or ()), key=lambda each: (depths[each] != 1, each)
        )
        tags = row["labels_tags"]
        rows.append(
            {
                "item_id": row["code"],
                "title": title or "unnamed food",
                "text": main_text(row["ingredients_text"])[:600] or None,
                "category": categories.labels[filed[0]].name if filed and depths[filed[0]] == 1 else None,
                "brand": next((brand.removeprefix("xx:") for brand in row["brands_tags"] or ()), None),
                "labels": None if tags is None else [labels.labels[each].name for each in with_wider(labels, tags)],
            }
        )
    often = Counter(label for row in rows for label in row["labels"] or ())
    for row in rows:
        if row["labels"] is not None:
            row["labels"] = sorted(label for label in row["labels"] if often[label] >= least)
    pl.DataFrame(rows).write_parquet(folder / "foods.parquet")
    rng = np.random.default_rng(2)
    sales = [
        (f"u{user}", rows[int(item)]["item_id"], (datetime(2021, 3, 1) + timedelta(weeks=week)).isoformat())
        for user in range(60)
        for week in range(12)
        for item in rng.integers(0, len(rows), 4)
    ]
    pl.DataFrame(sales, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(folder / "sales.csv")
    return folder / "foods.parquet", folder / "sales.csv"


def main() -> None:
    """Print the label set's figures, and each group's under the threshold that decides for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/openfoodfacts"))
    parser.add_argument("--least", type=int, default=30)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    workspace = Workspace(given.folder / "workspace")
    ingest_files(*write_files(given.data, given.folder, given.least), None, workspace, label_column="category")
    config = TrainConfig(llm=None, search=False, ranker=RankerConfig(trees=10), several={"labels": ""})
    train(workspace, config, None)
    current, folder = release.read(workspace.releases)
    manifest = json.loads((folder / "sets" / "0" / "guardrail" / "manifest.json").read_text())
    print(json.dumps({"release": current.metrics["sets"]["labels"], "gold": manifest.get("gold")}, indent=1))


if __name__ == "__main__":
    main()
