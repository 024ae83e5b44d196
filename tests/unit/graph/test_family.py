"""Family relations: sound for full siblings only, and in agreement with the real family data."""

from __future__ import annotations

from pathlib import Path

import pytest

from graph.engine import RuleGraph
from graph.errors import NotDerived
from graph.ontology import load, load_facts
from graph.ports import Fact
from graph.rules.reader import parse

MALIA = Fact("daughter", ("malia", "barack_obama"))
SASHA = Fact("daughter", ("sasha", "barack_obama"))
DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "family"


def test_full_sister_of_a_daughter_is_a_daughter_with_proof() -> None:
    graph = load("family").extend([MALIA, Fact("full_sister", ("sasha", "malia"))], "Malia is Barack Obama's daughter")
    lines = list(graph.prove(SASHA).lines())
    assert lines[0] == "daughter(sasha, barack_obama)  [female-child]"
    assert any("[full-siblings-share-parents]" in line for line in lines)
    assert any("full_sister(sasha, malia)  (Malia" in line for line in lines)


@pytest.mark.parametrize("relation", ["half_sister", "sister"])
def test_half_or_plain_sister_of_a_daughter_is_not_called_a_daughter(relation: str) -> None:
    graph = load("family").extend([MALIA, Fact(relation, ("sasha", "malia"))], "test")
    assert not graph.holds(SASHA)
    with pytest.raises(NotDerived):
        graph.prove(SASHA)


def test_shared_mother_and_father_make_full_siblings_and_one_shared_parent_does_not() -> None:
    def with_fathers(*fathers: str) -> bool:
        facts = [Fact("daughter", (c, "ann")) for c in ("sue", "kim")] + [Fact("mother", ("ann", "sue"))]
        facts += [Fact("father", (f, c)) for f, c in zip(fathers, ("sue", "kim"), strict=True)]
        return load("family").extend(facts, "test").holds(Fact("full_sister", ("sue", "kim")))

    assert with_fathers("bob", "bob")
    assert not with_fathers("bob", "tom")


def test_full_sister_shares_a_parent_but_never_becomes_her_own_sibling() -> None:
    graph = load("family").extend([Fact("full_sister", ("sue", "kim")), Fact("full_sister", ("kim", "sue"))], "test")
    assert graph.query(Fact("full_sibling", ("?x", "?x"))) == []


@pytest.mark.skipif(not DATA.exists(), reason=f"the real family data is not at {DATA}")
@pytest.mark.parametrize(("sibling", "child", "count"), [("sister", "daughter", 5244), ("brother", "son", 6056)])
def test_sibling_of_a_child_is_a_child_in_all_of_the_real_data(sibling: str, child: str, count: int) -> None:
    program = parse(
        "".join(f".decl {name}(x, y)\n" for name in (DATA / "relations.txt").read_text().split())
        + ".decl derived(x, y, z)\n"
        + f"derived(X, Y, Z) :- {sibling}(X, Y), son(Y, Z).\nderived(X, Y, Z) :- {sibling}(X, Y), daughter(Y, Z).\n"
    )
    facts = {
        Fact(relation, (a, b))
        for name in ("facts", "train", "valid", "test")
        for a, relation, b in (line.split("\t") for line in (DATA / f"{name}.txt").read_text().splitlines())
    }
    graph = RuleGraph.build(program, facts)
    derived = graph.query(Fact("derived", ("?x", "?y", "?z")))
    assert sum(graph.holds(Fact(child, (fact.args[0], fact.args[2]))) for fact in derived) == len(derived) == count


@pytest.mark.skipif(not DATA.exists(), reason=f"the real family data is not at {DATA}")
def test_real_triples_load_as_facts(tmp_path: Path) -> None:
    copy = tmp_path / "family.tsv"
    copy.write_text((DATA / "valid.txt").read_text())
    lines = (DATA / "valid.txt").read_text().splitlines()
    facts = load_facts(copy)
    assert len(facts) == len(lines)
    assert lines[0].split("\t") == [facts[0].args[0], facts[0].predicate, facts[0].args[1]]
