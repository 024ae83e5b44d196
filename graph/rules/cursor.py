"""A place in a file's tokens: what the reader of the grammar moves along, and how it reports what it misses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from graph.errors import Problem
from graph.rules.syntax import Place
from graph.rules.tokens import FOREIGN, Token, tokenize

_Found = TypeVar("_Found")


class StatementError(Exception):
    """Leaves one statement; the problem is recorded, and reading goes on with the next."""


class Cursor:
    """The tokens of one file from ``at`` on. Problems go to a list that all files share."""

    def __init__(self, file: str, text: str, problems: list[Problem]) -> None:
        self.file = file
        self.problems = problems
        self.tokens = list(tokenize(text, self.report))
        self.at = 0
        # Where a character could not be read, whatever else is missing on the line is probably that.
        self._unread = {problem.line for problem in problems if problem.file == file}

    def report(self, line: int, column: int, message: str, remedy: str) -> None:
        """Records a problem of this file."""
        self.problems.append(Problem(self.file, line, column, message, remedy))

    def fail(self, token: Token, message: str, remedy: str) -> StatementError:
        """Records what is wrong at the token; for the caller to raise."""
        if token.kind == "foreign":
            message, remedy = f"{token.text!r} is not of this language", FOREIGN[token.text]
        if token.line not in self._unread:
            self.report(token.line, token.column, message, remedy)
        return StatementError()

    def place(self, token: Token) -> Place:
        """Where the token stands."""
        return self.file, token.line, token.column

    def peek(self, ahead: int = 0) -> Token:
        """The next token, or one further on; past the last one it is the file's end."""
        return self.tokens[min(self.at + ahead, len(self.tokens) - 1)]

    def next(self) -> Token:
        """The next token, moving past it."""
        token = self.peek()
        self.at += 1
        return token

    def is_symbol(self, text: str, ahead: int = 0) -> bool:
        """Whether that token is this symbol."""
        token = self.peek(ahead)
        return token.kind == "symbol" and token.text == text

    def take(self, text: str) -> bool:
        """Moves past the symbol if it is next; whether it was."""
        found = self.is_symbol(text)
        self.at += found
        return found

    def expect(self, text: str, where: str) -> None:
        """Moves past the symbol. Raises StatementError where it is not next; ``where`` says where it belongs."""
        if not self.take(text):
            raise self.fail(self.peek(), f"found {self.peek().text!r} where {text!r} belongs", f"put {text!r} {where}")

    def name(self, what: str) -> Token:
        """Moves past a name, which stands for ``what``. Raises StatementError where none is next."""
        token = self.peek()
        if token.kind != "name":
            message = f"found {token.text!r} where {what} belongs"
            raise self.fail(token, message, "names start with a lower-case letter")
        self.at += 1
        return token

    def plain_name(self, what: str) -> Token:
        """As ``name``, but not a qualified one."""
        token = self.name(what)
        if "." in token.text:
            raise self.fail(token, f"{token.text!r} is qualified and {what} never is", "drop all up to the last '.'")
        return token

    def separated(self, read: Callable[[], _Found]) -> list[_Found]:
        """One or more of what ``read`` reads, between commas."""
        found = [read()]
        while self.take(","):
            found.append(read())
        return found
