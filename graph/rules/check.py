"""What was read, checked and put together: a program that an engine can evaluate as it is, or problems."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from graph.errors import Problem
from graph.ports import Fact
from graph.rules.message import placeholders
from graph.rules.names import Names, did_you_mean, plain, qualified, shown
from graph.rules.safety import lone_variables, unbound
from graph.rules.statements import Source
from graph.rules.strata import recursions, stratify
from graph.rules.syntax import Atom, Declaration, Place, Program, Rule, Variable, is_predicted, predicted
from graph.rules.typecheck import mistyped, type_problems


def check(sources: Sequence[Source], problems: list[Problem]) -> Program:
    """The program that the files are together. Adds what is wrong to ``problems``; with any, the program is no use."""
    return _Checker(sources, problems).program()


class _Checker:
    def __init__(self, sources: Sequence[Source], problems: list[Problem]) -> None:
        self.sources = sources
        self.problems = problems
        self.types = self._types()
        self.declarations = self._declarations()
        broken = (qualified(name, source.namespace) for source in sources for name in source.broken)
        self.names = Names(self.declarations, broken)
        self.labels: dict[str, Place] = {}

    def program(self) -> Program:
        rules: list[Rule] = []
        facts: list[tuple[Fact, str]] = []
        for source in self.sources:
            for clause in source.clauses:
                rule = self._resolved(clause.rule, source.namespace)
                if clause.is_fact:
                    facts.extend(self._fact(rule))
                else:
                    rules.append(self._rule(rule))
        circles = list(recursions(rules))
        self.problems.extend(circles)
        strata = () if circles else stratify(rules)
        return Program(self._with_predicted(rules), tuple(rules), tuple(facts), strata, self.types)

    # --- declarations ------------------------------------------------------------------------------------------------

    def _types(self) -> dict[str, tuple[str, ...]]:
        first: dict[str, Place] = {}
        types: dict[str, tuple[str, ...]] = {}
        for statement in (statement for source in self.sources for statement in source.types):
            if types.setdefault(statement.name, statement.values) != statement.values:
                where = _where(first[statement.name])
                self._report(statement.place, f"type {statement.name!r} has other values at {where}", "keep one")
            first.setdefault(statement.name, statement.place)
        return types

    def _declarations(self) -> dict[str, Declaration]:
        declarations: dict[str, Declaration] = {}
        for source in self.sources:
            for written in source.declarations:
                full = replace(written, predicate=qualified(written.predicate, source.namespace))
                first = declarations.setdefault(full.predicate, full)
                if first != full:
                    message = f"{full.predicate!r} is declared differently at {_where(first.place)}"
                    self._report(full.place, message, "keep one declaration")
        return declarations

    def _with_predicted(self, rules: Sequence[Rule]) -> dict[str, Declaration]:
        """The declarations, and those of what is predicted of a predicate wherever a rule needs it."""
        used = {atom.predicate for rule in rules for atom in _atoms(rule) if is_predicted(atom.predicate)}
        needed = sorted(name for name in used if plain(name) in self.declarations)
        return self.declarations | {name: replace(self.declarations[plain(name)], predicate=name) for name in needed}

    # --- rules and facts ---------------------------------------------------------------------------------------------

    def _report(self, place: Place, message: str, remedy: str) -> None:
        self.problems.append(Problem(*place, message, remedy))

    def _resolved(self, rule: Rule, namespace: str) -> Rule:
        """The rule under full names; names that nobody declares are reported and stay."""

        def full(atom: Atom) -> Atom:
            name = self.names.resolve(atom.predicate, namespace)
            if name is None:
                remedy = self.names.remedy(atom.predicate, namespace)
                self._report(atom.place, f"predicate {plain(atom.predicate)!r} is not declared", remedy)
            return replace(atom, predicate=name or atom.predicate)

        return replace(
            rule,
            label=self._label(rule, namespace),
            head=full(rule.head),
            body=tuple(map(full, rule.body)),
            negated=tuple(map(full, rule.negated)),
            aggregates=tuple(replace(one, body=tuple(map(full, one.body))) for one in rule.aggregates),
        )

    def _label(self, rule: Rule, namespace: str) -> str:
        """The rule's label, unique in the program: proofs name rules by it."""
        place = rule.head.place
        if not rule.label:
            where = _where(place)
            label = where if where not in self.labels else f"{where}:{place[2]}"
        else:
            label = qualified(rule.label, namespace)
            if label in self.labels:
                self._report(place, f"label {label!r} is used at {_where(self.labels[label])}", "name each rule once")
        self.labels.setdefault(label, place)
        return label

    def _signature(self, atom: Atom) -> Declaration | None:
        """The declaration the atom fits; None (reported elsewhere) where there is none or it has other arguments."""
        found = self.declarations.get(plain(atom.predicate))
        return found if found is not None and len(found.names) == len(atom.terms) else None

    def _arities(self, atoms: Iterable[Atom]) -> None:
        for atom in atoms:
            name = plain(atom.predicate)
            declaration = self.declarations.get(name)
            if declaration is not None and len(declaration.names) != len(atom.terms):
                message = f"{name!r} has {len(atom.terms)} argument(s) and takes {len(declaration.names)}"
                self._report(atom.place, message, f"write {name}({', '.join(declaration.names)})")

    def _rule(self, rule: Rule) -> Rule:
        """The rule, checked; with a predicted literal in its body it derives what is predicted."""
        self._arities(_atoms(rule))
        self.problems.extend(type_problems(rule, self._signature, self.types))
        loose = list(unbound(rule))
        self.problems.extend(problem for _, problem in loose)
        self.problems.extend(lone_variables(rule, except_for={variable for variable, _ in loose}))
        self._message(rule)
        is_guess = any(is_predicted(atom.predicate) for atom in _body_atoms(rule))
        if is_guess and not is_predicted(rule.head.predicate):
            return replace(rule, head=replace(rule.head, predicate=predicted(rule.head.predicate)))
        if is_predicted(rule.head.predicate) and not is_guess:
            self._report(rule.head.place, "nothing in the body is predicted", "drop 'predicted' before the head")
        return rule

    def _message(self, rule: Rule) -> None:
        name = plain(rule.head.predicate)
        declaration = self.declarations.get(name)
        if declaration is None:
            return
        if declaration.is_constraint and not rule.message:
            remedy = f'say what is wrong: {shown(rule.head)} "..." :- ...'
            self._report(rule.head.place, f"a rule of the constraint {name!r} has no message", remedy)
        elif rule.message and not declaration.is_constraint:
            remedy = f"drop it, or declare '.constraint {name}(...)'"
            self._report(rule.head.place, f"{name!r} is no constraint and has a message", remedy)
        known = {term.name for term in rule.head.terms if isinstance(term, Variable)}
        for asked in placeholders(rule.message):
            if asked not in known:
                remedy = did_you_mean(asked, known) or f"the head's variables are {', '.join(sorted(known)) or 'none'}"
                self._report(rule.head.place, f"the message fills in {{{asked}}}, no variable of the head", remedy)

    def _fact(self, rule: Rule) -> Iterator[tuple[Fact, str]]:
        head = rule.head
        self._arities([head])
        declaration = self._signature(head)
        remedy = "a fact holds constants only; quote a capitalised name"
        for term in dict.fromkeys(head.terms):
            if isinstance(term, Variable):
                self._report(head.place, f"variable {shown(term)} of the head is bound by nothing", remedy)
        if rule.message:
            self._report(head.place, "a fact has a message", "drop it; rules of constraints have messages")
        if is_predicted(head.predicate):
            remedy = "leave it to a model: a prediction comes with its probability"
            self._report(head.place, f"'{head}' states a prediction as a fact", remedy)
        elif declaration is not None:
            for message, remedy in fact_problems(declaration, head.terms, self.types):
                self._report(head.place, message, remedy)
        yield Fact(head.predicate, tuple(map(str, head.terms))), _where(head.place)


def fact_problems(
    declaration: Declaration, terms: Iterable[object], types: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, str]]:
    """Message and remedy of whatever forbids to state the fact of these arguments (as many as declared)."""
    if declaration.is_constraint:
        yield f"{declaration.predicate!r} is a constraint and only rules derive it", "state what breaks it instead"
    for term, name, kind in zip(terms, declaration.names, declaration.types):
        if isinstance(term, str) and (fault := mistyped(kind, term, types)):
            yield f"{name} of {declaration.predicate}: {fault[0]}", fault[1]


def _where(place: Place) -> str:
    return f"{place[0]}:{place[1]}"


def _body_atoms(rule: Rule) -> Iterator[Atom]:
    yield from (*rule.body, *rule.negated)
    for aggregate in rule.aggregates:
        yield from aggregate.body


def _atoms(rule: Rule) -> Iterator[Atom]:
    yield rule.head
    yield from _body_atoms(rule)
