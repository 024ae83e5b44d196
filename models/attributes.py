"""Free attributes of products (brand, size, flavour, material): their schema, and what counts as a value of one.

A value is read from words and from nothing else: the same words always give the same value, and `Attribute.read` of a
value's own text gives that value again. Who finds such words in a product is in `models.values`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final, Literal, get_args

Kind = Literal["text", "enum", "number"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
FIELDS: Final = ("name", "kind", "several", "definition", "values", "units", "pattern", "column")
"""Keys of an attribute in a file; ``name`` and ``kind`` are required."""
MOST_WORDS: Final = 8
"""Words of a value at most."""
MOST_CHARACTERS: Final = 80
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,49}")
_WORD: Final = re.compile(r"[^\W_]+")
_BREAK: Final = re.compile(r"[,;:!?()|\n\r]")
_GAP: Final = 3
_MOST_REPEATS: Final = 3
_DECIMALS: Final = 4
_REPEATS: Final = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)
_NUMBER: Final = (
    r"(?<![\d.,/])(?<![^\W\dxX_])"  # "6x12 oz" has a 12, "a12" and "1.12" have none
    r"(?:(?:(?P<whole>\d{1,4})[ -])?(?P<top>\d{1,3})/(?P<bottom>\d{1,3})"
    r"|(?P<thousands>[1-9]\d{0,2}(?:,\d{3}){1,2})(?![.,]?\d)|(?P<plain>\d{1,9}(?:[.,]\d{1,6})?|\.\d{1,6}))"
)


class BadAttribute(ValueError):
    """An attribute's schema is not sound; the message names the attribute, the value and the remedy."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value in its normal form. ``number`` (rounded to 4 decimals) and ``unit`` only of a number, whose ``text`` is
    both: "12 oz"."""

    text: str
    number: float | None = None
    unit: str = ""

    @property
    def key(self) -> str:
        """Equal for values that are one: of a text its words, whatever stands between them."""
        return self.text if self.number is not None else normal(self.text)


@dataclass(frozen=True)
class Attribute:
    """What an attribute's values may be.

    ``kind``: "text" is any words of a product (at most `MOST_WORDS` of them) whose lower case ``pattern`` matches as a
    whole; "enum" is one of ``values``, by id or another of its names; "number" is a number and one of ``units``, by any
    of its spellings, or a bare number where there are none. Units are never converted. ``several``: an item may have
    more than one. ``column``: of a catalog, whose values are gold; by default the one of the attribute's name.

    Raises BadAttribute.
    """

    name: str
    kind: Kind
    several: bool = False
    definition: str = ""
    values: tuple[tuple[str, tuple[str, ...]], ...] = ()
    units: tuple[tuple[str, tuple[str, ...]], ...] = ()
    pattern: str = ""
    column: str = ""

    def __post_init__(self) -> None:
        if problem := next(_problems(self), ""):
            raise BadAttribute(f"attribute {self.name!r}: {problem}")

    @property
    def gold_column(self) -> str:
        """The catalog's column that says what is right."""
        return self.column or self.name

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Ids of an enum's values by the `normal` form of each of their names."""
        return {normal(name): id_ for id_, names in self.values for name in (id_, *names)}

    @cached_property
    def most_words(self) -> int:
        """Words of the longest name of an enum; of a text the bound."""
        return max((name.count(" ") + 1 for name in self.names), default=MOST_WORDS)

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        return re.compile(self.pattern) if self.pattern else None

    @cached_property
    def _units(self) -> Mapping[str, str]:
        return {_unit(spelling): unit for unit, spellings in self.units for spelling in (unit, *spellings)}

    @cached_property
    def _number(self) -> re.Pattern[str]:
        """Numbers with a unit in running text, the longest spelling first."""
        spellings = sorted((one for unit, names in self.units for one in (unit, *names)), key=len, reverse=True)
        if not spellings:
            return re.compile(rf"{_NUMBER}(?![^\W_]|[.,/]\d)")
        either = "|".join(r"\.?\s*".join(map(re.escape, re.split(r"[.\s]+", one.strip(". ")))) for one in spellings)
        return re.compile(rf"{_NUMBER}[\s-]{{0,3}}(?P<unit>{either})(?![^\W_])", re.IGNORECASE)

    def read(self, words: str) -> Value | None:
        """The value that these words are, from their first letter to their last; None for none of this attribute."""
        words = words.strip()
        if not words or len(words) > MOST_CHARACTERS:
            return None
        if self.kind == "number":
            match = self._number.fullmatch(words)
            return None if match is None else self._of(match)
        if self.kind == "enum":
            id_ = self.names.get(normal(words))
            return None if id_ is None else Value(id_)
        text = " ".join(words.casefold().split())
        if not 1 <= len(_WORD.findall(text)) <= MOST_WORDS or len(text) > MOST_CHARACTERS:
            return None
        return Value(text) if self._pattern is None or self._pattern.fullmatch(text) else None

    def numbers(self, text: str) -> Iterator[tuple[int, int, Value]]:
        """Of a number: where ``text`` has values, as characters [start, end), and which."""
        for match in self._number.finditer(text):
            if (value := self._of(match)) is not None:
                yield match.start(), match.end(), value

    def _of(self, match: re.Match[str]) -> Value | None:
        parts = match.groupdict()
        if parts["top"]:
            if not int(parts["bottom"]):
                return None
            number = int(parts["whole"] or 0) + int(parts["top"]) / int(parts["bottom"])
        elif parts["thousands"]:
            number = float(parts["thousands"].replace(",", ""))
        else:
            number = float(parts["plain"].replace(",", "."))
        number = round(number, _DECIMALS)
        unit = self._units[_unit(parts["unit"])] if self.units else ""
        shown = f"{number:.{_DECIMALS}f}".rstrip("0").rstrip(".")
        return Value(f"{shown} {unit}".strip(), number, unit)

    def to_row(self) -> dict[str, Any]:
        """What `attribute` reads back; what is not said is left out."""
        row: dict[str, Any] = {"name": self.name, "kind": self.kind}
        for name in ("several", "definition", "pattern", "column"):
            if getattr(self, name):
                row[name] = getattr(self, name)
        if self.values:
            row["values"] = [{"id": id_, "names": list(names)} if names else id_ for id_, names in self.values]
        if self.units:
            row["units"] = {unit: list(spellings) for unit, spellings in self.units}
        return row


def attribute(row: Any, number: int) -> Attribute:
    """An attribute from a file's object, the ``number``-th. Raises BadAttribute."""
    where = f"attribute {number}"
    if not isinstance(row, Mapping) or not isinstance(row.get("name"), str):
        raise BadAttribute(f"{where} has no 'name' in text; its keys may be {', '.join(FIELDS)}")
    where = f"attribute {row['name']!r}"
    if unknown := sorted(str(name) for name in row if name not in FIELDS):
        raise BadAttribute(f"{where} has {unknown[0]!r}; its keys may be {', '.join(FIELDS)}")
    if row.get("kind") not in KINDS:
        raise BadAttribute(f"{where}: kind is {row.get('kind')!r}; choose one of {', '.join(KINDS)}")
    several = row.get("several", False)
    if not isinstance(several, bool):
        raise BadAttribute(f"{where}: several is {several!r}; say true or false")
    for name in ("definition", "pattern", "column"):
        if not isinstance(row.get(name, ""), str):
            raise BadAttribute(f"{where}: {name} is {row[name]!r}; give text")
    return Attribute(
        row["name"],
        row["kind"],
        several,
        row.get("definition", ""),
        tuple(_enum_value(where, value) for value in _listed(where, "values", row.get("values", []))),
        _spellings(where, row.get("units", {})),
        row.get("pattern", ""),
        row.get("column", ""),
    )


def normal(words: str) -> str:
    """The words alone, in lower case, with a blank between them: what names are compared by."""
    return " ".join(_WORD.findall(words.casefold()))


def runs(text: str, most: int) -> Iterator[tuple[int, int, str]]:
    """Every run of up to ``most`` neighbouring words: characters [start, end) and its `normal` form, the longest first.

    Words that a comma, a bracket or a wide gap parts are no neighbours.
    """
    words = [
        (match.start(), match.end(), " ".join(_WORD.findall(match.group().casefold())))
        for match in _WORD.finditer(text)
    ]
    joined = [
        following[0] - before[1] <= _GAP and not _BREAK.search(text, before[1], following[0])
        for before, following in pairwise(words)
    ]
    for first, (start, _, _) in enumerate(words):
        last = first
        while last + 1 < min(len(words), first + most) and joined[last]:
            last += 1
        for at in range(last, first - 1, -1):
            yield start, words[at][1], " ".join(word for _, _, word in words[first : at + 1])


def repeated(attributes: Sequence[Attribute]) -> list[str]:
    """What is wrong with a list of attributes as a whole."""
    seen: set[str] = set()
    problems = []
    for one in attributes:
        if one.name.casefold() in seen:
            problems.append(f"attribute {one.name!r} is given twice")
        seen.add(one.name.casefold())
    return problems


def _problems(made: Attribute) -> Iterator[str]:
    if not _NAME.fullmatch(made.name):
        yield "a name is a letter and then letters, digits and underscores, 50 at most"
    for name, of in (("values", "enum"), ("units", "number"), ("pattern", "text")):
        if getattr(made, name) and made.kind != of:
            yield f"it has {name} and is of kind {made.kind!r}; only {of!r} takes them"
    if made.kind == "enum":
        yield from _doubled("value", made.values, normal)
        if not made.values:
            yield "an enum without values; list them under 'values'"
        for id_, names in made.values:
            for name in (id_, *names):
                if normal(name).count(" ") >= MOST_WORDS or len(name) > MOST_CHARACTERS:
                    yield f"{name!r} has more than {MOST_WORDS} words or {MOST_CHARACTERS} characters"
    yield from _doubled("unit", made.units, _unit)
    yield from (
        f"the unit {one!r} begins with a digit"
        for unit, names in made.units
        for one in (unit, *names)
        if one[:1].isdigit()
    )
    if made.pattern:
        yield from _pattern_problems(made.pattern)


def _doubled(what: str, given: tuple[tuple[str, tuple[str, ...]], ...], form: Any) -> Iterator[str]:
    """Names without a letter or digit, and names that two of them share."""
    owner: dict[str, str] = {}
    for id_, names in given:
        for name in (id_, *names):
            key = form(name)
            if not key:
                yield f"the {what} {name!r} has nothing to be read by"
            elif owner.setdefault(key, id_) != id_:
                yield f"{name!r} names the {what}s {owner[key]!r} and {id_!r}; leave it to one"
        if len([one for one, _ in given if one == id_]) > 1:
            yield f"the {what} {id_!r} is given twice"


def _unit(spelling: str) -> str:
    return re.sub(r"[.\s]+", "", spelling.casefold())


def _pattern_problems(pattern: str) -> Iterator[str]:
    """A pattern is tried on callers' words: one that could take exponential time is refused."""
    try:
        re.compile(pattern)
        repeats = list(_repeats(parser.parse(pattern), 0))
    except (re.error, RecursionError, OverflowError) as error:
        yield f"the pattern {pattern!r} cannot be read ({error})"
        return
    if any(depth > 0 for depth in repeats):
        yield f"the pattern {pattern!r} repeats something that repeats itself; write it without"
    if len(repeats) > _MOST_REPEATS:
        yield f"the pattern {pattern!r} has {len(repeats)} repetitions; {_MOST_REPEATS} are the most"


def _repeats(parsed: Any, depth: int) -> Iterator[int]:
    """The depth of every repetition of a parsed pattern: 0 where it is in no other. Alternatives within one and back
    references count as a repetition within it."""
    for code, argument in parsed:
        if code in _REPEATS:
            if argument[1] > 1:
                yield depth
                yield from _repeats(argument[2], depth + 1)
            else:
                yield from _repeats(argument[2], depth)
        elif code is codes.BRANCH:
            if depth:
                yield depth
            for branch in argument[1]:
                yield from _repeats(branch, depth)
        elif code is codes.SUBPATTERN:
            yield from _repeats(argument[-1], depth)
        elif code is codes.ATOMIC_GROUP:
            yield from _repeats(argument, depth)
        elif code in (codes.ASSERT, codes.ASSERT_NOT):
            yield from _repeats(argument[1], depth)
        elif code in (codes.GROUPREF, codes.GROUPREF_EXISTS):
            yield depth + 1


def _listed(where: str, name: str, cell: Any) -> list[Any]:
    if not isinstance(cell, list):
        raise BadAttribute(f"{where}: {name} is {cell!r}; give a list")
    return cell


def _enum_value(where: str, value: Any) -> tuple[str, tuple[str, ...]]:
    if isinstance(value, str):
        return value, ()
    if isinstance(value, Mapping) and isinstance(value.get("id"), str) and set(value) <= {"id", "names"}:
        return value["id"], _texts(where, f"names of {value['id']!r}", value.get("names", []))
    raise BadAttribute(f"{where}: {value!r} is no value; give text, or an object with 'id' and 'names'")


def _spellings(where: str, cell: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if isinstance(cell, list):
        cell = {unit: [] for unit in _texts(where, "units", cell)}
    if not isinstance(cell, Mapping):
        raise BadAttribute(f"{where}: units is {cell!r}; give an object of units, each with a list of other spellings")
    return tuple((str(unit), _texts(where, f"spellings of {unit!r}", names)) for unit, names in cell.items())


def _texts(where: str, what: str, cell: Any) -> tuple[str, ...]:
    if not isinstance(cell, list) or not all(isinstance(each, str) for each in cell):
        raise BadAttribute(f"{where}: {what} is {cell!r}; give a list of texts")
    return tuple(cell)
