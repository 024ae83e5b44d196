"""Facts on one line: read as written, written as they are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.errors import RuleSyntaxError
from graph.patterns import fact_text, read_fact, read_pattern
from graph.ports import Fact

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=12).filter(
    lambda name: not name.startswith("?")
)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ('mother(?who, "Tom Cruise")', Fact("mother", ("?who", "Tom Cruise"))),
        ("category_contains(CHEESES, ?x)", Fact("category_contains", ("CHEESES", "?x"))),
        ('sold("Milk, 1 l", 3.5).', Fact("sold", ("Milk, 1 l", "3.5"))),
        ("predicted family.mother(a, b)", Fact("~family.mother", ("a", "b"))),
    ],
)
def test_pattern_is_read_as_rules_are_but_capitals_are_names(text: str, fact: Fact) -> None:
    assert read_pattern(text) == fact


def test_each_underscore_is_a_variable_of_its_own() -> None:
    first, second = read_pattern("child(_, _)").args
    assert first.startswith("?")
    assert second.startswith("?")
    assert first != second


@given(st.sampled_from(["p", "family.mother", "~p"]), st.lists(NAMES, min_size=1, max_size=4))
def test_what_is_written_is_read_back(predicate: str, args: list[str]) -> None:
    fact = Fact(predicate, tuple(args))
    assert read_fact(fact_text(fact)) == fact


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mother(X, tom)", 'write \\?X for any value, "X" for the name'),
        ("mother(?x, tom)", "holds the variable \\?x; a fact has none"),
        ('mother("?x", tom)', "reads as a variable"),
        ("mother(tom", "belongs"),
        ("mother(a, b) c", "found 'c' after the fact"),
        ("", "belongs"),
    ],
)
def test_what_is_no_fact_is_refused_with_the_remedy(text: str, message: str) -> None:
    with pytest.raises(RuleSyntaxError, match=message):
        read_fact(text)
