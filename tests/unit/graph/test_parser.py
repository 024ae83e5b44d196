"""Rules text: what is read, and every fault reported with its place and remedy."""

from __future__ import annotations

import pytest
from hypothesis import given

from graph.errors import Problem, RuleSyntaxError
from graph.ports import Fact
from graph.rules.reader import parse, parse_all
from graph.rules.syntax import Program, Rule
from tests.unit.graph.programs import ARITY, rules

DECLARED = "".join(f".decl {name}({', '.join('xyz'[:n])})\n" for name, n in ARITY.items())


def problems(text: str) -> list[Problem]:
    with pytest.raises(RuleSyntaxError) as caught:
        parse(text, "test.rules")
    return list(caught.value.problems)


@given(rules())
def test_a_printed_rule_reads_back_as_itself(rule: Rule) -> None:
    (read,) = parse(f"{DECLARED}{rule.label}: {rule}").rules
    assert read == rule


def test_labels_comments_strings_numbers_and_both_kinds_of_variable_are_read() -> None:
    program = parse(
        """
        % a comment
        .decl p(a: kind, b)   # another
        my-rule: p(X, "it's % not a comment") :- p(X, ?y), X != "Bob \\"B\\"", ?y = 3.
        p(low_case, -2.5). p("Up", "a, b").
        """
    )
    assert isinstance(program, Program)
    assert program.rules[0].label == "my-rule"
    assert str(program.rules[0]) == 'p(X, "it\'s % not a comment") :- p(X, ?y), X != "Bob \\"B\\"", ?y = 3.'
    assert [fact for fact, _ in program.facts] == [Fact("p", ("low_case", "-2.5")), Fact("p", ("Up", "a, b"))]


def test_all_faults_of_a_file_are_reported_at_once_with_line_and_column() -> None:
    found = problems(
        ".decl parent(child, parent)\n"
        ".decl person(person)\n"
        "person(X) :- parnt(X, Y).\n"
        "person(X) :- parent(X).\n"
        "person(Z) :- parent(X, Y), X != W.\n"
        "person(ann\n"
        "person(bob).\n"
        "  person(Carl).\n"
        "person(X) :- person(X), not parent(X, X).\n"
        "@\n"
    )
    assert [(p.line, p.column) for p in found] == [(3, 14), (4, 14), (5, 1), (5, 28), (7, 1), (8, 3), (9, 25), (10, 1)]
    assert "did you mean 'parent'?" in found[0].remedy
    assert found[1].remedy == "write parent(child, parent)"
    assert "variable Z of the head is bound by nothing" in found[2].message
    assert "quote a capitalised name" in found[5].remedy
    assert "negation is not supported" in found[6].message
    assert str(found[0]).startswith("test.rules:3:14: predicate 'parnt' is not declared")


def test_faults_of_several_files_are_reported_together() -> None:
    with pytest.raises(RuleSyntaxError) as caught:
        parse_all([("a.rules", ".decl p(x)\np(X).\n"), ("b.rules", "q(a).\n")])
    assert [(p.file, p.line) for p in caught.value.problems] == [("a.rules", 2), ("b.rules", 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('.decl p(x)\np("open).', "unexpected character"),
        (".decl p(x)\n.decl p(x, y)\n", "declared differently"),
        (".decl p(x: item)\n.decl q(x: place)\nq(X) :- p(X).", "X is a place"),
        (".decl p(x)\na: p(x) :- p(x).\na: p(y) :- p(y).", "label 'a' is used"),
        (".input p\n", "unknown directive"),
        (".decl p(x)\np(X) :- X = a.", "needs a predicate in its body"),
    ],
)
def test_a_faulty_text_says_what_is_wrong(text: str, message: str) -> None:
    assert any(message in problem.message for problem in problems(text))
