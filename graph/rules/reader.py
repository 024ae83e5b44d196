"""Rules as text (Datalog) to values, with every fault of every file reported at once.

Declarations come first in meaning, not in order::

    .decl parent(child: person, parent: person)      % names; a type after ``:`` is optional
    grandparent: grandparent(X, Z) :- parent(X, Y), parent(Y, Z), X != Z.
    parent(ann, "Bob B.").

``%`` and ``#`` start a comment. Variables start with an upper-case letter or ``?``; ``_`` matches anything. Constants
are lower-case names, numbers or quoted strings. ``name: head :- body.`` gives a rule the name its proofs show.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from graph.errors import Problem, RuleSyntaxError
from graph.ports import Fact
from graph.rules.syntax import Atom, Comparison, Declaration, Operator, Program, Rule, Term, Variable


def parse(text: str, file: str = "<rules>") -> Program:
    """One text of rules. Raises RuleSyntaxError with every problem found."""
    return parse_all([(file, text)])


def parse_all(sources: Iterable[tuple[str, str]]) -> Program:
    """Several ``(file name, text)`` read as one program. Raises RuleSyntaxError with every problem of every file."""
    statements: list[_Statement] = []
    problems: list[Problem] = []
    for file, text in sources:
        reader = _Reader(file, text, problems)
        statements.extend(reader.statements())
    program = _check(statements, problems)
    if problems:
        raise RuleSyntaxError(problems)
    return program


def nearest(name: str, known: Iterable[str]) -> str:
    """A remedy that names the closest known predicate, or how to declare this one."""
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"declare it with '.decl {name}(...)' or correct the name"


_TOKEN = re.compile(
    r"""(?P<skip>\s+|[%\#][^\n]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<directive>(?<!\S)\.[a-z]+(?=\s))
      | (?P<symbol>:-|!=|[(),.:=])
      | (?P<number>-?[0-9]+(?:\.[0-9]+)?)
      | (?P<variable>\?[A-Za-z0-9_]*|[A-Z_][A-Za-z0-9_]*)
      | (?P<name>[a-z][A-Za-z0-9_]*(?:-[A-Za-z0-9_]+)*)""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class _Clause:
    label: str
    head: Atom
    body: tuple[Atom, ...]
    comparisons: tuple[Comparison, ...]


_Statement: TypeAlias = Declaration | _Clause


class _StatementError(Exception):
    """Leaves one statement; the reader records the problem and goes on with the next."""


class _Reader:
    """Recursive descent over one file. A fault skips to the statement's end, so later faults are found too."""

    def __init__(self, file: str, text: str, problems: list[Problem]) -> None:
        self.file = file
        self.problems = problems
        self.tokens = list(self._tokens(text))
        self.at = 0
        self.anonymous = 0

    def statements(self) -> Iterator[_Statement]:
        while self._peek().kind != "end":
            start = self.at
            try:
                yield self._declaration() if self._peek().kind == "directive" else self._clause()
            except _StatementError:
                self._skip_statement(start)

    def _tokens(self, text: str) -> Iterator[_Token]:
        position, line, line_start = 0, 1, 0
        while position < len(text):
            column = position - line_start + 1
            match = _TOKEN.match(text, position)
            if match is None:
                remedy = "close the string on its line" if text[position] == '"' else "remove it or quote it"
                if text[position] == "!":
                    remedy = "negation is not supported; state the opposite as a predicate of its own"
                self._report(line, column, f"unexpected character {text[position]!r}", remedy)
                position += 1
                continue
            kind = match.lastgroup or "skip"
            if kind != "skip":
                yield _Token(kind, match.group(), line, column)
            newlines = match.group().count("\n")
            if newlines:
                line += newlines
                line_start = match.start() + match.group().rindex("\n") + 1
            position = match.end()
        yield _Token("end", "end of file", line, position - line_start + 1)

    def _report(self, line: int, column: int, message: str, remedy: str) -> None:
        self.problems.append(Problem(self.file, line, column, message, remedy))

    def _fail(self, token: _Token, message: str, remedy: str) -> _StatementError:
        self._report(token.line, token.column, message, remedy)
        return _StatementError()

    def _peek(self, ahead: int = 0) -> _Token:
        return self.tokens[min(self.at + ahead, len(self.tokens) - 1)]

    def _next(self) -> _Token:
        token = self._peek()
        self.at += 1
        return token

    def _take(self, text: str) -> bool:
        if self._peek().kind in ("symbol", "directive") and self._peek().text == text:
            self.at += 1
            return True
        return False

    def _expect(self, text: str, where: str) -> None:
        token = self._peek()
        if not self._take(text):
            raise self._fail(token, f"found {token.text!r} where {text!r} belongs", f"put {text!r} {where}")

    def _name(self, what: str) -> _Token:
        token = self._next()
        if token.kind != "name":
            self.at -= 1
            raise self._fail(
                token, f"found {token.text!r} where {what} belongs", "names start with a lower-case letter"
            )
        return token

    def _skip_statement(self, start: int) -> None:
        self.at = max(self.at, start + 1)
        first_line = self.tokens[start].line
        while (token := self._peek()).kind != "end":
            # A directive ends with its line; anything else ends with its full stop.
            if token.kind == "directive" or (self.tokens[start].kind == "directive" and token.line > first_line):
                return
            self.at += 1
            if token.text == "." and token.kind == "symbol":
                return

    def _declaration(self) -> Declaration:
        directive = self._next()
        if directive.text != ".decl":
            raise self._fail(
                directive, f"unknown directive {directive.text!r}", "only '.decl name(argument, ...)' exists"
            )
        name = self._name("a predicate")
        self._expect("(", f"after {name.text!r}")
        names, types = [], []
        while True:
            names.append(self._name("an argument name").text)
            types.append(self._name("a type").text if self._take(":") else "")
            if not self._take(","):
                break
        self._expect(")", "after the arguments")
        self._take(".")
        return Declaration(name.text, tuple(names), tuple(types), (self.file, name.line, name.column))

    def _clause(self) -> _Clause:
        label = ""
        if self._peek().kind == "name" and self._peek(1).text == ":":
            label = self._next().text
            self.at += 1
        head = self._atom()
        body: list[Atom] = []
        comparisons: list[Comparison] = []
        if self._take(":-"):
            while True:
                literal = self._literal()
                if isinstance(literal, Atom):
                    body.append(literal)
                else:
                    comparisons.append(literal)
                if not self._take(","):
                    break
        self._expect(".", "at the end of the statement")
        return _Clause(label, head, tuple(body), tuple(comparisons))

    def _literal(self) -> Atom | Comparison:
        token = self._peek()
        if token.kind == "name" and token.text == "not":
            raise self._fail(token, "negation is not supported", "state the opposite as a predicate of its own")
        if token.kind == "name" and self._peek(1).text == "(":
            return self._atom()
        left = self._term()
        operator = self._next()
        if operator.text not in ("=", "!="):
            self.at -= 1
            raise self._fail(
                operator, f"found {operator.text!r} after a term", "write 'name(...)', 'A = B' or 'A != B'"
            )
        return Comparison(cast(Operator, operator.text), left, self._term(), (self.file, token.line, token.column))

    def _atom(self) -> Atom:
        name = self._name("a predicate")
        self._expect("(", f"after {name.text!r}")
        terms = [self._term()]
        while self._take(","):
            terms.append(self._term())
        self._expect(")", f"after the arguments of {name.text!r}")
        return Atom(name.text, tuple(terms), (self.file, name.line, name.column))

    def _term(self) -> Term:
        token = self._next()
        if token.kind == "variable":
            if token.text in ("_", "?"):
                self.anonymous += 1
                return Variable(f"_{self.anonymous}")
            return Variable(token.text)
        if token.kind == "string":
            return re.sub(r"\\(.)", r"\1", token.text[1:-1])
        if token.kind in ("name", "number"):
            return token.text
        self.at -= 1
        raise self._fail(token, f"found {token.text!r} where a term belongs", "write a variable, a name or a string")


def _check(statements: Sequence[_Statement], problems: list[Problem]) -> Program:
    declarations: dict[str, Declaration] = {}
    for statement in statements:
        if isinstance(statement, Declaration):
            first = declarations.setdefault(statement.predicate, statement)
            if first != statement:
                where = ":".join(map(str, first.place[:2]))
                message = f"{statement.predicate!r} is declared differently at {where}"
                problems.append(Problem(*statement.place, message, "keep one declaration"))
    rules: list[Rule] = []
    facts: list[tuple[Fact, str]] = []
    labels: dict[str, str] = {}
    for clause in statements:
        if isinstance(clause, Declaration):
            continue
        found = [*_undeclared(clause, declarations), *_unsafe(clause)]
        file, line, column = clause.head.place
        where = f"{file}:{line}"
        label = clause.label or where
        # Unlabelled facts on one line share a place, which is no ambiguity: a fact's proof shows its source.
        if clause.label and labels.setdefault(label, where) != where:
            found.append(
                Problem(file, line, column, f"label {label!r} is used at {labels[label]}", "name each rule once")
            )
        problems.extend(found)
        if found:
            continue
        if clause.body:
            rules.append(Rule(label, clause.head, clause.body, clause.comparisons))
        else:
            facts.append((Fact(clause.head.predicate, tuple(map(str, clause.head.terms))), where))
    return Program(declarations, tuple(rules), tuple(facts))


def _undeclared(clause: _Clause, declarations: dict[str, Declaration]) -> Iterator[Problem]:
    typed: dict[Variable, tuple[str, str]] = {}
    for atom in (clause.head, *clause.body):
        declaration = declarations.get(atom.predicate)
        if declaration is None:
            message = f"predicate {atom.predicate!r} is not declared"
            yield Problem(*atom.place, message, nearest(atom.predicate, declarations))
            continue
        wanted = len(declaration.names)
        if len(atom.terms) != wanted:
            signature = f"{atom.predicate}({', '.join(declaration.names)})"
            message = f"{atom.predicate!r} has {len(atom.terms)} arguments, declared with {wanted}"
            yield Problem(*atom.place, message, f"write {signature}")
            continue
        for term, name, kind in zip(atom.terms, declaration.names, declaration.types, strict=True):
            if not isinstance(term, Variable) or not kind:
                continue
            other, where = typed.setdefault(term, (kind, f"{name} of {atom.predicate}"))
            if other != kind:
                message = f"{term} is a {other} ({where}) and a {kind} ({name} of {atom.predicate})"
                yield Problem(*atom.place, message, "use two variables or correct the declaration")


def _unsafe(clause: _Clause) -> Iterator[Problem]:
    bound = {term for atom in clause.body for term in atom.terms if isinstance(term, Variable)}
    equalities = [c for c in clause.comparisons if c.operator == "="]
    for _ in equalities:
        for equality in equalities:
            sides = (equality.left, equality.right)
            if any(not isinstance(side, Variable) or side in bound for side in sides):
                bound.update(side for side in sides if isinstance(side, Variable))
    remedy = "use it in a body predicate" if clause.body else "a fact holds constants only; quote a capitalised name"
    for term in dict.fromkeys(clause.head.terms):
        if isinstance(term, Variable) and term not in bound:
            yield Problem(*clause.head.place, f"variable {term} of the head is bound by nothing", remedy)
    for comparison in clause.comparisons:
        for side in dict.fromkeys((comparison.left, comparison.right)):
            if isinstance(side, Variable) and side not in bound:
                yield Problem(*comparison.place, f"variable {side} of '{comparison}' is bound by nothing", remedy)
    if clause.comparisons and not clause.body:
        yield Problem(*clause.head.place, "a rule needs a predicate in its body", "write the fact itself instead")
