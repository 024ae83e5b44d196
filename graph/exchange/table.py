"""Facts of any number of arguments as CSV (RFC 4180), under a header ``predicate,...``.

A row is a predicate and its arguments; empty cells at its end are none. Columns headed ``@kind``, ``@source`` and
``@probability`` hold those, every other column the next argument, whatever its header. Lines that start with ``#`` are
comments.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from graph.errors import OntologyError
from graph.exchange.statement import BadRow, Faults, Statement, statement

_OWN: Final = ("@kind", "@source", "@probability")


def read(path: Path) -> list[Statement]:
    faults = Faults(path)
    found: list[Statement] = []
    header: list[str] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            for row in reader:
                if not row or row[0].startswith("#"):
                    continue
                if not header:
                    header = _header(path, reader.line_num, row)
                    continue
                try:
                    found.append(_row(row, header, f"{path.name}:{reader.line_num}"))
                except BadRow as fault:
                    faults.add(reader.line_num, fault)
        except csv.Error as error:
            raise OntologyError(f"{path}:{reader.line_num}: {error}; close the quotes, double those inside") from error
    faults.check()
    if not header:
        raise OntologyError(f"{path}: the file is empty; the first line must be a header 'predicate,argument,...'")
    return found


def write(path: Path, statements: Sequence[Statement]) -> None:
    # All are looked at before the file is opened: a refused one leaves what the file held.
    for each in statements:
        if not all(each.fact.args):
            raise OntologyError(f"{path}: {each.fact} has an empty name, which csv cannot hold; write json")
    width = max((len(each.fact.args) for each in statements), default=2)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["predicate", *_OWN, *(f"argument{place + 1}" for place in range(width))])
        for each in statements:
            probability = "" if each.probability is None else repr(each.probability)
            cells = [each.fact.predicate, each.kind, each.source, probability, *each.fact.args]
            writer.writerow([*cells, *[""] * (width - len(each.fact.args))])


def _header(path: Path, line: int, row: list[str]) -> list[str]:
    if row[0].strip() != "predicate":
        raise OntologyError(f"{path}:{line}: {row} is no header; it must be a header 'predicate,argument,...'")
    unknown = [cell for cell in row if cell.startswith("@") and cell not in _OWN]
    if unknown:
        raise OntologyError(f"{path}:{line}: column {unknown[0]!r} is unknown; known are {', '.join(_OWN)}")
    return row


def _row(row: list[str], header: list[str], place: str) -> Statement:
    if len(row) > len(header):
        raise BadRow(f"{row} has {len(row)} cells under {len(header)} columns; quote commas inside a name")
    own = dict.fromkeys(_OWN, "")
    args = []
    for name, cell in zip(header[1:], row[1:]):
        if name in own:
            own[name] = cell
        else:
            args.append(cell)
    while args and not args[-1]:
        args.pop()
    if not row[0] or not args or not all(args):
        raise BadRow(f"{row} is not a fact; write a predicate and its arguments")
    return statement(row[0], args, own["@kind"], own["@source"] or place, own["@probability"])
