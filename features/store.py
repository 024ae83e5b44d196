"""Feast: entities, feature views, the push source, and the online store behind `features.ports.OnlineStore`.

The only file that imports Feast. Sources are parquet files below the workspace; the online store is SQLite beside them
or Redis by configuration.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from features.errors import StoreUnavailable, WorkspaceError
from features.history import History
from features.ports import UserRow
from features.schema import ITEM_STATS

if TYPE_CHECKING:
    from feast import FeatureStore

USER_HISTORY = "user_history"
USER_PROFILE = "user_profile"
ITEM_STATISTICS = "item_statistics"
PUSH_SOURCE = "user_events"
REDIS_CONNECT_S = 1.0
REDIS_ANSWER_S = 2.0
"""Seconds a connect and an answer of Redis may take; ``socket_timeout=`` in OnlineStoreConfig.redis overrides."""
_BEGINNING = datetime(1990, 1, 1, tzinfo=UTC)


class OnlineStoreConfig(BaseModel):
    """Where users' features are read at request time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["sqlite", "redis"] = "sqlite"
    """``sqlite``: a file in the workspace, no server. ``redis``: shared by many replicas and machines."""
    redis: str = Field(default="127.0.0.1:6379", pattern=r"^[^\s:,]+:\d+(,[^\s,]+)*$")
    """host:port, then Feast's options separated by commas (``ssl=true``); read for kind ``redis`` only."""
    redis_password_env: str | None = None
    """NAME of the environment variable that holds the Redis password."""


class FeatureRepository:
    """The Feast repository of one workspace: define, materialize, join, read, push."""

    def __init__(self, folder: Path, user_attributes: Sequence[str], config: OnlineStoreConfig | None = None) -> None:
        os.environ.setdefault("FEAST_USAGE", "False")
        from feast import FeatureStore, RepoConfig

        self.folder = folder
        self.user_attributes = tuple(user_attributes)
        config = config or OnlineStoreConfig()
        folder.mkdir(parents=True, exist_ok=True)
        online: dict[str, Any] = {"type": "sqlite", "path": str(folder / "online.db")}
        if config.kind == "redis":
            # Left alone, Feast drops a write that is not newer than the stored row. Pushes follow the event log's
            # lock: the last is right, whatever the clocks of two machines say.
            online = {"type": "redis", "connection_string": _redis_address(config), "skip_dedup": True}
        logging.getLogger("feast").setLevel(logging.WARNING)
        self._store: FeatureStore = FeatureStore(
            config=RepoConfig(
                project="tandem",
                provider="local",
                registry={"registry_type": "file", "path": str(folder / "registry.db"), "cache_ttl_seconds": 0},
                online_store=online,
                offline_store={"type": "dask"},
                entity_key_serialization_version=3,
            )
        )
        self._views: dict[str, Any] = {}

    def source(self, view: str) -> Path:
        """The parquet file behind a view."""
        return self.folder / "offline" / f"{view}.parquet"

    def write_source(self, view: str, frame: pl.DataFrame) -> None:
        path = self.source(view)
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(path)

    def apply(self) -> None:
        """Register entities, views and the push source; sources must have been written."""
        from feast import Entity, FeatureView, FileSource, PushSource, ValueType
        from feast import Field as Column
        from feast.types import Bytes, Float32, String

        def file(view: str) -> Any:
            return FileSource(name=f"{view}_file", path=str(self.source(view)), timestamp_field="event_timestamp")

        user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
        item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)
        forever = timedelta(0)
        objects = [
            user,
            item,
            FeatureView(
                name=USER_HISTORY,
                entities=[user],
                ttl=forever,
                schema=[Column(name="history", dtype=Bytes)],
                source=PushSource(name=PUSH_SOURCE, batch_source=file(USER_HISTORY)),
            ),
            FeatureView(
                name=ITEM_STATISTICS,
                entities=[item],
                ttl=forever,
                schema=[Column(name=column.name, dtype=Float32) for column in ITEM_STATS[:-1]],
                source=file(ITEM_STATISTICS),
            ),
        ]
        if self.user_attributes:
            objects.append(
                FeatureView(
                    name=USER_PROFILE,
                    entities=[user],
                    ttl=forever,
                    schema=[Column(name=name, dtype=String) for name in self.user_attributes],
                    source=file(USER_PROFILE),
                )
            )
        self._store.apply(objects)
        self._views.clear()

    def materialize(self, views: Sequence[str], until: datetime) -> None:
        """Load the newest row of every entity before ``until`` into the online store. Raises StoreUnavailable."""
        with _quiet(), _store_errors("materialized"):
            self._store.materialize(_BEGINNING, until, feature_views=list(views))

    def as_of(self, entities: pl.DataFrame, features: Sequence[str]) -> pl.DataFrame:
        """Point-in-time join: for each row (entity columns, ``event_timestamp``) the features' newest earlier values.

        Rows come back in the order of ``entities``; features are named ``view:column`` and come back as ``column``.
        """
        # Feast answers equal questions once.
        numbered = entities.unique(maintain_order=True).with_row_index("__row")
        joined = self._store.get_historical_features(
            entity_df=numbered.with_columns(pl.col("event_timestamp").dt.cast_time_unit("ns")).to_pandas(),
            features=list(features),
        ).to_arrow()
        names = [name.split(":")[1] for name in features]
        found = pl.DataFrame(pl.from_arrow(joined)).select(pl.col("__row").cast(numbered.schema["__row"]), *names)
        # Feast leaves out the rows of entities whose first values came later; here they are rows of nulls.
        answers = numbered.join(found, on="__row", how="left").drop("__row")
        return entities.join(answers, on=entities.columns, how="left", maintain_order="left", nulls_equal=True)

    def history(self, user_id: str) -> History:
        with _store_errors("read"):
            blob = self._read(USER_HISTORY, user_id, ["history"]).get("history")
        return History.decode(blob.bytes_val) if blob is not None else History.empty()

    def user(self, user_id: str) -> UserRow:
        """Events and profile: two reads of the store, so a caller that needs no profile asks for ``history``."""
        history = self.history(user_id)
        with _store_errors("read"):
            values = self._read(USER_PROFILE, user_id, self.user_attributes) if self.user_attributes else {}
        profile = {
            name: values[name].string_val
            for name in self.user_attributes
            if name in values and values[name].HasField("string_val")
        }
        return UserRow(history, profile, known=bool(len(history)))

    def _read(self, view: str, user_id: str, names: Sequence[str]) -> Mapping[str, Any]:
        """One user's values of a view, as Feast's messages; empty for a user the store does not know.

        Asked of Feast's online store itself, the interface its backends implement: `get_online_features` resolves
        names, types and statuses anew at every call, three quarters of the time of a read.
        """
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        if view not in self._views:
            self._views[view] = self._store.get_feature_view(view)
        key = EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=user_id)])
        ((_, values),) = self._store.provider.online_read(self._store.config, self._views[view], [key], list(names))
        return values or {}

    def push(self, histories: Mapping[str, History]) -> None:
        import pandas as pd
        from feast.data_source import PushMode

        if not histories:
            return
        rows = {
            "user_id": list(histories),
            "history": [history.encode() for history in histories.values()],
            # The online store keeps the row with the newest event time: pushes must win over what was materialized.
            "event_timestamp": [pd.Timestamp(datetime.now(UTC))] * len(histories),
        }
        with _store_errors("written"):
            self._store.push(PUSH_SOURCE, pd.DataFrame(rows), to=PushMode.ONLINE)

    def histories(self) -> dict[str, History]:
        """The materialized histories by user, from the offline source: what pushes build on."""
        path = self.source(USER_HISTORY)
        if not path.exists():
            raise WorkspaceError(f"{path} is missing: the features were never materialized. Run: tandem train")
        frame = pl.read_parquet(path, columns=["user_id", "history"])
        return {user: History.decode(blob) for user, blob in frame.iter_rows()}


def _redis_address(config: OnlineStoreConfig) -> str:
    """Feast's connection string. Its options are JSON values, split at commas before they are parsed."""
    server, *options = config.redis.split(",")
    # Without these a dead Redis is retried for seconds and one that hangs is waited for without end; options of the
    # configuration come later and win.
    given = [f"socket_connect_timeout={REDIS_CONNECT_S}", f"socket_timeout={REDIS_ANSWER_S}", "retry=null", *options]
    password = os.environ.get(config.redis_password_env or "")
    if password:
        given.append("password=" + json.dumps(password).replace(",", "\\u002c"))
    return ",".join([server, *given])


class _store_errors:  # noqa: N801 - a context manager, named like one
    """Feast raises whatever its backend raises: one place turns all of it into StoreUnavailable."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is not None and issubclass(kind, Exception) and not issubclass(kind, WorkspaceError):
            raise StoreUnavailable(
                f"the online store could not be {self._what} ({kind.__name__}); "
                "check that it runs and that the workspace was trained"
            ) from error


class _quiet:  # noqa: N801 - a context manager, named like one
    """Feast prints progress on standard output; a command's output belongs to its caller."""

    def __enter__(self) -> None:
        import contextlib
        import io

        self._redirect = contextlib.redirect_stdout(io.StringIO())
        self._redirect.__enter__()

    def __exit__(self, *exc: Any) -> None:
        self._redirect.__exit__(*exc)
