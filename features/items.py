"""The item table: every item's attributes, statistics and neighbours as arrays in the serving process.

Reading 200 items from an online store costs 25 ms a request (DESIGN.md); an array costs microseconds. The table is a
versioned folder, built when features are materialized and replaced as a whole.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from features import itemtags
from features.daystates import DayStates
from features.errors import SchemaMismatch
from features.history import EVENT_KINDS
from features.itemtags import ItemTags
from features.keys import KeyArray, KeyIndex, item_keys
from features.places import FIELDS as PLACE_FIELDS
from features.places import Here, PlaceActivity, PlaceDay
from features.repurchase import Repurchase
from features.schema import ITEM_STATS, schema_hash
from features.statistics import DAY, Activity

POPULAR: Final = 300
"""Items kept per day as its most popular."""
_ACTIVITY: Final = ("day", "row", "n", "first")
_REPURCHASE: Final = ("hazard", "kind", "factor", "kind_hazard", "hour_lift", "gap_lift", "session_size")
_TAGS: Final = tuple(f"tag_{name}" for name in itemtags.FIELDS)
_TREND_EVENTS: Final = 2_000.0
"""Events at which a day's (or week's) shares of the kinds and the month's weigh the same."""
_STATISTIC: Final = {column.name: at for at, column in enumerate(ITEM_STATS)}


@dataclass(frozen=True, slots=True, eq=False)
class _Day:
    statistics: npt.NDArray[np.float32]
    popular: npt.NDArray[np.int64]
    trends: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class ItemTable:
    """n items by row number.

    ``frame``: item_id, title, text and attributes. ``keys`` int64 [n]. ``groups`` int32 [n, slots]: codes of the
    affinity attributes, -1 where absent; the values behind the codes are those of ``group_values``. ``activity``:
    events by item and day. ``repurchase``: how soon items are had again. ``neighbours`` int32 [n, m] and
    ``similarity`` float32 [n, m]: items bought together with the item, -1 padded. ``tags``: see `features.itemtags`;
    none unless training was told to read published ones. ``had_by``: kinds of event that make an item had, purchases
    and ratings where the data has them: who looked at a film has not seen it. ``places``: events by place and day, and
    prices. ``lives``: neighbours are items of the same users, not of the same sessions. ``liked_at``: the rating from
    which on somebody liked an item; None where nobody rates.
    """

    version: str
    frame: pl.DataFrame
    keys: KeyArray
    groups: npt.NDArray[np.int32]
    group_names: tuple[str, ...]
    group_values: tuple[tuple[str, ...], ...]
    activity: Activity
    repurchase: Repurchase
    neighbours: npt.NDArray[np.int32]
    similarity: npt.NDArray[np.float32]
    by_key: KeyIndex
    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    tags: ItemTags
    had_by: tuple[str, ...]
    places: PlaceActivity
    lives: bool
    liked_at: float | None
    _days: DayStates[_Day] = field(default_factory=DayStates)
    _place_days: DayStates[PlaceDay] = field(default_factory=DayStates)
    _described: dict[str, tuple[pl.DataFrame, pl.DataFrame]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def rows_of(self, keys: KeyArray) -> npt.NDArray[np.int64]:
        """Row numbers [len(keys)]; -1 for an item the table does not know."""
        if not len(self.keys):
            return np.full(len(keys), -1, np.int64)
        known, rows, *_ = self.by_key
        position = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.where(known[position] == keys, rows[position], -1)

    @property
    def makes_had(self) -> npt.NDArray[np.bool_]:
        """Of each of EVENT_KINDS whether it is in ``had_by``."""
        return _made_had(self.had_by)

    def row_of(self, item_id: str) -> int:
        """Row number of one id, -1 if unknown."""
        return int(self.rows_of(item_keys([item_id]))[0])

    def statistics(self, now: int) -> npt.NDArray[np.float32]:
        """What was known of every item when the day (UTC) of ``now`` began [n, len(ITEM_STATS)]. Shared: read only."""
        return self._day(now).statistics

    def statistic(self, name: str, now: int) -> npt.NDArray[np.float32]:
        """One column of `statistics` [n], by its name in ITEM_STATS."""
        return self.statistics(now)[:, _STATISTIC[name]]

    def popular_at(self, now: int) -> npt.NDArray[np.int64]:
        """Rows of the most popular items of the 28 days before the day of ``now``, best first, at most POPULAR."""
        return self._day(now).popular

    def _day(self, now: int) -> _Day:
        return self._days.of(now // DAY, self._sum_up)

    def _sum_up(self, day: int) -> _Day:
        statistics = self.activity.at(day, len(self))
        return _Day(statistics, _most_popular(statistics), self._kind_trends(statistics))

    def kind_trends(self, now: int) -> npt.NDArray[np.float32]:
        """k_trend_day and k_trend_week of every item's kind [n, 2]. Shared: read only."""
        return self._day(now).trends

    def prices(self, now: int) -> PlaceDay:
        """What items cost, and what was sold where, when the day (UTC) of ``now`` began. Shared: read only."""
        return self._place_days.of(now // DAY, self._sum_up_places)

    def _sum_up_places(self, day: int) -> PlaceDay:
        kind, kinds = self.repurchase.kind, len(self.repurchase.hazard)
        # Training goes from day to day: each goes on from the nearest one before it.
        return self.places.at(day, len(self), kind, kinds, self._place_days.newest_before(day))

    def here(self, now: int, place: int) -> Here | None:
        """What was known of a place by its key (`features.keys.place_keys`) when that day began; None for one where
        nothing was ever sold."""
        return self.places.here(self.prices(now), place)

    def prepare(self, now: int) -> None:
        """Sum up what requests of the day of ``now`` share, so that none of them does it; quick where it is done.

        A million items take half a second, which compiled and NumPy's loops spend without holding up other threads.
        """
        self._day(now)
        self.prices(now)
        for place in self.places.places[:2].tolist():  # loads what is compiled; of two places one is not NOWHERE
            self.here(now, place)

    def _kind_trends(self, statistics: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        kind, kinds = self.repurchase.kind, len(self.repurchase.hazard)
        day, week, month = (
            np.bincount(kind, np.nan_to_num(statistics[:, _STATISTIC[name]]), kinds).astype(np.float64, copy=False)
            for name in ("i_count_1d", "i_count_7d", "i_count_28d")
        )
        usual = (month + 1.0) / (month.sum() + kinds)

        def trend(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            share = (counts + _TREND_EVENTS * usual) / (counts.sum() + _TREND_EVENTS)
            logs: npt.NDArray[np.float64] = np.log(share / usual)
            return logs[kind]

        return np.stack((trend(day), trend(week)), axis=1).astype(np.float32)

    def attributes(self, row: int) -> dict[str, str]:
        """The item's attribute values as text, absent ones left out."""
        known = self._described.get("frame")
        if known is None or known[0] is not self.frame:
            # Without what is no attribute: a text is long, and every item of a reply would have it copied.
            known = self.frame, self.frame.drop("item_id", "title", "text", strict=False)
            self._described["frame"] = known
        described = known[1]
        return {
            name: ", ".join(value) if isinstance(value, list) else str(value)
            for name, value in zip(described.columns, described.row(row))
            if value is not None
        }

    @staticmethod
    def build(
        version: str,
        frame: pl.DataFrame,
        group_names: Sequence[str],
        slots: int,
        activity: Activity,
        neighbours: npt.NDArray[np.int32],
        similarity: npt.NDArray[np.float32],
        repurchase: Repurchase | None = None,
        group_values: Sequence[Sequence[str]] | None = None,
        tags: ItemTags | None = None,
        had_by: Sequence[str] = EVENT_KINDS,
        places: PlaceActivity | None = None,
        lives: bool = False,
        liked_at: float | None = None,
    ) -> ItemTable:
        """Without ``repurchase`` nothing is expected to be had again; see `kinds` for what it is fitted on.

        Raises SchemaMismatch where two item ids share a key (rename one of them).
        """
        item_ids = tuple(frame["item_id"].to_list())
        keys = item_keys(item_ids)
        by_key = KeyIndex.of(keys)
        twins = np.flatnonzero(np.diff(by_key.keys) == 0)
        if len(twins):
            first, second = (item_ids[by_key.rows[twins[0] + offset]] for offset in (0, 1))
            raise SchemaMismatch(f"items {first!r} and {second!r} have the same 64-bit key; rename one of them")
        names = tuple(group_names[:slots])
        if group_values is None:
            group_values = [frame[name].cast(pl.String).drop_nulls().unique().sort().to_list() for name in names]
        groups = np.full((len(frame), slots), -1, np.int32)
        for slot, (name, values) in enumerate(zip(names, group_values)):
            codes = (
                frame[name]
                .cast(pl.String)
                .replace_strict(
                    pl.Series(values, dtype=pl.String), range(len(values)), default=-1, return_dtype=pl.Int32
                )
            )
            groups[:, slot] = codes.fill_null(-1).to_numpy()
        return ItemTable(
            version=version,
            frame=frame,
            keys=keys,
            groups=groups,
            group_names=names,
            group_values=tuple(tuple(values) for values in group_values),
            activity=activity,
            repurchase=repurchase or Repurchase.unknown(kinds(groups)),
            neighbours=neighbours,
            similarity=similarity,
            by_key=by_key,
            item_ids=item_ids,
            titles=tuple(frame["title"].to_list()),
            tags=tags or ItemTags.none(len(frame)),
            had_by=tuple(had_by),
            places=places or PlaceActivity.none(),
            lives=lives,
            liked_at=liked_at,
        )

    def extended(self, frame: pl.DataFrame) -> ItemTable:
        """The table with further items behind its own, which keep their rows.

        ``frame``: new item_ids, title and text; attributes it lacks are null, others are left out. A new item has no
        statistics and no neighbours; its groups are those of its attribute values, and a value nobody had before is a
        new group. Raises SchemaMismatch where an item is in the table already.
        """
        aligned = frame.select(
            pl.col(name).cast(dtype, strict=False) if name in frame.columns else pl.lit(None, dtype).alias(name)
            for name, dtype in self.frame.schema.items()
        )
        values = []
        for name, old in zip(self.group_names, self.group_values):
            known = set(old)
            found = aligned[name].cast(pl.String).drop_nulls().unique().sort().to_list()
            values.append((*old, *(value for value in found if value not in known)))
        n, more = len(self), len(aligned)
        repurchase = self.repurchase
        table = ItemTable.build(
            version=f"{self.version}+{n + more}",
            frame=pl.concat([self.frame, aligned]),
            group_names=self.group_names,
            slots=self.groups.shape[1],
            activity=self.activity,
            neighbours=np.pad(self.neighbours, ((0, more), (0, 0)), constant_values=-1),
            similarity=np.pad(self.similarity, ((0, more), (0, 0))),
            group_values=values,
            tags=self.tags.extended(more),
            had_by=self.had_by,
            places=self.places,
            lives=self.lives,
            liked_at=self.liked_at,
        )
        return replace(
            table,
            repurchase=replace(
                repurchase,
                kind=np.concatenate((repurchase.kind, self.kinds_of(table.groups[n:]))),
                factor=np.concatenate((repurchase.factor, np.ones(more))),
            ),
        )

    def kinds_of(self, groups: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Rows of the hazards [m] for items of these ``groups`` [m, slots], coded on from this table's.

        A new kind has no hazard of its own: its row is that of all kinds, the last one.
        """
        own, unknown = groups[:, _of_kinds(self)].astype(np.int64), len(self.repurchase.hazard) - 1
        return np.where((own >= 0) & (own < unknown), own, unknown)

    def save(self, folder: Path) -> None:
        """Write the table as one folder, replacing an older one in one rename."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        self.frame.write_parquet(temporary / "items.parquet")
        arrays = {
            "neighbours": self.neighbours,
            "similarity": self.similarity,
            **self.activity.arrays(),
            **{name: getattr(self.repurchase, name) for name in _REPURCHASE},
            **{f"tag_{name}": values for name, values in self.tags.arrays().items()},
            **{f"place_{name}": values for name, values in self.places.arrays().items()},
        }
        for name, values in arrays.items():
            np.save(temporary / f"{name}.npy", values, allow_pickle=False)
        meta = {
            "version": self.version,
            "schema": schema_hash(),
            "group_names": self.group_names,
            "group_values": self.group_values,
            "slots": self.groups.shape[1],
            "mean_size": self.repurchase.mean_size,
            "had_by": self.had_by,
            "lives": self.lives,
            "liked_at": self.liked_at,
        }
        (temporary / "table.json").write_text(json.dumps(meta))
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)

    @staticmethod
    def load(folder: Path) -> ItemTable:
        """Read a saved table. Raises SchemaMismatch for another schema or a damaged folder."""
        try:
            meta = json.loads((folder / "table.json").read_text())
            made_for = meta["schema"]
        except FileNotFoundError:
            raise SchemaMismatch(f"{folder} holds no item table. Run: tandem train") from None
        except (ValueError, KeyError, TypeError) as error:
            raise SchemaMismatch(f"{folder / 'table.json'} is damaged ({error!r}). Run: tandem train") from error
        if made_for != schema_hash():
            raise SchemaMismatch(
                f"the item table in {folder} was made for feature schema {made_for}, this code computes "
                f"{schema_hash()}. Run: tandem train"
            )
        try:
            array = {
                name: np.load(folder / f"{name}.npy", allow_pickle=False)
                for name in (
                    "neighbours",
                    "similarity",
                    *_ACTIVITY,
                    *_REPURCHASE,
                    *(f"tag_{name}" for name in itemtags.FIELDS),
                    *(f"place_{name}" for name in PLACE_FIELDS),
                )
            }
            frame = pl.read_parquet(folder / "items.parquet")
            return ItemTable.build(
                meta["version"],
                frame,
                meta["group_names"],
                meta["slots"],
                Activity(**{name: array[name] for name in _ACTIVITY}),
                array["neighbours"],
                array["similarity"],
                Repurchase(**{name: array[name] for name in _REPURCHASE}, mean_size=meta["mean_size"]),
                meta["group_values"],
                ItemTags.of({name.removeprefix("tag_"): array[name] for name in _TAGS}),
                meta["had_by"],
                PlaceActivity(**{name: array[f"place_{name}"] for name in PLACE_FIELDS}),
                meta["lives"],
                meta["liked_at"],
            )
        except (OSError, ValueError, KeyError, EOFError, pl.exceptions.PolarsError) as error:
            raise SchemaMismatch(f"the item table in {folder} is damaged ({error}). Run: tandem train") from error


@lru_cache(maxsize=8)
def _made_had(had_by: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    return np.array([kind in had_by for kind in EVENT_KINDS])


def kinds(groups: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The finest of the affinity attributes [n]: items of one kind are had again at the same pace. -1 for none."""
    if not groups.shape[1]:
        return np.full(len(groups), -1, np.int32)
    return groups[:, _finest(groups)]


def _finest(groups: npt.NDArray[np.int32]) -> int:
    return int(groups.max(axis=0, initial=-1).argmax())


def _of_kinds(table: ItemTable) -> int:
    """The slot whose codes are the kinds: another may have got more values since it was the finest."""
    none = len(table.repurchase.hazard) - 1
    codes = np.where((table.groups < 0) | (table.groups >= none), none, table.groups)
    return int((codes == table.repurchase.kind[:, None]).sum(axis=0).argmax())


def _most_popular(statistics: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    counts = np.nan_to_num(statistics[:, _STATISTIC["i_count_28d"]], nan=0.0)
    best = np.flatnonzero(counts > 0)
    if len(best) > POPULAR:
        # All that tie with the last place stay until the sort: which of them partition picks is left to the CPU.
        best = best[counts[best] >= -np.partition(-counts[best], POPULAR - 1)[POPULAR - 1]]
    # Ties fall by row number, so that every process lists the same items.
    popular: npt.NDArray[np.int64] = best[np.lexsort((best, -counts[best]))][:POPULAR]
    return popular
