"""Names that nothing announces, in what people wrote of themselves."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ports import LLMRequest
from serving.gateway.people import name_spans
from serving.gateway.ports import Ask
from serving.gateway.privacy import PatternRedactor, redact_of
from serving.gateway.wordfiles import words_of
from tests.benchmarks.names import measure


def names(text: str) -> list[str]:
    return [text[start:end] for start, end in name_spans(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Priya and Tom cook on Sundays", ["Priya", "Tom"]),
        ("Vegetarian since 2010, Maria Lopez, lives near the river", ["Maria Lopez"]),
        ("The Okafors need gluten free bread", ["Okafors"]),
        ("pooja has tried four meal kits and i have tried none", ["pooja"]),
        ("vip guest, khalid al-mansouri, no alcohol", ["khalid al-mansouri"]),
        ("Familie Schönfelder, vier Personen", ["Schönfelder"]),
        ("Xiaoling wants the short-grain rice", ["Xiaoling"]),
        ("If Mark picks up the order please check the eggs", ["Mark"]),
        ("Nina's allergy is to walnuts", ["Nina"]),
    ],
)
def test_names_are_found(text: str, found: Sequence[str]) -> None:
    assert names(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "Mark it as a gift and will buy again in May",
        "Trader Joe's and Ben & Jerry's, Betty Crocker mixes, Jack Daniel's",
        "Olive oil, basil, rose wine and ginger beer",
        "BBQ in Houston, Texas every Sunday",
        "Pat dry, then rob a bank for truffles",
        "",
        "12345 !!! 日本茶",
    ],
)
def test_what_is_no_name_stays(text: str) -> None:
    assert names(text) == []


@given(st.text(max_size=300))
def test_spans_are_in_order_apart_and_inside_any_text(text: str) -> None:
    spans = name_spans(text)
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(edges)
    assert all(0 <= start < end <= len(text) for start, end in spans)


@given(
    st.lists(
        st.sampled_from(["Priya", "likes", "and", "Rose", "Lopez", ",", "bread", "the", "Okafors", "maria"]),
        max_size=12,
    )
)
def test_taking_out_twice_is_taking_out_once(words: Sequence[str]) -> None:
    once = PatternRedactor().redact(" ".join(words), personal=True).text
    assert PatternRedactor().redact(once, personal=True).text == once


def test_texts_nobody_looked_at_when_the_rules_were_made() -> None:
    """The figures themselves: python -m tests.benchmarks.names."""
    (found, names_), (wrong, texts) = measure()["unseen"].values()
    assert found / names_ >= 0.75
    assert wrong / texts <= 0.35  # of texts made to be mistaken


def test_only_what_a_person_wrote_is_searched_harder() -> None:
    request = LLMRequest(
        "", "Profile: Zainab likes Reuben. Choices: Reuben sandwiches, Alfredo sauce, Delphine brand rice", 9
    )
    ask = Ask("cold_start", request, 1.0, personal=("Zainab likes Reuben.",))
    clean = redact_of(PatternRedactor(), ask.personal, request.user)
    assert clean == "Profile: [NAME] likes Reuben. Choices: Reuben sandwiches, Alfredo sauce, Delphine brand rice"
    # Where nobody says which part that is, all of it may be.
    assert redact_of(PatternRedactor(), None, request.user).count("[NAME]") >= 2
    # And a catalog's text is left alone.
    goods = "Reuben sandwiches, Alfredo sauce, Delphine brand rice"
    assert redact_of(PatternRedactor(), (), goods) == goods


def test_lists_hold_what_can_be_looked_up() -> None:
    lists = {name: words_of(name) for name in ("names_plain", "names_words", "surnames", "not_persons")}
    assert all(word == word.lower() and word.strip() for words in lists.values() for word in words)
    assert not lists["names_plain"] & (lists["names_words"] | lists["surnames"])
