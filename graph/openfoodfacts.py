"""Open Food Facts as facts of the ontology ``openfoodfacts``: its taxonomies, and products by their ingredients.

A folder holds ``ingredients``, ``categories`` and ``labels.full.json.gz`` (id -> properties, values per language),
``allergens.txt`` and ``products.parquet``. Source: https://world.openfoodfacts.org/data (database ODbL 1.0, contents
DbCL 1.0). What Open Food Facts itself concludes of a product (``ingredients_analysis_tags``, ``allergens_tags``) is no
fact here: it is what the derived answers are compared with (see check).
"""

from __future__ import annotations

import gzip
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from graph.engine import RuleGraph
from graph.errors import OntologyError
from graph.ontology import load
from graph.ports import Fact

Sourced: TypeAlias = tuple[Fact, str]
QUESTIONS: Final = ("vegan", "vegetarian")
_ANSWERS: Final = frozenset({"yes", "no", "maybe", "ignore"})
_ALLERGEN_KEYS: Final = {"allergens": "ingredient_allergen", "likely_allergens": "ingredient_likely_allergen"}
_COLUMNS: Final = (
    "code",
    "ingredients",
    "categories_tags",
    "labels_tags",
    "ingredients_analysis_tags",
    "allergens_tags",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One place in a list of ingredients: the ingredient's id and what stands in brackets after it."""

    ingredient: str
    parts: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Food:
    """A product by its parsed ingredients, and what Open Food Facts concluded of it (never a premise here)."""

    code: str
    entries: tuple[Entry, ...] = ()
    categories: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    analysis: frozenset[str] = frozenset()
    allergens: frozenset[str] = frozenset()

    def facts(self) -> Iterator[Fact]:
        """The product as facts; its entries are ``code#n``, counted as read, parts after their whole."""
        yield Fact("product", (self.code,))
        yield from (Fact("in_category", (self.code, category)) for category in self.categories)
        yield from (Fact("labelled", (self.code, label)) for label in self.labels)
        waiting = [("", entry) for entry in reversed(self.entries)]
        count = 0
        while waiting:
            whole, entry = waiting.pop()
            name, count = f"{self.code}#{count}", count + 1
            yield Fact("entry", (self.code, name))
            yield Fact("names", (name, entry.ingredient))
            if whole:
                yield Fact("part_of", (name, whole))
            waiting.extend((name, part) for part in reversed(entry.parts))


def build(folder: Path, products: Iterable[Food]) -> RuleGraph:
    """The closure of taxonomies and products; each fact's source is the file and the id that state it.

    Raises OntologyError as ``taxonomy_facts``.
    """
    program = load("openfoodfacts").program
    told = ((fact, f"products.parquet: {food.code}") for food in products for fact in food.facts())
    return RuleGraph.build(replace(program, facts=(*program.facts, *taxonomy_facts(folder), *told)))


def taxonomy_facts(folder: Path) -> Iterator[Sourced]:
    """The facts of the four taxonomies with the file that states each. Raises OntologyError for a file that is missing
    or none of Open Food Facts'.
    """
    yield from _ingredients(folder / "ingredients.full.json.gz")
    yield from _tree(folder / "categories.full.json.gz", "category")
    yield from _tree(folder / "labels.full.json.gz", "label")
    yield from _allergen_names(folder / "allergens.txt")


def foods(folder: Path) -> list[Food]:
    """The products of ``products.parquet`` by code. Raises OntologyError as ``taxonomy_facts``."""
    import polars as pl

    path = folder / "products.parquet"
    try:
        rows = pl.read_parquet(path, columns=list(_COLUMNS)).sort("code")
        return [_food(row) for row in rows.iter_rows(named=True)]
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise _unusable(path, error) from error


def _food(row: Mapping[str, Any]) -> Food:
    return Food(
        row["code"],
        _entries(json.loads(row["ingredients"] or "[]")),
        tuple(dict.fromkeys(row["categories_tags"] or ())),
        tuple(dict.fromkeys(row["labels_tags"] or ())),
        frozenset(row["ingredients_analysis_tags"] or ()),
        frozenset(row["allergens_tags"] or ()),
    )


def _entries(listed: Sequence[Mapping[str, Any]] | str | None) -> tuple[Entry, ...]:
    # The export writes deeper brackets as JSON in a string.
    parsed = json.loads(listed) if isinstance(listed, str) else listed or ()
    return tuple(Entry(one["id"], _entries(one.get("ingredients"))) for one in parsed)


def _ingredients(path: Path) -> Iterator[Sourced]:
    for name, node in _nodes(path):
        source = f"{path.name}: {name}"
        yield Fact("ingredient", (name,)), source
        for parent in node.get("parents", ()):
            yield Fact("ingredient_parent", (name, parent)), source
        for question in QUESTIONS:
            if answer := _plain(node, question):
                if answer not in _ANSWERS:
                    raise OntologyError(f"{path}: {name} states {question}: {answer!r}; known are {sorted(_ANSWERS)}")
                yield Fact("ingredient_stated", (name, question, answer)), source
        for key, predicate in (
            ("allergens", "ingredient_allergen"),
            ("likely_allergens", "ingredient_likely_allergen"),
        ):
            for allergen in filter(None, (part.strip() for part in _plain(node, key).split(","))):
                yield Fact(predicate, (name, allergen)), source
        if number := _plain(node, "e_number"):
            yield Fact("e_number", (name, number)), source


def _tree(path: Path, kind: str) -> Iterator[Sourced]:
    for name, node in _nodes(path):
        source = f"{path.name}: {name}"
        yield Fact(kind, (name,)), source
        for parent in node.get("parents", ()):
            yield Fact(f"{kind}_parent", (name, parent)), source


def _nodes(path: Path) -> Iterable[tuple[str, Mapping[str, Any]]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            nodes = json.load(file)
        if not isinstance(nodes, dict) or not all(isinstance(node, dict) for node in nodes.values()):
            raise ValueError("it is no object of objects")
    except (OSError, EOFError, ValueError) as error:
        raise _unusable(path, error) from error
    return nodes.items()


def _plain(node: Mapping[str, Any], key: str) -> str:
    """A property that is the same in every language: stated under ``en``, or once under another."""
    values = node.get(key) or {}
    return str(values.get("en") or next(iter(values.values()), "")).strip()


def _allergen_names(path: Path) -> Iterator[Sourced]:
    """Each allergen's names, as the ids an ingredient of that name is given: ``en: milk, lactose`` -> en:lactose."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, error) from error
    allergen = ""
    for number, line in enumerate(lines, 1):
        language, colon, rest = line.partition(":")
        if not line.strip():
            allergen = ""
        elif colon and re.fullmatch(r"[a-z]{2}", language):
            names = [f"{language}:{_slug(name)}" for name in rest.split(",") if name.strip()]
            allergen = allergen or names[0]
            if allergen != "en:none":
                yield from ((Fact("allergen_called", (allergen, name)), f"{path.name}:{number}") for name in names)


def _slug(name: str) -> str:
    """A name as Open Food Facts writes it in an id: without accents and case, words joined by hyphens."""
    plain = "".join(c for c in unicodedata.normalize("NFD", name.lower()) if not unicodedata.combining(c))
    return re.sub(r"[^\w]+", "-", plain).strip("-_")


def _unusable(path: Path, error: Exception) -> OntologyError:
    return OntologyError(f"{path} is no file of Open Food Facts ({error}); give the folder its exports lie in")
