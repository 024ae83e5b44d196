"""OA-Mine as gold for attribute values: product titles, each with the words that are its brand, its flavour, its size.

The published split of ExtractGPT (Brinkmann, Shraga and Bizer 2023): train.jsonl and test.jsonl with ``input`` (the
title), ``category`` and ``target_scores`` (attribute -> value). As there, a value is right where it is the gold one
letter by letter, blanks at its ends apart; unlike there, a value given to an attribute that the title does not have
counts as wrong.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.errors import ArtifactMismatch
from training.tagging.kernels import IntArray
from training.tagging.scores import BoolArray

OA_MINE: Final = "oa-mine"
_TOKEN: Final = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Title:
    """A product title, its tokens as character ranges, and its gold: attribute -> value."""

    text: str
    category: str
    tokens: tuple[tuple[int, int], ...]
    gold: dict[str, str]

    def value(self, first: int, last: int) -> str:
        """The text of tokens ``first`` to ``last``, both included."""
        return self.text[self.tokens[first][0] : self.tokens[last][1]]

    def places(self, value: str) -> list[tuple[int, int]]:
        """Where a value stands, as first and last token; letter case does not matter."""
        starts = {start: at for at, (start, _) in enumerate(self.tokens)}
        ends = {end: at for at, (_, end) in enumerate(self.tokens)}
        lowered, wanted = self.text.lower(), value.lower()
        found = []
        at = lowered.find(wanted)
        while wanted and at >= 0:
            if at in starts and at + len(wanted) in ends:
                found.append((starts[at], ends[at + len(wanted)]))
            at = lowered.find(wanted, at + 1)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class AttributeData:
    """Titles of training and test in one list; ``slots``: every (category, attribute) of training; ``clusters`` int
    [titles]: titles of one brand, which are drawn together in a bootstrap."""

    titles: tuple[Title, ...]
    slots: tuple[tuple[str, str], ...]
    train: IntArray
    test: IntArray
    clusters: IntArray

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(f"{category}: {attribute}" for category, attribute in self.slots)

    def attributes(self, category: str) -> dict[str, int]:
        """The category's attributes, numbered by name."""
        return {name: at for at, name in enumerate(name for own, name in self.slots if own == category)}

    @property
    def gold(self) -> IntArray:
        """How many attributes each title has."""
        return np.array([len(title.gold) for title in self.titles], np.int64)


def load(folder: Path) -> AttributeData:
    """The dataset from its folder. Raises ArtifactMismatch for a file that is missing or none of OA-Mine's."""
    train, test = (_read(folder / f"{name}.jsonl") for name in ("train", "test"))
    titles = (*train, *test)
    slots = sorted({(title.category, attribute) for title in train for attribute in title.gold})
    brands = [title.gold.get("Brand", title.text).lower() for title in titles]
    return AttributeData(
        titles,
        tuple(slots),
        np.arange(len(train)),
        np.arange(len(train), len(titles)),
        np.unique(brands, return_inverse=True)[1].astype(np.int64),
    )


def slices(data: AttributeData) -> dict[str, BoolArray]:
    """Gold values by whether training titles have them: ``seen`` and ``unseen``, each bool [titles, slots].

    A value is seen where it stands in a training title of the category, as whole words or as the gold of any attribute;
    letter case does not matter. An attribute that no training title has is in neither (OA-Mine's test has none).
    """
    texts: dict[str, list[Title]] = {}
    gold: dict[str, set[str]] = {}
    for title in (data.titles[row] for row in data.train.tolist()):
        texts.setdefault(title.category, []).append(title)
        gold.setdefault(title.category, set()).update(value.lower() for value in title.gold.values())
    found = {name: np.zeros((len(data.titles), len(data.slots)), bool) for name in ("seen", "unseen")}
    code = {slot: at for at, slot in enumerate(data.slots)}
    for row, title in enumerate(data.titles):
        for attribute, value in title.gold.items():
            if (title.category, attribute) in code:
                known = value.lower() in gold[title.category] or any(one.places(value) for one in texts[title.category])
                found["seen" if known else "unseen"][row, code[title.category, attribute]] = True
    return found


def _read(path: Path) -> list[Title]:
    try:
        return [title(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ArtifactMismatch(f"{path} is no file of OA-Mine ({error}); give the folder of its files") from error


def title(row: dict[str, Any]) -> Title:
    """A line of a file. A value of "n/a" is none. Raises KeyError, AttributeError or TypeError for another form."""
    text = str(row["input"])
    gold = {str(name): next(iter(values)).strip() for name, values in row["target_scores"].items() if values}
    tokens = tuple(match.span() for match in _TOKEN.finditer(text))
    return Title(text, str(row["category"]), tokens, {name: value for name, value in gold.items() if value != "n/a"})
