"""What services assert: whom it concerns, and properties that are always those of a start from scratch."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graph.errors import FactLimitExceeded
from graph.ontology import load
from graph.ports import Fact
from graph.rules.reader import parse
from serving.factlog import LoggedFact, SqliteFactLog, Told
from serving.facts import with_facts
from serving.knowledge import Knowledge, concerned
from serving.services import Services


def entries(*told: Told, after: int = 0) -> list[LoggedFact]:
    return [LoggedFact(after + place, each, 1e9) for place, each in enumerate(told, 1)]


def some_told(services: Services, seed: int) -> list[Told]:
    """Facts of items, of categories and of nothing that matters, asserted by several sources, some taken back."""
    draw = random.Random(seed)
    items = [*draw.sample(services.table.item_ids, 6), "not-in-the-catalog"]
    categories = draw.sample(list(services.catalog.labels), 3)
    facts = [
        *(Fact("contains", (item, draw.choice(["dairy", "beef", "alcohol"]))) for item in items),
        *(Fact("in_category", (item, draw.choice(["CHEESES", "BEERS/ALES"]))) for item in items[:3]),
        *(Fact("category_may_have", (category, "nuts")) for category in categories[:1]),
        *(Fact("proposed_tag", (item, "CHEESES")) for item in items[:2]),
    ]
    told = [Told(draw.choice(facts), draw.choice(["one", "two"])) for _ in range(12)]
    return [replace(each, retracted=draw.random() < 0.3) for each in told]


@pytest.mark.parametrize("seed", range(4))
def test_properties_after_any_words_are_those_of_a_start_that_reads_them_all(services: Services, seed: int) -> None:
    told = some_told(services, seed)
    step_by_step = services
    for number, each in enumerate(told):
        step_by_step = with_facts(step_by_step, entries(each, after=number))
    at_once = with_facts(services, entries(*told))
    assert step_by_step.graph.version == at_once.graph.version
    assert step_by_step.knowledge.told == at_once.knowledge.told
    for mask in ("contains", "may_contain", "unknown"):
        np.testing.assert_array_equal(
            getattr(step_by_step.properties, mask), getattr(at_once.properties, mask), err_msg=mask
        )
    # A word on a category and back: every item is read anew, whatever was told of it.
    of_all = Told(Fact("category_may_have", ("CHEESES", "dairy")), "all")
    everything = with_facts(services, entries(*told, of_all))
    anew = with_facts(everything, entries(replace(of_all, retracted=True), after=99))
    for mask in ("contains", "may_contain", "unknown"):
        np.testing.assert_array_equal(getattr(anew.properties, mask), getattr(at_once.properties, mask), err_msg=mask)


def test_all_taken_back_is_as_if_nothing_had_been_said(services: Services) -> None:
    told = [replace(each, retracted=False) for each in some_told(services, 7)]
    back = [replace(each, retracted=True) for each in told]
    after = with_facts(with_facts(services, entries(*told)), entries(*back, after=len(told)))
    assert after.graph.version == services.graph.version
    for mask in ("contains", "may_contain", "unknown"):
        np.testing.assert_array_equal(getattr(after.properties, mask), getattr(services.properties, mask))


def test_fact_of_an_item_concerns_that_item_and_fact_of_a_category_every_item() -> None:
    program = load("grocery").program
    told = [Fact("contains", ("milk", "dairy")), Fact("claims", ("oats", "vegan"))]
    assert concerned(program, told) == frozenset({"milk"})
    assert concerned(program, [Fact("in_category", ("milk", "CHEESES"))]) == frozenset({"milk"})
    assert concerned(program, [Fact("proposed_tag", ("milk", "x"))]) == frozenset()
    assert concerned(program, [Fact("says", ("900", "vegan"))]) == frozenset()
    assert concerned(program, [Fact("category_contains", ("CHEESES", "beef"))]) is None
    assert concerned(program, [Fact("term", ("oats",))]) is None


def test_fact_concerns_every_item_where_a_rule_leads_from_one_to_another() -> None:
    program = parse(
        ".decl contains(product: item, what)\n.decl made_with(product: item, part: item)\n"
        ".decl label(product: item, x)\n"
        "contains(P, X) :- made_with(P, Q), contains(Q, X).\n"
    )
    assert concerned(program, [Fact("contains", ("dough", "egg"))]) is None
    assert concerned(program, [Fact("label", ("dough", "egg"))]) == frozenset()


def test_facts_of_an_earlier_ontology_do_not_stop_a_start(services: Services, caplog: pytest.LogCaptureFixture) -> None:
    old = Told(Fact("was_sold_by", ("milk", "Ann")), "one")
    after = with_facts(services, entries(old))
    assert after.knowledge.seq == 1
    assert after.graph is services.graph
    assert "was_sold_by" in caplog.text


def test_more_facts_than_a_replica_holds_are_refused(services: Services) -> None:
    told = [Told(Fact("product", (str(number),)), "one") for number in range(3)]
    with pytest.raises(FactLimitExceeded, match="retract some"):
        Knowledge(services.knowledge.ontology, most=2).after(entries(*told))


def test_log_keeps_what_it_was_told_in_order(tmp_path: Path) -> None:
    told = [
        Told(Fact("p", ("é 漢", 'a "b"\t,')), "one", 0.1),
        Told(Fact("q", ("x",)), "two"),
        Told(Fact("q", ("x",)), "two", None, True),
    ]
    log = SqliteFactLog(tmp_path / "facts.db")
    assert (log.append(told[:1], 1.5), log.append(told[1:], 2.5)) == (1, 2)
    other = SqliteFactLog(tmp_path / "facts.db")
    assert [entry.told for entry in other.after(0)] == told
    assert [(entry.seq, entry.time) for entry in other.after(1)] == [(2, 2.5), (3, 2.5)]
    assert other.newest() == 3
    for each in (log, other):
        each.close()
