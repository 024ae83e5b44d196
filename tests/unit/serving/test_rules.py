"""Hard rules hold for every answer, checked against the graph item by item and not against the service's own masks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import polars as pl
import pytest

from features.workspace import Workspace
from graph import ontology
from graph.items import item_facts
from graph.ports import Fact, KnowledgeGraph
from models.text import product_view
from serving.errors import InvalidRequest
from serving.messages import Recommendation
from serving.pipeline import record_events
from serving.pipeline.rules import resolve
from serving.services import Services
from tests.fakes import FakeLLM
from tests.unit.serving.asking import ask, choosing, with_llm
from tests.unit.serving.test_record import bought

WORDS = (
    "",
    "vegan",
    "two adults and a baby, lactose intolerant",
    "halal, likes Mexican food and sweets",
    "student with a cat, no alcohol, nut allergy",
    "celiac who bakes at home",
)
PROFILE_AVOIDS = {"vegan": "animal_product", "two adults and a baby, lactose intolerant": "dairy"}


class Witness:
    """The catalog as ingestion wrote it, read by the graph one item at a time."""

    def __init__(self, workspace: Workspace) -> None:
        config = workspace.config()
        frame = pl.read_parquet(workspace.items)
        self._graph = ontology.load(config.ontology)
        self._label = config.label_column or ""
        self._items = {str(row["item_id"]): row for row in frame.iter_rows(named=True)}
        self.labels = sorted({str(row[self._label]) for row in self._items.values() if row[self._label]})
        self.properties = [fact.args[0] for fact in self._graph.query(Fact("property", ("?x",)))]
        self.item_ids = list(self._items)
        self.graph_of = cache(self._graph_of)

    def _graph_of(self, item_id: str) -> KnowledgeGraph:
        row = self._items[item_id]
        attributes = {name: row.get(name) for name in ("department", "product_type")}
        attributes["category"] = row[self._label]
        view = product_view(row["title"], row["text"], attributes)
        return self._graph.extend(item_facts(self._graph, "x", view), "catalog")

    def label(self, item_id: str) -> str:
        return str(self._items[item_id][self._label]).casefold()

    def violations(self, item_id: str, avoid: Sequence[str], require: Sequence[str]) -> list[str]:
        graph, label = self.graph_of(item_id), self.label(item_id)
        found = []
        for name in avoid:
            if name in self.properties:
                for predicate in ("contains", "serves", "may_contain"):
                    if graph.holds(Fact(predicate, ("x", name))):
                        found.append(f"{item_id}: {predicate} {name}")
                if not graph.holds(Fact("contents_known", ("x",))):
                    found.append(f"{item_id}: contents unknown, {name} avoided")
            elif label == name.casefold():
                found.append(f"{item_id}: label {label}")
        for name in require:
            if name in self.properties:
                if not any(graph.holds(Fact(predicate, ("x", name))) for predicate in ("contains", "serves")):
                    found.append(f"{item_id}: {name} required")
            elif label not in [other.casefold() for other in require if other not in self.properties]:
                found.append(f"{item_id}: label {name} required, has {label}")
        return found


@pytest.fixture(scope="module")
def witness(trained_workspace: Workspace) -> Witness:
    return Witness(trained_workspace)


def check(witness: Witness, answer: Recommendation, avoid: Sequence[str], require: Sequence[str]) -> None:
    for item in answer.items:
        assert witness.violations(item.item_id, avoid, require) == []


async def test_no_random_request_gets_an_item_that_breaks_a_rule(
    services: Services, households: list[str], witness: Witness
) -> None:
    rng = random.Random(7)
    everything = FakeLLM(choosing(lambda offered: rng.sample(offered, min(4, len(offered)))))
    asked = with_llm(services, everything.generate)
    paths, judged = dict.fromkeys(("known_user", "cold_words", "cold_popular"), 0), 0
    for _ in range(200):
        user = rng.choice([rng.choice(households), "", "nobody"])
        profile = rng.choice(WORDS)
        avoid = rng.sample(witness.properties, rng.randint(0, 3)) + rng.sample(witness.labels, rng.randint(0, 2))
        require = rng.sample(witness.properties, 1) if rng.random() < 0.2 else []
        if rng.random() < 0.15:
            require = [*require, *rng.sample(witness.labels, 2)]
        excluded = rng.sample(witness.item_ids, 5) if rng.random() < 0.5 else []
        if rng.random() < 0.5:
            excluded += [item.item_id for item in (await ask(asked, user, k=5)).items]
        answer = await ask(
            asked,
            user,
            profile=profile,
            k=rng.choice([1, 10, 60]),
            avoid=tuple(avoid),
            require=tuple(require),
            exclude_items=tuple(excluded),
        )
        derived = [PROFILE_AVOIDS[profile]] if profile in PROFILE_AVOIDS else []
        check(witness, answer, [*avoid, *derived], require)
        assert not {item.item_id for item in answer.items} & set(excluded)
        paths[answer.path] += 1
        judged += len(answer.items)
    assert min(paths.values()) >= 10, "every path was asked"
    assert judged > 1_000


@pytest.mark.parametrize("profile", ["", "we like Mexican food"])
@pytest.mark.parametrize("avoid", [("dairy",), ("meat", "alcohol"), ("animal_product", "gluten", "nuts")])
async def test_strict_rules_are_answered_in_full_from_the_rest_of_the_catalog(
    services: Services, witness: Witness, avoid: tuple[str, ...], profile: str
) -> None:
    answer = await ask(services, "", profile=profile, k=100, avoid=avoid)
    assert len({item.item_id for item in answer.items}) == 100
    check(witness, answer, avoid, ())


@pytest.mark.parametrize("require", [("dairy",), ("baby",), ("CHEESE",), ("fruit", "TROPICAL FRUIT")])
@pytest.mark.parametrize("profile", ["", "a family with a baby"])
async def test_required_property_is_proved_for_every_item(
    services: Services, witness: Witness, require: tuple[str, ...], profile: str
) -> None:
    answer = await ask(services, "", profile=profile, k=10, require=require)
    assert answer.items
    check(witness, answer, (), require)
    property_ = require[0]
    if property_ in witness.properties:
        for item in answer.items:
            proof = next(proof for proof in item.facts if proof.fact.args == (item.item_id, property_))
            assert proof.fact.predicate in ("contains", "serves")
            assert proof.premises


async def test_rules_nothing_satisfies_leave_an_empty_answer_that_says_so(
    services: Services, households: list[str]
) -> None:
    for user, profile in ((households[0], ""), ("", ""), ("", "vegan family")):
        answer = await ask(services, user, profile=profile, avoid=("dairy",), require=("dairy",))
        assert answer.items == ()
        assert answer.shortfall.startswith("the rules leave 0 items")


async def test_a_user_who_had_everything_is_told_so_and_not_that_rules_were(services: Services) -> None:
    every = len(services.table)
    now = services.config.data_end + 60
    record_events(services, [bought("glutton", item, now) for item in services.table.item_ids])
    answer = await ask(services, "glutton", k=10, new_only=True)
    assert answer.items == ()
    assert answer.shortfall == f"the catalog has {every} items; the user has events with {every} of them"


async def test_words_of_a_known_user_forbid_too(services: Services, households: list[str], witness: Witness) -> None:
    for user in households[::10]:
        answer = await ask(services, user, profile="vegan", k=30)
        assert answer.path == "known_user"
        check(witness, answer, ("animal_product", "meat", "dairy"), ())


async def test_excluded_items_stay_out_and_unknown_ones_come_back(services: Services, households: list[str]) -> None:
    favourites = tuple(item.item_id for item in (await ask(services, households[0], k=20)).items)
    answer = await ask(services, households[0], k=20, exclude_items=(*favourites, "no-such-item", "", "no-such-item"))
    assert not {item.item_id for item in answer.items} & set(favourites)
    assert answer.unknown_items == ("no-such-item", "")


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("avoid", "diary", "did you mean dairy"),
        ("avoid", "alchohol", "alcohol"),
        ("require", "chese", "cheese"),
        ("avoid", "zzzzqqqq", "properties are alcohol"),
        ("require", "", r"properties are .*; categories are .* and \d+ more"),
    ],
)
@pytest.mark.parametrize("profile", ["", "vegan"])
async def test_constraint_nobody_knows_is_refused_with_a_close_match(
    services: Services, field: str, value: str, hint: str, profile: str
) -> None:
    with pytest.raises(InvalidRequest, match=hint) as refused:
        await ask(
            services,
            "",
            profile=profile,
            avoid=(value,) if field == "avoid" else (),
            require=(value,) if field == "require" else (),
        )
    assert f"constraints.{field}" in str(refused.value)


async def test_where_there_is_nothing_to_ask_for_the_error_says_how_to_bring_it(services: Services) -> None:
    """A shop of ids: an empty list of names would be no remedy."""
    bare = replace(
        services,
        properties=replace(services.properties, names=()),
        catalog=replace(services.catalog, labels=()),
    )
    with pytest.raises(InvalidRequest, match=r"'Horror'; this catalog has neither .* ingest it with --label-column"):
        resolve(bare, ("Horror",), (), ())


@pytest.mark.parametrize("name", ["dairy", " Dairy ", "DAIRY", "animal product", "Animal_Product", "cheese", "CHEESE"])
async def test_names_are_read_whatever_their_case_and_spacing(services: Services, name: str) -> None:
    assert (await ask(services, "", avoid=(name,))).items


async def test_llm_is_not_offered_categories_a_rule_empties(services: Services) -> None:
    llm = FakeLLM(choosing(lambda offered: offered[:1]))
    asked = with_llm(services, llm.generate)
    await asyncio.gather(ask(asked, profile="beer and wine lovers, vegan", avoid=("alcohol",)))
    assert llm.requests[0].json_schema is not None
    offered = str(llm.requests[0].json_schema)
    assert not any(name in offered for name in ("BEERS/ALES", "LIQUOR", "'BEEF'", "DOMESTIC WINE"))
