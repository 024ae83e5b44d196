"""Tag: neighbours and names propose, the LLM chooses, guardrail and graph decide."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextlib import nullcontext

import numpy as np

from graph.tags import implied_tags
from models import tagging
from models.errors import ModelError
from models.ports import Contribution, FloatVector
from models.prompts import Prompt
from models.tagging import LLMTags, Retrieved, TagItem
from models.text import product_view
from models.values import LLMValues
from models.wordspans import common_words, evidence_span, word_spans
from serving.clock import RequestClock
from serving.errors import BudgetExceeded, InvalidRequest
from serving.gateway.ports import Ask, usage_of
from serving.gateway.semantic import tag_meaning
from serving.messages import ProposedTag, ProposedValue, Tagging, TagQuery, Usage
from serving.pipeline.values import ask_values, values_of
from serving.pipeline.verdicts import UNNAMED, Considered, Decision, consider, decide, retrieve, tagger_of
from serving.services import Services, Tagger

_REASONS = 4
TASK = "tag"
"""What the gateway, its metrics and the prompt registry call this."""


async def tag(services: Services, query: TagQuery, clock: RequestClock) -> Tagging:
    """Tags with verdicts; abstains where none is worth a person's look. Raises InvalidRequest, NotReady."""
    tagger = tagger_of(services, query.vocabulary)
    judge, policy = tagger.judge, tagger.policy
    item, item_id = query.item, query.item_id or UNNAMED
    if not item.title.strip():
        raise InvalidRequest("item.title is empty; give the product's name as its seller writes it")
    with clock.stage("index"):
        found = await retrieve(services, tagger, item)
    clock.check("the LLM")
    # An experiment divides products as it divides users: one product, one version.
    prompt = services.prompts[TASK].of(query.item_id or item.title)
    with nullcontext() if query.vocabulary else clock.stage("llm"):
        llm, said, usage = await _ask(services, query, prompt, found, clock)
    clock.check("the guardrail")
    with clock.stage("graph"):
        considered = consider(services, tagger, item_id, found, llm, "llm" if llm else "index")
    with clock.stage("guardrail"):
        scores = await judge.score(np.concatenate(considered.asked))
        probability, score = scores[: len(considered.labels)], scores[-len(considered.labels) :]
        decisions = decide(policy, considered, probability, score)
        order = _shown(probability, decisions, query.max_tags)
        reasons = await judge.explain(np.ascontiguousarray(considered.matrix[order]), _REASONS)
        tags = _proposed(tagger, found, llm, considered, probability, decisions, order, reasons)
    with clock.stage("implications"):
        tags = _with_implied(services, tagger, item_id, item, considered, tags)
    values: tuple[ProposedValue, ...] = ()
    if services.values is not None and not query.vocabulary:
        with clock.stage("attributes"):
            values = values_of(services, item, said)
    if llm is not None:
        verdicts = [each.verdict for each in tags if "llm" in each.sources]
        services.told.judged(query.request_id, TASK, prompt.id, verdicts or ["abstain"])
    return Tagging(
        clock.header(query.request_id, services.release.id, usage),
        tuple(tags),
        abstained=not any(found_tag.verdict in ("accept", "review") for found_tag in tags),
        attributes=values,
    )


async def _ask(
    services: Services, query: TagQuery, prompt: Prompt, found: Retrieved, clock: RequestClock
) -> tuple[LLMTags | None, Mapping[str, LLMValues], Usage]:
    """What an LLM says of the tags, and at the same time of the attributes, where the release reads any.

    Of label sets it is not asked: it earned nothing there, and what certifies them knows no answers of it.
    """
    if query.vocabulary:
        return None, {}, Usage()
    if services.values is None:
        llm, usage = await _ask_llm(services, query, prompt, found, clock)
        return llm, {}, usage
    beside = asyncio.ensure_future(ask_values(services, query, clock))
    try:
        llm, usage = await _ask_llm(services, query, prompt, found, clock)
        said, cost, problem = await beside
    finally:
        beside.cancel()
    if problem and llm is not None:  # else the same was said of the tags
        clock.degrade("llm", f"attributes: {problem}")
    return llm, said, usage.plus(cost)


async def _ask_llm(
    services: Services, query: TagQuery, prompt: Prompt, found: Retrieved, clock: RequestClock
) -> tuple[LLMTags | None, Usage]:
    request = tagging.prompt(prompt, services.catalog, found)
    if request is None:
        return None, Usage()
    codes = {services.catalog.labels[label]: label for label in found.choices}
    asked = Ask(
        TASK,
        request,
        clock.remaining_s - services.llm_reserve_s,
        prompt.id,
        query.request_id,
        query.tenant,
        job=query.job,
        personal=(),
        check=lambda result: "" if tagging.read_choices(result, "tags", codes).labels else "taxonomy",
        meaning=tag_meaning(prompt.id, found, services.catalog.labels, found.vector),
    )
    try:
        answer = await services.gateway.ask(asked)
    except (ModelError, BudgetExceeded) as error:
        clock.degrade("llm", str(error))
        return None, usage_of(error)
    return tagging.read_choices(answer.result, "tags", codes), answer.usage


def _shown(probability: FloatVector, decisions: list[Decision], most: int) -> list[int]:
    """The likeliest labels, and what is accepted always among them."""
    order: list[int] = np.argsort(-probability, kind="stable").tolist()
    accepted = [at for at in order if decisions[at].verdict == "accept"]
    others = [at for at in order if decisions[at].verdict != "accept"]
    shown = {*accepted, *others[: max(0, most - len(accepted))]}
    return [at for at in order if at in shown]


def _proposed(
    tagger: Tagger,
    found: Retrieved,
    llm: LLMTags | None,
    considered: Considered,
    probability: FloatVector,
    decisions: list[Decision],
    order: list[int],
    reasons: list[tuple[Contribution, ...]],
) -> list[ProposedTag]:
    stems, spans = tagger.catalog.stems, word_spans(found.item)
    nothing = common_words(tagger.catalog)
    tags = []
    for at, why in zip(order, reasons):
        label, decision = considered.labels[at], decisions[at]
        logprob = llm.logprobs[llm.labels.index(label)] if llm and label in llm.labels else None
        span = evidence_span(spans, frozenset().union(*stems[label]), found.label_texts.get(label, ""), nothing)
        text = ""
        if span is not None:
            text = (found.item.title if span[0] == "title" else found.item.text)[span[1] : span[2]]
        tags.append(
            ProposedTag(
                considered.names[at],
                float(probability[at]),
                decision.verdict,
                _sources(found, llm, label),
                decision.decided_by,
                span,
                decision.facts,
                why,
                None if logprob is None or math.isnan(logprob) else logprob,
                text,
                decision.warrant,
            )
        )
    return tags


def _sources(found: Retrieved, llm: LLMTags | None, label: int) -> tuple[str, ...]:
    sources = []
    if llm is not None and label in llm.labels:
        sources.append("llm")
    if label in found.votes:
        sources.append("neighbours")
    if label in found.by_name:
        sources.append("name")
    return tuple(sources)


def _with_implied(
    services: Services,
    tagger: Tagger,
    item_id: str,
    item: TagItem,
    considered: Considered,
    tags: list[ProposedTag],
) -> list[ProposedTag]:
    """With what follows from each accepted tag, as certain as it is and under its certificate.

    A wider label may be a candidate itself, about which nobody is sure; then what follows stands in its place. What is
    accepted by itself stays as it is, and what an audit switched to review does not come in by this door.
    """
    accepted = {tag.tag: tag for tag in tags if tag.verdict == "accept"}
    if not accepted:
        return tags
    view = product_view(item.title, item.text, item.attributes)
    view.pop("category", None)
    judged, policy = considered.judged, tagger.policy
    own = tagging.vocabulary(tagger.catalog.labels).codes
    # All vocabularies stand in one graph: what another one calls wider is none of this one's tags.
    others = {wider for each in services.sets.values() for _, wider in each.catalog.wider if wider not in own}
    implied: dict[str, ProposedTag] = {}
    for tag in accepted.values():
        for name, proof in implied_tags(services.graph, item_id, view, [tag.tag], "guardrail").items():
            if name in judged.conflicts or name in judged.doubts or name in accepted:
                continue
            if name not in own and (tagger.vocabulary or name in others):
                continue
            if name in own and policy.review_only(policy.group_of(name)):
                continue
            follows = ProposedTag(
                name,
                tag.probability,
                "accept",
                ("graph",),
                "graph",
                tag.evidence,
                (proof,),
                evidence_text=tag.evidence_text,
                warrant=tag.warrant,
            )
            implied.setdefault(name, follows)
    return [*(tag for tag in tags if tag.tag not in implied), *implied.values()]
