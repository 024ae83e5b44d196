"""Labels of which an item may have several: who has which, what counts say, and what a certificate promises."""

from __future__ import annotations

from math import inf
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from models import labelset, tagging
from models.catalog import Catalog
from models.certify import POOLED, CertifyConfig, certify
from models.errors import ArtifactMismatch, InvalidVocabulary
from models.index import create_index, grown, load_index
from models.labelcounts import LabelCounts
from models.policy import start_of
from models.several import Several
from models.tagging import TagItem
from models.vocabulary import Label, Vocabulary
from tests.fakes import FakeEmbedder

EMBEDDER = FakeEmbedder()
ITEMS = pl.DataFrame(
    {
        "item_id": [f"i{number}" for number in range(6)],
        "title": ["Whole milk", "Whole milk", "Oat milk", "Oat milk", "Beef steak", "Rice"],
        "text": [None] * 6,
        "category": ["MILK", "MILK", "MILK", "MILK", "MEAT", "DRY"],
        "brand": ["Own", "Alp", "Own", "Alp", "Own", None],
        "diets": [["vegetarian"], [], ["vegan", "vegetarian"], ["vegan", "vegetarian", "vegan"], [], None],
    }
)
CODES = {"a": 0, "b": 1, "c": 2}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.build(ITEMS, "category", ["category", "brand"], EMBEDDER, create_index)


@pytest.fixture(scope="module")
def diets(catalog: Catalog) -> Catalog:
    return labelset.derive(catalog, ITEMS, "diets", "category", EMBEDDER)


rows_of_labels = st.lists(st.none() | st.lists(st.sampled_from("abcx"), max_size=4), max_size=8)


@given(rows_of_labels, rows_of_labels, st.data())
def test_labels_are_kept_by_row_and_replaced_by_row(
    first: list[list[str] | None], second: list[list[str] | None], data: st.DataObject
) -> None:
    def made(rows: list[list[str] | None]) -> Several:
        return Several.of_column(pl.Series("labels", rows, pl.List(pl.String)), CODES)

    def told(rows: list[list[str] | None]) -> list[set[int] | None]:
        known = [None if row is None else {CODES[label] for label in row if label in CODES} for row in rows]
        # A list of nothing but unknown labels says nothing of the known ones.
        return [None if row and not codes else codes for row, codes in zip(rows, known)]

    def read(several: Several) -> list[set[int] | None]:
        return [set(several.of_row(row).tolist()) if several.stated[row] else None for row in range(len(several))]

    several = made(first)
    assert read(several) == told(first)
    chosen = np.flatnonzero(several.stated)
    pairs = list(zip(*(each.tolist() for each in several.pairs(chosen))))
    assert pairs == [(row, label) for row in chosen.tolist() for label in sorted(told(first)[row] or ())]
    free = list(range(len(first) + len(second)))
    old = data.draw(st.lists(st.sampled_from(free), max_size=len(second), unique=True)) if second else []
    # Rows from n on follow without a gap, as a catalog's do.
    rows = [row for row in old if row < len(first)]
    rows += range(len(first), len(first) + len(second) - len(rows))
    placed = several.placed(np.array(rows, np.int64), made(second))
    expected = [*told(first), *[None] * (max([len(first), *(row + 1 for row in rows)]) - len(first))]
    for row, labels in zip(rows, told(second)):
        expected[row] = labels
    assert read(placed) == expected


def test_shares_are_of_the_items_and_not_of_their_labels(diets: Catalog) -> None:
    """Of two items of a text one is vegetarian: half, whatever else they carry."""
    counts = LabelCounts.build(diets)
    found = tagging.retrieve(diets, counts, TagItem("Whole milk"), EMBEDDER.embed(["Whole milk"])[0])
    vegan, vegetarian = diets.labels.index("vegan"), diets.labels.index("vegetarian")
    assert 0 < found.votes[vegan] <= found.votes[vegetarian] <= 1
    (row,) = [row for row, text in enumerate(diets.texts) if text == "whole milk" or text == "Whole milk"]
    labels, many = counts.of_text(row)
    assert (labels.tolist(), many.tolist()) == ([vegetarian], [1.0])
    # Of five stated items two are vegan and three vegetarian, each with one more of two that nobody saw.
    assert counts.prior[[vegan, vegetarian]].tolist() == pytest.approx([3 / 7, 4 / 7])
    meat = diets.values["category"].index("MEAT")
    shares = counts.shares("category", meat, np.array([vegan, vegetarian]))
    assert shares.tolist() == pytest.approx([5 * 3 / 7 / 6, 5 * 4 / 7 / 6])


@pytest.mark.parametrize("row", range(5))
def test_counts_without_an_item_are_those_of_a_catalog_without_it(diets: Catalog, row: int) -> None:
    fewer = LabelCounts.build(diets).without(diets, row)
    built = LabelCounts.build(diets, np.arange(6) != row)
    np.testing.assert_allclose(fewer.prior, built.prior)
    everything = np.arange(len(diets.texts))
    for mine, other in zip(fewer.of_texts(everything), built.of_texts(everything)):
        np.testing.assert_array_equal(mine, other)
    codes = np.arange(len(diets.labels))
    for name, values in diets.values.items():
        for value in range(len(values)):
            np.testing.assert_allclose(fewer.shares(name, value, codes), built.shares(name, value, codes))


def test_an_item_nobody_labelled_says_nothing(diets: Catalog) -> None:
    counts = LabelCounts.build(diets)
    found = tagging.retrieve(diets, counts, TagItem("Rice"), EMBEDDER.embed(["Rice"])[0])
    assert found.best < 1
    assert not found.known
    # A stated item without labels is known: it says that none of them is right.
    beef = tagging.retrieve(diets, counts, TagItem("Beef steak"), EMBEDDER.embed(["Beef steak"])[0])
    assert beef.known
    assert diets.labels_of(4) == frozenset()
    assert max(beef.votes.values(), default=0.0) < 0.5


def test_the_category_is_evidence_and_comes_first(diets: Catalog, catalog: Catalog) -> None:
    assert next(iter(diets.attributes)) == "category"
    assert set(diets.attributes) == {"category", *catalog.attributes}
    assert tagging.attribute_codes(diets, TagItem("x", "", {"category": "MEAT"}))["category"] >= 0


def test_set_follows_its_catalog(diets: Catalog, catalog: Catalog) -> None:
    rows = np.array([5, 6], np.int64)
    told = {name: ["x", "x"] for name in ITEMS.columns} | {"brand": [None, "Own"], "title": ["Rice", "Tofu"]}
    came = pl.DataFrame(told | {"diets": [["vegan"], ["vegan", "vegetarian", "other"]]}, schema=ITEMS.schema)
    longer = catalog.with_items(rows, came, "category", EMBEDDER.embed, grown)
    own = labelset.following(diets, longer, rows, came)
    assert (own.texts, len(own.text_of_row)) == (longer.texts, 7)
    assert {own.labels[label] for label in own.labels_of(5)} == {"vegan"}
    assert {own.labels[label] for label in own.labels_of(6)} == {"vegan", "vegetarian"}
    assert own.attributes["category"][5:].tolist() == [-1, -1]  # a value training did not know
    np.testing.assert_array_equal(own.attributes["brand"], longer.attributes["brand"])
    found = tagging.retrieve(own, LabelCounts.build(own), TagItem("Tofu"), EMBEDDER.embed(["Tofu"])[0])
    assert found.known


def test_damaged_set_is_refused(diets: Catalog, catalog: Catalog, tmp_path: Path) -> None:
    labelset.save(diets, tmp_path / "set", {})
    catalog.save(tmp_path / "catalog", {})
    again = labelset.load(tmp_path / "set", Catalog.load(tmp_path / "catalog", load_index))
    assert [again.labels_of(row) for row in range(6)] == [diets.labels_of(row) for row in range(6)]
    (tmp_path / "set" / "names.json").write_text("{}")
    with pytest.raises(ArtifactMismatch, match=r"names\.json is not the file"):
        labelset.load(tmp_path / "set", catalog)


@pytest.mark.parametrize(
    ("items", "column", "message"),
    [
        (ITEMS, "brand", "'brand', which is no list column of this catalog; it has diets"),
        (ITEMS.drop("diets"), "diets", "it has none: ingest one"),
        (ITEMS.rename({"diets": "a/b"}), "a/b", "rename the column"),
        (ITEMS.with_columns(diets=pl.lit([], pl.List(pl.String))), "diets", "in which no item has a label"),
    ],
)
def test_column_that_is_no_label_set_is_refused(
    items: pl.DataFrame, column: str, message: str, catalog: Catalog
) -> None:
    with pytest.raises(InvalidVocabulary, match=message):
        labelset.derive(catalog, items, column, "category", EMBEDDER)


def test_who_has_a_label_has_the_wider_ones(catalog: Catalog) -> None:
    """What an accepted label implies must not be wrong by a list that leaves the obvious out."""
    told = Vocabulary(
        "diets", [Label("vegan", "", ("vegetarian",)), Label("vegetarian", "", ("meatless",)), Label("meatless")]
    )
    items = ITEMS.with_columns(diets=pl.Series([["vegan"], [" vegetarian ", ""], [], None, [], None]))
    own = labelset.derive(catalog, items, "diets", "category", EMBEDDER, told)
    named = [{own.labels[label] for label in own.labels_of(row)} for row in range(4)]
    assert named == [{"vegan", "vegetarian", "meatless"}, {"vegetarian", "meatless"}, set(), set()]
    assert own.labelled.tolist() == [True, True, True, False, True, False]


# --- the promise -----------------------------------------------------------------------------------------------------


def test_a_unit_is_wrong_from_its_surest_wrong_label_on() -> None:
    """Two hundred units sure and right, whose second label is wrong and reaches .8: nothing below is accepted."""
    score, worst = np.full(200, 0.96), np.full(200, 0.8)
    bound = certify(score, np.ones(200, bool), CertifyConfig(start=0.96, stop=0.5), worst=worst).bounds[POOLED]
    assert 0.8 < bound.threshold <= 0.805
    assert (bound.accepted, bound.wrong) == (200, 0)
    alone = certify(score, np.ones(200, bool), CertifyConfig(start=0.96, stop=0.5)).bounds[POOLED]
    assert alone.threshold == pytest.approx(0.5, abs=0.003)


def test_start_counts_wrong_labels_that_are_not_the_surest() -> None:
    score = np.linspace(0.99, 0.5, 400)
    right = np.ones(400, bool)
    config = CertifyConfig(start=1.0, stop=0.5)
    without = start_of(score, right, 400, config, np.full(400, -inf))
    # From rank 100 on every unit's second label is wrong as soon as the unit is accepted.
    worst = np.where(np.arange(400) < 100, -inf, score)
    assert start_of(score, right, 400, config, worst) > without
    assert start_of(score, right, 400, config) == without


def test_promise_is_broken_no_more_often_than_stated_where_labels_are_several() -> None:
    """Three labels a unit, each right as often as it scores: drawn again and again, counted against the truth."""
    rng = np.random.default_rng(5)

    def drawn(n: int) -> tuple[np.ndarray, np.ndarray]:
        scores = rng.beta(6, 0.4, (n, 3))
        right = rng.random((n, 3)) < scores
        return scores.max(axis=1), np.where(right, -inf, scores).max(axis=1)

    top, worst = drawn(200_000)
    config = CertifyConfig(start=0.995, stop=0.5)
    broken = accepting = 0
    for _ in range(300):
        score, wrong = drawn(400)
        threshold = certify(score, wrong < score, config, worst=wrong).threshold()
        if threshold < inf:
            accepting += 1
            broken += (worst >= threshold).sum() > 0.05 * (top >= threshold).sum()
    assert accepting > 100
    assert broken <= binom.ppf(0.999, 300, 0.05)
