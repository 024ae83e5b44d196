"""Where in an item's words a label shows: the evidence a caller can point at."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from models.catalog import Catalog
from models.tagging import TagItem
from models.text import words

_TOKEN: Final = re.compile(r"[A-Za-z0-9]+")
_FILLER: Final = words("a an and as at by for from in is it of on or our that the this to with you your")
"""Words that two texts share whatever they are about."""
_COMMON: Final = 0.1
_COMMON_TEXTS: Final = 20
_READ: Final = 500
"""Words in more than this share of a catalog's texts, and in so many of the texts read for that, say nothing either."""
Span = tuple[str, int, int]
"""Field of an item (title or text), and where in it words begin and end."""


@dataclass(frozen=True, slots=True, eq=False)
class ItemWords:
    """Where an item's words (see `models.text.words`) stand: the first place of each, and all places in their order,
    the title before the text."""

    first: Mapping[str, Span]
    places: Sequence[tuple[str, Span]]


def word_spans(item: TagItem) -> ItemWords:
    """The places of an item's words."""
    first: dict[str, Span] = {}
    places: list[tuple[str, Span]] = []
    for name, text in (("title", item.title), ("text", item.text)):
        for match in _TOKEN.finditer(text):
            span = name, match.start(), match.end()
            for stem in words(match.group()):
                places.append((stem, span))
                first.setdefault(stem, span)
    return ItemWords(first, places)


@lru_cache(maxsize=8)  # of the catalog that is served and its label sets
def common_words(catalog: Catalog) -> frozenset[str]:
    """See `filler`. Read again for a catalog that has grown: two milliseconds."""
    return filler(catalog.texts)


def filler(texts: Sequence[str]) -> frozenset[str]:
    """Words that say nothing of a label: of English, and of phrases that these texts repeat ("National brand").

    Judged by 500 texts that lie evenly among them.
    """
    read = [texts[at] for at in np.linspace(0, len(texts) - 1, min(_READ, len(texts)), dtype=np.int64).tolist()]
    many = Counter(word for text in read for word in words(text))
    least = max(_COMMON_TEXTS, _COMMON * len(read))
    return _FILLER | {word for word, count in many.items() if count > least}


def evidence_span(
    spans: ItemWords, stems: frozenset[str], neighbour: str = "", nothing: frozenset[str] = _FILLER
) -> Span | None:
    """Where in an item's words (`word_spans`) a label shows: the first word that its name (``stems``) shares.

    Without one, the longest run of words that ``neighbour`` has too: the nearest text that an item of this label has
    (`Retrieved.label_texts`); in the title where it shares any, else in the text. None where nothing is shared but
    numbers and words that say ``nothing`` (`filler`).
    """
    if shared := [spans.first[stem] for stem in stems if stem in spans.first]:
        return min(shared, key=lambda span: (span[0] != "title", span[1]))
    return _longest_run(spans.places, words(neighbour), nothing) if neighbour else None


def _longest_run(places: Sequence[tuple[str, Span]], stems: frozenset[str], nothing: frozenset[str]) -> Span | None:
    """The run of the title's words, or else the text's, all among ``stems``, with most letters; of equals the first.

    Numbers and words that say ``nothing`` neither count nor begin or end a run.
    """
    best: Span | None = None
    most = letters = 0
    run: Span | None = None
    for stem, (name, start, end) in places:
        # A title says what a thing is; texts share phrases of packaging.
        if best is not None and best[0] != name:
            break
        if stem not in stems:
            run, letters = None, 0
            continue
        if stem in nothing or stem.isdigit():
            continue
        run = (name, run[1] if run is not None else start, end)
        letters += end - start
        if letters > most:
            best, most = run, letters
    return best
