r"""Tab-separated triples: ``a<TAB>relation<TAB>b`` states relation(a, b); kind, source and probability may follow.

Quotes mean nothing. As in PostgreSQL's text format a backslash escapes what would break a line: ``\t``, ``\n``, ``\r``,
``\\``; ``\#`` is a ``#`` at the start of a line, which otherwise makes it a comment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from graph.errors import OntologyError
from graph.exchange.statement import BadRow, Faults, Statement, statement

_HEADER: Final = "# a\trelation\tb\tkind\tsource\tprobability\n"
_PLAIN: Final = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\", "#": "#"}
_ESCAPED: Final = str.maketrans({"\t": r"\t", "\n": r"\n", "\r": r"\r", "\\": r"\\"})


def read(path: Path) -> list[Statement]:
    faults = Faults(path)
    found = []
    # Only \n ends a line: names may hold what else Unicode counts as one.
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            text = line.removesuffix("\n").removesuffix("\r")
            if not text or text.startswith("#"):
                continue
            try:
                found.append(_row(text, f"{path.name}:{number}"))
            except BadRow as fault:
                faults.add(number, fault)
    faults.check()
    return found


def write(path: Path, statements: Sequence[Statement]) -> None:
    # All are looked at before the file is opened: a refused one leaves what the file held.
    for each in statements:
        if len(each.fact.args) != 2:
            raise OntologyError(
                f"{path}: {each.fact} has {len(each.fact.args)} arguments and a triple holds two; write csv or json"
            )
        if not all(each.fact.args):
            raise OntologyError(f"{path}: {each.fact} has an empty name, which tsv cannot hold; write json")
    with path.open("w", encoding="utf-8", newline="\n") as file:
        # A comment first: a name that begins with U+FEFF could not be told from a byte order mark.
        file.write(_HEADER)
        for each in statements:
            first, second = each.fact.args
            probability = "" if each.probability is None else repr(each.probability)
            cells = (first, each.fact.predicate, second, each.kind, each.source, probability)
            line = "\t".join(cell.translate(_ESCAPED) for cell in cells)
            file.write(f"\\{line}\n" if line.startswith("#") else f"{line}\n")


def _row(text: str, place: str) -> Statement:
    cells = [_unescaped(cell) for cell in text.split("\t")]
    if not 3 <= len(cells) <= 6 or not all(cells[:3]):
        raise BadRow(f"{cells} is not a triple; write 'a<TAB>relation<TAB>b' (kind, source, probability may follow)")
    first, predicate, second, *more = cells
    kind, source, probability = [*more, "", "", ""][:3]
    return statement(predicate, (first, second), kind, source or place, probability)


def _unescaped(cell: str) -> str:
    if "\\" not in cell:
        return cell

    def plain(match: re.Match[str]) -> str:
        if match[1] not in _PLAIN:
            raise BadRow(f"{match[0]!r} in {cell!r} is no escape; write '\\\\' for a backslash")
        return _PLAIN[match[1]]

    return re.sub(r"\\(.?)", plain, cell, flags=re.DOTALL)
