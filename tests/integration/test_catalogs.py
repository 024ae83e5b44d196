"""Catalogs unlike groceries: films rated by day, without texts or user attributes; a shop of a hundred items."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from typer.testing import CliRunner

from cli import app
from features.candidates import retrieve
from features.items import ItemTable
from features.transforms import assemble, summarize
from features.workspace import Workspace
from models import release
from models.guardrail import GuardrailConfig
from models.policy import TagConfig
from models.ranker import LightGBMRanker, RankerConfig
from serving.gateway.budget import read_spent
from tests.faults import FaultServer
from training.config import TrainConfig
from training.datasets.ingest import ingest_files
from training.fit import system_of
from training.materialize import event_arrays, load_events
from training.report.run import evaluate_ranking
from training.train import train

GENRES = 6
CONFIG = TrainConfig(
    llm=None,
    search=False,
    ranker=RankerConfig(trees=40),
    tags=TagConfig(trees=20),
    cold=GuardrailConfig(trees=20),
)


def films(folder: Path, users: int = 150, items: int = 400, each: int = 40, tagged: bool = False) -> Workspace:
    """Everybody likes two genres and rates each film once, on days: films of the own genres high, others low.

    ``tagged``: genres are a list, as film catalogs have it, and no label: ratings alone tell taste."""
    rng = np.random.default_rng(5)
    genre = rng.integers(0, GENRES, items)
    fame = rng.pareto(1.5, items) + 0.1
    rows = []
    for user in range(users):
        own = np.isin(genre, rng.choice(GENRES, 2, replace=False))
        weight = fame * np.where(own, 12.0, 1.0)
        seen = rng.choice(items, each, replace=False, p=weight / weight.sum())
        days = np.sort(rng.integers(0, 200, each))
        for item, day in zip(seen.tolist(), days.tolist()):
            value = 4 + int(rng.integers(0, 2)) if own[item] else 1 + int(rng.integers(0, 3))
            date = (datetime(2020, 1, 1) + timedelta(days=day)).date().isoformat()
            rows.append((f"u{user}", f"f{item}", date, "rating", float(value)))
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "event", "value"], orient="row")
    frame.write_csv(folder / "ratings.csv")
    genres = [json.dumps([f"g{code}", "film"]) if tagged else f"g{code}" for code in genre]
    catalog = pl.DataFrame({"item_id": [f"f{item}" for item in range(items)], "genre": genres})
    catalog.with_columns(title=pl.col("item_id")).write_csv(folder / "films.csv")
    workspace = Workspace(folder / "workspace")
    label = None if tagged else "genre"
    ingest_files(folder / "films.csv", folder / "ratings.csv", None, workspace, label_column=label)
    return workspace


def shop(folder: Path) -> Workspace:
    """A hundred items without text or category; forty people buy their five staples weekly and something else."""
    rng = np.random.default_rng(6)
    rows = []
    for user in range(40):
        staples = rng.choice(100, 5, replace=False)
        for week in range(16):
            moment = datetime(2021, 3, 1, 9) + timedelta(weeks=week, hours=int(rng.integers(0, 60)))
            for item in {*staples[rng.random(5) < 0.8].tolist(), int(rng.integers(0, 100))}:
                rows.append((f"u{user}", f"i{item}", moment.isoformat()))
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    frame.write_csv(folder / "sales.csv")
    ids = [f"i{item}" for item in range(100)]
    pl.DataFrame({"item_id": ids, "title": ids}).write_csv(folder / "items.csv")
    workspace = Workspace(folder / "workspace")
    ingest_files(folder / "items.csv", folder / "sales.csv", None, workspace, label_column=None)
    return workspace


def test_films_are_never_recommended_twice_and_the_ranking_learns_taste(tmp_path: Path) -> None:
    workspace = films(tmp_path)
    train(workspace, CONFIG, None)
    current, folder = release.read(workspace.releases)
    assert not current.repeats, "measured from the data: nobody rates a film twice"
    table = ItemTable.load(folder / "item_table")
    events = event_arrays(load_events(workspace), pl.read_parquet(workspace.items))
    ranker = LightGBMRanker.load(folder / "ranker", current.versions["feature_schema"])
    now = int(events.time.max()) + 1
    for user in range(20):
        history = events.history(user)
        profile = summarize(history, table, now)
        candidates = retrieve(profile, table, 200, repeats=current.repeats)
        assert len(candidates)
        assert not np.isin(table.keys[candidates.rows], history.item).any()
        scores = ranker.predict(assemble(profile, table, candidates.rows, candidates.copurchase))
        assert np.isfinite(scores).all()

    system, measured = system_of(workspace, CONFIG)
    assert not measured
    result = evaluate_ranking(workspace, system, repeats=measured, tuning_targets=100)
    protocol = result["protocols"]["temporal"]
    found = protocol["models"]
    assert found["tandem"]["ndcg@10"] > found["popular"]["ndcg@10"], found
    for protocol in result["protocols"].values():
        # Within noise, where it was far behind: taste shows in all that somebody rated, not in the last five evenings.
        assert protocol["gain"]["ndcg@10"]["high"] > 0, protocol["gain"]
        assert protocol["models"]["tandem"]["ndcg@10"] > 0.8 * protocol["models"]["item-knn"]["ndcg@10"], protocol
    assert result["worst_slice"] is None, "there are no user attributes to slice by"


def test_films_known_by_nothing_but_ratings_are_ranked_as_well_as_by_their_neighbours(tmp_path: Path) -> None:
    """Genres are a list: no column of the ranker knows them, and neighbours are all there is."""
    workspace = films(tmp_path, tagged=True)
    system, measured = system_of(workspace, CONFIG)
    result = evaluate_ranking(workspace, system, repeats=measured, tuning_targets=100)
    for protocol in result["protocols"].values():
        assert protocol["gain"]["ndcg@10"]["high"] > 0, protocol["gain"]
        assert protocol["models"]["tandem"]["ndcg@10"] > 0.8 * protocol["models"]["item-knn"]["ndcg@10"], protocol


def test_a_shop_of_a_hundred_items_without_texts_learns_its_staples(tmp_path: Path) -> None:
    workspace = shop(tmp_path)
    train(workspace, CONFIG, None)
    current, _ = release.read(workspace.releases)
    assert current.repeats
    # As people ask for it: one JSON object on standard output, of the shape that scripts read.
    done = CliRunner().invoke(app, ["evaluate", "ranking", "--json", "--workspace", str(workspace.root)])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    found = result["models"]
    assert found["tandem"]["recall@10"] > 0.7 > found["g-topfreq"]["recall@10"], found
    assert found["tandem"].keys() >= {"ndcg@10", "recall@10", "phr@10"}
    assert result["gain"]["best_baseline"] in found
    assert result["gain"]["ndcg@10"].keys() >= {"mean", "low", "high"}
    assert (workspace.root / "reports" / "ranking.html").is_file()


def test_training_asks_the_llm_of_the_settings_through_the_gateway(tmp_path: Path) -> None:
    """By the command line, as everybody trains: what it asked is in the books, and the release names who answered."""
    workspace = films(tmp_path, users=60, items=200, each=20)
    settings = tmp_path / "settings.toml"
    with FaultServer() as server:
        settings.write_text(
            f'[llm]\nengine = "openai"\nmodel = "m"\nbase_url = "{server.base_url}"\n'
            "[train]\nsearch = false\nllm_tag_examples = 20\nllm_cold_examples = 5\n"
            "[train.ranker]\ntrees = 10\n[train.tags]\ntrees = 10\n[train.cold]\ntrees = 10\n"
        )
        done = CliRunner().invoke(app, ["train", "-w", str(workspace.root), "-c", str(settings), "--json"])
        assert done.exit_code == 0, done.output
        asked = len(server.bills)
        assert server.connections == 0
    (spent,) = read_spent(workspace.llm_spend, 2).to_dicts()
    assert (spent["task"], spent["job"], spent["calls"]) == ("train", "train", asked)
    assert asked > 0
    current, _ = release.read(workspace.releases)
    assert current.versions["llm"] == "m@127.0.0.1"
