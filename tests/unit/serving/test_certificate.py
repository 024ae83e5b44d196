"""Tag and Score under a certificate: what is accepted, what is not, and that the reply says by what right."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf

import numpy as np
import pytest

from graph import ontology
from graph.items import item_facts
from graph.ports import Fact
from graph.tags import judge_tags
from models.certify import POOLED, Bound, Certificate, CertifyConfig
from models.policy import EVIDENCE, MANIFEST_KEY, TagPolicy
from models.tagging import TagItem
from serving import codec
from serving.messages import TagClaim
from serving.pipeline.verdicts import Considered, decide
from serving.services import Services
from tests.fakes import FakeLLM
from tests.unit.serving.asking import ask_tags, choosing, judge, with_llm

DIETS = ("vegan", "vegetarian")


def accepting(services: Services, threshold: float = 0.0, **groups: Bound) -> Services:
    assert services.policy is not None
    bound = Bound(threshold, 200, 150, 1, 0.968)
    certificate = Certificate(CertifyConfig(), {POOLED: bound, **groups})
    return replace(services, policy=replace(services.policy, certificates=dict.fromkeys(EVIDENCE, certificate)))


def test_release_holds_its_certificates_under_its_hash(services: Services) -> None:
    """In the guardrail's manifest, which names the release; with a figure for every group."""
    assert services.tag_judge is not None
    assert services.policy is not None
    manifest = services.tag_judge.facts
    assert TagPolicy.from_manifest(manifest).to_dict() == services.policy.to_dict()
    for evidence in EVIDENCE:
        bounds = manifest[MANIFEST_KEY]["certificates"][evidence]["bounds"]
        assert bounds[POOLED]["units"] > 0
        assert manifest["gold"][evidence]["units"] == sum(bound["units"] for bound in bounds.values())
        assert {"certified", "units", "accepted", "wrong"} == set(manifest["gold"][evidence]["groups"]["GROCERY"])


async def test_accepted_tag_carries_its_certificate_and_so_does_what_it_implies(services: Services) -> None:
    own = Bound(0.01, 320, 300, 4, 0.97)
    answer = await ask_tags(accepting(services, inf, PRODUCE=own), "Bananas")
    first = answer.tags[0]
    assert (first.tag, first.verdict) == ("TROPICAL FRUIT", "accept")
    assert first.warrant is not None
    assert (first.warrant.group, first.warrant.certified, first.warrant.bound) == ("PRODUCE", "PRODUCE", own)
    assert first.warrant.evidence in EVIDENCE
    implied = [one for one in answer.tags if one.sources == ("graph",)]
    assert implied
    assert all(one.warrant == first.warrant and one.probability == first.probability for one in implied)
    (sent, *_) = codec.tag_reply(answer).tags
    assert (sent.certificate.group, sent.certificate.accepted, sent.certificate.wrong) == ("PRODUCE", 300, 4)
    assert (sent.certificate.precision, sent.certificate.confidence, sent.certificate.reason) == (0.95, 0.95, "")


async def test_group_that_the_audit_switched_is_reviewed_at_once_by_tag_and_score(services: Services) -> None:
    switched: set[str] = set()
    sure = accepting(services)
    assert sure.policy is not None
    sure = replace(sure, policy=replace(sure.policy, review_only=switched.__contains__))
    claim = TagClaim("", TagItem("Bananas"), "TROPICAL FRUIT", -0.1)
    for verdict in ("accept", "review", "accept"):
        tags = (await ask_tags(sure, "Bananas")).tags
        (judgement,) = (await judge(sure, claim)).judgements
        assert (tags[0].verdict, judgement.verdict) == (verdict, verdict)
        assert any(one.sources == ("graph",) for one in tags) == (verdict == "accept")
        switched ^= {"PRODUCE"}


async def test_llm_moves_probabilities_and_accepts_nothing(services: Services) -> None:
    """An LLM that names another tag with certainty: trees accept what they accept without it, by the same score."""
    sure = accepting(services)
    plain = await ask_tags(sure, "Sharp cheddar cheese", max_tags=20)
    (accepted,) = [one for one in plain.tags if one.verdict == "accept" and one.sources != ("graph",)]
    other = next(one.tag for one in plain.tags if one.tag != accepted.tag and one.sources != ("graph",))
    llm = FakeLLM(choosing(lambda offered: [other] if other in offered else offered[-1:]), logprob=-1e-6)
    answer = await ask_tags(with_llm(sure, llm.generate), "Sharp cheddar cheese", max_tags=1)
    (with_it,) = [one for one in answer.tags if one.verdict == "accept" and one.sources != ("graph",)]
    assert accepted.warrant is not None
    assert with_it.warrant is not None
    assert with_it.tag == accepted.tag
    assert with_it.warrant.score == pytest.approx(accepted.warrant.score)


async def test_score_accepts_what_tag_accepts_and_nothing_else(services: Services) -> None:
    sure = accepting(services)
    item = TagItem("Sharp cheddar cheese")
    tags = [one for one in (await ask_tags(sure, item.title, max_tags=20)).tags if one.sources != ("graph",)]
    answer = await judge(sure, *(TagClaim("", item, one.tag, -1e-6) for one in tags))
    for one, judgement in zip(tags, answer.judgements):
        assert (judgement.verdict == "accept") == (one.verdict == "accept")
        assert judgement.warrant is None or one.warrant is None or judgement.warrant.score == one.warrant.score


def diet_or_none(rng: np.random.Generator, words: list[str], categories: list[str]) -> dict[str, str | None]:
    title = " ".join(rng.choice(words, rng.integers(1, 5)))
    view: dict[str, str | None] = {"title": f"{title} {rng.choice([*DIETS, ''])}".strip(), "text": None}
    if rng.random() < 0.6:
        view["category"] = str(rng.choice(categories))
    if rng.random() < 0.3:
        view["product_type"] = str(rng.choice(words)).upper()
    return view


def test_a_diet_is_never_accepted_against_a_derived_fact(services: Services) -> None:
    """Two thousand random products under the real rules, a guardrail that is certain of everything.

    Whatever the graph derives the product to contain, or cannot rule out, of what the diet excludes: no ACCEPT.
    """
    grocery = ontology.load("grocery")
    excluded = {diet: {f.args[1] for f in grocery.query(Fact("diet_excludes", (diet, "?x")))} for diet in DIETS}
    words = [fact.args[0] for fact in grocery.query(Fact("term", ("?term",)))]
    categories = [fact.args[0] for fact in grocery.query(Fact("category_kind", ("?category", "?kind")))]
    policy = accepting(services).policy
    assert policy is not None
    rng = np.random.default_rng(5)
    sure, nothing = np.ones(1), np.empty((1, 0), np.float32)
    against = accepted = 0
    for number in range(2_000):
        view, diet = diet_or_none(rng, words, categories), DIETS[number % 2]
        judged = judge_tags(grocery, "p", view, [diet], "llm")
        item = Considered((0,), (diet,), judged, EVIDENCE[0], nothing, nothing, frozenset((0,)))
        # As a catalog's label, and as one of a label set.
        (decision,) = decide(replace(policy, several=number % 4 >= 2), item, sure, sure)
        if number % 3 == 0 or decision.verdict == "accept":
            product = grocery.extend(item_facts(grocery, "p", view), "test")
            found = {
                fact.args[1] for name in ("contains", "may_contain") for fact in product.query(Fact(name, ("p", "?x")))
            }
            if found & excluded[diet]:
                against += 1
                assert decision.verdict != "accept", view
                assert decision.facts, "what speaks against it is proven"
            else:
                accepted += decision.verdict == "accept"
    assert against > 200
    assert accepted > 200


def test_policy_survives_json_as_a_manifest_is_json(services: Services) -> None:
    assert services.policy is not None
    text = json.dumps({MANIFEST_KEY: services.policy.to_dict()})
    assert TagPolicy.from_manifest(json.loads(text)).certificates == services.policy.certificates
