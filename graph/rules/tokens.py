"""Text of rules to tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<skip>\s+|[%\#][^\n]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<directive>(?<!\S)\.[a-z]+(?=\s|$))
      | (?P<foreign>==|<>|=<|=>|<-(?![0-9])|->|\\\+|&&|\|\||!(?!=)|[;&|])
      | (?P<symbol>:-|!=|<=|>=|[(),.:=<>{}])
      | (?P<number>-?[0-9]+(?:\.[0-9]+)?)
      | (?P<variable>\?[A-Za-z0-9_]*|[A-Z_][A-Za-z0-9_]*)
      | (?P<name>[a-z][A-Za-z0-9_]*(?:-[A-Za-z0-9_]+)*(?:\.[a-z][A-Za-z0-9_]*(?:-[A-Za-z0-9_]+)*)*)""",
    re.VERBOSE,
)
# Tokens of kind ``foreign``: what other rule languages write, and what this one writes for it.
FOREIGN = {
    "==": "write '='",
    "<>": "write '!='",
    "=<": "write '<='",
    "=>": "write '>=' to compare, ':-' between head and body",
    "<-": "write ':-' between head and body",
    "->": "write the conclusion first: 'head :- body.'",
    ";": "write one rule for each alternative",
    "|": "write one rule for each alternative",
    "||": "write one rule for each alternative",
    "&": "write ',' between literals",
    "&&": "write ',' between literals",
    "!": "write 'not name(...)' to negate, '!=' to compare",
    "\\+": "write 'not name(...)'",
}


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of text; ``kind`` is a group of the pattern above or ``end``. ``line`` and ``column`` count from 1."""

    kind: str
    text: str
    line: int
    column: int


def tokenize(text: str, report: Callable[[int, int, str, str], None]) -> Iterator[Token]:
    """Every token, then one of kind ``end``. What is none goes to ``report(line, column, message, remedy)``."""
    position, line, line_start = 0, 1, 0
    while position < len(text):
        column = position - line_start + 1
        match = _TOKEN.match(text, position)
        if match is None:
            remedy = "close the string on its line" if text[position] == '"' else "remove it or quote it"
            report(line, column, f"unexpected character {text[position]!r}", remedy)
            position += 1
            continue
        kind, found = match.lastgroup, match.group()
        if kind and kind != "skip":
            yield Token(kind, found, line, column)
        if "\n" in found:
            line += found.count("\n")
            line_start = match.start() + found.rindex("\n") + 1
        position = match.end()
    yield Token("end", "end of file", line, position - line_start + 1)
