"""Finds known terms in text and says whether the text states or negates them.

The longest term wins and hides the terms inside it ("root beer" hides "beer"), words are compared in the singular, and
negation reaches from a cue ("no", "without", "allergic to") over words known to carry it ("eat", "any") to the terms
after it, within the clause. Whatever is neither clearly stated nor clearly negated is reported as unclear: being sure
matters more here than being complete.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Final


class Polarity(Enum):
    """How a text uses a term. JOINED: negated only if a comma or "and" carries the negation on ("no nuts and milk")."""

    STATED = "stated"
    NEGATED = "negated"
    JOINED = "joined"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Mention:
    """A term found in a text."""

    term: str
    polarity: Polarity


_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[.,;!?()\n/&]")
_CLAUSES = re.compile(r"[,.;!?()\n]|\bbut\b|\bhowever\b", re.IGNORECASE)
_BREAKS = frozenset(".;!?()\n")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BREAK_WORDS = _words("but however although though except yet while whereas because since")
_NEGATORS = _words(
    "no not non never don't dont doesn't doesnt didn't isn't isnt aren't can't cant cannot won't wont neither "
    "nothing zero"
)
# "Less meat", "former vegan": neither yes nor no.
_HEDGES = _words("less fewer rarely hardly seldom sometimes former formerly ex used")
# These govern whole lists: "allergic to nuts, milk and eggs".
_LIST_CUES = _words(
    "without avoid avoids avoiding hate hates dislike dislikes allergic allergy allergies intolerant intolerance"
)
# "Non-fiction" and "zero sugar" are what somebody wants.
_RULES_OUT = (_NEGATORS | _LIST_CUES) - _words("non zero")
_CARRIERS = _words(
    "a an any all the to of from for in it with as i we he she you they do does did be is am are have has having eat "
    "eats eating ate drink drinks drinking consume consumes consuming use uses using like likes want wants need needs "
    "love loves enjoy buy buys touch contain contains containing contained include includes including suitable much "
    "more longer ever really very too big huge fan added other kind kinds sort sorts free cook cooking"
)
_AFTER_TERM = _words("food foods product products dish dishes item items meal meals stuff things ingredients")
_WISHES = _words("love loves enjoy enjoys prefer prefers want wants need needs crave craves like likes")
_OR = frozenset({"or", "nor", "/"})
_AND = frozenset({"and", "&"})
_AILMENTS = _words("allergy allergic intolerance intolerant free")


def words(text: str) -> list[str]:
    """Lower-case words and the punctuation that ends clauses; accents and digits are dropped."""
    plain = unicodedata.normalize("NFKD", text.replace("\u2019", "'")).encode("ascii", "ignore").decode().lower()
    return _WORD.findall(plain)


def singular(word: str) -> str:
    """A crude singular, the same for terms and texts, so that "berries" meets "berry"."""
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("oes", "ches", "shes", "sses", "xes")) else word[:-1]


def asked_for(text: str) -> str:
    """The text without the clauses that rule something out ("no horror", "allergic to nuts and milk"); may be empty."""
    clauses = (clause.strip() for clause in _CLAUSES.split(text))
    return ", ".join(clause for clause in clauses if clause and _RULES_OUT.isdisjoint(words(clause)))


@dataclass(frozen=True, slots=True)
class _Item:
    """A piece of text: a term, or one word or punctuation mark."""

    text: str
    is_term: bool


@dataclass(slots=True)
class _Scope:
    """The reach of a negation cue."""

    cues: int
    governs_list: bool
    sure: bool = True
    reached: bool = False
    joined: bool = False

    def polarity(self) -> Polarity:
        if self.cues > 1 or not self.sure:
            return Polarity.UNCLEAR
        return Polarity.JOINED if self.joined else Polarity.NEGATED


_TEXTS: Final = 64
"""The last texts whose mentions are remembered."""


class Lexicon:
    """The terms an ontology knows, ready to be found in text. Immutable once made."""

    def __init__(self, terms: Iterable[str]) -> None:
        self._by_first: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        for term in sorted(terms):
            key = tuple(singular(word) for word in words(term))
            if key:
                self._by_first.setdefault(key[0], []).append((key, term))
        for found in self._by_first.values():
            found.sort(key=lambda pair: (-len(pair[0]), pair[1]))
        # A product is read with what its seller says of it and without, and once more for what its tags imply.
        self._remembered = lru_cache(_TEXTS)(self._mentions)

    def mentions(self, text: str) -> Sequence[Mention]:
        """Every known term in the text, in order, with its polarity."""
        return self._remembered(text)

    def _mentions(self, text: str) -> tuple[Mention, ...]:
        items = self._items(words(text))
        found = _polarities(items)
        for i in found:
            if items[i].text.split()[-1] in _AILMENTS or _text(items, i + 1) in _AILMENTS:
                _negate_before(items, i, found)
        return tuple(found.values())

    def _items(self, tokens: Sequence[str]) -> list[_Item]:
        folded = [singular(token) for token in tokens]
        items, at = [], 0
        while at < len(tokens):
            for key, term in self._by_first.get(folded[at], ()):
                if tuple(folded[at : at + len(key)]) == key:
                    items.append(_Item(term, True))
                    at += len(key)
                    break
            else:
                items.append(_Item(tokens[at], False))
                at += 1
        return items


def _text(items: Sequence[_Item], at: int) -> str:
    return items[at].text if at < len(items) and not items[at].is_term else ""


def _is_term(items: Sequence[_Item], at: int) -> bool:
    return at < len(items) and items[at].is_term


def _polarities(items: Sequence[_Item]) -> dict[int, Mention]:
    found: dict[int, Mention] = {}
    scope: _Scope | None = None
    for i, item in enumerate(items):
        if item.is_term:
            found[i] = Mention(item.text, scope.polarity() if scope else Polarity.STATED)
            if scope:
                scope.reached = True
        else:
            scope = _after_word(item.text, items, i, scope)
    return found


def _after_word(word: str, items: Sequence[_Item], at: int, scope: _Scope | None) -> _Scope | None:
    if word in _BREAKS or word in _BREAK_WORDS:
        return None
    if _is_cue(word, items, at):
        doubled = scope is not None and not scope.reached
        governs_list = word in _LIST_CUES or word == "free"
        return _Scope(scope.cues + 1 if scope and doubled else 1, governs_list, sure=word not in _HEDGES)
    if scope is None:
        return None
    if not scope.reached:
        if word == ",":
            return None
        scope.sure = scope.sure and word in _CARRIERS
        return scope
    return _after_reached(word, items, at, scope)


def _is_cue(word: str, items: Sequence[_Item], at: int) -> bool:
    # "Free from nuts" negates what follows; in "nuts free" the word only closes a term.
    return word in _NEGATORS | _LIST_CUES | _HEDGES or (word == "free" and _text(items, at + 1) in ("from", "of"))


def _after_reached(word: str, items: Sequence[_Item], at: int, scope: _Scope) -> _Scope | None:
    """Whether a negation that has met its term goes on past this word."""
    if word in _OR or word in _AFTER_TERM:
        return scope
    if word in _AND:
        scope.joined = scope.joined or not _ends_in_or(items, at)
        return scope
    if word == ",":
        if _ends_in_or(items, at):
            return scope
        goes_on = _is_term(items, at + 1) or (_text(items, at + 1) in _AND and _is_term(items, at + 2))
        if scope.governs_list and goes_on:
            scope.joined = True
            return scope
        return None
    if word in _WISHES:
        return None
    scope.sure = False
    return scope


def _ends_in_or(items: Sequence[_Item], at: int) -> bool:
    """Whether the list that goes on at ``at`` is nothing but terms and is closed by "or": "no meat, fish or milk"."""
    for i in range(at, len(items)):
        text = _text(items, i)
        if text in _OR:
            return _is_term(items, i + 1)
        if not (items[i].is_term or text == ","):
            return False
    return False


def _negate_before(items: Sequence[_Item], at: int, found: dict[int, Mention]) -> None:
    """ "A nut and dairy allergy" is an allergy to nuts too."""
    while at >= 2 and items[at - 2].is_term and _text(items, at - 1) in _OR | _AND:
        at -= 2
        if found[at].polarity is Polarity.STATED:
            found[at] = replace(found[at], polarity=Polarity.NEGATED)
