"""Offers: what stands together in a coupon, a promotion, a bundle."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from cli.console import UsageError
from cli.program import app
from features.workspace import Workspace
from tests.unit.ingest.conftest import Ingest
from training.datasets import complete_journey
from training.datasets.errors import InvalidTable

OFFERS = "offer_id,item_id,note\nsummer,b,x\nsummer,a,\nbrunch,c,\n"


def test_offers_are_pairs_in_order(shop: Ingest, workspace: Workspace) -> None:
    report = shop(offers=OFFERS)
    assert pl.read_parquet(workspace.offers).rows() == [("brunch", "c"), ("summer", "a"), ("summer", "b")]
    assert report.tables["offers"].rows_out == 3
    told = [notice for notice in report.notices if notice.table == "offers"]
    assert [(notice.kind, notice.examples) for notice in told] == [("columns that are not read", ("note",))]


def test_a_catalog_without_offers_has_no_table_and_its_hash(shop: Ingest, workspace: Workspace) -> None:
    plain = shop()
    assert not workspace.offers.exists()
    assert "offers" not in plain.tables
    with_offers = shop(offers=OFFERS)
    assert with_offers.data_hash != plain.data_hash
    assert shop(offers=OFFERS).status == "unchanged"
    assert shop(offers=OFFERS.replace("brunch", "lunch")).status == "ingested"
    assert shop().data_hash == plain.data_hash
    assert not workspace.offers.exists()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",a", "offer_id is missing"),
        ("spring,", "item_id is missing"),
        ("spring,pear", "item_id is not in items"),
        ("summer,b", "the item is in the offer already"),
    ],
)
def test_faulty_rows_are_kept_aside(shop: Ingest, workspace: Workspace, row: str, reason: str) -> None:
    report = shop(offers=OFFERS + f"{row},y\n")
    assert report.tables["offers"].rejected == {reason: 1}
    assert pl.read_parquet(workspace.rejects / "offers.parquet").rows() == [
        (4, reason, *(value or None for value in row.split(",")), "y")
    ]


def test_a_missing_column_is_named_with_the_likely_one(shop: Ingest) -> None:
    with pytest.raises(InvalidTable, match=r"offers need a column 'offer_id'.*Rename 'coupon_upc' to 'offer_id'"):
        shop(offers="coupon_upc,item_id\n5,a\n")


def test_the_built_in_dataset_takes_no_offers(tmp_path: Path) -> None:
    file = tmp_path / "offers.csv"
    file.write_text(OFFERS)
    done = CliRunner().invoke(app, ["ingest", "--offers", str(file), "-w", str(tmp_path / "w")])
    assert isinstance(done.exception, UsageError)
    assert "the built-in dataset has its own" in str(done.exception)


def test_promotions_put_together_what_all_stores_did_the_same_with() -> None:
    folder = complete_journey.data_folder()
    products = pl.read_parquet(folder / "products.parquet").filter(pl.col("product_category") == "SOUP")
    offers = complete_journey.offers_of(folder, products)
    promotions = offers.filter(pl.col("offer_id").str.starts_with("promotion"))
    assert promotions.group_by("offer_id").len()["len"].min() == 2
    source = pl.read_parquet(folder / "promotions.parquet").join(products, on="product_id", how="semi")
    done = source.group_by("week", "product_id").agg(
        pl.struct("store_id", "display_location", "mailer_location").sort().alias("done")
    )
    alike = done.group_by("week", "done").agg(pl.col("product_id").sort()).filter(pl.col("product_id").list.len() > 1)
    expected = {(week, tuple(found)) for week, found in alike.select("week", "product_id").iter_rows()}
    made = promotions.group_by("offer_id").agg(pl.col("item_id").sort())
    assert {(int(name.split()[1]), tuple(found)) for name, found in made.iter_rows()} == expected
    coupons = pl.read_parquet(folder / "coupons.parquet").join(products, on="product_id", how="semi")
    assert offers.height - promotions.height == coupons.select("coupon_upc", "product_id").n_unique()
