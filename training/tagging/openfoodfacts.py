"""Open Food Facts as gold for tags of which a product may have several: labels, and categories at two depths.

Only the product's name and the text of its ingredients speak for a tag; its brand, its categories and its labels are
hidden. Gold for labels are the products whose list of labels was filled in (empty counts as none); a label nobody
entered is no proof of its absence, so precision here is, if anything, understated.

The unit is the product, of those with equal text the first. Products of one brand are alike and lie on both sides of
a split: what is certified holds for products drawn from the same brands, and of a new brand nothing is promised.
Intervals are over brands, and products of new brands are counted apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from features.workspace import Workspace
from graph import openfoodfacts as off
from graph.errors import OntologyError
from graph.ports import Fact
from models import vocabulary
from models.ports import Embedder
from models.text import words
from models.vocabulary import Vocabulary
from training.tagging import views
from training.tagging.datasets import TagData, embedded
from training.tagging.kernels import IntArray
from training.tagging.views import Matrix

OPEN_FOOD_FACTS: Final = "openfoodfacts"
LEAST: Final = 5
"""Products that carry a label, at least: of a rarer one nothing could be learned or shown."""
_LONGEST_NAME: Final = 5
"""Words of a label's name that is looked for in a text."""
_TEXT: Final = 600
"""Characters of the text that are embedded and shown to an LLM."""
_WORD: Final = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True, eq=False)
class LabelledProducts:
    """One vocabulary's gold: ``data`` (groups are products), whose products belong together (``clusters`` int
    [T], by brand), and what the derived facts say of each tag, float32 [T, L]: 1, -1, or 0 for no view."""

    vocabulary: str
    data: TagData
    clusters: IntArray
    graph: Matrix


def load(
    workspace: Workspace, folder: Path, embedder: Embedder, progress: Callable[[str, float], None] = lambda *_: None
) -> list[LabelledProducts]:
    """The vocabularies ``labels``, ``category-1`` and ``category-2`` from a folder of Open Food Facts' exports.

    Raises OntologyError and InvalidVocabulary for files that are missing or none of Open Food Facts'.
    """
    labels = vocabulary.read(folder / "labels.full.json.gz")
    categories = vocabulary.read(folder / "categories.full.json.gz")
    rows = _products(folder)
    progress("tags: what follows from ingredients", 0.0)
    derived = _derived(folder)
    claimed = [(row, row["labels_tags"]) for row in rows if row["labels_tags"] is not None]
    filed = [
        (row, row["categories_tags"]) for row in rows if set(row["categories_tags"] or ()) & categories.labels.keys()
    ]
    found = [_vocabulary("labels", labels, claimed, labels.labels.__contains__, derived, workspace, embedder)]
    for depth in (1, 2):
        at_depth = {label for label, own in categories.depths.items() if own == depth}
        name = f"category-{depth}"
        found.append(_vocabulary(name, categories, filed, at_depth.__contains__, {}, workspace, embedder))
    return found


def _products(folder: Path) -> list[dict[str, Any]]:
    """Products with a text, the first of each text, by code."""
    import polars as pl

    columns = ["code", "product_name", "ingredients_text", "brands_tags", "labels_tags", "categories_tags"]
    path = folder / "products.parquet"
    try:
        table = pl.read_parquet(path, columns=columns).sort("code")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise OntologyError(f"{path} is no table of Open Food Facts ({error}); give its folder with --data") from error
    rows: dict[str, dict[str, Any]] = {}
    cluster = _clusters(table["brands_tags"].to_list())
    for at, row in enumerate(table.iter_rows(named=True)):
        name, ingredients = main_text(row["product_name"]), main_text(row["ingredients_text"])
        text = ". ".join(part for part in (name, ingredients) if part)
        if text:
            rows.setdefault(text, {**row, "name": name, "text": text, "cluster": cluster[at]})
    return list(rows.values())


def main_text(texts: Iterable[Mapping[str, str]] | None) -> str:
    found = {text["lang"]: text["text"] for text in texts or ()}
    return re.sub(r"\s+", " ", found.get("main") or next(iter(found.values()), "")).strip()


def _derived(folder: Path) -> dict[tuple[str, str], float]:
    """(code, label) -> 1 where the label follows from the ingredients, -1 where its opposite does."""
    graph = off.build(folder, off.foods(folder))
    view: dict[tuple[str, str], float] = {}
    for question in off.QUESTIONS:
        for fact in graph.query(Fact("is", ("?product", question, "?answer"))):
            if fact.args[2] in ("yes", "no"):
                view[fact.args[0], f"en:{question}"] = 1.0 if fact.args[2] == "yes" else -1.0
    for predicate in ("contains", "may_contain"):
        for fact in graph.query(Fact(predicate, ("?product", "en:gluten"))):
            view[fact.args[0], "en:no-gluten"] = -1.0
    return view


def _vocabulary(
    name: str,
    whole: Vocabulary,
    rows: Sequence[tuple[Mapping[str, Any], Sequence[str]]],
    wanted: Callable[[str], bool],
    derived: Mapping[tuple[str, str], float],
    workspace: Workspace,
    embedder: Embedder,
) -> LabelledProducts:
    carried = [with_wider(whole, tags) for _, tags in rows]
    often = Counter(label for tags in carried for label in tags if wanted(label))
    labels = tuple(sorted(label for label, many in often.items() if many >= LEAST))
    gold = np.array([[label in tags for label in labels] for tags in carried], np.float64).reshape(len(rows), -1)
    texts = tuple(row["text"] for row, _ in rows)
    names = [whole.labels[label].name for label in labels]
    vectors, name_vectors = embedded(workspace, embedder, [text[:_TEXT] for text in texts], names)
    letters, name_letters = views.character_view(texts, names)
    graph = np.array([[derived.get((row["code"], label), 0.0) for label in labels] for row, _ in rows], np.float32)
    data = TagData(
        f"{OPEN_FOOD_FACTS}/{name}",
        tuple(row["code"] for row, _ in rows),
        texts,
        labels,
        gold,
        {
            "name": views.word_view([row["name"] for row, _ in rows]),
            "word": views.word_view(texts),
            "letters": letters,
            "meaning": vectors,
        },
        {
            "text": {"word": 0.3, "letters": 0.3, "meaning": 0.4},
            "all": {"name": 1.0, "word": 1.0, "letters": 1.0, "meaning": 1.0},
        },
        {
            "meaning": views.similarity(vectors, name_vectors),
            "letters": views.similarity(letters, name_letters),
            **_said(whole, labels, [row["name"] for row, _ in rows], texts),
        },
        np.array([[len(words(text)), "." in text] for text in texts], np.float32).reshape(len(rows), 2),
        ("words", "has_ingredients"),
        several=True,
    )
    return LabelledProducts(name, data, np.array([row["cluster"] for row, _ in rows], np.int64), graph)


def with_wider(whole: Vocabulary, tags: Iterable[str]) -> frozenset[str]:
    known = [tag for tag in tags if tag in whole.labels]
    return frozenset(known).union(*(whole.ancestors(tag) for tag in known))


def _said(whole: Vocabulary, labels: Sequence[str], titles: Sequence[str], texts: Sequence[str]) -> dict[str, Matrix]:
    """Whether a text speaks a label's own name in any language, and how often a narrower label's; [T, L] each."""
    code = {label: at for at, label in enumerate(labels)}
    own: dict[tuple[str, ...], set[int]] = {}
    below: dict[tuple[str, ...], set[int]] = {}
    for label in whole.entries:
        wider = {code[each] for each in whole.ancestors(label.id) if each in code}
        if not wider and label.id not in code:
            continue
        for name in (label.name, *label.synonyms):
            key = tuple(_stems(name))
            if 0 < len(key) <= _LONGEST_NAME:
                below.setdefault(key, set()).update(wider)
                if label.id in code:
                    own.setdefault(key, set()).add(code[label.id])
    found: dict[str, Matrix] = {}
    for side, lines in (("title", titles), ("text", texts)):
        for kind, lexicon in (("said", own), ("narrower said", below)):
            matrix = np.zeros((len(lines), len(labels)), np.float32)
            for row, line in enumerate(lines):
                for at in (at for phrase in _phrases(line) for at in lexicon.get(phrase, ())):
                    matrix[row, at] += 1.0
            found[f"{kind} in {side}"] = np.log1p(matrix)
    return found


def _stems(text: str) -> list[str]:
    return [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in _WORD.findall(text.lower())]


def _phrases(text: str) -> set[tuple[str, ...]]:
    spoken = _stems(text)
    return {
        tuple(spoken[at : at + many])
        for at in range(len(spoken))
        for many in range(1, min(_LONGEST_NAME, len(spoken) - at) + 1)
    }


def _clusters(brands: Sequence[Sequence[str] | None]) -> IntArray:
    """Products that share a brand, also by way of a third one; a product without a brand is one by itself."""
    above: dict[str, str] = {}

    def top(name: str) -> str:
        while above.setdefault(name, name) != name:
            name = above[name]
        return name

    owners = []
    for row, listed in enumerate(brands):
        known = [brand.removeprefix("xx:") for brand in listed or () if brand.removeprefix("xx:")] or [f"#{row}"]
        owners.append(known[0])
        for brand in known[1:]:
            above[top(brand)] = top(known[0])
    return np.unique([top(owner) for owner in owners], return_inverse=True)[1].astype(np.int64)
