"""Answers to questions of several literals (graph/rules/question.py), joined over the facts of a store.

Only facts that can be part of an answer are looked at twice: each literal's are found by its constants, then thinned
out by the values that other literals leave its variables. The engine itself joins the rest, as the one rule that the
question is: so negation, comparisons and aggregates mean what they mean in rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graph.engine import kernel as k
from graph.engine.store import Store
from graph.engine.told import Table
from graph.errors import FactLimitExceeded, TimeLimitExceeded
from graph.ports import Fact
from graph.rules.question import ANSWER, Question
from graph.rules.syntax import Atom, Term, Variable

MOST_ANSWERS = 1_000_000


def answers(
    store: Store, question: Question, within: Mapping[str, Sequence[str]], most: int, seconds: float
) -> list[tuple[str, ...]]:
    """The distinct answers, sorted. ``within`` leaves variables, each of a literal without ``not``, only some values.

    Raises FactLimitExceeded for more than ``most`` answers, TimeLimitExceeded where joining takes longer than
    ``seconds``, ValueError for a variable of ``within`` that no such literal has.
    """
    from graph.engine.graph import RuleGraph  # which imports this file: a question is a graph of its own

    values: dict[Term, k.Words] = {Variable(name): _ids(store, texts) for name, texts in within.items()}
    matched = {term for part in question.parts if part.is_matched for term in part.literal.terms}
    if loose := [term for term in values if term not in matched]:
        raise ValueError(f"no literal without 'not' has the variable {loose[0]}; bind one that has a literal")
    found = {part.predicate: _facts(store, part.literal) for part in question.parts}
    # Fewest facts first: they leave the others' variables the fewest values. What is negated binds nothing.
    for part in sorted(question.parts, key=lambda part: (not part.is_matched, len(found[part.predicate]))):
        if part.is_matched:
            found[part.predicate] = _thinned(part.literal, found[part.predicate], values)
    for part in question.parts:
        if not part.is_matched:
            found[part.predicate] = _thinned(part.literal, found[part.predicate], dict(values))
    used = np.unique(np.concatenate([np.empty(0, np.int32), *(rows.ravel() for rows in found.values())]))
    tables = [Table(name, tuple(np.searchsorted(used, column) for column in rows.T)) for name, rows in found.items()]
    told = sum(map(len, found.values()))
    try:
        names = store.symbols.texts(used.tolist())
        joined = RuleGraph.build(
            question.program, tables=tables, names=names, max_facts=told + 1 + most, max_seconds=seconds
        )
    except FactLimitExceeded as error:
        raise FactLimitExceeded(
            f"the question has more than {most} answers, or as much to aggregate; give a variable a value, or add a "
            "literal"
        ) from error
    except TimeLimitExceeded as error:
        raise TimeLimitExceeded(
            f"the question was not answered after {seconds:g} s; give a variable a value, or add a literal"
        ) from error
    return [fact.args for fact in joined.query(Fact(ANSWER, tuple(f"?{i}" for i in range(len(question.variables)))))]


def _facts(store: Store, literal: Atom) -> k.Words:
    """Arguments int32[n, arity] of the facts that have the literal's constants."""
    number = store.compiled.visible.get(literal.predicate)
    constants = [term if isinstance(term, str) else None for term in literal.terms]
    ids = store.symbols.get([text or "" for text in constants])
    pattern = [-1 if text is None else symbol for text, symbol in zip(constants, ids)]
    if number is None or any(text is not None and symbol < 0 for text, symbol in zip(constants, pattern)):
        return np.empty((0, len(literal.terms)), np.int32)
    return store.arguments(number, store.rows(number, pattern))


def _thinned(literal: Atom, rows: k.Words, values: dict[Term, k.Words]) -> k.Words:
    """The rows whose variables may have their values; ``values`` are brought in line with what is left."""
    for position, term in enumerate(literal.terms):
        if isinstance(term, Variable) and term in values:
            rows = rows[np.isin(rows[:, position], values[term])]
    for position, term in enumerate(literal.terms):
        if isinstance(term, Variable):
            values[term] = np.unique(rows[:, position])
    return rows


def _ids(store: Store, texts: Sequence[str]) -> k.Words:
    ids = np.array(store.symbols.get(list(texts)), np.int32)
    return ids[ids >= 0]
