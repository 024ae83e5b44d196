"""Loading ontologies and fact files."""

from __future__ import annotations

from pathlib import Path

import pytest

from graph.errors import OntologyError, RuleSyntaxError
from graph.ontology import known_ontologies, load, load_facts, load_folder
from graph.ports import Fact
from graph.rules.reader import parse


def test_unknown_ontology_names_the_known_ones() -> None:
    known = known_ontologies()
    assert {"family", "generic", "grocery"} <= set(known)
    with pytest.raises(OntologyError, match=f"unknown ontology 'music'; known are {', '.join(known)}"):
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


def written(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


RULES = (
    ".type colour = blue, dark-red\n.decl thing(x)\n.decl colour(x, c: colour)\n.decl weight(x, kg: number)\n"
    '.constraint heavy(x)\nheavy: heavy(X) "{X} weighs too much" :- weight(X, Kg), Kg > 10.\n'
)


def test_table_values_of_the_declared_types_are_facts_with_their_place(tmp_path: Path) -> None:
    folder = written(
        tmp_path / "a", a_rules=RULES, a_csv="thing,colour,weight\n# said by eye\nsky,blue|dark-red,-0.5\n"
    )
    graph = load_folder(folder)
    assert graph.program.types == {"colour": ("blue", "dark-red")}
    assert [fact.args for fact in graph.query(Fact("colour", ("?x", "?c")))] == [("sky", "blue"), ("sky", "dark-red")]
    assert graph.prove(Fact("weight", ("sky", "-0.5"))).source == "a/a.csv:3"


def test_all_table_values_of_other_types_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    table = "thing,colour,weight\nsky,blue|bleu,light\nsea\nrose,dark-red,1e3\n"
    with pytest.raises(OntologyError) as caught:
        load_folder(written(tmp_path / "a", a_rules=RULES, a_csv=table, b_csv="heavy\nrose\n"))
    path = tmp_path / "a"
    assert str(caught.value).splitlines() == [
        f"{path}/a.csv:2: c of colour: 'bleu' is not of type colour; did you mean 'blue'?",
        f"{path}/a.csv:2: kg of weight: 'light' is no number; write a decimal number such as 3 or -2.5",
        f"{path}/a.csv:3: 1 cells under 3 columns; complete the row",
        f"{path}/a.csv:4: kg of weight: '1e3' is no number; write a decimal number such as 3 or -2.5",
        f"{path}/b.csv:2: 'heavy' is a constraint and only rules derive it; state what breaks it instead",
    ]


def test_fact_files_must_fit_the_declarations_they_are_read_for(tmp_path: Path) -> None:
    program = load_folder(written(tmp_path / "a", a_rules=RULES)).program
    file = tmp_path / "facts.csv"
    file.write_text("predicate,x,y\nweight,rose,3.5\ncolour,rose,dark-rd\nwieght,sea,1\nthing,sea,sky\n")
    with pytest.raises(OntologyError) as caught:
        load_facts(file, program)
    assert str(caught.value).splitlines() == [
        "facts.csv:3: c of colour: 'dark-rd' is not of type colour; did you mean 'dark-red'?",
        "facts.csv:4: predicate 'wieght' is not declared; did you mean 'weight'?",
        "facts.csv:5: thing(sea, sky) has 2 argument(s) and takes 1; write thing(x)",
    ]
    file.write_text("predicate,x,y\nweight,rose,3.5\n")
    assert load_facts(file, program) == [Fact("weight", ("rose", "3.5"))]


def test_faults_of_all_rules_files_of_an_ontology_are_told_at_once(tmp_path: Path) -> None:
    written(tmp_path / "base", a_rules=".decl thing(x)\nthing(X) :- thng(X).\n")
    folder = written(tmp_path / "top", extends="base", b_rules="thing(X).\n")
    with pytest.raises(RuleSyntaxError) as caught:
        load_folder(folder)
    assert [(p.file, p.line) for p in caught.value.problems] == [("base/a.rules", 2), ("top/b.rules", 1)]


def test_ontologies_in_namespaces_build_on_each_other(tmp_path: Path) -> None:
    written(tmp_path / "kin", a_rules=".namespace kin\n.decl mother(x, y)\n")
    rules = ".namespace law\n.decl heir(x, y)\nchild: heir(X, Y) :- kin.mother(Y, X).\n.decl person(x)\n"
    folder = written(tmp_path / "law", extends="kin", b_rules=rules, b_csv="law.person,kin.mother\nann,bob\n")
    graph = load_folder(folder)
    assert graph.holds(Fact("law.heir", ("bob", "ann")))
    assert graph.prove(Fact("law.heir", ("bob", "ann"))).rule == "law.child"


@pytest.mark.parametrize(("extended", "message"), [("none", "names 'none', but .* is no folder"), ("a", "leads back")])
def test_extending_what_is_not_there_or_itself_is_refused(tmp_path: Path, extended: str, message: str) -> None:
    with pytest.raises(OntologyError, match=message):
        load_folder(written(tmp_path / "a", a_rules=RULES, extends=extended))


@pytest.mark.parametrize("name", known_ontologies())
def test_shipped_ontologies_read_back_from_their_own_text(name: str) -> None:
    program = load(name).program
    again = parse(str(program))
    assert (again.rules, again.strata, again.types) == (program.rules, program.strata, program.types)
    assert {fact for fact, _ in again.facts} == {fact for fact, _ in program.facts}


@pytest.mark.parametrize("table", sorted((Path(__file__).resolve().parents[3] / "graph").glob("ontologies/*/*.csv")))
def test_no_table_states_a_subject_twice(table: Path) -> None:
    subjects = [
        line.split(",")[0] for line in table.read_text().splitlines() if line and not line.startswith(("#", '"'))
    ]
    assert len(subjects) == len(set(subjects))
