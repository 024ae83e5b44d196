"""What may not be said to a customer: profanity and hate, also where it is disguised. Word lists and a few phrases.

Whole words only, so that Scunthorpe, cocktails, Moby Dick and shiitake stay. It is a filter for what an LLM writes, not
a judge of meaning: hate in friendly words passes it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Final

from serving.gateway.wordfiles import words_of

_ENDING: Final = r"(?:s|es|ed|er|ers|est|ing|in|y|z|n|t|en)?"
_LEET: Final = str.maketrans({"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "9": "g"})
_SIGNS: Final = str.maketrans({"@": "a", "$": "s", "!": "i", "|": "i", "€": "e", "£": "l", "+": "t"})
_LOOKALIKES: Final = str.maketrans("аеорсухіјѕԁɡɑοαενικυυ", "aeopcyxijsdgaoaevikuu")
_WORDS: Final = re.compile(r"[^\s,;:\"'“”„«»()\[\]{}<>?/\\=&%^~`]+")
_EDGES: Final = ".!-_*+|"
_MASK: Final = re.compile(r"[*#_]")
_RUN: Final = re.compile(r"(.)\1{2,}")
_LONGEST: Final = 40
_SPELLED: Final = re.compile(r"(?<!\w)(?:\w[\s.*_-]{1,2}){2,}\w(?!\w)")

_PEOPLE: Final = (
    r"(?:jews?|muslims?|christians?|hindus?|sikhs?|blacks?|whites?|gays?|lesbians?|homosexuals?|immigrants?|migrants?"
    r"|refugees?|arabs?|asians?|africans?|mexicans?|latinos?|gyps(?:y|ies)|roma|foreigners?|women|transgenders?"
    r"|trans\s+people|black\s+people|white\s+people|gay\s+people|jewish\s+people|disabled\s+people|the\s+disabled)"
)
_HATE: Final = re.compile(
    rf"\b(?:(?:kill|murder|gas|exterminate|lynch|deport|burn|hang)\s+(?:all\s+|the\s+|every\s+|those\s+){{0,2}}{_PEOPLE}"
    rf"|death\s+to\s+(?:all\s+|the\s+){{0,2}}{_PEOPLE}|{_PEOPLE}\s+(?:are|is)\s+(?:all\s+|nothing\s+but\s+|just\s+)?"
    r"(?:vermin|subhumans?|sub-humans?|cockroaches|parasites|animals|rats|scum|filth|inferior|a\s+disease|a\s+plague"
    rf"|criminals|apes|monkeys)|{_PEOPLE}\s+(?:should|must|deserve\s+to|need\s+to)\s+(?:all\s+)?(?:die|be\s+(?:killed|gassed"
    r"|exterminated|deported|lynched|shot|hanged))|(?:sieg\s+heil|heil\s+hitler|white\s+power|hitler\s+was\s+right"
    r"|gas\s+chambers?\s+for|race\s+war\s+now|jews\s+will\s+not\s+replace))\b"
)


class WordModerator:
    """`serving.gateway.ports.Moderator` by word lists in several languages."""

    def unsafe(self, text: str) -> str:
        """See Moderator. Case, accents, look-alike letters, leetspeak (``sh1t``), masks (``f**k``), stretched words and
        letters set apart (``f u c k``) are seen through."""
        plain = _plain(text)
        if _HATE.search(plain):
            return "hate"
        found = ""
        for word in _candidates(plain):
            if _pattern("hate").fullmatch(word):
                return "hate"
            if not found and _pattern("profanity").fullmatch(word):
                found = "profanity"
        return found or _masked(plain)


@cache
def _pattern(name: str) -> re.Pattern[str]:
    roots = sorted({_plain(word).replace("-", "") for word in words_of(name)})
    return re.compile(f"(?:{'|'.join(map(re.escape, roots))}){_ENDING}")


@cache
def _by_shape() -> dict[tuple[str, str, int], str]:
    """First letter, last letter and length of the masked words people write, with their kind."""
    words = {
        "fuck",
        "shit",
        "bitch",
        "cunt",
        "fucking",
        "fucker",
        "asshole",
        "bullshit",
        "motherfucker",
        "nigger",
        "faggot",
    }
    return {
        (word[0], word[-1], len(word)): "hate" if _pattern("hate").fullmatch(word) else "profanity" for word in words
    }


def _plain(text: str) -> str:
    """Lower case without accents and invisible characters; letters of other scripts that look Latin, beside Latin ones,
    are Latin."""
    text = unicodedata.normalize("NFKD", text).casefold()
    text = "".join(c for c in text if not unicodedata.combining(c) and unicodedata.category(c) != "Cf")
    return re.sub(r"\S+", lambda word: _same_script(word.group()), text)


def _same_script(word: str) -> str:
    return word.translate(_LOOKALIKES) if re.search(r"[a-z]", word) else word


def _candidates(plain: str) -> Iterator[str]:
    """The words as they are and as they may be meant."""
    for match in _WORDS.finditer(plain):
        raw = match.group()[:_LONGEST]
        for word in {raw.strip(_EDGES), raw.rstrip(_EDGES)}:
            if not any(character.isalpha() for character in word):
                continue
            letters = re.sub(r"[^\w]|_", "", word.translate(_SIGNS))
            for said in {re.sub(r"[^\w]|_", "", word), letters, letters.translate(_LEET)}:
                yield said
                if _RUN.search(said):
                    yield _RUN.sub(r"\1\1", said)
                    yield _RUN.sub(r"\1", said)
            if "-" in word:
                yield from word.split("-")
    for match in _SPELLED.finditer(plain):
        yield re.sub(r"[^\w]|_", "", match.group())


def _masked(plain: str) -> str:
    for match in _WORDS.finditer(plain):
        word = match.group().strip(".!,")
        if 4 <= len(word) <= 14 and _MASK.search(word[1:-1]) and re.fullmatch(r"[a-z][a-z*#_]*[a-z]", word):
            kind = _by_shape().get((word[0], word[-1], len(word)))
            if kind:
                return kind
    return ""
