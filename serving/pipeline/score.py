"""Score: the ensemble's judgement of anybody's LLM output. Claims in; probability, verdict, reasons and proofs out."""

from __future__ import annotations

import asyncio

import numpy as np

from graph.wants import read_person, serves_any
from models import coldstart, tagging
from models.tagging import LLMTags
from serving.clock import RequestClock
from serving.errors import NotReady
from serving.messages import CandidateClaim, Judgement, ScoreQuery, Scoring, TagClaim
from serving.pipeline.rules import item_proofs, resolve
from serving.pipeline.tag import UNNAMED, by_code, judge_labels, retrieve
from serving.services import Judge, Services

_REASONS = 4
_CATALOG = Judgement(0.0, "reject", "catalog")
_TAXONOMY = Judgement(0.0, "reject", "taxonomy")


async def score(services: Services, query: ScoreQuery, clock: RequestClock) -> Scoring:
    """One judgement per claim. A tag outside the taxonomy or an item outside the catalog is rejected by that name."""
    judgements = []
    with clock.stage("ensemble"):
        for claim in query.claims:
            clock.check("the next claim")
            if isinstance(claim, TagClaim):
                judgements.append(await _score_tag(services, claim))
            else:
                judgements.append(await _score_candidate(services, claim))
    return Scoring(clock.header(query.request_id, services.release.id), tuple(judgements))


def _needed(judge: Judge | None, what: str) -> Judge:
    if judge is None:
        raise NotReady(f"this release has no guardrail for {what}; the catalog has too little gold to train one")
    return judge


def _llm(label: int, logprob: float | None) -> LLMTags | None:
    """The claim as an LLM's only choice; a claim without a log-probability still says that an LLM made it."""
    return LLMTags((label,), (float("nan") if logprob is None else logprob,))


async def _score_tag(services: Services, claim: TagClaim) -> Judgement:
    judge = _needed(services.tag_judge, "tags")
    codes = {label: code for code, label in enumerate(services.catalog.labels)}
    label = codes.get(claim.tag)
    if label is None:
        return _TAXONOMY
    found = await retrieve(services, claim.item)
    judged = judge_labels(services, claim.item_id or UNNAMED, claim.item, [label], "claim")
    matrix = tagging.evidence(
        services.catalog,
        services.counts,
        found,
        [label],
        _llm(label, claim.llm_logprob),
        by_code(services, judged, [label]),
    )
    probability = float((await judge.score(matrix))[0])
    (reasons,) = await judge.explain(matrix, _REASONS)
    conflict = judged.conflicts.get(claim.tag)
    if conflict is not None:
        return Judgement(probability, "reject", "graph", reasons, (conflict,))
    return Judgement(probability, judge.verdict(probability), "guardrail", reasons)


async def _score_candidate(services: Services, claim: CandidateClaim) -> Judgement:
    judge = _needed(services.cold_judge, "candidates")
    row = services.table.row_of(claim.item_id)
    if row < 0:
        return _CATALOG
    person = read_person(services.graph, claim.profile_text)
    wants = list(person.wants)
    described = await asyncio.get_running_loop().run_in_executor(
        services.workers, coldstart.describe, services.catalog, services.embedder, claim.profile_text, wants
    )
    rows = np.array([row], np.int64)
    label = int(services.catalog.label_of_row[row])
    llm = _llm(label, claim.llm_logprob) if label >= 0 else None
    serves = serves_any(services.properties, rows, wants)
    matrix = coldstart.evidence(services.catalog, services.demand, described, rows, llm, serves)
    probability = float((await judge.score(matrix))[0])
    (reasons,) = await judge.explain(matrix, _REASONS)
    facts = item_proofs(services, row, wants)
    avoids = {name: proof for name, proof in person.avoids.items() if name in services.properties.names}
    if not resolve(services, (), (), (), avoids).allowed(services, rows)[0]:
        return Judgement(probability, "reject", "graph", reasons, (*avoids.values(),))
    return Judgement(probability, judge.verdict(probability), "guardrail", reasons, facts)
