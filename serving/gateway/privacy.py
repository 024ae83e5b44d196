"""Personal data out of texts: before a vendor sees them, and before they are written down.

A name is known by what stands around it ("my name is", "Mrs", "my son", a signature), and in texts that speak of a
person by a list of common given names, written by hand: none with a licence comes with our dependencies. A rare name
that nothing announces passes. In return words of products stay: "Dr Pepper", "Rose wine", "12 oz", codes and prices.
Both are measured in tests/unit/serving/test_privacy.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from serving.gateway.names import NAME_PATTERNS, is_listed, is_name, listed_patterns
from serving.gateway.people import name_spans
from serving.gateway.places import ADDRESS_PATTERNS
from serving.gateway.ports import Redacted, Redactor


@dataclass(frozen=True, slots=True)
class _Rule:
    """A kind of data: what it may look like, the group that holds it, and what else it takes to be it.

    ``needs``: lower-case strings of which the text must hold one, ``digits``: how many it must hold, 0, 1, or 6 with
    little between them. Both are asked first: most texts hold nothing personal, and searching for a string takes a
    tenth of matching a pattern.
    """

    kind: str
    pattern: re.Pattern[str]
    group: str | int = 0
    decide: Callable[[re.Match[str]], bool] = lambda _: True
    needs: tuple[str, ...] = ()
    digits: Literal[0, 1, 6] = 0


_EDGE: Final = r"(?<![A-Za-z0-9_@./+-])"
"""ASCII, for there are no spaces around a number in Chinese or Japanese."""
_EMAIL: Final = re.compile(
    r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}(?:\s?@\s?|\s?[\[({]\s?at\s?[\])}]\s?|\s+at\s+(?=[\w-]{1,63}\s+dot\s))"
    r"[\w-]{1,63}(?:(?:\s?[\[({]\s?dot\s?[\])}]\s?|\s+dot\s+|\.)[\w-]{1,63}){1,4}"
)
_CARD: Final = re.compile(r"(?<![\w.,/-])\d(?:[ \u00a0.-]?\d){12,18}(?![\w/]|[.,-]\d)")
_CARD_START: Final = re.compile(
    r"4|5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)|3[47]|6(?:011|5|4[4-9]|2)|3(?:0[0-5]|[68])|35(?:2[89]|[3-8])"
)
_IBAN: Final = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?:[ \u00a0]?[A-Z0-9]{4}){2,7}(?:[ \u00a0]?[A-Z0-9]{1,3})?(?!\w)")
_DIGIT: Final = re.compile(r"\d")
_SIX_DIGITS: Final = re.compile(r"\d(?:[^\d\n]{0,6}\d){5}")
_SEPARATOR: Final = r"[ \u00a0./-]"
_PHONES: Final = (
    # +49 171 1234567, +1 (415) 555-0134, 0033 6 12 34 56 78
    re.compile(rf"{_EDGE}(?:\+|00)[1-9](?:{_SEPARATOR}{{0,2}}\(?\d\)?){{7,14}}(?!\d|[\w]*@)"),
    # (415) 555-0134, 1-415-555-0134, 415.555.0134
    re.compile(
        rf"{_EDGE}(?:1[ .-])?(?:\(\d{{3}}\)[ ]?|\d{{3}}(?P<s>[.-]))\d{{3}}(?(s)(?P=s)|[ .-])\d{{4}}(?![A-Za-z0-9_-])"
    ),
    # 06 12 34 56 78, 06.12.34.56.78
    re.compile(rf"{_EDGE}0[1-9](?P<s>[ .-])\d{{2}}(?:(?P=s)\d{{2}}){{3}}(?![A-Za-z0-9_-])"),
    # (11) 91234-5678
    re.compile(rf"{_EDGE}\(\d{{2,3}}\)\s?9?\d{{4}}[- ]\d{{4}}(?![A-Za-z0-9_-])"),
    # 07700 900123, 020 7946 0018, 0171/1234567, 030 1234567, 01 23456789
    re.compile(rf"{_EDGE}\(?0[1-9]\d{{0,4}}\)?[ /-]\d{{3,8}}(?:[ -]\d{{2,6}}){{0,2}}(?![A-Za-z0-9_-])"),
    # 612 345 678, 912 34 56 78 (Spain), 090-1234-5678 (Japan), 138 0013 8000 (China), 98765 43210 (India)
    re.compile(
        rf"{_EDGE}[67]\d{{2}} \d{{3}} \d{{3}}(?![ ]?[\w-])|{_EDGE}9\d{{2}} \d{{2}} \d{{2}} \d{{2}}(?![A-Za-z0-9_-])"
    ),
    re.compile(
        rf"{_EDGE}0[5789]0-\d{{4}}-\d{{4}}(?![A-Za-z0-9_-])|{_EDGE}1[3-9]\d[ -]\d{{4}}[ -]\d{{4}}(?![A-Za-z0-9_-])"
    ),
    re.compile(rf"{_EDGE}[6-9]\d{{4}} \d{{5}}(?![A-Za-z0-9_-])"),
)
_PHONE_DIGITS: Final = re.compile(r"(?<![A-Za-z0-9])\(?\+?\d(?:[ \u00a0().\/-]{0,2}\d){5,14}(?![A-Za-z0-9])")
_PHONE_WORD: Final = re.compile(
    r"(?:\b(?:phone|tel|telephone|mobile|cell(?:phone)?|whatsapp|signal|telegram|fax|call|ring|bel|appel\w{1,3}"
    r"|chiam\w{1,4}|llamar|anrufen|text|sms|reach|dial|contact"
    r"|number(?:\s+is)?|t[ée]l[ée]phone|portable|tel[ée]fono|m[oó]vil|celular|ll[aá]m[ae]\w*|telefon|handy|mobil|rufnummer"
    r"|cellulare|telefono|telemóvel|телефон|тел|номер)\b|电话|手机|電話|携帯|전화|هاتف)"
    r"(?:\s+(?:me|us|my|him|her|is|at|on|to|no|nr|number|es|ist|au|al|unter|me|the|me at)\b){0,3}[\s:.#№=是は]{0,3}\Z",
    re.IGNORECASE,
)
"""What makes a phone number of the digits that follow. Looked for where there are some: as one pattern with them it
would be tried at every word of a text."""
_BEFORE: Final = 80
"""Characters before a number in which its word is looked for."""
_UPC: Final = re.compile(r"\d \d{5} \d{5} \d|\d{12,14}")


class PatternRedactor:
    """`serving.gateway.ports.Redactor`: e-mail, card, iban, phone, address and name become ``[EMAIL]``, ``[CARD]``, ...

    Placeholders are left as they are, so redacting twice is redacting once.
    """

    def redact(self, text: str, personal: bool = False) -> Redacted:
        """See Redactor. Time grows linearly with the text."""
        found: dict[str, int] = {}
        holds = text.lower().__contains__
        digits = 0 if _DIGIT.search(text) is None else 1 if _SIX_DIGITS.search(text) is None else 6
        for rule in _RULES:
            if digits >= rule.digits and (not rule.needs or any(map(holds, rule.needs))):
                text = _replaced(text, rule, found)
        for pattern in listed_patterns(text):
            text = _replaced(text, _Rule("name", pattern, "it", is_listed), found)
        if personal:
            text = _without_names(text, found)
        return Redacted(text, found)


def redact_of(redactor: Redactor, personal: tuple[str, ...] | None, text: str) -> str:
    """``text`` without personal data; in the parts of it that are ``personal`` (see `Ask`) names are looked for harder.

    What stands around them is the template's and the catalog's: there Reuben is a sandwich.
    """
    if personal is None:
        return redactor.redact(text, True).text
    for part in personal:
        if part:
            text = text.replace(part, redactor.redact(part, True).text)
    return redactor.redact(text).text


def _without_names(text: str, found: dict[str, int]) -> str:
    for start, end in reversed(name_spans(text)):
        text = f"{text[:start]}[NAME]{text[end:]}"
        found["name"] = found.get("name", 0) + 1
    return text


def _replaced(text: str, rule: _Rule, found: dict[str, int]) -> str:
    def swap(match: re.Match[str]) -> str:
        if not rule.decide(match):
            return match.group()
        found[rule.kind] = found.get(rule.kind, 0) + 1
        start, end = match.span(rule.group)
        whole, offset = match.group(), match.start()
        return f"{whole[: start - offset]}[{rule.kind.upper()}]{whole[end - offset :]}"

    return rule.pattern.sub(swap, text)


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _is_card(match: re.Match[str]) -> bool:
    """Luhn's check, a known first digits, and a length cards have; 13 and 14 digits in a row are product codes."""
    number = _digits(match.group())
    grouped = len(number) != len(match.group())
    if len(number) not in (15, 16, 19) and not (len(number) == 14 and grouped):
        return False
    if not _CARD_START.match(number):
        return False
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(number)))
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0


def _is_iban(match: re.Match[str]) -> bool:
    """ISO 13616: the number with its head at the end, letters as 10 to 35, is 1 modulo 97."""
    code = re.sub(r"\s", "", match.group())
    return len(code) >= 15 and int("".join(str(int(c, 36)) for c in code[4:] + code[:4])) % 97 == 1


def _is_phone(match: re.Match[str]) -> bool:
    text = match.group().strip()
    return 7 <= len(_digits(text)) <= 16 and not _UPC.fullmatch(text)


def _is_told_phone(match: re.Match[str]) -> bool:
    start = match.start()
    return _PHONE_WORD.search(match.string, max(0, start - _BEFORE), start) is not None


_RULES: Final = (
    _Rule("email", _EMAIL, needs=("@", "at]", "at)", "at}", " dot ")),
    _Rule("iban", _IBAN, decide=_is_iban, digits=6),
    _Rule("card", _CARD, decide=_is_card, digits=6),
    *(_Rule("phone", pattern, decide=_is_phone, digits=6) for pattern in _PHONES),
    _Rule("phone", _PHONE_DIGITS, decide=_is_told_phone, digits=6),
    *(_Rule("address", pattern, "it", needs=needs, digits=1) for needs, pattern in ADDRESS_PATTERNS),
    *(_Rule("name", pattern, "it", is_name, needs) for needs, pattern in NAME_PATTERNS),
)
