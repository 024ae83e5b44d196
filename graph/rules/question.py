"""Questions of several literals, written as the body of a rule: ``mother(X, tom), likes(X, Y), not sold(Y), Y != b``.

An answer gives each variable a value for which all of it holds. What is checked of a rule is checked of a question:
names, arguments, types, and that every variable is bound. A question is kept as a program of one rule over predicates
of its own, one a literal, so an engine needs no more of a graph than the facts that fit each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from graph.errors import Problem, RuleSyntaxError
from graph.rules.check import check
from graph.rules.reader import read_body
from graph.rules.safety import bound_variables
from graph.rules.statements import Clause, Source, TypeStatement
from graph.rules.syntax import Atom, Declaration, Program, Rule, Term, Variable, is_predicted
from graph.rules.tokens import Token, tokenize

FILE = "<question>"
ANSWER = "answer"
"""The predicate that the program of a question derives: one argument for each of its variables."""
_CAPITAL = re.compile("[A-Z]")


@dataclass(frozen=True, slots=True)
class Part:
    """A predicate of a question's program, and the literal whose facts it holds: one that every answer matches, or one
    under a ``not`` or between the braces of an aggregate."""

    predicate: str
    literal: Atom
    is_matched: bool


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A checked question. ``variables`` are those of its answers, as written, in the order they first occur; ``rule``
    is its body under the names of the graph asked."""

    variables: tuple[str, ...]
    rule: Rule
    parts: tuple[Part, ...]
    program: Program


def is_question(text: str) -> bool:
    """Whether the text is more than one pattern: several literals, a ``not``, a comparison or an aggregate."""
    depth = 0
    for place, token in enumerate(tokenize(text, lambda *_: None)):
        if token.text == "not" and token.kind == "name" and place == 0:
            return True
        if token.kind in ("symbol", "foreign") and depth == 0 and token.text not in ("(", "."):
            return True
        depth += (token.text in ("(", "{")) - (token.text in (")", "}")) if token.kind == "symbol" else 0
    return False


def read_question(text: str, program: Program) -> Question:
    """A question to a graph under the program. Raises RuleSyntaxError with every fault found, each with its column.

    Variables start with a capital letter or all with ``?``: beside one of these a bare ``Tom`` may be a name, and is
    refused.
    """
    problems: list[Problem] = []
    body = read_body(text, FILE, problems)
    if body is None or problems:
        raise RuleSyntaxError(problems)
    problems += _ambiguous(body.tokens)
    known = bound_variables(body.rule)
    names = [token.text for token in body.tokens if token.kind == "variable" and token.text.lstrip("?")[:1] not in "_"]
    answered = tuple(dict.fromkeys(Variable(name) for name in names if Variable(name) in known))
    answer = _unused(ANSWER, program)
    head = Atom(answer, answered, (FILE, 1, 1))
    source = Source(FILE, declarations=[*_declared(program), _declaration(answer, len(answered))])
    source.types = [TypeStatement(name, values, (FILE, 1, 1)) for name, values in program.types.items()]
    source.clauses = [Clause(replace(body.rule, head=head), is_fact=False)]
    checked = check([source], problems)
    if problems:
        raise RuleSyntaxError([_quotable(problem, names) for problem in problems])
    return question_of(checked.rules[0], answered)


def question_of(rule: Rule, answered: tuple[Variable, ...]) -> Question:
    """The body of a checked rule as a question for the values of variables that it binds; its head does not matter."""
    parts: list[Part] = []

    def own(atom: Atom, is_matched: bool = False) -> Atom:
        parts.append(Part(f"literal{len(parts)}", atom, is_matched))
        return replace(atom, predicate=parts[-1].predicate)

    plain = replace(
        rule,
        head=Atom(ANSWER, answered),
        body=tuple(own(atom, is_matched=True) for atom in rule.body),
        negated=tuple(map(own, rule.negated)),
        aggregates=tuple(replace(one, body=tuple(map(own, one.body))) for one in rule.aggregates),
    )
    declared = {part.predicate: _declaration(part.predicate, len(part.literal.terms)) for part in parts}
    declared[ANSWER] = _declaration(ANSWER, len(answered))
    names = tuple(variable.name for variable in answered)
    return Question(names, rule, tuple(parts), Program(declared, (plain,)))


def _ambiguous(tokens: list[Token]) -> Iterator[Problem]:
    variables = [token for token in tokens if token.kind == "variable"]
    if any(token.text.startswith("?") and len(token.text) > 1 for token in variables):
        for token in variables:
            if _CAPITAL.match(token.text):
                message = f"{token.text} may be a variable or a name beside variables with '?'"
                yield Problem(FILE, token.line, token.column, message, f'write ?{token.text}, or "{token.text}"')


def _quotable(problem: Problem, variables: list[str]) -> Problem:
    """The problem of a variable that may have been meant as a name, with that in its remedy."""
    for name in dict.fromkeys(variables):
        if len(name) > 1 and _CAPITAL.match(name) and re.search(rf"\b{name}\b", problem.message):
            return replace(problem, remedy=f'{problem.remedy}; or quote the name: "{name}"')
    return problem


def _declared(program: Program) -> Iterator[Declaration]:
    return (each for name, each in program.declarations.items() if not is_predicted(name))


def _declaration(predicate: str, count: int) -> Declaration:
    return Declaration(predicate, tuple(f"argument{i}" for i in range(count)), ("",) * count)


def _unused(name: str, program: Program) -> str:
    while name in program.declarations:
        name += "_"
    return name


def named(term: Term) -> str | None:
    """The variable's name where it is one of a question's own, None for a constant and for ``_``."""
    return term.name if isinstance(term, Variable) and not term.name.startswith("_") else None


__all__ = ["ANSWER", "Part", "Question", "is_question", "named", "question_of", "read_question"]
