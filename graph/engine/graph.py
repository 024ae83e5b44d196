"""The graph that the rest of Tandem asks: facts closed under rules, never changed once it stands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TypeAlias

import numpy as np

from graph.engine import kernel as k
from graph.engine.answers import MOST_ANSWERS, answers
from graph.engine.plan import compile_program
from graph.engine.proofs import fact_at, last_step, probability_at, prove
from graph.engine.rewrite import TRUE
from graph.engine.store import Store
from graph.engine.told import Table, Told, add_facts, add_predicted, add_table, check_fact
from graph.engine.update import Limits, Update
from graph.errors import NotDerived, UnknownPredicate
from graph.ports import MOST_SECONDS, Fact, Proof
from graph.rules.message import filled
from graph.rules.names import nearest
from graph.rules.question import Question
from graph.rules.syntax import Program, is_predicted

DEFAULT_MAX_FACTS = 20_000_000
DEFAULT_MAX_SECONDS = 300.0

Predicted: TypeAlias = tuple[Fact, float]
"""A fact a model predicts, and its probability."""


class RuleGraph:
    """A knowledge graph under rules (implements ports.KnowledgeGraph). Immutable; safe to read from many threads."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self.store = store
        self.limits = limits

    @classmethod
    def build(
        cls,
        program: Program,
        facts: Iterable[Fact] = (),
        source: str = "asserted",
        max_facts: int = DEFAULT_MAX_FACTS,
        *,
        tables: Iterable[Table] = (),
        names: Sequence[str] = (),
        predicted: Iterable[Predicted] = (),
        max_seconds: float = DEFAULT_MAX_SECONDS,
    ) -> RuleGraph:
        """The least model of the program's rules over its own facts, ``facts``, ``tables`` and ``predicted``.

        ``source`` is that of facts and predictions; integer columns of tables hold places in ``names``. Raises
        UnknownPredicate for an undeclared fact, NotANumber for a text where a number belongs, UnknownValue for one that
        an enumerated type does not list, OntologyError for a malformed table or a program too large (limits.py),
        FactLimitExceeded past ``max_facts`` facts in all and TimeLimitExceeded past ``max_seconds``.
        """
        limits = Limits(max_facts, max_seconds)
        compiled = compile_program(program)
        store = Store.empty(compiled)
        told = Told(store)
        add_facts(told, [*program.facts, *((fact, source) for fact in facts)])
        add_predicted(told, predicted, source)
        codes = store.symbols.add_all(names)
        for table in tables:
            add_table(told, table, codes)
        return cls(evaluated(store, told, limits), limits)

    @property
    def program(self) -> Program:
        """The rules and declarations this graph is closed under."""
        return self.store.compiled.program

    @cached_property
    def version(self) -> str:
        """sha256 over declarations, rules and told facts, each sorted; labels count, for proofs show them."""
        program = self.program
        lines = [f"decl {d.predicate} {' '.join(d.names)}" for d in program.declarations.values()]
        lines += [f"rule {rule.label}: {rule}" for rule in program.rules]
        lines += self._told_lines()
        digest = hashlib.sha256()
        for line in sorted(lines):
            digest.update(line.encode() + b"\x1e")
        return digest.hexdigest()

    def __len__(self) -> int:
        """The number of facts: told, derived and predicted."""
        compiled, counts = self.store.compiled, self.store.counts.tolist()
        return sum(count for predicate, count in enumerate(counts) if not compiled.hidden[predicate])

    @property
    def nbytes(self) -> int:
        """Bytes that hold the facts with their proofs and indexes; names excluded."""
        return self.store.nbytes

    def count(self, predicate: str) -> int:
        """The number of facts of a predicate. Raises UnknownPredicate."""
        return int(self.store.counts[self._number(predicate)])

    def holds(self, fact: Fact) -> bool:
        """Whether the fact is asserted or derived. Raises UnknownPredicate as ``query`` does."""
        return self._row(fact) >= 0

    def query(self, pattern: Fact) -> list[Fact]:
        """All facts matching the pattern (arguments that start with ``?`` are variables), sorted.

        Raises UnknownPredicate for a predicate that is not declared or has another number of arguments.
        """
        predicate = check_fact(self.store, pattern)
        rows = self._rows(predicate, pattern)
        if rows is None:
            return []
        args = self.store.arguments(predicate, rows)
        first: dict[str, int] = {}
        for i, arg in enumerate(pattern.args):
            if arg.startswith("?") and first.setdefault(arg, i) != i:
                args = args[args[:, first[arg]] == args[:, i]]
        texts, name = self.store.symbols.texts, pattern.predicate
        return [Fact(name, row) for row in sorted([tuple(texts(row)) for row in args.tolist()])]

    def answers(
        self,
        question: Question,
        *,
        within: Mapping[str, Sequence[str]] | None = None,
        most: int = MOST_ANSWERS,
        seconds: float = MOST_SECONDS,
    ) -> list[tuple[str, ...]]:
        """The distinct answers to a question read under this graph's program: values of its variables, sorted.

        ``within`` leaves some variables only these values. Raises FactLimitExceeded for more than ``most`` answers,
        TimeLimitExceeded, and ValueError for a variable of ``within`` that only a ``not`` has.
        """
        return answers(self.store, question, within or {}, most, seconds)

    def columns(self, predicate: str) -> k.Words:
        """Every fact of a predicate as ids int32[n, arity], in the order they were settled; ``names`` spells them."""
        number = self._number(predicate)
        rows = self.store.rows(number, [-1] * self.store.compiled.arities[number])
        return self.store.arguments(number, rows)

    def names(self) -> list[str]:
        """Every constant by its id, for ``columns``."""
        return self.store.symbols.names()

    def prove(self, fact: Fact) -> Proof:
        """A proof of least height. Raises NotDerived where the fact does not hold."""
        row = self._row(fact)
        if row < 0:
            raise NotDerived(f"{fact} does not hold in this graph; query its predicate to see what does")
        return prove(self.store, row)

    def reason(self, fact: Fact) -> Proof:
        """The last step of its proof, premises left out: who told it or which rule. Raises NotDerived."""
        row = self._row(fact)
        if row < 0:
            raise NotDerived(f"{fact} does not hold in this graph; query its predicate to see what does")
        return last_step(self.store, row)

    def source_of(self, fact: Fact) -> str | None:
        """Who told the fact, None for one that is only derived. Raises NotDerived where it does not hold."""
        row = self._row(fact)
        if row < 0:
            raise NotDerived(f"{fact} does not hold in this graph; query its predicate to see what does")
        why = self.store.record(row)[k.WHY]
        return None if why >= 0 else self.store.source(-1 - why)

    def violations(self) -> list[tuple[Fact, str, Proof]]:
        """Every fact of a constraint with its message and proof, sorted by fact."""
        declarations = self.program.declarations.values()
        found = []
        for declaration in declarations:
            if declaration.is_constraint:
                variables = tuple(f"?{i}" for i in range(len(declaration.names)))
                for fact in self.query(Fact(declaration.predicate, variables)):
                    proof = self.prove(fact)
                    found.append((fact, self._message(fact, proof), proof))
        return sorted(found, key=lambda each: each[0])

    def extend(
        self,
        facts: Iterable[Fact],
        source: str,
        *,
        predicted: Iterable[Predicted] = (),
        others: Iterable[tuple[Fact, str]] = (),
    ) -> RuleGraph:
        """This graph with more asserted facts and all that follows or no longer follows; costs what is new.

        ``others``: facts that somebody else told, each with its source. Raises UnknownPredicate, NotANumber,
        UnknownValue, FactLimitExceeded and TimeLimitExceeded as ``build`` does.
        """
        store = self.store.copy()
        told = Told(store)
        add_facts(told, [*((fact, source) for fact in facts), *others])
        add_predicted(told, predicted, source)
        update = Update(store, self.limits)
        told.tell(update)
        update.run()
        return RuleGraph(store, self.limits)

    def _number(self, predicate: str) -> int:
        number = self.store.compiled.visible.get(predicate)
        if number is None:
            raise UnknownPredicate(
                f"predicate {predicate!r} is not declared; {nearest(predicate, self.program.declarations)}"
            )
        return number

    def _row(self, fact: Fact) -> int:
        predicate = check_fact(self.store, fact)
        return self.store.find(predicate, self.store.symbols.get(fact.args))

    def _rows(self, predicate: int, pattern: Fact) -> k.Words | None:
        """Rows that match the constants of a pattern; None where one of them is in no fact."""
        symbols = self.store.symbols.get(pattern.args)
        for i, arg in enumerate(pattern.args):
            if arg.startswith("?"):
                symbols[i] = -1
            elif symbols[i] < 0:
                return None
        return self.store.rows(predicate, symbols)

    def _message(self, fact: Fact, proof: Proof) -> str:
        rule = next((rule for rule in self.program.rules if rule.label == proof.rule), None)
        return filled(rule, fact.args) if rule is not None and rule.message else str(fact)

    def _told_lines(self) -> Iterator[str]:
        store, compiled = self.store, self.store.compiled
        for number, rows in told_rows(store):
            predicate = compiled.names[number]
            for row in rows.tolist():
                line = "\x1f".join(("fact", predicate, *fact_at(store, row).args))
                yield f"{line}\x1f{probability_at(store, row)!r}" if is_predicted(predicate) else line


def evaluated(store: Store, told: Told, limits: Limits) -> Store:
    """The closure of told facts over an empty store, as a base of its own."""
    update = Update(store, limits)
    # Late plans (see plan.py) rest on this order.
    told.parts.sort(key=lambda part: store.compiled.later[part[0]])
    told.tell(update)
    always = store.compiled.predicates[TRUE]
    update.tell(always, np.empty((1, 0), np.int32), np.array([-1 - store.source_id("")], np.int32))
    update.run()
    return store.frozen(update.steps)


def told_rows(store: Store) -> Iterator[tuple[int, k.Words]]:
    """Rows of told facts by predicate."""
    for number, arity in enumerate(store.compiled.arities):
        if not store.compiled.hidden[number] and store.counts[number]:
            rows = store.rows(number, [-1] * arity)
            told = rows[store.words(rows, k.WHY) < 0]
            if len(told):
                yield number, told
