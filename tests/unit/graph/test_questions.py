"""Questions of several literals: the answers of a naive join, and every fault with its place."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.engine import LiveGraph, RuleGraph
from graph.errors import FactLimitExceeded, RuleSyntaxError, TimeLimitExceeded
from graph.ports import Fact
from graph.rules.question import is_question, question_of, read_question
from graph.rules.reader import parse
from graph.rules.safety import bound_variables
from graph.rules.syntax import Atom, Program
from tests.unit.graph.programs import NUMBERS, steps, stratified_facts, stratified_heights, stratified_programs

RULES = """
.type size = small, large
.decl mother(mother: person, child: person)
.decl likes(person: person, what)
.decl sold(what)
.decl age(person: person, years: number)
.decl shop.of(what, size: size)
raised: likes(X, Y) :- mother(Y, X).
"""
FACTS = [
    *(Fact("mother", each) for each in (("ann", "tom"), ("ann", "bo"), ("Mary Lee", "ann"))),
    *(Fact("likes", each) for each in (("ann", "milk"), ("ann", "tea"), ("tom", "tea"))),
    *(Fact("age", each) for each in (("ann", "40"), ("tom", "9"), ("bo", "10"))),
    Fact("sold", ("tea",)),
    Fact("shop.of", ("milk", "small")),
]
GUESSES = [(Fact("likes", ("bo", "jazz")), 0.4)]


def graph() -> RuleGraph:
    return RuleGraph.build(parse(RULES), FACTS, predicted=GUESSES)


@pytest.mark.parametrize(
    ("text", "variables", "expected"),
    [
        ("mother(X, tom), likes(X, Y)", "XY", [("ann", "Mary Lee"), ("ann", "milk"), ("ann", "tea")]),
        ("mother(X, tom), likes(X, Y), not sold(Y), Y != milk.", "XY", [("ann", "Mary Lee")]),
        ("age(X, N), age(Y, M), mother(X, Y), N > M", "XNYM", [("ann", "40", "bo", "10"), ("ann", "40", "tom", "9")]),
        ("mother(X, _), N = count C { mother(X, C) }", "XN", [("Mary Lee", "1"), ("ann", "2")]),
        ("age(X, N), N = min M { age(_, M) }", "XN", [("tom", "9")]),
        ("likes(X, Y), Y = tea", "XY", [("ann", "tea"), ("tom", "tea")]),
        ("Z = X, mother(X, bo)", "ZX", [("ann", "ann")]),
        ("mother(X, Y), not mother(Y, _)", "XY", [("ann", "bo"), ("ann", "tom")]),
        ("likes(X, X), sold(X)", "X", []),
        ("shop.of(X, small), likes(_, X)", "X", [("milk",)]),
        ('predicted likes(X, Y), age(X, "10")', "XY", [("bo", "jazz")]),
        ("mother(X, nobody), likes(X, Y)", "XY", []),
        ("sold(tea), not sold(milk)", "", [()]),
        ("sold(tea), sold(milk)", "", []),
        ("not sold(milk)", "", [()]),
    ],
)
def test_answers_are_the_bindings_for_which_all_literals_hold(
    text: str, variables: str, expected: list[tuple[str, ...]]
) -> None:
    assert is_question(text)
    question = read_question(text, parse(RULES))
    assert question.variables == tuple(variables)
    assert graph().answers(question) == expected
    assert LiveGraph(graph()).answers(question) == expected


def test_variables_with_question_marks_are_the_same_question() -> None:
    question = read_question("mother(?who, tom), likes(?who, ?what), not likes(?, nothing)", parse(RULES))
    assert question.variables == ("?who", "?what")
    assert graph().answers(question) == graph().answers(read_question("mother(X, tom), likes(X, Y)", parse(RULES)))


@pytest.mark.parametrize(
    "text", ["mother(?x, tom)", "mother(?x, tom).", 'predicted likes("a, b", ?x)', "mother(Tom, ?x)", "mother(", ""]
)
def test_one_pattern_is_no_question(text: str) -> None:
    assert not is_question(text)


@pytest.mark.parametrize(
    "text", ["not sold(X)", "X = 3", "sold(X), sold(Y)", "N = count X { sold(X) }", "a(X) :- b(X)"]
)
def test_anything_else_is_one(text: str) -> None:
    assert is_question(text)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("sold(X), likes(X, Y), not sld(Y)", [(27, "'sld' is not declared", "did you mean 'sold'")]),
        ("sold(X), mother(X)", [(10, "1 argument(s) and takes 2", "write mother(mother, child)")]),
        ("sold(X), Z != b", [(10, "Z of 'Z != b' is bound by nothing", "use it in a body predicate")]),
        ("sold(X), not mother(Z, W), Z != W", [(14, "Z of 'not mother(Z, W)' is bound", ""), (14, "W of", ""),
                                                (28, "Z of 'Z != W'", ""), (28, "W of 'Z != W'", "")]),
        ("sold(X), not sold(Wine)", [(14, "Wine occurs only once", 'quote the name: "Wine"')]),
        ("mother(X, Y), X < 3", [(15, "< takes numbers and X is of type person", "declare")]),
        ("sold(X), age(tom, nine)", [(10, "'nine' is no number", "write a decimal number")]),
        ("sold(X), shop.of(X, smal)", [(10, "'smal' is not of type size", "did you mean 'small'")]),
        ("mother(X, Y), sold(X), age(Y, X)", [(24, "X is of type number", "")]),
        ("mother(?x, Tom), sold(?x)", [(12, "Tom may be a variable or a name", 'write ?Tom, or "Tom"')]),
        ("sold(X),", [(9, "found 'end of file' where a term belongs", "")]),
        ("sold(X), sold(Y) sold(Z)", [(18, "found 'sold' after a literal", "put ',' between literals")]),
        ("sold(X) :- mother(X, _)", [(9, "found ':-' after a literal", "")]),
        ("sold(X); sold(Y)", [(8, "';' is not of this language", "write one rule for each alternative")]),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_told_with_its_column_and_remedy(text: str, faults: list[tuple[int, str, str]]) -> None:
    with pytest.raises(RuleSyntaxError) as error:
        read_question(text, parse(RULES))
    problems = error.value.problems
    for column, message, remedy in faults:
        assert [
            each for each in problems if each.column == column and message in each.message and remedy in each.remedy
        ]
    assert {each.column for each in problems} == {column for column, _, _ in faults}


def test_the_questions_of_the_language_page_can_be_asked() -> None:
    page = (Path(__file__).resolve().parents[3] / "graph" / "rules" / "LANGUAGE.md").read_text(encoding="utf-8")
    program = parse(re.findall(r"```rules\n(.*?)```", page, re.DOTALL)[0])
    questions = re.findall(r"tandem graph query '(.*?)'", page)
    asked = [RuleGraph.build(program).answers(read_question(text, program)) for text in questions]
    assert asked == [[("Bob B.", "ann")], [("Bob B.", "1"), ("ann", "1")]]


def test_a_predicate_may_be_called_answer() -> None:
    program = parse(".decl answer(x)\n.decl literal0(x)")
    some = RuleGraph.build(program, [Fact("answer", ("a",)), Fact("answer", ("b",)), Fact("literal0", ("b",))])
    assert some.answers(read_question("answer(X), not literal0(X)", program)) == [("a",)]


def test_answers_are_bounded() -> None:
    question = read_question("likes(X, _), likes(Y, _), X != Y", parse(RULES))
    found = graph().answers(question)
    assert graph().answers(question, most=len(found)) == found
    with pytest.raises(FactLimitExceeded, match=f"more than {len(found) - 1} answers.*add a literal"):
        graph().answers(question, most=len(found) - 1)


def test_joining_is_bounded_in_time() -> None:
    program = parse(".decl p(x, y)")
    wide = RuleGraph.build(program, [Fact("p", (f"a{i}", f"b{i}")) for i in range(400)])
    question = read_question("p(A, _), p(B, _), p(C, _), A != B, B != C", program)
    with pytest.raises(TimeLimitExceeded, match="not answered after 0 s"):
        wide.answers(question, most=100_000_000, seconds=0)


def test_within_leaves_a_variable_only_some_values() -> None:
    question = read_question("likes(X, Y), not sold(Y)", parse(RULES))
    everything = graph().answers(question)
    assert graph().answers(question, within={"X": ["ann", "nobody"]}) == [
        each for each in everything if each[0] == "ann"
    ]
    assert graph().answers(question, within={"X": []}) == []
    loose = read_question("likes(X, Y), Z = Y, not sold(Z)", parse(RULES))
    with pytest.raises(ValueError, match="no literal without 'not' has the variable Z"):
        graph().answers(loose, within={"Z": ["tea"]})


@settings(max_examples=200)
@given(stratified_programs(), st.frozensets(stratified_facts, max_size=12), st.frozensets(st.sampled_from(NUMBERS)))
def test_answers_equal_a_naive_join(program: Program, told: frozenset[Fact], some: frozenset[str]) -> None:
    closed = RuleGraph.build(program, told)
    model = stratified_heights(program, set(told))
    for rule in program.rules:
        answered = tuple(sorted(bound_variables(rule), key=str))
        question = question_of(rule, answered)
        naive = {head.args for head, _, _ in steps(replace(rule, head=Atom("answer", answered)), model)}
        assert closed.answers(question) == sorted(naive)
        in_bodies = {term for atom in rule.body for term in atom.terms}
        for place, variable in enumerate(answered):
            if variable in in_bodies:
                left = closed.answers(question, within={variable.name: sorted(some)})
                assert left == sorted(each for each in naive if each[place] in some)
