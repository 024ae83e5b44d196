"""clingo as a peer: its grounder derives the same facts from the same rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import clingo

from cli.graphbench.peers import Answer, vocabulary
from cli.graphbench.workloads import Workload
from graph.rules.syntax import Atom, Rule, Term, Variable, quoted


class ClingoJob:
    """Reads and grounds a text in this process, with no solver behind it; clingo keeps no proofs.

    Constants are integers, or strings where ``spelt``. Facts go in as text, which is faster than its backend.
    Nothing is shown, so ``fetch`` is for ClingoModelJob.
    """

    shows = False

    def __init__(self, workload: Workload, spelt: bool = False) -> None:
        self.spelt = spelt
        self.names = vocabulary(workload)
        program = workload.program
        self.numbers = {predicate: i for i, predicate in enumerate(program.declarations)}
        self.answers = {p: (f"p{self.numbers[p]}", len(program.declarations[p].names)) for p in workload.answers}
        self.only_told = sum(len(rows) for p, rows in workload.tables.items() if p not in self.answers)
        self.only_told += sum(fact.predicate not in self.answers for fact, _ in program.facts)
        show = "".join(f"#show {name}/{arity}." for name, arity in self.answers.values()) if self.shows else "#show."
        self.text = "".join(self._lines(workload)) + show

    def ready(self) -> Callable[[], Any]:
        return lambda: self.ground(self.read())

    def read(self) -> Any:
        control = clingo.Control([], logger=lambda *_: None)
        if not self.shows:
            # What would go to the solver goes to an observer that ignores it.
            control.register_observer(clingo.Observer(), replace=True)
        control.add("base", [], self.text)
        return control

    def ground(self, control: Any) -> Any:
        control.ground([("base", [])])
        return control

    def count(self, derived: Any) -> int:
        return len(derived.symbolic_atoms) - self.only_told

    def fetch(self, derived: Any) -> Answer:
        answers = {name: predicate for predicate, (name, _) in self.answers.items()}
        found: Answer = {predicate: [] for predicate in self.answers}
        with derived.solve(yield_=True) as models:
            for model in models:
                for symbol in model.symbols(shown=True):
                    arguments = symbol.arguments
                    values = [a.string for a in arguments] if self.spelt else [a.number for a in arguments]
                    found[answers[symbol.name]].append(tuple(values))
        return found

    def spelling(self, _: Any) -> Sequence[str]:
        return self.names

    def _lines(self, workload: Workload) -> Iterator[str]:
        places = {name: i for i, name in enumerate(self.names)}
        constants = [quoted(name) for name in self.names] if self.spelt else list(map(str, range(len(self.names))))
        for predicate, rows in workload.tables.items():
            for row in rows.tolist():
                yield f"p{self.numbers[predicate]}({','.join([constants[i] for i in row])}).\n"
        for fact, _ in workload.program.facts:
            yield f"p{self.numbers[fact.predicate]}({','.join([constants[places[a]] for a in fact.args])}).\n"
        for rule in workload.program.rules:
            yield self._rule(rule, lambda name: constants[places[name]])

    def _rule(self, rule: Rule, constant: Callable[[str], str]) -> str:
        if rule.negated or rule.aggregates or any(c.operator not in ("=", "!=") for c in rule.comparisons):
            raise ValueError(f"rule {rule.label!r} is more than this translation knows; extend ClingoJob")
        variables: dict[str, str] = {}

        def spell(term: Term) -> str:
            if isinstance(term, Variable):
                return variables.setdefault(term.name, f"V{len(variables)}")
            return constant(term)

        def atom(each: Atom) -> str:
            return f"p{self.numbers[each.predicate]}({','.join(map(spell, each.terms))})"

        body = [*map(atom, rule.body), *(f"{spell(c.left)}{c.operator}{spell(c.right)}" for c in rule.comparisons)]
        return f"{atom(rule.head)}:-{','.join(body)}.\n"


class ClingoGroundingJob(ClingoJob):
    """Only the grounding is measured; the text is read before."""

    def ready(self) -> Callable[[], Any]:
        control = self.read()
        return lambda: self.ground(control)


class ClingoModelJob(ClingoJob):
    """Grounds for results: the answers are shown, and read from the model, which is faster than its symbolic atoms."""

    shows = True
