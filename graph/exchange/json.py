"""Facts as one JSON object, ``{"facts": [{"predicate": ..., "args": [...], "kind": ..., ...}]}``; a fact a line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from graph.errors import OntologyError
from graph.exchange.statement import BadRow, Faults, Statement, statement

_KEYS: Final = ("predicate", "args", "kind", "source", "probability")


def read(path: Path) -> list[Statement]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise OntologyError(f"{path} is no JSON ({error}); correct it there") from error
    rows = content.get("facts") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise OntologyError(f'{path} holds no facts; write {{"facts": [{{"predicate": "p", "args": ["a"]}}]}}')
    faults = Faults(path)
    found = []
    for number, row in enumerate(rows):
        try:
            found.append(_row(row, f"{path.name}: facts[{number}]"))
        except BadRow as fault:
            faults.add(f" facts[{number}]", fault)
    faults.check()
    return found


def write(path: Path, statements: Sequence[Statement]) -> None:
    rows = ",\n".join(json.dumps(as_json(each), ensure_ascii=False) for each in statements)
    path.write_text(f'{{"facts": [\n{rows}\n]}}\n', encoding="utf-8", newline="\n")


def as_json(each: Statement) -> dict[str, Any]:
    """The statement as an object of the file; ``probability`` is there for predictions only."""
    row: dict[str, Any] = {
        "predicate": each.fact.predicate,
        "args": list(each.fact.args),
        "kind": each.kind,
        "source": each.source,
    }
    return row if each.probability is None else {**row, "probability": each.probability}


def _row(row: object, place: str) -> Statement:
    if not isinstance(row, dict) or not isinstance(row.get("args"), list):
        raise BadRow(f'{row!r} is not a fact; write {{"predicate": "p", "args": ["a", "b"]}}')
    unknown = [key for key in row if key not in _KEYS]
    if unknown:
        raise BadRow(f"{unknown[0]!r} is unknown; a fact has {', '.join(_KEYS)}")
    return statement(
        row.get("predicate"), row["args"], row.get("kind", ""), row.get("source") or place, row.get("probability")
    )
