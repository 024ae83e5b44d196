"""Facts as they are told, one by one or by columns, gathered by predicate for an update."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graph.engine import kernel as k
from graph.engine.store import Store
from graph.errors import NotANumber, OntologyError, UnknownPredicate, UnknownValue
from graph.ports import Fact
from graph.rules.names import nearest
from graph.rules.syntax import is_predicted, predicted
from graph.rules.typecheck import NUMBER, mistyped

if TYPE_CHECKING:
    import polars as pl

    from graph.engine.update import Update

Column: TypeAlias = "Sequence[str] | pl.Series | NDArray[Any]"
_NONE: k.Words = np.empty((0, 0), np.int32)


@dataclass(frozen=True, slots=True)
class Table:
    """Facts of one predicate by columns of one length: texts, or integers that are places in ``names`` of a build.

    ``probabilities`` makes them predictions. Rows may repeat. ``source`` says who told them.
    """

    predicate: str
    columns: tuple[Column, ...]
    source: str = "asserted"
    probabilities: Sequence[float] | None = None


@dataclass(slots=True)
class Told:
    """Facts waiting to be told: by predicate, arguments [n, arity], sources [n] and probabilities as words [n, 2]."""

    store: Store
    parts: list[tuple[int, k.Words, k.Words, k.Words]] = field(default_factory=list)

    def tell(self, update: Update) -> None:
        """Hands all of them to an update of the store."""
        for predicate, args, why, probabilities in self.parts:
            update.tell(predicate, args, why, premises=probabilities)


def add_facts(told: Told, facts: Iterable[tuple[Fact, str]]) -> None:
    """Adds facts with their sources, in sorted order: it decides between proofs of one height.

    Raises UnknownPredicate, NotANumber, UnknownValue, and OntologyError for an argument that is no text.
    """
    # Plain tuples: a comparison of facts is a call of Python's.
    rows = sorted({(fact.predicate, fact.args, source) for fact, source in facts})
    for predicate, alike in groupby(rows, itemgetter(0)):
        _, args, sources = zip(*alike)
        if is_predicted(predicate):
            fact = Fact(predicate, args[0])
            raise OntologyError(f"{fact} is a prediction without a probability; give it among the predicted facts")
        _add_alike(told, predicate, args, sources, None)


def add_predicted(told: Told, facts: Iterable[tuple[Fact, float]], source: str) -> None:
    """Adds predictions of facts; errors as ``add_facts``. OntologyError for a probability outside 0 … 1."""
    rows = sorted({(predicted(fact.predicate.removeprefix("~")), fact.args, chance) for fact, chance in facts})
    for predicate, alike in groupby(rows, itemgetter(0)):
        _, args, probabilities = zip(*alike)
        _add_alike(told, predicate, args, (source,) * len(args), probabilities)


def add_table(told: Told, table: Table, codes: k.Words) -> None:
    """Adds a table; ``codes`` are the ids of the names its integers point to. Errors as ``build``."""
    name = predicted(table.predicate) if table.probabilities is not None else table.predicate
    predicate = _predicate(told.store, name, len(table.columns))
    sizes = {len(column) for column in table.columns}
    if table.probabilities is not None:
        sizes.add(len(table.probabilities))
    if len(sizes) != 1:
        raise OntologyError(f"columns of {table.predicate!r} have {sorted(sizes)} rows; give columns of one length")
    args = np.empty((*sizes, len(table.columns)), np.int32)
    for position, column in enumerate(table.columns):
        args[:, position] = _ids(told.store, column, codes, table.predicate)
    _check_types(told.store, predicate, args)
    why = np.full(len(args), -1 - told.store.source_id(table.source), np.int32)
    told.parts.append((predicate, args, why, _words(table.probabilities, name)))


def _add_alike(
    told: Told,
    name: str,
    args: Sequence[tuple[str, ...]],
    sources: Sequence[str],
    probabilities: Sequence[float] | None,
) -> None:
    """Adds facts of one predicate."""
    for some in {len(each): each for each in args}.values():
        predicate = check_fact(told.store, Fact(name, some))
    symbols, source_id = told.store.symbols, told.store.source_id
    texts = list(chain.from_iterable(args))
    try:
        known = symbols.get(texts)
        found = [symbols.add(text) if symbol < 0 else symbol for text, symbol in zip(texts, known)]
    except TypeError as error:
        raise OntologyError(f"a fact of {name!r} holds {error}; give texts") from error
    ids = np.array(found, np.int32).reshape(len(args), told.store.compiled.arities[predicate])
    _check_types(told.store, predicate, ids)
    why = np.array([-1 - source_id(source) for source in sources], np.int32)
    told.parts.append((predicate, ids, why, _words(probabilities, name)))


def check_fact(store: Store, fact: Fact) -> int:
    """The number of the fact's predicate. Raises UnknownPredicate with the nearest name or the right arguments."""
    compiled = store.compiled
    number = compiled.visible.get(fact.predicate)
    if number is None:
        remedy = nearest(fact.predicate, compiled.program.declarations)
        raise UnknownPredicate(f"{fact}: predicate {fact.predicate!r} is not declared; {remedy}")
    if compiled.arities[number] != len(fact.args):
        raise UnknownPredicate(f"{fact} has {len(fact.args)} arguments; write {_signature(store, fact.predicate)}")
    return number


def _signature(store: Store, predicate: str) -> str:
    declaration = store.compiled.program.declarations[predicate.removeprefix("~")]
    return f"{predicate}({', '.join(declaration.names)})"


def _predicate(store: Store, name: str, columns: int) -> int:
    number = store.compiled.visible.get(name)
    if number is None:
        raise UnknownPredicate(
            f"predicate {name!r} is not declared; {nearest(name, store.compiled.program.declarations)}"
        )
    if store.compiled.arities[number] != columns:
        raise UnknownPredicate(f"a table of {name!r} has {columns} columns; give {_signature(store, name)}")
    return number


def _ids(store: Store, column: Column, codes: k.Words, predicate: str) -> k.Words:
    if not isinstance(column, (Sequence, np.ndarray)):
        column = column.to_numpy() if column.dtype.is_integer() else column.to_list()
    if isinstance(column, np.ndarray) and column.ndim != 1:
        raise OntologyError(f"a column of {predicate!r} has the shape {column.shape}; give one value for each row")
    if isinstance(column, np.ndarray) and np.issubdtype(column.dtype, np.integer):
        if len(column) and not 0 <= int(column.min()) <= int(column.max()) < len(codes):
            raise OntologyError(
                f"a column of {predicate!r} holds places {int(column.min())} to {int(column.max())} of "
                f"{len(codes)} names; give the names with the tables"
            )
        return codes[column]
    texts = column.tolist() if isinstance(column, np.ndarray) else column
    try:
        return store.symbols.add_all(texts)
    except TypeError as error:
        raise OntologyError(f"a column of {predicate!r} holds {error}; give texts without gaps") from error


def _check_types(store: Store, predicate: int, args: k.Words) -> None:
    """Each distinct value of a closed type once. Raises NotANumber and UnknownValue."""
    name, program = store.compiled.names[predicate], store.compiled.program
    declaration = program.declarations[name.removeprefix("~")]
    for position, kind in enumerate(declaration.types):
        if kind != NUMBER and kind not in program.types:
            continue
        for value in map(store.symbols.name, np.unique(args[:, position]).tolist()):
            if fault := mistyped(kind, value, program.types):
                error = NotANumber if kind == NUMBER else UnknownValue
                raise error(f"{declaration.names[position]} of {name}: {fault[0]}; {fault[1]}")


def _words(probabilities: Sequence[float] | None, name: str) -> k.Words:
    """Each probability as the two words its record keeps."""
    if probabilities is None:
        return _NONE
    values = np.ascontiguousarray(probabilities, np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        wrong = values[~((values >= 0) & (values <= 1))][0]
        raise OntologyError(
            f"probability {wrong:g} of a fact of {name!r} is not in 0 … 1; give a calibrated probability"
        )
    return values.view(np.int32).reshape(-1, 2)
