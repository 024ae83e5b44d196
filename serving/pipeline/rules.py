"""Hard rules of a request: what the graph forbids never leaves, whatever proposed it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final

import numpy as np
import numpy.typing as npt

from graph.errors import NotDerived
from graph.items import item_facts
from graph.ports import Fact, Proof
from graph.properties import explain_property
from models.text import catalog_view
from serving.errors import InvalidRequest
from serving.services import Services

AGE_RESTRICTED: Final = "age_restricted"
"""The name that avoids all that is sold to adults only, where the ontology says what is."""
_NAMED: Final = 20
"""Categories that an error names; large catalogs have thousands."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Resolved constraints: properties and labels to avoid and to require, and rows to leave out."""

    avoid: tuple[str, ...] = ()
    avoid_labels: tuple[int, ...] = ()
    require: tuple[str, ...] = ()
    require_labels: tuple[int, ...] = ()
    excluded: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    unknown_items: tuple[str, ...] = ()

    def allowed(self, services: Services, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """bool[len(rows)]: no rule forbids the item. Contents nobody knows are forbidden where something is avoided."""
        allowed = ~services.properties.violates(rows, self.avoid)
        if len(self.excluded):
            allowed &= ~np.isin(rows, self.excluded)
        labels = services.catalog.label_of_row[rows]
        if self.avoid_labels:
            allowed &= ~np.isin(labels, self.avoid_labels)
        for name in self.require:
            allowed &= services.properties.has(rows, name)
        if self.require_labels:
            allowed &= np.isin(labels, self.require_labels)
        return allowed

    def banned_labels(self, services: Services) -> frozenset[int]:
        """Labels none of whose best-bought items are allowed: not worth an LLM's attention."""
        best = [rows[:20] for rows in services.demand.best_in_label]
        counts = np.array([len(rows) for rows in best], np.int64)
        # All labels at once: this is asked before every call of the LLM.
        allowed = self.allowed(services, np.concatenate((np.empty(0, np.int64), *best)))
        left = np.bincount(np.repeat(np.arange(len(best)), counts), weights=allowed, minlength=len(best))
        return frozenset(np.flatnonzero((counts > 0) & (left == 0)).tolist())


def resolve(
    services: Services,
    avoid: Sequence[str],
    require: Sequence[str],
    exclude_items: Sequence[str],
    derived_avoid: Mapping[str, Proof] | None = None,
) -> Rules:
    """Constraints by name to rules. Raises InvalidRequest for a name that is neither property nor label.

    An item id the catalog does not know cannot be recommended anyway and comes back in ``unknown_items``.
    """
    avoided, avoided_labels = _resolve_names(services, "constraints.avoid", list(_spelt_out(services, avoid)))
    required, required_labels = _resolve_names(services, "constraints.require", require)
    rows = [services.table.row_of(item_id) for item_id in exclude_items]
    return Rules(
        avoid=tuple(dict.fromkeys([*avoided, *(derived_avoid or {})])),
        avoid_labels=tuple(avoided_labels),
        require=tuple(required),
        require_labels=tuple(required_labels),
        excluded=np.array([row for row in rows if row >= 0], np.int64),
        unknown_items=tuple(dict.fromkeys(item_id for item_id, row in zip(exclude_items, rows) if row < 0)),
    )


def _spelt_out(services: Services, names: Sequence[str]) -> Iterator[str]:
    """The names, ``age_restricted`` as all that is sold to adults only."""
    for name in names:
        if _as_property(name) == AGE_RESTRICTED and AGE_RESTRICTED in services.graph.program.declarations:
            yield from (fact.args[0] for fact in services.graph.query(Fact(AGE_RESTRICTED, ("?property",))))
        else:
            yield name


def _as_property(name: str) -> str:
    return name.strip().casefold().replace(" ", "_")


def _resolve_names(services: Services, where: str, names: Sequence[str]) -> tuple[list[str], list[int]]:
    if not names:
        return [], []
    labels = {label.casefold(): code for code, label in enumerate(services.catalog.labels)}
    properties = set(services.properties.names)
    found: list[str] = []
    found_labels: list[int] = []
    for name in names:
        plain = name.strip().casefold()
        if _as_property(name) in properties:
            found.append(_as_property(name))
        elif plain in labels:
            found_labels.append(labels[plain])
        else:
            near = get_close_matches(_as_property(name), [*properties, *labels], n=3)
            hint = f"did you mean {', '.join(near)}?" if near else _known(sorted(properties), services.catalog.labels)
            raise InvalidRequest(f"{where}: nothing is known of {name!r}; {hint}")
    return found, found_labels


def _known(properties: Sequence[str], labels: Sequence[str]) -> str:
    """What there is to name instead."""
    more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    told = [
        *([f"properties are {', '.join(properties)}"] if properties else []),
        *([f"categories are {', '.join(labels[:_NAMED])}{more}"] if labels else []),
    ]
    return "; ".join(told) or (
        "this catalog has neither properties nor categories to ask for: ingest it with --label-column or --ontology"
    )


def item_view(services: Services, row: int) -> dict[str, str | None]:
    """A catalog item as the graph reads it: the same view its masks were made from."""
    return catalog_view(services.table.frame.row(row, named=True), services.config.label_column)


def item_proofs(services: Services, row: int, names: Sequence[str]) -> tuple[Proof, ...]:
    """Proofs that the item has these properties, for those it has."""
    if not names:
        return ()
    item_id = services.table.item_ids[row]
    item = services.graph.extend(item_facts(services.graph, item_id, item_view(services, row)), "catalog")
    proofs = []
    for name in names:
        try:
            proof = explain_property(item, item_id, name)
        except NotDerived:
            continue
        if proof.fact.predicate != "may_contain":
            proofs.append(proof)
    return tuple(proofs)
