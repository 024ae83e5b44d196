"""The item table: every item's attributes, statistics and neighbours as arrays in the serving process.

Reading 200 items from an online store costs 25 ms a request (DESIGN.md); an array costs microseconds. The table is a
versioned folder, built when features are materialized and replaced as a whole.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from features.errors import SchemaMismatch
from features.keys import KeyArray, item_keys
from features.schema import ITEM_STATS, schema_hash

POPULAR = 300
"""Items kept per snapshot as its most popular."""


@dataclass(frozen=True, slots=True, eq=False)
class ItemTable:
    """n items by row number.

    ``frame``: item_id, title, text and attributes. ``keys`` int64 [n]. ``groups`` int32 [n, slots]: codes of the
    affinity attributes, -1 where absent. ``times`` int64 [w] and ``stats`` float32 [w, n, stats]: snapshots.
    ``popular`` int32 [w, POPULAR]: rows by 28-day count, -1 padded. ``neighbours`` int32 [n, m] and ``similarity``
    float32 [n, m]: items bought together with the item, -1 padded.
    """

    version: str
    frame: pl.DataFrame
    keys: KeyArray
    groups: npt.NDArray[np.int32]
    group_names: tuple[str, ...]
    times: npt.NDArray[np.int64]
    stats: npt.NDArray[np.float32]
    popular: npt.NDArray[np.int32]
    neighbours: npt.NDArray[np.int32]
    similarity: npt.NDArray[np.float32]
    _sorted_keys: KeyArray
    _sorted_rows: npt.NDArray[np.int64]
    item_ids: tuple[str, ...]
    titles: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)

    def rows_of(self, keys: KeyArray) -> npt.NDArray[np.int64]:
        """Row numbers [len(keys)]; -1 for an item the table does not know."""
        if not len(self.keys):
            return np.full(len(keys), -1, np.int64)
        position = np.minimum(np.searchsorted(self._sorted_keys, keys), len(self.keys) - 1)
        rows = self._sorted_rows[position]
        return np.where(self._sorted_keys[position] == keys, rows, -1)

    def row_of(self, item_id: str) -> int:
        """Row number of one id, -1 if unknown."""
        return int(self.rows_of(item_keys([item_id]))[0])

    def snapshot(self, time: int) -> int:
        """Position of the newest snapshot that held only what happened before ``time`` (the oldest, if none did)."""
        return max(0, int(np.searchsorted(self.times, time, side="right")) - 1)

    def attributes(self, row: int) -> dict[str, str]:
        """The item's attribute values as text, absent ones left out."""
        return {
            name: ", ".join(value) if isinstance(value, list) else str(value)
            for name, value in self.frame.row(row, named=True).items()
            if value is not None and name not in ("item_id", "title", "text")
        }

    @staticmethod
    def build(
        version: str,
        frame: pl.DataFrame,
        group_names: Sequence[str],
        slots: int,
        times: npt.NDArray[np.int64],
        stats: npt.NDArray[np.float32],
        neighbours: npt.NDArray[np.int32],
        similarity: npt.NDArray[np.float32],
    ) -> ItemTable:
        """Raises SchemaMismatch where two item ids share a key (rename one of them)."""
        item_ids = tuple(frame["item_id"].to_list())
        keys = item_keys(item_ids)
        order = np.argsort(keys, kind="stable")
        twins = np.flatnonzero(np.diff(keys[order]) == 0)
        if len(twins):
            first, second = (item_ids[order[twins[0] + offset]] for offset in (0, 1))
            raise SchemaMismatch(f"items {first!r} and {second!r} have the same 64-bit key; rename one of them")
        groups = np.full((len(frame), slots), -1, np.int32)
        for slot, name in enumerate(group_names[:slots]):
            codes = frame[name].cast(pl.String).rank("dense") - 1
            groups[:, slot] = codes.cast(pl.Int32).fill_null(-1).to_numpy()
        return ItemTable(
            version=version,
            frame=frame,
            keys=keys,
            groups=groups,
            group_names=tuple(group_names[:slots]),
            times=times,
            stats=stats,
            popular=_most_popular(stats),
            neighbours=neighbours,
            similarity=similarity,
            _sorted_keys=keys[order],
            _sorted_rows=order,
            item_ids=item_ids,
            titles=tuple(frame["title"].to_list()),
        )

    def save(self, folder: Path) -> None:
        """Write the table as one folder, replacing an older one in one rename."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        self.frame.write_parquet(temporary / "items.parquet")
        for name in ("groups", "times", "stats", "neighbours", "similarity"):
            np.save(temporary / f"{name}.npy", getattr(self, name), allow_pickle=False)
        meta = {
            "version": self.version,
            "schema": schema_hash(),
            "group_names": self.group_names,
            "slots": self.groups.shape[1],
        }
        (temporary / "table.json").write_text(json.dumps(meta))
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)

    @staticmethod
    def load(folder: Path) -> ItemTable:
        """Map a saved table; statistics stay on disk until touched. Raises SchemaMismatch for another schema."""
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
                name: np.load(folder / f"{name}.npy", mmap_mode="r" if name == "stats" else None, allow_pickle=False)
                for name in ("times", "stats", "neighbours", "similarity")
            }
            frame = pl.read_parquet(folder / "items.parquet")
        except (OSError, ValueError, EOFError, pl.exceptions.PolarsError) as error:
            raise SchemaMismatch(f"the item table in {folder} is damaged ({error}). Run: tandem train") from error
        return ItemTable.build(
            meta["version"],
            frame,
            meta["group_names"],
            meta["slots"],
            array["times"],
            array["stats"],
            array["neighbours"],
            array["similarity"],
        )


def _most_popular(stats: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    column = [column.name for column in ITEM_STATS].index("i_count_28d")
    popular = np.full((stats.shape[0], POPULAR), -1, np.int32)
    for week in range(stats.shape[0]):
        counts = np.nan_to_num(np.asarray(stats[week, :, column]), nan=0.0)
        best = np.flatnonzero(counts > 0)
        if len(best) > POPULAR:
            # All that tie with the last place stay until the sort: which of them partition picks is left to the CPU.
            best = best[counts[best] >= -np.partition(-counts[best], POPULAR - 1)[POPULAR - 1]]
        # Ties fall by row number, so that every process lists the same items.
        best = best[np.lexsort((best, -counts[best]))][:POPULAR]
        popular[week, : len(best)] = best
    return popular
