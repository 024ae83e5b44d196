"""What one file of rules says, before names are resolved and anything is checked."""

from __future__ import annotations

from dataclasses import dataclass, field

from graph.rules.syntax import Declaration, Place, Rule


@dataclass(frozen=True, slots=True)
class TypeStatement:
    """``.type name = value, value``: a type with these values and no others."""

    name: str
    values: tuple[str, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Clause:
    """A rule or a fact with names as written; a predicted literal's predicate starts with ``~``."""

    rule: Rule
    is_fact: bool


@dataclass(slots=True)
class Source:
    """One file. ``broken`` are names whose declaration could not be read: their use is no further fault."""

    file: str
    namespace: str = ""
    types: list[TypeStatement] = field(default_factory=list)
    declarations: list[Declaration] = field(default_factory=list)
    clauses: list[Clause] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
