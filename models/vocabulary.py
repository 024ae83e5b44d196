"""Vocabularies: the labels that tags are chosen from, with names, parents, definitions and examples.

From a file (CSV, JSON, parquet, or a taxonomy of Open Food Facts), from a catalog's own column, or from pairs of label
and parent such as a graph knows. Whatever the source, a vocabulary that exists is sound: every problem of its labels is
found when it is made, all at once. JSON may declare free attributes beside the labels (`models.attributes`).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from models import attributes
from models.attributes import Attribute
from models.errors import InvalidVocabulary

FIELDS: Final = ("id", "name", "parents", "definition", "synonyms", "examples")
"""Columns of a file; ``id`` alone is required. Several values in a cell are separated by ``|``."""
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Label:
    """One label. ``parents``: ids of wider labels; ``synonyms``: other names, in any language; ``examples``: items."""

    id: str
    name: str = ""
    parents: tuple[str, ...] = ()
    definition: str = ""
    synonyms: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Vocabulary:
    """Labels by id, in the order they were given. ``several``: an item may carry more than one of them.

    ``attributes``: what else a product's words say of it; with some, there may be no labels. Raises InvalidVocabulary
    for a label without an id, ids given twice, unknown parents, cycles, and attributes given twice.
    """

    name: str
    entries: Sequence[Label]
    several: bool = False
    attributes: tuple[Attribute, ...] = ()
    labels: Mapping[str, Label] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", {label.id: label for label in self.entries})
        if problems := [*_problems(self.entries, bool(self.attributes)), *attributes.repeated(self.attributes)]:
            more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
            raise InvalidVocabulary(f"vocabulary {self.name!r}: {'; '.join(problems[:_SHOWN])}{more}")

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """Labels without a parent."""
        return tuple(label.id for label in self.entries if not label.parents)

    def ancestors(self, label: str) -> frozenset[str]:
        """All wider labels, the label itself left out. Raises KeyError for an unknown one."""
        found: set[str] = set()
        waiting = list(self.labels[label].parents)
        while waiting:
            parent = waiting.pop()
            if parent not in found:
                found.add(parent)
                waiting.extend(self.labels[parent].parents)
        return frozenset(found)

    @cached_property
    def depths(self) -> dict[str, int]:
        """Steps down from the nearest root: 1 for a root."""
        depth = dict.fromkeys(self.roots, 1)
        children: dict[str, list[str]] = {}
        for label in self.entries:
            for parent in label.parents:
                children.setdefault(parent, []).append(label.id)
        level = list(self.roots)
        while level:
            level = [child for label in level for child in children.get(label, ()) if child not in depth]
            for child in level:
                depth[child] = 1 + min(depth[parent] for parent in self.labels[child].parents if parent in depth)
        return depth

    def to_json(self) -> str:
        """What ``read`` reads back."""
        rows = [{name: getattr(label, name) for name in FIELDS if getattr(label, name)} for label in self.entries]
        made: dict[str, Any] = {"name": self.name, "several": self.several, "labels": rows}
        if self.attributes:
            made["attributes"] = [one.to_row() for one in self.attributes]
        return json.dumps(made, ensure_ascii=False, indent=1)


def read(path: Path, several: bool = False) -> Vocabulary:
    """A vocabulary from a file, its kind told by the ending: ``.csv``, ``.parquet``, ``.json``, ``.json.gz``.

    CSV and parquet have the columns of FIELDS. JSON is what ``to_json`` writes (with ``attributes``, rows of
    `models.attributes.FIELDS`), a list of rows of labels, or a taxonomy of Open Food Facts (an object of objects, each
    with its names by language). ``several`` holds where the file does not say. Raises InvalidVocabulary for a file that
    cannot be read or whose labels are not sound.
    """
    name = path.name.split(".", 1)[0]
    try:
        if path.suffix == ".parquet":
            return Vocabulary(name, [_label(row, number) for number, row in enumerate(_parquet(path), 1)], several)
        if path.suffix == ".csv":
            return Vocabulary(name, [_label(row, number) for number, row in enumerate(_csv(path), 2)], several)
        if path.name.endswith((".json", ".json.gz")):
            opened = gzip.open if path.suffix == ".gz" else open
            with opened(path, "rt", encoding="utf-8") as file:
                return _from_json(name, json.load(file), several)
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise InvalidVocabulary(f"{path} cannot be read as a vocabulary ({error})") from error
    raise InvalidVocabulary(f"{path} ends in none of .csv, .parquet, .json, .json.gz: convert it to one of these")


def from_catalog(
    name: str, labels: Iterable[str | None], titles: Iterable[str], several: bool = False, examples: int = 3
) -> Vocabulary:
    """The labels of a catalog's column, by name, each with the first ``examples`` distinct titles that carry it."""
    found: dict[str, dict[str, None]] = {}
    for label, title in zip(labels, titles):
        if label:
            seen = found.setdefault(label, {})
            if len(seen) < examples:
                seen[title] = None
    return Vocabulary(name, [Label(label, label, examples=tuple(found[label])) for label in sorted(found)], several)


def from_pairs(name: str, labels: Iterable[str], wider: Iterable[tuple[str, str]], several: bool = True) -> Vocabulary:
    """Labels and (label, wider label) pairs, such as a graph's facts ``category`` and ``category_parent``."""
    parents: dict[str, list[str]] = {label: [] for label in labels}
    strangers = []
    for label, parent in wider:
        if label in parents:
            parents[label].append(parent)
        else:
            strangers.append(label)
    if strangers:
        raise InvalidVocabulary(f"vocabulary {name!r}: {strangers[0]!r} has a parent and is not among the labels")
    return Vocabulary(name, [Label(label, label, tuple(above)) for label, above in parents.items()], several)


def from_taxonomy(name: str, nodes: Mapping[str, Mapping[str, Any]], language: str = "en") -> Vocabulary:
    """A taxonomy of Open Food Facts (id -> properties, values per language), with its names in ``language`` if any."""
    return Vocabulary(name, [_node(label, node, language) for label, node in nodes.items()], several=True)


def _node(label: str, node: Mapping[str, Any], language: str) -> Label:
    names = _spoken(node.get("name"))
    definitions = _spoken(node.get("description"))
    synonyms: dict[str, list[str]] = node.get("synonyms") or {}
    # Its own language first: who takes a few takes those.
    languages = sorted(dict.fromkeys([*names, *synonyms]), key=lambda each: each != language)
    called = (word for each in languages for word in (names.get(each), *(synonyms.get(each) or ())) if word)
    return Label(
        label,
        names.get(language) or next(iter(names.values()), label),
        tuple(node.get("parents") or ()),
        definitions.get(language) or next(iter(definitions.values()), ""),
        tuple(dict.fromkeys(called)),
    )


def _spoken(texts: Mapping[str, str | None] | None) -> dict[str, str]:
    """Texts by language; a language may be listed and empty."""
    return {language: text for language, text in (texts or {}).items() if text}


def _problems(entries: Sequence[Label], may_be_none: bool) -> Iterator[str]:
    known: set[str] = set()
    for number, label in enumerate(entries, 1):
        if not label.id.strip():
            yield f"label {number} has no id"
        elif label.id in known:
            yield f"{label.id!r} is given twice"
        known.add(label.id)
    if not known and not may_be_none:
        yield "it has no labels"
    for label in entries:
        for parent in label.parents:
            if parent not in known:
                yield f"{label.id!r} is under {parent!r}, which is no label of it"
    if cycle := _cycle(entries):
        yield f"the labels {' -> '.join(map(repr, cycle))} are above one another: remove one of these parents"


def _cycle(entries: Sequence[Label]) -> list[str]:
    """The first way up that comes back to where it was, without recursion: a taxonomy may be deep."""
    parents = {label.id: label.parents for label in entries}
    done: set[str] = set()
    for start in parents:
        path: list[str] = []
        on_path: set[str] = set()
        waiting = [(start, False)]
        while waiting:
            label, left = waiting.pop()
            if left:
                path.pop()
                on_path.discard(label)
                done.add(label)
            elif label in on_path:
                return [*path[path.index(label) :], label]
            elif label not in done:
                path.append(label)
                on_path.add(label)
                waiting.append((label, True))
                waiting.extend((parent, False) for parent in parents.get(label, ()))
    return []


def _from_json(name: str, content: Any, several: bool) -> Vocabulary:
    if isinstance(content, dict) and any(isinstance(content.get(key), list) for key in ("labels", "attributes")):
        told = content.get("several", several)
        if not isinstance(told, bool):
            raise ValueError(f"'several' is {told!r}; say true or false")
        rows, declared = content.get("labels", []), content.get("attributes", [])
        if not isinstance(rows, list) or not isinstance(declared, list):
            raise ValueError("'labels' and 'attributes' are lists of objects")
        return Vocabulary(
            str(content.get("name", name)),
            [_label(row, number) for number, row in enumerate(rows, 1)],
            told,
            tuple(attributes.attribute(row, number) for number, row in enumerate(declared, 1)),
        )
    if isinstance(content, list):
        return Vocabulary(name, [_label(row, number) for number, row in enumerate(content, 1)], several)
    if isinstance(content, dict) and content and all(isinstance(node, dict) for node in content.values()):
        return from_taxonomy(name, content)
    raise ValueError("it holds neither a list of labels nor a taxonomy")


def _label(row: Any, number: int) -> Label:
    if not isinstance(row, Mapping) or not isinstance(row.get("id"), str):
        raise ValueError(f"row {number} has no 'id' in text; its columns may be {', '.join(FIELDS)}")
    if unknown := sorted(str(name) for name in row if name not in FIELDS):
        raise ValueError(f"row {number} has {unknown[0]!r}; the columns may be {', '.join(FIELDS)}")
    several = {name: _values(row.get(name), name, number) for name in ("parents", "synonyms", "examples")}
    return Label(row["id"], str(row.get("name") or row["id"]), definition=str(row.get("definition") or ""), **several)


def _values(cell: Any, name: str, number: int) -> tuple[str, ...]:
    if cell is None:
        return ()
    values = cell.split("|") if isinstance(cell, str) else cell
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"row {number}: {name} is {cell!r}; give texts, in a list or separated by '|'")
    return tuple(value.strip() for value in values if value.strip())


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    import csv

    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, restkey="more cells than columns")


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    import polars as pl

    try:
        yield from pl.read_parquet(path).iter_rows(named=True)
    except pl.exceptions.PolarsError as error:
        raise ValueError(str(error)) from error
