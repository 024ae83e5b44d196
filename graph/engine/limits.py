"""What the kernel cannot number or hold, refused before anything is compiled: it follows its tables without a look."""

from __future__ import annotations

from collections.abc import Mapping

from graph.engine import kernel as k
from graph.engine.rewrite import HIDDEN, rule_of
from graph.errors import OntologyError
from graph.rules.names import plain
from graph.rules.syntax import Program

MAX_ARITY = 64
MAX_WORDS = 2**31 - 1
"""Of 32 bits, in the two heaps of a graph together: rows are signed words."""
_MAX_LAYERS = k.LAYER_MASK
_MAX_PREDICATES = k.PREDICATE
_MAX_BODY = 128
_MAX_COUNTS = 8
"""Of one rule: each may be 0 or not, so they stand for 2 ** 8 plain rules."""


def refuse_rules(program: Program) -> None:
    """Raises OntologyError for a rule that is too large, or that ``check`` would not have admitted."""
    for rule in program.rules:
        counts = sum(aggregate.function == "count" for aggregate in rule.aggregates)
        if counts > _MAX_COUNTS:
            raise OntologyError(
                f"rule {rule.label!r} counts {counts} times, more than {_MAX_COUNTS}; derive some counts by other rules"
            )
        longest = max(len(rule.body) + len(rule.aggregates), *(len(one.body) for one in rule.aggregates), 0)
        if longest > _MAX_BODY:
            raise OntologyError(
                f"a body of rule {rule.label!r} has {longest} literals, more than {_MAX_BODY}; derive parts of it first"
            )
        inside = (atom for aggregate in rule.aggregates for atom in aggregate.body)
        for atom in (rule.head, *rule.body, *rule.negated, *inside):
            declaration = program.declarations.get(plain(atom.predicate))
            if declaration is None or len(declaration.names) != len(atom.terms):
                raise OntologyError(
                    f"{atom} of rule {rule.label!r} fits no declaration; declare {plain(atom.predicate)!r} with "
                    f"{len(atom.terms)} argument(s)"
                )
    _refuse_strata(program)


def refuse_size(program: Program, arity: Mapping[str, int], layers: int) -> None:
    """Raises OntologyError for more predicates (with their arguments), or layers of them, than a record can name."""
    widest = max(arity, key=arity.__getitem__)
    if arity[widest] > MAX_ARITY:
        what = f"predicate {widest!r} has {arity[widest]} arguments"
        if widest.startswith(HIDDEN):
            what = f"an aggregate of rule {program.rules[rule_of(widest)].label!r} has a group of {arity[widest] - 1}"
        raise OntologyError(f"{what}, and a record holds {MAX_ARITY}; split it in two")
    if len(arity) > _MAX_PREDICATES:
        raise OntologyError(
            f"{len(arity)} predicates, predicted ones and aggregates among them, are more than {_MAX_PREDICATES}; "
            "make one of several by an argument more"
        )
    if layers > _MAX_LAYERS:
        raise OntologyError(
            f"{layers} layers of negation and aggregates upon one another are more than {_MAX_LAYERS}; "
            "shorten the longest chain of rules that negate or aggregate"
        )


def _refuse_strata(program: Program) -> None:
    """A fact is settled for good in the one layer that derives it, so all rules of a predicate share a stratum."""
    level: dict[str, int] = {}
    numbers = sorted(number for stratum in program.strata for number in stratum)
    fits = not program.strata or numbers == list(range(len(program.rules)))
    for at, stratum in enumerate(program.strata if fits else ()):
        fits = fits and all(level.setdefault(program.rules[n].head.predicate, at) == at for n in stratum)
    if not fits:
        raise OntologyError(
            f"strata {program.strata} do not hold each of {len(program.rules)} rules once, and those of a predicate "
            "together; take them from stratify"
        )
