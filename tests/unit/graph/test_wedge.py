"""What language models get wrong and the graph must not, from a person's question on the command line to the proof."""

from __future__ import annotations

import json
import os
import sys
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import pytest

from cli import main
from graph.engine import LiveGraph, RuleGraph
from graph.ontology import load
from graph.ports import Fact, Proof

Ask: TypeAlias = Callable[..., tuple[int, str, str]]

MALIA = "daughter(malia, obama)"
SASHA = "daughter(sasha, obama)"
MOTHER, TOM, FATHER = "Mary Lee Pfeiffer", "Tom Cruise", "Thomas Cruise Mapother III"


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Ask]:
    """``tandem graph COMMAND QUESTION`` on the family ontology with told facts: exit code, output, errors."""
    before = dict(os.environ)

    def run(command: str, question: str, told: Sequence[str], *options: str) -> tuple[int, str, str]:
        facts = [part for fact in told for part in ("--assert", fact)]
        argv = ["tandem", "graph", command, question, "--ontology", "family", *facts, *options]
        monkeypatch.setattr(sys, "argv", argv)
        code: Any = 0
        with warnings.catch_warnings():
            try:
                main()
            except SystemExit as end:
                code = end.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    yield run
    os.environ.clear()
    os.environ.update(before)


def steps_of(printed: str) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = json.loads(printed)["steps"]
    return steps


def text_of(step: dict[str, Any]) -> str:
    return str(Fact(step["predicate"], tuple(step["args"])))


def leaves(proof: Proof) -> set[Fact]:
    return set().union(*(leaves(premise) for premise in proof.premises)) if proof.premises else {proof.fact}


def test_full_sister_of_obamas_daughter_is_his_daughter_with_a_proof_down_to_what_was_told(ask: Ask) -> None:
    told = [MALIA, "full_sister(sasha, malia)"]
    assert ask("query", "daughter(?who, obama)", told)[:2] == (0, f"{MALIA}\n{SASHA}\n")
    code, out, _ = ask("explain", SASHA, told, "--json")
    steps = steps_of(out)
    assert (code, text_of(steps[-1])) == (0, SASHA)
    # Well-founded: what a step rests on stands before it, and what rests on nothing was told.
    assert all(premise < place for place, step in enumerate(steps) for premise in step["premises"])
    assert {text_of(step) for step in steps if step["rule"] is None} == set(told)
    assert all(step["premises"] for step in steps if step["rule"] is not None)
    assert "full-siblings-share-parents" in {step["rule"] for step in steps}


def test_proof_reads_as_text_and_as_a_picture_of_the_same_facts(ask: Ask) -> None:
    told = [MALIA, "full_sister(sasha, malia)"]
    lines = ask("explain", SASHA, told)[1].splitlines()
    facts = {line.split("  [")[0].split("  (")[0].strip() for line in lines}
    assert lines[0] == f"{SASHA}  [female-child]"
    picture = ET.fromstring(ask("explain", SASHA, told, "--format", "svg")[1])
    titles = {(title.text or "").splitlines()[0] for title in picture.iter("{http://www.w3.org/2000/svg}title")}
    assert titles - {f"Proof of {SASHA}"} == facts


@pytest.mark.parametrize("relation", ["half_sister", "sister"])
def test_half_sister_and_a_sister_of_unknown_kind_are_not_called_daughters(ask: Ask, relation: str) -> None:
    told = [MALIA, f"{relation}(sasha, malia)"]
    assert ask("query", "daughter(?who, obama)", told)[:2] == (0, f"{MALIA}\n")
    code, out, err = ask("explain", SASHA, told)
    assert (code, out, err.startswith(f"tandem: {SASHA} does not hold")) == (1, "", True)


@pytest.mark.parametrize(
    "told",
    [
        [f'mother("{MOTHER}", "{TOM}")', f'husband("{TOM}", "Nicole Kidman")'],
        [f'son("{TOM}", "{MOTHER}")', f'wife("{MOTHER}", "{FATHER}")'],
    ],
    ids=["told of the mother", "told of the son"],
)
def test_mother_of_tom_cruise_and_child_of_mary_lee_pfeiffer_are_one_edge_whichever_end_is_told(
    ask: Ask, told: list[str]
) -> None:
    edge = told[0]
    assert ask("query", f'mother(?who, "{TOM}")', told)[1] == f'mother("{MOTHER}", "{TOM}")\n'
    assert ask("query", f'child(?who, "{MOTHER}")', told)[1] == f'child("{TOM}", "{MOTHER}")\n'
    # Tom Cruise's mother's son.
    (mother,) = json.loads(ask("query", f'mother(?who, "{TOM}")', told, "--json")[1])["facts"]
    (son,) = json.loads(ask("query", f'son(?who, "{mother["args"][0]}")', told, "--json")[1])["facts"]
    assert son["args"] == [TOM, MOTHER]
    for derived in (f'mother("{MOTHER}", "{TOM}")', f'child("{TOM}", "{MOTHER}")', f'son("{TOM}", "{MOTHER}")'):
        code, out, _ = ask("explain", derived, told, "--json")
        assert code == 0
        assert edge.replace('"', "") in {text_of(step) for step in steps_of(out) if step["rule"] is None}


def test_daughter_stays_while_one_proof_of_her_remains_and_goes_with_the_last() -> None:
    def fact(predicate: str, *args: str) -> Fact:
        return Fact(predicate, args)

    family = load("family")
    assert isinstance(family, RuleGraph)
    sasha, full = fact("daughter", "sasha", "obama"), fact("full_sister", "sasha", "malia")
    graph = LiveGraph(family)
    graph.insert([fact("daughter", "malia", "obama"), full], "the mission")
    graph.insert([fact("father", "obama", "sasha"), fact("sister", "sasha", "malia")], "a second source")
    assert sasha not in graph.delete([full]).removed
    assert leaves(graph.prove(sasha)) == {fact("father", "obama", "sasha"), fact("sister", "sasha", "malia")}
    assert sasha in graph.delete([fact("father", "obama", "sasha")]).removed
    assert not graph.holds(sasha)
    assert graph.holds(fact("daughter", "malia", "obama"))
