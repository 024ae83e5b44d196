"""Random Datalog programs and a naive evaluator that shares no code with the engine."""

from __future__ import annotations

from itertools import product

from hypothesis import strategies as st

from graph.ports import Fact
from graph.rules.syntax import Atom, Comparison, Declaration, Program, Rule, Term, Variable

ARITY = {"p": 1, "q": 2, "r": 2, "s": 3}
CONSTANTS = ("a", "b", "c")
DECLARATIONS = {name: Declaration(name, tuple("xyz"[:n]), ("",) * n) for name, n in ARITY.items()}
_VARIABLES = tuple(Variable(name) for name in "XYZ")
_terms: st.SearchStrategy[Term] = st.one_of(st.sampled_from(_VARIABLES), st.sampled_from(CONSTANTS))

facts = st.sampled_from(sorted(ARITY)).flatmap(
    lambda name: st.tuples(*[st.sampled_from(CONSTANTS)] * ARITY[name]).map(lambda args: Fact(name, args))
)


@st.composite
def _atoms(draw: st.DrawFn) -> Atom:
    name = draw(st.sampled_from(sorted(ARITY)))
    return Atom(name, tuple(draw(_terms) for _ in range(ARITY[name])))


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    body = tuple(draw(st.lists(_atoms(), min_size=1, max_size=3)))
    bound = sorted({t for atom in body for t in atom.terms if isinstance(t, Variable)}, key=str)
    safe: st.SearchStrategy[Term] = st.sampled_from([*bound, *CONSTANTS])
    name = draw(st.sampled_from(sorted(ARITY)))
    head = Atom(name, tuple(draw(safe) for _ in range(ARITY[name])))
    compare = st.builds(Comparison, st.sampled_from(["=", "!="]), safe, safe)
    return Rule("rule", head, body, tuple(draw(st.lists(compare, max_size=2))))


programs = st.lists(rules(), max_size=5).map(
    lambda made: Program(
        DECLARATIONS, tuple(Rule(f"rule{i}", r.head, r.body, r.comparisons) for i, r in enumerate(made))
    )
)


def ground(rule: Rule) -> list[tuple[Fact, tuple[Fact, ...]]]:
    """Every instance of the rule over all constants whose comparisons hold."""
    variables = sorted({t for atom in (rule.head, *rule.body) for t in atom.terms if isinstance(t, Variable)}, key=str)
    instances = []
    for values in product(CONSTANTS, repeat=len(variables)):
        value = dict(zip(variables, values, strict=True))

        def put(term: Term, value: dict[Variable, str] = value) -> str:
            return value[term] if isinstance(term, Variable) else term

        def fact(atom: Atom, value: dict[Variable, str] = value) -> Fact:
            return Fact(atom.predicate, tuple(put(t, value) for t in atom.terms))

        if all((put(c.left) == put(c.right)) == (c.operator == "=") for c in rule.comparisons):
            instances.append((fact(rule.head), tuple(fact(atom) for atom in rule.body)))
    return instances


def naive_heights(program: Program, asserted: set[Fact]) -> dict[Fact, int]:
    """Every fact of the least model with the least height of a proof, by applying every instance until none adds."""
    instances = [instance for rule in program.rules for instance in ground(rule)]
    heights = dict.fromkeys(asserted, 0)
    while True:
        new = {
            head: 1 + max(heights[premise] for premise in premises)
            for head, premises in instances
            if head not in heights and all(premise in heights for premise in premises)
        }
        if not new:
            return heights
        heights |= new
