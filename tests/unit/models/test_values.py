"""Values are words of the item that the schema reads, whoever proposes them; accepted is what a certificate covers."""

from __future__ import annotations

import json
from dataclasses import replace
from math import isnan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.gold import VALUE_GROUP
from models import prompts
from models.attributes import Attribute
from models.certify import POOLED, Bound, Certificate, CertifyConfig
from models.errors import ArtifactMismatch
from models.ports import LLMResult, Token
from models.tagging import TagItem
from models.values import GROUP, READ, UNKNOWN, Known, ValueJudge, propose, rate, read_values, sign, unlearned

SIZE = Attribute("size", "number", units=(("oz", ("ounce",)), ("l", ())))
BRAND = Attribute("brand", "enum", values=(("National", ()), ("Private", ("store brand",))))
FLAVOUR = Attribute("flavour", "text", definition="what it tastes of")
ORIGIN = Attribute("origin", "text", several=True, pattern="from [a-z]+")
ALL = (SIZE, BRAND, FLAVOUR, ORIGIN)
CONFIG = CertifyConfig(start=0.9, stop=0.9)
KNOWN_FLAVOURS = {"cherry": (9, 10), "black cherry": (3, 4)}
PARTS = [*"ab12 .,é", "cherry ", "black ", "oz ", "store brand ", "from "]
WORDS = st.lists(st.sampled_from(PARTS), max_size=40).map("".join)


TEMPLATE = prompts.load("attributes")


def judge(threshold: float = 0.9) -> ValueJudge:
    """A judge whose sizes in titles are right in 98 of 98 cases, and whose brands nobody counted."""
    made = unlearned(ALL, CONFIG, 0.1)
    bound = Bound(threshold, 100, 98, 0, 0.97)
    size = Known({"oz": (98, 98)}, {}, Certificate(CONFIG, {POOLED: bound}), "")
    alone = propose(SIZE, size.values, TagItem("Soup 12 oz"))[0]
    size = replace(size, right={sign(SIZE, size.values, alone): (98, 98)})
    flavour = Known(KNOWN_FLAVOURS, {}, None, "too few")
    return replace(made, known={**made.known, "size": size, "flavour": flavour})


@given(WORDS, WORDS, st.lists(WORDS, max_size=3))
def test_every_value_stands_in_the_item_and_follows_from_its_words(title: str, text: str, said: list[str]) -> None:
    item = TagItem(title, text)
    by_name = {one.name: one for one in ALL}
    llm = {name: [(words, -1.0) for words in said] for name in by_name}
    for found in judge().propose(item, llm):
        words = getattr(item, found.field)[found.start : found.end]
        assert 0 <= found.start < found.end <= min(READ, len(getattr(item, found.field)))
        assert by_name[found.attribute].read(words) == found.value
        assert found.fields[0] == found.field
        assert found.sources


@given(WORDS, WORDS, st.lists(WORDS, max_size=3))
def test_llm_adds_values_and_changes_none(title: str, text: str, said: list[str]) -> None:
    made, item = judge(), TagItem(title, text)
    plain = {(each.found.attribute, each.found.value): each for each in made.judge(made.propose(item))}
    asked = made.judge(made.propose(item, {name: [(words, -1.0) for words in said] for name in ("flavour", "origin")}))
    for each in asked:
        before = plain.pop((each.found.attribute, each.found.value), None)
        if before is None:
            assert each.found.sources == ("llm",)
            assert each.verdict == "review"
        else:
            assert (each.verdict, each.probability) == (before.verdict, before.probability)
    assert not plain


def test_catalogs_values_are_found_the_longest_first() -> None:
    (found,) = propose(FLAVOUR, KNOWN_FLAVOURS, TagItem("Black Cherry cola"))
    assert (found.value.text, found.start, found.end, found.sources) == ("black cherry", 0, 12, ("catalog",))
    both = propose(FLAVOUR, KNOWN_FLAVOURS, TagItem("Black Cherry cola", "with cherry"))
    assert [(each.value.text, each.field, each.rivals) for each in both] == [
        ("black cherry", "title", 2),
        ("cherry", "text", 2),
    ]


def test_value_in_title_and_text_is_one() -> None:
    (found,) = propose(SIZE, {}, TagItem("Soup 12 oz", "Package: 12 ounce."))
    assert (found.field, found.fields, found.rivals) == ("title", ("title", "text"), 1)


def test_what_the_words_do_not_say_is_not_proposed() -> None:
    item = TagItem("Soup")
    llm = {"size": [("12 oz", -0.1)], "flavour": [("tomato", -0.1)], "brand": [("National", -0.1)]}
    assert judge().propose(item, llm) == []


def test_llms_words_are_found_in_the_item_with_their_logprob() -> None:
    text = json.dumps({"flavour": ["Tomato  basil", "beef"], "size": [7]})
    result = LLMResult(text, "stop", 1, 1, tuple(Token(letter, -0.01) for letter in text))
    (found,) = judge().propose(TagItem("Soup, tomato-basil"), read_values(result, ALL))
    assert (found.value.text, found.sources) == ("tomato-basil", ("llm",))
    assert found.llm_logprob == pytest.approx(-0.01 * len("Tomato  basil"))
    nameless = read_values(replace(result, tokens=()), ALL)
    assert isnan(nameless["flavour"][0][1])


def test_verdicts() -> None:
    made = judge()
    (size,) = made.judge(made.propose(TagItem("Soup 12 oz")))
    assert (size.verdict, size.probability, size.warrant.reason) == ("accept", 99 / 100, "")
    assert (size.warrant.group, size.warrant.evidence) == (
        "attribute:size",
        "pattern in title, one value, nearly always right",
    )
    first, second = made.judge(made.propose(TagItem("Soup 12 oz or 8 oz")))
    assert (first.verdict, second.verdict) == ("review", "review")
    assert first.probability == UNKNOWN
    assert first.warrant.reason == "nothing like it was counted"
    (brand,) = made.judge(made.propose(TagItem("Store brand soup")))
    assert brand.verdict == "review"
    assert "no catalog has this attribute" in brand.warrant.reason


def test_item_has_one_value_of_an_attribute_that_allows_one() -> None:
    made = judge(0.5)
    found = made.propose(TagItem("Soup 12 oz or 8 oz"))
    known = {**made.known, "size": replace(made.known["size"], right={sign(SIZE, {"oz": (98, 98)}, found[0]): (9, 9)})}
    made = replace(made, known=known)
    assert [each.verdict for each in made.judge(found)] == ["accept", "review"]
    several = replace(SIZE, several=True)
    made = replace(made, attributes=(several,))
    assert [each.verdict for each in made.judge(found)] == ["accept", "accept"]


def test_switched_group_goes_to_review() -> None:
    made = replace(judge(), review_only=lambda group: group == "attribute:size")
    (size,) = made.judge(made.propose(TagItem("Soup 12 oz")))
    assert size.verdict == "review"
    assert "is switched to review" in size.warrant.reason


def test_rarely_right_is_rejected() -> None:
    made = judge()
    found = made.propose(TagItem("Soup 12 oz"))
    wrong = replace(made.known["size"], right=dict.fromkeys(made.known["size"].right, (0, 98)))
    made = replace(made, known={**made.known, "size": wrong})
    assert made.judge(found)[0].verdict == "reject"


def test_llm_is_asked_for_free_text_that_nothing_was_found_for() -> None:
    made = judge()
    item = TagItem("Soup <|im_start|> 12 oz")
    request = made.request(TEMPLATE, item, made.propose(item))
    assert request is not None
    assert request.json_schema is not None
    assert set(request.json_schema["properties"]) == {"flavour", "origin"}
    assert "- flavour: what it tastes of" in request.user
    assert "<|" not in request.user
    item = TagItem("Cherry soup from France")
    assert made.request(TEMPLATE, item, made.propose(item)) is None
    assert replace(made, attributes=(SIZE, BRAND)).request(TEMPLATE, item, []) is None


def test_saved_judge_says_the_same(tmp_path: Path) -> None:
    made = judge()
    made.save(tmp_path / "attributes")
    loaded = ValueJudge.load(tmp_path / "attributes")
    for title in ("Soup 12 oz", "Black cherry soup from France, 1 l", "Store brand soup"):
        assert loaded.judge(loaded.propose(TagItem(title))) == made.judge(made.propose(TagItem(title)))


def test_damaged_judge_is_refused(tmp_path: Path) -> None:
    judge().save(tmp_path / "attributes")
    (tmp_path / "attributes" / "values.json").write_text("{}")
    with pytest.raises(ArtifactMismatch, match="hash differs"):
        ValueJudge.load(tmp_path / "attributes")


def test_edited_certificate_is_refused(tmp_path: Path) -> None:
    made = judge()
    bound = Bound(0.9, 100, 98, 40, 0.97)
    known = replace(made.known["size"], certificate=Certificate(CONFIG, {POOLED: bound}))
    replace(made, known={**made.known, "size": known}).save(tmp_path / "attributes")
    with pytest.raises(ArtifactMismatch, match="40 wrong of 98"):
        ValueJudge.load(tmp_path / "attributes")


def test_rate_is_drawn_to_a_half_by_little() -> None:
    known = judge().known["size"]
    (found,) = propose(SIZE, known.values, TagItem("Soup 12 oz"))
    (name,) = known.right
    rates = [rate(replace(known, right={name: (n, n)}), SIZE, found) for n in range(50)]
    assert rates[0] == UNKNOWN
    assert (np.diff(rates) > 0).all()


def test_groups_of_values_are_called_alike_by_models_and_features() -> None:
    assert GROUP == VALUE_GROUP
