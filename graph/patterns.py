"""Facts and patterns as a person writes them on one line: ``mother(?who, "Tom Cruise")``.

Read as rules are, but what starts with a capital letter is a name, not a variable: variables start with ``?``, and
``_`` is any value.
"""

from __future__ import annotations

import re
from typing import Final

from graph.errors import Problem, RuleSyntaxError
from graph.ports import Fact
from graph.rules.reader import parse_atom
from graph.rules.syntax import Atom, Term, Variable, is_predicted, quoted, term_text

_RULES_VARIABLE: Final = re.compile(r"[A-Z][0-9]*|_[A-Za-z0-9]+")


def read_pattern(text: str) -> Fact:
    """A pattern for ``KnowledgeGraph.query``. Raises RuleSyntaxError.

    A single capital, which rules write for a variable, is refused: taken for a name it would match nothing.
    """
    atom = parse_atom(text)
    return Fact(atom.predicate, tuple(_argument(atom, term, place) for place, term in enumerate(atom.terms)))


def read_fact(text: str) -> Fact:
    """A fact without variables. Raises RuleSyntaxError."""
    fact = read_pattern(text)
    free = [arg for arg in fact.args if arg.startswith("?")]
    if free:
        raise RuleSyntaxError([Problem("<fact>", 1, 1, f"{text!r} holds the variable {free[0]}", "a fact has none")])
    return fact


def fact_text(fact: Fact) -> str:
    """The fact as ``read_fact`` reads it back: names are quoted where they need it."""
    args = ", ".join(arg if arg.startswith("?") else term_text(arg) for arg in fact.args)
    return f"predicted {fact.predicate[1:]}({args})" if is_predicted(fact.predicate) else f"{fact.predicate}({args})"


def _argument(atom: Atom, term: Term, place: int) -> str:
    if not isinstance(term, Variable):
        if term.startswith("?"):
            message = f"the name {term!r} cannot be asked for: it reads as a variable"
            raise RuleSyntaxError([Problem(*atom.place, message, "use a variable and look through the answers")])
        return term
    if re.fullmatch(r"_[0-9]+", term.name):
        return f"?{term.name}"
    if _RULES_VARIABLE.fullmatch(term.name):
        remedy = f"write ?{term.name} for any value, {quoted(term.name)} for the name"
        raise RuleSyntaxError([Problem(*atom.place, f"{term.name} (argument {place + 1}) may be either", remedy)])
    return term.name
