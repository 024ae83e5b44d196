"""Rules text: what is read, that it prints as it reads, and that nothing but RuleSyntaxError comes of bad text."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.errors import Problem, RuleSyntaxError
from graph.ports import Fact
from graph.rules.reader import parse, parse_all
from graph.rules.syntax import Aggregate, Atom, Comparison, Program, Rule, Variable, is_predicted
from graph.rules.tokens import tokenize
from tests.unit.graph.random_rules import admitted_programs

GRAPH = Path(__file__).resolve().parents[3] / "graph"
EXAMPLES = re.findall(r"```(\w+)\n(.*?)```", (GRAPH / "rules" / "LANGUAGE.md").read_text(encoding="utf-8"), re.DOTALL)
SHIPPED = [(path.name, path.read_text(encoding="utf-8")) for path in sorted(GRAPH.glob("ontologies/g*/*.rules"))]


def problems(text: str) -> list[Problem]:
    with pytest.raises(RuleSyntaxError) as caught:
        parse(text, "test.rules")
    return list(caught.value.problems)


@given(admitted_programs())
@settings(deadline=None)
def test_a_printed_program_reads_back_as_itself(program: Program) -> None:
    read = parse(str(program))
    assert read.rules == program.rules
    assert read.types == program.types
    assert [fact for fact, _ in read.facts] == [fact for fact, _ in program.facts]
    assert {n: d for n, d in read.declarations.items() if not is_predicted(n)} == program.declarations
    assert parse(str(read)) == read


def test_labels_comments_strings_numbers_and_both_kinds_of_variable_are_read() -> None:
    program = parse(
        """
        % a comment
        .decl p(a: kind, b)   # another
        my-rule: p(X, "it's % not a comment") :- p(X, ?y), X != "Bob \\"B\\"", ?y = 3.
        p(low_case, -2.5). p("Up", "a, b").
        """
    )
    assert program.rules[0].label == "my-rule"
    assert str(program.rules[0]) == 'p(X, "it\'s % not a comment") :- p(X, ?y), X != "Bob \\"B\\"", ?y = 3.'
    assert [fact for fact, _ in program.facts] == [Fact("p", ("low_case", "-2.5")), Fact("p", ("Up", "a, b"))]


def test_all_literals_of_a_body_are_read_in_any_order() -> None:
    program = parse(
        ".decl p(x)\n.decl price(x, n: number)\n.decl n(x, n: number)\n"
        "n(X, N) :- N = max P { price(X, P) }, N >= 2.5, not p(X), price(X, _), X != p."
    )
    x, n, p = Variable("X"), Variable("N"), Variable("P")
    (rule,) = program.rules
    assert rule.aggregates == (Aggregate(n, "max", p, (Atom("price", (x, p)),)),)
    assert rule.comparisons == (Comparison(">=", n, "2.5"), Comparison("!=", x, "p"))
    assert rule.negated == (Atom("p", (x,)),)
    assert rule.body == (Atom("price", (x, Variable("_1"))),)
    assert rule.label == "<rules>:4"


def test_anonymous_variables_join_nothing_whatever_names_a_rule_uses() -> None:
    (rule,) = parse(".decl p(x, y)\np(X, X) :- p(X, _), p(_1, X), p(_1, ?).").rules
    (_, first), (named, _), (_, second) = (atom.terms for atom in rule.body)
    assert len({first, named, second}) == 3


def test_names_mean_the_own_namespace_first_then_global_ones() -> None:
    program = parse_all(
        [
            (
                "a.rules",
                ".namespace family\n.decl mother(x, y)\n.decl kin(x, y)\none: kin(X, Y) :- mother(X, Y), sea(X).",
            ),
            ("b.rules", ".decl mother(x)\n.decl sea(x)\none: mother(X) :- family.mother(X, _)."),
            ("c.rules", ".namespace family\ntwo: kin(X, Y) :- kin(Y, X).\nmother(ann, bob).\n"),
        ]
    )
    assert sorted(program.declarations) == ["family.kin", "family.mother", "mother", "sea"]
    assert [str(rule).replace("_1", "_") for rule in program.rules] == [
        "family.kin(X, Y) :- family.mother(X, Y), sea(X).",
        "mother(X) :- family.mother(X, _).",
        "family.kin(X, Y) :- family.kin(Y, X).",
    ]
    assert [rule.label for rule in program.rules] == ["family.one", "one", "family.two"]
    assert program.facts == ((Fact("family.mother", ("ann", "bob")), "c.rules:3"),)


@pytest.mark.parametrize(
    "body", ["predicted p(X)", "q(X), not predicted p(X)", "q(X), N = count Y { predicted p(Y) }, N > 0"]
)
def test_what_follows_from_a_prediction_is_predicted(body: str) -> None:
    program = parse(f".decl p(x)\n.decl q(x: item)\n.decl r(x: item)\nr(X) :- {body}.\nq(X) :- r(X).")
    assert [rule.head.predicate for rule in program.rules] == ["~r", "q"]
    assert {"~r", "~p"} <= set(program.declarations)
    assert program.declarations["~r"].types == ("item",)


def test_every_fault_of_a_file_is_reported_at_once_with_line_and_column() -> None:
    found = problems(
        ".decl parent(child, parent)\n"
        ".decl person(person)\n"
        "person(X) :- parnt(X, _).\n"
        "person(X) :- parent(X).\n"
        "person(Z) :- parent(X, Y), X != W.\n"
        "person(ann\n"
        "person(bob).\n"
        "  person(Carl).\n"
        "person(X) :- person(X), not parent(X, Y), not parent(Y, X).\n"
        "@\n"
        ".decl lost(x:\n"
        "lost(ann).\n"
        'person("open).\n'
    )
    assert [(p.line, p.column) for p in found] == [
        (3, 14), (4, 14), (5, 1), (5, 14), (5, 28), (7, 1), (8, 3), (9, 29), (9, 47), (10, 1), (12, 5), (13, 8),
    ]  # fmt: skip
    assert "did you mean 'parent'?" in found[0].remedy
    assert found[1].remedy == "write parent(child, parent)"
    assert "variable Z of the head is bound by nothing" in found[2].message
    assert str(found[3]).endswith("Y occurs only once; misspelt? write _ where any value will do")
    assert "quote a capitalised name" in found[6].remedy
    assert str(found[0]).startswith("test.rules:3:14: predicate 'parnt' is not declared")


def test_faults_of_several_files_are_reported_together() -> None:
    with pytest.raises(RuleSyntaxError) as caught:
        parse_all([("a.rules", ".decl p(x)\np(X).\n"), ("b.rules", "q(a).\n")])
    assert [(p.file, p.line) for p in caught.value.problems] == [("a.rules", 2), ("b.rules", 1)]


def test_use_of_a_predicate_whose_declaration_is_faulty_is_no_second_fault() -> None:
    found = problems(".namespace a\n.decl p(x, Y)\np(b, c).\np(X, b) :- p(X, b), a.p(b, X).")
    assert [(p.line, p.column) for p in found] == [(2, 12)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('p("open).', "1:3: unexpected character '\"'; close the string on its line"),
        ("p(ä).", "1:3: unexpected character 'ä'; remove it or quote it"),
        (".decl p(x)\np(X) :- p(X), X == a.", "2:17: '==' is not of this language; write '='"),
        (".decl p(x)\np(X) :- p(X); p(X).", "2:13: ';' is not of this language; write one rule for each alternative"),
        (".decl p(x)\np(X) <- p(X).", "2:6: '<-' is not of this language; write ':-' between head and body"),
        (".decl p(x)\np(X) :- p(X), !p(a).", "2:15: '!' is not of this language; write 'not name(...)' to negate"),
        (".dcl p(x)", "1:1: unknown directive '.dcl'; did you mean '.decl'?"),
        (".input p", "1:1: unknown directive '.input'; the directives are .decl, .constraint, .type, .namespace"),
        (".decl not(x)", "1:7: 'not' is a word of the language"),
        (".decl p(x)\n.namespace a", "2:1: '.namespace' stands after another statement; make it the file's first"),
        (".namespace a.b", "1:12: 'a.b' is qualified and a namespace never is"),
        (".type number = 1", "1:7: 'number' is the type of decimal numbers"),
        (".type t = A", "1:11: found 'A' where a value belongs; quote a capitalised name"),
        (".type t a", "1:9: found 'a' where '=' belongs"),
        (".decl p(x)\np(a.b).", "2:3: found 'a.b' where a term belongs; quote it"),
        (".decl p(x)\np(N) :- N = cout X { p(X) }.", "2:13: unknown aggregate function 'cout'; did you mean 'count'?"),
        (".decl p(x)\np(N) :- N = sum X { p(X) }.", "the functions are count, max, min"),
        (".decl p(x)\np(N) :- N = count { p(X) }.", "2:19: found '{' where a variable belongs"),
        (".decl p(x)\np(N) :- N = count X { X > 3 }.", "2:23: found 'X' where a predicate belongs"),
        (".constraint c(x)\nc(X) \"\" :- c(X).", "2:6: the message is empty"),
        (".decl p(x)\np(X) :- p(X), X.", "2:16: found '.' after a term; write 'name(...)', 'A = B' or 'A < B'"),
    ],
)  # fmt: skip
def test_a_text_that_cannot_be_read_says_where_and_what_to_do(text: str, fault: str) -> None:
    (found,) = (str(problem) for problem in problems(text) if "not declared" not in problem.message)
    assert fault in found


@pytest.mark.parametrize("example", [text for kind, text in EXAMPLES if kind == "rules"])
def test_examples_of_the_language_are_read(example: str) -> None:
    assert parse(example).declarations


def test_errors_shown_in_the_language_document_are_the_ones_told() -> None:
    (faulty,) = (text for kind, text in EXAMPLES if kind == "faulty")
    (shown,) = (text for kind, text in EXAMPLES if kind == "text")
    with pytest.raises(RuleSyntaxError) as caught:
        parse(faulty, "faulty.rules")
    assert str(caught.value).splitlines() == shown.splitlines()


PIECES = [
    "p",
    "q",
    "X",
    "_",
    "?y",
    "3",
    "-",
    "a-b",
    '"',
    "\\",
    "%",
    "#",
    "@",
    "é",
    "\n",
    " ",
    ".",
    ", ",
    ":-",
    ":",
    "!",
    "=",
]
PIECES += [
    "<",
    ">",
    "(",
    ")",
    "{",
    "}",
    "p(X)",
    "q(X, N)",
    "not ",
    "predicted ",
    "count ",
    "N = min M {",
    ".decl ",
    ".type ",
]


@given(st.lists(st.sampled_from(PIECES)).map("".join) | st.text())
def test_any_text_is_a_program_or_a_list_of_problems(text: str) -> None:
    assert_reads_or_complains([("declared", ".decl p(x)\n.decl q(x, n: number)\n"), ("fuzz", text)])


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_shipped_rules_with_tokens_lost_swapped_or_doubled_are_a_program_or_a_list_of_problems(
    data: st.DataObject,
) -> None:
    at = data.draw(st.sampled_from(range(len(SHIPPED))))
    name, text = SHIPPED[at]
    lines = [[token.text for token in tokenize(line, lambda *_: None)][:-1] for line in text.splitlines()]
    words = sorted(
        {word for line in lines for word in line} | {"not", "predicted", "count", "{", "}", "<", ".type", "N"}
    )
    spots = [(i, j) for i, line in enumerate(lines) for j in range(len(line))]
    for i, j in data.draw(st.lists(st.sampled_from(spots), min_size=1, max_size=4)):
        word = data.draw(st.sampled_from(words))
        kept = [lines[i][j]] if j < len(lines[i]) else []
        lines[i][j : j + 1] = data.draw(st.sampled_from([[], [word], kept * 2, [*kept, word]]))
    mutated = "\n".join(" ".join(line) for line in lines)
    assert_reads_or_complains([*SHIPPED[:at], (name, mutated), *SHIPPED[at + 1 :]])


def assert_reads_or_complains(sources: list[tuple[str, str]]) -> None:
    try:
        program, problems = parse_all(sources), None
    except RuleSyntaxError as error:
        program, problems = None, error.problems
    if program is not None:
        assert sorted(number for stratum in program.strata for number in stratum) == list(range(len(program.rules)))
        assert unlabelled(parse(str(program))) == unlabelled(program)
    else:
        assert problems
        lines = {file: text.split("\n") for file, text in sources}
        for problem in problems:
            assert 1 <= problem.line <= len(lines[problem.file])
            assert 1 <= problem.column <= len(lines[problem.file][problem.line - 1]) + 1
            assert problem.message
            assert problem.remedy


def unlabelled(program: Program) -> list[Rule]:
    return [replace(rule, label="") for rule in program.rules]
