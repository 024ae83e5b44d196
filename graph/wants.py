"""What a person wants by his own words, and which items and labels serve it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graph.phrases import find_phrases
from graph.ports import Fact, KnowledgeGraph, Proof
from graph.properties import PropertyTable

USER = "user"
"""The constant a person is called by in facts and proofs."""


@dataclass(frozen=True, slots=True)
class Person:
    """What was derived from somebody's words: properties wanted and avoided, each with its proof."""

    wants: dict[str, Proof]
    avoids: dict[str, Proof]


def read_person(graph: KnowledgeGraph, text: str) -> Person:
    """Derive wants and avoids from a description (phrases.csv says which words mean what)."""
    person = graph.extend(find_phrases(text, graph, USER), "profile text")

    def derived(predicate: str) -> dict[str, Proof]:
        return {fact.args[1]: person.prove(fact) for fact in person.query(Fact(predicate, (USER, "?x")))}

    return Person(derived("wants"), derived("avoids"))


def serves_any(properties: PropertyTable, rows: npt.NDArray[np.int64], wants: Sequence[str]) -> npt.NDArray[np.bool_]:
    """bool[len(rows)]: items that certainly contain or serve one of ``wants``."""
    serves = np.zeros(len(rows), bool)
    for want in wants:
        if want in properties.names:
            serves |= properties.has(rows, want)
    return serves


def labels_that_serve(
    properties: PropertyTable,
    best_rows: Sequence[npt.NDArray[np.int64]],
    users: npt.NDArray[np.float64],
    wants: Sequence[str],
) -> list[int]:
    """Labels most of whose best-bought items (``best_rows``) serve a want; the label with most ``users`` first."""
    if not wants:
        return []
    found = [
        label
        for label, rows in enumerate(best_rows)
        if len(rows) and serves_any(properties, rows[:20], wants).mean() > 0.5
    ]
    return sorted(found, key=lambda label: (-users[label], label))
