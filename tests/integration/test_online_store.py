"""Feast with SQLite and with a real Redis: what training wrote is what serving reads, and a dead store says so fast."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.candidates import retrieve
from features.errors import StoreUnavailable, WorkspaceError
from features.events import Recorder, SqliteEventLog, history_of
from features.history import History
from features.items import ItemTable
from features.ports import Event, OnlineStore
from features.schema import ITEM_STATS
from features.store import FeatureRepository, OnlineStoreConfig
from features.transforms import assemble, summarize
from features.workspace import Workspace
from tests.unit.features.shop import START, WEEK, Journey, journey
from training.materialize import build_item_table, event_arrays, load_events, write_features
from training.ranking import CANDIDATES

PATIENCE_S = 5.0
"""No call to a dead store may take longer."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Redis:
    """A Redis server of this test alone."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def config(self) -> OnlineStoreConfig:
        return OnlineStoreConfig(kind="redis", redis=f"127.0.0.1:{self.port}")


@contextmanager
def redis_server(folder: Path, port: int | None = None, *options: str) -> Iterator[Redis]:
    binary = shutil.which("redis-server")
    if binary is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is missing; the CI script installs it: apt-get install redis-server")
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    port = port or free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(
        [*command, "--dir", str(folder), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 10
        while process.poll() is None and time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        else:
            pytest.fail(f"redis-server did not start (exit code {process.poll()})")
        yield Redis(folder, port, process)
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    return journey(tmp_path_factory.mktemp("journey"), 8, items=250)


def silent(message: str, share: float) -> None:
    del message, share


@dataclass
class Stored:
    workspace: Workspace
    config: OnlineStoreConfig
    repository: FeatureRepository

    def reopened(self) -> FeatureRepository:
        """As another process would."""
        return FeatureRepository(self.workspace.features, self.repository.user_attributes, self.config)


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def stored(request: pytest.FixtureRequest, real: Journey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """The slice, materialized into either store; tests push only users of their own."""
    root = tmp_path_factory.mktemp("stored")
    shutil.copytree(real.workspace.root, root / "workspace")
    workspace = Workspace(root / "workspace")
    if request.param == "sqlite":
        config = OnlineStoreConfig()
        yield Stored(workspace, config, write_features(workspace, config, real.table, real.events, silent))
        return
    with redis_server(root) as server:
        yield Stored(
            workspace, server.config, write_features(workspace, server.config, real.table, real.events, silent)
        )


def bits(history: History) -> list[bytes]:
    return [getattr(history, name).tobytes() for name in ("item", "time", "session", "kind", "value")]


def test_every_user_reads_back_as_materialized(stored: Stored, real: Journey) -> None:
    profiles = pl.read_parquet(stored.workspace.users)
    repository = stored.reopened()
    store: OnlineStore = repository
    for code, user in enumerate(real.events.users):
        row = repository.user(user)
        assert bits(store.history(user)) == bits(row.history)
        assert row.known
        assert bits(row.history) == bits(real.events.history(code))
        listed = profiles.filter(pl.col("user_id") == user)
        expected = listed.row(0, named=True) if len(listed) else {}
        assert row.profile == {k: v for k, v in expected.items() if k != "user_id" and v is not None}


def test_training_and_serving_compute_the_same_matrix_to_the_bit(stored: Stored, real: Journey) -> None:
    """From arrays and the table in memory, and from the store and the table on disk, at times drawn at random."""
    rng = np.random.default_rng(6)
    table = ItemTable.load(stored.workspace.features / "item_table")
    end = int(real.events.time.max())
    for _ in range(30):
        code = int(rng.integers(len(real.events.users)))
        now = int(rng.integers(int(real.events.time.min()), end + 4 * WEEK))
        trained = summarize(real.events.history(code), real.table, now)
        served = summarize(stored.repository.user(real.events.users[code]).history, table, now)
        for repeats in (True, False):
            offered = retrieve(trained, real.table, CANDIDATES, repeats=repeats)
            found = retrieve(served, table, CANDIDATES, repeats=repeats)
            assert offered.rows.tobytes() == found.rows.tobytes()
            assert offered.sources.tobytes() == found.sources.tobytes()
            one = assemble(trained, real.table, offered.rows, offered.copurchase)
            other = assemble(served, table, found.rows, found.copurchase)
            assert one.tobytes() == other.tobytes()


def test_an_unknown_user_is_told_apart(stored: Stored) -> None:
    row = stored.repository.user("nobody")
    assert (row.known, len(row.history), row.profile) == (False, 0, {})


def some(user: str, *items: str) -> History:
    return history_of([Event(f"{user}{n}", user, i, "purchase", 1.0, START + n, "s") for n, i in enumerate(items)])


def test_a_push_is_seen_by_the_next_read_also_elsewhere(stored: Stored) -> None:
    """Many within a second, by two writers: the last one stands."""
    elsewhere = stored.reopened()
    for n in range(6):
        writer, reader = (stored.repository, elsewhere)[:: 1 if n % 2 else -1]
        pushed = some("pushed", *(f"i{k}" for k in range(n + 1)))
        writer.push({"pushed": pushed, "other": some("other", "x")})
        assert bits(reader.user("pushed").history) == bits(pushed)
        assert bits(writer.user("pushed").history) == bits(pushed)
    assert elsewhere.user("other").known
    stored.repository.push({})


def test_recorded_events_are_seen_and_a_second_materialization_counts_them_once(
    stored: Stored, real: Journey, tmp_path: Path
) -> None:
    """Train, record, train again, record: every event is in the state exactly once."""
    shutil.copytree(stored.workspace.root, tmp_path / "copy")
    workspace = Workspace(tmp_path / "copy")
    user = real.events.users[2]
    code = real.events.users.index(user)
    new = [
        Event(f"n{n}", who, real.table.item_ids[n], "purchase", 1.0, int(real.events.time.max()) + 99 + n, f"new{n}")
        for n, who in enumerate([user, user, "first seen online"])
    ]
    log = SqliteEventLog(workspace.events)
    repository = FeatureRepository(workspace.features, stored.repository.user_attributes, stored.config)
    assert Recorder(log, repository, repository.histories()).record(new[:1]).outage == ""
    assert len(repository.user(user).history) == len(real.events.history(code)) + 1

    def retrained() -> FeatureRepository:
        events = event_arrays(load_events(workspace), real.items)
        table = build_item_table(workspace.config(), real.items, events)
        return write_features(workspace, stored.config, table, events, silent)

    assert bits(retrained().user(user).history) == bits(real.events.history(code).append(history_of(new[:1])))
    repository = retrained()
    assert Recorder(log, repository, repository.histories()).record(new[1:]).outage == ""
    expected = real.events.history(code).append(history_of(new[:2]))
    assert bits(repository.user(user).history) == bits(expected)
    # The next training sees the same arrays that serving reads.
    arrays = event_arrays(load_events(workspace), real.items)
    assert bits(arrays.history(arrays.users.index(user))) == bits(expected)
    assert repository.user("first seen online").known
    log.close()


def test_a_point_in_time_join_gives_the_statistics_of_the_week(stored: Stored, real: Journey) -> None:
    """Through Feast, when weeks begin, a second before and in between; bit for bit, age apart.

    After the last event's week the source says nothing new: what it holds last stands.
    """
    rng = np.random.default_rng(8)
    weeks = real.table.activity.weeks() * 86_400
    moments = rng.choice(weeks, 40) + rng.choice([-1, 0, 1, 200_000], 40)
    moments[:4] = [weeks[0] - 1, weeks[0], weeks[-1], weeks[-1] + 9 * WEEK]
    rows = rng.integers(0, len(real.items), 40)
    names = [column.name for column in ITEM_STATS[:-1]]
    asked = pl.DataFrame({"item_id": [real.table.item_ids[row] for row in rows], "seconds": moments})
    # The same question twice is two rows.
    asked = pl.concat([asked, asked.head(3)])
    entities = asked.select("item_id", event_timestamp=pl.from_epoch("seconds").dt.replace_time_zone("UTC"))
    joined = stored.repository.as_of(entities, [f"item_statistics:{name}" for name in names])
    assert joined["item_id"].to_list() == asked["item_id"].to_list()
    found = np.stack([joined[name].cast(pl.Float32).fill_null(np.nan).to_numpy() for name in names], axis=1)
    for number, moment in enumerate([*moments.tolist(), *moments[:3].tolist()]):
        row = [*rows.tolist(), *rows[:3].tolist()][number]
        week = int(weeks[np.searchsorted(weeks, moment, side="right") - 1]) if moment >= weeks[0] else 0
        np.testing.assert_array_equal(found[number], real.table.statistics(week)[row, : len(names)])


def test_histories_without_materialization_name_the_command(tmp_path: Path) -> None:
    repository = FeatureRepository(tmp_path, [])
    with pytest.raises(WorkspaceError, match=r"never materialized. Run: tandem train"):
        repository.histories()
    with pytest.raises(StoreUnavailable, match="workspace was trained"):
        repository.user("u")


def small(folder: Path, config: OnlineStoreConfig, ahead: timedelta = timedelta(0)) -> FeatureRepository:
    """A store with one user, without a dataset, materialized by a clock that is ``ahead``."""
    repository = FeatureRepository(folder, [], config)
    stamp = pl.lit(datetime.now(UTC) + ahead).cast(pl.Datetime("us", "UTC"))
    history = pl.DataFrame({"user_id": ["u"], "history": [some("u", "a").encode()]})
    repository.write_source("user_history", history.with_columns(event_timestamp=stamp))
    statistics = pl.DataFrame({"item_id": ["a"], **{c.name: [1.0] for c in ITEM_STATS[:-1]}})
    statistics = statistics.with_columns(pl.col(pl.Float64).cast(pl.Float32), event_timestamp=stamp)
    repository.write_source("item_statistics", statistics)
    repository.apply()
    repository.materialize(["user_history"], datetime.now(UTC) + ahead + timedelta(seconds=1))
    return repository


def test_a_push_by_a_slower_clock_is_not_dropped(tmp_path: Path, redis: Redis) -> None:
    repository = small(tmp_path / "features", redis.config, ahead=timedelta(hours=1))
    pushed = some("u", "a", "b")
    repository.push({"u": pushed})
    assert bits(repository.user("u").history) == bits(pushed)


def assert_says_so_in_time(repository: FeatureRepository) -> None:
    for call in (lambda: repository.user("u"), lambda: repository.push({"u": some("u", "b")})):
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="check that it runs"):
            call()
        assert time.monotonic() - started < PATIENCE_S


def test_a_killed_redis_is_reported_and_used_again_when_it_is_back(tmp_path: Path, redis: Redis) -> None:
    repository = small(tmp_path / "features", redis.config)
    log = SqliteEventLog(tmp_path / "events.db")
    recorder = Recorder(log, repository, repository.histories())
    assert repository.user("u").known
    redis.process.kill()
    redis.process.wait(10)
    assert_says_so_in_time(repository)
    recorded = recorder.record([Event("1", "u", "b", "purchase", 1.0, START + 9, "s2")])
    assert recorded.new == 1
    assert "check that it runs" in recorded.outage
    with redis_server(tmp_path, redis.port):
        assert recorder.push_pending() == 1
        assert len(repository.user("u").history) == 2
    log.close()


def test_a_redis_that_hangs_is_reported_in_time(tmp_path: Path, redis: Redis) -> None:
    repository = small(tmp_path / "features", redis.config)
    redis.process.send_signal(signal.SIGSTOP)
    try:
        assert_says_so_in_time(repository)
    finally:
        redis.process.send_signal(signal.SIGCONT)
    assert repository.user("u").known


def test_a_redis_that_never_was_is_reported_in_time(tmp_path: Path) -> None:
    small(tmp_path, OnlineStoreConfig())
    nowhere = OnlineStoreConfig(kind="redis", redis=f"127.0.0.1:{free_port()}")
    assert_says_so_in_time(FeatureRepository(tmp_path, [], nowhere))


@pytest.mark.parametrize("password", ["secret", "1e5", "true", "a,b=c,db=9", 'quo"te\\'])
def test_any_password_opens_a_guarded_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    with redis_server(tmp_path, None, "--requirepass", password) as server:
        config = server.config.model_copy(update={"redis_password_env": "SHOP_REDIS_PASSWORD"})
        monkeypatch.setenv("SHOP_REDIS_PASSWORD", password)
        assert small(tmp_path / "features", config).user("u").known
        monkeypatch.setenv("SHOP_REDIS_PASSWORD", "wrong")
        with pytest.raises(StoreUnavailable) as refused:
            FeatureRepository(tmp_path / "features", [], config).user("u")
        assert "wrong" not in str(refused.value)


def test_options_of_the_configuration_reach_redis(tmp_path: Path, redis: Redis) -> None:
    config = OnlineStoreConfig(kind="redis", redis=f"127.0.0.1:{redis.port},db=3,socket_timeout=1")
    small(tmp_path / "features", config)
    assert FeatureRepository(tmp_path / "features", [], config).user("u").known
    assert not FeatureRepository(tmp_path / "features", [], redis.config).user("u").known
