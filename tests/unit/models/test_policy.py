"""What may be accepted: only under a certificate, only the likeliest, never where a group was switched to review."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.certify import POOLED, Bound, Certificate, CertifyConfig, certify, lower_bound
from models.errors import ArtifactMismatch
from models.policy import EVIDENCE, MANIFEST_KEY, Evidence, TagPolicy, least_units, likeliest, start_of

CONFIG = CertifyConfig()
DAIRY = Bound(0.9, 400, 300, 5, 0.965)
POOL = Bound(0.8, 400, 350, 8, 0.96)
KNOWN: Evidence = "known words"


def policy(**bounds: Bound) -> TagPolicy:
    certificate = Certificate(CONFIG, {POOLED: POOL, "DAIRY": DAIRY, **bounds})
    groups = {"CHEESE": "DAIRY", "WINE": "SPIRITS", "MILK": "DAIRY"}
    return TagPolicy(dict.fromkeys(EVIDENCE, certificate), groups, ("brand", "maker"), 0.1)


@pytest.mark.parametrize(
    ("label", "score", "best", "verdict", "certified"),
    [
        ("CHEESE", 0.9, True, "accept", "DAIRY"),
        ("CHEESE", float(np.nextafter(0.9, 0)), True, "review", "DAIRY"),
        ("CHEESE", 0.99, False, "review", "DAIRY"),
        ("WINE", 0.85, True, "accept", POOLED),
        ("WINE", 0.79, True, "review", POOLED),
        ("WINE", float("nan"), True, "review", POOLED),
        ("CHEESE", 0.05, True, "reject", "DAIRY"),
        ("of no group", 0.85, True, "accept", POOLED),
    ],
)
def test_verdict_rests_on_the_threshold_of_the_tag_s_group(
    label: str, score: float, best: bool, verdict: str, certified: str
) -> None:
    probability = 0.5 if np.isnan(score) else score
    found, warrant = policy().verdict(label, probability, score, best, KNOWN)
    assert (found, warrant.certified) == (verdict, certified)
    assert (warrant.reason == "") == (verdict == "accept")
    assert warrant.precision == CONFIG.precision


def test_what_an_llm_makes_of_the_probability_accepts_nothing() -> None:
    """By all evidence nearly certain, by what the certificate is about not enough: people look at it."""
    verdict, warrant = policy().verdict("CHEESE", 0.999, 0.7, True, KNOWN)
    assert verdict == "review"
    assert "scores 0.7000; DAIRY accepts from 0.9000 on" in warrant.reason


def test_group_without_enough_gold_cannot_accept_and_says_so() -> None:
    certificate = certify(np.ones(58), np.ones(58, bool), CONFIG)
    few = replace(policy(), certificates=dict.fromkeys(EVIDENCE, certificate))
    verdict, warrant = few.verdict("WINE", 1.0, 1.0, True, KNOWN)
    assert verdict == "review"
    assert warrant.threshold == inf
    assert "58 gold units: 59 without an error are the least for 95%" in warrant.reason
    assert "small groups share" in warrant.reason


def test_switched_group_goes_to_review_at_once_and_back() -> None:
    switched: set[str] = set()
    audited = replace(policy(), review_only=switched.__contains__)
    assert audited.verdict("CHEESE", 0.95, 0.95, True, KNOWN)[0] == "accept"
    switched.add("DAIRY")
    verdict, warrant = audited.verdict("CHEESE", 0.95, 0.95, True, KNOWN)
    assert verdict == "review"
    assert "DAIRY is switched to review" in warrant.reason
    assert audited.verdict("WINE", 0.95, 0.95, True, KNOWN)[0] == "accept"
    switched.clear()
    assert audited.verdict("CHEESE", 0.95, 0.95, True, KNOWN)[0] == "accept"


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=20))
def test_likeliest_is_the_best_that_nothing_contradicts(labels: list[tuple[float, bool]]) -> None:
    probability, vetoed = np.array([p for p, _ in labels]), np.array([v for _, v in labels], bool)
    at = likeliest(probability, vetoed)
    left = [p for p, v in labels if not v]
    assert (at == -1) if not left else (not vetoed[at] and probability[at] == max(left))


def test_evidence_is_told_by_what_the_item_names_and_whether_its_words_are_known() -> None:
    both, one = {"brand": 1, "maker": 0, "size": -1}, {"brand": 1, "maker": -1}
    assert policy().evidence(True, both) == "known words and attributes"
    assert policy().evidence(True, one) == "known words"
    assert policy().evidence(False, both) == "new words and attributes"
    assert policy().evidence(False, {}) == "new words"
    assert replace(policy(), required=()).evidence(True, both) == "known words"


@pytest.mark.parametrize(("probability", "verdict"), [(1.0, "review"), (0.1, "review"), (0.05, "reject")])
def test_label_without_gold_is_never_accepted_and_says_so(probability: float, verdict: str) -> None:
    fresh = replace(policy(), unseen=frozenset({"OAT DRINKS"}))
    found, warrant = fresh.verdict("OAT DRINKS", probability, probability, True, KNOWN)
    assert found == verdict
    assert "no item of the catalog was OAT DRINKS in training" in warrant.reason
    assert fresh.verdict("WINE", 1.0, 1.0, True, KNOWN)[0] == "accept"


def test_certificates_of_before_there_were_vocabularies_are_read() -> None:
    value = policy().to_dict()
    del value["unseen"]
    assert TagPolicy.from_manifest({MANIFEST_KEY: value}).unseen == frozenset()


def test_policy_comes_back_from_its_manifest_as_it_was() -> None:
    before = policy(SPIRITS=Bound(inf, 12, 3, 1, 0.1, "12 gold units: 59 without an error are the least for 95%"))
    before = replace(before, unseen=frozenset({"OAT DRINKS"}))
    after = TagPolicy.from_manifest(json.loads(json.dumps({MANIFEST_KEY: before.to_dict()})))
    assert after.to_dict() == before.to_dict()
    assert (after.certificates, after.unseen) == (before.certificates, before.unseen)


@pytest.mark.parametrize("manifest", [{}, {MANIFEST_KEY: {}}, {MANIFEST_KEY: {"certificates": {}}}, {MANIFEST_KEY: 7}])
def test_guardrail_without_a_readable_certificate_is_refused(manifest: dict[str, object]) -> None:
    with pytest.raises(ArtifactMismatch, match="Run: tandem train"):
        TagPolicy.from_manifest(manifest)


def test_edited_threshold_is_refused() -> None:
    value = policy().to_dict()
    value["certificates"][KNOWN]["bounds"]["DAIRY"]["wrong"] = 30
    with pytest.raises(ArtifactMismatch, match=r"'DAIRY' accepts from 0\.9 on, but 30 wrong of 300"):
        TagPolicy.from_manifest({MANIFEST_KEY: value})


@pytest.mark.parametrize(("errors", "units"), [(0, 59), (1, 93), (2, 124), (3, 153)])
def test_least_units_show_the_precision_and_one_fewer_do_not(errors: int, units: int) -> None:
    assert least_units(errors, 0.95, 0.95) == units
    assert float(lower_bound(units, errors, 0.95)) >= 0.95 > float(lower_bound(units - 1, errors, 0.95))


def test_test_starts_where_most_of_what_may_be_expected_is_accepted() -> None:
    """A thousand units, right down to .6: half of those above it reach the start."""
    scores = np.linspace(1.0, 0.0, 1_001)
    start = start_of(scores, scores >= 0.6, 1_000, CONFIG)
    assert start == pytest.approx(1.0 - 0.5 * 0.42, abs=0.02)


def test_start_leaves_room_for_mistakes_and_stays_on_the_grid() -> None:
    scores = np.linspace(1.0, 0.0, 1_001)
    assert start_of(scores, np.zeros(1_001, bool), 1_000, CONFIG) == pytest.approx(1.0 - 0.153, abs=0.002)
    assert start_of(scores, np.zeros(1_001, bool), 10, CONFIG) == CONFIG.stop
    assert start_of(np.empty(0), np.empty(0, bool), 10, CONFIG) == CONFIG.start
