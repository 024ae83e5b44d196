"""What becomes a case: tags of an answer that the service does not decide, and an audit's share of those it accepts."""

from __future__ import annotations

import hashlib
import json
from typing import Final

from models.certify import POOLED
from models.labelset import prefix_of
from models.tagging import TagItem
from models.text import embedding_text
from models.units import KIND_COLUMN
from serving.messages import Tagging, TagQuery
from serving.review.cases import Kind, Proposal, Span
from serving.review.desk import ReviewDesk
from serving.services import Services

UNNAMED: Final = "unnamed:"
"""Begins the ids of cases of products that were sent without one."""


def proposals(services: Services, desk: ReviewDesk, query: TagQuery, answer: Tagging) -> list[Proposal]:
    """The cases of an answer, its tags and its values of attributes; none for a product without an id where the
    configuration does not ask for them."""
    item_id = query.item_id or (_unnamed(query.item) if desk.config.unnamed else "")
    if not item_id:
        return []
    release, usage = answer.header.release, answer.header.usage
    unit = unit_of(services, query.item_id, query.item)
    found = []
    for tag in answer.tags:
        written = written_of(query.vocabulary, tag.tag)
        kind = kind_of(desk, item_id, written, tag.verdict, tag.decided_by, release)
        if kind is None:
            continue
        asked = "llm" in tag.sources
        found.append(
            Proposal(
                kind,
                item_id,
                query.item,
                written,
                tag.probability,
                tag.warrant.group if tag.warrant else group_of(services, tag.tag, query.vocabulary),
                unit,
                release,
                tag.warrant.precision if tag.warrant else promise_of(services, desk),
                tag.sources,
                Span(*tag.evidence, tag.evidence_text) if tag.evidence else None,
                tag.reasons,
                tuple("\n".join(proof.lines()) for proof in tag.facts),
                services.prompts["tag"].of(query.item_id or query.item.title).id if asked else "",
                usage.model if asked else "",
            )
        )
    for value in answer.attributes:
        kind = kind_of(desk, item_id, value.tag, value.verdict, "guardrail", release)
        if kind is not None:
            asked = "llm" in value.sources
            found.append(
                Proposal(
                    kind,
                    item_id,
                    query.item,
                    value.tag,
                    value.probability,
                    value.warrant.group,
                    unit,
                    release,
                    value.warrant.precision,
                    value.sources,
                    Span(*value.evidence, value.evidence_text),
                    prompt=services.prompts["attributes"].of(query.item_id or query.item.title).id if asked else "",
                    model=usage.model if asked else "",
                )
            )
    return found


def kind_of(desk: ReviewDesk, item_id: str, tag: str, verdict: str, decided_by: str, release: str) -> Kind | None:
    """What a tag with this verdict is a case for, None for none.

    What the graph derives of an accepted tag is not audited: it is as right as that tag and the ontology are.
    """
    if verdict == "review":
        return "review"
    accepted = verdict == "accept" and decided_by == "guardrail"
    return "audit" if accepted and desk.audited(item_id, tag, release) else None


def written_of(vocabulary: str, label: str) -> str:
    """What a case calls a label: those of a label set by both names, for sets may share labels with the catalog."""
    return f"{vocabulary}/{label}" if vocabulary else label


def group_of(services: Services, label: str, vocabulary: str = "") -> str:
    """The group of tags whose certificate a label falls under, and whose switch it obeys."""
    if vocabulary:
        return f"{prefix_of(vocabulary)}{label}"
    return services.policy.group_of(label) if services.policy else POOLED


def promise_of(services: Services, desk: ReviewDesk) -> float:
    """The precision that accepted tags of this release are held to."""
    certificates = list(services.policy.certificates.values()) if services.policy else []
    return certificates[0].config.precision if certificates else desk.config.promise


def unit_of(services: Services, item_id: str, item: TagItem) -> str:
    """What an audit counts once: the item's kind where it or the catalog names one, else its text."""
    kind = item.attributes.get(KIND_COLUMN)
    if not kind and item_id and KIND_COLUMN in services.table.frame.columns:
        row = services.table.row_of(item_id)
        kind = services.table.frame[KIND_COLUMN][row] if row >= 0 else None
    return f"kind {kind}" if kind else f"text {embedding_text(item.title, item.text)}"


def _unnamed(item: TagItem) -> str:
    words = json.dumps([item.title, item.text, sorted(item.attributes.items())])
    return UNNAMED + hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
