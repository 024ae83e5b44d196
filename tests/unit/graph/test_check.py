"""What is refused of rules that can be read, each with its place and remedy, and what is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from graph.errors import RuleSyntaxError
from graph.rules.message import filled
from graph.rules.reader import parse, parse_all
from graph.rules.syntax import Program

DECLARED = (
    ".type diet = vegan, vegetarian, halal\n"
    ".decl person(person: person)\n"
    ".decl parent(parent: person, child: person)\n"
    ".decl bought(person: person, item: item)\n"
    ".decl price(item: item, price: number)\n"
    ".decl follows(person: person, diet: diet)\n"
    ".decl told(what, other)\n"
    ".constraint refused(person: person, item: item)\n"
)


def faults(text: str) -> list[str]:
    """What is wrong, without the file, lines counted from the text's first."""
    with pytest.raises(RuleSyntaxError) as caught:
        parse_all([("declared.rules", DECLARED), ("f", text)])
    return [str(problem).removeprefix("f:") for problem in caught.value.problems]


def refused_rules() -> list[tuple[str, list[str]]]:
    """The blocks of refused_rules.txt: rules, and all that is told of them."""
    blocks = (Path(__file__).parent / "refused_rules.txt").read_text(encoding="utf-8").split("\n\n")
    split = [re.split(r"^! ", block.strip(), flags=re.MULTILINE) for block in blocks if not block.startswith("%")]
    return [(text, [fault.strip() for fault in told]) for text, *told in split]


def admitted(text: str) -> Program:
    return parse_all([("declared.rules", DECLARED), ("f", text)])


@pytest.mark.parametrize(("text", "told"), refused_rules())
def test_rules_that_make_no_sense_are_refused_with_place_and_remedy(text: str, told: list[str]) -> None:
    assert faults(text) == told


@pytest.mark.parametrize(
    "text",
    [
        "told(X, Y) :- bought(X, Y).",
        "bought(X, Y) :- told(X, Y).",
        "told(X, N) :- person(X), N = count Y { bought(X, Y) }, N >= 2.",
        "price(I, N) :- bought(_, I), N = 3, N < 3.5.",
        "price(I, M) :- price(I, N), M = N.",
        "follows(X, D) :- person(X), D = vegan.",
        'price(milk, "-0.50"). follows(ann, "halal").',
        "person(X) :- follows(X, D), D != vegan, told(X, D).",
    ],
)
def test_types_leave_alone_what_fits(text: str) -> None:
    assert admitted(text).declarations


@pytest.mark.parametrize(
    "text",
    [
        "person(X) :- person(X), not parent(_Y, _Y).",
        "person(X) :- parent(X, _), not bought(X, _).",
        "person(X) :- Y = X, parent(Y, _).",
        "person(X) :- parent(X, _Child).",
        "person(X) :- parent(X, ?_child).",
        "told(quiet, all) :- not bought(_, _), not parent(ann, _).",
        "told(N, all) :- N = count Y { bought(_, Y) }.",
        "told(N, M) :- N = count Y { bought(_, Y) }, M = count Z { parent(_, Z) }, M < N.",
    ],
)
def test_safe_rules_are_admitted(text: str) -> None:
    assert len(admitted(text).rules) == 1


def test_a_message_tells_the_values_of_the_derived_fact() -> None:
    text = 'refused(ann, Item) "ann may not buy {Item}; {Item} is {not} hers" :- bought(ann, Item).'
    (rule,) = admitted(text.replace(" {not}", "")).rules
    assert filled(rule, ("ann", "{Item}")) == "ann may not buy {Item}; {Item} is hers"
    assert faults(text) == ["1:1: the message fills in {not}, no variable of the head; the head's variables are Item"]


def test_a_predicted_violation_is_of_the_constraint_and_marked() -> None:
    program = admitted('refused(P, I) "{P}" :- predicted bought(P, I).')
    assert program.rules[0].head.predicate == "~refused"
    assert program.declarations["~refused"].is_constraint


def test_the_same_declaration_and_type_may_be_made_twice() -> None:
    assert admitted(DECLARED).declarations == parse(DECLARED).declarations


def test_rules_without_a_label_are_told_apart() -> None:
    program = admitted("person(X) :- parent(X, _). person(X) :- parent(_, X). person(X) :- bought(X, _).")
    assert len({rule.label for rule in program.rules}) == 3
