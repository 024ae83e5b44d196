"""Tag: neighbours and names propose, the LLM chooses, guardrail and graph decide."""

from __future__ import annotations

import asyncio
import math

import numpy as np

from graph.tags import TagJudgement, implied_tags, judge_tags
from models import tagging
from models.errors import ModelError
from models.tagging import LLMTags, Retrieved, TagItem
from models.text import embedding_text, product_view
from serving.clock import RequestClock
from serving.errors import InvalidRequest, NotReady
from serving.messages import ProposedTag, Tagging, TagQuery, Usage
from serving.services import Services

_REASONS = 4
UNNAMED = "item"
"""What facts and proofs call a product without an id."""


async def tag(services: Services, query: TagQuery, clock: RequestClock) -> Tagging:
    """Tags with verdicts; abstains where none is worth a person's look. Raises InvalidRequest, NotReady."""
    judge = services.tag_judge
    if judge is None:
        raise NotReady(
            "this release has no tag guardrail: the catalog has no label column or too few labelled items. "
            "Ingest with --label-column and train again"
        )
    item = query.item
    if not item.title.strip():
        raise InvalidRequest("item.title is empty; give the product's name as its seller writes it")
    with clock.stage("index"):
        found = await retrieve(services, item)
    clock.check("the LLM")
    with clock.stage("llm"):
        llm, usage = await _ask_llm(services, found, clock)
    clock.check("the guardrail")
    with clock.stage("graph"):
        item_id = query.item_id or UNNAMED
        labels = [*dict.fromkeys([*(llm.labels if llm else ()), *found.proposed])]
        judged = judge_labels(services, item_id, item, labels, "llm" if llm else "index")
    with clock.stage("guardrail"):
        matrix = tagging.evidence(
            services.catalog, services.counts, found, labels, llm, by_code(services, judged, labels)
        )
        probability = await judge.score(matrix)
        order = np.argsort(-probability, kind="stable")[: query.max_tags]
        reasons = await judge.explain(np.ascontiguousarray(matrix[order]), _REASONS)
        tags: list[ProposedTag] = []
        for place, at in enumerate(order.tolist()):
            label = services.catalog.labels[labels[at]]
            conflict = judged.conflicts.get(label)
            verdict = "reject" if conflict else judge.verdict(float(probability[at]))
            # One product has one category: of several likely ones the likeliest is accepted, a person sees the others.
            if verdict == "accept" and any(found_tag.verdict == "accept" for found_tag in tags):
                verdict = "review"
            logprob = llm.logprobs[llm.labels.index(labels[at])] if llm and labels[at] in llm.labels else None
            span = tagging.evidence_span(item, label)
            tags.append(
                ProposedTag(
                    label,
                    float(probability[at]),
                    verdict,
                    _sources(found, llm, labels[at]),
                    "graph" if conflict else "guardrail",
                    span,
                    (conflict,) if conflict else (),
                    reasons[place],
                    None if logprob is None or math.isnan(logprob) else logprob,
                    (item.title if span[0] == "title" else item.text)[span[1] : span[2]] if span else "",
                )
            )
    with clock.stage("implications"):
        accepted = [found_tag.tag for found_tag in tags if found_tag.verdict == "accept"]
        tags.extend(_implied(services, item_id, item, accepted, tags))
    return Tagging(
        clock.header(query.request_id, services.release.id, usage),
        tuple(tags),
        abstained=not any(found_tag.verdict in ("accept", "review") for found_tag in tags),
    )


async def retrieve(services: Services, item: TagItem) -> Retrieved:
    """Embed an item (off the event loop) and find its neighbours and candidate labels."""
    text = embedding_text(item.title, item.text)
    vectors = await asyncio.get_running_loop().run_in_executor(services.workers, services.embedder.embed, [text])
    return tagging.retrieve(services.catalog, services.counts, item, vectors[0])


def judge_labels(services: Services, item_id: str, item: TagItem, labels: list[int], source: str) -> TagJudgement:
    """The graph's view of labels for an item."""
    view = product_view(item.title, item.text, item.attributes)
    # What the caller says the product's category is, is what is asked here: it must not speak for itself.
    view.pop("category", None)
    return judge_tags(services.graph, item_id, view, [services.catalog.labels[label] for label in labels], source)


def by_code(services: Services, judged: TagJudgement, labels: list[int]) -> dict[int, float]:
    """Agreement by label code, as the guardrail's evidence wants it."""
    return {label: judged.agreement.get(services.catalog.labels[label], 0.0) for label in labels}


async def _ask_llm(services: Services, found: Retrieved, clock: RequestClock) -> tuple[LLMTags | None, Usage]:
    request = tagging.prompt(services.prompts["tag"], services.catalog, found)
    if request is None:
        return None, Usage()
    try:
        answer = await services.gateway.ask(request, clock.remaining_s - services.llm_reserve_s)
    except ModelError as error:
        clock.degrade("llm", str(error))
        return None, Usage()
    codes = {services.catalog.labels[label]: label for label in found.choices}
    chosen = tagging.read_choices(answer.result, "tags", codes)
    if not chosen.labels:
        clock.degrade("llm", "the LLM named no known tag")
        return None, answer.usage
    return chosen, answer.usage


def _sources(found: Retrieved, llm: LLMTags | None, label: int) -> tuple[str, ...]:
    sources = []
    if llm is not None and label in llm.labels:
        sources.append("llm")
    if label in found.votes:
        sources.append("neighbours")
    if label in found.by_name:
        sources.append("name")
    return tuple(sources)


def _implied(
    services: Services, item_id: str, item: TagItem, accepted: list[str], tags: list[ProposedTag]
) -> list[ProposedTag]:
    """What follows from the accepted tags, as certain as they are."""
    if not accepted:
        return []
    view = product_view(item.title, item.text, item.attributes)
    view.pop("category", None)
    certainty = min(tag.probability for tag in tags if tag.verdict == "accept")
    known = {tag.tag for tag in tags}
    proofs = implied_tags(services.graph, item_id, view, accepted, "guardrail")
    return [
        ProposedTag(name, certainty, "accept", ("graph",), "graph", facts=(proof,))
        for name, proof in proofs.items()
        if name not in known
    ]
