"""What people say of themselves: phrases, negation, and the profile that follows."""

from __future__ import annotations

import pytest

from graph.lexicon import asked_for
from graph.ontology import load
from graph.phrases import find_phrases
from graph.ports import Fact


def profile(text: str, predicate: str) -> set[str]:
    graph = load("grocery")
    extended = graph.extend(find_phrases(text, graph), "profile text")
    return {fact.args[1] for fact in extended.query(Fact(predicate, ("user", "?x")))}


@pytest.mark.parametrize(
    ("text", "avoids"),
    [
        ("vegan", {"animal_product"}),
        ("Vegetarians", {"meat", "seafood", "gelatin"}),
        ("no dairy", {"dairy"}),
        ("lactose intolerant", {"dairy"}),
        ("dairy-free please", {"dairy"}),
        ("coeliac", {"gluten"}),
        ("I don\u2019t eat meat, fish or dairy", {"meat", "fish", "dairy"}),
        ("allergic to peanuts", {"peanut"}),
        ("allergic to nuts, milk and eggs. I love italian", {"nuts", "peanut", "dairy", "egg"}),
        ("nut and dairy allergy", {"nuts", "peanut", "dairy"}),
        ("gluten or dairy free", {"gluten", "dairy"}),
        ("teetotal, non-smoker", {"alcohol", "tobacco"}),
        ("never drink any alcohol", {"alcohol"}),
        ("halal", {"pork", "alcohol", "meat", "gelatin"}),
        ("hate fish", {"fish"}),
        ("nothing with pork", {"pork"}),
        ("avoid gluten and vegan", {"gluten", "animal_product"}),
    ],
)
def test_text_says_what_is_avoided(text: str, avoids: set[str]) -> None:
    assert profile(text, "avoids") == avoids


@pytest.mark.parametrize(
    ("text", "wants"),
    [
        ("new baby, love mexican food", {"baby", "mexican"}),
        ("vegetarian but love italian and snacks", {"italian", "snack"}),
        ("no dairy, mexican food", {"mexican"}),
        ("no meat and love sushi", {"asian"}),
        ("root beer fan", {"soft_drink"}),
        ("can't live without cheese", {"dairy"}),
    ],
)
def test_text_says_what_is_wanted(text: str, wants: set[str]) -> None:
    assert profile(text, "wants") == wants


@pytest.mark.parametrize(
    "text",
    ["not vegetarian", "I am not a vegan", "no longer vegetarian", "no baby", "no nut allergy", "I never avoid meat",
     "not allergic to nuts", "we have no pets and no kids", "no fancy complicated vegan stuff", "I used to be vegan",
        "less meat", ""],
)  # fmt: skip
def test_negated_or_unclear_text_says_nothing(text: str) -> None:
    assert profile(text, "avoids") == set()
    assert profile(text, "wants") == set()


def test_what_is_avoided_is_proved_from_the_words() -> None:
    graph = load("grocery")
    extended = graph.extend(find_phrases("vegetarian", graph, user="ann"), "Ann's profile")
    lines = list(extended.prove(Fact("avoids", ("ann", "meat"))).lines())
    assert lines[1] == "  says(ann, vegetarian)  (Ann's profile)"


def test_an_ontology_without_phrases_finds_none() -> None:
    assert find_phrases("vegan", load("generic")) == []


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("garden gnome", "garden gnome"),
        ("no horror, loves space operas", "loves space operas"),
        ("nothing with nuts but dark chocolate.", "dark chocolate"),
        ("allergic to nuts and milk; two adults", "two adults"),
        ("I don\u2019t like clowns", ""),
        ("Non-stick pan, used books, gluten free bread", "Non-stick pan, used books, gluten free bread"),
        (" ,. ", ""),
    ],
)
def test_what_words_ask_for_is_told_from_what_they_rule_out(text: str, asked: str) -> None:
    assert asked_for(text) == asked
