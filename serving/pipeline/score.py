"""Score: the ensemble's judgement of anybody's LLM output. Claims in; probability, verdict, reasons and proofs out.

The guardrail is asked once for all claims on tags and once for all on candidates; an item that several claims are about
is looked up once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graph.wants import read_person, serves_any
from models import coldstart, tagging
from models.ports import FloatMatrix
from models.tagging import LLMTags
from serving.clock import RequestClock
from serving.errors import InvalidRequest, NotReady
from serving.messages import CandidateClaim, Judgement, ScoreQuery, Scoring, TagClaim
from serving.pipeline.rules import item_proofs, resolve
from serving.pipeline.verdicts import UNNAMED, Considered, consider, decide, retrieve, tagger_of
from serving.services import Services, Tagger

_REASONS = 4
_CATALOG = Judgement(0.0, "reject", "catalog")
_TAXONOMY = Judgement(0.0, "reject", "taxonomy")


async def score(services: Services, query: ScoreQuery, clock: RequestClock) -> Scoring:
    """One judgement per claim. A tag outside the taxonomy or an item outside the catalog is rejected by that name.

    A tag is accepted where `tag` would accept it: what the claimant's LLM says of its own certainty moves the
    probability, and no certificate is about it.
    """
    tags = {number: claim for number, claim in enumerate(query.claims) if isinstance(claim, TagClaim)}
    candidates = {number: claim for number, claim in enumerate(query.claims) if isinstance(claim, CandidateClaim)}
    with clock.stage("ensemble"):
        judgements = {
            **(await _score_tags(services, tags, clock) if tags else {}),
            **(await _score_candidates(services, candidates, clock) if candidates else {}),
        }
    return Scoring(
        clock.header(query.request_id, services.release.id),
        tuple(judgements[number] for number in range(len(query.claims))),
    )


def _llm(label: int, logprob: float | None) -> LLMTags:
    """The claim as an LLM's only choice; a claim without a log-probability still says that an LLM made it."""
    return LLMTags((label,), (float("nan") if logprob is None else logprob,))


# --- tags ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    """An item that claims are about: its labels, and by claim the label's place and evidence that an LLM claims it."""

    considered: Considered
    claimed: Mapping[int, tuple[int, FloatMatrix]]

    @property
    def asked(self) -> list[FloatMatrix]:
        return [self.considered.certified, *(row for _, row in self.claimed.values())]


async def _score_tags(services: Services, claims: Mapping[int, TagClaim], clock: RequestClock) -> dict[int, Judgement]:
    """Claims on labels of one vocabulary are judged together."""
    by_vocabulary: dict[str, dict[int, TagClaim]] = {}
    for number, claim in claims.items():
        by_vocabulary.setdefault(claim.vocabulary, {})[number] = claim
    judgements: dict[int, Judgement] = {}
    for vocabulary, own in by_vocabulary.items():
        judgements |= await _score_labels(services, tagger_of(services, vocabulary), own, clock)
    return judgements


async def _score_labels(
    services: Services, tagger: Tagger, claims: Mapping[int, TagClaim], clock: RequestClock
) -> dict[int, Judgement]:
    judge, policy = tagger.judge, tagger.policy
    codes = tagging.vocabulary(tagger.catalog.labels).codes
    judgements: dict[int, Judgement] = {}
    about: dict[tuple[object, ...], dict[int, TagClaim]] = {}
    for number, claim in claims.items():
        if not claim.item.title.strip():
            raise InvalidRequest(
                f"claims[{number}].tag.item.title is empty; give the product's name as its seller writes it"
            )
        if claim.tag in codes:
            said = claim.item
            key = (claim.item_id, said.title, said.text, *sorted(said.attributes.items()))
            about.setdefault(key, {})[number] = claim
        else:
            judgements[number] = _TAXONOMY
    items = []
    for same in about.values():
        clock.check("the next claim")
        items.append(await _consider(services, tagger, same))
    if not items:
        return judgements
    scores = await judge.score(np.concatenate([matrix for item in items for matrix in item.asked]))
    reasons = iter(await judge.explain(np.concatenate([row for i in items for _, row in i.claimed.values()]), _REASONS))
    at = 0
    for item in items:
        many = len(item.considered.labels)
        certified = scores[at : at + many]
        at += many
        for number, (place, _) in item.claimed.items():
            probability = certified.copy()
            probability[place] = scores[at]
            at += 1
            (decision,) = decide(policy, item.considered, probability, certified, (place,))
            judgements[number] = Judgement(
                float(probability[place]),
                decision.verdict,
                decision.decided_by,
                next(reasons),
                decision.facts,
                decision.warrant,
            )
    return judgements


async def _consider(services: Services, tagger: Tagger, claims: Mapping[int, TagClaim]) -> _Item:
    """``claims``: all about one item."""
    first = next(iter(claims.values()))
    found = await retrieve(services, tagger, first.item)
    codes = tagging.vocabulary(tagger.catalog.labels).codes
    labels = tuple(codes[claim.tag] for claim in claims.values())
    considered = consider(services, tagger, first.item_id or UNNAMED, found, None, "claim", labels)
    claimed = {}
    for (number, claim), label in zip(claims.items(), labels):
        agreement = {label: considered.judged.agreement.get(claim.tag, 0.0)}
        said = _llm(label, claim.llm_logprob)
        row = tagging.evidence(tagger.catalog, tagger.counts, found, [label], said, agreement)
        claimed[number] = considered.labels.index(label), row
    return _Item(considered, claimed)


# --- candidates ------------------------------------------------------------------------------------------------------


async def _score_candidates(
    services: Services, claims: Mapping[int, CandidateClaim], clock: RequestClock
) -> dict[int, Judgement]:
    judge = services.cold_judge
    if judge is None:
        raise NotReady("this release has no guardrail for candidates; the catalog has too little gold to train one")
    judgements: dict[int, Judgement] = {}
    known: dict[int, int] = {}
    for number, claim in claims.items():
        row = services.table.row_of(claim.item_id)
        if row < 0:
            judgements[number] = _CATALOG
        else:
            known[number] = row
    matrices: dict[int, FloatMatrix] = {}
    for profile in dict.fromkeys(claims[number].profile_text for number in known):
        clock.check("the next claim")
        same = [number for number in known if claims[number].profile_text == profile]
        matrices |= await _described(services, profile, {number: (claims[number], known[number]) for number in same})
    if not matrices:
        return judgements
    numbers = list(matrices)
    matrix = np.concatenate([matrices[number] for number in numbers])
    probability, reasons = await judge.score(matrix), await judge.explain(matrix, _REASONS)
    for at, number in enumerate(numbers):
        row = known[number]
        person = read_person(services.graph, claims[number].profile_text)
        avoids = {name: proof for name, proof in person.avoids.items() if name in services.properties.names}
        likely = float(probability[at])
        if not resolve(services, (), (), (), avoids).allowed(services, np.array([row], np.int64))[0]:
            judgements[number] = Judgement(likely, "reject", "graph", reasons[at], (*avoids.values(),))
        else:
            facts = item_proofs(services, row, list(person.wants))
            judgements[number] = Judgement(likely, judge.verdict(likely), "guardrail", reasons[at], facts)
    return judgements


async def _described(
    services: Services, profile: str, claims: Mapping[int, tuple[CandidateClaim, int]]
) -> dict[int, FloatMatrix]:
    """Evidence [1, columns] by claim; ``claims``: those of one profile, with their items' rows."""
    wants: Sequence[str] = list(read_person(services.graph, profile).wants)
    described = await asyncio.get_running_loop().run_in_executor(
        services.workers, coldstart.describe, services.catalog, services.embedder, profile, wants
    )
    found = {}
    for number, (claim, row) in claims.items():
        rows = np.array([row], np.int64)
        label = int(services.catalog.label_of_row[row])
        llm = _llm(label, claim.llm_logprob) if label >= 0 else None
        serves = serves_any(services.properties, rows, wants)
        found[number] = coldstart.evidence(services.catalog, services.demand, described, rows, llm, serves)
    return found
