"""Wiring of ``tandem evaluate tags``: which datasets there are, what each is made of, and the graph's view of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from features.workspace import Workspace
from graph import ontology
from graph.ports import KnowledgeGraph
from graph.tags import judge_tags
from models.embedder import MiniLMEmbedder
from models.text import product_view
from training.report.run import code_revision
from training.tagging.datasets import COMPLETE_JOURNEY, TagData, complete_journey
from training.tagging.evaluate import Progress, evaluate
from training.tagging.views import Matrix

DATASETS: Final[Mapping[str, Callable[[Workspace, MiniLMEmbedder, Progress], TagData]]] = {
    COMPLETE_JOURNEY: complete_journey
}


def evaluate_tags(workspace: Workspace, names: Sequence[str], progress: Progress = lambda *_: None) -> dict[str, Any]:
    """The report's numbers: ``datasets`` by name (see `evaluate.summary`), and what they were made from.

    Raises WorkspaceError where nothing was ingested, MissingExtra without a library of training.
    """
    config = workspace.config()
    graph = ontology.load(config.ontology)
    embedder = MiniLMEmbedder()
    found = {}
    for name in names:
        data = DATASETS[name](workspace, embedder, progress)
        found[name] = evaluate(data, graph=graph_view(workspace, graph, data, progress), progress=progress)
    return {
        "datasets": found,
        "dataset": config.dataset,
        "data_hash": config.data_hash,
        "graph": graph.version,
        "revision": code_revision(),
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
