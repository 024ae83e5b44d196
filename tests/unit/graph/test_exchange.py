"""Facts into files and back: nothing lost, nothing changed, and a bad row named by its place."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graph.errors import OntologyError
from graph.exchange import FORMATS, Statement, importable, read, statements_of, write
from graph.ontology import load, load_facts
from graph.ports import Fact

# Everything that breaks naive writers: separators, quotes, escapes, comment signs, every kind of line end, scripts.
NASTY = st.text(
    st.sampled_from(list("aZ09 \t\n\r,;\"'\\#@|?~%<>:/.&{}[]()-_\x0b\x0c\x85\u2028é漢🥛\u0000\u202e\ufeff")), max_size=8
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = NASTY.filter(bool)
PREDICATES = st.sampled_from(["mother", "family.mother", "p", "is_a", "x9"])
PROBABILITIES = st.floats(0, 1)


def statements(places: st.SearchStrategy[int], names: st.SearchStrategy[str] = NAMES) -> st.SearchStrategy[Statement]:
    facts = places.flatmap(
        lambda count: st.builds(Fact, PREDICATES, st.lists(names, min_size=count, max_size=count).map(tuple))
    )
    return st.one_of(
        st.builds(Statement, facts, st.sampled_from(["asserted", "derived"]), NAMES),
        st.builds(Statement, facts, st.just("predicted"), NAMES, PROBABILITIES),
    )


MANY = st.integers(1, 5)
SETS = {
    "tsv": st.lists(statements(st.just(2)), max_size=6),
    "csv": st.lists(statements(MANY), max_size=6),
    "parquet": st.lists(statements(MANY, NASTY), max_size=6),
    "json": st.lists(statements(MANY, NASTY), max_size=6),
    # RDF is a set: neither order nor repetition mean anything.
    "ttl": st.lists(statements(MANY, NASTY), max_size=6, unique=True).map(sorted),
}


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_written_is_read_back_exactly(form: str, data: st.DataObject, tmp_path: Path) -> None:
    told = data.draw(SETS[form])
    path = tmp_path / f"facts.{form}"
    write(path, told)
    assert read(path) == told


@pytest.mark.parametrize("form", FORMATS)
def test_no_facts_are_written_and_read_as_no_facts(form: str, tmp_path: Path) -> None:
    write(tmp_path / f"none.{form}", [])
    assert read(tmp_path / f"none.{form}") == []


@pytest.mark.parametrize("form", FORMATS)
def test_equal_facts_make_equal_files(form: str, tmp_path: Path) -> None:
    told = [Statement(Fact("mother", (f"m{i}", "Tom")), "asserted", "a book") for i in range(20)]
    write(tmp_path / f"one.{form}", told)
    write(tmp_path / f"two.{form}", told)
    assert (tmp_path / f"one.{form}").read_bytes() == (tmp_path / f"two.{form}").read_bytes()


def test_statement_without_a_source_gets_its_place_as_one(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("# family\nmalia\tdaughter\tbarack\n\nsasha\tdaughter\tbarack\n")
    assert [each.source for each in read(tmp_path / "a.tsv")] == ["a.tsv:2", "a.tsv:4"]


def test_windows_line_ends_and_byte_order_marks_are_no_part_of_names(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes("\ufeffmalia\tdaughter\tbarack\r\n".encode())
    (tmp_path / "a.csv").write_bytes("\ufeffpredicate,a,b\r\ndaughter,malia,barack\r\n".encode())
    fact = Fact("daughter", ("malia", "barack"))
    assert [each.fact for name in ("a.tsv", "a.csv") for each in read(tmp_path / name)] == [fact, fact]


def test_hand_written_csv_may_call_its_columns_anything(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('predicate,source,kind,x\nsold,"Milk, 1 l",Ann,3\nseen,Ann,,\n')
    assert load_facts(tmp_path / "a.csv") == [Fact("sold", ("Milk, 1 l", "Ann", "3")), Fact("seen", ("Ann",))]


def test_csv_is_what_another_csv_reader_reads(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", [Statement(Fact("p", ('say "hi"\n,', "b")), "predicted", "model 1", 0.25)])
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = {"predicate": "p", "@kind": "predicted", "@source": "model 1", "@probability": "0.25"}
    assert rows == [{**expected, "argument1": 'say "hi"\n,', "argument2": "b"}]


def test_turtle_holds_plain_triples_for_other_tools_but_asserts_no_prediction(tmp_path: Path) -> None:
    rdflib = pytest.importorskip("rdflib")
    certain, guessed = Fact("mother", ("Mary Lee", "Tom")), Fact("mother", ("Ann", "Tom"))
    write(tmp_path / "a.ttl", [Statement(certain), Statement(guessed, "predicted", "model", 0.9)])
    found = rdflib.Graph().parse(tmp_path / "a.ttl")
    mothers = list(found.subject_objects(rdflib.URIRef("urn:tandem:predicate:mother")))
    assert mothers == [(rdflib.URIRef("urn:tandem:entity:Mary%20Lee"), rdflib.URIRef("urn:tandem:entity:Tom"))]


def test_turtle_of_others_reads_by_the_last_part_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "a.ttl").write_text(
        "@prefix o: <http://example.org/o#> . @prefix d: <http://example.org/data/> .\n"
        'd:tom a o:person ; o:mother d:mary ; o:name "Tom C." .\n'
    )
    facts = {each.fact for each in read(tmp_path / "a.ttl")}
    assert facts == {Fact("person", ("tom",)), Fact("mother", ("tom", "mary")), Fact("name", ("tom", "Tom C."))}


def test_triples_of_other_tools_read_from_parquet(tmp_path: Path) -> None:
    pl.DataFrame({"subject": ["a"], "predicate": ["p"], "object": ["b"]}).write_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [Statement(Fact("p", ("a", "b")), "asserted", "a.parquet: row 0")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "a\tp\tb\na\tb\n", r"a\.tsv:2: \['a', 'b'\] is not a triple; write"),
        ("a.tsv", "a\tp\t\n", r"a\.tsv:1: .* is not a triple"),
        ("a.tsv", "a\\b\tp\tb\n", r"a\.tsv:1: .*no escape; write '\\\\' for a backslash"),
        ("a.tsv", "a\tp\tb\tguessed\n", r"a\.tsv:1: 'guessed' is no kind of fact; write one of asserted"),
        ("a.tsv", "a\tp\tb\tpredicted\tm\t1.5\n", r"a\.tsv:1: probability '1.5' is no number between 0 and 1"),
        ("a.tsv", "a\tp\tb\tpredicted\tm\tnan\n", r"a\.tsv:1: probability 'nan'"),
        (
            "a.tsv",
            "a\tp\tb\tpredicted\tm\n",
            r"a\.tsv:1: the kind is 'predicted' and the probability ''; a predicted fact has one",
        ),
        ("a.tsv", "a\tp\tb\tasserted\tm\t0.5\n", r"a\.tsv:1: the kind is 'asserted' and the probability '0.5'"),
        ("a.csv", "x,y\n", "must be a header"),
        ("a.csv", "", "is empty; the first line must be a header"),
        ("a.csv", "predicate,@kinds\n", "column '@kinds' is unknown"),
        ("a.csv", "predicate,x\np,\n", r"a\.csv:2: .* is not a fact"),
        ("a.csv", "predicate,x,y\np,,b\n", r"a\.csv:2: .* is not a fact"),
        ("a.csv", "predicate,x\np,a,b\n", r"a\.csv:2: .* has 3 cells under 2 columns"),
        ("a.csv", 'predicate,x\np,"a\n', r"a\.csv:2: unexpected end of data; close the quotes"),
        ("a.json", "{", "is no JSON .*line 1 column 2"),
        ("a.json", "[]", "holds no facts"),
        ("a.json", '{"facts": [{"predicate": "p", "args": ["a"]}, {"args": []}]}', r"facts\[1\]: None is a NoneType"),
        ("a.json", '{"facts": [{"predicate": "p", "args": [1]}]}', r"facts\[0\]: 1 is a int, no text"),
        ("a.json", '{"facts": [{"predicate": "p", "args": ["a"], "prob": 1}]}', "'prob' is unknown"),
        ("a.ttl", "<a> <b> .", "is no Turtle"),
        ("a.ttl", "<http://x/a> <http://x/p> [] .", "a blank node has no name"),
        ("a.ttl", "<http://x/a> <http://x/p> <http://y/a> .", "would both be named 'a'"),
        ("a.xml", "", "there is no format 'xml' of facts; use one of tsv, csv"),
        ("a.parquet", "PAR1", "cannot be read as parquet"),
        ("absent.csv", None, "cannot be read"),
    ],
)
def test_row_that_states_no_fact_is_named_with_its_place_and_remedy(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, newline="")
    with pytest.raises(OntologyError, match=message):
        read(tmp_path / name)


def test_every_bad_row_of_a_file_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("bad\na\tp\tb\n" + "worse\n" * 30)
    with pytest.raises(OntologyError) as refused:
        read(tmp_path / "a.tsv")
    lines = str(refused.value).splitlines()
    assert len(lines) == 21
    assert "a.tsv:1: " in lines[0]
    assert "a.tsv:3: " in lines[1]
    assert lines[-1] == "and 11 more"


def test_file_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"caf\xe9\tp\tb\n")
    with pytest.raises(OntologyError, match="UTF-8"):
        read(tmp_path / "a.tsv")


@pytest.mark.parametrize(
    ("name", "fact", "message"),
    [
        ("a.tsv", Fact("p", ("a",)), "has 1 arguments and a triple holds two; write csv or json"),
        ("a.tsv", Fact("p", ("a", "")), "empty name, which tsv cannot hold"),
        ("a.csv", Fact("p", ("a", "")), "empty name, which csv cannot hold"),
        ("a.json", Fact("p", ("\ud800",)), "cannot be written"),
    ],
)
def test_fact_that_a_format_cannot_hold_is_refused_not_changed(
    tmp_path: Path, name: str, fact: Fact, message: str
) -> None:
    with pytest.raises(OntologyError, match=message):
        write(tmp_path / name, [Statement(fact)])


def test_export_of_a_graph_tells_asserted_from_derived_and_names_the_rule(tmp_path: Path) -> None:
    graph = load("family").extend([Fact("mother", ("Mary Lee", "Tom"))], "a biography")
    told = statements_of(graph, {"mother": 2, "child": 2, "female": 1})
    assert Statement(Fact("mother", ("Mary Lee", "Tom")), "asserted", "a biography") in told
    derived = next(each for each in told if each.fact == Fact("child", ("Tom", "Mary Lee")))
    assert derived.kind == "derived"
    assert derived.source == graph.prove(derived.fact).rule
    write(tmp_path / "all.json", told)
    assert {row["kind"] for row in json.loads((tmp_path / "all.json").read_text())["facts"]} == {"asserted", "derived"}
    taken, left_out = importable(read(tmp_path / "all.json"))
    assert [each.fact for each in taken] == [Fact("mother", ("Mary Lee", "Tom"))]
    assert left_out == len(told) - 1


def test_derived_facts_that_are_left_out_of_an_import_are_derived_again(tmp_path: Path) -> None:
    family = load("family")
    before = family.extend([Fact("mother", ("Mary Lee", "Tom")), Fact("son", ("Tom", "Bill"))], "a biography")
    arities = {"mother": 2, "father": 2, "child": 2, "son": 2, "male": 1}
    write(tmp_path / "all.ttl", statements_of(before, arities))
    taken, _ = importable(read(tmp_path / "all.ttl"))
    after = family.extend([each.fact for each in taken], "a file")
    assert {each.fact for each in statements_of(after, arities)} == {
        each.fact for each in statements_of(before, arities)
    }


def test_mother_of_tom_and_child_of_mary_are_the_same_edge() -> None:
    graph = load("family").extend([Fact("mother", ("Mary Lee Pfeiffer", "Tom Cruise"))], "a biography")
    assert graph.query(Fact("mother", ("?who", "Tom Cruise"))) == [Fact("mother", ("Mary Lee Pfeiffer", "Tom Cruise"))]
    assert graph.query(Fact("child", ("?who", "Mary Lee Pfeiffer"))) == [
        Fact("child", ("Tom Cruise", "Mary Lee Pfeiffer"))
    ]
    (leaf,) = [
        line for line in graph.prove(Fact("child", ("Tom Cruise", "Mary Lee Pfeiffer"))).lines() if "(a b" in line
    ]
    assert leaf.strip() == "mother(Mary Lee Pfeiffer, Tom Cruise)  (a biography)"
