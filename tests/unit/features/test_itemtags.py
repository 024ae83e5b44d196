"""Published tags: what is read of them, what counts, and what a table without them says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.errors import WorkspaceError
from features.events import history_of
from features.items import ItemTable
from features.itemtags import PUBLISHED, ItemTags, read_published
from features.schema import RANKING_NAMES
from features.transforms import assemble, summarize
from tests.unit.features.shop import START, bare_table, catalog, event

NAMES = ("t_affinity", "t_probability")


def published(*rows: tuple[str, str | None, float, str]) -> pl.DataFrame:
    return pl.DataFrame(rows, dict(PUBLISHED), orient="row")


def columns(table: ItemTable, items: list[str]) -> np.ndarray:
    """The tag columns of all items for somebody who bought these once each, just now."""
    events = [event(number, item, START) for number, item in enumerate(items)]
    profile = summarize(history_of(events), table, START + 1)
    matrix = assemble(profile, table, np.arange(len(table)), np.zeros(len(table)))
    return matrix[:, [RANKING_NAMES.index(name) for name in NAMES]]


def test_without_published_tags_the_columns_are_empty() -> None:
    assert np.isnan(columns(bare_table(4), ["i1"])).all()


def test_a_label_counts_whole_and_a_published_tag_by_its_probability() -> None:
    items = catalog(8)
    tags = ItemTags.build(items, "category", published(("i6", "c1", 0.5, "review"), ("i1", "c2", 0.9, "accept")))
    table = bare_table(8)
    told = ItemTable.build("v", items, [], 3, table.activity, table.neighbours, table.similarity, tags=tags)
    affinity, likeliest = columns(told, ["i1", "i2"]).T
    # Half of what was bought is of c1 (i1, i5), half of c2 (i2); i6 is a c1 by half.
    np.testing.assert_allclose(affinity[[0, 1, 2, 3, 5, 6]], [0, 0.5, 0.5, 0, 0.5, 0.25], rtol=1e-6)
    assert likeliest[[1, 6]].tolist() == [1.0, 0.5]


def test_rejected_tags_tell_nothing() -> None:
    tags = ItemTags.build(catalog(8), None, published(("i6", "c1", 0.05, "reject")))
    assert not tags


def test_a_table_is_saved_and_extended_with_its_tags(tmp_path: Path) -> None:
    table = bare_table(8)
    tags = ItemTags.build(catalog(8), "category", published(("i6", "c1", 0.5, "review")))
    told = ItemTable.build(
        "v", catalog(8), ["category"], 3, table.activity, table.neighbours, table.similarity, tags=tags
    )
    told.save(tmp_path / "table")
    loaded = ItemTable.load(tmp_path / "table")
    assert columns(loaded, ["i1", "i6"]).tobytes() == columns(told, ["i1", "i6"]).tobytes()
    longer = loaded.extended(pl.DataFrame({"item_id": ["new"], "title": ["New"]}))
    assert columns(longer, ["i1", "i6"])[:8].tobytes() == columns(told, ["i1", "i6"]).tobytes()
    assert np.isnan(columns(longer, ["i1"])[8]).all()


def test_a_backfills_folder_is_read_without_its_abstentions(tmp_path: Path) -> None:
    published(("a", "x", 0.5, "review"), ("b", None, 0.0, "reject")).write_parquet(tmp_path / "part-00000.parquet")
    published(("c", "x", 1.0, "accept")).write_parquet(tmp_path / "part-00001.parquet")
    assert read_published(tmp_path)["item_id"].to_list() == ["a", "c"]


def test_what_is_no_result_of_a_backfill_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"holds no part-\*.parquet; give the --output of tandem backfill tags"):
        read_published(tmp_path)
    catalog(2).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(WorkspaceError, match=r"items.parquet holds no published tags .*tandem backfill tags"):
        read_published(tmp_path / "items.parquet")
    published(("a", "x", 1.5, "accept")).write_parquet(tmp_path / "wrong.parquet")
    with pytest.raises(WorkspaceError, match=r"item 'a' has a tag of probability 1.5"):
        read_published(tmp_path / "wrong.parquet")
