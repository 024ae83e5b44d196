"""Verdicts on the labels proposed for an item: what Tag and Score decide alike."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from graph.ports import Proof
from graph.tags import TagJudgement, judge_tags
from models import tagging
from models.guardrail import Verdict
from models.policy import Evidence, TagPolicy, Warrant, likeliest
from models.ports import FloatMatrix, FloatVector
from models.tagging import LLMTags, Retrieved, TagItem
from models.text import embedding_text, product_view
from serving.errors import InvalidRequest, NotReady
from serving.services import Services, Tagger

UNNAMED = "item"
"""What facts and proofs call a product without an id."""


@dataclass(frozen=True, slots=True, eq=False)
class Considered:
    """The labels of an item and all there is to go by.

    ``matrix`` [n, columns]: the evidence. ``certified`` [n, columns]: the part of it that the item's certificate is
    about; the same object where that is all of it. ``proposed``: labels that retrieval found, which alone certificates
    have counted.
    """

    labels: tuple[int, ...]
    names: tuple[str, ...]
    judged: TagJudgement
    evidence: Evidence
    matrix: FloatMatrix
    certified: FloatMatrix
    proposed: frozenset[int]

    @property
    def asked(self) -> tuple[FloatMatrix, ...]:
        """What the guardrail must score: nothing twice."""
        return (self.matrix,) if self.matrix is self.certified else (self.matrix, self.certified)


class Decision(NamedTuple):
    """The verdict on one label; ``facts`` speak against it."""

    verdict: Verdict
    decided_by: str
    warrant: Warrant | None
    facts: tuple[Proof, ...] = ()


def tagger_of(services: Services, vocabulary: str = "") -> Tagger:
    """Who judges the labels of a vocabulary. Raises NotReady where the release has no guardrail for them,
    InvalidRequest for a vocabulary it does not have."""
    if vocabulary:
        if (found := services.sets.get(vocabulary)) is not None:
            return found
        if vocabulary in services.unlearned:
            raise NotReady(
                f"this release has no guardrail for {vocabulary!r}: too few items are labelled. Label some and train "
                "again"
            )
        known = ", ".join(map(repr, sorted({*services.sets, *services.unlearned})))
        remedy = f'there are {known} and "", the catalog\'s own' if known else "it has the catalog's own labels alone"
        raise InvalidRequest(f"vocabulary is {vocabulary[:100]!r}, which this release has not; {remedy}")
    if services.tag_judge is None or services.policy is None:
        raise NotReady(
            "this release has no guardrail for tags: the catalog has no label column or too few labelled items. "
            "Ingest with --label-column and train again"
        )
    return Tagger("", services.catalog, services.counts, services.tag_judge, services.policy)


async def retrieve(services: Services, tagger: Tagger, item: TagItem) -> Retrieved:
    """Embed an item (off the event loop) and find its neighbours and candidate labels.

    Words the catalog has, and names of its labels, are embedded already: sellers repeat them, and training has seen
    exactly that vector.
    """
    text = embedding_text(item.title, item.text)
    vector = tagger.catalog.vector_of(text)
    if vector is None:
        loop = asyncio.get_running_loop()
        vector = (await loop.run_in_executor(services.workers, services.embedder.embed, [text]))[0]
    return tagging.retrieve(tagger.catalog, tagger.counts, item, vector)


def consider(
    services: Services,
    tagger: Tagger,
    item_id: str,
    found: Retrieved,
    llm: LLMTags | None,
    source: str,
    more: tuple[int, ...] = (),
) -> Considered:
    """Evidence and the graph's view of an item's candidate labels, and of ``more`` ones that somebody claims."""
    catalog, item = tagger.catalog, found.item
    labels = tuple(dict.fromkeys([*(llm.labels if llm else ()), *found.proposed, *more]))
    names = tuple(catalog.labels[label] for label in labels)
    view = product_view(item.title, item.text, item.attributes)
    if not tagger.vocabulary:
        # What the caller says the product's category is, is what is asked here: it must not speak for itself.
        view.pop("category", None)
    judged = judge_tags(services.graph, item_id, view, names, source)
    agreement = {label: judged.agreement.get(name, 0.0) for label, name in zip(labels, names)}
    matrix = tagging.evidence(catalog, tagger.counts, found, labels, llm, agreement)
    codes = tagging.attribute_codes(catalog, item)
    evidence = tagger.policy.evidence(found.known, codes)
    certified = matrix
    by_words = evidence in ("known words", "new words")
    if by_words and tagger.vocabulary and item.attributes:
        # What the graph makes of a stated category is no part of what such items' certificate has counted.
        bare = judge_tags(services.graph, item_id, product_view(item.title, item.text, {}), names, source)
        said = {label: bare.agreement.get(name, 0.0) for label, name in zip(labels, names)}
        certified = tagging.words_alone(tagging.evidence(catalog, tagger.counts, found, labels, None, said))
    elif by_words and max(codes.values(), default=-1) >= 0:
        certified = tagging.words_alone(matrix)
    elif llm is not None:
        certified = tagging.without_llm(matrix)
    return Considered(labels, names, judged, evidence, matrix, certified, frozenset(found.proposed))


def decide(
    policy: TagPolicy,
    item: Considered,
    probability: FloatVector,
    score: FloatVector,
    places: Sequence[int] | None = None,
) -> list[Decision]:
    """A decision for each label [n], or for those at ``places`` alone.

    ``probability`` [n]: by all evidence; ``score`` [n]: by what the certificate is about.
    """
    judged = item.judged
    vetoed = np.array([name in judged.conflicts or name in judged.doubts for name in item.names], bool)
    best = likeliest(score, vetoed)
    decisions = []
    for at in range(len(item.names)) if places is None else places:
        name = item.names[at]
        if (conflict := judged.conflicts.get(name)) is not None:
            decisions.append(Decision("reject", "graph", None, (conflict,)))
            continue
        # Of several labels each may be accepted that retrieval proposed and no fact speaks against.
        able = not vetoed[at] and item.labels[at] in item.proposed if policy.several else at == best
        verdict, warrant = policy.verdict(name, float(probability[at]), float(score[at]), bool(able), item.evidence)
        doubt = judged.doubts.get(name)
        if doubt is not None and verdict == "review":
            decisions.append(Decision("review", "graph", warrant, (doubt,)))
        else:
            decisions.append(Decision(verdict, "guardrail", warrant))
    return decisions
