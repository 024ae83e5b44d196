"""Compiles a program into the tables the kernel interprets.

Every rule gets a plan for each way it can fire: on a new or lost row of a body atom, on one of a negated atom, and on a
lost conclusion that may have another proof (its goal). The other atoms are matched most-bound-first, each by a lookup
on the arguments known by then (indexed nested-loop join, as in datafrog and Soufflé).

Late plans, and indexes that only those read, are for changes. Evaluating from scratch does without: facts of predicates
that no rule concludes are told first and settle first, so what fires on one of them finds none of a predicate that
rules conclude; whoever comes last finds the others. The first change over a base enters its facts in the late indexes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import TypeAlias

import numpy as np

from graph.engine import kernel as k
from graph.engine.limits import refuse_rules, refuse_size
from graph.engine.memory import address
from graph.engine.rewrite import HIDDEN, TRUE, Grouping, Layer, PlainRule, layers_of
from graph.engine.symbols import Symbols
from graph.errors import OntologyError
from graph.rules.syntax import Atom, Program, Term, Variable, is_predicted, predicted

Positions: TypeAlias = tuple[int, ...]
_MOST_HEAD = 3  # arguments of a head that ``kernel.hop`` concludes
_OPERATORS = {
    "!=": k.UNEQUAL,
    "<": k.LESS,
    "<=": k.LESS_EQUAL,
    ">": k.GREATER,
    ">=": k.GREATER_EQUAL,
}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A program as the kernel reads it. ``symbols`` holds its constants; the number of a predicate is its place in
    ``predicates``, that of a plain rule its place in ``rules``.
    """

    program: Program
    tables: dict[int, k.Words]
    registers: k.Longs  # where the tables lie
    symbols: Symbols
    predicates: dict[str, int]
    names: tuple[str, ...]
    rules: tuple[PlainRule | Grouping, ...]
    layers: tuple[Layer, ...]
    has_negation: tuple[bool, ...]
    index_of: dict[tuple[int, Positions], int]
    needs_numbers: bool
    most_slots: int
    most_body: int
    arities: tuple[int, ...]
    sizes: tuple[int, ...]
    later: tuple[bool, ...]  # whether rules or aggregates conclude the predicate
    hidden: tuple[bool, ...]
    visible: dict[str, int]  # predicates that are not hidden, by name
    rules_shown: dict[int, tuple[str, str]] = field(default_factory=dict)

    def premises_at(self, predicate: int) -> int:
        return k.ARGS + self.arities[predicate]

    def rule_shown(self, rule: int) -> tuple[str, str]:
        """Label and text of a rule of the program."""
        shown = self.rules_shown.get(rule)
        if shown is None:
            shown = self.rules_shown[rule] = (self.program.rules[rule].label, str(self.program.rules[rule]))
        return shown


def compile_program(program: Program) -> Compiled:
    """Tables for a checked program; those of the programs used last are kept, for they cost what a small closure does.

    Raises OntologyError for one larger than the kernel's words can number, or that ``check`` would not have admitted:
    the kernel follows what it is given without a look.
    """
    return _compiled(_Same(program))


@dataclass(frozen=True, slots=True, eq=False)
class _Same:
    """A program by its identity: its content is not hashable, and comparing it costs as much as compiling it."""

    program: Program

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.program is other.program

    def __hash__(self) -> int:
        return id(self.program)


@lru_cache(maxsize=16)
def _compiled(same: _Same) -> Compiled:
    program = same.program
    refuse_rules(program)
    layers = tuple(layers_of(program))
    arity = {TRUE: 0}
    for name, declaration in program.declarations.items():
        arity[name] = len(declaration.names)
        if not is_predicted(name):
            arity[predicted(name)] = len(declaration.names)
    for layer in layers:
        for grouping in layer.groupings:
            arity[grouping.values] = arity[grouping.results] = grouping.arity
    refuse_size(program, arity, len(layers))
    return _Compiler(program, layers, arity).compiled()


class _Compiler:
    def __init__(self, program: Program, layers: tuple[Layer, ...], arity: dict[str, int]) -> None:
        self.program = program
        self.layers = layers
        self.arity = arity
        self.number = {name: i for i, name in enumerate(arity)}
        self.symbols = Symbols()
        self.lists: list[int] = []
        self.steps: list[tuple[int, ...]] = []
        self.plans: dict[tuple[int, int, int], list[tuple[bool, tuple[int, ...]]]] = {}
        self.index_of: dict[tuple[int, Positions], int] = {}
        self.early: set[tuple[int, Positions]] = set()
        self.rules: list[PlainRule | Grouping] = []
        self.derived = {rule.head.predicate for layer in layers for rule in layer.rules}
        self.later = self.derived | {grouping.results for layer in layers for grouping in layer.groupings}
        self.most_slots = self.most_body = 1

    def compiled(self) -> Compiled:
        for at, layer in enumerate(self.layers):
            for rule in layer.rules:
                self._rule(at, rule)
            for grouping in layer.groupings:
                self.rules.append(grouping)
                group = tuple(range(grouping.arity - 1))
                self._index(self.number[grouping.values], group)
                self._index(self.number[grouping.results], group)
        layers_count = len(self.layers)
        plans_of = np.zeros((3, layers_count, len(self.arity), 3), np.int32)
        plans: list[tuple[int, ...]] = []
        for (kind, layer_number, predicate), found in self.plans.items():
            # Those that ask for the same constant first stand together; ``alike`` is how many follow such a plan.
            found.sort(key=lambda plan: (plan[0], self._guard(plan[1])))
            early = sum(not is_late for is_late, _ in found)
            plans_of[kind, layer_number, predicate] = len(plans), len(plans) + len(found), len(plans) + early
            for _, alike in groupby(found, key=lambda plan: (plan[0], self._guard(plan[1]))):
                same = [plan for _, plan in alike]
                plans += [(*plan, len(same) - 1 - i) for i, plan in enumerate(same)]
        predicates, indexes = self._records()
        tables = {
            k.PREDICATES: predicates,
            k.INDEXES: indexes,
            k.RULES: _table([self._rise(rule) for rule in self.rules], k.R_WIDTH),
            k.PLANS: _table(plans, k.PLAN_WIDTH),
            k.PLANS_OF: plans_of,
            k.STEPS: _table(self.steps, k.S_WIDTH),
            k.LISTS: np.array([*self.lists, 0], np.int32),
        }
        rules = [rule for layer in self.layers for rule in layer.rules]
        return Compiled(
            self.program,
            tables,
            self._registers(tables),
            self.symbols,
            self.number,
            tuple(self.number),
            tuple(self.rules),
            self.layers,
            tuple(any(rule.negated for rule in layer.rules) for layer in self.layers),
            self.index_of,
            needs_numbers=any(c.operator not in ("=", "!=") for rule in rules for c in rule.comparisons),
            most_slots=self.most_slots,
            most_body=self.most_body,
            arities=tuple(self.arity.values()),
            sizes=tuple(predicates[:, k.P_SIZE].tolist()),
            later=tuple(name in self.later for name in self.number),
            hidden=tuple(name.startswith(HIDDEN) for name in self.number),
            visible={name: number for name, number in self.number.items() if not name.startswith(HIDDEN)},
        )

    def _rise(self, rule: PlainRule | Grouping) -> tuple[int, int]:
        if isinstance(rule, Grouping):
            return 0, int(rule.function != "count")
        return rule.rise, len(rule.body)

    def _records(self) -> tuple[k.Words, k.Words]:
        """Where the parts of each predicate's records lie, and its indexes: numbers follow predicates, so they are
        renumbered here in the steps that name them."""
        premises = dict.fromkeys(self.number, 0)
        for rule in self.rules:
            head = rule.results if isinstance(rule, Grouping) else rule.head.predicate
            premises[head] = max(premises[head], self._rise(rule)[1])
        order = sorted(self.index_of, key=lambda key: key[0])
        renumbered = {self.index_of[key]: i for i, key in enumerate(order)}
        self.index_of = {key: i for i, key in enumerate(order)}
        self.steps = [
            (*step[:2], renumbered[step[2]], *step[3:]) if step[0] in (k.PROBE, k.ABSENT) else step
            for step in self.steps
        ]
        predicates: list[tuple[int, ...]] = []
        indexes: list[tuple[int, ...]] = []
        for name, number in self.number.items():
            # A predicted fact keeps its probability in two words where a derived one has premises.
            room = max(premises[name], 2 if is_predicted(name) else 0)
            next_at = k.ARGS + self.arity[name] + room
            own = [positions for predicate, positions in order if predicate == number]
            predicates.append((self.arity[name], next_at + len(own), k.ARGS + self.arity[name], next_at, len(indexes)))
            for i, positions in enumerate(own):
                is_late = (number, positions) not in self.early
                indexes.append((number, next_at + i, self._list(positions), len(positions), is_late))
        predicates.append((0, 1, 0, 0, len(indexes)))
        self.index_bits = len(order).bit_length()
        return _table(predicates, k.P_WIDTH), _table(indexes, k.I_WIDTH)

    def _registers(self, tables: dict[int, k.Words]) -> k.Longs:
        registers = np.zeros(k.REGISTERS, np.int64)
        for register, table in tables.items():
            registers[register] = address(table)
        registers[k.LAYERS], registers[k.PREDICATE_COUNT] = len(self.layers), len(self.arity)
        registers[k.INDEX_BITS] = self.index_bits
        return registers

    def _rule(self, layer: int, rule: PlainRule) -> None:
        number = len(self.rules)
        self.rules.append(rule)
        self.most_body = max(self.most_body, len(rule.body))
        for at, atom in enumerate(rule.body):
            rest = [i for i in range(len(rule.body)) if i != at]
            self._plan(k.POSITIVE, layer, number, rule, atom, at, rest)
        for atom in rule.negated:
            self._plan(k.NEGATED, layer, number, rule, _outward(atom, rule), -1, range(len(rule.body)))
        self._plan(k.GOAL, layer, number, rule, rule.head, -1, range(len(rule.body)))

    def _plan(
        self, kind: int, layer: int, number: int, rule: PlainRule, trigger: Atom, at: int, rest: Iterable[int]
    ) -> None:
        is_told = trigger.predicate not in self.later
        is_late = kind != k.POSITIVE or (is_told and any(atom.predicate in self.later for atom in rule.body))
        maker = _Plan(self, rule, is_late)
        binds, checks = maker.match(trigger, ())
        first = len(self.steps)
        maker.filters()
        for i in _order(rule.body, rest, maker.known, self.derived):
            maker.search(rule.body[i], i)
            maker.filters()
        maker.emit()
        if not maker.is_bound():
            raise OntologyError(
                f"a variable of rule {self.program.rules[rule.number].label!r} is bound by nothing; bind it"
            )
        fixed = [(slot, self.symbols.add(term)) for term, slot in maker.slots.items() if isinstance(term, str)]
        constants = [value for pair in fixed for value in pair]
        self.most_slots = max(self.most_slots, len(maker.slots))
        # Most rows that do not fit a plan differ from a constant of its atom: looked at before anything else.
        known = dict(fixed)
        pairs = list(zip(checks[::2], checks[1::2], strict=True))
        guards = [word for slot, position in pairs if slot in known for word in (position, known[slot])]
        checks = [word for slot, position in pairs if slot not in known for word in (slot, position)]
        lists = [word for words in (binds, checks, constants, guards) for word in (self._list(words), len(words) // 2)]
        hop = -1 if checks else self._hop(rule, trigger, at, self.steps[first:])
        whole = (number, first * k.S_WIDTH, at, *lists, hop)
        self.plans.setdefault((kind, layer, self.number[trigger.predicate]), []).append((is_late, whole))

    def _guard(self, plan: tuple[int, ...]) -> list[int]:
        """The first (position, symbol) a plan asks of its row; nothing for one that asks for none."""
        at = plan[k.PLAN_GUARDS]
        return self.lists[at : at + 2] if plan[k.PLAN_GUARD] else []

    def _hop(self, rule: PlainRule, trigger: Atom, at: int, steps: Sequence[tuple[int, ...]]) -> int:
        """Where ``kernel.hop`` reads how many keys it probes by (-1: it probes nothing) and arguments the head has, and
        where it takes each; -1 for a plan that is more than one probe and a head of one to three.
        """
        head, kinds = rule.head.terms, [step[k.S_KIND] for step in steps]
        if at < 0 or kinds not in ([k.PROBE, k.EMIT], [k.EMIT]) or not 1 <= len(head) <= _MOST_HEAD:
            return -1
        probed: tuple[Term, ...] = ()
        keys: list[Term] = []
        if kinds[0] == k.PROBE:
            if steps[0][k.S_CHECK]:
                return -1
            probed = rule.body[steps[0][k.S_ATOM]].terms
            bound = {term for term in probed if isinstance(term, str) or term in trigger.terms}
            keys = [term for term in probed if term in bound]

        def taken(term: Term) -> tuple[int, int]:
            if isinstance(term, str):
                return k.CONSTANT, self.symbols.add(term)
            if term in trigger.terms:
                return k.OF_TRIGGER, k.ARGS + trigger.terms.index(term)
            return k.OF_PROBED, k.ARGS + probed.index(term)

        places = [place for term in (*keys, *head) for place in taken(term)]
        return self._list([len(keys) if probed else -1, len(head), *places])

    def _list(self, values: Sequence[int]) -> int:
        self.lists += values
        return len(self.lists) - len(values)

    def _index(self, predicate: int, positions: Positions, *, is_late: bool = False) -> int:
        if not is_late:
            self.early.add((predicate, positions))
        return self.index_of.setdefault((predicate, positions), len(self.index_of))


class _Plan:
    """The steps of one plan, as they are written: which terms are known by then, and in which slot."""

    def __init__(self, compiler: _Compiler, rule: PlainRule, is_late: bool) -> None:
        self.compiler = compiler
        self.rule = rule
        self.is_late = is_late
        self.slots: dict[Term, int] = {}
        self.known: set[Term] = set()
        self.back = -1
        self.comparisons = list(rule.comparisons)
        self.negated = list(rule.negated)
        for atom in (*rule.body, rule.head, *rule.negated):
            self._constants(atom.terms)
        for comparison in rule.comparisons:
            self._constants((comparison.left, comparison.right))

    def match(self, atom: Atom, keys: Positions) -> tuple[list[int], list[int]]:
        """(slot, position) pairs that the atom's row binds, and those it must agree with; keys agree already."""
        binds: list[int] = []
        checks: list[int] = []
        for position, term in enumerate(atom.terms):
            if position in keys:
                continue
            (checks if term in self.known else binds).extend((self._slot(term), position))
            self.known.add(term)
        return binds, checks

    def search(self, atom: Atom, at: int) -> None:
        predicate = self.compiler.number[atom.predicate]
        keys = tuple(i for i, term in enumerate(atom.terms) if term in self.known)
        if len(keys) == len(atom.terms):
            self._step(k.MEMBER, predicate, at, self._slots(atom.terms))
            return
        index = self.compiler._index(predicate, keys, is_late=self.is_late)
        slots = self._slots(atom.terms[i] for i in keys)
        binds, checks = self.match(atom, keys)
        self.back = self._step(k.PROBE, index, at, slots, binds, checks)

    def filters(self) -> None:
        """Every comparison and negation whose terms are known by now."""
        for comparison in [c for c in self.comparisons if {c.left, c.right} <= self.known]:
            self.comparisons.remove(comparison)
            compiler, back = self.compiler, self.back
            sides = self._slot(comparison.left), self._slot(comparison.right)
            compiler.steps.append((k.COMPARE, back, _OPERATORS[comparison.operator], 0, *sides, 0, 0, 0, 0))
        for atom in list(self.negated):
            outward = [term for term in _outward(atom, self.rule).terms if not _is_local(term)]
            if self.known.issuperset(outward):
                self.negated.remove(atom)
                self._absent(atom)

    def emit(self) -> None:
        head = self.rule.head
        self._step(k.EMIT, self.compiler.number[head.predicate], 0, self._slots(head.terms))

    def is_bound(self) -> bool:
        """Whether every literal and the head found its variables bound."""
        return not self.comparisons and not self.negated and self.known.issuperset(self.rule.head.terms)

    def _absent(self, atom: Atom) -> None:
        terms = _outward(atom, self.rule).terms
        keys = tuple(i for i, term in enumerate(terms) if not _is_local(term))
        number = self.compiler.number[atom.predicate]
        index = self.compiler._index(number, keys, is_late=self.is_late)
        first: dict[Term, int] = {}
        pairs = [(first[term], i) for i, term in enumerate(terms) if _is_local(term) and first.setdefault(term, i) != i]
        slots = self._slots(terms[i] for i in keys)
        self._step(k.ABSENT, index, 0, slots, (), [position for pair in pairs for position in pair])

    def _step(
        self, kind: int, what: int, at: int, keys: list[int], binds: Sequence[int] = (), checks: Sequence[int] = ()
    ) -> int:
        compiler = self.compiler
        lists = (compiler._list(keys), len(keys), compiler._list(binds), len(binds) // 2)
        compiler.steps.append((kind, self.back, what, at, *lists, compiler._list(checks), len(checks) // 2))
        return (len(compiler.steps) - 1) * k.S_WIDTH

    def _constants(self, terms: Iterable[Term]) -> None:
        for term in terms:
            if isinstance(term, str):
                self._slot(term)
                self.known.add(term)

    def _slots(self, terms: Iterable[Term]) -> list[int]:
        return [self._slot(term) for term in terms]

    def _slot(self, term: Term) -> int:
        return self.slots.setdefault(term, len(self.slots))


def _outward(atom: Atom, rule: PlainRule) -> Atom:
    """A negated atom whose variables that occur nowhere else ("for no value") cannot be mistaken for others."""
    outside = {term for other in rule.body for term in other.terms} | set(rule.head.terms)

    def apart(term: Term) -> Term:
        return term if isinstance(term, str) or term in outside else Variable(f"{HIDDEN}{term}")

    return Atom(atom.predicate, tuple(map(apart, atom.terms)))


def _is_local(term: Term) -> bool:
    return isinstance(term, Variable) and term.name.startswith(HIDDEN)


def _order(body: Sequence[Atom], rest: Iterable[int], known: Iterable[Term], derived: set[str]) -> list[int]:
    """Always the atom with most arguments known; of equals one that no rule derives (a small index), as written."""
    order: list[int] = []
    bound, left = set(known), list(rest)
    while left:
        best = max(left, key=lambda i: (_share(body[i], bound), body[i].predicate not in derived, -i))
        left.remove(best)
        order.append(best)
        bound |= set(body[best].terms)
    return order


def _share(atom: Atom, bound: set[Term]) -> float:
    return sum(term in bound for term in atom.terms) / (len(atom.terms) or 1)


def _table(rows: Sequence[tuple[int, ...]], width: int) -> k.Words:
    return np.array(rows, np.int32).reshape(len(rows), width)
