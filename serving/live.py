"""The services as items and facts arrive: logs are the truth, and what requests work with is exchanged as a whole."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from features.arrivals import (
    CatalogItem,
    LoggedItem,
    SqliteItemLog,
    collides,
    typed_row,
    unknown_attributes,
    with_changed,
)
from features.keys import item_keys
from graph.ports import Fact
from models import labelset
from models.index import grown
from models.labelcounts import LabelCounts
from models.ports import Embedder, FloatMatrix
from models.text import catalog_view
from serving.errors import NotReady
from serving.factlog import LoggedFact, SqliteFactLog, Told
from serving.facts import Recorded, Retracted, retractions, with_facts
from serving.knowledge import check, properties_of
from serving.messages import UpsertedItems
from serving.services import PREPARED_S, Services

_log = logging.getLogger(__name__)
POLL_S: Final = 1.0
"""How often a process looks whether another one wrote items or facts down."""


class LiveServices:
    """The services of one process and the logs they follow. Safe to use from several threads.

    Every change makes new services and exchanges one reference: a request that has begun keeps the ones it has.
    """

    def __init__(self, services: Services, log: SqliteItemLog, facts: SqliteFactLog | None = None) -> None:
        self._services = services
        self._log = log
        self._facts = facts
        self._turn = threading.Lock()
        self._stop = threading.Event()
        self._follower: threading.Thread | None = None

    @property
    def services(self) -> Services:
        """What a request that begins now works with."""
        return self._services

    def upsert(self, items: Sequence[CatalogItem]) -> UpsertedItems:
        """Write new and changed items down, then show them; blocks for as long as their texts take to embed.

        ``items``: each id once. Raises StoreUnavailable where nothing was written, or it was and cannot be read back;
        sending the items again is right in both cases.
        """
        with self._turn:
            self._catch_up()
            table = self._services.table
            taken, rejected, updated, unchanged = [], [], 0, 0
            for item in items:
                row, problems = typed_row(item, table.frame.schema)
                if other := collides(table, item.item_id):
                    problems.append(f"its 64-bit key is that of item {other!r}; rename one of them")
                if problems:
                    rejected.append((item.item_id, "; ".join(problems)))
                    continue
                known = table.row_of(item.item_id)
                if known >= 0 and table.frame.row(known, named=True) == row:
                    unchanged += 1
                    continue
                updated += known >= 0
                taken.append(item)
            if taken:
                self._log.append(taken)
                self._catch_up()
            names = {name for item in items for name in unknown_attributes(item, table.frame.schema)}
            return UpsertedItems(len(taken), updated, unchanged, tuple(rejected), tuple(sorted(names)))

    def assert_facts(self, told: Sequence[Told]) -> Recorded:
        """Write facts down, then let every request obey them and what follows from them: all of them or none.

        Raises UnknownPredicate, InvalidRequest, FactLimitExceeded where too much would follow, and StoreUnavailable;
        sending the facts again is right after the last.
        """
        with self._turn:
            self._catch_up()
            for each in told:
                check(self._services.graph, each.fact)
            new = [each for each in dict.fromkeys(told) if not self._services.knowledge.says(each)]
            self._tell(new)
            return Recorded(len(new), len(told) - len(new))

    def retract_facts(self, facts: Sequence[Fact], source: str = "") -> Retracted:
        """Take facts back: all of them or none. Raises UnknownPredicate, NotAsserted and StoreUnavailable."""
        with self._turn:
            self._catch_up()
            words, unknown = retractions(self._services, facts, source)
            self._tell(words)
            return Retracted(len({word.fact for word in words}), unknown)

    def _tell(self, told: Sequence[Told]) -> None:
        if not told:
            return
        if self._facts is None:
            raise NotReady("this process keeps no log of facts; ask the running service (tandem serve)")
        now, newest = time.time(), self._services.knowledge.seq
        # What cannot be evaluated must not be written down: every start would fail on it.
        entries = [LoggedFact(newest + place, each, now) for place, each in enumerate(told, 1)]
        services = with_facts(self._services, entries)
        if self._facts.append(told, now) == newest + 1:
            self._services = services
        else:  # another process wrote in between: both words count, in the log's order
            self._catch_up()

    def catch_up(self) -> bool:
        """Show what any process wrote down since; whether there was something."""
        with self._turn:
            return self._catch_up()

    def _catch_up(self) -> bool:
        before = self._services
        if self._log.newest() > before.arrivals.seq:
            self._services = replay(self._services, self._log)
        if self._facts is not None and self._facts.newest() > before.knowledge.seq:
            self._services = with_facts(self._services, self._facts.after(before.knowledge.seq))
        return self._services is not before

    def follow(self, every_s: float = POLL_S, ahead_s: int = PREPARED_S) -> None:
        """Catch up from now on in a thread of its own, which ends with ``close`` or the process; and sum up each day
        ``ahead_s`` before it begins."""
        self._follower = threading.Thread(target=self._follow, args=(every_s, ahead_s), name="items", daemon=True)
        self._follower.start()

    def _follow(self, every_s: float, ahead_s: int) -> None:
        said = ""
        while not self._stop.wait(every_s):
            try:
                self.catch_up()
                self._services.prepare(ahead_s)
                said = ""
            except Exception as error:
                # A log that cannot be read must not end the following; said once, not every second.
                if str(error) != said:
                    said = str(error)
                    _log.error("what was written down cannot be shown: %s", error, exc_info=error)

    def close(self) -> None:
        """End the following and let go of the log."""
        self._stop.set()
        if self._follower is not None:
            self._follower.join()
        self._log.close()
        if self._facts is not None:
            self._facts.close()


def replay(services: Services, log: SqliteItemLog, ingested_at: float = 0.0) -> Services:
    """The services with all that the log holds beyond them; see `with_items`."""
    return with_items(services, log.after(services.arrivals.seq), log, ingested_at)


def with_items(
    services: Services, logged: Sequence[LoggedItem], log: SqliteItemLog, ingested_at: float = 0.0
) -> Services:
    """New services in which these items are as logged; the old ones are not touched.

    An item the catalog knows is replaced where it was logged after ``ingested_at``: of log and ingest the newer word
    holds. Raises StoreUnavailable where vectors can be neither read nor kept.
    """
    if not logged:
        return services
    table, schema = services.table, services.table.frame.schema
    rows: list[int] = []
    records: list[dict[str, Any]] = []
    arrived: list[int] = []
    n = len(table)
    for entry, known in zip(logged, table.rows_of(item_keys([entry.item.item_id for entry in logged])).tolist()):
        record, problems = typed_row(entry.item, schema)
        if other := collides(table, entry.item.item_id):
            # A catalog ingested since may hold such an item.
            _log.warning("arrived item %.300r is left out: its key is that of %.300r", entry.item.item_id, other)
            continue
        for problem in problems:
            _log.warning("arrived item %.300r: %s", entry.item.item_id, problem)
        if known >= 0 and (entry.time <= ingested_at or table.frame.row(known, named=True) == record):
            arrived += [known] if not services.demand.item_users[known] else []
            continue
        row = known
        if row < 0:
            row, n = n, n + 1
        rows.append(row)
        records.append(record)
        arrived += [row] if known < 0 or not services.demand.item_users[known] else []
    seq = max(entry.seq for entry in logged)
    fresh = np.array(arrived, np.int64)
    if not rows:
        return replace(services, arrivals=services.arrivals.with_items(fresh, services.catalog, seq))
    return _extended(services, np.array(rows, np.int64), pl.DataFrame(records, schema=schema), fresh, seq, log)


def _extended(
    services: Services,
    rows: npt.NDArray[np.int64],
    frame: pl.DataFrame,
    arrived: npt.NDArray[np.int64],
    seq: int,
    log: SqliteItemLog,
) -> Services:
    old = rows < len(services.table)
    table = with_changed(services.table, rows[old], frame.filter(old))
    if not old.all():
        table = table.extended(frame.filter(~old))
    label = services.config.label_column
    catalog = services.catalog.with_items(
        rows, frame, label, lambda texts: _vectors(services.embedder, log, texts), grown
    )
    views = [catalog_view(record, label) for record in frame.iter_rows(named=True)]
    sets = {}
    for name, tagger in services.sets.items():
        own = labelset.following(tagger.catalog, catalog, rows, frame)
        sets[name] = replace(tagger, catalog=own, counts=LabelCounts.build(own))
    extended = replace(
        services,
        table=table,
        catalog=catalog,
        counts=LabelCounts.build(catalog),
        sets=sets,
        demand=services.demand.of(catalog),  # and with it `similar`, see Services
        properties=services.properties.with_items(
            rows, properties_of(services.graph, services.knowledge.items(), frame["item_id"].to_list(), views)
        ),
        arrivals=services.arrivals.with_items(arrived, catalog, seq),
    )
    extended.prepare()  # aside of the requests, which get these services afterwards
    return extended


def _vectors(embedder: Embedder, log: SqliteItemLog, texts: Sequence[str]) -> FloatMatrix:
    """Vectors of texts, from the log where a process embedded them before: all work with the same bits."""
    known = log.vectors(embedder.model_id, texts)
    missing = [text for text in texts if text not in known]
    if missing:
        log.keep_vectors(embedder.model_id, dict(zip(missing, embedder.embed(missing))))
        known |= log.vectors(embedder.model_id, missing)
    return np.stack([known[text] for text in texts])
