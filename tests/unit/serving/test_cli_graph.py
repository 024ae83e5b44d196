"""``tandem graph`` as a person and a script meet it: on files, and on the running service."""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from cli import main
from features.workspace import Workspace
from graph.exchange import read
from serving.config import ServeConfig
from tests.unit.serving.replica import served

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
MALIA = ("--assert", "daughter(malia, obama)", "--assert", "full_sister(sasha, malia)")
TOM = ("--ontology", "family", "--assert", 'mother("Mary Lee Pfeiffer", "Tom Cruise")')


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


class Tandem(Protocol):
    def __call__(self, *arguments: str) -> Done: ...


@pytest.fixture
def tandem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Tandem]:
    """``tandem graph`` with these arguments, in this process: starting one takes seconds on a busy machine."""
    before = dict(os.environ)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["tandem", "graph", *arguments])
        code = 0
        with warnings.catch_warnings():
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    yield run
    os.environ.clear()
    os.environ.update(before)


# --- questions -------------------------------------------------------------------------------------------------------


def test_names_with_blanks_and_commas_are_quoted_and_answers_can_be_asked_again(tandem: Tandem) -> None:
    fact = 'child("Cruise, Tom", "Mary Lee")'
    done = tandem("query", 'child(?who, "Mary Lee")', "--ontology", "family", "--assert", fact)
    assert (done.code, done.out) == (0, f"{fact}\n")
    again = tandem("explain", done.out.strip(), "--ontology", "family", "--assert", fact)
    assert again.out == f"{fact}  (command line)\n"


def test_answer_without_a_fact_says_so_beside_the_output(tandem: Tandem) -> None:
    done = tandem("query", 'mother(?who, "Tom Cruize")', *TOM)
    assert (done.code, done.out, done.err) == (0, "", 'no fact matches mother(?who, "Tom Cruize")\n')
    assert tandem("query", 'mother(?who, "Tom Cruize")', *TOM, "--json").err == ""


def test_inverse_questions_have_the_same_answer(tandem: Tandem) -> None:
    assert tandem("query", 'mother(?who, "Tom Cruise")', *TOM).out == 'mother("Mary Lee Pfeiffer", "Tom Cruise")\n'
    assert tandem("query", 'child(?who, "Mary Lee Pfeiffer")', *TOM).out == 'child("Tom Cruise", "Mary Lee Pfeiffer")\n'


def test_query_for_a_script_is_json_that_reads_as_facts(tandem: Tandem, tmp_path: Path) -> None:
    done = tandem("query", "category_contains(CHEESES, ?x)", "--json")
    (tmp_path / "found.json").write_text(done.out)
    assert {str(each.fact) for each in read(tmp_path / "found.json")} >= {"category_contains(CHEESES, dairy)"}


@pytest.mark.parametrize(
    ("pattern", "remedy"),
    [
        ("daughter malia obama", "belongs"),
        ("mother(X, tom)", 'write ?X for any value, "X" for the name'),
        ("mother(Mary Lee, tom)", "found 'Lee'"),
        ('mother("Mary, tom)', "close the string"),
    ],
)
def test_pattern_that_cannot_be_read_says_where_and_what_to_write(tandem: Tandem, pattern: str, remedy: str) -> None:
    done = tandem("query", pattern, "--ontology", "family")
    assert done.code == 2
    assert done.out == ""
    assert remedy in done.err
    assert done.err.count("\n") == 1


def test_several_literals_are_answered_by_their_variables(tandem: Tandem) -> None:
    text = 'mother(X, "Tom Cruise"), not mother(_, X), X != bo'
    assert tandem("query", *TOM, text).out == 'X = "Mary Lee Pfeiffer"\n'
    script = tandem("query", *TOM, "mother(?who, ?child), child(?child, ?who)", "--json")
    expected = {"variables": ["who", "child"], "answers": [["Mary Lee Pfeiffer", "Tom Cruise"]]}
    assert json.loads(script.out) == expected
    assert tandem("query", *TOM, 'not mother("Tom Cruise", "Mary Lee Pfeiffer")').out == "it holds\n"
    none = tandem("query", *TOM, "mother(X, _), mother(_, X)")
    assert (none.code, none.out, none.err) == (0, "", "no answer\n")


def test_literals_that_cannot_be_read_are_told_with_their_columns(tandem: Tandem) -> None:
    done = tandem("query", *TOM, "mother(X, Y), mothr(Y, Z), Cruise != Y")
    assert done.code == 2
    assert "<question>:1:15: predicate 'mothr' is not declared; did you mean 'mother'?" in done.err
    assert "<question>:1:28: variable Cruise" in done.err
    assert 'or quote the name: "Cruise"' in done.err


def test_explain_shows_what_was_absent(tandem: Tandem, tmp_path: Path) -> None:
    rules = tmp_path / "idle.rules"
    rules.write_text(".decl user(u)\n.decl bought(u, i)\n.decl idle(u)\nidle: idle(U) :- user(U), not bought(U, _).\n")
    told = ("--ontology", str(rules), "--assert", "user(ann)")
    assert tandem("explain", "idle(ann)", *told).out.splitlines()[-1] == "  not bought(ann, ?)  (no such fact)"
    last = json.loads(tandem("explain", "idle(ann)", *told, "--json").out)["steps"][-1]
    assert last["absent"] == [{"predicate": "bought", "args": ["ann", "?"]}]
    assert "not bought(ann, ?): no such fact" in tandem("explain", "idle(ann)", *told, "--format", "dot").out


def test_misspelt_predicate_is_answered_with_the_nearest(tandem: Tandem) -> None:
    done = tandem("query", "mothr(?x, ?y)", "--ontology", "family")
    assert (done.code, "did you mean 'mother'?" in done.err) == (1, True)


def test_explain_draws_the_proof(tandem: Tandem) -> None:
    asked = ("explain", "daughter(sasha, obama)", "--ontology", "family", *MALIA)
    picture = ET.fromstring(tandem(*asked, "--format", "svg").out)
    titles = [title.text or "" for title in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert any(title.startswith("full_sister(sasha, malia)\n(command line)") for title in titles)
    assert tandem(*asked, "--format", "dot").out.startswith("digraph {")
    steps = json.loads(tandem(*asked, "--json").out)["steps"]
    assert steps[-1]["args"] == ["sasha", "obama"]
    assert all(premise < place for place, step in enumerate(steps) for premise in step["premises"])
    assert tandem(*asked, "--format", "png").code == 2


def test_path_shows_direction_and_proofs(tandem: Tandem) -> None:
    facts = ("--assert", "daughter(malia, obama)", "--assert", "wife(michelle, obama)")
    done = tandem("path", "malia", "michelle", *facts, "--via", "daughter", "--via", "husband", "--proofs")
    assert done.out.splitlines() == [
        "malia --daughter--> obama",
        "obama --husband--> michelle",
        "    husband(obama, michelle)  [wife-has-husband]",
        "      wife(michelle, obama)  (command line)",
    ]
    rows = json.loads(tandem("path", "malia", "michelle", *facts, "--via", "daughter", "--via", "wife", "--json").out)
    assert [hop["forward"] for hop in rows["paths"][0]] == [True, False]
    assert tandem("path", "malia", "nobody", *facts).code == 1


def test_facts_are_drawn(tandem: Tandem) -> None:
    done = tandem("draw", "daughter", "--ontology", "family", "--assert", "daughter(malia, obama)")
    assert ET.fromstring(done.out).tag.endswith("svg")
    dot = tandem("draw", "daughter", "--format", "dot", "--ontology", "family", "--assert", "daughter(malia, obama)")
    assert '"malia" -> "obama" [label="daughter"];' in dot.out


# --- files -----------------------------------------------------------------------------------------------------------


def test_export_and_import_keep_kinds_and_sources(tandem: Tandem, tmp_path: Path) -> None:
    (tmp_path / "told.tsv").write_text("sasha\tfull_sister\tmalia\nmalia\tdaughter\tobama\n")
    everything, again = tmp_path / "all.parquet", tmp_path / "again.ttl"
    done = tandem("export", str(everything), "--ontology", "family", "--facts", str(tmp_path / "told.tsv"))
    assert done.code == 0, done.err
    assert tandem("convert", str(everything), str(again)).out == done.out.replace("all.parquet", "again.ttl")
    assert sorted(read(again)) == sorted(read(everything))
    told = [each for each in read(everything) if each.kind == "asserted"]
    assert {each.source for each in told} == {"told.tsv:1", "told.tsv:2"}
    asked = tandem("explain", "daughter(sasha, obama)", "--ontology", "family", "--facts", str(again))
    assert "(told.tsv:1)" in asked.out
    assert "derived facts are left out; they are derived again" in asked.err


def test_bad_rows_of_facts_are_named(tandem: Tandem, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("malia\tdaughter\n")
    done = tandem("query", "daughter(?x, ?y)", "--ontology", "family", "--facts", str(tmp_path / "a.tsv"))
    assert (done.code, "a.tsv:1: " in done.err) == (1, True)


def test_every_fact_that_does_not_fit_its_declaration_is_named_with_its_place(tandem: Tandem, tmp_path: Path) -> None:
    rules = tmp_path / "diets.rules"
    rules.write_text(
        ".type diet = vegan, halal\n.decl follows(user: user, diet: diet)\n.decl age(user: user, years: number)\n"
    )
    (tmp_path / "a.csv").write_text(
        "predicate,a,b\nfollows,ann,vegan\nfollows,bob,vegn\nage,bob,old\nfollow,cid,halal\nage,cid\n"
    )
    given = ("--ontology", str(rules), "--facts", str(tmp_path / "a.csv"), "--assert", "follows(dan, halall)")
    done = tandem("query", "follows(?who, ?diet)", *given)
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines() == [
        "tandem: a.csv:3: diet of follows: 'vegn' is not of type diet; did you mean 'vegan'?",
        "a.csv:4: years of age: 'old' is no number; write a decimal number such as 3 or -2.5",
        "a.csv:5: predicate 'follow' is not declared; did you mean 'follows'?",
        "a.csv:6: age(cid) has 1 argument(s) and takes 2; write age(user, years)",
        "command line: diet of follows: 'halall' is not of type diet; did you mean 'halal'?",
    ]


def test_many_facts_that_do_not_fit_are_counted(tandem: Tandem, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("".join(f"{i}\tdauhter\tann\n" for i in range(50)))
    done = tandem("query", "daughter(?x, ?y)", "--ontology", "family", "--facts", str(tmp_path / "a.tsv"))
    assert (done.code, done.err.splitlines()[-1], done.err.count("\n")) == (1, "and 30 more", 21)


def test_ontology_that_is_nowhere_empty_or_no_text_is_named(tandem: Tandem, tmp_path: Path) -> None:
    done = tandem("query", "p(?x)", "--ontology", "famly")
    assert (done.code, "none of" in done.err and "family" in done.err) == (2, True)
    for command in (("check", str(tmp_path)), ("query", "p(?x)", "--ontology", str(tmp_path))):
        done = tandem(*command)
        assert (done.code, f"{tmp_path} holds no *.rules file" in done.err) == (1, True)
    (tmp_path / "a.rules").write_bytes(b"\xee\xff")
    for command in (("check", str(tmp_path)), ("query", "p(?x)", "--ontology", str(tmp_path / "a.rules"))):
        done = tandem(*command)
        assert (done.code in (1, 2), "give" in done.err and "UTF-8" in done.err) == (True, True)


def test_refused_export_leaves_what_the_file_held(tandem: Tandem, tmp_path: Path) -> None:
    path = tmp_path / "all.tsv"
    path.write_text("mine\n")
    done = tandem("export", str(path), "--ontology", "family", "--assert", "daughter(malia, obama)")
    assert (done.code, path.read_text(), "a triple holds two" in done.err) == (1, "mine\n", True)


def test_predictions_of_a_file_keep_who_made_them(tandem: Tandem, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(
        "malia\tdaughter\tobama\tpredicted\tmodel one\t0.75\nsue\tdaughter\tann\tpredicted\tmodel two\t0.5\n"
    )
    told, again = tmp_path / "a.tsv", tmp_path / "again.tsv"
    for chosen in (["daughter"], ["--kind", "predicted"], []):
        done = tandem("export", str(again), *chosen, "--ontology", "family", "--facts", str(told))
        assert (done.code, sorted(read(again))) == (0, sorted(read(told)))


def test_predictions_of_a_file_stay_predictions(tandem: Tandem, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("malia\tdaughter\tobama\tpredicted\tmodel\t0.75\n")
    given = ("--ontology", "family", "--facts", str(tmp_path / "a.tsv"))
    assert tandem("query", "daughter(?x, ?y)", *given).out == ""
    assert tandem("query", "predicted daughter(?x, ?y)", *given).out == "predicted daughter(malia, obama)\n"
    proof = tandem("explain", "predicted daughter(malia, obama)", *given)
    assert proof.out == "predicted daughter(malia, obama)  (model, predicted: 0.75)\n"


# --- check -----------------------------------------------------------------------------------------------------------


def test_check_names_every_fault_of_rules_with_its_place(tandem: Tandem, tmp_path: Path) -> None:
    rules = tmp_path / "bad.rules"
    rules.write_text(".decl p(x)\n.decl q(x)\np(X) :- q(Y).\nq(X) :- r(X).\n")
    done = tandem("check", str(rules))
    assert done.code == 1
    lines = done.out.splitlines()
    assert [line.startswith(f"{rules}:{row}:") for line, row in zip(lines, (3, 3, 4))].count(True) >= 2
    assert lines[-1].endswith("problems")
    problems = json.loads(tandem("check", str(rules), "--json").out)["problems"]
    assert {problem["line"] for problem in problems} == {3, 4}


def test_check_of_sound_rules_counts_them(tandem: Tandem, tmp_path: Path) -> None:
    (tmp_path / "a.rules").write_text(".decl p(x)\n.decl q(x)\nq(X) :- p(X).\np(a).\n")
    assert tandem("check", str(tmp_path / "a.rules")).out == "ok: 2 predicates, 1 rules, 2 facts\n"
    assert tandem("check", str(tmp_path)).code == 0
    assert tandem("check", "family").code == 0
    assert tandem("check", str(tmp_path / "absent.rules")).code == 2


def test_check_lists_broken_constraints_with_proofs(tandem: Tandem, tmp_path: Path) -> None:
    folder = tmp_path / "ontology"
    folder.mkdir()
    (folder / "a.rules").write_text(
        ".decl sold(item: item, age: number)\n.constraint too_young(item: item)\n"
        'adults-only: too_young(I) "{I} is sold to children" :- sold(I, A), A < 18.\n'
    )
    (tmp_path / "sales.csv").write_text("predicate,item,age\nsold,wine,20\nsold,beer,12\n")
    done = tandem("check", str(folder), "--facts", str(tmp_path / "sales.csv"))
    assert done.code == 1
    assert done.out.splitlines()[:3] == [
        "too_young(beer): beer is sold to children",
        "  too_young(beer)  [adults-only]",
        "    sold(beer, 12)  (sales.csv:3)",
    ]


def test_check_holds_the_family_ontology_against_real_data(tandem: Tandem) -> None:
    if not (SHARED / "family").is_dir():
        pytest.skip(f"real data is absent: {SHARED / 'family'}")
    done = tandem("check", "family", "--data", str(SHARED / "family"), "--json")
    report = json.loads(done.out)
    assert (done.code, report["ok"]) == (0, True)
    assert {"name": "sister of a child is a daughter", "count": 5244, "of": 5244, "share": 1.0} in report["measures"]


def test_check_of_data_nobody_knows_is_wrong_usage(tandem: Tandem, tmp_path: Path) -> None:
    assert tandem("check", "music", "--data", str(tmp_path)).code == 2
    assert tandem("check", "family", "--data", str(tmp_path / "absent")).code == 2


# --- the running service ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service(trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """Options that name a running service."""
    root = tmp_path_factory.mktemp("cli-graph") / "workspace"
    shutil.copytree(trained_workspace.root, root)
    with served(root, ServeConfig(llm=None)) as (client, _):
        yield ("--workspace", str(root), "--target", client.target)


def test_running_service_is_told_asked_and_untold(tandem: Tandem, service: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("predicate,item,what\nin_category,soft cheese,CHEESES\n")
    done = tandem("assert", "--facts", str(tmp_path / "a.csv"), "--source", "kitchen", *service)
    assert (done.code, done.out) == (0, "1 facts recorded, 0 were known from kitchen\n")
    asked = tandem("query", "--live", 'contains("soft cheese", ?x)', *service)
    assert 'contains("soft cheese", dairy)' in asked.out.splitlines()
    literals = 'contains("soft cheese", X), not contains("soft cheese", alcohol), X = dairy'
    assert tandem("query", "--live", literals, *service).out == "X = dairy\n"
    refused = tandem("query", "--live", "contains(I, X), contains(J, X), I != J", *service)
    assert refused.code == 1
    assert "2 items at once (I, J)" in refused.err
    proof = tandem("explain", "--live", 'contains("soft cheese", dairy)', *service)
    assert 'in_category("soft cheese", "CHEESES")  (kitchen, 20' in proof.out
    svg = tandem("explain", "--live", 'contains("soft cheese", dairy)', "--format", "svg", *service)
    assert ET.fromstring(svg.out).tag.endswith("svg")
    assert tandem("retract", 'contains("soft cheese", dairy)', *service).code == 1
    gone = tandem("retract", 'in_category("soft cheese", "CHEESES")', "--json", *service)
    assert json.loads(gone.out) == {"retracted": 1, "unknown": []}
    again = tandem("retract", 'in_category("soft cheese", "CHEESES")', *service)
    assert again.code == 1
    assert "nobody asserted in_category" in again.err
