"""Facts as parquet: columns ``predicate``, ``args`` (list of text), ``kind``, ``source`` and ``probability``.

Only the first two are needed. A file of triples with ``subject``, ``predicate`` and ``object`` reads as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from graph.errors import OntologyError
from graph.exchange.statement import BadRow, Faults, Statement, statement

_SCHEMA: Final[dict[str, Any]] = {
    "predicate": pl.String,
    "args": pl.List(pl.String),
    "kind": pl.String,
    "source": pl.String,
    "probability": pl.Float64,
}
_TRIPLE: Final = ("subject", "object")


def read(path: Path) -> list[Statement]:
    frame = _frame(path)
    faults = Faults(path)
    found = []
    for number, row in enumerate(frame.iter_rows(named=True)):
        try:
            place = f"{path.name}: row {number}"
            args = row["args"]
            if args is None:
                raise BadRow(f"{row} is not a fact; write a predicate and its arguments")
            found.append(statement(row["predicate"], args, row["kind"], row["source"] or place, row["probability"]))
        except BadRow as fault:
            faults.add(f" row {number}", fault)
    faults.check()
    return found


def write(path: Path, statements: Sequence[Statement]) -> None:
    columns = {
        "predicate": [each.fact.predicate for each in statements],
        "args": [list(each.fact.args) for each in statements],
        "kind": [each.kind for each in statements],
        "source": [each.source for each in statements],
        "probability": [each.probability for each in statements],
    }
    pl.DataFrame(columns, schema=_SCHEMA).write_parquet(path)


def _frame(path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise OntologyError(f"{path} cannot be read as parquet ({error}); write it again") from error
    if set(_TRIPLE) <= set(frame.columns) and "args" not in frame.columns:
        frame = frame.with_columns(args=pl.concat_list(*_TRIPLE))
    missing = [name for name in ("predicate", "args") if name not in frame.columns]
    if missing:
        raise OntologyError(
            f"{path} has no column {missing[0]!r} (its columns: {', '.join(frame.columns)}); "
            "give predicate and args, or subject, predicate and object"
        )
    for name, dtype in _SCHEMA.items():
        if name not in frame.columns:
            frame = frame.with_columns(pl.lit(None, dtype).alias(name))
        elif frame.schema[name] not in (dtype, pl.Null, pl.Float32 if name == "probability" else dtype):
            raise OntologyError(f"{path}: column {name!r} is {frame.schema[name]}, not {dtype}; convert it")
    return frame.select(*_SCHEMA)
