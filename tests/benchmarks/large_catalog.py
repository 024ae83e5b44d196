"""A catalog of a million items from files to an answer: ingest, train, recommend, with time and memory of each.

Synthetic and stated as such: items share titles (20 to each), users repeat what they buy, popularity is a power law.
Not a test: it takes minutes and gigabytes. Run it from the repository: python -m tests.benchmarks.large_catalog FOLDER
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

from features.workspace import Workspace
from serving.clock import RequestClock
from serving.config import ServeConfig
from serving.messages import RecommendQuery
from serving.offline import known_users_services
from serving.pipeline import recommend
from training.config import TrainConfig
from training.datasets.ingest import ingest_files
from training.train import train

ITEMS, USERS, EVENTS = 1_000_000, 50_000, 5_000_000
_SEED = 11
_START = 1_600_000_000
_DAYS = 180
_WORDS = ("ripe", "organic", "small", "large", "smoked", "frozen", "sweet", "dark", "light", "fresh", "dry", "whole")


def write_files(folder: Path, items: int, users: int, events: int) -> tuple[Path, Path]:
    """Items and interactions as parquet, the same for the same numbers."""
    rng = np.random.default_rng(_SEED)
    text = rng.integers(0, max(1, items // 20), items)
    words = np.array(_WORDS)
    titles = [f"{words[code % 12]} {words[code // 12 % 12]} article {code}" for code in text.tolist()]
    pl.DataFrame(
        {
            "item_id": [f"i{row}" for row in range(items)],
            "title": titles,
            "category": [f"c{code % 400}" for code in text.tolist()],
            "brand": [f"b{code}" for code in rng.integers(0, 20_000, items).tolist()],
        }
    ).write_parquet(folder / "items.parquet")
    user = rng.integers(0, users, events)
    # Everybody has a hundred items of their own, drawn by popularity, and takes most events from them.
    famous = (items * rng.power(0.25, (users, 100))).astype(np.int64)
    item = famous[user, (100 * rng.power(0.5, events)).astype(np.int64)]
    fresh = rng.random(events) < 0.3
    item[fresh] = (items * rng.power(0.25, int(fresh.sum()))).astype(np.int64)
    day = rng.integers(0, _DAYS, events)
    hour = 7 + (user * 31 + day * 17) % 14
    pl.DataFrame(
        {
            "user_id": pl.Series(user).cast(pl.String),
            "item_id": "i" + pl.Series(item).cast(pl.String),
            "timestamp": _START // 86_400 * 86_400 + day * 86_400 + hour * 3_600,
        }
    ).write_parquet(folder / "interactions.parquet")
    return folder / "items.parquet", folder / "interactions.parquet"


async def _ask(workspace: Workspace, users: int) -> list[float]:
    services = known_users_services(workspace, ServeConfig(llm=None))
    taken = []
    for user in range(users):
        started = time.perf_counter()
        answer = await recommend(services, RecommendQuery("", 60_000, str(user), "", 10), RequestClock(60_000))
        taken.append(time.perf_counter() - started)
        if len(answer.items) != 10 or answer.path != "known_user":
            raise SystemExit(f"user {user} got {len(answer.items)} items by {answer.path}")
    return taken


def main() -> None:
    """Print seconds and peak memory after each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--events", type=int, default=EVENTS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    workspace = Workspace(given.folder / "workspace")

    def say(step: str, started: float) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{step}: {time.perf_counter() - started:.1f} s, peak {peak:.2f} GiB", flush=True)

    started = time.perf_counter()
    items, interactions = write_files(given.folder, given.items, given.users, given.events)
    say(f"files of {given.items:,} items, {given.users:,} users, {given.events:,} events", started)
    started = time.perf_counter()
    ingest_files(items, interactions, None, workspace, label_column="category")
    say("ingest", started)
    started = time.perf_counter()
    report = train(workspace, TrainConfig(llm=None), None, lambda stage, _: print(f"  {stage}", file=sys.stderr))
    say(f"train {dict(report.seconds)}", started)
    started = time.perf_counter()
    taken = asyncio.run(_ask(workspace, 100))
    say(f"load and 100 answers, median {1e3 * float(np.median(taken)):.2f} ms", started)


if __name__ == "__main__":
    main()
