"""Vegan, vegetarian and allergens from ingredients: by hand, against a naive reference, and on Open Food Facts."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.engine import RuleGraph
from graph.errors import OntologyError
from graph.ontology import load
from graph.openfoodfacts import QUESTIONS, Entry, Food, build, foods, taxonomy_facts
from graph.ports import Fact

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "openfoodfacts"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"the Open Food Facts data are not at {DATA}")

PARENTS = {
    "en:whole-milk": ["en:milk"],
    "en:milk": ["en:dairy"],
    "en:oat-milk": ["en:milk"],
    "en:tomato-paste": ["en:tomato"],
    "en:tomato-sauce": ["en:sauce"],
    "en:soya-lecithin": ["en:e322"],
    "en:marshmallow": ["en:sugar", "en:gelatine"],
}
VEGAN = {
    "en:dairy": "no",
    "en:oat-milk": "yes",
    "en:tomato": "yes",
    "en:sugar": "yes",
    "en:gelatine": "no",
    "en:sauce": "ignore",
    "en:e322": "maybe",
    "en:soya-lecithin": "yes",
    "en:e211": "yes",
}
STATED = {
    ("en:dairy", "ingredient_allergen"): "en:milk",
    ("en:tortilla", "ingredient_likely_allergen"): "en:gluten",
    ("en:e322", "e_number"): "322",
    ("en:e211", "e_number"): "211",
}


def world(*products: Food) -> RuleGraph:
    """The ontology over a dozen ingredients and these products."""
    names = {*PARENTS, *chain_of(PARENTS.values()), *VEGAN, *(name for name, _ in STATED), "en:preservative"}
    facts = [Fact("ingredient", (name,)) for name in sorted(names)]
    facts += [Fact("ingredient_parent", (name, parent)) for name, parents in PARENTS.items() for parent in parents]
    facts += [Fact("ingredient_stated", (name, "vegan", answer)) for name, answer in VEGAN.items()]
    facts += [Fact(predicate, (name, value)) for (name, predicate), value in STATED.items()]
    facts += [fact for product in products for fact in product.facts()]
    return RuleGraph.build(load("openfoodfacts").program, facts, "test")


def chain_of(lists: Iterable[list[str]]) -> set[str]:
    return {name for one in lists for name in one}


def food(*entries: str | Entry, **fields: Any) -> Food:
    return Food("p", tuple(Entry(one) if isinstance(one, str) else one for one in entries), **fields)


def answer(graph: RuleGraph, question: str = "vegan", product: str = "p") -> str:
    (fact,) = graph.query(Fact("is", (product, question, "?answer")))
    return fact.args[2]


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (["en:tomato"], "yes"),
        (["en:tomato-paste", "en:sugar"], "yes"),  # inherited
        (["en:whole-milk"], "no"),  # inherited over a parent that states nothing
        (["en:oat-milk"], "yes"),  # the nearest value, not the farther one of dairy
        (["en:marshmallow"], "maybe"),  # two parents disagree
        (["en:e322"], "maybe"),
        (["en:soya-lecithin"], "yes"),
        (["en:tortilla"], "unknown"),  # nothing stated
        (["en:unheard-of"], "unknown"),  # not in the taxonomy
        (["en:sugar", "en:e322"], "maybe"),
        (["en:e322", "en:unheard-of"], "unknown"),  # one unknown leaves it unknown
        (["en:unheard-of", "en:e322", "en:milk"], "no"),  # but one that is not settles it
        (["en:sauce"], "unknown"),  # a form of food without its parts
        (["en:preservative"], "unknown"),  # a class of additives without the additive
        ([], "unknown"),
    ],
)
def test_a_product_is_what_its_ingredients_allow(listed: list[str], expected: str) -> None:
    graph = world(food(*listed))
    assert answer(graph) == expected
    assert graph.prove(Fact("is", ("p", "vegan", expected))).fact.args[2] == expected


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (Entry("en:e211", (Entry("en:preservative"),)), "yes"),  # sodium benzoate (preservative)
        (Entry("en:soya-lecithin", (Entry("en:preservative"),)), "yes"),  # a kind of E 322
        (Entry("en:preservative", (Entry("en:e211"),)), "yes"),  # preservative: sodium benzoate
        (Entry("en:preservative", (Entry("en:unheard-of"),)), "unknown"),
        (Entry("en:tomato", (Entry("en:preservative"),)), "unknown"),  # tomato with some preservative in it
        (Entry("en:tomato-sauce", (Entry("en:tomato"), Entry("en:sugar"))), "yes"),
        (Entry("en:tomato-sauce", (Entry("en:tomato"), Entry("en:milk"))), "no"),
        (Entry("en:unheard-of", (Entry("en:tomato"),)), "unknown"),  # brackets may add to it, not make it up
    ],
)
def test_brackets_name_parts_or_purpose(entry: Entry, expected: str) -> None:
    assert answer(world(food(entry))) == expected


def test_one_explained_preservative_does_not_explain_another() -> None:
    benzoate = Entry("en:e211", (Entry("en:preservative"),))
    assert answer(world(food(benzoate, "en:preservative"))) == "unknown"


def test_the_proof_of_vegan_shows_every_ingredient() -> None:
    proof = "\n".join(world(food("en:tomato-paste", "en:sugar")).prove(Fact("is", ("p", "vegan", "yes"))).lines())
    assert "ingredient_stated(en:tomato, vegan, yes)" in proof
    assert "ingredient_stated(en:sugar, vegan, yes)" in proof


def test_allergens_are_contained_ruled_out_or_unknown() -> None:
    graph = world(food("en:whole-milk"), replace(food("en:tomato"), code="q"), replace(food("en:tortilla"), code="r"))
    assert graph.holds(Fact("contains", ("p", "en:milk")))
    assert graph.holds(Fact("free_of", ("q", "en:milk"))), "no vegan food contains milk"
    assert graph.holds(Fact("unknown_whether", ("q", "en:gluten"))), "a vegan food may contain gluten"
    assert graph.holds(Fact("may_contain", ("r", "en:gluten")))
    assert graph.holds(Fact("unknown_whether", ("r", "en:milk"))), "nobody knows what a tortilla is made of"
    allergens = [fact.args[0] for fact in graph.query(Fact("allergen", ("?a",)))]
    for product in "pqr":
        for allergen in allergens:
            said = [name for name in ("contains", "free_of", "unknown_whether")
                    if graph.holds(Fact(name, (product, allergen)))]  # fmt: skip
            assert len(said) == 1, f"{product} {allergen}: {said}"


def test_a_label_decides_nothing_and_is_refuted_with_proof() -> None:
    claimed = food("en:milk", "en:unheard-of", labels=("en:the-vegan-society",))
    graph = world(claimed).extend([Fact("label_parent", ("en:the-vegan-society", "en:vegan"))], "test")
    assert answer(graph) == "no"
    ((fact, message, proof),) = graph.violations()
    assert fact == Fact("label_refuted", ("p", "vegan"))
    assert message == "p is labelled vegan, and one of its ingredients is not"
    assert "names(p#0, en:milk)" in "\n".join(proof.lines())
    assert answer(world(food("en:unheard-of", labels=("en:vegan",)))) == "unknown"


def test_an_ingredient_learned_of_later_changes_the_answer_either_way() -> None:
    graph = world(food("en:unheard-of"))
    told = [Fact("ingredient", ("en:unheard-of",)), Fact("ingredient_parent", ("en:unheard-of", "en:tomato"))]
    assert answer(graph.extend(told, "test")) == "yes"
    assert answer(graph.extend([Fact("ingredient_parent", ("en:unheard-of", "en:milk"))], "test")) == "no"
    assert answer(graph) == "unknown", "the graph below is as it was"


# --- against a reference that shares no code with the rules ----------------------------------------------------------

_NODES = [f"i{n}" for n in range(7)]
_TAXONOMIES = st.fixed_dictionaries(
    {
        # Parents have higher numbers, so there is no circle.
        "parents": st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)).filter(lambda p: p[0] < p[1]), max_size=9),
        "stated": st.dictionaries(st.sampled_from(_NODES), st.sampled_from(["yes", "no", "maybe", "ignore"])),
        "listed": st.lists(st.sampled_from([*_NODES, "unheard-of"]), min_size=1, max_size=4),
    }
)


def nearest(name: str, parents: Mapping[str, set[str]], stated: Mapping[str, str]) -> set[str]:
    if name in stated:
        return {stated[name]}
    return {value for parent in parents.get(name, ()) for value in nearest(parent, parents, stated)}


def expected_answer(listed: list[str], parents: Mapping[str, set[str]], stated: Mapping[str, str]) -> str:
    each = set()
    for name in listed:
        values = nearest(name, parents, stated) - {"ignore"}
        each.add("unknown" if not values else values.pop() if len(values) == 1 else "maybe")
    return next(value for value in ("no", "unknown", "maybe", "yes") if value in each)


@given(_TAXONOMIES)
def test_rules_agree_with_a_naive_reading_of_any_taxonomy(drawn: dict[str, Any]) -> None:
    parents: dict[str, set[str]] = {}
    for child, parent in drawn["parents"]:
        parents.setdefault(f"i{child}", set()).add(f"i{parent}")
    facts = [Fact("ingredient", (name,)) for name in _NODES]
    facts += [Fact("ingredient_parent", (name, parent)) for name, above in parents.items() for parent in above]
    facts += [Fact("ingredient_stated", (name, "vegan", value)) for name, value in drawn["stated"].items()]
    facts += food(*drawn["listed"]).facts()
    graph = RuleGraph.build(load("openfoodfacts").program, facts, "test")
    assert answer(graph) == expected_answer(drawn["listed"], parents, drawn["stated"])


# --- reading the exports ---------------------------------------------------------------------------------------------


def write_taxonomies(folder: Path, ingredients: Mapping[str, Any]) -> None:
    for name, nodes in (("ingredients", ingredients), ("categories", {}), ("labels", {})):
        with gzip.open(folder / f"{name}.full.json.gz", "wt", encoding="utf-8") as file:
            json.dump(nodes, file)
    (folder / "allergens.txt").write_text(
        "stopwords:en:and,of\n\nen:none, no, 0\n\nen:milk, lactose, Crème fraîche\nfr:lait,lait entier\n\nen:eggs\n"
    )


def test_taxonomies_are_read_with_the_node_that_states_each_fact(tmp_path: Path) -> None:
    node = {"parents": ["en:dairy"], "vegan": {"en": "no"}, "allergens": {"en": "en:milk, en:eggs"}, "name": {}}
    write_taxonomies(tmp_path, {"en:custard": node})
    facts = dict(taxonomy_facts(tmp_path))
    assert facts[Fact("ingredient_stated", ("en:custard", "vegan", "no"))] == "ingredients.full.json.gz: en:custard"
    assert facts[Fact("ingredient_parent", ("en:custard", "en:dairy"))]
    assert {f.args[1] for f in facts if f.predicate == "ingredient_allergen"} == {"en:milk", "en:eggs"}
    called = {f.args for f in facts if f.predicate == "allergen_called"}
    assert called == {("en:milk", name) for name in ("en:milk", "en:lactose", "en:creme-fraiche", "fr:lait",
                                                     "fr:lait-entier")} | {("en:eggs", "en:eggs")}  # fmt: skip
    assert facts[Fact("allergen_called", ("en:milk", "fr:lait"))] == "allergens.txt:6"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "labels.full.json.gz").unlink(), "labels.full.json.gz is no file of Open Food Facts"),
        (lambda folder: (folder / "allergens.txt").unlink(), "allergens.txt is no file of Open Food Facts"),
        (lambda folder: (folder / "ingredients.full.json.gz").write_bytes(b"no gzip"), "give the folder its exports"),
        (lambda folder: (folder / "ingredients.full.json.gz").write_bytes(gzip.compress(b"[1]")), "no object of objec"),
        (lambda folder: write_taxonomies(folder, {"a": {"vegan": {"en": "perhaps"}}}), "states vegan: 'perhaps'"),
    ],
)
def test_files_that_are_none_of_theirs_are_refused(tmp_path: Path, damage: Any, message: str) -> None:
    write_taxonomies(tmp_path, {})
    damage(tmp_path)
    with pytest.raises(OntologyError, match=message):
        list(taxonomy_facts(tmp_path))
    with pytest.raises(OntologyError, match=r"products\.parquet is no file of Open Food Facts"):
        foods(tmp_path)


def test_entries_of_a_list_are_counted_as_read_parts_after_their_whole() -> None:
    facts = list(food(Entry("a", (Entry("b"), Entry("c"))), "d").facts())
    assert [f.args for f in facts if f.predicate == "names"] == [("p#0", "a"), ("p#1", "b"), ("p#2", "c"), ("p#3", "d")]
    assert [f.args for f in facts if f.predicate == "part_of"] == [("p#1", "p#0"), ("p#2", "p#0")]


# --- the real products -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def products() -> list[Food]:
    return foods(DATA)


@pytest.fixture(scope="module")
def real(products: list[Food]) -> RuleGraph:
    return build(DATA, products)


@needs_data
def test_every_product_and_every_entry_is_read(products: list[Food], real: RuleGraph) -> None:
    assert len(products) == 1_000
    assert sum(bool(product.entries) for product in products) == 870
    assert real.count("ingredient") == 5_329
    assert real.count("is") == 2 * len(products), "one answer to each question"


@needs_data
def test_not_one_real_product_is_called_what_it_is_stated_not_to_be(products: list[Food], real: RuleGraph) -> None:
    for product in products:
        for question in QUESTIONS:
            if f"en:non-{question}" in product.analysis:
                assert answer(real, question, product.code) in ("no", "unknown")
        for fact in real.query(Fact("free_of", (product.code, "?allergen"))):
            assert fact.args[1] not in product.allergens


@needs_data
def test_every_real_product_called_vegan_or_vegetarian_is_stated_to_be(products: list[Food], real: RuleGraph) -> None:
    by_code = {product.code: product for product in products}
    for question, count in (("vegan", 82), ("vegetarian", 99)):
        called = [fact.args[0] for fact in real.query(Fact("is", ("?product", question, "yes")))]
        assert len(called) == count
        assert all(f"en:{question}" in by_code[code].analysis for code in called)


@needs_data
def test_what_open_food_facts_concludes_is_no_premise(products: list[Food], real: RuleGraph) -> None:
    for product in products[::10]:
        plain = replace(product, analysis=frozenset(), allergens=frozenset())
        assert list(plain.facts()) == list(product.facts())
    predicates = set(real.program.declarations)
    assert not {name for name in predicates if "analysis" in name}


@needs_data
def test_nothing_follows_from_the_real_data_that_contradicts_itself(real: RuleGraph) -> None:
    assert real.violations() == []
