"""Loading ontologies and fact files."""

from __future__ import annotations

from pathlib import Path

import pytest

from graph.errors import OntologyError
from graph.ontology import known_ontologies, load, load_facts, load_folder
from graph.ports import Fact


def test_unknown_ontology_names_the_known_ones() -> None:
    assert known_ontologies() == ["family", "generic", "grocery"]
    with pytest.raises(OntologyError, match="unknown ontology 'music'; known are family, generic, grocery"):
        load("music")


def test_generic_ontology_follows_the_category_hierarchy_of_any_catalog() -> None:
    graph = load("generic").extend(
        [Fact("category_within", ("shoes", "apparel")), Fact("in_category", ("p", "shoes"))], "catalog"
    )
    assert graph.holds(Fact("in_category", ("p", "apparel")))
    assert graph.query(Fact("implied_tag", ("p", "?tag"))) == [Fact("implied_tag", ("p", "apparel"))]


def test_fact_files_of_both_layouts_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('malia\tdaughter\tbarack "44" obama\n')
    (tmp_path / "a.csv").write_text('predicate,x,y\nfemale,malia,\ndaughter,malia,"obama, barack"\n')
    assert load_facts(tmp_path / "a.tsv") == [Fact("daughter", ("malia", 'barack "44" obama'))]
    assert load_facts(tmp_path / "a.csv") == [Fact("female", ("malia",)), Fact("daughter", ("malia", "obama, barack"))]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "a\tb\n", "a.tsv:1: .* is not a triple"),
        ("a.csv", "x,y\n", "must be a header"),
        ("a.csv", "predicate,x\np,\n", "a.csv:2: .* is not a fact"),
        ("absent.csv", None, "cannot be read"),
    ],
)
def test_malformed_fact_file_is_refused_with_its_line(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(OntologyError, match=message):
        load_facts(tmp_path / name)


def test_table_column_that_no_declaration_knows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.rules").write_text(".decl thing(x)\n")
    (tmp_path / "a.csv").write_text("thing,colour\nsky,blue\n")
    with pytest.raises(OntologyError, match="column 'colour' is no predicate of 2"):
        load_folder(tmp_path)


@pytest.mark.parametrize("table", sorted((Path(__file__).resolve().parents[3] / "graph").glob("ontologies/*/*.csv")))
def test_no_table_states_a_subject_twice(table: Path) -> None:
    subjects = [
        line.split(",")[0] for line in table.read_text().splitlines() if line and not line.startswith(("#", '"'))
    ]
    assert len(subjects) == len(set(subjects))
