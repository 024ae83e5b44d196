"""What training titles have as values and as words, counted, and asked without a title's own gold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Final

from training.tagging.kernels import IntArray
from training.tagging.oamine import AttributeData, Title
from training.tagging.words import shape

Span = tuple[int, int]
Slot = tuple[str, str]
"""Category and attribute."""
_LONGEST: Final = 12
"""Words of the longest run that is counted; a longer one is taken for new. Few values have more."""
_SMALL: Final = 0.2
"""Added to a count of what is right, beside one to the count of all: what a word never seen is worth."""


@dataclass(frozen=True, slots=True, eq=False)
class Lexicon:
    """Values by (category, attribute) in lower case with the titles [ids] that have them, and where they stand at all.

    ``carriers``: how many titles of a category have the attribute; ``titles``: how many there are.
    """

    values: Mapping[Slot, Mapping[str, Sequence[int]]]
    mentioned: Mapping[Slot, Sequence[int]]
    carriers: Counter[Slot]
    titles: Counter[str]


class Wording:
    """How many titles have a run of words at all, and how many have one like it as the value of an attribute.

    Every run counts, not the known values alone: a value that stands in one title only would else be told from words
    that are no value by having been counted.
    """

    def __init__(self, titles: Sequence[Title]) -> None:
        self._count: Counter[Hashable] = Counter()
        for title in titles:
            self._count.update(_keys(title))

    def own(self, title: Title) -> Collection[Hashable]:
        """What a counted title adds: given as ``hidden``, its own gold does not speak for it."""
        return _keys(title)

    def standing(self, title: Title, span: Span, hidden: Collection[Hashable] = ()) -> int:
        """Titles of the category in which the span's words stand."""
        return self._of(("stands", title.category, title.value(*span).lower()), hidden)

    def evidence(self, title: Title, span: Span, slot: Slot, hidden: Collection[Hashable] = ()) -> tuple[float, ...]:
        """How like the attribute's values a span is, whether or not it is one of them. Shares of the titles that have a
        word: where it begins a value, where it ends one, and where it is in one (the mean of all words). Log-shares of
        the titles that have the attribute: of the form, of the number of words, of the word before and of the next."""
        words = _words(title)
        first, last = span
        inside = [self._share(("inside", slot, word), title, word, hidden) for word in words[first : last + 1]]
        values = self._of(("has", slot), hidden)

        def of_values(key: Hashable) -> float:
            return log((self._of(key, hidden) + 0.5) / (values + 1.0))

        return (
            self._share(("begins", slot, words[first]), title, words[first], hidden),
            self._share(("ends", slot, words[last]), title, words[last], hidden),
            sum(inside) / len(inside),
            of_values(("form", slot, _form(title, span))),
            of_values(("long", slot, last - first)),
            of_values(("after", slot, _before(words, first))),
            of_values(("before", slot, _next(words, last))),
        )

    def _share(self, key: Hashable, title: Title, word: str, hidden: Collection[Hashable]) -> float:
        return (self._of(key, hidden) + _SMALL) / (self._of(("stands", title.category, word), hidden) + 1.0)

    def _of(self, key: Hashable, hidden: Collection[Hashable]) -> int:
        return self._count[key] - (key in hidden)


def lexicon(data: AttributeData, train: IntArray) -> Lexicon:
    """Values of the titles ``train`` [ids]."""
    values: dict[Slot, dict[str, list[int]]] = {}
    carriers: Counter[Slot] = Counter()
    titles: Counter[str] = Counter()
    for index in train.tolist():
        title = data.titles[index]
        titles[title.category] += 1
        for attribute, value in title.gold.items():
            slot = (title.category, attribute)
            carriers[slot] += 1
            values.setdefault(slot, {}).setdefault(value.lower(), []).append(index)
    wanted: dict[str, set[str]] = {}
    for (category, _), found in values.items():
        wanted.setdefault(category, set()).update(found)
    mentioned: dict[Slot, list[int]] = {}
    for index in train.tolist():
        title = data.titles[index]
        lowered = title.text.lower()
        for value in wanted[title.category]:
            if value in lowered and title.places(value):
                mentioned.setdefault((title.category, value), []).append(index)
    return Lexicon(values, mentioned, carriers, titles)


def _keys(title: Title) -> set[Hashable]:
    found: set[Hashable] = set()
    for first, (start, _) in enumerate(title.tokens):
        for _, end in title.tokens[first : first + _LONGEST]:
            found.add(("stands", title.category, title.text[start:end].lower()))
    words = _words(title)
    for attribute, value in title.gold.items():
        slot = (title.category, attribute)
        for first, last in title.places(value)[:1]:
            found |= {("inside", slot, word) for word in words[first : last + 1]}
            found |= {
                ("has", slot),
                ("begins", slot, words[first]),
                ("ends", slot, words[last]),
                ("form", slot, _form(title, (first, last))),
                ("long", slot, last - first),
                ("after", slot, _before(words, first)),
                ("before", slot, _next(words, last)),
            }
    return found


def _words(title: Title) -> list[str]:
    return [title.text[start:end].lower() for start, end in title.tokens]


def _before(words: Sequence[str], first: int) -> str:
    return words[first - 1] if first else "<"


def _next(words: Sequence[str], last: int) -> str:
    return words[last + 1] if last + 1 < len(words) else ">"


def _form(title: Title, span: Span) -> str:
    """The forms of a span's words, equal neighbours once: ``Dark Plum 20 oz`` -> ``title digits lower``."""
    forms = [shape(title.text[start:end]) for start, end in title.tokens[span[0] : span[1] + 1]]
    return " ".join(form for at, form in enumerate(forms) if not at or form != forms[at - 1])
