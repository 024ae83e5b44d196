"""Names in texts that people wrote about themselves, where nothing announces them: "Priya cooks, boris only eats fish".

By lists of given names and surnames (`words/`) and by what only persons do. Looked for in personal texts alone: on a
shelf "Alfredo", "Tyson" and "Reuben" are no persons. It errs towards taking out: a dish without its name costs a
recommendation little.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from serving.gateway.names import fold
from serving.gateway.wordfiles import words_of

_WORD: Final = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")
_JOINS: Final = frozenset({"and", "&", "y", "e", "et", "und", "en", "or", "with", "con", "mit", "avec", "com", "plus"})
_BEFORE_SMALL: Final = _JOINS | {"for", "para", "pour", "für", "per", "by", "called", "to"}
_HOUSES: Final = frozenset(
    {"family", "household", "residence", "party", "crew", "clan", "home", "kids", "boys", "girls", "twins"}
)
_BEFORE_HOUSE: Final = frozenset(
    {"familie", "famille", "família", "familia", "famiglia", "household", "family", "party"}
)
_BRAND: Final = re.compile(
    r"\b(?:Trader Joe|Ben (?:&|and) Jerry|Marie Callender|Sara Lee|Jimmy (?:Dean|John)|Betty Crocker|Aunt Jemima"
    r"|Uncle Ben|Johnn(?:y|ie) Walker|Jim Beam|Jack Daniel|Captain Morgan|Jos[eé] Cuervo|Tom Collins|Shirley Temple"
    r"|Arnold Palmer|Bloody Mary|Sloppy Joe|Earl Grey|Granny Smith|Calvin Klein|Martin Luther|Tommy Hilfiger"
    r"|Ralph Lauren|Oscar Mayer|Monterey Jack|Colby Jack|Eggs? Benedict|Peach Melba|Don Julio|Papa John|Little Debbie"
    r"|Mary Kay|Johnson (?:&|and) Johnson|Johnsonville|Harry (?:&|and) David|Saint? \w+|St\.? \w+|San \w+|Santa \w+"
    r"|Los \w+|Las \w+|El \w+|Bob Evans|Bob['’]s|Paul Newman|Famous Amos|Mike['’]s|Sam(?:uel)? Adams|Stella Artois"
    r"|Dom P\w+|Tito['’]s|Bass Pro|Caesar|Tia Maria|Mari[ae] (?:cookies|biscuits)|Julia Child|Gordon Ramsay"
    r"|Martha Stewart|Jamie Oliver)",
)
"""Goods and shops with a person's name of two words, and places."""
_ALSO_VERBS: Final = frozenset(
    {"pat", "rob", "sue", "bob", "drew", "jack", "josh", "chuck", "don", "nick", "peg", "stew", "bill", "skip"}
)
"""At the beginning of a sentence these are told somebody to do: "Pat dry"."""


@dataclass(slots=True)
class _Token:
    start: int
    end: int
    plain: str
    capital: bool
    owner: bool
    name: bool = False

    @property
    def given(self) -> bool:
        return _in("names_plain", self.plain)

    @property
    def listed(self) -> bool:
        return _in("names_words", self.plain) or _in("surnames", self.plain)


def name_spans(text: str) -> list[tuple[int, int]]:
    """Where ``text`` says a name: [start, end) of each, in order, apart. Time grows linearly with the text."""
    fixed = [match.span() for match in _BRAND.finditer(text)]
    tokens = [
        _token(match) for match in _WORD.finditer(text) if not any(start <= match.start() < end for start, end in fixed)
    ]
    for at, token in enumerate(tokens):
        token.name = _stands_alone(text, tokens, at)
    # Twice: "Rose, May and Anna" is found from its end.
    for order in (range(len(tokens)), reversed(range(len(tokens)))):
        for at in order:
            if not tokens[at].name:
                tokens[at].name = _beside_a_name(text, tokens, at)
    return _joined(text, [token for token in tokens if token.name])


def _stands_alone(text: str, tokens: list[_Token], at: int) -> bool:
    token = tokens[at]
    after = _after(text, tokens, at)
    if token.plain in words_of("not_names"):
        return False
    if token.owner:
        return token.given and after in words_of("owned")
    if token.plain in words_of("not_persons"):
        return token.capital and after in words_of("does_alive")
    if token.given:
        if token.plain in _ALSO_VERBS and (at == 0 or text[: token.start].rstrip()[-1:] in ".,!?;:\n"):
            return token.capital and after in words_of("does")
        return token.capital or _lower_given(text, tokens, at, after)
    if not token.capital:
        return False
    if token.listed and after in words_of("does") and after not in _JOINS:
        return True
    if after in words_of("does_alive"):
        return True
    before = _before(text, tokens, at)
    if before in _BEFORE_HOUSE:
        return True
    if _in("surnames", token.plain) and after in _HOUSES:
        return True
    several = token.plain.endswith("s") and _in("surnames", token.plain[:-1])
    return several and (before in {"the", "los", "die", "les", "os"} or not before)


def _lower_given(text: str, tokens: list[_Token], at: int, after: str) -> bool:
    """Written small a name needs more: something only persons do, a word before it, or a surname after it."""
    if len(tokens[at].plain) < 4:
        return False
    following = tokens[at + 1] if after else None
    surname = following is not None and not following.capital and _surname(following.plain)
    return after in words_of("does") or surname or _before(text, tokens, at) in _BEFORE_SMALL


def _beside_a_name(text: str, tokens: list[_Token], at: int) -> bool:
    """A capitalised word of the lists next to a name, or joined to one; any capitalised word right after a name."""
    token = tokens[at]
    if not token.capital or token.owner or _in("not_names", token.plain) or _in("not_persons", token.plain):
        return not token.capital and _lower_surname(text, tokens, at)
    for step in (-1, 1):
        if not 0 <= at + step < len(tokens) or not tokens[at + step].name:
            two = at + 2 * step
            if 0 <= two < len(tokens) and tokens[two].name and tokens[at + step].plain in _JOINS:
                return True
            continue
        between = text[min(token.end, tokens[at + step].end) : max(token.start, tokens[at + step].start)]
        if between in (" ", ". ") and (step == -1 or token.listed or len(token.plain) == 1):
            return between == " " or len(token.plain) == 1
        if between.strip() in (",", "&", "/") and token.listed:
            return True
    return False


def _lower_surname(text: str, tokens: list[_Token], at: int) -> bool:
    token = tokens[at]
    if at == 0 or not tokens[at - 1].name or tokens[at - 1].capital:
        return False
    return _surname(token.plain) and text[tokens[at - 1].end : token.start] == " "


def _surname(plain: str) -> bool:
    return _in("surnames", plain) or _in("surnames", plain.split("-")[-1]) or plain.startswith("al-")


def _joined(text: str, names: list[_Token]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for token in names:
        end = token.end - (2 if text[: token.end].endswith(("'s", "’s")) else 0)
        if spans and text[spans[-1][1] : token.start] in (" ", ". "):
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((token.start, end))
    return spans


def _token(match: re.Match[str]) -> _Token:
    word = match.group()
    capital = word[0].isupper() and not (len(word) > 1 and word.isupper())
    plain = fold(word).replace("’", "'")
    return _Token(match.start(), match.end(), plain.removesuffix("'s"), capital, plain.endswith("'s"))


def _in(words: str, plain: str) -> bool:
    known = words_of(words)
    return plain in known or ("-" in plain and plain.split("-")[0] in known) or plain.replace("'", "") in known


def _after(text: str, tokens: list[_Token], at: int) -> str:
    """The next word of the same phrase."""
    if at + 1 == len(tokens) or text[tokens[at].end : tokens[at + 1].start] != " ":
        return ""
    return text[tokens[at + 1].start : tokens[at + 1].end].lower().replace("’", "'")


def _before(text: str, tokens: list[_Token], at: int) -> str:
    if at == 0 or text[tokens[at - 1].end : tokens[at].start] not in (" ", ": "):
        return ""
    return text[tokens[at - 1].start : tokens[at - 1].end].lower()
