"""Which module reads and writes which file."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

from graph.errors import OntologyError
from graph.exchange.statement import Kind, Statement

FORMATS: Final = {
    "tsv": "graph.exchange.triples",
    "csv": "graph.exchange.table",
    "parquet": "graph.exchange.parquet",
    "ttl": "graph.exchange.turtle",
    "json": "graph.exchange.json",
}
"""The module of each format: ``read(path) -> list[Statement]`` and ``write(path, statements)``."""


def read(path: Path, form: str = "") -> list[Statement]:
    """Every statement of the file in its order; one without a source has its place in the file as the source.

    ``form``: one of FORMATS where the file's name does not tell. Raises OntologyError naming file, line, value and
    remedy of every row that states no fact.
    """
    try:
        return list(_module(path, form).read(path))
    except (OSError, UnicodeError) as error:
        raise OntologyError(f"{path} cannot be read ({error}); give a readable file in UTF-8") from error


def write(path: Path, statements: Iterable[Statement], form: str = "") -> None:
    """Write the statements in their order. Raises OntologyError where the format cannot hold one, or the disk fails."""
    try:
        _module(path, form).write(path, list(statements))
    except (OSError, UnicodeError) as error:
        raise OntologyError(f"{path} cannot be written ({error}); check the folder, the disk and the names") from error


def importable(
    statements: Sequence[Statement], kinds: Sequence[Kind] = ("asserted", "predicted")
) -> tuple[list[Statement], int]:
    """The statements that a graph should be told, and how many were left out.

    A derived fact follows from the others where it still holds; told as asserted it would outlive its reasons.
    """
    taken = [each for each in statements if each.kind in kinds]
    return taken, len(statements) - len(taken)


def format_of(path: Path, form: str = "") -> str:
    """The format of the name's ending, or ``form``. Raises OntologyError for one that there is not."""
    name = form or path.suffix.removeprefix(".").lower()
    if name not in FORMATS:
        raise OntologyError(f"{path}: there is no format {name!r} of facts; use one of {', '.join(FORMATS)}")
    return name


def _module(path: Path, form: str) -> ModuleType:
    return importlib.import_module(FORMATS[format_of(path, form)])
