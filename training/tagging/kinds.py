"""Any ingested catalog as `TagData`: its kinds of products, which are what `models.units` holds out and certifies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from features.arrivals import catalog_items
from features.errors import WorkspaceError
from features.gold import gold, with_gold
from features.workspace import Workspace
from models import units
from models.catalog import is_evidence, predicts
from models.ports import Embedder
from models.text import embedding_text, readable, words
from training.materialize import load_events
from training.tagging import views
from training.tagging.datasets import TagData, coded, embedded, name_overlap, offer_view, owner_of_event, purchase_views
from training.tagging.kernels import IntArray
from training.tagging.views import Rows

CATALOG: Final = "catalog"
MOST_LABELLED: Final = 6_000
MOST_ASKED: Final = 3_000
"""Kinds that are compared, each with each: a dozen matrices of similarities, of 0.3 GiB with so many."""
_ATTRIBUTES: Final = 4
_TEXT: Final = {"word": 0.3, "letters": 0.3, "meaning": 0.4}
_ALL: Final = {
    "word": 1.0,
    "letters": 1.0,
    "meaning": 1.0,
    "maker": 2.0,
    "basket": 1.0,
    "household": 0.5,
    "offer": 1.5,
}
"""Weights chosen on the development seeds of The Complete Journey (see `evaluate.DEVELOPMENT_SEEDS`)."""
_OTHER: Final = 0.5
"""Weight of an attribute that is not the maker."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, eq=False)
class Kinds:
    """``data`` of T kinds; ``kind`` int64 [items]: each item's, -1 where it is left out; ``labelled`` and
    ``unlabelled`` [kinds]; ``left_out``: unlabelled kinds beyond `MOST_ASKED`, those with fewest items."""

    data: TagData
    items: pl.DataFrame
    kind: IntArray
    labelled: IntArray
    unlabelled: IntArray
    left_out: int


def kinds_of_catalog(
    workspace: Workspace,
    embedder: Embedder,
    seed: int,
    progress: Progress = lambda *_: None,
    asked: bool = True,
) -> Kinds:
    """The catalog's kinds (`models.units`): those with a label on any of their items, and, if ``asked``, those without.

    What people said of items' labels counts before what the catalog says. Where there are more labelled kinds than
    `MOST_LABELLED`, so many are drawn. Raises WorkspaceError for a catalog without a label column or without labels.
    """
    config = workspace.config()
    column = config.label_column
    if column is None:
        raise WorkspaceError("the catalog has no column of labels; name one: tandem ingest --label-column category")
    items = with_gold(catalog_items(workspace), gold(workspace), column)
    full = [embedding_text(title, text) for title, text in items.select("title", "text").iter_rows()]
    number = {text: at for at, text in enumerate(sorted(set(full)))}
    text_of_row = np.array([number[text] for text in full], np.int64)
    unit = units.unit_of_row(text_of_row, units.kinds_of(items))
    labels, label = _codes(items[column])
    if len(labels) < 2:
        raise WorkspaceError(f"column {column!r} has {len(labels)} labels; there is nothing to tell apart")
    chosen, left_out = _chosen(unit, label, seed, asked)
    kind = np.full(int(unit.max(initial=-1)) + 1, -1, np.int64)
    kind[chosen] = np.arange(len(chosen))
    data = _data(workspace, embedder, items, kind[unit], full, labels, label, progress)
    has = data.counts.sum(axis=1) > 0
    return Kinds(data, items, kind[unit], np.flatnonzero(has), np.flatnonzero(~has), left_out)


def _chosen(unit: IntArray, label: npt.NDArray[np.int32], seed: int, asked: bool) -> tuple[IntArray, int]:
    """Units to compare, ascending, and how many unlabelled ones were left out."""
    sizes = np.bincount(unit)
    told = np.bincount(unit[label >= 0], minlength=len(sizes)) > 0
    labelled, unlabelled = np.flatnonzero(told), np.flatnonzero(~told)
    if len(labelled) > MOST_LABELLED:
        labelled = np.random.default_rng(seed).choice(labelled, MOST_LABELLED, replace=False)
    most = MOST_ASKED if asked else 0
    kept = unlabelled[np.argsort(-sizes[unlabelled], kind="stable")[:most]]
    return np.sort(np.concatenate((labelled, kept))), len(unlabelled) - len(kept) if asked else 0


def _data(
    workspace: Workspace,
    embedder: Embedder,
    items: pl.DataFrame,
    kind: IntArray,
    full: list[str],
    labels: tuple[str, ...],
    label: npt.NDArray[np.int32],
    progress: Progress,
) -> TagData:
    rows = np.flatnonzero(kind >= 0)
    group = kind[rows]
    many = int(group.max(initial=-1)) + 1
    counts = np.zeros((many, len(labels)))
    told = label[rows] >= 0
    np.add.at(counts, (group[told], label[rows][told]), 1.0)
    texts = _usual_texts([full[row] for row in rows.tolist()], group, many)
    names = [readable(name) for name in labels]
    progress("tags: embedding", 0.0)
    vectors, name_vectors = embedded(workspace, embedder, texts, names)
    characters, name_characters = views.character_view(texts, names)
    attributes = _attributes(workspace, items, label)
    found: dict[str, Rows] = {"word": views.word_view(texts), "letters": characters, "meaning": vectors}
    for name, values in attributes.items():
        found[name] = views.value_view(group, [values[row] for row in rows.tolist()], many)
    progress("tags: purchases", 0.5)
    # Where and for how much a kind is sold is evidence in the benchmark; nobody measured it here.
    events = load_events(workspace).select("user_id", "item_id", "session_id")
    owner = owner_of_event(events, items["item_id"].to_list(), kind)
    found |= purchase_views(events, owner, many) | offer_view(workspace, items["item_id"].to_list(), kind, many)
    bought = np.log1p(np.bincount(owner[owner >= 0], minlength=many))
    makers = np.diff(found["maker"].indptr) if "maker" in found else np.zeros(many)
    facts = np.stack((np.log(np.bincount(group, minlength=many)), makers, bought, [len(words(text)) for text in texts]))
    return TagData(
        CATALOG,
        # Named by what cannot change with the catalog's order: the graph's view is kept under these.
        texts,
        texts,
        labels,
        counts,
        found,
        {"text": _TEXT, "all": {name: _ALL.get(name, _OTHER) for name in found}},
        {
            "meaning": views.similarity(vectors, name_vectors),
            "letters": views.similarity(characters, name_characters),
            **name_overlap(texts, names),
        },
        facts.T.astype(np.float32),
        ("log_items", "makers", "log_bought", "words"),
    )


def _usual_texts(texts: list[str], group: IntArray, many: int) -> tuple[str, ...]:
    """The text that most items of each group have; of equally many the first by name."""
    counts: list[Counter[str]] = [Counter() for _ in range(many)]
    for text, number in zip(texts, group.tolist()):
        counts[number][text] += 1
    return tuple(min(found, key=lambda text: (-found[text], text)) for found in counts)


def _attributes(workspace: Workspace, items: pl.DataFrame, label: npt.NDArray[np.int32]) -> dict[str, list[str | None]]:
    """Values of the attributes that are evidence and no relative of the label; the one that tells most is "maker",
    whose kernel is asked by itself and together with words and purchases."""
    config = workspace.config()
    found = {
        name: _codes(items[name])[1]
        for name, sort in config.item_attributes.items()
        if sort == "categorical" and name not in (config.label_column, units.KIND_COLUMN)
    }
    told = {}
    for name, codes in found.items():
        both = (codes >= 0) & (label >= 0)
        if is_evidence(codes, label):
            told[name] = predicts(codes[both], label[both])
    best = sorted(told, key=lambda name: (-told[name], name))[:_ATTRIBUTES]
    # A catalog may call an attribute "maker", "store" or "offer" as well: the others keep clear of the views' names.
    return {
        f"attribute {name}" if number else "maker": items[name].cast(pl.String).to_list()
        for number, name in enumerate(best)
    }


def _codes(column: pl.Series) -> tuple[tuple[str, ...], npt.NDArray[np.int32]]:
    """Values in order, and each row's number among them, -1 where it has none."""
    names, codes = coded(column.drop_nulls())
    found = np.full(len(column), -1, np.int32)
    found[column.is_not_null().to_numpy()] = codes
    return names, found
