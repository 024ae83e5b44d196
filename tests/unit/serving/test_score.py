"""Score on real data: what anybody's LLM claims, judged with probability, verdict, reasons and proof."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from models.tagging import TagItem
from serving.clock import RequestClock
from serving.errors import DeadlineExceeded, NotReady
from serving.messages import CandidateClaim, Judgement, ScoreQuery, TagClaim
from serving.pipeline import score
from serving.services import Services
from tests.unit.serving.asking import ask, ask_tags, judge, said

CHEESE = TagItem("Sharp cheddar cheese 8 oz")
VEGAN_BEEF = TagItem("Vegan beef strips", "vegan, plant based")


def claim(item: TagItem, tag: str, logprob: float | None = None) -> TagClaim:
    return TagClaim("", item, tag, logprob)


async def popular_item(services: Services) -> str:
    return (await ask(services, "", k=1)).items[0].item_id


async def test_judgements_come_in_the_order_of_the_claims(services: Services) -> None:
    item = await popular_item(services)
    answer = await judge(
        services,
        claim(CHEESE, "CHEESE"),
        CandidateClaim("loves cheese", item, None),
        claim(CHEESE, "CAT FOOD"),
        claim(CHEESE, "UNICORN MEAT"),
    )
    cheese, candidate, cats, unicorn = answer.judgements
    assert cheese.probability > cats.probability
    assert (cheese.decided_by, candidate.decided_by, unicorn.decided_by) == ("guardrail", "guardrail", "taxonomy")
    assert answer.header.release == services.release.id


async def test_tag_outside_the_taxonomy_is_rejected_by_it(services: Services) -> None:
    for name in ("UNICORN MEAT", "", "cheese", "CHEESE "):
        (judgement,) = (await judge(services, claim(CHEESE, name))).judgements
        assert judgement == Judgement(0.0, "reject", "taxonomy")


@pytest.mark.parametrize("item_id", ["no-such-item", "", "-1", "9" * 30])
async def test_item_outside_the_catalog_is_rejected_by_it(services: Services, item_id: str) -> None:
    (judgement,) = (await judge(services, CandidateClaim("vegan", item_id, -0.1))).judgements
    assert judgement == Judgement(0.0, "reject", "catalog")


async def test_contradicted_tag_is_rejected_by_the_graph_with_proof(services: Services) -> None:
    (judgement,) = (await judge(services, claim(VEGAN_BEEF, "BEEF", -0.001))).judgements
    assert (judgement.verdict, judgement.decided_by) == ("reject", "graph")
    (proof,) = judgement.facts
    assert proof.fact.predicate == "conflict"
    assert "claims" in said(proof)


async def test_item_a_person_must_avoid_is_rejected_by_the_graph_with_proof(services: Services) -> None:
    beef = next(services.table.item_ids[row] for row in range(len(services.table)) if services.label_of(row) == "BEEF")
    vegan, anybody = (
        await judge(services, CandidateClaim("strictly vegan", beef, None), CandidateClaim("", beef, None))
    ).judgements
    assert (vegan.verdict, vegan.decided_by) == ("reject", "graph")
    assert "avoids" in {proof.fact.predicate for proof in vegan.facts}
    assert anybody.decided_by == "guardrail"


async def test_reasons_are_contributions_of_the_evidence(services: Services) -> None:
    item = await popular_item(services)
    answer = await judge(services, claim(CHEESE, "CHEESE", -0.5), CandidateClaim("loves cheese", item, -0.5))
    for judgement in answer.judgements:
        assert 0 < len(judgement.reasons) <= 4
        shares = [abs(reason.contribution) for reason in judgement.reasons]
        assert shares == sorted(shares, reverse=True)
        assert 0 <= judgement.probability <= 1


async def test_judgement_of_one_claim_does_not_hang_on_the_others(services: Services) -> None:
    first, second = claim(CHEESE, "CHEESE", -0.1), claim(VEGAN_BEEF, "BEEF")
    together = (await judge(services, first, second)).judgements
    apart = ((await judge(services, first)).judgements[0], (await judge(services, second)).judgements[0])
    assert together == apart


async def test_tag_and_score_agree_on_what_no_llm_proposed(services: Services) -> None:
    """Evidence differs in one thing only: a claim says that an LLM made it."""
    tags = (await ask_tags(services, "Vegan beef strips", "vegan, plant based", max_tags=20)).tags
    vetoed = {one.tag for one in tags if one.decided_by == "graph" and one.verdict == "reject"}
    assert vetoed
    answer = await judge(services, *(claim(VEGAN_BEEF, name) for name in sorted(vetoed)))
    assert {judgement.decided_by for judgement in answer.judgements} == {"graph"}


async def test_no_claims_are_no_judgements(services: Services) -> None:
    assert (await judge(services)).judgements == ()


@pytest.mark.parametrize(
    ("missing", "one", "text"),
    [("tag_judge", claim(CHEESE, "CHEESE"), "tags"), ("cold_judge", CandidateClaim("x", "1", None), "candidates")],
)
async def test_release_without_a_guardrail_says_so(
    services: Services, missing: str, one: TagClaim | CandidateClaim, text: str
) -> None:
    with pytest.raises(NotReady, match=f"no guardrail for {text}"):
        await judge(replace(services, **{missing: None}), one)  # type: ignore[arg-type]


async def test_deadline_that_passed_is_said(services: Services) -> None:
    clock = RequestClock(1)
    time.sleep(0.003)
    with pytest.raises(DeadlineExceeded, match="the next claim"):
        await score(services, ScoreQuery("r", 1, (claim(CHEESE, "CHEESE"),)), clock)
