"""The Review service over a real gRPC server in this process: tags are put up, claimed, decided, learned."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from features.gold import gold
from features.workspace import Workspace
from models.certify import POOLED, Bound, Certificate, CertifyConfig
from models.policy import EVIDENCE
from models.tagging import TagItem
from protos.tandem.v1 import recommender_pb2, review_pb2, review_pb2_grpc, types_pb2
from serving.client import CallFailed, Client
from serving.client import item as described
from serving.clock import RequestClock
from serving.config import ServeConfig
from serving.ingress import Ingress
from serving.messages import Header, ProposedTag, Tagging, TagQuery
from serving.pipeline import review
from serving.review.cases import Wanted, Word
from serving.review.config import ReviewConfig
from serving.review.desk import ReviewDesk
from serving.review.proposals import UNNAMED, proposals
from serving.services import Services
from tests.unit.serving.asking import ask_tags
from tests.unit.serving.replica import served
from tests.unit.serving.review.making import RELEASE, Clock, proposal

CONFIG = ServeConfig(llm=None, review=ReviewConfig(audit_rate=1.0, page=50))


@pytest.fixture(scope="module")
def root(trained_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("review") / "workspace"
    shutil.copytree(trained_workspace.root, copy)
    return copy


@pytest.fixture(scope="module")
def running(root: Path) -> Iterator[tuple[Client, Ingress]]:
    with served(root, CONFIG) as both:
        yield both


@pytest.fixture
def client(running: tuple[Client, Ingress]) -> Client:
    return running[0]


@pytest.fixture
def replica(running: tuple[Client, Ingress]) -> Services:
    return running[1]._services


def stub_of(client: Client) -> Any:
    return review_pb2_grpc.ReviewStub(client.channel)  # type: ignore[no-untyped-call]


def bad_filter(**fields: Any) -> review_pb2.CaseFilter:
    return review_pb2.CaseFilter(**fields)


def refused(code: grpc.StatusCode, message: str) -> pytest.RaisesExc[CallFailed]:
    return pytest.raises(CallFailed, match=message, check=lambda error: error.code is code)


def opened(replica: Services, *ids: str, **fields: Any) -> list[int]:
    """Cases of these items, put up by the desk itself."""
    assert replica.review is not None
    replica.review.queue.put([proposal(name, release=replica.release.id, **fields) for name in ids])
    queue = replica.review.queue
    return [case.id for name in ids for case in queue.page(Wanted(item_id=name), 50).cases]


def resolve(client: Client, number: int, saying: review_pb2.Saying, **fields: Any) -> review_pb2.ResolveReply:
    fields.setdefault("person", "anna")
    return client.resolve(review_pb2.ResolveRequest(case_id=number, saying=saying, **fields))


def cases_of(client: Client, item_id: str) -> list[review_pb2.Case]:
    return list(client.cases(review_pb2.CaseFilter(item_id=item_id)))


# --- put up ----------------------------------------------------------------------------------------------------------


def test_uncertain_tag_is_a_case_with_its_evidence_when_tag_answers(client: Client) -> None:
    product = described("Cheddar cheese block, 8 oz", "Sharp", {"brand": "Farm"}, "new-cheddar")
    reply = client.tag(recommender_pb2.TagRequest(item=product, max_tags=10))
    uncertain = {tag.tag: tag for tag in reply.tags if tag.verdict == types_pb2.VERDICT_REVIEW}
    assert uncertain
    cases = {case.tag: case for case in cases_of(client, "new-cheddar") if case.kind == review_pb2.CASE_KIND_REVIEW}
    assert set(cases) == set(uncertain)
    for name, case in cases.items():
        assert (case.item, case.release, case.state) == (product, reply.release, review_pb2.CASE_STATE_OPEN)
        assert (case.probability, case.evidence) == (uncertain[name].probability, uncertain[name].evidence)
        assert [reason.feature for reason in case.reasons] == [reason.feature for reason in uncertain[name].reasons]
        assert case.unit == "text Cheddar cheese block"
    assert "review" in {stage.name for stage in reply.stages}
    assert not [part for part in reply.degraded if part.stage == "review"]


def test_asking_again_opens_no_second_case(client: Client) -> None:
    product = described("Cheddar cheese block, 8 oz", item_id="asked-again")
    for _ in range(2):
        client.tag(recommender_pb2.TagRequest(item=product, max_tags=10))
    tags = [(case.tag, case.kind) for case in cases_of(client, "asked-again")]
    assert len(tags) == len(set(tags)) > 0


def answer(*tags: ProposedTag) -> Tagging:
    return Tagging(Header("r", "release-1"), tags, abstained=False)


def query(item_id: str = "x", **attributes: str) -> TagQuery:
    return TagQuery("r", 1_000, item_id, TagItem("Oat drink 32 oz", "", attributes), 5)


ACCEPTED = ProposedTag("MILK", 0.99, "accept", ("neighbours",), "guardrail")
IMPLIED = ProposedTag("dairy", 0.99, "accept", ("graph",), "graph")
UNSURE = ProposedTag("SOY", 0.5, "review", ("llm", "name"), "guardrail", ("title", 0, 3), evidence_text="Oat")
REJECTED = ProposedTag("BEEF", 0.01, "reject", ("name",), "guardrail")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ReviewDesk]:
    found = ReviewDesk(tmp_path / "review.db", ReviewConfig(audit_rate=1.0), Clock())
    yield found
    found.close()


def test_accepted_tags_are_audited_and_what_the_graph_derives_or_nobody_accepts_is_not(
    services: Services, desk: ReviewDesk
) -> None:
    found = proposals(services, desk, query(), answer(ACCEPTED, IMPLIED, UNSURE, REJECTED))
    assert [(each.tag, each.kind) for each in found] == [("MILK", "audit"), ("SOY", "review")]
    assert [each.prompt for each in found] == ["", services.prompts["tag"].of("x").id]


def test_unit_is_the_kind_where_it_is_known_and_the_text_elsewhere(services: Services, desk: ReviewDesk) -> None:
    def unit(asked: TagQuery) -> str:
        return proposals(services, desk, asked, answer(UNSURE))[0].unit

    assert unit(query(product_type="OAT DRINKS")) == "kind OAT DRINKS"
    assert unit(query()) == "text Oat drink"
    row = next(row for row, kind in enumerate(services.table.frame["product_type"]) if kind)
    assert unit(query(services.table.item_ids[row])) == f"kind {services.table.frame['product_type'][row]}"


def test_product_without_an_id_gets_cases_only_where_that_is_configured(services: Services, tmp_path: Path) -> None:
    ids = {}
    for unnamed in (False, True):
        desk = ReviewDesk(tmp_path / "review.db", ReviewConfig(unnamed=unnamed))
        ids[unnamed] = [each.item_id for each in proposals(services, desk, query(""), answer(UNSURE))]
        assert ids[unnamed] == [each.item_id for each in proposals(services, desk, query(""), answer(UNSURE))]
        desk.close()
    assert ids[False] == []
    assert ids[True][0].startswith(UNNAMED)


async def test_tag_answers_without_its_cases_where_the_queue_does_not_and_says_so(
    services: Services, tmp_path: Path
) -> None:
    desk = ReviewDesk(tmp_path / "review.db", ReviewConfig())
    desk.queue.close()
    reply = await review.put_up(replace(services, review=desk), query(), answer(UNSURE), RequestClock(1_000))
    assert reply.tags == (UNSURE,)
    (part,) = reply.header.degraded
    assert (part.stage, part.cause) == ("review", "the review queue does not answer; these tags have no cases")


# --- decided ---------------------------------------------------------------------------------------------------------


def test_case_is_claimed_decided_and_becomes_gold(client: Client, replica: Services, root: Path) -> None:
    (number,) = opened(replica, "decided")
    (held,) = client.claim(review_pb2.ClaimRequest(person="anna", case_ids=[number], lease_s=60)).cases
    assert (held.state, held.claimed_by) == (review_pb2.CASE_STATE_CLAIMED, "anna")
    with refused(grpc.StatusCode.FAILED_PRECONDITION, f"case {number} is held by anna"):
        resolve(client, number, review_pb2.SAYING_ACCEPT, person="ben")
    correction = next(label for label in replica.catalog.labels if label != held.tag)
    reply = resolve(client, number, review_pb2.SAYING_CORRECT, correction=correction, reason="read the label")
    (word,) = reply.case.history
    assert (reply.case.state, word.correction, word.reason) == (
        review_pb2.CASE_STATE_RESOLVED,
        correction,
        "read the label",
    )
    said = gold(Workspace(root))
    assert said.filter(item_id="decided").select("label", "right", "person").rows() == [
        (held.tag, False, "anna"),
        (correction, True, "anna"),
    ]


def test_next_cases_are_claimed_by_filter_and_released(client: Client, replica: Services) -> None:
    numbers = opened(replica, "next-1", "next-2", "next-3", group="SHELF")
    request = review_pb2.ClaimRequest(person="anna", filter=review_pb2.CaseFilter(group="SHELF"), count=2)
    held = [case.case_id for case in client.claim(request).cases]
    assert held == numbers[:2]
    assert [case.case_id for case in client.claim(request).cases] == numbers[2:]
    assert not client.claim(request).cases
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "held by anna"):
        client.release_case(held[0], "ben")
    assert client.release_case(held[0], "anna").released
    assert not client.release_case(held[0], "anna").released
    assert [case.case_id for case in client.claim(request).cases] == held[:1]


def test_decided_case_is_overruled_and_keeps_both_words(client: Client, replica: Services) -> None:
    (number,) = opened(replica, "overruled")
    resolve(client, number, review_pb2.SAYING_ACCEPT)
    assert resolve(client, number, review_pb2.SAYING_ACCEPT).unchanged
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "was decided by anna: accept"):
        resolve(client, number, review_pb2.SAYING_REJECT, person="ben")
    reply = resolve(client, number, review_pb2.SAYING_REJECT, person="ben", overrule=True)
    assert [word.person for word in reply.case.history] == ["anna", "ben"]


def test_correction_must_be_another_tag_of_the_taxonomy(client: Client, replica: Services) -> None:
    (number,) = opened(replica, "corrected", tag=replica.catalog.labels[0])
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "no tag of the taxonomy; did you mean"):
        resolve(client, number, review_pb2.SAYING_CORRECT, correction=f"{replica.catalog.labels[1]}X")
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "accept the case instead"):
        resolve(client, number, review_pb2.SAYING_CORRECT, correction=replica.catalog.labels[0])
    assert cases_of(client, "corrected")[0].state == review_pb2.CASE_STATE_OPEN


def test_pages_hold_every_case_once(client: Client, replica: Services) -> None:
    numbers = opened(replica, *(f"paged-{n}" for n in range(7)), group="PAGES")
    wanted = review_pb2.CaseFilter(group="PAGES", order=review_pb2.CASE_ORDER_OLDEST)
    assert [case.case_id for case in client.cases(wanted, page_size=3)] == numbers
    assert client.list_cases(review_pb2.ListCasesRequest(filter=wanted, page_size=3)).total == 7


# --- audited ---------------------------------------------------------------------------------------------------------


def test_broken_group_is_switched_seen_by_another_replica_and_reset_by_a_person(
    client: Client, replica: Services, root: Path
) -> None:
    ids = [f"audited-{n}" for n in range(5)]
    numbers = [opened(replica, name, kind="audit", group="SWITCHED", unit=name)[0] for name in ids]
    switched = [resolve(client, number, review_pb2.SAYING_REJECT).switched for number in numbers]
    assert [group for group in switched if group] == ["SWITCHED"]
    assert replica.review is not None
    assert replica.policy is not None
    assert replica.policy.review_only("SWITCHED")
    ticks = Clock()
    other = ReviewDesk(Workspace(root).review, CONFIG.review, ticks=ticks)
    assert other.review_only("SWITCHED")
    reply = client.audit()
    (figures,) = [each for each in reply.groups if each.group == "SWITCHED"]
    assert (figures.audited, figures.wrong, figures.standing, figures.switched.person) == (5, 5, "broken", "audit")
    assert (reply.rate, reply.confidence) == (1.0, 0.95)
    assert client.reset_group("SWITCHED", "anna", "retrained").group == "SWITCHED"
    ticks.now += 1
    assert not replica.review.review_only("SWITCHED")
    assert not other.review_only("SWITCHED")
    other.close()
    with refused(grpc.StatusCode.NOT_FOUND, "group 'SWITCHED' is not switched"):
        client.reset_group("SWITCHED", "anna", "again")


async def test_tag_of_a_switched_group_is_reviewed_until_a_person_resets_it(
    services: Services, desk: ReviewDesk
) -> None:
    assert services.policy is not None
    accepting = Certificate(CertifyConfig(), {POOLED: Bound(0.0, 900, 900, 0, 0.99)})
    policy = replace(services.policy, certificates=dict.fromkeys(EVIDENCE, accepting), review_only=desk.review_only)
    lenient = replace(services, policy=policy, review=desk)

    async def verdict() -> tuple[str, str]:
        best = (await ask_tags(lenient, "Bananas", max_tags=7)).tags[0]
        assert best.warrant is not None
        return best.verdict, best.warrant.group

    accepted, group = await verdict()
    assert accepted == "accept"
    for number in range(1, 6):
        desk.queue.put([proposal(str(number), kind="audit", group=group, unit=str(number))])
        desk.resolve(number, Word("reject", "anna", 1.0), RELEASE)
    assert await verdict() == ("review", group)
    desk.reset(group, "anna", "retrained")
    assert await verdict() == ("accept", group)


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "request_", "message"),
    [
        ("ListCases", review_pb2.ListCasesRequest(page_size=51), "page_size is 51; at most 50"),
        ("ListCases", review_pb2.ListCasesRequest(page_token="nonsense"), "page_token is none"),
        (
            "ListCases",
            review_pb2.ListCasesRequest(filter=bad_filter(kind=9)),
            "filter.kind is 9; give one of review, audit",
        ),
        ("ListCases", review_pb2.ListCasesRequest(filter=bad_filter(order=9)), "filter.order is 9"),
        ("ListCases", review_pb2.ListCasesRequest(filter=bad_filter(group="x" * 257)), "257 characters; at most 256"),
        ("Claim", review_pb2.ClaimRequest(case_ids=[1]), "person is empty"),
        ("Claim", review_pb2.ClaimRequest(person="a", case_ids=[0]), "case_ids is 0; give the number"),
        ("Claim", review_pb2.ClaimRequest(person="a", case_ids=[1], count=2), "name cases, or say how many"),
        ("Claim", review_pb2.ClaimRequest(person="a", count=51), "51 cases; at most 50"),
        ("Claim", review_pb2.ClaimRequest(person="a", lease_s=float("nan")), "lease_s is nan"),
        ("Claim", review_pb2.ClaimRequest(person="a", lease_s=1e9), "give up to 86400 seconds"),
        ("Claim", review_pb2.ClaimRequest(person="a", filter=bad_filter(state=3)), "only open ones can be claimed"),
        ("Resolve", review_pb2.ResolveRequest(case_id=1, person="a"), "saying is not set"),
        (
            "Resolve",
            review_pb2.ResolveRequest(case_id=1, person="a", saying=review_pb2.SAYING_CORRECT),
            "give it to correct, and only",
        ),
        (
            "Resolve",
            review_pb2.ResolveRequest(case_id=1, person="a", saying=review_pb2.SAYING_ACCEPT, correction="x"),
            "and only then",
        ),
        ("Resolve", review_pb2.ResolveRequest(case_id=1, person="a\0", saying=review_pb2.SAYING_ACCEPT), "NUL"),
        (
            "Resolve",
            review_pb2.ResolveRequest(case_id=2**63, person="a", saying=review_pb2.SAYING_ACCEPT),
            "case_id is 9223372036854775808",
        ),
        ("Release", review_pb2.ReleaseRequest(case_id=1, person=" "), "person is empty"),
        ("Reset", review_pb2.ResetRequest(group="x", person="a"), "say why the group may accept again"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_remedy(
    client: Client, method: str, request_: Any, message: str
) -> None:
    with pytest.raises(grpc.RpcError) as error:
        getattr(stub_of(client), method)(request_, metadata=client._metadata)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in error.value.details()


@pytest.mark.parametrize("saying", [review_pb2.SAYING_ACCEPT, review_pb2.SAYING_CORRECT])
def test_unknown_case_is_not_found(client: Client, saying: review_pb2.Saying) -> None:
    correction = "MILK" if saying == review_pb2.SAYING_CORRECT else ""
    with refused(grpc.StatusCode.NOT_FOUND, "there is no case 999999"):
        resolve(client, 999_999, saying, correction=correction)


# --- like every other service ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ListCases", "Claim", "Resolve", "Release", "Audit", "Reset"])
def test_every_call_needs_the_key(client: Client, method: str) -> None:
    with pytest.raises(grpc.RpcError) as error:
        getattr(stub_of(client), method)(getattr(review_pb2, f"{method}Request")())
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_health_and_reflection_know_the_service(client: Client) -> None:
    assert client.serving("tandem.v1.Review")
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol="tandem.v1.Review")
    (reply,) = stub.ServerReflectionInfo(iter([request]), metadata=client._metadata)
    assert any(b"tandem/v1/review.proto" in each for each in reply.file_descriptor_response.file_descriptor_proto)


def test_no_two_services_have_a_method_of_one_name() -> None:
    """Ray hands a call to the ingress by the method's name alone."""
    from google.protobuf.descriptor_pool import Default
    from grpc_health.v1 import health_pb2
    from grpc_reflection.v1alpha import reflection_pb2 as reflected

    from serving.ingress import SERVICES

    assert health_pb2.DESCRIPTOR.name
    assert reflected.DESCRIPTOR.name
    names = [
        method.name
        for service in (*SERVICES, "grpc.reflection.v1alpha.ServerReflection")
        for method in Default().FindServiceByName(service).methods
    ]
    assert len(names) == len(set(names))
