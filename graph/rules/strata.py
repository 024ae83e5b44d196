"""Strata: which rules to close under together, so that what is negated or aggregated is complete when it is read.

All rules for a predicate share a stratum, so facts of a predicate are complete once its stratum is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from graph.errors import Problem
from graph.rules.names import shown
from graph.rules.syntax import Aggregate, Atom, Rule, is_predicted

_Uses: TypeAlias = dict[str, dict[str, list[str]]]
"""For each derived predicate the derived ones its rules read, and how (see ``_reads``)."""


def stratify(rules: Sequence[Rule]) -> tuple[tuple[int, ...], ...]:
    """Numbers of the rules by stratum, lowest first, each stratum in order; as few strata as there can be.

    The rules must be stratifiable (``recursions`` finds none); see Apt, Blair and Walker, "Towards a theory of
    declarative knowledge" (1988).
    """
    uses = _uses(rules)
    component = _components(uses)
    levels = dict.fromkeys(component.values(), 0)
    for head in sorted(uses, key=component.__getitem__):
        for name, hows in uses[head].items():
            if component[name] != component[head]:
                least = levels[component[name]] + any(hows)
                levels[component[head]] = max(levels[component[head]], least)
    members: dict[int, list[int]] = {}
    for number, rule in enumerate(rules):
        members.setdefault(levels[component[rule.head.predicate]], []).append(number)
    return tuple(tuple(members[level]) for level in sorted(members))


def recursions(rules: Sequence[Rule]) -> Iterator[Problem]:
    """A problem for each negation or aggregate that is read while what it reads may still grow."""
    uses = _uses(rules)
    component = _components(uses)
    for rule in rules:
        head = rule.head.predicate
        for name, how, literal in _reads(rule):
            if how and component.get(name) == component[head]:
                cycle = f"{_spelt(head)} -{how}-> {_way(uses, name, head)}"
                written = f"not {shown(literal)}" if how == "not" else shown(literal)
                message = f"'{written}' needs all of {_spelt(name)!r}, which rests on {_spelt(head)!r}: {cycle}"
                remedy = "break the circle: derive what is negated or aggregated without it"
                yield Problem(*literal.place, message, remedy)


def _uses(rules: Sequence[Rule]) -> _Uses:
    uses: _Uses = {rule.head.predicate: {} for rule in rules}
    for rule in rules:
        for name, how, _ in _reads(rule):
            if name in uses:
                uses[rule.head.predicate].setdefault(name, []).append(how)
    return uses


def _components(uses: _Uses) -> dict[str, int]:
    """For each predicate the number of those that rest on one another with it, what they rest on numbered first.

    Tarjan, "Depth-first search and linear graph algorithms" (1972), without recursion: chains of rules may be long.
    """
    component: dict[str, int] = {}
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    for root in uses:
        visits = [(root, iter(uses[root]))] if root not in order else []
        while visits:
            at, rest = visits[-1]
            if at not in order:
                order[at] = low[at] = len(order)
                path.append(at)
            below = next((name for name in rest if name not in component), None)
            if below is None:
                visits.pop()
                if visits:
                    low[visits[-1][0]] = min(low[visits[-1][0]], low[at])
                if low[at] == order[at]:
                    number = len(component)
                    while at not in component:
                        component[path.pop()] = number
            elif below in order:
                low[at] = min(low[at], order[below])
            else:
                visits.append((below, iter(uses[below])))
    return component


def _reads(rule: Rule) -> Iterator[tuple[str, str, Atom | Aggregate]]:
    """Predicates the rule reads and how: ``not``, an aggregate's function, or empty for all it may read growing."""
    for atom in rule.body:
        yield atom.predicate, "", atom
    for atom in rule.negated:
        yield atom.predicate, "not", atom
    for aggregate in rule.aggregates:
        for atom in aggregate.body:
            yield atom.predicate, aggregate.function, aggregate


def _way(uses: _Uses, start: str, goal: str) -> str:
    """The shortest way between two predicates of a component, as ``a -> b -not-> c``."""
    came: dict[str, str] = {start: ""}
    waiting = deque([start])
    while (at := waiting.popleft()) != goal:
        for name in uses[at]:
            if name not in came:
                came[name] = at
                waiting.append(name)
    pieces = [_spelt(goal)]
    while before := came[at]:
        how = uses[before][at][0]
        pieces += [f" -{how}-> " if how else " -> ", _spelt(before)]
        at = before
    return "".join(reversed(pieces))


def _spelt(predicate: str) -> str:
    return f"predicted {predicate[1:]}" if is_predicted(predicate) else predicate
