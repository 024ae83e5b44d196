"""Properties of many items at once, as bit masks: what a request filters its candidates by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graph.errors import NotDerived, OntologyError
from graph.items import item_facts
from graph.ports import Fact, KnowledgeGraph, Proof

Mask: TypeAlias = NDArray[np.uint64]
_MAX_PROPERTIES = 64


@dataclass(frozen=True, slots=True)
class PropertyTable:
    """What each row contains or serves, may contain, and whether its contents are unknown.

    ``contains`` and ``may_contain`` are uint64[n]: bit i stands for ``names[i]``. ``contains`` holds what is certain
    (contents and purposes), ``may_contain`` all that cannot be ruled out, so it includes ``contains``. ``unknown`` is
    bool[n]. ``version`` is that of the ontology the table was made from.
    """

    names: tuple[str, ...]
    contains: Mask
    may_contain: Mask
    unknown: NDArray[np.bool_]
    version: str

    @classmethod
    def build(
        cls, graph: KnowledgeGraph, rows: Sequence[Mapping[str, str | None]], ids: Sequence[str] | None = None
    ) -> PropertyTable:
        """The table of ``rows`` of item attributes (see items.item_facts), of items that ``graph`` says nothing about.

        With ``ids``, each once, of these items: what ``graph`` says of them counts. Raises OntologyError above 64
        properties.
        """
        names = tuple(fact.args[0] for fact in graph.query(Fact("property", ("?property",))))
        if len(names) > _MAX_PROPERTIES:
            raise OntologyError(
                f"the ontology has {len(names)} properties and a mask holds {_MAX_PROPERTIES}; merge or remove some"
            )
        # No item of a catalog is called so: ids hold no NUL.
        place = {item: i for i, item in enumerate(ids or [f"\0{i}" for i in range(len(rows))])}
        extended = graph.extend(
            (fact for item, row in zip(place, rows, strict=True) for fact in item_facts(graph, item, row)),
            source="catalog",
        )
        certain = _masks(extended, ("contains", "serves"), names, place)
        possible = certain | _masks(extended, ("may_contain",), names, place)
        unknown = np.ones(len(rows), dtype=np.bool_)
        known = (place.get(fact.args[0]) for fact in extended.query(Fact("contents_known", ("?item",))))
        unknown[[row for row in known if row is not None]] = False
        return cls(names, certain, possible, unknown, graph.version)

    @classmethod
    def of_items(cls, graph: KnowledgeGraph, views: Sequence[Mapping[str, str | None]]) -> PropertyTable:
        """The table of many items of which some read alike: derived once per distinct view, then spread over them."""
        distinct: dict[tuple[tuple[str, str | None], ...], int] = {}
        codes = np.array([distinct.setdefault(tuple(sorted(view.items())), len(distinct)) for view in views], np.int64)
        small = cls.build(graph, [dict(view) for view in distinct])
        return replace(
            small,
            contains=small.contains[codes],
            may_contain=small.may_contain[codes],
            unknown=small.unknown[codes],
        )

    def with_items(self, rows: NDArray[np.int64], items: PropertyTable) -> PropertyTable:
        """The table with other or further rows: ``rows`` [m] below n are replaced, those from n on follow without a
        gap; ``items`` [m] are theirs. Raises OntologyError where the two were made from different ontologies.
        """
        if items.version != self.version or items.names != self.names:
            raise OntologyError(f"properties of ontology {items.version} do not fit a table of {self.version}")
        size = max(len(self.unknown), int(rows.max(initial=-1)) + 1)
        contains, possible = np.zeros(size, np.uint64), np.zeros(size, np.uint64)
        unknown = np.ones(size, np.bool_)
        for array, old, new in (
            (contains, self.contains, items.contains),
            (possible, self.may_contain, items.may_contain),
            (unknown, self.unknown, items.unknown),
        ):
            array[: len(old)] = old
            array[rows] = new
        return replace(self, contains=contains, may_contain=possible, unknown=unknown)

    def violates(self, rows: NDArray[np.integer[Any]], avoid: Sequence[str]) -> NDArray[np.bool_]:
        """bool[len(rows)]: the row may contain something of ``avoid``, or nobody knows what it contains.

        Nothing violates an empty ``avoid``. Raises OntologyError for a name that is no property.
        """
        if not avoid:
            return np.zeros(len(rows), dtype=np.bool_)
        return np.asarray(((self.may_contain[rows] & self._bits(avoid)) != 0) | self.unknown[rows])

    def has(self, rows: NDArray[np.integer[Any]], name: str) -> NDArray[np.bool_]:
        """bool[len(rows)]: the row certainly contains or serves the property. Raises OntologyError as ``violates``."""
        return np.asarray((self.contains[rows] & self._bits([name])) != 0)

    def may_have(self, rows: NDArray[np.integer[Any]], name: str) -> NDArray[np.bool_]:
        """bool[len(rows)]: it is known that the row may contain the property. Raises OntologyError as ``violates``."""
        return np.asarray((self.may_contain[rows] & self._bits([name])) != 0)

    def save(self, path: Path) -> None:
        """Writes an ``.npz`` that ``load`` reads without pickle."""
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                names=np.array(self.names, dtype=np.str_),
                contains=self.contains,
                may_contain=self.may_contain,
                unknown=self.unknown,
                version=np.array(self.version),
            )

    @classmethod
    def load(cls, path: Path) -> PropertyTable:
        """Reads what ``save`` wrote. Raises OntologyError where the file is missing or not such a table."""
        try:
            with np.load(path, allow_pickle=False) as saved:
                return cls(
                    tuple(str(name) for name in saved["names"]),
                    saved["contains"].astype(np.uint64),
                    saved["may_contain"].astype(np.uint64),
                    saved["unknown"].astype(np.bool_),
                    str(saved["version"]),
                )
        except (OSError, ValueError, KeyError) as error:
            raise OntologyError(f"{path} is no property table ({error}); build it again") from error

    def _bits(self, names: Sequence[str]) -> np.uint64:
        unknown = sorted(set(names) - set(self.names))
        if unknown:
            raise OntologyError(f"unknown properties {', '.join(unknown)}; known are {', '.join(self.names)}")
        return np.uint64(sum(1 << self.names.index(name) for name in set(names)))


def explain_property(graph: KnowledgeGraph, item_id: str, name: str) -> Proof:
    """Why the item of ``graph`` (an extension by its item_facts) has the property, by the strongest reason there is.

    Raises NotDerived where nothing says so.
    """
    for predicate in ("contains", "serves", "may_contain"):
        fact = Fact(predicate, (item_id, name))
        if graph.holds(fact):
            return graph.prove(fact)
    raise NotDerived(f"nothing says that {item_id} contains, serves or may contain {name}; check the item's facts")


def _masks(graph: KnowledgeGraph, predicates: Sequence[str], names: Sequence[str], place: Mapping[str, int]) -> Mask:
    bit = {name: np.uint64(1 << i) for i, name in enumerate(names)}
    masks = np.zeros(len(place), dtype=np.uint64)
    for predicate in predicates:
        for fact in graph.query(Fact(predicate, ("?item", "?property"))):
            item, name = fact.args
            # Whoever asserts contents may name what is neither of these items nor a property.
            if item in place and name in bit:
                masks[place[item]] |= bit[name]
    return masks
