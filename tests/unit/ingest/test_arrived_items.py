"""Events of items that came through the service: an ingest that lacks those items keeps the events."""

from __future__ import annotations

import polars as pl

from features.arrivals import CatalogItem, SqliteItemLog, catalog_items
from features.workspace import Workspace
from tests.unit.ingest.conftest import EVENTS, Ingest

LATE = EVENTS + "u1,late,2024-05-02T10:00:00Z\nu1,never,2024-05-02T10:00:00Z\n"


def arrive(workspace: Workspace, *items: CatalogItem) -> None:
    log = SqliteItemLog(workspace.arrivals)
    log.append(items)
    log.close()


def test_events_of_arrived_items_are_kept(shop: Ingest, workspace: Workspace) -> None:
    arrive(workspace, CatalogItem("late", "Latecomer", "", {"category": "fruit", "price": "2"}))
    report = shop(interactions=LATE)
    assert report.tables["interactions"].rejected == {"item_id is not in items": 1}
    assert "late" in pl.read_parquet(workspace.interactions)["item_id"].to_list()
    items = catalog_items(workspace)
    assert items["item_id"].to_list() == ["a", "b", "c", "late"]
    assert items.row(3, named=True)["price"] == 2.0


def test_same_sources_are_read_again_once_an_item_they_lacked_has_arrived(shop: Ingest, workspace: Workspace) -> None:
    shop(interactions=LATE)
    arrive(workspace, CatalogItem("another", "Of no matter here"))
    assert shop(interactions=LATE).status == "unchanged"
    arrive(workspace, CatalogItem("late", "Latecomer"))
    report = shop(interactions=LATE)
    assert report.status == "ingested"
    assert report.tables["interactions"].rejected == {"item_id is not in items": 1}
    assert shop(interactions=LATE).status == "unchanged"


def test_offers_of_arrived_items_are_kept(shop: Ingest, workspace: Workspace) -> None:
    offers = "offer_id,item_id\nsummer,a\nsummer,late\n"
    assert shop(offers=offers).tables["offers"].rejected == {"item_id is not in items": 1}
    arrive(workspace, CatalogItem("late", "Latecomer"))
    assert shop(offers=offers).tables["offers"].rejected == {}
    assert pl.read_parquet(workspace.offers)["item_id"].to_list() == ["a", "late"]
