"""``tandem vocabulary`` as a person and a script meet it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.console import UsageError
from cli.vocabulary import vocabulary_app
from models import vocabulary
from models.errors import InvalidVocabulary

TREE = '[{"id": "food"}, {"id": "cheese", "parents": ["food"], "definition": "of milk"}]'


def test_check_counts_what_a_file_holds(tmp_path: Path) -> None:
    (tmp_path / "tree.json").write_text(TREE)
    done = CliRunner().invoke(vocabulary_app, ["check", str(tmp_path / "tree.json"), "--json"])
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert (told["labels"], told["roots"], told["deepest"], told["with_definition"]) == (2, 1, 2, 1)
    shown = CliRunner().invoke(vocabulary_app, ["check", str(tmp_path / "tree.json")])
    assert "1: 1, 2: 1" in shown.stdout


def test_import_writes_what_check_reads(tmp_path: Path) -> None:
    (tmp_path / "tree.json").write_text(TREE)
    out = tmp_path / "out.json"
    done = CliRunner().invoke(vocabulary_app, ["import", str(tmp_path / "tree.json"), "-o", str(out), "--several"])
    assert done.exit_code == 0
    made = vocabulary.read(out)
    assert made.several
    assert made.ancestors("cheese") == {"food"}


def test_cyclic_taxonomy_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "tree.json").write_text('[{"id": "a", "parents": ["b"]}, {"id": "b", "parents": ["a"]}]')
    with pytest.raises(InvalidVocabulary, match="above one another"):
        CliRunner().invoke(
            vocabulary_app,
            ["import", str(tmp_path / "tree.json"), "-o", str(tmp_path / "out.json")],
            catch_exceptions=False,
        )
    assert not (tmp_path / "out.json").exists()


def test_catalog_without_a_workspace_says_what_to_do(tmp_path: Path) -> None:
    from features.errors import WorkspaceError

    with pytest.raises(WorkspaceError, match="tandem ingest"):
        CliRunner().invoke(
            vocabulary_app,
            ["import", "catalog", "-o", str(tmp_path / "o.json"), "-w", str(tmp_path)],
            catch_exceptions=False,
        )


RULES = """
.decl shelf(label: text)
.decl beside(label: text, wider: text)
.decl wider(label: text, wider: text)
as-beside: wider(L, W) :- beside(L, W).
"""


def test_graph_knows_labels_and_wider_ones_by_rules(tmp_path: Path) -> None:
    (tmp_path / "shelves.rules").write_text(RULES)
    (tmp_path / "facts.tsv").write_text("brie\tbeside\tcheese\n")
    (tmp_path / "more.json").write_text(
        json.dumps({"facts": [{"predicate": "shelf", "args": [label]} for label in ("cheese", "brie")]})
    )
    out = tmp_path / "out.json"
    files = ["--facts", str(tmp_path / "facts.tsv"), "--facts", str(tmp_path / "more.json")]
    ontology = ["import", "graph", "--ontology", str(tmp_path / "shelves.rules"), *files, "-o", str(out)]
    done = CliRunner().invoke(vocabulary_app, [*ontology, "--labels", "shelf", "--parents", "wider"])
    assert done.exit_code == 0, done.output
    made = vocabulary.read(out)
    assert list(made.labels) == ["brie", "cheese"]
    assert made.ancestors("brie") == {"cheese"}
    with pytest.raises(UsageError, match=r"'shelves' of 1 or more arguments; choose of .*shelf"):
        CliRunner().invoke(vocabulary_app, [*ontology, "--labels", "shelves"], catch_exceptions=False)


ATTRIBUTES = {
    "attributes": [
        {"name": "size", "kind": "number", "units": {"ml": ["millilitre"], "l": []}},
        {"name": "diet", "kind": "enum", "values": ["vegan", {"id": "organic", "names": ["bio"]}], "several": True},
        {"name": "origin", "kind": "text", "pattern": "from [a-z]+"},
    ]
}


def test_check_shows_attributes_and_what_they_read(tmp_path: Path) -> None:
    path = tmp_path / "attributes.json"
    path.write_text(json.dumps(ATTRIBUTES))
    done = CliRunner().invoke(vocabulary_app, ["check", str(path), "--json", "--read", "Bio oil from Italy, 2x500 ml"])
    told = json.loads(done.stdout)
    assert (told["labels"], told["deepest"]) == (0, 0)
    assert told["attributes"] == {
        "size": "number with a unit: ml, l",
        "diet": "enum one of 2: vegan, organic, several",
        "origin": "text matching from [a-z]+",
    }
    assert [(each["attribute"], each["value"]) for each in told["read"]] == [
        ("size", "500 ml"),
        ("diet", "organic"),
        ("origin", "from italy"),
    ]
    shown = CliRunner().invoke(vocabulary_app, ["check", str(path), "--read", "Oil"])
    assert "none of its attributes is read in these words" in shown.stdout
    assert "read" not in json.loads(CliRunner().invoke(vocabulary_app, ["check", str(path), "--json"]).stdout)


def test_import_keeps_attributes(tmp_path: Path) -> None:
    path, out = tmp_path / "attributes.json", tmp_path / "out.json"
    path.write_text(json.dumps({**ATTRIBUTES, "labels": [{"id": "food"}]}))
    assert CliRunner().invoke(vocabulary_app, ["import", str(path), "-o", str(out)]).exit_code == 0
    assert vocabulary.read(out).attributes == vocabulary.read(path).attributes


def test_bad_attribute_is_named(tmp_path: Path) -> None:
    path = tmp_path / "attributes.json"
    path.write_text(json.dumps({"attributes": [{"name": "size", "kind": "length"}]}))
    with pytest.raises(InvalidVocabulary, match=r"'size': kind is 'length'; choose one of text, enum, number"):
        CliRunner().invoke(vocabulary_app, ["check", str(path)], catch_exceptions=False)
