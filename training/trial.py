"""The trial a prompt must pass: its answers on held-out gold, next to those of the version it is to replace.

Both versions are shown the same items through the same engine, so items are compared in pairs: the mean difference and
its bootstrap interval. A candidate is worse beyond noise where a whole 95 % interval is on the wrong side of zero.

Gold is held out as whole units (`models.units`): nothing that votes for an item's label has its words or its type.
Items whose gold is not among the choices are left out: no prompt can get them right.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import nan
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.items import ItemTable
from features.store import FeatureRepository
from features.workspace import Workspace
from graph import ontology
from graph.wants import read_person
from models import coldstart, release, tagging, units
from models.attributes import Attribute, Value
from models.catalog import Catalog
from models.coldstart import Described
from models.embedder import MiniLMEmbedder
from models.errors import ArtifactMismatch, PromptTooLong
from models.index import load_index
from models.labelcounts import LabelCounts
from models.ports import LLMEngine, LLMRequest, LLMResult
from models.prompts import Prompt
from models.tagging import Retrieved, TagItem
from models.values import ValueJudge, propose, read_values
from training import cold, tags
from training.materialize import event_arrays, load_events
from training.metrics import Interval, bootstrap
from training.values import gold_values

LEAST: Final = 20
"""Items below which a trial says nothing."""
_IN_FLIGHT: Final = 16
"""Questions an engine is asked at once, if it batches them."""
_LENGTHS: Final = 500


@dataclass(frozen=True, slots=True)
class Case:
    """One gold item: ``ask`` renders it with a template, ``score`` says how right an answer is: 0 to 1, or None."""

    ask: Callable[[Prompt], LLMRequest | None]
    score: Callable[[LLMResult], float | None]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one version: mean score, shares of answers that name no label or are cut off, mean completion tokens."""

    version: str
    accuracy: float
    malformed: float
    tokens: float


@dataclass(frozen=True, slots=True)
class Trial:
    """Two versions on the same ``items``. Differences are candidate less production. ``lengths``: completion tokens of
    the candidate's good answers, the reference of the quality monitors."""

    name: str
    model: str
    items: int
    seed: int
    production: Figures
    candidate: Figures
    accuracy: Interval
    malformed: Interval
    lengths: tuple[int, ...]

    @property
    def worse(self) -> tuple[str, ...]:
        """In what the candidate is worse beyond noise."""
        found = []
        if self.accuracy.high < 0:
            found.append("accuracy")
        if self.malformed.low > 0:
            found.append("malformed")
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        figures = {
            kind: {
                "version": each.version,
                "accuracy": each.accuracy,
                "malformed": each.malformed,
                "completion_tokens": each.tokens,
            }
            for kind, each in (("production", self.production), ("candidate", self.candidate))
        }
        return {
            "prompt": self.name,
            "model": self.model,
            "items": self.items,
            "seed": self.seed,
            **figures,
            "accuracy_difference": self.accuracy.to_dict(),
            "malformed_difference": self.malformed.to_dict(),
            "worse": list(self.worse),
            "lengths": list(self.lengths),
        }


def gold_cases(workspace: Workspace, name: str, items: int, seed: int) -> list[Case]:
    """Up to ``items`` gold cases of the promoted release's catalog for the prompt ``name``.

    Raises ArtifactMismatch where the workspace has fewer than `LEAST`.
    """
    _, folder = release.read(workspace.releases)
    catalog = Catalog.load(folder / "catalog", load_index)
    table = ItemTable.load(folder / "item_table")
    if name == "tag":
        cases = _tag_cases(catalog, table, items, seed)
    elif name == "attributes":
        cases = _value_cases(folder / "attributes", catalog, table, items, seed)
    else:
        cases = _cold_cases(workspace, catalog, table, items, seed)
    if len(cases) < LEAST:
        raise ArtifactMismatch(
            f"there are {len(cases)} gold items for the prompt {name!r} and a trial needs {LEAST}; ask for more with "
            "--items, or ingest a catalog with more labelled items (cold_start: more users with a history)"
        )
    return cases


def tag_rows(catalog: Catalog, unit: npt.NDArray[np.int64], items: int, seed: int) -> npt.NDArray[np.int64]:
    """The labelled rows, one of a unit, of which a trial of so many ``items`` takes the first that can be answered."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.flatnonzero(catalog.label_of_row >= 0))
    _, first = np.unique(unit[rows], return_index=True)
    return np.asarray(rng.permutation(rows[first])[: max(4 * items, items + LEAST)], np.int64)


def _tag_cases(catalog: Catalog, table: ItemTable, items: int, seed: int) -> list[Case]:
    """Products of units drawn at random, one of each; right is who names the gold label first."""
    labelled = catalog.label_of_row >= 0
    unit = units.unit_of_row(catalog.text_of_row, units.kinds_of(table.frame))
    drawn = tag_rows(catalog, unit, items, seed)
    # Counts for every fold of units: ten times cheaper than for every item, and as blind.
    fold = unit % 10
    counts = {int(each): LabelCounts.build(catalog, labelled & (fold != each)) for each in np.unique(fold[drawn])}
    codes = {label: code for code, label in enumerate(catalog.labels)}
    cases: list[Case] = []
    for row in drawn.tolist():
        gold, item = int(catalog.label_of_row[row]), tags.tag_item(table.frame, catalog, row)
        vector = catalog.vectors[int(catalog.text_of_row[row])]
        found = tagging.retrieve(catalog, counts[int(fold[row])], item, vector)
        if gold in found.choices:
            ask = partial(_ask_tag, catalog, found)
            cases.append(Case(ask, partial(_by_labels, "tags", codes, partial(_names_first, gold))))
        if len(cases) == items:
            break
    return cases


def _cold_cases(workspace: Workspace, catalog: Catalog, table: ItemTable, items: int, seed: int) -> list[Case]:
    """Real households in words; right is the share of the named categories that they bought from afterwards.

    The words are what they bought before, without demographics: these are joined from files whose paths are absolute,
    and a trial must work where a workspace was moved to.
    """
    config = workspace.config()
    events = event_arrays(load_events(workspace), table.frame)
    repository = FeatureRepository(workspace.features, ())
    graph, embedder = ontology.load(config.ontology), MiniLMEmbedder(threads=1)
    codes = {label: code for code, label in enumerate(catalog.labels)}
    cases: list[Case] = []
    for person in cold.households(events, catalog, repository, items, seed):
        wants = list(read_person(graph, person.words).wants)
        described = coldstart.describe(catalog, embedder, person.words, wants)
        later = frozenset(catalog.label_of_row[list(person.later)].tolist())
        ask = partial(_ask_cold, catalog, described)
        cases.append(Case(ask, partial(_by_labels, "categories", codes, partial(_share_of, later))))
    return cases


def _value_cases(folder: Path, catalog: Catalog, table: ItemTable, items: int, seed: int) -> list[Case]:
    """Products of units drawn at random, one of each; right is who copies the value that the catalog's column has.

    Of attributes of free text, for an LLM is asked of no others, and of values that stand in the product's words.
    """
    if not folder.exists():
        raise ArtifactMismatch(
            "the release reads no free attributes, so its prompt for them is asked of nobody. Name a vocabulary under "
            "[train] attributes, and run: tandem train"
        )
    judge = ValueJudge.load(folder)
    told = [one for one in judge.attributes if one.kind == "text" and one.gold_column in table.frame.columns]
    rng = np.random.default_rng(seed)
    unit = units.unit_of_row(catalog.text_of_row, units.kinds_of(table.frame))
    rows = rng.permutation(len(unit))
    _, first = np.unique(unit[rows], return_index=True)
    cases: list[Case] = []
    for row in rng.permutation(rows[first]).tolist():
        record = table.frame.row(row, named=True)
        item = TagItem(record["title"], record["text"] or "")
        gold = {one.name: {value.key for value in _told(one, record[one.gold_column], item)} for one in told}
        asked = tuple(one for one in told if gold[one.name])
        if asked:
            ask = partial(_ask_values, replace(judge, attributes=asked), item)
            cases.append(Case(ask, partial(_by_values, asked, item, gold)))
        if len(cases) == items:
            break
    return cases


def _told(one: Attribute, cell: Any, item: TagItem) -> list[Value]:
    """The values of a cell that the item's own words say."""
    values = [] if cell is None else gold_values(one, cell)
    return [value for value in values if propose(one, {}, item, [(value.text, nan)])]


def _ask_values(judge: ValueJudge, item: TagItem, template: Prompt) -> LLMRequest | None:
    return judge.request(template, item, [])


def _by_values(
    asked: Sequence[Attribute], item: TagItem, gold: Mapping[str, Collection[str]], result: LLMResult
) -> float | None:
    """The share of the attributes whose first believed value is gold."""
    try:
        json.loads(result.text)
    except ValueError:
        return None
    said = read_values(result, asked)
    firsts = [next(iter(propose(one, {}, item, said[one.name][:1])), None) for one in asked]
    right = [found is not None and found.value.key in gold[one.name] for one, found in zip(asked, firsts)]
    return sum(right) / len(right)


def _ask_tag(catalog: Catalog, found: Retrieved, template: Prompt) -> LLMRequest | None:
    return tagging.prompt(template, catalog, found)


def _ask_cold(catalog: Catalog, described: Described, template: Prompt) -> LLMRequest | None:
    return coldstart.prompt(template, catalog, described)


def _by_labels(
    field: str, codes: Mapping[str, int], score: Callable[[Sequence[int]], float], result: LLMResult
) -> float | None:
    named = tagging.read_choices(result, field, codes).labels
    return score(named) if named else None


def _names_first(gold: int, named: Sequence[int]) -> float:
    return float(named[0] == gold)


def _share_of(later: frozenset[int], named: Sequence[int]) -> float:
    return sum(label in later for label in named) / len(named)


@dataclass(frozen=True, slots=True)
class _Marked:
    score: float
    malformed: bool
    tokens: int


async def compare(
    cases: Sequence[Case],
    engine: LLMEngine,
    production: Prompt,
    candidate: Prompt,
    seed: int,
    progress: Callable[[float], None] = lambda _: None,
) -> Trial:
    """Ask both versions about every case. An answer that is cut off or names no known label is malformed and scores 0.

    Raises EngineUnavailable and EngineTimeout, for a trial that was not finished says nothing; ArtifactMismatch for
    fewer than `LEAST` cases.
    """
    gate, done = asyncio.Semaphore(_IN_FLIGHT), [0]

    async def mark(case: Case, template: Prompt) -> _Marked | None:
        if (request := case.ask(template)) is None:
            return None
        async with gate:
            try:
                result = await engine.generate(request)
            except PromptTooLong:
                return _Marked(0.0, True, 0)
            finally:
                done[0] += 1
                progress(done[0] / (2 * len(cases)))
        return _marked(case, result)

    marks = await asyncio.gather(*(mark(case, template) for case in cases for template in (production, candidate)))
    both = [(old, new) for old, new in zip(marks[::2], marks[1::2]) if old is not None and new is not None]
    if len(both) < LEAST:
        raise ArtifactMismatch(f"{len(both)} of {len(cases)} gold items have choices to show; a trial needs {LEAST}")
    old, new = [pair[0] for pair in both], [pair[1] for pair in both]
    return Trial(
        candidate.name,
        engine.model_id,
        len(both),
        seed,
        _figures(production.version, old),
        _figures(candidate.version, new),
        _difference([each.score for each in old], [each.score for each in new], seed),
        _difference([each.malformed for each in old], [each.malformed for each in new], seed),
        tuple(each.tokens for each in new if not each.malformed)[:_LENGTHS],
    )


def _marked(case: Case, result: LLMResult) -> _Marked:
    score = case.score(result) if result.finish == "stop" else None
    return _Marked(score or 0.0, score is None, result.completion_tokens)


def _figures(version: str, marked: Sequence[_Marked]) -> Figures:
    return Figures(
        version,
        float(np.mean([each.score for each in marked])),
        float(np.mean([each.malformed for each in marked])),
        float(np.mean([each.tokens for each in marked])),
    )


def _difference(old: Sequence[float], new: Sequence[float], seed: int) -> Interval:
    return bootstrap(np.asarray(new, np.float64) - np.asarray(old, np.float64), seed)
