"""A label set: labels beside a catalog's own, of which an item may have several (dietary labels, certifications).

It is a `Catalog` of its own that shares texts, vectors and index with the catalog it belongs to, so that what proposes
and judges labels (`models.tagging`) is the same code for both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from models import artifacts
from models.catalog import Catalog, codes_of, known_codes, named, placed
from models.errors import InvalidVocabulary
from models.meanings import Meaning, meanings_of, stems_of, vectors_of
from models.ports import Embedder
from models.several import Several
from models.text import embedding_text
from models.vocabulary import Vocabulary

KIND: Final = "labelset"
_GROUP: Final = "labels:"
"""Begins the group of a label of a set: what a certificate, an audit and a switch are about."""


def prefix_of(name: str) -> str:
    """What the groups of a label set's labels begin with, and those of no other tag."""
    return f"{_GROUP}{name}/"


def set_of(group: str) -> str | None:
    """The label set that a group is of; None for a group of the catalog's own labels."""
    return group.removeprefix(_GROUP).partition("/")[0] if group.startswith(_GROUP) else None


def group_of_label(catalog: Catalog) -> dict[str, str]:
    """Every label of a set is a group by itself: that an item is organic says nothing of how sure "vegan" is."""
    return {label: f"{prefix_of(catalog.source)}{label}" for label in catalog.labels}


def check(items: pl.DataFrame, column: str) -> None:
    """Raises InvalidVocabulary for a column of ``items`` that can be no label set."""
    if column not in items.columns or not isinstance(items.schema[column], pl.List):
        lists = [name for name, kind in items.schema.items() if isinstance(kind, pl.List)]
        raise InvalidVocabulary(
            f"train.several names {column!r}, which is no list column of this catalog; "
            + (f"it has {', '.join(lists)}" if lists else "it has none: ingest one, or leave train.several out")
        )
    if "/" in column:
        raise InvalidVocabulary(
            f"train.several names {column!r}; rename the column: groups are written {_GROUP}NAME/LABEL"
        )
    if not _cleaned(items[column]).explode().drop_nulls().len():
        raise InvalidVocabulary(f"train.several names {column!r}, in which no item has a label; leave it out")


def derive(
    catalog: Catalog,
    items: pl.DataFrame,
    column: str,
    label_column: str | None,
    embedder: Embedder,
    vocabulary: Vocabulary | None = None,
) -> Catalog:
    """The label set of a column of lists of ``items``, beside their ``catalog``; its name is the column's.

    What the catalog's own label is, is evidence here, before the catalog's attributes. ``vocabulary``: what is known of
    the labels beside their names; an item that has a label has what is wider, too. Raises InvalidVocabulary as `check`
    and `meanings_of` do.
    """
    check(items, column)
    labels = tuple(sorted(set(_cleaned(items[column]).explode().drop_nulls().to_list())))
    meanings: dict[str, Meaning] = {}
    if vocabulary is not None:
        own = {embedding_text(title, None).lower() for title in items["title"].unique().to_list()}
        meanings = meanings_of(vocabulary, labels, own.union(text.lower() for text in catalog.texts))
        labels = tuple(dict.fromkeys([*labels, *meanings]))
    attributes, values = dict(catalog.attributes), dict(catalog.values)
    if label_column is not None:
        names, codes = codes_of(items[label_column])
        attributes, values = {label_column: codes, **attributes}, {label_column: names, **values}
    return replace(
        catalog,
        labels=labels,
        label_vectors=vectors_of(labels, meanings, embedder),
        label_of_row=np.full(len(items), -1, np.int32),
        attributes=attributes,
        values=values,
        names=named(labels, meanings),
        stems=stems_of(labels, meanings),
        meanings=meanings,
        source=column,
        several=_told(items[column], labels, meanings),
    )


def following(own: Catalog, catalog: Catalog, rows: npt.NDArray[np.int64], items: pl.DataFrame) -> Catalog:
    """The set after ``catalog``, which it belongs to, took ``items`` [m] at ``rows`` [m] (see `Catalog.with_items`)."""
    mine = {
        name: placed(coded, rows, known_codes(items[name], own.values[name]))
        for name, coded in own.attributes.items()
        if name not in catalog.attributes
    }
    return replace(
        beside(own, catalog),
        label_of_row=np.full(len(catalog.text_of_row), -1, np.int32),
        attributes={name: mine[name] if name in mine else catalog.attributes[name] for name in own.attributes},
        several=_several(own).placed(rows, _told(items[own.source], own.labels, own.meanings)),
    )


def beside(own: Catalog, catalog: Catalog) -> Catalog:
    """The set with the texts and index of ``catalog``."""
    shared = ("texts", "vectors", "index", "text_of_row", "rows_by_text", "text_starts", "numbers")
    return replace(own, **{name: getattr(catalog, name) for name in shared})


def save(own: Catalog, folder: Path, facts: Mapping[str, object]) -> None:
    """Write what the set has beside its catalog."""

    def write(where: Path) -> None:
        several = _several(own)
        np.save(where / "label_vectors.npy", own.label_vectors, allow_pickle=False)
        np.save(where / "starts.npy", several.starts, allow_pickle=False)
        np.save(where / "labels.npy", several.labels, allow_pickle=False)
        np.save(where / "stated.npy", several.stated, allow_pickle=False)
        for number, codes in enumerate(own.attributes.values()):
            np.save(where / f"attribute_{number}.npy", codes, allow_pickle=False)
        meanings = {label: meaning.to_row() for label, meaning in own.meanings.items()}
        told = {"name": own.source, "labels": own.labels, "values": dict(own.values), "meanings": meanings}
        (where / "names.json").write_text(json.dumps(told))

    artifacts.save(folder, KIND, facts, write)


def load(folder: Path, catalog: Catalog) -> Catalog:
    """What `save` wrote, beside its catalog. Raises ArtifactMismatch where files are damaged."""
    artifacts.load(folder, KIND)
    told = json.loads((folder / "names.json").read_text())
    labels = tuple(told["labels"])
    meanings = {label: Meaning.from_row(row) for label, row in told["meanings"].items()}

    def array(name: str) -> npt.NDArray[np.int32]:
        return np.asarray(np.load(folder / f"{name}.npy", allow_pickle=False))

    return replace(
        catalog,
        labels=labels,
        label_vectors=np.load(folder / "label_vectors.npy", allow_pickle=False),
        label_of_row=np.full(len(catalog.text_of_row), -1, np.int32),
        attributes={name: array(f"attribute_{number}") for number, name in enumerate(told["values"])},
        values={name: tuple(values) for name, values in told["values"].items()},
        names=named(labels, meanings),
        stems=stems_of(labels, meanings),
        meanings=meanings,
        source=told["name"],
        several=Several(
            np.load(folder / "starts.npy", allow_pickle=False),
            array("labels"),
            np.load(folder / "stated.npy", allow_pickle=False),
        ),
    )


def _cleaned(column: pl.Series) -> pl.Series:
    """Lists of labels without surrounding blanks; blank ones are none."""
    name = pl.element().str.strip_chars()
    return column.to_frame().select(pl.col(column.name).list.eval(name.filter(name != "")))[column.name]


def _told(column: pl.Series, labels: Sequence[str], meanings: Mapping[str, Meaning]) -> Several:
    """Who has which label. Whoever has one has the wider ones: else what an accepted label implies would be wrong."""
    above: dict[str, frozenset[str]] = {}

    def wider(label: str) -> frozenset[str]:
        if label not in above:
            meaning = meanings.get(label)
            parents = meaning.parents if meaning is not None else ()
            above[label] = frozenset((label,)).union(*(wider(parent) for parent in parents))
        return above[label]

    whole = [
        None if own is None else sorted(frozenset[str]().union(*(wider(label) for label in own)))
        for own in _cleaned(column).to_list()
    ]
    codes = {label: code for code, label in enumerate(labels)}
    return Several.of_column(pl.Series(column.name, whole, pl.List(pl.String)), codes)


def _several(own: Catalog) -> Several:
    assert own.several is not None, f"{own.source} is no label set"
    return own.several
