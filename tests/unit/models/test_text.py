"""Catalog text: what a vector and a lexical overlap see."""

from __future__ import annotations

import pytest

from models.text import embedding_text, product_view, readable, words


@pytest.mark.parametrize(
    ("title", "text", "expected"),
    [
        ("Potato chips, 12 oz", None, "Potato chips"),
        ("Bananas, 40 lb", "National brand. Package: 40 lb.", "Bananas"),
        ("Cola 6 pk 12 fl oz", "", "Cola"),
        (
            "Taquitos, 12 ct",
            "Crispy corn tortillas rolled with beans",
            "Taquitos. Crispy corn tortillas rolled with beans",
        ),
        ("7up", None, "7up"),
        ("", None, ""),
    ],
)
def test_quantities_and_packaging_facts_are_left_out(title: str, text: str | None, expected: str) -> None:
    assert embedding_text(title, text) == expected


def test_words_meet_across_number_and_case() -> None:
    assert words("Refried BEANS") & words("bean, canned")
    assert words("glass") == {"glass"}


def test_label_reads_as_words() -> None:
    assert readable("CHIPS&SNACKS/DIPS") == "chips&snacks / dips"


def test_graph_reads_a_catalog_row_and_a_new_product_alike() -> None:
    row = product_view("Milk, 1 GA", "Private brand.", {"category": "FLUID MILK PRODUCTS"})
    new = product_view("Milk", "", {})
    assert row["title"] == new["title"] == "Milk"
    assert row["text"] is None
