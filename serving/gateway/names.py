"""Where a text says somebody's name, and which capitalised words are none. Group ``it`` is what is taken out."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from serving.gateway.wordfiles import words_of

_UPPER: Final = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĖĘĚĞĢĪĮİĶĹĻĽŁŃŅŇŌŐŘŚŞŠŢŤŪŮŰŲŽŹŻА-ЯЁΑ-Ω"
_ONE: Final = rf"[{_UPPER}]\w{{0,24}}(?:[-'’][{_UPPER}]?\w{{1,24}}){{0,3}}"
_PARTICLE: Final = r"(?:de|da|do|dos|das|del|della|di|van|von|der|den|ter|zu|la|le|al|el|bin|bint|ibn|y|e|af|ten)"
_FULL: Final = rf"{_ONE}(?:[^\S\n]+(?:{_PARTICLE}[^\S\n]+){{0,2}}{_ONE}|[^\S\n]+[{_UPPER}]\.){{0,3}}"
_ANY: Final = rf"(?:{_FULL}|[^\W\d_]{{2,20}}(?:['’-][^\W\d_]{{2,20}})?)"
_RELATIVES: Final = (
    r"husband|wife|spouse|partner|fianc[ée]e?|boyfriend|girlfriend|son|daughter|kid|child|baby|toddler|boy|girl|brother|sister"
    r"|mother|mom|mum|father|dad|grandmother|grandma|grandfather|grandpa|aunt|uncle|cousin|niece|nephew|friend|roommate"
    r"|flatmate|neighbou?r|boss|colleague|nanny|twins?|kids|sons|daughters|children|stepson|stepdaughter"
)
_SEVERAL: Final = rf"{_FULL}(?:(?:,[^\S\n]+|[^\S\n]+(?:and|&)[^\S\n]+){_FULL}){{0,3}}"
_OTHER_RELATIVES: Final = (
    r"(?:mon|ma)\s+(?:mari|femme|fils|fille|frère|sœur|ami|amie|conjoint|compagne?)|(?:mi|mis)\s+(?:hijo|hija|esposo|esposa"
    r"|marido|mujer|hermano|hermana|novio|novia|amigo|amiga)|(?:mein|unser)(?:e[mnrs]?)?\s+(?:Mann|Frau|Sohn"
    r"|Tochter|Bruder|Schwester|Freund|Freundin|Kind)|(?:mio|mia)\s+(?:marito|moglie|figlio|figlia|fratello|sorella)"
    r"|(?:meu|minha)\s+(?:marido|esposa|filho|filha|irmão|irmã)"
)

_TITLES: Final = frozenset({"mr", "mrs", "ms", "miss", "dr"})

_PATTERNS: Final[tuple[tuple[str, str], ...]] = (
    (
        "name",
        rf"(?i:\b(?:my|his|her|their)\s+(?:(?:full|first|last|given|family|legal|middle|maiden)\s+)?(?:name|surname)"
        rf"(?:\s+is|['’]s|:)|(?:\bthe\s+|^|[.:!]\s)name['’]?s?(?:\s+is)?|(?:^|\n|\bcustomer:\s)name\s?[:=])\s+(?P<it>{_ANY})",
    ),
    ("recipient|signed|ship|attn", rf"(?i:\b(?:recipient|signed|ship\s+to|attn)\s?[:=])\s+(?P<it>{_FULL})"),
    (
        "call me|i go by|called|named|married|known as",
        rf"(?i:\bcall\s+me|\bi\s+go\s+by|\b(?:called|named|married\s+to)|\bknown\s+as)\s+(?P<it>{_FULL})",
    ),
    ("call me", r"(?i:\bcall\s+me)\s+(?P<it>[a-z]{3,15})(?=\s?[,.;!]|\s*$)"),
    (" here", rf"(?:^|[.!?,:]\s+)(?P<it>{_FULL})\s+here(?=\s?[,.!:])"),
    ("i'm|i’m|im |i am", rf"\b(?i:i['’]?m|i\s+am)\s+(?P<it>{_FULL})"),
    (
        "this is|it's|it’s|hier is|aqui é|c'est|c’est",
        rf"\b(?i:this\s+is|it['’]s|hier\s+ist?|aqui\s+é\s+[oa])\s+(?P<it>{_FULL})"
        r"(?=\s+(?:from|here|speaking|calling|again)\b|\s?[,!.]|\s+and\s+I\b)",
    ),
    ("hi|hello|hey|dear", rf"(?i:\b(?:hi|hello|hey|dear)),?\s+(?P<it>{_FULL})(?=\s?[,!.])"),
    (
        "mr|ms|miss|mister|dr|prof|herr|frau|monsieur|madame|mme|mlle|m.|señor|sr|signor|senhor|mevrouw",
        rf"\b(?:(?i:mr|mrs|ms|miss|mister|dr|prof|herr|frau|monsieur|madame|mme|mlle|m\.(?=\s+[A-Z][a-z]+\b)|señora?|sra?"
        rf"|signor[ae]?|senhora?|mevrouw)\.?\s+){{1,3}}(?P<it>{_FULL})",
    ),
    (
        "my |our ",
        rf"(?i:\b(?:my|our)\s+(?:\w{{1,12}}[\s-]+(?:year[\s-]old\s+)?)?(?:{_RELATIVES})(?:['’]s\s+name\s+is|\s+is\s+called"
        rf"|,|\s+are)?)\s+(?P<it>{_SEVERAL})",
    ),
    (
        "kids|children|sons|daughters|boys|girls|twins",
        rf"\b(?:kids|children|sons|daughters|boys|girls|twins)\s?[,:(]\s?(?P<it>{_FULL}(?:,\s+{_FULL})?\s+(?:and|&)\s+{_FULL})",
    ),
    ("grandma|grandpa|nana ", rf"\b(?i:grandma|grandpa|nana)\s+(?P<it>{_ONE})(?!['’]s)\b"),
    (
        "ask for|speak|c/o|care of|myself|c'est|c’est",
        rf"(?i:\bask\s+for|\bspeak\s+(?:to|with)|\bc/o|\bcare\s+of|(?:^|[.:!]\s)myself|\bmoi,?\s+c['’]est)\s+(?P<it>{_FULL})",
    ),
    ("mon |ma |mi |mis |mein|unser|mio |mia |meu |minha ", rf"\b(?i:{_OTHER_RELATIVES}),?\s+(?P<it>{_FULL})"),
    (
        "appelle|mon |llamo|nombre|ich hei|mein name|chiamo|mio nome|meu nome|chamo|ik heet|mijn naam|heter|mitt namn"
        "|hedder|nazywam|mam na|зовут|имя|adım|jmenuji|tên tôi|nama saya|λένε",
        rf"(?i:\b(?:je\s+m['’]appelle|mon\s+(?:nom|prénom)\s+est|me\s+llamo|mi\s+nombre\s+es|ich\s+hei(?:ß|ss)e"
        rf"|mein\s+name\s+ist|mi\s+chiamo|il\s+mio\s+nome\s+è|meu\s+nome\s+é|me\s+chamo|chamo-me|ik\s+heet"
        rf"|mijn\s+naam\s+is|jag\s+heter|mitt\s+namn\s+är|jeg\s+hedder|jeg\s+heter|nazywam\s+się|mam\s+na\s+imię"
        rf"|меня\s+зовут|моё\s+имя|мое\s+имя|benim\s+adım|adım|jmenuji\s+se|tên\s+tôi\s+là|nama\s+saya|με\s+λένε))"
        rf"\s+(?P<it>{_ANY})",
    ),
    (
        "ich bin|je suis|sono|ik ben|jag är|jestem",
        rf"\b(?i:ich\s+bin|je\s+suis|sono|ik\s+ben|jag\s+är|jestem)\s+(?:(?i:die|der|la|le|el|o|a)\s+)?"
        rf"(?P<it>{_ONE}(?:[ ]{_ONE}){{0,2}})(?=\s?[,.;!]|\s+(?:und|et|y|e|en|och|i)\b|\s*$)",
    ),
    # "Soy" is also a bean: only a first word, and only where the sentence goes on.
    (
        "soy |sou ",
        rf"(?:^|[.!?:,]\s+)[Ss](?:oy|ou)\s+(?:(?:el|la|o|a)\s+)?(?P<it>{_ONE}(?:[ ]{_ONE}){{0,2}})"
        r"(?=\s?,\s|\s+(?:y|e)\s)",
    ),
    (
        "我",
        r"(?:我叫|我的名字是|我姓|我是(?=[\u4e00-\u9fff]{2,3}[,，。]))(?P<it>[\u4e00-\u9fff]{2,4}?)"
        r"(?=[,，。；、\s]|$|[喜爱想在是])",
    ),
    (
        "名前は|わたしは|私は",
        r"(?:名前は|わたしは|私は)(?P<it>[\u4e00-\u9fff\u3040-\u30ff]{2,8}?)(?=です|と申し|といい)",
    ),
    ("と申します|といいます", r"(?:^|[。、\s])(?P<it>[\u4e00-\u9fff\u30a0-\u30ff]{2,8}?)(?=と申します|といいます)"),
    ("はじめまして", r"はじめまして[、。\s]{0,2}(?P<it>[\u4e00-\u9fff\u30a0-\u30ff]{1,6}?)です"),
    (
        "이름은|저는",
        r"(?:이름은|저는)\s?(?P<it>[\uac00-\ud7af]{2,4}?)(?=입니다|이에요|예요|이고|라고|이라고)",
    ),
    ("اسمي", r"(?:اسمي|إسمي)\s+(?P<it>[\u0600-\u06ff]{2,15}(?:\s+[\u0600-\u06ff]{2,15})?)"),
    ("नाम", r"(?:मेरा\s+नाम)\s+(?P<it>[\u0900-\u097f]{2,15}(?:\s+[\u0900-\u097f]{2,15})?)(?=\s+है)"),
    (
        "regards|thank|cheers|sincerely|yours|merci|gracias|danke|grazie|obrigad|bedankt|tack|dziękuję|cordialement|saludos"
        "|grüße|mfg|saluti|abraços",
        rf"(?i:\b(?:(?:regards|sincerely|cordialement|saludos|grüße|mfg|saluti|abraços)(?:[ ,!.]{{0,4}}[\n,–—-]|\s)"
        rf"|(?:thanks|thank\s+you|cheers|yours|merci|gracias|danke|grazie|obrigad[oa]|bedankt|tack|dziękuję)"
        rf"[ ,!.]{{0,4}}[\n,–—-]))\s{{0,4}}(?P<it>{_FULL})\s?[.!]?\s*(?:\n|$)",
    ),
    ("\n", rf"(?i:\b(?:best|love|xoxo|lg))[ ,!.–—-]{{0,4}}\n\s{{0,4}}(?P<it>{_FULL})\s?[.!]?\s*(?:\n|$)"),
    # A dash, not a hyphen: that begins a line of a list.
    ("–|—|--", rf"(?:\n[ ]?(?:[–—]|--)|\s(?:—|--))\s?(?P<it>{_FULL})\s*(?:\n|$)"),
)

NAME_PATTERNS: Final = tuple((tuple(needs.split("|")), re.compile(pattern)) for needs, pattern in _PATTERNS)
"""Lower-case strings of which a text must hold one, asked first; and the pattern."""


_LATIN: Final = str.maketrans({"ı": "i", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "æ": "ae", "þ": "th", "ß": "ss"})

_PERSON: Final = re.compile(
    r"\b(?:i|i['’]?m|my|me|we|our|us|he|she|his|her|family|customer|adults|kids|children|husband|wife|mom|mum|dad|retired|student"
    r"|married|newlyweds|allergic|likes|loves|hates|lives|cooks|ich|mein\w*|wir|unser\w*|je|j['’]|mon|ma|nous|notre|yo|mi|soy|somos"
    r"|nuestr\w*|io|mio|mia|sono|noi|eu|meu|minha|ik|mijn|wij|jag|min|vi|jeg|mig)\b",
    re.IGNORECASE,
)
"""What only texts about people say; a product's text hardly does."""

_LETTERS: Final = re.compile(r"[^\W\d_]+")
_LISTED: Final = re.compile(rf"(?<![\w'’-])(?P<it>{_FULL})(?!['’]s\b|\w)")
_LISTED_LOWER: Final = re.compile(rf"\b(?i:i['’]?m|i\s+am|{_RELATIVES})(?:\s+is|,)?\s+(?P<it>[a-z]{{3,12}})(?![\w'’])")


def listed_patterns(text: str) -> tuple[re.Pattern[str], ...]:
    """Patterns whose match must pass `is_listed`; none for a text that does not speak of a person."""
    if words_of("given_names").isdisjoint(_LETTERS.findall(fold(text))) or not _PERSON.search(text):
        return ()
    return _LISTED, _LISTED_LOWER


def is_listed(match: re.Match[str]) -> bool:
    """Whether a word is a common given name, not all in capitals (a label) and not a placeholder."""
    word = match["it"].split()[0]
    return not (len(word) > 1 and word.isupper()) and fold(word).split("-")[0] in words_of("given_names")


def is_name(match: re.Match[str]) -> bool:
    """Whether what a pattern took for a name may be one: no word of products, peoples or diets, and no brand."""
    name = match["it"]
    words = [_plain(word) for word in name.split()]
    if not words or words[0].removesuffix("'s").split("-")[0] in words_of("not_names") or name.startswith("["):
        return False
    if words[0] in _TITLES or (len(words[0]) > 6 and words[0].endswith("ing")):
        return False  # "I'm Dr. Cho" is found by the title; "I am Training" is no name
    before = match.group()[: match.start("it") - match.start()].strip().lower().rstrip(".")
    return not (before in _TITLES and len(words) == 1 and words[0] in words_of("titled_brands"))


def fold(text: str) -> str:
    """Lower case without accents and with Latin letters for what no accent can be taken off."""
    if text.isascii():
        return text.lower()
    plain = text.lower().translate(_LATIN)
    return "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))


def _plain(word: str) -> str:
    return unicodedata.normalize("NFC", word).lower().replace("’", "'").strip(".,'")
