"""Text of rules to a program, with every fault of every file reported at once. LANGUAGE.md describes the language."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast, get_args

from graph.errors import Problem, RuleSyntaxError
from graph.rules.check import check
from graph.rules.cursor import Cursor, StatementError
from graph.rules.names import did_you_mean, nearest
from graph.rules.statements import Clause, Source, TypeStatement
from graph.rules.syntax import (
    Aggregate,
    Atom,
    Comparison,
    Declaration,
    Function,
    Operator,
    Program,
    Rule,
    Term,
    Variable,
    predicted,
)
from graph.rules.tokens import Token

__all__ = ["Body", "nearest", "parse", "parse_all", "parse_atom", "read_body"]


def parse(text: str, file: str = "<rules>") -> Program:
    """One text of rules. Raises RuleSyntaxError with every problem found."""
    return parse_all([(file, text)])


def parse_all(sources: Iterable[tuple[str, str]]) -> Program:
    """Several ``(file name, text)`` read as one program. Raises RuleSyntaxError with every problem of every file."""
    problems: list[Problem] = []
    read = [_Reader(file, text, problems).source() for file, text in sources]
    program = check(read, problems)
    if problems:
        raise RuleSyntaxError(problems)
    return program


def parse_atom(text: str, file: str = "<fact>") -> Atom:
    """One atom and nothing else; whether its names are declared is not checked. Raises RuleSyntaxError."""
    problems: list[Problem] = []
    atom = _Reader(file, text, problems).lone_atom()
    if atom is None or problems:
        raise RuleSyntaxError(problems)
    return atom


@dataclass(frozen=True, slots=True)
class Body:
    """Literals as the body of a rule that has no head yet, and the tokens they are written in."""

    rule: Rule
    tokens: list[Token]


def read_body(text: str, file: str, problems: list[Problem]) -> Body | None:
    """Literals and nothing else; names and types are not checked. Faults go to ``problems``; None where one is met."""
    reader = _Reader(file, text, problems)
    rule = reader.lone_body()
    return None if rule is None else Body(rule, reader.tokens)


_OPERATORS = frozenset(get_args(Operator))
_FUNCTIONS = frozenset(get_args(Function))
_DIRECTIVES = {".decl": "predicate", ".constraint": "predicate", ".type": "type", ".namespace": "namespace"}
_KEYWORDS = frozenset({"not", "predicted"})


@dataclass(frozen=True, slots=True)
class _Not:
    atom: Atom


class _Reader(Cursor):
    """Recursive descent over one file. A fault skips to the statement's end, so later faults are found too."""

    def __init__(self, file: str, text: str, problems: list[Problem]) -> None:
        super().__init__(file, text, problems)
        self.read = Source(file)
        self.start = 0
        self.anonymous = 0

    def source(self) -> Source:
        while self.peek().kind != "end":
            self.start = self.at
            self.anonymous = 0
            try:
                if self.peek().kind == "directive":
                    self._directive()
                else:
                    self.read.clauses.append(self._clause())
            except StatementError:
                self._skip_statement()
        return self.read

    def lone_atom(self) -> Atom | None:
        """The text's only atom, or None where a fault was reported."""
        try:
            atom = self._atom()
            self.take(".")
            if (token := self.peek()).kind != "end":
                raise self.fail(token, f"found {token.text!r} after the fact", "write one; quote names with blanks")
        except StatementError:
            return None
        return atom

    def lone_body(self) -> Rule | None:
        """The text's literals as a rule, or None where a fault was reported."""
        try:
            literals = self.separated(self._literal)
            self.take(".")
            if (token := self.peek()).kind != "end":
                raise self.fail(token, f"found {token.text!r} after a literal", "put ',' between literals")
        except StatementError:
            return None
        return _rule("", Atom("", (), (self.file, 1, 1)), literals)

    def _skip_statement(self) -> None:
        """On to the next statement: a directive ends with its line, anything else with its full stop."""
        failed, start = self.peek(), self.tokens[self.start]
        if start.kind == "directive":
            # What a directive took from a later line is more likely the next statement than its own.
            resume = max(failed.line, start.line + 1)
            self.at = self.start + 1
            while self.peek().line < resume and self.peek().kind not in ("end", "directive"):
                self.at += 1
            return
        self.at = max(self.at, self.start + 1)
        while (token := self.peek()).kind not in ("end", "directive"):
            self.at += 1
            if token.kind == "symbol" and token.text == ".":
                return

    # --- directives --------------------------------------------------------------------------------------------------

    def _directive(self) -> None:
        directive = self.next()
        what = _DIRECTIVES.get(directive.text)
        if what is None:
            remedy = did_you_mean(directive.text, _DIRECTIVES) or f"the directives are {', '.join(_DIRECTIVES)}"
            raise self.fail(directive, f"unknown directive {directive.text!r}", remedy)
        name = self.name(f"a {what}") if what == "predicate" else self.plain_name(f"a {what}")
        self.read.broken.add(name.text)
        if what == "namespace":
            self._namespace(directive, name)
        elif what == "type":
            self._type(name)
        else:
            self._declaration(name, directive.text == ".constraint")
        self.take(".")
        self.read.broken.discard(name.text)

    def _namespace(self, directive: Token, name: Token) -> None:
        if self.start:
            raise self.fail(directive, "'.namespace' stands after another statement", "make it the file's first")
        self.read.namespace = name.text

    def _type(self, name: Token) -> None:
        self.expect("=", f"after {name.text!r}, then the type's values")
        if name.text == "number":
            raise self.fail(name, "'number' is the type of decimal numbers", "give the type another name")
        values = self.separated(self._constant)
        self.read.types.append(TypeStatement(name.text, tuple(values), self.place(name)))

    def _declaration(self, name: Token, is_constraint: bool) -> None:
        if name.text in _KEYWORDS:
            raise self.fail(name, f"{name.text!r} is a word of the language", "give the predicate another name")
        self.expect("(", f"after {name.text!r}")
        arguments = self.separated(self._argument)
        self.expect(")", "after the arguments")
        names, types = zip(*arguments)
        self.read.declarations.append(Declaration(name.text, names, types, self.place(name), is_constraint))

    def _argument(self) -> tuple[str, str]:
        name = self.plain_name("an argument name").text
        return name, self.plain_name("a type").text if self.take(":") else ""

    def _constant(self) -> str:
        token = self.peek()
        term = self._term()
        if isinstance(term, Variable):
            raise self.fail(token, f"found {token.text!r} where a value belongs", "quote a capitalised name")
        return term

    # --- rules and facts ---------------------------------------------------------------------------------------------

    def _clause(self) -> Clause:
        label = ""
        if self.peek().kind == "name" and self.is_symbol(":", 1):
            label = self.next().text
            self.at += 1
        head = self._atom()
        message = self._message()
        is_rule = self.take(":-")
        literals = self.separated(self._literal) if is_rule else []
        self.expect(".", "at the end of the statement")
        return Clause(_rule(label, head, literals, message), not is_rule)

    def _message(self) -> str:
        token = self.peek()
        if token.kind != "string":
            return ""
        self.at += 1
        if not (message := _unquoted(token.text)):
            raise self.fail(token, "the message is empty", 'say what is wrong, for example "{P} breaks ..."')
        return message

    def _literal(self) -> Atom | _Not | Comparison | Aggregate:
        token, after = self.peek(), self.peek(1)
        if token.text == "not" and token.kind == "name" and after.text not in _OPERATORS:
            self.at += 1
            return _Not(self._atom())
        if token.kind == "name" and (after.kind == "name" or self.is_symbol("(", 1)):
            return self._atom()
        left = self._term()
        operator = self.peek()
        if operator.text not in _OPERATORS:
            raise self.fail(operator, f"found {operator.text!r} after a term", "write 'name(...)', 'A = B' or 'A < B'")
        self.at += 1
        if isinstance(left, Variable) and operator.text == "=" and self._at_aggregate():
            return self._aggregate(left, token)
        return Comparison(cast(Operator, operator.text), left, self._term(), self.place(token))

    def _at_aggregate(self) -> bool:
        return self.peek().kind == "name" and (self.peek(1).kind == "variable" or self.is_symbol("{", 1))

    def _aggregate(self, result: Variable, place: Token) -> Aggregate:
        function = self.name("a function")
        if function.text not in _FUNCTIONS:
            known = ", ".join(sorted(_FUNCTIONS))
            remedy = did_you_mean(function.text, _FUNCTIONS) or f"the functions are {known}"
            raise self.fail(function, f"unknown aggregate function {function.text!r}", remedy)
        token = self.peek()
        if token.kind != "variable":
            raise self.fail(token, f"found {token.text!r} where a variable belongs", "name what is aggregated")
        self.at += 1
        value = Variable(token.text)
        self.expect("{", f"after {value}, then what holds of it")
        body = self.separated(self._atom)
        self.expect("}", "after the aggregate's predicates; only predicates stand inside")
        return Aggregate(result, cast(Function, function.text), value, tuple(body), self.place(place))

    def _atom(self) -> Atom:
        name = self.name("a predicate")
        is_predicted = name.text == "predicted" and self.peek().kind == "name"
        predicate = self.name("a predicate") if is_predicted else name
        self.expect("(", f"after {predicate.text!r}")
        terms = self.separated(self._term)
        self.expect(")", f"after the arguments of {predicate.text!r}")
        written = predicted(predicate.text) if is_predicted else predicate.text
        return Atom(written, tuple(terms), self.place(name))

    def _term(self) -> Term:
        token = self.peek()
        if token.kind not in ("variable", "string", "number", "name"):
            message = f"found {token.text!r} where a term belongs"
            raise self.fail(token, message, "write a variable, a name, a number or a string")
        if token.kind == "name" and "." in token.text:
            raise self.fail(
                token, f"found {token.text!r} where a term belongs", "quote it, or end the statement before"
            )
        self.at += 1
        if token.kind == "variable":
            return self._fresh() if token.text in ("_", "?") else Variable(token.text)
        return _unquoted(token.text) if token.kind == "string" else token.text

    def _fresh(self) -> Variable:
        """A variable for ``_``, equal to none that the statement names itself."""
        while True:
            self.anonymous += 1
            name = f"_{self.anonymous}"
            if not self._is_named(name):
                return Variable(name)

    def _is_named(self, name: str) -> bool:
        at = self.start
        while at < len(self.tokens) and self.tokens[at].text != ".":
            if self.tokens[at].text == name:
                return True
            at += 1
        return False


def _rule(label: str, head: Atom, literals: Sequence[Atom | _Not | Comparison | Aggregate], message: str = "") -> Rule:
    return Rule(
        label,
        head,
        tuple(one for one in literals if isinstance(one, Atom)),
        tuple(one for one in literals if isinstance(one, Comparison)),
        tuple(one.atom for one in literals if isinstance(one, _Not)),
        tuple(one for one in literals if isinstance(one, Aggregate)),
        message,
    )


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])
