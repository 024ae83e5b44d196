"""Compiles a rule into join plans: one for each body atom that may be the new fact which fires the rule.

The body atoms other than the new one are matched most-bound-first, each by one hash lookup on the arguments known by
then (indexed nested-loop join, as in datafrog and Soufflé). A plan is a chain of closures, so evaluation interprets
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol, TypeAlias

from graph.rules.syntax import Atom, Rule, Term, Variable

Row: TypeAlias = tuple[str, ...]
Positions: TypeAlias = tuple[int, ...]
Emit: TypeAlias = Callable[[Row, list[Row]], None]


class Store(Protocol):
    """What a plan reads: the rows of a predicate, whole or by the values at some argument positions."""

    def rows(self, predicate: str) -> Iterable[Row]: ...

    def lookup(self, predicate: str, positions: Positions, key: Any) -> Iterable[Row]:
        """Rows whose values at ``positions`` are ``key``: the bare value for one position, else a tuple."""
        ...

    def has(self, predicate: str, row: Row) -> bool: ...


_Step: TypeAlias = Callable[[Store, list[str], list[Row], Emit], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How rule ``rule`` fires on a new row of one body atom: ``run(store, row, emit)`` emits head and premise rows."""

    rule: int
    head: str
    predicates: tuple[str, ...]
    run: Callable[[Store, Row, Emit], None]
    indexes: tuple[tuple[str, Positions], ...]


def compile_rule(number: int, rule: Rule) -> list[tuple[str, Plan]]:
    """A plan for each body atom, with the predicate whose new rows fire it."""
    equal = _equalities(rule)
    if equal is None:
        return []
    body = [_substitute(atom, equal) for atom in rule.body]
    head = _substitute(rule.head, equal)
    different = [(_resolve(c.left, equal), _resolve(c.right, equal)) for c in rule.comparisons if c.operator == "!="]
    return [(body[i].predicate, _plan(number, head, body, different, i)) for i in range(len(body))]


def _equalities(rule: Rule) -> dict[Variable, Term] | None:
    """Each variable that ``=`` equates with another term, or None where the equalities contradict one another."""
    equal: dict[Variable, Term] = {}
    for comparison in rule.comparisons:
        if comparison.operator != "=":
            continue
        left, right = _resolve(comparison.left, equal), _resolve(comparison.right, equal)
        if left == right:
            continue
        if isinstance(left, Variable):
            equal[left] = right
        elif isinstance(right, Variable):
            equal[right] = left
        else:
            return None
    return equal


def _resolve(term: Term, equal: dict[Variable, Term]) -> Term:
    while isinstance(term, Variable) and term in equal:
        term = equal[term]
    return term


def _substitute(atom: Atom, equal: dict[Variable, Term]) -> Atom:
    return Atom(atom.predicate, tuple(_resolve(term, equal) for term in atom.terms), atom.place)


def _plan(number: int, head: Atom, body: Sequence[Atom], different: Sequence[tuple[Term, Term]], first: int) -> Plan:
    slots: dict[Term, int] = {}
    initial: list[str] = []
    for atom in (*body, head):
        for term in atom.terms:
            _slot(term, slots, initial)
    for pair in different:
        for term in pair:
            _slot(term, slots, initial)
    known: set[Term] = {term for term in slots if not isinstance(term, Variable)}
    order = _order(body, first, known)
    indexes: list[tuple[str, Positions]] = []
    makers: list[Callable[[_Step], _Step]] = []
    waiting = list(different)
    for position, at in enumerate(order):
        atom = body[at]
        bound = tuple(i for i, term in enumerate(atom.terms) if term in known)
        makers.append(_match(atom, at, bound, slots, is_new=position == 0))
        if position and bound and len(bound) < len(atom.terms):
            indexes.append((atom.predicate, bound))
        known.update(atom.terms)
        ready = [pair for pair in waiting if pair[0] in known and pair[1] in known]
        waiting = [pair for pair in waiting if pair not in ready]
        makers.extend(_differ(slots[left], slots[right]) for left, right in ready)
    step = _emit_head(head, slots)
    for maker in reversed(makers):
        step = maker(step)
    count = len(body)

    def run(store: Store, row: Row, emit: Emit) -> None:
        matched: list[Row] = [()] * count
        matched[first] = row
        step(store, initial.copy(), matched, emit)

    return Plan(number, head.predicate, tuple(atom.predicate for atom in body), run, tuple(indexes))


def _slot(term: Term, slots: dict[Term, int], initial: list[str]) -> None:
    if term not in slots:
        slots[term] = len(initial)
        initial.append("" if isinstance(term, Variable) else term)


def _order(body: Sequence[Atom], first: int, known: set[Term]) -> list[int]:
    """The atom that fires, then always the one with most arguments known (ties: as written)."""
    order, bound = [first], known | set(body[first].terms)
    rest = [i for i in range(len(body)) if i != first]
    while rest:
        best = max(rest, key=lambda i: (sum(t in bound for t in body[i].terms) / len(body[i].terms), -i))
        rest.remove(best)
        order.append(best)
        bound |= set(body[best].terms)
    return order


def _match(atom: Atom, at: int, bound: Positions, slots: dict[Term, int], is_new: bool) -> Callable[[_Step], _Step]:
    """A step that matches the atom's rows against what is bound, binds the rest and goes on."""
    predicate = atom.predicate
    binds: list[tuple[int, int]] = []
    checks: list[tuple[int, int]] = []
    seen: set[Term] = set()
    for i, term in enumerate(atom.terms):
        if i in bound and not is_new:
            continue
        (checks if i in bound or term in seen else binds).append((slots[term], i))
        seen.add(term)

    def accept(then: _Step, store: Store, env: list[str], matched: list[Row], emit: Emit, row: Row) -> None:
        for slot, i in binds:
            env[slot] = row[i]
        for slot, i in checks:
            if env[slot] != row[i]:
                return
        matched[at] = row
        then(store, env, matched, emit)

    def maker(then: _Step) -> _Step:
        def new(store: Store, env: list[str], matched: list[Row], emit: Emit) -> None:
            accept(then, store, env, matched, emit, matched[at])

        def scan(store: Store, env: list[str], matched: list[Row], emit: Emit) -> None:
            for row in store.rows(predicate):
                accept(then, store, env, matched, emit, row)

        if is_new:
            return new
        if not bound:
            return scan
        key_slots = [slots[atom.terms[i]] for i in bound]
        if len(bound) == len(atom.terms):
            row_of = _row_getter(key_slots)

            def member(store: Store, env: list[str], matched: list[Row], emit: Emit) -> None:
                row = row_of(env)
                if store.has(predicate, row):
                    matched[at] = row
                    then(store, env, matched, emit)

            return member
        key_of = itemgetter(*key_slots)

        def probe(store: Store, env: list[str], matched: list[Row], emit: Emit) -> None:
            for row in store.lookup(predicate, bound, key_of(env)):
                accept(then, store, env, matched, emit, row)

        return probe

    return maker


def _differ(left: int, right: int) -> Callable[[_Step], _Step]:
    def maker(then: _Step) -> _Step:
        def step(store: Store, env: list[str], matched: list[Row], emit: Emit) -> None:
            if env[left] != env[right]:
                then(store, env, matched, emit)

        return step

    return maker


def _emit_head(head: Atom, slots: dict[Term, int]) -> _Step:
    row_of = _row_getter([slots[term] for term in head.terms])

    def step(store: Store, env: list[str], matched: list[Row], emit: Emit) -> None:  # noqa: ARG001
        emit(row_of(env), matched)

    return step


def _row_getter(slots: Sequence[int]) -> Callable[[list[str]], Row]:
    if len(slots) == 1:
        only = slots[0]
        return lambda env: (env[only],)
    return itemgetter(*slots)
