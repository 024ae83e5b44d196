"""Questions of several literals to the graph, with what the catalog says of the items they are about.

A variable in an item's place goes through the catalog, page by page, as a pattern's does (pipeline/graph.py). Only one
may: the pairs of a catalog's items are too many for any page.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import numpy as np

from graph.errors import RuleSyntaxError
from graph.ports import Fact
from graph.rules.question import Question, named, read_question
from graph.rules.syntax import Atom, Program, Term
from serving.clock import RequestClock
from serving.errors import InvalidRequest
from serving.facts import with_catalog
from serving.knowledge import ITEM, types_of
from serving.pipeline.graph import GENERAL, SHARE, TOGETHER, candidates, paged
from serving.services import Services

Values: TypeAlias = tuple[str, ...]
_SHOWN: Final = 5
"""Faults of a question that one error lists."""


@dataclass(frozen=True, slots=True)
class LiteralsQuery:
    """Literals as a rule's body has them; at most ``page_size`` answers; where the page before ended."""

    request_id: str
    deadline_ms: int
    literals: str
    page_size: int
    page_token: str = ""


@dataclass(frozen=True, slots=True)
class AnswerPage:
    """Variables, values for each of them, and where the next page begins; empty where there is none."""

    variables: Values
    answers: tuple[Values, ...]
    next_page_token: str


async def answers(services: Services, asked: LiteralsQuery, clock: RequestClock) -> AnswerPage:
    """A page of answers: those of no catalog item first, then item by item. Raises InvalidRequest for literals that
    cannot be read or asked here, or a token of other ones, FactLimitExceeded and TimeLimitExceeded.
    """
    with clock.stage("graph"):
        return await asyncio.to_thread(_page, services, asked, clock.remaining_s)


def _page(services: Services, asked: LiteralsQuery, seconds: float) -> AnswerPage:
    try:
        question = read_question(asked.literals, services.graph.program)
    except RuleSyntaxError as error:
        faults = (f"line {each.line}, column {each.column}: {each.message}; {each.remedy}" for each in error.problems)
        raise InvalidRequest(f"literals: {'. '.join(list(faults)[:_SHOWN])}") from None
    item = _item_variable(question, services.graph.program)
    rows = partial(_rows, services, question, item, seconds)
    text = json.dumps(["literals", asked.literals])
    found, token = paged(rows, tuple, text, asked.page_size, asked.page_token, seconds * SHARE)
    return AnswerPage(tuple(name.removeprefix("?") for name in question.variables), found, token)


def _rows(
    services: Services, question: Question, item: str | None, seconds: float, start: int
) -> Iterator[tuple[int, list[Values]]]:
    """Answers with the row of the item they are about: first those about none (row -1), sorted."""
    program = services.graph.program
    fixed = [term for term in _items(question, program) if isinstance(term, str)]
    if item is None:
        yield GENERAL, with_catalog(services, fixed).answers(question, seconds=seconds)
        return
    place = question.variables.index(item)
    if start == GENERAL:
        found = with_catalog(services, fixed).answers(question, seconds=seconds)
        yield GENERAL, [values for values in found if services.table.row_of(values[place]) < 0]
    rows = _candidates(services, question, item)
    rows = rows[rows >= max(start, 0)]
    for first in range(0, len(rows), TOGETHER):
        some = rows[first : first + TOGETHER].tolist()
        ids = [services.table.item_ids[row] for row in some]
        by_item: dict[str, list[Values]] = {each: [] for each in ids}
        graph = with_catalog(services, [*fixed, *ids])
        for values in graph.answers(question, within={item: ids}, seconds=seconds):
            by_item[values[place]].append(values)
        for row, each in zip(some, ids):
            yield row, by_item[each]


def _items(question: Question, program: Program) -> Iterator[Term]:
    """What stands in places of items, in every literal."""
    for part in question.parts:
        for term, kind in zip(part.literal.terms, types_of(program, part.literal.predicate)):
            if kind == ITEM:
                yield term


def _item_variable(question: Question, program: Program) -> str | None:
    """The variable that stands for items; None where none does. Raises InvalidRequest where a page cannot answer."""
    variables = [term for term in _items(question, program) if not isinstance(term, str)]
    found = dict.fromkeys(map(named, variables))
    if len(found) > 1:
        names = ", ".join("_" if name is None else name for name in found)
        raise InvalidRequest(f"literals ask of {len(found)} items at once ({names}); give all but one of them an id")
    name = next(iter(found), None)
    matched = {term for part in question.parts if part.is_matched for term in part.literal.terms}
    if variables and (name not in question.variables or variables[0] not in matched):
        raise InvalidRequest(
            f"literals ask of all items at once ({'_' if name is None else name}); give the item an id, or a variable "
            "of a literal without 'not'"
        )
    return name


def _candidates(services: Services, question: Question, item: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Rows of items that may be in an answer."""
    rows = np.arange(len(services.table))
    for part in question.parts:
        if part.is_matched and any(named(term) == item for term in part.literal.terms):
            pattern = _pattern(part.literal)
            place = next(i for i, term in enumerate(part.literal.terms) if named(term) == item)
            rows = np.intersect1d(rows, candidates(services, pattern, place))
    return rows


def _pattern(literal: Atom) -> Fact:
    args = (term if isinstance(term, str) else f"?{term.name}" for term in literal.terms)
    return Fact(literal.predicate, tuple(args))
