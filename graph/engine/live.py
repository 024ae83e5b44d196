"""A graph that changes: facts come and go, and what follows is kept in line with them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from graph.engine import kernel as k
from graph.engine.answers import MOST_ANSWERS
from graph.engine.graph import Predicted, RuleGraph, evaluated, told_rows
from graph.engine.proofs import fact_at
from graph.engine.rewrite import HIDDEN
from graph.engine.store import Store
from graph.engine.told import Told, add_facts, add_predicted, check_fact
from graph.engine.update import TooWide, Update
from graph.errors import FactLimitExceeded, TimeLimitExceeded
from graph.ports import Fact, Proof
from graph.rules.question import Question

_LEAST_STEPS = 100_000
"""Below this many steps an update is cheaper than setting up an evaluation."""
_LEAST_WORDS = 1 << 20
"""A layer smaller than this is not worth compacting."""


@dataclass(frozen=True, slots=True)
class Change:
    """Facts that hold since an update, and facts that no longer do; told and derived ones, each sorted."""

    added: tuple[Fact, ...]
    removed: tuple[Fact, ...]


class LiveGraph:
    """Facts under rules that may be inserted and deleted; what it holds equals an evaluation from scratch.

    Any number of threads may read and write. An update is one step: no reader sees half of it, and one that fails
    leaves the graph as it was. Readers wait for an update in place (microseconds to milliseconds), not for an
    evaluation from scratch: that is made aside and exchanged. For several answers of one moment take a ``snapshot``.
    """

    def __init__(self, graph: RuleGraph, *, most_steps: int | None = None, most_words: int | None = None) -> None:
        """``graph`` stays as it is. An update of more than ``most_steps`` becomes an evaluation (by default half of
        what one takes, at least 100 000); a layer of more than ``most_words`` of 32 bits, with what is gone in it, is
        evaluated into a new base (by default a quarter of the base, at least 4 MiB).
        """
        self._graph = RuleGraph(graph.store.copy(), graph.limits)
        self._graph.store.complete()
        self._most_steps = most_steps
        self._most_words = most_words
        self._spare = 0
        self._reading = threading.Lock()
        self._writing = threading.Lock()

    def insert(self, facts: Iterable[Fact], source: str, *, predicted: Iterable[Predicted] = ()) -> Change:
        """Tells facts and predictions. One that is told already keeps its first source. Errors as RuleGraph.build."""
        return self.update(insert=facts, source=source, predicted=predicted)

    def delete(self, facts: Iterable[Fact]) -> Change:
        """Takes told facts back; one that is derived too stays. What nobody told is left alone.

        Raises UnknownPredicate for a fact of no declared predicate.
        """
        return self.update(delete=facts)

    def update(
        self,
        *,
        insert: Iterable[Fact] = (),
        delete: Iterable[Fact] = (),
        source: str = "asserted",
        predicted: Iterable[Predicted] = (),
    ) -> Change:
        """Deletes, then inserts, as one step. An update that would touch more than an evaluation becomes one."""
        # Read before the locks are taken: what is given may itself ask this graph as it is read.
        added, guessed, lost = [(fact, source) for fact in insert], list(predicted), set(delete)
        with self._writing:
            store = self._graph.store
            with self._reading:
                told = Told(store)
                add_facts(told, added)
                add_predicted(told, guessed, source)
                rows = _told(store, lost)
                change = self._in_place(told, rows)
            if change is None:
                rebuilt = _anew(store, told, rows, self._graph)
                change = _difference(store, rebuilt)
                self._exchange(rebuilt)
            else:
                self._compact(store)
            return change

    def snapshot(self) -> RuleGraph:
        """The graph as it is now, never to change; costs as much as was changed since the last evaluation."""
        with self._reading:
            return RuleGraph(self._graph.store.copy(), self._graph.limits)

    def holds(self, fact: Fact) -> bool:
        """As RuleGraph."""
        with self._reading:
            return self._graph.holds(fact)

    def query(self, pattern: Fact) -> list[Fact]:
        """As RuleGraph."""
        with self._reading:
            return self._graph.query(pattern)

    def answers(self, question: Question, *, most: int = MOST_ANSWERS) -> list[tuple[str, ...]]:
        """As RuleGraph; joined aside, so no update waits for it."""
        return self.snapshot().answers(question, most=most)

    def prove(self, fact: Fact) -> Proof:
        """As RuleGraph."""
        with self._reading:
            return self._graph.prove(fact)

    def reason(self, fact: Fact) -> Proof:
        """As RuleGraph."""
        with self._reading:
            return self._graph.reason(fact)

    def source_of(self, fact: Fact) -> str | None:
        """As RuleGraph."""
        with self._reading:
            return self._graph.source_of(fact)

    def violations(self) -> list[tuple[Fact, str, Proof]]:
        """As RuleGraph."""
        with self._reading:
            return self._graph.violations()

    @property
    def version(self) -> str:
        """As RuleGraph; read anew each time."""
        return self.snapshot().version

    def __len__(self) -> int:
        with self._reading:
            return len(self._graph)

    def _in_place(self, told: Told, rows: list[int]) -> Change | None:
        """Changes the store; None where that took too many steps, and the store is as it was."""
        store = self._graph.store
        most = max(_LEAST_STEPS, store.base.steps // 2) if self._most_steps is None else self._most_steps
        update = Update(store, self._graph.limits, max_steps=most)
        try:
            for row in rows:
                update.withdraw(row)
            told.tell(update)
            update.run()
        except TooWide:
            update.roll_back()
            return None
        except BaseException:
            update.roll_back()
            raise
        return Change(_facts(store, store.fresh_rows()), _facts(store, update.gone()))

    def _compact(self, store: Store) -> None:
        """A base of its own for a store whose layer has grown too long."""
        most = max(_LEAST_WORDS, store.split // 4) if self._most_words is None else self._most_words
        used = int(store.s[k.HEAP_USED])
        if used <= most + self._spare:
            return
        try:
            self._exchange(_anew(store, Told(store), [], self._graph))
        except (FactLimitExceeded, TimeLimitExceeded, MemoryError):
            # The update itself is done and stands, so it must not fail; the next try is twice as far away.
            self._spare = 2 * used

    def _exchange(self, store: Store) -> None:
        with self._reading:
            self._graph = RuleGraph(store, self._graph.limits)
        self._spare = 0


def _told(store: Store, facts: Iterable[Fact]) -> list[int]:
    """Rows of those facts, each given once, that were told."""
    rows = []
    for fact in facts:
        predicate = check_fact(store, fact)
        symbols = store.symbols.get(fact.args)
        row = -1 if -1 in symbols else store.find(predicate, symbols)
        if row >= 0 and store.record(row)[k.WHY] < 0:
            rows.append(row)
    return sorted(rows)


def _facts(store: Store, rows: k.Words) -> tuple[Fact, ...]:
    found = (fact_at(store, row) for row in rows.tolist())
    return tuple(sorted(fact for fact in found if not fact.predicate.startswith(HIDDEN)))


def _anew(store: Store, told: Told, without: list[int], graph: RuleGraph) -> Store:
    """The told facts of a store, without some rows, and further ones, evaluated from scratch. Ids stay the same."""
    fresh = Store.empty(store.compiled)
    fresh.symbols = store.symbols.flat()
    fresh.sources = [*store.base.sources, *store.sources]
    fresh.source_ids = {source: i for i, source in enumerate(fresh.sources)}
    everything = Told(fresh)
    for predicate, rows in told_rows(store):
        rows = rows[~np.isin(rows, without)]
        words = store.compiled.premises_at(predicate)
        is_predicted = store.compiled.names[predicate].startswith("~")
        links = [store.words(rows, words + i).reshape(-1, 1) for i in range(2 if is_predicted else 0)]
        premises = np.hstack(links) if links else np.empty((0, 0), np.int32)
        everything.parts.append((predicate, store.arguments(predicate, rows), store.words(rows, k.WHY), premises))
    everything.parts += told.parts
    rebuilt = evaluated(fresh, everything, graph.limits)
    rebuilt.complete()
    return rebuilt


def _difference(before: Store, after: Store) -> Change:
    added: list[Fact] = []
    removed: list[Fact] = []
    for predicate, arity in enumerate(before.compiled.arities):
        if before.compiled.hidden[predicate]:
            continue
        old, new = (store.rows(predicate, [-1] * arity) for store in (before, after))
        old_args, new_args = (s.arguments(predicate, r) for s, r in ((before, old), (after, new)))
        added += _facts(after, new[~_among(new_args, old_args)])
        removed += _facts(before, old[~_among(old_args, new_args)])
    return Change(tuple(sorted(added)), tuple(sorted(removed)))


def _among(rows: k.Words, others: k.Words) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """bool[n]: which of the rows [n, m] are among the others."""
    if not rows.shape[1] or not len(others):
        return np.full(len(rows), bool(len(others)))
    columns = np.concatenate([rows, others]).astype(np.int64).T
    codes = columns[0]
    for place, column in enumerate(columns[1:]):
        # Two ids fill a word; more are numbered first. np.unique of whole rows takes far longer.
        if place:
            _, codes = np.unique(codes, return_inverse=True)
        codes = codes << 32 | column & 0xFFFFFFFF
    return np.isin(codes[: len(rows)], codes[len(rows) :])
