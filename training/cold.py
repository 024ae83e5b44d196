"""Training data of the cold-start guardrail: households in words, and what they bought afterwards.

A real household is described the way a stranger describes himself: by its demographics, where known, and by what it
bought more than others in the first half of its history. What it bought in the second half says which proposals were
right. Nothing of the second half enters the words or the evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from features.items import ItemTable
from features.keys import distinct
from features.store import USER_PROFILE, FeatureRepository
from graph.ports import KnowledgeGraph
from graph.properties import PropertyTable
from graph.wants import labels_that_serve, read_person, serves_any
from models import coldstart, guardrail
from models.catalog import Catalog
from models.coldstart import COLD_COLUMNS, Demand, Described
from models.embedder import Embedded
from models.guardrail import Guardrail, GuardrailConfig
from models.ports import Embedder, LLMEngine
from models.prompts import Prompt
from models.tagging import LLMTags, read_choices
from models.text import readable
from training.acceptance import MIN_GROUPS, enough
from training.llm import ask_all
from training.materialize import EventArrays
from training.metrics import bootstrap

USERS = 500
MIN_SESSIONS = 8
FOLDS = 3
"""Folds of households that calibrate the guardrail: further ones add a fit each and hardly any household to it."""


@dataclass(frozen=True, slots=True, eq=False)
class ColdExamples:
    """Candidates [n]: evidence, whether the user bought the item later, the user they belong to, the item's row."""

    matrix: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]
    group: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Household:
    """One user split in two: words from before ``cut`` (seconds), purchases (rows) from then on."""

    user: int
    cut: int
    words: str
    later: frozenset[int]


def households(
    events: EventArrays,
    catalog: Catalog,
    repository: FeatureRepository,
    most: int,
    seed: int,
) -> list[Household]:
    """At most ``most`` users with enough sessions, described at the middle of their history."""
    rng = np.random.default_rng(seed)
    sessions = np.array([len(distinct(events.session[events.user_slice(user)])) for user in range(len(events.users))])
    eligible = np.flatnonzero(sessions >= MIN_SESSIONS)
    chosen = np.sort(rng.choice(eligible, min(most, len(eligible)), replace=False))
    cuts = [int(np.median(events.time[events.user_slice(int(user))])) for user in chosen]
    demographics = _demographics(repository, [events.users[int(user)] for user in chosen], cuts)
    overall = np.bincount(catalog.label_of_row[events.row[events.row >= 0]] + 1, minlength=len(catalog.labels) + 1)[
        1:
    ].astype(np.float64)
    overall /= max(1.0, overall.sum())
    found = []
    for user, cut, known in zip(chosen.tolist(), cuts, demographics):
        window = events.user_slice(user)
        time, rows = events.time[window], events.row[window]
        before = rows[(time < cut) & (rows >= 0)]
        later = frozenset(rows[(time >= cut) & (rows >= 0)].tolist())
        if not later or not len(before):
            continue
        found.append(Household(user, cut, _words(catalog, before, overall, known, rng), later))
    return found


def _demographics(repository: FeatureRepository, users: Sequence[str], cuts: Sequence[int]) -> list[dict[str, str]]:
    """Profiles as they were known at each cut: Feast's point-in-time join."""
    if not repository.user_attributes or not users:
        return [{} for _ in users]
    entities = pl.DataFrame({"user_id": users, "event_timestamp": cuts}).with_columns(
        pl.from_epoch("event_timestamp", time_unit="s").dt.replace_time_zone("UTC")
    )
    joined = repository.as_of(entities, [f"{USER_PROFILE}:{name}" for name in repository.user_attributes])
    return [
        {name: row[name] for name in repository.user_attributes if row[name] is not None}
        for row in joined.iter_rows(named=True)
    ]


def _words(
    catalog: Catalog,
    before: npt.NDArray[np.int64],
    overall: npt.NDArray[np.float64],
    profile: Mapping[str, str],
    rng: np.random.Generator,
) -> str:
    """A sentence: some demographics, and two to four things bought more than others do."""
    parts = [str(value) for name, value in profile.items() if rng.random() < 0.5 and value and name != "income"]
    label = catalog.label_of_row[before]
    own = np.bincount(label[label >= 0], minlength=len(catalog.labels)).astype(np.float64)
    lift = (own / max(1.0, own.sum()) + 1e-4) / (overall + 1e-4)
    often = [int(code) for code in np.argsort(-lift, kind="stable")[:8] if own[code] >= 2]
    text, count = np.unique(catalog.text_of_row[before], return_counts=True)
    typical = text[np.argsort(-count, kind="stable")[:8]].tolist()
    things = [readable(catalog.labels[code]) for code in often] + [catalog.texts[code].lower() for code in typical]
    many = int(rng.integers(2, 5))
    picked = [things[at] for at in sorted(rng.choice(len(things), min(many, len(things)), replace=False).tolist())]
    return ", ".join([*parts, *(f"often buys {thing}" if not at else thing for at, thing in enumerate(picked))])


async def build_examples(
    events: EventArrays,
    table: ItemTable,
    catalog: Catalog,
    properties: PropertyTable,
    graph: KnowledgeGraph,
    embedder: Embedder,
    repository: FeatureRepository,
    template: Prompt,
    llm: LLMEngine | None,
    llm_users: int,
    seed: int,
    progress: Callable[[str, float], None],
) -> ColdExamples:
    """Candidates of every household as serving would find them, with and (for ``llm_users``) without an LLM's answer.

    Demand is counted from the other users' and the household's own past before the earliest cut of all, so that no
    household's later purchases speak for themselves.
    """
    people = households(events, catalog, repository, USERS, seed)
    if not people:
        return ColdExamples(
            np.empty((0, len(COLD_COLUMNS)), np.float32),
            np.empty(0, bool),
            np.empty(0, np.int64),
            np.empty(0, np.int64),
            {"households": 0},
        )
    cut = int(np.quantile([person.cut for person in people], 0.25))
    people = [person for person in people if person.cut >= cut]
    known = (events.time < cut) & (events.row >= 0)
    demand = Demand.build(
        catalog,
        events.user[known],
        events.row[known],
        table.statistic("i_count_28d", cut),
        table.statistic("i_reorder", cut),
    )
    progress("cold start: evidence", 0.0)
    wants = [list(read_person(graph, person.words).wants) for person in people]
    spoken = (text for person, want in zip(people, wants) for text in coldstart.spoken(person.words, want))
    embedded = Embedded(embedder, spoken)
    described: list[Described] = []
    for number, person in enumerate(people):
        described.append(coldstart.describe(catalog, embedded, person.words, wants[number]))
        progress("cold start: evidence", number / len(people))
    answers: dict[int, LLMTags] = {}
    if llm is not None:
        rng = np.random.default_rng(seed)
        asked = sorted(rng.choice(len(people), min(llm_users, len(people)), replace=False).tolist())
        requests = {number: coldstart.prompt(template, catalog, described[number]) for number in asked}
        codes = {label: code for code, label in enumerate(catalog.labels)}
        results = await ask_all(
            llm,
            {number: request for number, request in requests.items() if request is not None},
            lambda done: progress("cold start: asking the LLM", done),
        )
        answers = {number: read_choices(result, "categories", codes) for number, result in results.items()}
    matrices, right, group, shown = [], [], [], []
    for number, person in enumerate(people):
        labels = labels_that_serve(properties, demand.best_in_label, demand.label_users, wants[number])
        versions: list[LLMTags | None] = [answers[number]] if number in answers else [None]
        if number in answers and number % 2:
            versions.append(None)
        for answer in versions:
            candidates = coldstart.candidates(catalog, demand, described[number], answer, labels)
            serves = serves_any(properties, candidates.rows, wants[number])
            matrices.append(coldstart.evidence(catalog, demand, described[number], candidates.rows, answer, serves))
            right.append(np.isin(candidates.rows, list(person.later)))
            group.append(np.full(len(candidates.rows), number, np.int64))
            shown.append(candidates.rows)
    facts = {
        "households": len(people),
        "llm_households": len(answers),
        "cut": cut,
        "prompt": {template.name: template.version},
        "seed": seed,
    }
    matrix = np.concatenate(matrices)
    facts["usual"] = coldstart.usual_values(matrix)
    return ColdExamples(matrix, np.concatenate(right), np.concatenate(group), np.concatenate(shown), facts)


def lacking(examples: ColdExamples) -> str:
    """Why no guardrail can be learned from these examples, "" where one can: see `enough`."""
    if enough(examples):
        return ""
    people = len(np.unique(examples.group))
    if people < MIN_GROUPS:
        return (
            f"it is learned from at least {MIN_GROUPS} people with {MIN_SESSIONS} sessions or more, who bought things "
            f"after the time they are described at; there are {people}"
        )
    bought = "all" if examples.right.any() else "nothing"
    return f"the {people} people it would be learned from later bought {bought} of what their words bring up"


def fit(config: GuardrailConfig, examples: ColdExamples, facts: Mapping[str, Any]) -> Guardrail:
    return guardrail.fit(
        config,
        COLD_COLUMNS,
        examples.matrix,
        examples.right,
        examples.group,
        {**examples.facts, **facts},
        coldstart.MONOTONE,
        folds=FOLDS,
    )


SHARES = (0.5, 0.4, 0.3, 0.2, 0.1, 0.0)
"""How much of a cold start's list may go to what the words speak for: the largest that costs nothing is taken."""


def report(config: GuardrailConfig, examples: ColdExamples, catalog: Catalog, seed: int, k: int = 10) -> dict[str, Any]:
    """Choose the personal share on one fifth of the households and measure precision@k on another.

    Neither fifth is trained on. The share is the largest with which the chosen fifth's precision is not below
    popularity's: a list for the person must not be worse than the list for everybody. Measured are popularity, the
    guardrail's order alone (``probability``) and the order that is served (``person``), bootstrapped over households.
    Empty where there are too few households.
    """
    rng = np.random.default_rng(seed)
    people = rng.permutation(np.unique(examples.group))
    fifth = len(people) // 5
    held = np.isin(examples.group, people[: 2 * fifth])
    if not fifth or not examples.right[~held].any():
        return {}
    model = guardrail.fit(
        config,
        COLD_COLUMNS,
        examples.matrix[~held],
        examples.right[~held],
        examples.group[~held],
        {},
        coldstart.MONOTONE,
        folds=FOLDS,
    )
    plain = coldstart.neutral(examples.matrix, examples.facts["usual"])
    popular = COLD_COLUMNS.index("item_recent_share")

    def precision(household: int) -> dict[str, float]:
        mine = np.flatnonzero(examples.group == household)
        # A household asked about twice counts once: with the LLM's answer, which comes first.
        mine = mine[np.unique(examples.rows[mine], return_index=True)[1]]
        rows, right = examples.rows[mine], examples.right[mine]
        label = catalog.label_of_row[rows]
        probability, stranger = model.predict(examples.matrix[mine]), model.predict(plain[mine])
        serves = examples.matrix[mine, COLD_COLUMNS.index("graph_serves_want")] > 0
        wants = [serves] if serves.any() else []
        orders = {
            "popularity": np.argsort(-examples.matrix[mine, popular], kind="stable")[:k],
            "probability": np.argsort(-probability, kind="stable")[:k],
            **{
                f"person {share}": coldstart.order_for_person(probability, stranger, rows, label, k, share, wants)
                for share in SHARES
            },
        }
        return {name: float(right[order].mean()) for name, order in orders.items()}

    chosen = [precision(int(household)) for household in people[:fifth]]
    tested = [precision(int(household)) for household in people[fifth : 2 * fifth]]
    floor = np.mean([values["popularity"] for values in chosen])
    good = [share for share in SHARES if np.mean([values[f"person {share}"] for values in chosen]) >= floor]
    share = good[0] if good else 0.0
    summary: dict[str, Any] = {"households": fifth, "personal_share": share}
    for name, key in (("popularity", "popularity"), ("probability", "probability"), ("person", f"person {share}")):
        found = bootstrap(np.array([values[key] for values in tested]), seed)
        summary[name] = {f"precision@{k}": found.mean, "low": found.low, "high": found.high}
    return summary
