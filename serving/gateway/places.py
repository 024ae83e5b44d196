"""What street addresses look like, in the languages of our shops. Each pattern's group ``it`` is what is taken out."""

from __future__ import annotations

import re
from typing import Final

_NUMBER: Final = r"\d{1,5}[A-Za-z]?(?:[-/]\d{1,4}[A-Za-z]?)?"
_CAPITAL: Final = r"[A-ZÀ-ÖØ-Þ][\w'’.-]{0,24}"
_NAME: Final = r"[A-ZÀ-ÖØ-Þ][\w'’-]{1,24}"
_UNIT: Final = (
    r"(?:,?[^\S\n]+(?i:(?:apt|apartment|unit|suite|ste|flat|floor|fl|room|rm)\b\.?\s*#?\s*\w{1,5}|#\s?\w{1,5}))?"
)
_US_CITY: Final = (
    rf"(?:,?[^\S\n]+{_NAME}(?:[^\S\n]+{_NAME}){{0,2}})?(?:,?[^\S\n]+[A-Z]{{2}})?(?:,?[^\S\n]+\d{{5}}(?:-\d{{4}})?)?"
)
_STREETS: Final = (
    r"(?:[Ss]treet|STREET|[Aa]venue|AVENUE|[Rr]oad|ROAD|[Bb]oulevard|BOULEVARD|[Bb]lvd|BLVD|[Ll]ane|[Dd]rive"
    r"|[Cc]ourt|[Tt]errace|[Pp]arkway|[Pp]kwy|[Hh]ighway|[Hh]wy|[Cc]rescent|[Cc]lose|[Gg]rove|[Mm]ews)"
)
# The short and double-meaning ones ("12 ct", "Dr Pepper", "Milky Way") only where a city, a unit, a zip code or the
# sentence's end follows.
_SHORT: Final = r"(?:St|Ave|Av|Rd|Ln|Dr|Ct|Cir|Circle|Pl|Place|Sq|Square|Ter|Trail|Trl|Way|Row|Hill|Gardens)"
_NO_UNIT: Final = (
    r"(?!(?:[Oo][Zz]|O\.Z|[Ll][Bb]s?|LBS|G|KG|ML|C[TLt]|Ct|P[KCkc]|FL|Fl|L|PACK|Pack|Count|COUNT|D[OZoz]+)\b)"
)
_ORDINAL: Final = r"\d{1,3}(?:st|nd|rd|th)"
_WORDS: Final = rf"{_NO_UNIT}(?:{_CAPITAL}|{_ORDINAL})(?:\s+(?:{_CAPITAL}|{_ORDINAL})){{0,3}}?"
_TOWN: Final = r"[A-ZÀ-ÖØ-Þ][\w'’-]{1,24}(?:[ -][A-ZÀ-ÖØ-Þ][\w'’-]{1,24}){0,2}"
_POSTAL: Final = rf"(?:,?[^\S\n]+(?:[A-Z]{{1,2}}-)?\d{{4,5}}(?:\s?[A-Z]{{2}}\b)?(?:[^\S\n]+{_TOWN})?)?"

_PATTERNS: Final[tuple[tuple[str, str], ...]] = (
    (
        "street|avenue|road|boulevard|blvd|lane|drive|court|terrace|parkway|pkwy|highway|hwy|crescent|close|grove|mews",
        rf"(?<![\w.,/$-])(?P<it>{_NUMBER}\s+{_WORDS}\s+{_STREETS}\b\.?{_UNIT}{_US_CITY})",
    ),
    (
        " st| av| rd| ln| dr| ct| cir| pl| sq| ter| tr| way| row| hill| gardens",
        rf"(?<![\w.,/$-])(?P<it>{_NUMBER}\s+{_WORDS}\s+{_SHORT}\b\.?(?:(?=\s?(?:[,;!?)\n]|$|\.\s|\.$)){_UNIT}{_US_CITY}"
        rf"|(?=\s+(?:[Aa]pt|[Uu]nit|[Ss]uite|#|and\b|in\b|near\b|\d{{5}}\b)){_UNIT}{_US_CITY}))",
    ),
    (
        "street|avenue|road|boulevard|blvd|lane|drive",  # as people type: 42 elm street
        rf"(?<![\w.,/$-])(?P<it>{_NUMBER}\s+(?:[a-z]{{1,20}}\s+){{1,2}}?(?:street|avenue|road|boulevard|blvd|lane|drive)\b"
        rf"{_UNIT})",
    ),
    ("box", r"(?P<it>\b[Pp]\.?\s?[Oo]\.?\s?[Bb]ox\s+\d{1,6})"),
    (" ", r"(?P<it>\b[A-Z]{1,2}\d[A-Z\d]?\s\d[ABD-HJLNP-UW-Z]{2}\b)"),  # SW1A 1AA
    (" ", r"(?P<it>\b[ABCEGHJ-NPRSTVXY]\d[A-Z]\s\d[A-Z]\d\b)"),  # K1A 0B1
    (", ", rf"(?P<it>\b{_TOWN},\s+[A-Z]{{2}}\s+\d{{5}}(?:-\d{{4}})?\b)"),  # Springfield, IL 62704
    (
        "straße|strasse|str.|weg|allee|gasse|platz|ufer|damm",  # Hauptstraße 12, 10115 Berlin
        rf"(?P<it>(?<!\w)(?:[A-ZÄÖÜ][\w-]{{0,20}}[ -])?\w{{0,30}}(?:straße|strasse|str\.|[Ww]eg|[Aa]llee|[Gg]asse"
        rf"|[Pp]latz|[Uu]fer|[Dd]amm)\s+\d{{1,4}}\s?[a-z]?\b{_POSTAL})",
    ),
    (
        "am |an der |im |zum |zur |unter den ",
        rf"(?P<it>\b(?:Am|An der|Im|Zum|Zur|Unter den)\s+[A-ZÄÖÜ][\w-]{{1,30}}\s+\d{{1,4}}\s?[a-z]?\b,\s+\d{{5}}"
        rf"\s+{_TOWN})",
    ),
    (
        "rue|avenue|av.|boulevard|bd|allée|impasse|chemin|place|quai|cours|route",  # 12 rue de la Paix, 75002 Paris
        rf"(?P<it>(?<!\w){_NUMBER},?\s+(?:bis\s+|ter\s+)?(?:rue|avenue|av\.|boulevard|bd|allée|impasse|chemin|place|quai"
        rf"|cours|route)\s+(?:(?:de|du|des|la|le|les|l['’]|d['’]|à|aux?|en)\s?){{0,3}}{_TOWN}{_POSTAL})",
    ),
    (
        "calle|c/|avenida|avda|plaza|paseo|carrer|rua|travessa|via|piazza|corso|vicolo",  # Calle Mayor 5, 28013 Madrid
        rf"(?P<it>\b(?:[Cc]alle|C/|[Aa]venida|[Aa]vda\.?|[Pp]laza|[Pp]aseo|[Cc]arrer|[Rr]ua|[Tt]ravessa|[Vv]ia(?:le)?|[Pp]iazza"
        rf"|[Cc]orso|[Vv]icolo)\s+(?:(?:de|del|della|delle|dei|di|da|das|dos|do|la|las|los|el|l['’])\s?){{0,3}}{_TOWN}"
        rf"(?:\s+{_TOWN})?,?\s+(?:n[.º°o]\s?)?\d{{1,4}}\b{_POSTAL})",
    ),
    (
        "straat|laan|gracht|plein|gatan|vägen|gade|gata|vej",  # Kerkstraat 12, 1017 GA Amsterdam; Storgatan 5
        rf"(?P<it>\b[A-Z][\w-]{{0,30}}(?:straat|laan|gracht|plein|gatan|vägen|gade|gata|vej)\s+\d{{1,4}}\s?[a-zA-Z]?\b"
        rf"{_POSTAL})",
    ),
    (
        "ul.|ulica|al.",
        r"(?P<it>\b(?:ul\.|ulica|al\.)\s+[A-ZŁŚŻŹĆ]\w{1,30}(?:\s+[A-ZŁŚŻŹĆ]\w{1,30})?\s+\d{1,4}(?:/\d{1,4})?)",
    ),
    (
        "ул|пр",
        r"(?P<it>(?:\bул\.|\bулица|\bпроспект|\bпр\.)\s?[А-ЯЁ][\w-]{1,30}(?:\s+[А-ЯЁ][\w-]{1,30})?,?\s+(?:д\.|дом)?\s?\d{1,4}"
        r"(?:,?\s?кв\.?\s?\d{1,4})?)",
    ),
    (
        "号|號",
        r"(?P<it>(?:[\u4e00-\u9fff]{2,8}[省市区县區縣]){0,3}[\u4e00-\u9fff]{1,8}[路街道巷]\d{1,5}[号號](?:\d{1,5}室)?)",
    ),
    (
        "〒|都|道|府|県",
        r"(?P<it>〒\d{3}-\d{4}[^\n,，。]{0,30}|[\u4e00-\u9fff]{2,4}[都道府県][\u4e00-\u9fff]{1,6}[市区町村][\u4e00-\u9fff]{1,8}"
        r"\d{1,3}-\d{1,3}(?:-\d{1,3})?)",
    ),
)

ADDRESS_PATTERNS: Final = tuple((tuple(needs.split("|")), re.compile(pattern)) for needs, pattern in _PATTERNS)
"""Lower-case strings of which a text must hold one, asked first; and the pattern. Every one needs a digit, too."""
