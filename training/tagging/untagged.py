"""Tags for whole kinds of products that nobody labelled, from all that the catalog knows of them.

A single new product is tagged by `serving.pipeline.tag`, by its words and one maker. A kind that the catalog sells has
more: all its makers, what it is bought with and by whom. This is the method of `evaluate`, fitted to all labelled
kinds; what it accepts is certified on those, each judged by models that did not see it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from features.errors import WorkspaceError
from features.workspace import Workspace
from graph import ontology
from graph.ports import KnowledgeGraph, Proof
from graph.tags import judge_tags
from models import units
from models.certify import POOLED, Bound, Certificate, CertifyConfig, certify
from models.guardrail import Verdict
from models.policy import TagConfig, Warrant
from models.ports import Embedder
from models.tagging import TagItem
from models.text import catalog_view, readable, words
from models.wordspans import evidence_span, filler, word_spans
from training.tagging import tagger
from training.tagging.kinds import Kinds, Progress, kinds_of_catalog
from training.tagging.run import graph_view
from training.tagging.views import Matrix

EVIDENCE: Final = "an unlabelled kind"
"""What a warrant calls it: words, makers and purchases of all items of a kind."""
_METHOD: Final = "guardrail+graph"
_STARTS_ABOVE: Final = 0.01
"""Fixed on the development seeds, as `evaluate.STARTS`: a promise of .95 is first tried at .96."""
_STRICTEST: Final = 0.995
LEAST_KINDS: Final = 100
"""Labelled kinds below which nothing is compared: folds of folds of fewer say nothing."""


@dataclass(frozen=True, slots=True)
class UntaggedItem:
    """A product's tag: that of its kind, unless the graph objects to it on this product.

    ``row``: counts such products from 0. ``evidence``: where in the product's own words the tag shows (see
    `models.wordspans.evidence_span`), None where it does not; ``warrant`` is None where the graph's veto decided, and
    ``facts`` are the graph's proofs.
    """

    row: int
    item_id: str
    tag: str
    probability: float
    verdict: Verdict
    evidence: tuple[str, int, int] | None
    evidence_text: str
    warrant: Warrant | None
    facts: tuple[Proof, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Untagged:
    """``items``, kind by kind; ``bound``: the certified threshold. ``labelled`` kinds were learned from, ``asked`` got
    a tag, of which ``accepted`` under the certificate; ``left_out`` kinds were too many for one run."""

    items: list[UntaggedItem]
    bound: Bound
    labelled: int
    asked: int
    accepted: int
    left_out: int
    seconds: float


def tag_untagged(
    workspace: Workspace,
    config: TagConfig,
    embedder: Embedder,
    seed: int,
    progress: Progress = lambda *_: None,
    folds: int = tagger.OUTER,
    review_only: Callable[[str], bool] = lambda _: False,
) -> Untagged:
    """Tag every item of a kind without any label. An item whose kind has labels is one for `serving.pipeline.tag`.

    ``config``: the promise (precision and confidence), and below which probability a tag is rejected. ``review_only``:
    whether a group of labels is switched to review by its audit. Raises
    WorkspaceError for a catalog without a label column or without labels.
    """
    begun = time.perf_counter()
    kinds = kinds_of_catalog(workspace, embedder, seed, progress)
    if not len(kinds.unlabelled):
        nothing = Bound(np.inf, len(kinds.labelled), 0, 0, 0.0, "no kind is without labels")
        return Untagged([], nothing, len(kinds.labelled), 0, 0, 0, time.perf_counter() - begun)
    _check_enough(kinds)
    graph = ontology.load(workspace.config().ontology)
    view = graph_view(workspace, graph, kinds.data, progress)
    progress("tags: fitting", 0.0)
    fitted = tagger.fit(kinds.data, kinds.labelled, kinds.unlabelled, seed, {_METHOD: view}, folds)[_METHOD]
    right = fitted.held_out.label == kinds.data.gold[kinds.labelled]
    certificate = certify(fitted.held_out.confidence, right, _test(config))
    groups = units.group_of_label(kinds.items, workspace.config().label_column or "")
    objects = _Objections(graph, kinds.items)

    def judge(label: str, probability: float) -> tuple[Verdict, Warrant]:
        return _verdict(certificate, groups.get(label, POOLED), probability, config.reject_below, review_only)

    items = list(_items(kinds, fitted.test, view, judge, objects))
    kind_of = dict(zip(kinds.items["item_id"].to_list(), kinds.kind.tolist()))
    return Untagged(
        items,
        certificate.bounds[POOLED],
        len(kinds.labelled),
        len(kinds.unlabelled),
        len({kind_of[item.item_id] for item in items if item.verdict == "accept"}),
        kinds.left_out,
        time.perf_counter() - begun,
    )


def _check_enough(kinds: Kinds) -> None:
    if len(kinds.labelled) < LEAST_KINDS:
        raise WorkspaceError(
            f"{len(kinds.labelled)} kinds of products have labels, and {LEAST_KINDS} are the least to learn from: "
            "label more, or tag the products one by one: tandem backfill tags"
        )


def _test(config: TagConfig) -> CertifyConfig:
    start = min(_STRICTEST, config.precision + _STARTS_ABOVE)
    return CertifyConfig(precision=config.precision, confidence=config.confidence, start=start, stop=min(0.3, start))


def _items(
    kinds: Kinds,
    found: tagger.Tags,
    view: Matrix,
    judge: Callable[[str, float], tuple[Verdict, Warrant]],
    objections: _Objections,
) -> Iterator[UntaggedItem]:
    labels = kinds.data.labels
    stems = [words(readable(label)) for label in labels]
    nothing = filler(kinds.data.texts)
    order = np.argsort(kinds.kind, kind="stable")
    starts = np.searchsorted(kinds.kind[order], np.arange(len(kinds.data.groups) + 1))
    text = kinds.items.select("item_id", "title", "text").rows()
    number = 0
    for kind, label, probability in zip(kinds.unlabelled.tolist(), found.label.tolist(), found.confidence.tolist()):
        vetoed = bool(view[kind, label] < 0)
        verdict, warrant = judge(labels[label], probability)
        neighbour = _neighbour(kinds, kind, label)
        for row in _rows(order, starts, kind):
            item_id, title, rest = text[row]
            item = TagItem(title, rest or "")
            span = evidence_span(word_spans(item), stems[label], neighbour, nothing)
            shown = getattr(item, span[0])[span[1] : span[2]] if span else ""
            conflict, doubt = objections.to(row, labels[label])
            if vetoed or conflict is not None:
                facts = () if conflict is None else (conflict,)
                yield UntaggedItem(number, item_id, labels[label], 0.0, "reject", span, shown, None, facts)
            elif doubt is not None and verdict == "accept":
                yield UntaggedItem(
                    number, item_id, labels[label], probability, "review", span, shown, warrant, (doubt,)
                )
            else:
                yield UntaggedItem(number, item_id, labels[label], probability, verdict, span, shown, warrant)
            number += 1


def _neighbour(kinds: Kinds, kind: int, label: int) -> str:
    """The words of the labelled kind that is nearest among those of this label."""
    alike = kinds.labelled[kinds.data.gold[kinds.labelled] == label]
    return kinds.data.texts[alike[kinds.data.kernels["meaning"][kind, alike].argmax()]] if len(alike) else ""


def _rows(order: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], kind: int) -> list[int]:
    found: list[int] = order[starts[kind] : starts[kind + 1]].tolist()
    return found


class _Objections:
    """What the knowledge graph has against a tag on one product, whatever its kind is.

    Of a kind of meat, the item whose own words say vegan is not accepted as meat.
    """

    def __init__(self, graph: KnowledgeGraph, items: pl.DataFrame) -> None:
        self._graph = graph
        self._items = items
        self._known: dict[tuple[object, ...], tuple[Proof | None, Proof | None]] = {}

    def to(self, row: int, label: str) -> tuple[Proof | None, Proof | None]:
        """Proof of a conflict, and of a doubt; None where there is none."""
        view = catalog_view(self._items.row(row, named=True), None)
        key = (label, *sorted(view.items()))
        if key not in self._known:
            judged = judge_tags(self._graph, "item", view, (label,), "index")
            self._known[key] = judged.conflicts.get(label), judged.doubts.get(label)
        return self._known[key]


def _verdict(
    certificate: Certificate,
    group: str,
    probability: float,
    reject_below: float,
    review_only: Callable[[str], bool],
) -> tuple[Verdict, Warrant]:
    bound = certificate.bounds[POOLED]
    reason = ""
    if bound.threshold == np.inf:
        reason = f"nothing can be accepted: {bound.reason}"
    elif not probability >= bound.threshold:
        reason = f"scores {probability:.4f}; kinds without labels are accepted from {bound.threshold:.4f} on"
    elif review_only(group):
        reason = f"{group} is switched to review: its audit fell below the promise"
    promise = certificate.config
    warrant = Warrant(group, POOLED, EVIDENCE, probability, promise.precision, promise.confidence, bound, reason)
    if not reason:
        return "accept", warrant
    return ("reject" if probability < reject_below else "review"), warrant
