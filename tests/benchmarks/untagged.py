"""What ``tandem backfill untagged`` accepts of kinds whose labels were taken away, and how much of it is right.

    python -m tests.benchmarks.untagged WORKSPACE [--seed 20] [--share 0.2]

The workspace is copied; labels of whole kinds, drawn at random, are hidden in the copy, and the command's own function
tags them. The labels that were hidden judge.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from features.workspace import Workspace
from models.certify import lower_bound
from models.embedder import MiniLMEmbedder
from models.policy import TagConfig
from training.tagging.kinds import kinds_of_catalog
from training.tagging.untagged import tag_untagged


def measure(source: Workspace, seed: int, share: float) -> dict[str, object]:
    """Of kinds, whose gold is the label most of their items had, and of items."""
    with tempfile.TemporaryDirectory() as folder:
        place = Workspace(Path(folder) / "workspace")
        shutil.copytree(source.root, place.root)
        label = place.config().label_column or ""
        embedder = MiniLMEmbedder()
        kinds = kinds_of_catalog(place, embedder, seed, asked=False)
        drawn = np.random.default_rng(seed).permutation(len(kinds.labelled))[: round(share * len(kinds.labelled))]
        hidden = np.isin(kinds.kind, kinds.labelled[drawn])
        truth = dict(zip(kinds.items["item_id"].to_list(), kinds.items[label].to_list()))
        kind = dict(zip(kinds.items["item_id"].to_list(), kinds.kind.tolist()))
        column = pl.when(pl.Series(hidden)).then(None).otherwise(label).alias(label)
        kinds.items.with_columns(column).write_parquet(place.items)
        found = tag_untagged(place, TagConfig(), embedder, 7)
    judged = [item for item in found.items if truth.get(item.item_id) is not None and kind[item.item_id] >= 0]
    gold: dict[int, Counter[str]] = {}
    for item in judged:
        gold.setdefault(kind[item.item_id], Counter())[truth[item.item_id]] += 1
    one = {kind[item.item_id]: item for item in judged}
    right = {number: one[number].tag == min(own, key=lambda tag: (-own[tag], tag)) for number, own in gold.items()}
    accepted = [number for number, item in one.items() if item.verdict == "accept"]
    wrong = sum(not right[number] for number in accepted)
    published = [item for item in judged if item.verdict == "accept"]
    return {
        "kinds": len(one),
        "accuracy": float(np.mean(list(right.values()))),
        "accepted": len(accepted),
        "coverage": len(accepted) / len(one),
        "wrong": wrong,
        "precision": 1.0 - wrong / max(1, len(accepted)),
        "precision_low": float(lower_bound(len(accepted), wrong, 0.95)),
        "items": len(judged),
        "items_accepted": len(published),
        "items_precision": float(np.mean([truth[item.item_id] == item.tag for item in published]))
        if published
        else None,
        "certified_lower_bound": found.bound.lower,
        "seconds": found.seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.2)
    arguments = parser.parse_args()
    print(json.dumps(measure(Workspace(arguments.workspace), arguments.seed, arguments.share), indent=2))


if __name__ == "__main__":
    main()
