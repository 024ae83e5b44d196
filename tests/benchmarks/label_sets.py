"""What a release's label sets accept on real foods: Open Food Facts' labels and allergens, several a product.

    python -m tests.benchmarks.label_sets FOLDER [--data ../shared/data/openfoodfacts] [--least 30]

Name, ingredients, brand and category are the foods'; the sales that a ranker needs are drawn at random and teach the
tags nothing. Figures are those of `tandem evaluate release`: of products whose text nothing was learned from. Gold are
products whose list of labels was filled in, and for allergens all with ingredients; what nobody entered is no proof of
its absence.
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
    columns = [
        "code",
        "product_name",
        "ingredients_text",
        "brands_tags",
        "labels_tags",
        "categories_tags",
        "allergens_tags",
    ]
    rows = []
    for row in pl.read_parquet(data / "products.parquet", columns=columns).sort("code").iter_rows(named=True):
        title = main_text(row["product_name"])
        filed = sorted(with_wider(categories, row["categories_tags"] or ()), key=lambda each: (depths[each] != 1, each))
        tags, ingredients = row["labels_tags"], main_text(row["ingredients_text"])
        rows.append(
            {
                "item_id": row["code"],
                "title": title or "unnamed food",
                "text": ingredients[:600] or None,
                "category": categories.labels[filed[0]].name if filed and depths[filed[0]] == 1 else None,
                "brand": next((brand.removeprefix("xx:") for brand in row["brands_tags"] or ()), None),
                "labels": None if tags is None else [labels.labels[each].name for each in with_wider(labels, tags)],
                "allergens": [each.removeprefix("en:") for each in row["allergens_tags"] or ()]
                if ingredients
                else None,
            }
        )
    for name in ("labels", "allergens"):
        often = Counter(label for row in rows for label in row[name] or ())
        for row in rows:
            if row[name] is not None:
                row[name] = sorted(label for label in row[name] if often[label] >= least)
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
    config = TrainConfig(llm=None, search=False, ranker=RankerConfig(trees=10), several={"labels": "", "allergens": ""})
    train(workspace, config, None)
    current, folder = release.read(workspace.releases)
    for where in sorted((folder / "sets").glob("*")):
        name = json.loads((where / "labels" / "names.json").read_text())["name"]
        manifest = json.loads((where / "guardrail" / "manifest.json").read_text())
        told = {"set": name, "release": current.metrics["sets"][name], "gold": manifest["gold"]}
        print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
