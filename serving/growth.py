"""What a request costs as the catalog grows, and what a batch costs: measured in this process, without the network.

The catalogs are synthetic and stated as such: items, texts, attributes, counts and neighbours are drawn with a seed.
The users are the workspace's own, so that histories have the lengths, sessions and repeats of real ones; each item of a
history stands for one of the synthetic catalog. Ranker, graph and pipeline are those of the promoted release.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from features.candidates import retrieve
from features.history import History
from features.items import ItemTable
from features.keys import NOWHERE, KeyArray
from features.places import PlaceActivity
from features.schema import schema_hash
from features.statistics import Activity
from features.transforms import assemble, summarize
from features.workspace import Workspace
from graph.properties import PropertyTable
from models import release
from models.blend import Blend
from models.catalog import Catalog
from models.ports import FloatMatrix
from serving.arrivals import Arrivals
from serving.clock import RequestClock
from serving.config import ServeConfig
from serving.load import RANKER
from serving.messages import RecommendQuery
from serving.offline import known_users_services, place_names, stored_histories
from serving.pipeline import recommend
from serving.services import Services
from serving.similar import SimilarItems

ITEMS = (100_000, 1_000_000)
REQUESTS = 400
"""Requests per catalog and round, each of another user as far as there are so many."""
ROUNDS = 3
"""Catalogs take turns, so that a disturbance of the machine hits them alike."""
BATCH_ROWS = 1_000_000
BATCH_REQUESTS = 50
"""Requests scored together in the offline batch."""
WORKERS = 2
_SEED = 7
_NEIGHBOURS = 24
_ITEMS_PER_TEXT = 20
_DAYS = 120
_EVENTS_PER_ITEM = 4
_PATIENCE_MS = 600_000
_DAY = 86_400
_NO_PLACES = np.empty(0, np.int64)

Progress = Callable[[str, float], None]


# --- one request on a larger catalog ---------------------------------------------------------------------------------


def measure_growth(
    workspace: Workspace,
    config: ServeConfig,
    progress: Progress,
    sizes: Sequence[int] = ITEMS,
    requests: int = REQUESTS,
) -> dict[str, Any]:
    """p50 of the pipeline (milliseconds) by catalog size; takes about a minute and 3 GiB.

    ``catalog`` says what was measured, ``build_s`` how long each catalog took to make.
    """
    progress("loading the release", 0.0)
    real = known_users_services(workspace, config)
    histories = stored_histories(workspace)
    place = next(iter(place_names(workspace)), "")
    users = sorted(user for user, history in histories.items() if len(history))
    users = np.random.default_rng(_SEED).permutation(users)[:requests].tolist()
    served: dict[int, Services] = {}
    build_s: dict[str, float] = {}
    for number, items in enumerate(sizes):
        progress(f"a catalog of {items:,} items", 0.1 + 0.3 * number)
        started = time.perf_counter()
        served[items] = synthetic(real, items, {user: histories[user] for user in users})
        build_s[str(items)] = time.perf_counter() - started
    ms: dict[int, list[float]] = {items: [] for items in sizes}
    for turn in range(ROUNDS + 1):
        for items, services in served.items():
            progress(f"requests on {items:,} items", 0.6 + 0.1 * turn)
            taken = asyncio.run(_ask(services, users, place))
            if turn:  # the first round fills caches
                ms[items] += taken
    return {
        "catalog": "synthetic, seeded; users' histories are real ones on its items; in process, without gRPC",
        "requests": len(ms[sizes[0]]),
        "p50_ms": {str(items): float(np.median(values)) for items, values in ms.items()},
        "p99_ms": {str(items): float(np.percentile(values, 99)) for items, values in ms.items()},
        "build_s": build_s,
    }


async def _ask(services: Services, users: Sequence[str], place: str) -> list[float]:
    taken = []
    for user in users:
        started = time.perf_counter()
        query = RecommendQuery("", _PATIENCE_MS, user, "", 10, place=place)
        answer = await recommend(services, query, RequestClock(_PATIENCE_MS))
        taken.append((time.perf_counter() - started) * 1e3)
        if answer.path != "known_user" or answer.header.degraded:
            raise RuntimeError(
                f"user {user} of the synthetic catalog took the path {answer.path}: nothing was measured"
            )
    return taken


def synthetic(real: Services, items: int, histories: Mapping[str, History]) -> Services:
    """The release's services with a catalog of ``items`` items, and users whose histories are about them."""
    random = np.random.default_rng(_SEED)
    labels = np.minimum(random.geometric(0.01, items) - 1, len(real.catalog.labels) - 1).astype(np.int32)
    table = synthetic_table(items, labels, real.config.data_end, random, real.table.places.places)
    catalog = _catalog(real.catalog, items, labels)
    users = np.sort(random.zipf(1.3, items).clip(max=2_000))[::-1].astype(np.float64)
    demand = replace(real.demand, item_users=users, popular=np.arange(min(300, items), dtype=np.int64))
    zeros = np.zeros(items, np.uint64)
    similar = SimilarItems(catalog, users)
    similar.warm_up()
    return replace(
        real,
        table=table,
        store=_Memory({user: _on(history, real.table, table) for user, history in histories.items()}),
        catalog=catalog,
        demand=demand,
        similar=similar,
        arrivals=Arrivals(),
        properties=PropertyTable(real.properties.names, zeros, zeros, zeros.astype(bool), real.properties.version),
    )


def synthetic_table(
    items: int, labels: npt.NDArray[np.int32], end: int, random: np.random.Generator, places: KeyArray = _NO_PLACES
) -> ItemTable:
    """An item table with attributes, daily counts of the last months before ``end`` (seconds), prices, what was sold at
    ``places`` (keys), and neighbours."""
    number = pl.int_range(items, eager=True).cast(pl.String)
    frame = pl.DataFrame(
        {
            "item_id": "s" + number,
            "title": "Synthetic item " + number,
            "text": pl.Series([""]).new_from_index(0, items),
            "category": "category " + pl.Series(labels).cast(pl.String),
            "product_type": "type " + pl.Series(random.integers(0, 2_500, items)).cast(pl.String),
            "brand": "brand " + pl.Series(random.integers(0, 3_000, items)).cast(pl.String),
        }
    )
    entries = items * _EVENTS_PER_ITEM
    day = np.sort(end // _DAY - random.integers(0, _DAYS, entries))
    row = random.integers(0, items, entries)
    pair = np.unique(day * items + row)
    counts = random.integers(1, 5, len(pair)).astype(np.int32)
    return ItemTable.build(
        version=f"synthetic-{items}",
        frame=frame,
        group_names=("category", "product_type", "brand"),
        slots=3,
        activity=Activity((pair // items).astype(np.int32), (pair % items).astype(np.int32), counts, counts // 2),
        places=PlaceActivity.count(
            random.choice(places, entries) if len(places) else np.full(entries, NOWHERE, np.int64),
            row,
            day * _DAY,
            random.lognormal(1.0, 0.5, entries).astype(np.float32),
            items,
        ),
        neighbours=random.integers(0, items, (items, _NEIGHBOURS), dtype=np.int32),
        similarity=np.sort(random.random((items, _NEIGHBOURS), dtype=np.float32))[:, ::-1].copy(),
    )


def _catalog(real: Catalog, items: int, labels: npt.NDArray[np.int32]) -> Catalog:
    """A text for every 20 items, as real shops have them; which texts are near each other is made up."""
    text_of_row = (np.arange(items) // _ITEMS_PER_TEXT).astype(np.int32)
    texts = int(text_of_row[-1]) + 1
    numbers = np.arange(texts, dtype=np.float32)[:, None]
    return replace(
        real,
        texts=tuple(map(str, range(texts))),
        vectors=numbers,
        index=_Numbered(texts),
        text_of_row=text_of_row,
        rows_by_text=np.arange(items, dtype=np.int64),
        text_starts=np.minimum(np.arange(texts + 1) * _ITEMS_PER_TEXT, items),
        label_of_row=labels,
        attributes={},
        values={},
    )


def _on(history: History, real: ItemTable, table: ItemTable) -> History:
    """The history with each of its items replaced by one of the table, equal ones by equal ones."""
    rows = real.rows_of(history.item)
    spread = np.where(rows >= 0, rows, history.item % max(1, len(real))) * len(table) // max(1, len(real))
    return replace(history, item=table.keys[spread])


class _Memory:
    """An online store in memory: what is measured is the catalog's size, and users' states do not grow with it."""

    def __init__(self, histories: Mapping[str, History]) -> None:
        self._histories = histories

    def history(self, user_id: str) -> History:
        return self._histories[user_id]

    def push(self, histories: Mapping[str, History]) -> None:
        raise RuntimeError(f"nothing is pushed to a synthetic catalog, but {len(histories)} histories were")


class _Numbered:
    """An index of texts whose vectors are their numbers: near are those with the next ones."""

    def __init__(self, texts: int) -> None:
        self._texts = texts

    def search(self, queries: FloatMatrix, k: int) -> tuple[npt.NDArray[np.int64], FloatMatrix]:
        rows = (queries[:, :1].astype(np.int64) + np.arange(k)) % self._texts
        return rows, np.broadcast_to(np.linspace(1, 0.5, k, dtype=np.float32), rows.shape).copy()

    def save(self, path: Path) -> None:
        raise RuntimeError(f"a synthetic index is not kept, but was to be saved as {path}")


# --- a batch ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Batch:
    """Requests of one worker: users with the time (seconds) each is scored at, and the users' encoded histories."""

    workspace: Path
    requests: tuple[tuple[str, int], ...]
    histories: Mapping[str, bytes]
    candidates: int


def measure_offline(
    workspace: Workspace, config: ServeConfig, progress: Progress, rows: int = BATCH_ROWS
) -> dict[str, Any]:
    """Retrieve, assemble and score ``rows`` candidate rows in two processes, one core each.

    ``seconds``: all of it, with starting the processes and loading the release; ``load_s``: the slower one's loading.
    """
    progress("scoring a million rows offline", 0.0)
    histories = stored_histories(workspace)
    users = sorted(user for user, history in histories.items() if len(history))
    needed = -(-rows // config.candidates)
    end = workspace.config().data_end + 1
    # By time: the statistics of a day are summed up once for all who are scored on it.
    requests = [(users[number % len(users)], end - number // len(users) * _DAY) for number in range(needed)]
    started = time.perf_counter()
    batches = []
    for part in range(WORKERS):
        mine = tuple(requests[part::WORKERS])
        encoded = {user: histories[user].encode() for user in {user for user, _ in mine}}
        batches.append(_Batch(workspace.root, mine, encoded, config.candidates))
    # Spawned: this process has threads by now, which a fork would not take along.
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(_score, batches))
    seconds = time.perf_counter() - started
    scored = sum(int(part["rows"]) for part in found)
    return {
        "rows": scored,
        "requests": len(requests),
        "workers": WORKERS,
        "seconds": seconds,
        "load_s": max(part["load_s"] for part in found),
        "seconds_per_million": seconds * 1e6 / scored,
    }


def _score(batch: _Batch) -> dict[str, float]:
    started = time.perf_counter()
    workspace = Workspace(batch.workspace)
    current, folder = release.read(workspace.releases)
    table = ItemTable.load(folder / "item_table")
    ranker = Blend.load(folder / RANKER, schema_hash())
    histories = {user: History.decode(blob) for user, blob in batch.histories.items()}
    loaded = time.perf_counter()
    rows = 0
    for start in range(0, len(batch.requests), BATCH_REQUESTS):
        matrices = []
        for user, now in batch.requests[start : start + BATCH_REQUESTS]:
            profile = summarize(histories[user], table, now, int(histories[user].place[-1]))
            found = retrieve(profile, table, batch.candidates, repeats=current.repeats)
            matrices.append(assemble(profile, table, found.rows, found.copurchase))
        rows += len(ranker.predict(np.concatenate(matrices)))
    return {"rows": rows, "load_s": loaded - started, "score_s": time.perf_counter() - loaded, "pid": os.getpid()}
