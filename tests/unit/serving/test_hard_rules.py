"""Ten thousand random requests over real items, by every path: not one item that a hard rule forbids.

The judge is the graph asked about one item at a time, read from the catalog as ingestion wrote it; the masks that the
service filters by take no part.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NoReturn

import numpy as np
import polars as pl
import pytest

from features.workspace import Workspace
from graph import ontology
from graph.items import item_facts
from graph.ports import Fact
from models.errors import EngineUnavailable
from models.ports import Embedder, FloatMatrix
from models.text import product_view
from serving.services import Services
from tests.fakes import FakeLLM
from tests.unit.serving.asking import ask, choosing, with_llm

REQUESTS = 10_000
AGE_RESTRICTED = ("alcohol", "tobacco")
PROFILES: Mapping[str, tuple[str, ...]] = {
    "": (),
    "we like Mexican food and sweets": (),
    "vegan who bakes at home": ("animal_product",),
    "two adults and a baby, lactose intolerant": ("dairy",),
    "halal, loves asian food": ("pork", "alcohol"),
    "student with a cat, no alcohol, nut allergy": ("alcohol", "nuts"),
    "celiac, likes fresh produce": ("gluten",),
    "teetotal, no tobacco": AGE_RESTRICTED,
    "underage student who likes snacks": AGE_RESTRICTED,
}
"""What people say of themselves, and what they must then never be shown."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the graph derives of one item, and its label."""

    label: str
    certain: frozenset[str]
    possible: frozenset[str]
    known: bool

    def violations(self, avoid: Sequence[str], require: Sequence[str], properties: frozenset[str]) -> list[str]:
        found = []
        for name in avoid:
            if name not in properties:
                found += [f"label {name} avoided"] if self.label == name else []
            elif name in self.possible or not self.known:
                found.append(f"{name} avoided, possible: {name in self.possible}, contents known: {self.known}")
        labels = [name for name in require if name not in properties]
        found += [f"{name} required" for name in require if name in properties and name not in self.certain]
        if labels and self.label not in labels:
            found.append(f"label {self.label} is none of {labels}")
        return found


class Witness:
    """The catalog's items, each read once by the graph alone."""

    def __init__(self, workspace: Workspace) -> None:
        config = workspace.config()
        self._graph = ontology.load(config.ontology)
        self._column = config.label_column or ""
        self._rows = {str(row["item_id"]): row for row in pl.read_parquet(workspace.items).iter_rows(named=True)}
        self._read: dict[str, Reading] = {}
        self.properties = frozenset(fact.args[0] for fact in self._graph.query(Fact("property", ("?x",))))
        self.labels = sorted({str(row[self._column]) for row in self._rows.values() if row[self._column]})
        self.item_ids = sorted(self._rows)

    def __len__(self) -> int:
        return len(self._read)

    def reading(self, item_id: str) -> Reading:
        if item_id not in self._read:
            self._read[item_id] = self._reading(item_id)
        return self._read[item_id]

    def _reading(self, item_id: str) -> Reading:
        row = self._rows[item_id]
        attributes = {name: row.get(name) for name in ("department", "product_type")}
        attributes["category"] = row[self._column]
        view = product_view(row["title"], row["text"], attributes)
        graph = self._graph.extend(item_facts(self._graph, "x", view), "catalog")

        def derived(*predicates: str) -> frozenset[str]:
            return frozenset(
                fact.args[1] for name in predicates for fact in graph.query(Fact(name, ("x", "?property")))
            )

        certain = derived("contains", "serves")
        known = graph.holds(Fact("contents_known", ("x",)))
        return Reading(str(row[self._column]), certain, certain | derived("may_contain"), known)


class Silent:
    """A tree model that never answers."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.facts = facts

    async def score(self, matrix: Any) -> NoReturn:
        raise EngineUnavailable(f"no answer for {len(matrix)} rows")

    async def explain(self, matrix: Any, top: int) -> NoReturn:
        raise EngineUnavailable(f"no reasons for {len(matrix)} rows, top {top}")

    def verdict(self, probability: float) -> NoReturn:
        raise AssertionError(f"nothing was scored, yet {probability} is judged")


class Remembering:
    """The real embedder, asked once a text: nine texts in ten thousand requests."""

    def __init__(self, embedder: Embedder) -> None:
        self.model_id, self.dimension = embedder.model_id, embedder.dimension
        self._embed = cache(lambda text: embedder.embed([text])[0])

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        return np.stack([self._embed(text) for text in texts])


@pytest.fixture(scope="module")
def setups(services: Services) -> dict[str, Services]:
    """The service whole, and with each part of it broken that a request may have to do without."""
    judge = services.cold_judge
    assert judge is not None
    services = replace(services, embedder=Remembering(services.embedder))
    rng = random.Random(3)
    eager = FakeLLM(choosing(lambda offered: rng.sample(offered, min(6, len(offered)))))
    whole = with_llm(services, eager.generate)
    return {
        "whole": whole,
        "LLM down": with_llm(services, FakeLLM(lambda _: EngineUnavailable("down")).generate),
        "LLM says nonsense": with_llm(services, FakeLLM("[beer, wine]").generate),
        "no LLM": with_llm(services, None),
        "ranker down": replace(whole, ranker=Silent({})),
        "guardrail down": replace(whole, cold_judge=Silent(judge.facts)),
        "no guardrail": replace(whole, cold_judge=None),
    }


async def test_ten_thousand_random_requests_get_no_item_that_breaks_a_rule(
    setups: dict[str, Services],
    trained_workspace: Workspace,
    households: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "serving")  # thousands of times: the ranker does not answer
    witness = Witness(trained_workspace)
    properties = sorted(witness.properties)
    rng = random.Random(20)
    names, profiles = list(setups), list(PROFILES)
    paths: Counter[tuple[str, str]] = Counter()
    judged = 0
    for _ in range(REQUESTS):
        setup, profile = rng.choice(names), rng.choice(profiles) if rng.random() < 0.4 else ""
        user = rng.choice([rng.choice(households), rng.choice(["", "nobody"])])
        avoid = rng.sample(properties, rng.randint(0, 3)) + rng.sample(witness.labels, rng.randint(0, 1))
        under_age = rng.random() < 0.3
        require = rng.sample(properties, 1) if rng.random() < 0.15 else []
        require += rng.sample(witness.labels, 2) if rng.random() < 0.1 else []
        excluded = tuple(rng.sample(witness.item_ids, 5)) if rng.random() < 0.3 else ()
        answer = await ask(
            setups[setup],
            user,
            profile=profile,
            k=rng.choice([1, 5, 20]),
            avoid=(*avoid, "age_restricted") if under_age else tuple(avoid),
            require=tuple(require),
            exclude_items=excluded,
        )
        forbidden = [*avoid, *PROFILES[profile], *(AGE_RESTRICTED if under_age else ())]
        for item in answer.items:
            wrong = witness.reading(item.item_id).violations(forbidden, require, witness.properties)
            assert not wrong, f"{item.item_id} for {user!r}, {profile!r} by {answer.path} ({setup}): {wrong}"
        assert not {item.item_id for item in answer.items}.intersection(excluded)
        paths[setup, answer.path] += 1
        judged += len(answer.items)
    assert {path for _, path in paths} == {"known_user", "cold_words", "cold_nearest", "cold_popular"}
    assert min(sum(n for (name, _), n in paths.items() if name == setup) for setup in setups) > 1_000
    assert not {path for name, path in paths if name in ("guardrail down", "no guardrail")} & {"cold_words"}
    assert {name for name, path in paths if path == "cold_nearest"} == {"no guardrail"}
    assert judged > 5 * REQUESTS, "nearly every request was answered with items"
    assert len(witness) > 500, "answers differ"


async def test_a_shopper_under_age_is_shown_neither_alcohol_nor_tobacco_though_they_sell_best(
    setups: dict[str, Services], trained_workspace: Workspace
) -> None:
    witness = Witness(trained_workspace)
    for setup in setups.values():
        for profile, avoid in (("I am underage", ()), ("a teenager", ()), ("", ("Age restricted",))):
            answer = await ask(setup, "", profile=profile, k=100, avoid=avoid, require=("beverage",))
            assert answer.items
            for item in answer.items:
                assert not witness.reading(item.item_id).possible & set(AGE_RESTRICTED)
        adults = await ask(setup, "", k=100, require=("alcohol",))
        assert adults.items, "the same service sells alcohol to everybody else"
