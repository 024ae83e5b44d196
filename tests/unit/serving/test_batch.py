"""Answers of the service as rows of a batch job: nothing that was asked is left out."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from models.certify import Bound
from models.policy import Warrant
from serving.batch import RECOMMENDATIONS, TAGS, recommendation_rows, tag_rows
from serving.messages import Degradation, Header, ProposedTag, Recommendation, Tagging

HEADER = Header("", "r-0123456789ab", degraded=(Degradation("llm", "no LLM is configured"),))
REJECTED = ProposedTag("PIES", 0.05, "reject", ("neighbours",), "guardrail", ("title", 0, 3), evidence_text="Pie")


def test_an_abstained_product_keeps_its_rejected_tags_and_is_marked() -> None:
    frame = pl.DataFrame(tag_rows(7, "x", Tagging(HEADER, (REJECTED, REJECTED), True), False), schema=dict(TAGS))
    assert frame["abstained"].to_list() == [True, True]
    assert frame["rank"].to_list() == [1, 2]
    assert frame.select("row", "evidence_field", "evidence_end", "evidence_text").row(0) == (7, "title", 3, "Pie")


def test_a_verdict_comes_with_the_certificate_it_rests_on() -> None:
    bound = Bound(0.9, 70, 60, 1, 0.925)
    warrant = Warrant("FOOD", "(pooled)", "known words", 0.93, 0.95, 0.95, bound, "below the threshold")
    vetoed, sent = REJECTED, replace(REJECTED, verdict="review", warrant=warrant)
    frame = pl.DataFrame(tag_rows(7, "x", Tagging(HEADER, (sent, vetoed), False), False), schema=dict(TAGS))
    first, second = frame["certificate"].to_list()
    assert second is None or set(second.values()) == {None}
    assert first == {
        "group": "FOOD",
        "certified": "(pooled)",
        "evidence": "known words",
        "score": 0.93,
        "threshold": 0.9,
        "precision": 0.95,
        "confidence": 0.95,
        "units": 70,
        "accepted": 60,
        "wrong": 1,
        "lower_bound": 0.925,
        "reason": "below the threshold",
    }


def test_a_product_or_user_nothing_is_proposed_for_has_one_row() -> None:
    tags = pl.DataFrame(tag_rows(7, "x", Tagging(HEADER, (), True), False), schema=dict(TAGS))
    assert tags.select("row", "item_id", "abstained", "rank", "tag").rows() == [(7, "x", True, 0, None)]
    nothing = Recommendation(HEADER, (), "cold_popular", (), (), "no items", 5)
    users = pl.DataFrame(recommendation_rows(7, "u", nothing), schema=dict(RECOMMENDATIONS))
    assert users.select("row", "user_id", "rank", "item_id", "as_of").rows() == [(7, "u", 0, None, 5)]


def test_the_llm_is_missed_only_where_it_was_asked_for() -> None:
    answer = Tagging(HEADER, (REJECTED,), True)
    assert tag_rows(0, "x", answer, with_llm=False)[0]["degraded"] == []
    assert tag_rows(0, "x", answer, with_llm=True)[0]["degraded"] == ["llm: no LLM is configured"]
