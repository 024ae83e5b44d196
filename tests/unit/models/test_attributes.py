"""Schemas of attributes: sound or refused, and one value for the same words wherever they stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import vocabulary
from models.attributes import Attribute, BadAttribute, Value, attribute, normal, runs
from models.errors import InvalidVocabulary

SIZE = Attribute("size", "number", units=(("oz", ("ounce", "ounces", "fl oz")), ("l", ("lt",)), ("ct", ())))
BRAND = Attribute("brand", "enum", values=(("National", ()), ("Private", ("store brand", "own-label"))))
FLAVOUR = Attribute("flavour", "text", several=True, pattern="[a-z &]+")
BARE = Attribute("count", "number")
WORDS = st.text(st.sampled_from("ab 12.,/-%xX\n(éßİ&'oz"), max_size=60)


@pytest.mark.parametrize(
    ("words", "number", "text"),
    [
        ("12 OZ", 12.0, "12 oz"),
        ("12oz", 12.0, "12 oz"),
        ("12-ounce", 12.0, "12 oz"),
        ("12 Fl. Oz", 12.0, "12 oz"),
        ("1.50 l", 1.5, "1.5 l"),
        ("1,5 lt", 1.5, "1.5 l"),
        ("1 1/2 L", 1.5, "1.5 l"),
        ("1/3 l", 0.3333, "0.3333 l"),
        (".5 l", 0.5, "0.5 l"),
        ("1,000 ct", 1000.0, "1000 ct"),
        ("0,125 l", 0.125, "0.125 l"),
        ("100 ct", 100.0, "100 ct"),
        ("0 ct", 0.0, "0 ct"),
    ],
)
def test_numbers_have_one_normal_form(words: str, number: float, text: str) -> None:
    value = SIZE.read(words)
    assert value == Value(text, number, text.split()[1])


@pytest.mark.parametrize("words", ["", "12", "12 kg", "oz", "1/0 oz", "12 ozone", "1.2.3 oz", "x 12 oz", "12 oz box"])
def test_other_words_are_no_number_of_the_schema(words: str) -> None:
    assert SIZE.read(words) is None


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("Soup, 2 pack, 10.5 oz", ["10.5 oz"]),
        ("Juice 6x12oz", ["12oz"]),
        ("Model A12 oz", []),
        ("1.12.3 oz", []),
        ("1 1/2 lt and 12 ct.", ["1 1/2 lt", "12 ct"]),
        ("1234567890 oz", []),
    ],
)
def test_numbers_are_found_in_running_text(text: str, spans: list[str]) -> None:
    assert [text[start:end] for start, end, _ in SIZE.numbers(text)] == spans


def test_number_without_units_is_a_number_alone() -> None:
    assert [value.text for _, _, value in BARE.numbers("Pack of 6, 12oz, 3/4 in, 1.5")] == ["6", "0.75", "1.5"]


def test_enum_is_read_by_any_of_its_names() -> None:
    assert BRAND.read("PRIVATE") == BRAND.read("Store  Brand") == BRAND.read("own label") == Value("Private")
    assert BRAND.read("label") is None


def test_text_is_read_by_its_pattern_in_lower_case() -> None:
    assert FLAVOUR.read("  Salt &\nVinegar ") == Value("salt & vinegar")
    assert FLAVOUR.read("7up") is None
    assert FLAVOUR.read("a b c d e f g h i") is None


@given(st.sampled_from([SIZE, BRAND, FLAVOUR, BARE]), WORDS)
def test_value_is_read_back_from_its_own_text(one: Attribute, words: str) -> None:
    value = one.read(words)
    if value is not None:
        assert one.read(value.text) == value


@given(st.sampled_from([SIZE, BARE]), WORDS)
def test_number_that_is_found_is_what_its_words_read(one: Attribute, text: str) -> None:
    end = 0
    for start, stop, value in one.numbers(text):
        assert end <= start < stop <= len(text)
        assert one.read(text[start:stop]) == value
        end = stop


@given(WORDS, st.integers(1, 4))
def test_runs_are_neighbouring_words_and_each_is_there_once(text: str, most: int) -> None:
    found = list(runs(text, most))
    assert len({(start, end) for start, end, _ in found}) == len(found)
    for start, end, words in found:
        assert words == normal(text[start:end])
        assert 0 < len(text[start:end].strip()) == end - start
        assert "," not in text[start:end]
    assert " ".join(words for _, _, words in runs(text, 1)) == normal(text)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"kind": "text"}, "attribute 1 has no 'name'"),
        ({"name": "a"}, "attribute 'a': kind is None; choose one of text, enum, number"),
        ({"name": "a b", "kind": "text"}, "attribute 'a b': a name is a letter"),
        ({"name": "a", "kind": "text", "unit": 1}, "attribute 'a' has 'unit'"),
        ({"name": "a", "kind": "text", "several": "no"}, "several is 'no'"),
        ({"name": "a", "kind": "text", "pattern": 3}, "pattern is 3"),
        ({"name": "a", "kind": "text", "pattern": "(a"}, "cannot be read"),
        ({"name": "a", "kind": "text", "pattern": "(a+)+b"}, "repeats itself"),
        ({"name": "a", "kind": "text", "pattern": "(a|a)*b"}, "repeats itself"),
        ({"name": "a", "kind": "text", "pattern": "a*a*a*a*b"}, "has 4 repetitions"),
        ({"name": "a", "kind": "text", "values": ["x"]}, "only 'enum' takes them"),
        ({"name": "a", "kind": "enum"}, "an enum without values"),
        ({"name": "a", "kind": "enum", "values": "x"}, "values is 'x'; give a list"),
        ({"name": "a", "kind": "enum", "values": [3]}, "3 is no value"),
        ({"name": "a", "kind": "enum", "values": ["x", "x"]}, "'x' is given twice"),
        (
            {"name": "a", "kind": "enum", "values": ["x", {"id": "y", "names": ["X"]}]},
            "'X' names the values 'x' and 'y'",
        ),
        ({"name": "a", "kind": "enum", "values": ["+"]}, "'\\+' has nothing to be read by"),
        (
            {"name": "a", "kind": "enum", "values": ["one two three four five six seven eight nine"]},
            "more than 8 words",
        ),
        ({"name": "a", "kind": "number", "units": {"l": ["lt"], "LT": []}}, "names the units 'l' and 'LT'"),
        ({"name": "a", "kind": "number", "units": {"l": "lt"}}, "spellings of 'l' is 'lt'"),
        ({"name": "a", "kind": "number", "units": 5}, "units is 5"),
        ({"name": "a", "kind": "number", "units": ["2l"]}, "begins with a digit"),
        ("size", "attribute 1 has no 'name'"),
    ],
)
def test_bad_schema_is_refused_by_name(row: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(BadAttribute, match=reason):
        attribute(row, 1)
    (tmp_path / "v.json").write_text(json.dumps({"attributes": [row]}))
    with pytest.raises(InvalidVocabulary, match=reason):
        vocabulary.read(tmp_path / "v.json")


@pytest.mark.parametrize("pattern", ["[a-z]+( [a-z]+)?", "(?:red|green) wine", r"\d{1,3} ?%", "a?b?c?d?e?"])
def test_plain_patterns_are_taken(pattern: str) -> None:
    Attribute("a", "text", pattern=pattern)


def test_vocabulary_keeps_its_attributes(tmp_path: Path) -> None:
    made = vocabulary.Vocabulary("mine", [], attributes=(SIZE, BRAND, FLAVOUR, BARE))
    (tmp_path / "v.json").write_text(made.to_json())
    assert vocabulary.read(tmp_path / "v.json").attributes == (SIZE, BRAND, FLAVOUR, BARE)


def test_attribute_given_twice_is_refused() -> None:
    with pytest.raises(InvalidVocabulary, match="attribute 'Size' is given twice"):
        vocabulary.Vocabulary("mine", [], attributes=(SIZE, Attribute("Size", "number")))
