"""Vocabularies: read from every kind of file, sound or refused with every problem named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import vocabulary
from models.errors import InvalidVocabulary
from models.vocabulary import Label, Vocabulary

ROWS: list[dict[str, Any]] = [
    {"id": "food", "name": "Food"},
    {"id": "cheese", "name": "Cheese", "parents": ["food"], "definition": "of milk", "synonyms": ["fromage", "queso"]},
    {"id": "brie", "name": "Brie", "parents": ["cheese"], "examples": ["Brie de Meaux"]},
]
EXPECTED = (
    Label("food", "Food"),
    Label("cheese", "Cheese", ("food",), "of milk", ("fromage", "queso")),
    Label("brie", "Brie", ("cheese",), examples=("Brie de Meaux",)),
)


def write(path: Path) -> Path:
    if path.suffix == ".csv":
        path.write_text(
            "id,name,parents,definition,synonyms,examples\nfood,Food,,,,\n"
            "cheese,Cheese,food,of milk,fromage|queso,\nbrie,Brie,cheese,,,Brie de Meaux\n"
        )
    elif path.suffix == ".parquet":
        pl.DataFrame(ROWS).write_parquet(path)
    elif path.suffix == ".gz":
        nodes = {row["id"]: {"name": {"en": row["name"]}, "parents": row.get("parents", [])} for row in ROWS}
        path.write_bytes(gzip.compress(json.dumps(nodes).encode()))
    else:
        path.write_text(json.dumps(ROWS))
    return path


@pytest.mark.parametrize("name", ["made.csv", "made.json", "made.parquet"])
def test_file_of_each_kind_says_the_same(tmp_path: Path, name: str) -> None:
    found = vocabulary.read(write(tmp_path / name), several=True)
    assert (found.name, found.several, tuple(found.entries)) == ("made", True, EXPECTED)


def test_written_vocabulary_is_read_back(tmp_path: Path) -> None:
    made = Vocabulary("made", EXPECTED, several=True)
    (tmp_path / "other.json").write_text(made.to_json())
    found = vocabulary.read(tmp_path / "other.json")
    assert (found.name, found.several, tuple(found.entries)) == ("made", True, EXPECTED)


def test_taxonomy_of_open_food_facts_speaks_every_language(tmp_path: Path) -> None:
    nodes = {
        "en:no-gluten": {"name": {"en": "No gluten", "fr": "Sans gluten"}, "synonyms": {"de": ["Glutenfrei", None]}},
        "fr:ab": {"name": {"fr": "AB"}, "parents": ["en:no-gluten"], "description": {"fr": "un label", "en": None}},
    }
    (tmp_path / "labels.full.json.gz").write_bytes(gzip.compress(json.dumps(nodes).encode()))
    found = vocabulary.read(tmp_path / "labels.full.json.gz")
    assert found.labels["en:no-gluten"].synonyms == ("No gluten", "Sans gluten", "Glutenfrei")
    assert (found.labels["fr:ab"].name, found.labels["fr:ab"].definition) == ("AB", "un label")
    assert found.several


def test_taxonomy_s_own_language_comes_first() -> None:
    node = {"name": {"de": "Haferdrink", "en": "Oat drinks"}, "synonyms": {"de": ["Hafermilch"], "en": ["oat milk"]}}
    (label,) = vocabulary.from_taxonomy("drinks", {"en:oat": node}).entries
    assert label.synonyms == ("Oat drinks", "oat milk", "Haferdrink", "Hafermilch")


def test_catalog_gives_examples_and_a_graph_gives_parents() -> None:
    made = vocabulary.from_catalog("shop", ["B", "A", None, "A", "A"], ["x", "y", "z", "y", "w"], examples=2)
    assert [(label.id, label.examples) for label in made.entries] == [("A", ("y", "w")), ("B", ("x",))]
    graph = vocabulary.from_pairs("graph", ["a", "b"], [("b", "a")])
    assert graph.ancestors("b") == {"a"}
    with pytest.raises(InvalidVocabulary, match="'c' has a parent and is not among the labels"):
        vocabulary.from_pairs("graph", ["a"], [("c", "a")])


def test_every_problem_is_named_at_once() -> None:
    entries = [
        Label("a", parents=("b",)),
        Label("b", parents=("a",)),
        Label("c"),
        Label("c"),
        Label("d", parents=("x",)),
        Label(" "),
    ]
    with pytest.raises(InvalidVocabulary) as caught:
        Vocabulary("bad", entries)
    told = str(caught.value)
    for problem in (
        "'c' is given twice",
        "'d' is under 'x', which is no label of it",
        "label 6 has no id",
        "'a' -> 'b' -> 'a'",
    ):
        assert problem in told


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25))
def test_cycle_is_found_exactly_where_there_is_one(pairs: list[tuple[int, int]]) -> None:
    """Against Kahn's algorithm: labels without parents are taken away until none is left, or none can be."""
    parents: dict[str, set[str]] = {str(number): set() for number in range(10)}
    for narrow, wide in pairs:
        parents[str(narrow)].add(str(wide))
    left = {label: set(above) for label, above in parents.items()}
    while free := [label for label, above in left.items() if not above & left.keys()]:
        for label in free:
            del left[label]
    entries = [Label(label, parents=tuple(sorted(above))) for label, above in parents.items()]
    if left:
        with pytest.raises(InvalidVocabulary, match="above one another"):
            Vocabulary("made", entries)
        return
    made = Vocabulary("made", entries)
    assert set(made.depths) == set(parents)
    for label in parents:
        above = made.ancestors(label)
        assert label not in above
        assert all(made.ancestors(each) <= above for each in above)


def test_chain_of_a_hundred_thousand_labels_is_no_problem() -> None:
    made = Vocabulary("deep", [Label("0"), *(Label(str(at), parents=(str(at - 1),)) for at in range(1, 100_000))])
    assert made.depths["99999"] == 100_000
    assert len(made.ancestors("99999")) == 99_999


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.json", b"", "cannot be read"),
        ("number.json", b"3", "neither a list of labels nor a taxonomy"),
        ("row.json", b'[{"name": "x"}]', "row 1 has no 'id'"),
        ("key.json", b'[{"id": "x", "colour": "red"}]', "row 1 has 'colour'"),
        ("parents.json", b'[{"id": "x", "parents": [3]}]', r"row 1: parents is \[3\]"),
        ("deep.json", b"[" * 200_000, "cannot be read"),
        ("none.json", b"[]", "it has no labels"),
        ("several.json", b'{"labels": [{"id": "x"}], "several": "no"}', "'several' is 'no'"),
        ("binary.csv", b"\xff\xfe\x00\x01", "cannot be read"),
        ("wide.csv", b"id,name\nx,y,z\n", "more cells than columns"),
        ("bad.parquet", b"PAR1", "cannot be read"),
        ("bad.json.gz", b"no gzip", "cannot be read"),
        ("what.txt", b"x", "ends in none of"),
    ],
)
def test_file_that_is_no_vocabulary_is_refused_with_its_reason(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidVocabulary, match=reason):
        vocabulary.read(tmp_path / name)


def test_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidVocabulary, match="No such file"):
        vocabulary.read(tmp_path / "none.csv")
