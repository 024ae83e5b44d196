"""Wiring of ``tandem evaluate tags``: which datasets there are, what each is made of, and the graph's view of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from features.workspace import Workspace
from graph import ontology
from graph.ports import KnowledgeGraph
from graph.tags import judge_tags
from models.embedder import MiniLMEmbedder
from models.errors import ArtifactMismatch
from models.ports import Embedder, LLMEngine
from models.text import product_view
from training.report.run import code_revision
from training.tagging import claims, llm_several, llm_study, oamine, openfoodfacts, several, spans
from training.tagging.claims import ClaimOutcome
from training.tagging.datasets import COMPLETE_JOURNEY, TagData, complete_journey, embedded
from training.tagging.evaluate import SEEDS, Progress, evaluate
from training.tagging.kinds import CATALOG, kinds_of_catalog
from training.tagging.llm_sizes import Sample
from training.tagging.llm_tuned import Tuning
from training.tagging.oamine import OA_MINE
from training.tagging.openfoodfacts import OPEN_FOOD_FACTS
from training.tagging.spent import Price
from training.tagging.summary import SYSTEM, WITH_GRAPH, Outcome
from training.tagging.views import Matrix

ALL: Final = "all"
_SYSTEMS: Final = (SYSTEM, WITH_GRAPH)
_Asked = TypeVar("_Asked", Outcome, ClaimOutcome)


@dataclass(frozen=True, slots=True)
class Setting:
    """What an evaluation of tags is made with. ``folder`` holds the public datasets, one folder each; ``llm`` makes the
    engine to ask about ``sample`` groups of the first split, None asks none; ``tuning`` fine-tunes it, for The Complete
    Journey alone; ``price`` is of its tokens."""

    workspace: Workspace
    folder: Path
    embedder: Embedder
    seeds: Sequence[int] = SEEDS
    progress: Progress = lambda *_: None
    llm: Callable[[], LLMEngine] | None = None
    sample: Sample = field(default_factory=Sample)
    tuning: Tuning | None = None
    price: Price = field(default_factory=Price)


def evaluate_tags(
    workspace: Workspace,
    names: Sequence[str],
    progress: Progress = lambda *_: None,
    folder: Path = Path(),
    seeds: Sequence[int] = SEEDS,
    llm: Callable[[], LLMEngine] | None = None,
    sample: Sample | None = None,
    tuning: Tuning | None = None,
    price: Price | None = None,
) -> dict[str, Any]:
    """The report's numbers: ``datasets`` by name (see `evaluate.summary` and `claims.summary`), ``skipped`` by name
    with the reason, and what all was made from. ``names`` of DATASETS, or ALL for public ones whose data is there;
    ``folder`` holds the public datasets, one folder each. ``llm`` makes the engine to ask about a ``sample`` of the
    first split of each dataset; with ``tuning`` it is fine-tuned and asked again, for The Complete Journey. ``price``:
    of its tokens, none where it costs no money.

    Raises WorkspaceError where nothing was ingested, ArtifactMismatch where a dataset's folder is missing,
    OntologyError or InvalidVocabulary for files in it that cannot be used, MissingExtra without a library of training.
    """
    config = workspace.config()
    everything = ALL in names
    # The catalog is most often one of the others.
    wanted = [name for name in DATASETS if name != CATALOG] if everything else list(names)
    absent = {name: reason for name in wanted if (reason := _absent(name, folder))}
    if absent and not everything:
        raise ArtifactMismatch("; ".join(absent.values()))
    asked = (llm, sample or Sample(), tuning, price or Price())
    setting = Setting(workspace, folder, MiniLMEmbedder(), seeds, progress, *asked)
    return {
        "datasets": {name: DATASETS[name](setting) for name in wanted if name not in absent},
        "skipped": absent,
        "dataset": config.dataset,
        "data_hash": config.data_hash,
        "graph": ontology.load(config.ontology).version,
        "revision": code_revision(),
    }


def _absent(name: str, folder: Path) -> str | None:
    if name in (COMPLETE_JOURNEY, CATALOG) or (folder / name).is_dir():
        return None
    return f"dataset {name!r}: there is no folder {folder / name}; name the folder that holds it with --data"


def _complete_journey(setting: Setting) -> dict[str, Any]:
    graph = ontology.load(setting.workspace.config().ontology)
    data = complete_journey(setting.workspace, setting.embedder, setting.progress)
    view = graph_view(setting.workspace, graph, data, setting.progress)
    if setting.llm is None:
        return evaluate(data, setting.seeds, view, progress=setting.progress)
    answers = setting.workspace.root / "tagging" / "answers.jsonl"
    found = llm_study.study(
        data, setting.llm(), answers, setting.seeds[0], setting.sample, setting.progress, setting.tuning
    )
    more = _priced(found.outcomes, setting.price)
    result = evaluate(data, setting.seeds, view, progress=setting.progress, more=more)
    return {**result, "llm": found.facts}


def _catalog(setting: Setting) -> dict[str, Any]:
    """The ingested catalog's labelled kinds, as ``tandem backfill untagged`` compares them."""
    graph = ontology.load(setting.workspace.config().ontology)
    data = kinds_of_catalog(setting.workspace, setting.embedder, setting.seeds[0], setting.progress, asked=False).data
    view = graph_view(setting.workspace, graph, data, setting.progress)
    return evaluate(data, setting.seeds, view, progress=setting.progress)


def _openfoodfacts(setting: Setting) -> dict[str, Any]:
    """All vocabularies together, and each under ``vocabularies``; ``against_facts`` counts the likely tags that derived
    facts contradict. The graph derives labels and has no view of
    categories: there guardrail and graph answer what the guardrail does."""
    parts = []
    loaded = openfoodfacts.load(setting.workspace, setting.folder / OPEN_FOOD_FACTS, setting.embedder, setting.progress)
    asked = llm_several.Answered([[] for _ in loaded], {})
    if setting.llm is not None:
        answers = setting.workspace.root / "tagging" / "answers.jsonl"
        data = [each.data for each in loaded]
        asked = llm_several.run(data, setting.llm(), answers, setting.seeds[0], setting.sample, setting.progress)
    for products, by_llm in zip(loaded, asked.outcomes):
        found: list[ClaimOutcome] = []
        for number, seed in enumerate(setting.seeds):
            view = products.graph if products.graph.any() else None
            own = several.run_split(products.data, seed, view)
            found += own
            if view is None:
                found += [replace(outcome, method=WITH_GRAPH) for outcome in own if outcome.method == SYSTEM]
            done = (number + 1) / len(setting.seeds)
            setting.progress(f"{products.data.name}: split {number + 1} of {len(setting.seeds)}", done)
        parts.append((products, [*found, *_priced(by_llm, setting.price)]))
    return {
        **claims.pooled([(each.data.labels, each.clusters, found) for each, found in parts], _SYSTEMS),
        "against_facts": {
            name: sum(_against(each.graph, one) for each, found in parts for one in found if one.method == name)
            for name in _SYSTEMS
        },
        "vocabularies": {
            each.vocabulary: claims.summary(each.data.labels, each.clusters, found, _SYSTEMS) for each, found in parts
        },
        **({"llm": asked.facts} if asked.facts else {}),
    }


def _against(graph: Matrix, found: ClaimOutcome) -> int:
    """Tags with a probability of one half or more that derived facts contradict."""
    claimed = found.claims.probability >= 0.5
    return int((graph[found.test[found.claims.unit[claimed]], found.claims.tag[claimed]] < 0).sum())


def _oa_mine(setting: Setting) -> dict[str, Any]:
    """The published split, so one seed, which draws folds and trees alone. No graph knows these attributes."""
    data = oamine.load(setting.folder / OA_MINE)
    setting.progress(f"{OA_MINE}: values as spans of titles", 0.0)
    vectors, _ = embedded(setting.workspace, setting.embedder, [title.text for title in data.titles], [])
    found = spans.run(data, vectors, setting.seeds[0])
    facts: dict[str, Any] = {}
    if setting.llm is not None:
        answers = setting.workspace.root / "tagging" / "answers.jsonl"
        engine = setting.llm()
        asked = llm_several.of_titles(data, engine, answers, setting.seeds[0], setting.sample, setting.progress)
        found += [one for own in asked.outcomes for one in _priced(own, setting.price)]
        facts = {"llm": asked.facts}
    return {**claims.summary(data.labels, data.clusters, found, _SYSTEMS, slices=oamine.slices(data)), **facts}


def _priced(outcomes: Sequence[_Asked], price: Price) -> list[_Asked]:
    """An LLM's outcomes with the price of its tokens."""
    return [replace(one, spent=one.spent and replace(one.spent, price=price)) for one in outcomes]


DATASETS: Final[Mapping[str, Callable[[Setting], dict[str, Any]]]] = {
    COMPLETE_JOURNEY: _complete_journey,
    CATALOG: _catalog,
    OPEN_FOOD_FACTS: _openfoodfacts,
    OA_MINE: _oa_mine,
}


def graph_view(workspace: Workspace, graph: KnowledgeGraph, data: TagData, progress: Progress) -> Matrix:
    """What the graph says of every label of every group [T, L]: 1 supports, -1 contradicts, 0 has no view.

    Only a group's text is read: its department and its category are hidden, and so is the shelf that the ontology
    knows for some product types. Kept in the workspace under the graph's version.
    """
    key = hashlib.sha256(repr((graph.version, data.groups, data.labels, data.texts)).encode()).hexdigest()[:16]
    path = workspace.root / "tagging" / f"graph-{key}.npy"
    if path.is_file():
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    view = np.zeros((len(data.groups), len(data.labels)), np.float32)
    code = {label: at for at, label in enumerate(data.labels)}
    for row, text in enumerate(data.texts):
        judged = judge_tags(graph, "item", product_view(text, None, {}), data.labels, "index")
        for label, agreement in judged.agreement.items():
            view[row, code[label]] = agreement
        if row % 50 == 0:
            progress("tags: the graph's view", row / len(data.texts))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npy")
    np.save(temporary, view, allow_pickle=False)
    temporary.replace(path)
    return view
