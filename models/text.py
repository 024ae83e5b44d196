"""Catalog text as embedders and lexical evidence want it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_QUANTITY = re.compile(
    r"\b\d+(?:[.,/]\d+)*\s*(?:fl\s*)?(?:oz|lb|lbs|g|kg|mg|ml|l|cl|lt|qt|pt|ga|gal|ct|pk|pc|pcs|dz|ft|in|cm|mm)\b\.?",
    re.IGNORECASE,
)
_SPACE = re.compile(r"[\s,;]+")
_WORD = re.compile(r"[a-z0-9]+")
_TAIL = re.compile(r"[\s,;:.\-/]+$")
_MEANINGFUL_WORDS = 4


@lru_cache(64)  # a request needs it three times
def embedding_text(title: str, text: str | None) -> str:
    """What a vector should say of an item: its title, and its text where that is more than packaging facts.

    Quantities are left out: "12 oz" moves a vector without telling what is inside.
    """
    title = _TAIL.sub("", _SPACE.sub(" ", _QUANTITY.sub(" ", title)).strip())
    rest = _SPACE.sub(" ", _QUANTITY.sub(" ", text or "")).strip()
    return f"{title}. {rest}" if len(rest.split()) >= _MEANINGFUL_WORDS else title


def words(text: str) -> frozenset[str]:
    """Lower-case words, plural endings cut, as crude stems for overlap."""
    return frozenset(
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        for word in _WORD.findall(text.lower())
    )


def readable(label: str) -> str:
    """A label as a model reads it best: ``BABY FOODS`` -> ``baby foods``."""
    return _SPACE.sub(" ", label.replace("/", " / ").lower()).strip()


def product_view(title: str, text: str | None, attributes: Mapping[str, str | None]) -> dict[str, str | None]:
    """A product as the graph reads it: its attributes, and its words without quantities.

    Catalog rows and new products go through here alike, so that what a mask says of an item its proof says too.
    """
    return {**attributes, "title": embedding_text(title, text), "text": None}


VIEWED = ("department", "product_type")
"""Attributes of a catalog row that the graph reads, beside its label."""


def catalog_view(record: Mapping[str, Any], label_column: str | None) -> dict[str, str | None]:
    """A row of the catalog (values by column) as the graph reads it, with its label as the category."""
    attributes: dict[str, str | None] = {name: record.get(name) for name in VIEWED}
    attributes["category"] = record.get(label_column) if label_column else None
    return product_view(record["title"], record["text"], attributes)
