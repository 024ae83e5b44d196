"""The graph held against real data: what it derives, what the data state, and each disagreement with its proof."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from graph import complete_journey
from graph import openfoodfacts as off
from graph.copurchase import MIN_BASKETS, Pairs, Purchases, count_pairs, pair_facts
from graph.engine import RuleGraph
from graph.errors import OntologyError
from graph.ontology import load
from graph.ports import Fact, KnowledgeGraph
from graph.report import Finding, Measure, Report

Progress: TypeAlias = Callable[[str, float], None]
"""Told what is done now, and the share of the whole that is done."""
FAMILY_FILES: Final = ("facts", "train", "valid", "test")
FAMILY_BASIS: Final = ("daughter", "son", "husband", "wife")
"""Whose child somebody is and whose spouse, with the gender the word carries: what all other relations follow from."""
_STATED: Final = {"yes": "en:{}", "no": "en:non-{}", "maybe": "en:maybe-{}", "unknown": "en:{}-status-unknown"}


def _untold(stage: str, done: float) -> None:
    """Progress that nobody watches."""


def openfoodfacts(folder: Path, progress: Progress = _untold) -> Report:
    """Open Food Facts' own analysis against what follows from parsed ingredients, for products that have them.

    Fault: vegan or vegetarian derived where the opposite is stated, or free of an allergen that is stated; also the
    opposite derived of what is stated vegan or vegetarian. Raises OntologyError for a folder without the data.
    """
    progress("read products", 0.0)
    foods = off.foods(folder)
    parsed = [food for food in foods if food.entries]
    narrowest = [_narrowest(food) for food in foods if food.categories]
    progress("derive", 0.1)
    graph = off.build(folder, [*foods, *narrowest])
    progress("compare", 0.7)
    answers = [_answers(graph, parsed, question) for question in off.QUESTIONS]
    allergens = _allergens(graph, parsed)
    parts = [*answers, allergens, _categories(graph, foods)]
    notes = [f"{message} [{fact}]" for fact, message, _ in graph.violations()]
    return Report(
        f"Open Food Facts: {len(foods):,} products, {len(parsed):,} with parsed ingredients, {len(graph):,} facts",
        tuple(chain.from_iterable(part.measures for part in parts)),
        tuple(chain.from_iterable(part.faults for part in parts)),
        tuple(chain.from_iterable(part.disagreements for part in parts)),
        notes=tuple(notes),
    )


def _answers(graph: RuleGraph, foods: Sequence[off.Food], question: str) -> Report:
    derived = {fact.args[0]: fact.args[2] for fact in graph.query(Fact("is", ("?product", question, "?answer")))}
    disagreements, called, right, agreed = [], 0, 0, 0
    for food in foods:
        answer = derived[food.code]
        stated = next((name for name, tag in _STATED.items() if tag.format(question) in food.analysis), "nothing")
        called += answer == "yes"
        right += answer == stated == "yes"
        agreed += answer == stated
        if answer != stated:
            proof = graph.prove(Fact("is", (food.code, question, answer)))
            disagreements.append(Finding(f"{food.code} {question}", stated, answer, proof))
    valued = {fact.args[0] for fact in graph.query(Fact("answer", ("?ingredient", question, "?answer")))}
    return Report(
        question,
        (
            Measure(
                f"{question}: ingredients with a value of their own or above them",
                len(valued),
                graph.count("ingredient"),
            ),
            Measure(f"{question}: agrees with the stated analysis", agreed, len(foods)),
            Measure(f"{question}: derived, and stated too", right, called),
        ),
        tuple(each for each in disagreements if {each.stated, each.derived} == {"yes", "no"}),
        tuple(disagreements),
    )


def _allergens(graph: RuleGraph, foods: Sequence[off.Food]) -> Report:
    """The 14 allergens of EU law; what else is stated (apple, pork) is none of them."""
    known = {fact.args[0] for fact in graph.query(Fact("allergen", ("?allergen",)))}
    contains, free_of = _by_product(graph, "contains"), _by_product(graph, "free_of")
    pairs = [(food, known & food.allergens, known & contains[food.code]) for food in foods]
    disagreements = []
    for food, stated, derived in pairs:
        for allergen in sorted(stated ^ derived):
            says, predicate = ("contains", "unknown_whether") if allergen in stated else ("nothing", "contains")
            predicate = "free_of" if allergen in free_of[food.code] else predicate
            proof = graph.prove(Fact(predicate, (food.code, allergen)))
            disagreements.append(Finding(f"{food.code} {allergen}", says, predicate, proof))
    faults = tuple(each for each in disagreements if each.derived == "free_of")
    both = sum(len(stated & derived) for _, stated, derived in pairs)
    free = sum(len(free_of[food.code]) for food in foods)
    return Report(
        "allergens",
        (
            Measure("allergens: products whose set is the stated one", sum(s == d for _, s, d in pairs), len(pairs)),
            Measure("allergens: derived, and stated too", both, sum(len(derived) for _, _, derived in pairs)),
            Measure("allergens: stated, and derived too", both, sum(len(stated) for _, stated, _ in pairs)),
            Measure("allergens: free of, and not stated to contain", free - len(faults), free),
        ),
        faults,
        tuple(disagreements),
    )


def _by_product(graph: RuleGraph, predicate: str) -> defaultdict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for fact in graph.query(Fact(predicate, ("?product", "?value"))):
        found[fact.args[0]].add(fact.args[1])
    return found


def _narrowest(food: off.Food) -> off.Food:
    """A twin known by the last of the product's categories alone: Open Food Facts lists the widest first."""
    return off.Food(f"{food.code}/narrowest", categories=food.categories[-1:])


def _categories(graph: RuleGraph, foods: Iterable[off.Food]) -> Report:
    known = {fact.args[0] for fact in graph.query(Fact("category", ("?category",)))}
    closure = _by_product(graph, "in_category")
    stated_count = derived_count = both = 0
    for food in foods:
        if food.categories and food.categories[-1] in known:
            stated = known.intersection(food.categories[:-1])
            derived = closure[f"{food.code}/narrowest"] - {food.categories[-1]}
            stated_count, derived_count = stated_count + len(stated), derived_count + len(derived)
            both += len(stated & derived)
    return Report(
        "categories",
        (
            Measure("categories: stated besides the last, and derived from the last", both, stated_count),
            Measure("categories: derived from the last, and stated too", both, derived_count),
        ),
    )


def family(folder: Path, progress: Progress = _untold) -> Report:
    """The family relations: siblings of children, and each relation taken away and derived from the others.

    Fault: a relation derived that the data do not state. Raises OntologyError for a folder without the data.
    """
    facts = family_facts(folder)
    relations = sorted({fact.predicate for fact in facts})
    stated = {relation: {fact for fact in facts if fact.predicate == relation} for relation in relations}
    measures = [*_siblings_of_children(facts)]
    faults: dict[Fact, Finding] = {}
    disagreements: list[Finding] = []
    rounds = count(0)

    def derive(name: str, given: set[Fact], asked: Iterable[str]) -> None:
        progress(f"derive from {name}", next(rounds) / (len(relations) + 2))
        graph = RuleGraph.build(load("family").program, sorted(given), "family data")
        for relation in asked:
            derived = set(graph.query(Fact(relation, ("?x", "?y"))))
            measures.append(Measure(f"{relation} from {name}", len(derived & stated[relation]), len(stated[relation])))
            for wrong in sorted(derived - stated[relation]):
                faults.setdefault(wrong, Finding(str(wrong), "nothing", "so", graph.prove(wrong)))
            missing = sorted(stated[relation] - derived)
            disagreements.extend(Finding(str(fact), "so", f"nothing, from {name}") for fact in missing)

    derive("all that is stated", facts, relations)
    for relation in relations:
        derive("all other relations", facts - stated[relation], [relation])
    basis = {fact for fact in facts if fact.predicate in FAMILY_BASIS}
    derive(", ".join(FAMILY_BASIS), basis, [relation for relation in relations if relation not in FAMILY_BASIS])
    return Report(f"family: {len(facts):,} facts", tuple(measures), tuple(faults.values()), tuple(disagreements))


def family_facts(folder: Path) -> set[Fact]:
    """The facts of the four files, lines ``a<TAB>relation<TAB>b``. Raises OntologyError naming a file or line."""
    facts = set()
    for path in (folder / f"{name}.txt" for name in FAMILY_FILES):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise OntologyError(f"{path} cannot be read ({error}); give the folder of the family data") from error
        for number, line in enumerate(lines, 1):
            parts = line.split("\t")
            if len(parts) != 3 or not all(parts):
                raise OntologyError(f"{path}:{number}: {line!r} is not a triple; write 'a<TAB>relation<TAB>b'")
            facts.add(Fact(parts[1], (parts[0], parts[2])))
    return facts


def _siblings_of_children(facts: set[Fact]) -> Iterator[Measure]:
    """How often a sister of a child is a daughter, a brother a son, in the data as they are."""
    parents: dict[str, set[str]] = {}
    for fact in facts:
        if fact.predicate in ("daughter", "son"):
            parents.setdefault(fact.args[0], set()).add(fact.args[1])
    for sibling, child in (("sister", "daughter"), ("brother", "son")):
        derived = [
            Fact(child, (fact.args[0], parent))
            for fact in facts
            if fact.predicate == sibling
            for parent in parents.get(fact.args[1], ())
            for _ in {Fact(name, (fact.args[1], parent)) for name in ("daughter", "son")} & facts
        ]
        yield Measure(f"{sibling} of a child is a {child}", sum(fact in facts for fact in derived), len(derived))


def grocery(folder: Path, progress: Progress = _untold) -> Report:
    """The Complete Journey: which categories the grocery ontology maps, and its substitutes and complements.

    ``folder`` holds the dataset's ``products`` and ``transactions.parquet``. Pairs found among half the households are
    looked for again among the others, whom they share no basket with. Fault: a pair that is both at once. Raises
    OntologyError for a folder without the data.
    """
    progress("read purchases", 0.0)
    categories, purchases = complete_journey.categories(folder), complete_journey.purchases(folder)
    progress("derive pairs", 0.3)
    pairs = copurchase_graph(purchases, MIN_BASKETS)
    progress("derive them again from half the households", 0.6)
    coverage, notes = _coverage(load("grocery"), categories)
    substitutes, complements = _once(pairs, "substitute"), _once(pairs, "complement")
    types = pairs.count("bought")
    return Report(
        f"The Complete Journey: {len(purchases.kind):,} purchases, {len(pairs):,} facts",
        (coverage, *_replication(purchases)),
        tuple(Finding(str(fact), "never both", message, proof) for fact, message, proof in pairs.violations()),
        findings=tuple(
            Finding(" | ".join(fact.args), "", fact.predicate, pairs.prove(fact))
            for fact in chain(substitutes, complements)
        ),
        notes=(
            *notes,
            f"{len(substitutes)} pairs of substitutes and {len(complements)} of complements among {types} types",
        ),
    )


def copurchase_graph(purchases: Purchases, min_baskets: int) -> RuleGraph:
    """The ontology ``copurchase`` over these purchases."""
    facts = pair_facts(purchases, count_pairs(purchases, min_baskets))
    return RuleGraph.build(load("copurchase").program, facts, f"{len(purchases.kind)} purchases")


def _once(graph: RuleGraph, predicate: str) -> list[Fact]:
    """Each pair of a symmetric predicate once."""
    return [fact for fact in graph.query(Fact(predicate, ("?a", "?b"))) if fact.args[0] < fact.args[1]]


def _coverage(graph: KnowledgeGraph, categories: Sequence[str]) -> tuple[Measure, tuple[str, ...]]:
    kinds = {fact.args[0]: fact.args[1] for fact in graph.query(Fact("category_kind", ("?category", "?kind")))}
    counts = Counter(kinds.get(category, "unmapped") for category in categories)
    unmapped = [category for category in categories if kinds.get(category, "mixed") == "mixed"]
    notes = (
        "kinds of categories: " + ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())),
        "of no one kind, so their contents are unknown: " + ", ".join(unmapped),
    )
    return Measure("categories mapped", len(categories) - len(unmapped), len(categories)), notes


def _replication(purchases: Purchases) -> Iterator[Measure]:
    one, other = purchases.split()
    found = copurchase_graph(one, MIN_BASKETS)
    ratio = _ratios(purchases, count_pairs(other, MIN_BASKETS // 3))
    for predicate, sign in (("substitute", -1), ("complement", 1)):
        again = [ratio.get(fact.args, 1.0) for fact in _once(found, predicate)]
        direction = "less" if sign < 0 else "more"
        name = f"{predicate}s by half the buyers, together {direction} than expected by the others too"
        yield Measure(name, int(np.sum(sign * (np.array(again) - 1) > 0)), len(again))


def _ratios(purchases: Purchases, pairs: Pairs) -> dict[tuple[str, ...], float]:
    names = [purchases.types[kind] for kind in pairs.kinds.tolist()]
    ratio = pairs.ratio.tolist()
    return {(a, b): ratio[i][j] for i, a in enumerate(names) for j, b in enumerate(names) if a < b}


CHECKS: Final[Mapping[str, Callable[[Path, Progress], Report]]] = {
    "family": family,
    "grocery": grocery,
    "openfoodfacts": openfoodfacts,
}
"""What can be checked, each with the folder of its data."""
