"""Bounds of requests: what is out of one is refused by name, and nothing else is ever raised."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st

from features.history import EVENT_KINDS
from graph.ports import Fact, Proof
from models.ports import Contribution
from protos.tandem.v1 import ensemble_pb2, recommender_pb2, types_pb2
from serving import codec
from serving.codec import Codec
from serving.config import Limits
from serving.errors import InvalidRequest
from serving.messages import (
    CandidateClaim,
    Degradation,
    Header,
    Judged,
    Judgement,
    ProposedTag,
    Recommendation,
    RecommendedItem,
    ScoreQuery,
    Scoring,
    Stage,
    TagClaim,
    Tagging,
    Usage,
)
from serving.pipeline.record import RecordedEvents

LIMITS = Limits(
    items=3,
    title_length=60,
    k=50,
    id_length=20,
    text_length=100,
    list_length=3,
    events=4,
    max_tags=7,
    deadline_ms=1_000,
)
NOW, WALL = 1_500_000_000, 1_600_000_000
CODEC = Codec(LIMITS, default_deadline_ms=250, wall=lambda: WALL)
DAY = "2017-07-14"

Recommend = recommender_pb2.RecommendRequest
Constraints = recommender_pb2.Constraints
Item = types_pb2.Item
Event = recommender_pb2.Event


def tag_request(**fields: object) -> recommender_pb2.TagRequest:
    return recommender_pb2.TagRequest(item=Item(**fields))  # type: ignore[arg-type]


def events(*some: recommender_pb2.Event) -> recommender_pb2.RecordEventsRequest:
    return recommender_pb2.RecordEventsRequest(events=some)


def event(**fields: object) -> recommender_pb2.Event:
    return Event(**{"user_id": "u", "item_id": "i", **fields})  # type: ignore[arg-type]


def upserts(*some: types_pb2.Item) -> recommender_pb2.UpsertItemsRequest:
    return recommender_pb2.UpsertItemsRequest(items=some)


def claims(*some: ensemble_pb2.Claim) -> ensemble_pb2.ScoreRequest:
    return ensemble_pb2.ScoreRequest(claims=some)


def claim(llm_logprob: float | None = None, **fields: object) -> ensemble_pb2.Claim:
    return ensemble_pb2.Claim(tag=ensemble_pb2.TagClaim(**fields), llm_logprob=llm_logprob)  # type: ignore[arg-type]


def candidate(profile_text: str, item_id: str = "i") -> ensemble_pb2.Claim:
    return ensemble_pb2.Claim(candidate=ensemble_pb2.CandidateClaim(profile_text=profile_text, item_id=item_id))


def read(request: Message) -> object:
    match request:
        case recommender_pb2.RecommendRequest():
            return CODEC.recommend_query(request)
        case recommender_pb2.TagRequest():
            return CODEC.tag_query(request)
        case ensemble_pb2.ScoreRequest():
            return CODEC.score_query(request)
        case recommender_pb2.RecordEventsRequest():
            return CODEC.events(request, NOW)
        case recommender_pb2.UpsertItemsRequest():
            return CODEC.catalog_items(request)
    raise TypeError(type(request).__name__)


LONG, TEXT = "x" * 21, "x" * 101
REFUSED: list[tuple[Message, str]] = [
    (Recommend(k=51), "k is 51; at most 50"),
    (Recommend(deadline_ms=1_001), "deadline_ms is 1001; at most 1000"),
    (Recommend(request_id=LONG), "request_id has 21 characters; at most 20"),
    (Recommend(user_id=LONG), "user_id has 21 characters"),
    (Recommend(user_id="a\0b"), "user_id holds a NUL character"),
    (Recommend(profile_text=TEXT), "profile_text has 101 characters; at most 100"),
    (Recommend(profile_text="\0"), "profile_text holds a NUL character"),
    (Recommend(constraints=Constraints(avoid=list("abcd"))), "constraints.avoid has 4 entries; at most 3"),
    (Recommend(constraints=Constraints(require=list("abcd"))), "constraints.require has 4 entries"),
    (Recommend(constraints=Constraints(exclude_items=list("abcd"))), "constraints.exclude_items has 4 entries"),
    (Recommend(constraints=Constraints(avoid=["a", LONG])), r"constraints.avoid\[1\] has 21 characters"),
    (Recommend(constraints=Constraints(exclude_items=["\0"])), r"constraints.exclude_items\[0\] holds a NUL"),
    (Recommend(at=1), "at is 1; give seconds since 1970 between the years 1990 and 2100"),
    (Recommend(at=-1), "at is -1"),
    (Recommend(at=4_102_444_801), "at is 4102444801"),
    (Recommend(at=2**62), "at is "),
    (recommender_pb2.TagRequest(max_tags=8), "max_tags is 8; at most 7"),
    (recommender_pb2.TagRequest(deadline_ms=1_001), "deadline_ms is 1001"),
    (tag_request(item_id=LONG), "item.item_id has 21 characters"),
    (tag_request(title=TEXT), "item.title has 101 characters"),
    (tag_request(title="a\0"), "item.title holds a NUL"),
    (tag_request(text=TEXT), "item.text has 101 characters"),
    (tag_request(attributes=dict.fromkeys("abcd", "x")), "item.attributes has 4 entries; at most 3"),
    (tag_request(attributes={LONG: "x"}), "item.attributes has 21 characters"),
    (tag_request(attributes={"brand": TEXT}), r"item.attributes\[brand\] has 101 characters"),
    (tag_request(attributes={"brand": "\0"}), r"item.attributes\[brand\] holds a NUL"),
    (claims(*[claim(tag="x")] * 4), "4 claims; at most 3"),
    (claims(ensemble_pb2.Claim()), r"claims\[0\] claims nothing; set tag or candidate"),
    (claims(claim(tag="x"), claim(tag=LONG)), r"claims\[1\].tag.tag has 21 characters"),
    (claims(claim(item=Item(title=TEXT))), r"claims\[0\].tag.item.title has 101 characters"),
    (claims(candidate(TEXT)), r"claims\[0\].candidate.profile_text has 101"),
    (claims(candidate("x", LONG)), r"claims\[0\].candidate.item_id has 21"),
    (claims(claim(llm_logprob=0.1, tag="x")), r"claims\[0\].llm_logprob is 0.1"),
    (claims(claim(llm_logprob=math.nan, tag="x")), r"claims\[0\].llm_logprob is nan"),
    (claims(claim(llm_logprob=-math.inf, tag="x")), r"claims\[0\].llm_logprob is -inf"),
    (ensemble_pb2.ScoreRequest(deadline_ms=1_001), "deadline_ms is 1001"),
    (ensemble_pb2.ScoreRequest(request_id="\0"), "request_id holds a NUL"),
    (events(), "events is empty"),
    (events(*[event()] * 5), "5 events; at most 4"),
    (events(event(), event(user_id="")), r"events\[1\] lacks user_id"),
    (events(event(item_id="")), r"events\[0\] lacks item_id"),
    (events(event(user_id=LONG)), r"events\[0\].user_id has 21"),
    (events(event(item_id="\0")), r"events\[0\].item_id holds a NUL"),
    (events(event(event_id=LONG)), r"events\[0\].event_id has 21"),
    (events(event(session_id=LONG)), r"events\[0\].session_id has 21"),
    (events(event(kind="steal")), r"events\[0\].kind is 'steal'; kinds are purchase"),
    (events(event(value=math.nan)), r"events\[0\].value is nan"),
    (events(event(value=math.inf)), r"events\[0\].value is inf"),
    (events(event(value=-math.inf)), r"events\[0\].value is -inf"),
    (events(event(value=1.1e9)), r"events\[0\].value is 1100000000.0"),
    (events(event(price=math.nan)), r"events\[0\].price is nan"),
    (events(event(price=-0.01)), r"events\[0\].price is -0.01"),
    (events(event(price=1.1e9)), r"events\[0\].price is 1100000000.0"),
    (events(event(price=1e-60)), r"events\[0\].price is 1e-60; give a number from 1e-09 to a billion, 0 for none"),
    (
        events(event(), event(timestamp=4_000_000_000)),
        r"events\[1\].timestamp is 4000000000 \(2096-10-02 07:06 UTC\), more than a day after now, 1600000000 \(2020-",
    ),
    (events(event(place="x" * 21)), r"events\[0\].place"),
    (Recommend(place="x" * 21), "place"),
    (events(event(timestamp=1)), r"events\[0\].timestamp is 1"),
    (events(event(timestamp=-NOW)), r"events\[0\].timestamp is -"),
    (events(event(timestamp=NOW * 1_000)), r"events\[0\].timestamp is 1500000000000"),
    (upserts(), "items is empty; send at least one"),
    (upserts(*[Item(item_id=f"{n}", title="x") for n in range(4)]), "4 items; at most 3"),
    (upserts(Item(item_id="a", title="x"), Item(title="x")), r"items\[1\].item_id is ''; give the catalog's id"),
    (upserts(Item(item_id=" ", title="x")), r"items\[0\].item_id is ' '"),
    (upserts(Item(item_id="a ", title="x")), r"items\[0\].item_id is 'a '; .*without blanks"),
    (upserts(Item(item_id=LONG, title="x")), r"items\[0\].item_id has 21 characters"),
    (upserts(Item(item_id="a\0", title="x")), r"items\[0\].item_id holds a NUL"),
    (upserts(Item(item_id="a", title=" ")), r"items\[0\].title of item 'a' is empty; give the product's name"),
    (upserts(Item(item_id="a", title="x" * 61)), r"title of item 'a' has 61 characters; at most 60 .* goes into text"),
    (upserts(Item(item_id="a", title="x", text=TEXT)), r"items\[0\].text has 101 characters"),
    (upserts(Item(item_id="a", title="x", attributes=dict.fromkeys("abcd", "x"))), "attributes has 4 entries"),
    (
        upserts(*[Item(item_id=name, title="x") for name in "aba"]),
        r"items\[2\].item_id 'a' is that of items\[0\] as well; send one version",
    ),
]


@pytest.mark.parametrize(("request_", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_value_out_of_bounds_is_refused_by_name(request_: Message, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        read(request_)


@pytest.mark.parametrize(
    "request_",
    [
        Recommend(
            k=50,
            deadline_ms=1_000,
            user_id="x" * 20,
            profile_text="x" * 100,
            at=631_152_000,
            constraints=Constraints(avoid=["a"] * 3, require=["x" * 20], exclude_items=["a"] * 3),
        ),
        Recommend(at=4_102_444_800),
        recommender_pb2.TagRequest(max_tags=7, item=Item(title="x" * 100, attributes={"x" * 20: "x" * 100})),
        claims(claim(llm_logprob=0.0, tag="x"), claim(llm_logprob=-1e300, tag="x"), candidate("")),
        events(
            *[
                event(value=1e9),
                event(value=-1e9),
                event(timestamp=631_152_000),
                event(kind="rating", value=0, price=1e-9),
            ]
        ),
        upserts(*[Item(item_id=name * 20, title="x" * 60, text="x" * 100) for name in "abc"]),
    ],
)
def test_value_at_its_bound_is_read(request_: Message) -> None:
    read(request_)


def test_defaults_stand_in_for_what_is_not_set() -> None:
    query = CODEC.recommend_query(Recommend())
    assert (query.k, query.deadline_ms, query.at, query.explain, query.new_only) == (10, 250, None, False, False)
    assert CODEC.recommend_query(Recommend(new_only=True)).new_only
    assert len(query.request_id) == 32
    assert CODEC.recommend_query(Recommend()).request_id != query.request_id
    assert CODEC.tag_query(recommender_pb2.TagRequest()).max_tags == 5


def test_event_without_time_kind_value_or_session_is_a_purchase_now() -> None:
    (read_,) = CODEC.events(events(event()), NOW)
    assert (read_.kind, read_.value, read_.timestamp, read_.session_id) == ("purchase", 1.0, NOW, f"u|{DAY}")
    assert len(read_.event_id) == 32


def test_a_rating_of_zero_is_zero_and_one_that_is_not_told_is_refused() -> None:
    """A thumb down that became a 1 would be a thumb up."""
    (down,) = CODEC.events(events(event(kind="rating", value=0.0)), NOW)
    assert down.value == 0.0
    (bought,) = CODEC.events(events(event(kind="purchase", value=0.0)), NOW)
    assert bought.value == 1.0
    with pytest.raises(InvalidRequest, match=r"events\[0\].value is missing; a rating needs"):
        CODEC.events(events(event(kind="rating")), NOW)


@pytest.mark.parametrize("kind", EVENT_KINDS)
def test_event_is_read_as_it_was_sent(kind: str) -> None:
    sent = event(event_id="e1", kind=kind, value=2.5, timestamp=NOW - 5, session_id="s", place="north", price=3.25)
    (read_,) = CODEC.events(events(sent), NOW)
    assert (read_.event_id, read_.user_id, read_.item_id, read_.kind) == ("e1", "u", "i", kind)
    assert (read_.value, read_.timestamp, read_.session_id) == (2.5, NOW - 5, "s")
    assert (read_.place, read_.price) == ("north", 3.25)


def test_event_may_be_a_day_ahead_of_the_later_of_wall_and_data() -> None:
    CODEC.events(events(event(timestamp=WALL + 86_400)), NOW)
    with pytest.raises(InvalidRequest, match="more than a day after now"):
        CODEC.events(events(event(timestamp=WALL + 86_401)), NOW)
    behind = Codec(LIMITS, 250, wall=lambda: NOW - 10**6)
    behind.events(events(event(timestamp=NOW + 86_400)), NOW)
    with pytest.raises(InvalidRequest, match="more than a day after now"):
        behind.events(events(event(timestamp=NOW + 86_401)), NOW)


def test_claims_keep_their_order_and_kind() -> None:
    query = CODEC.score_query(claims(claim(tag="a", llm_logprob=-0.5), candidate("vegan"), claim(tag="b")))
    assert [type(one) for one in query.claims] == [TagClaim, CandidateClaim, TagClaim]
    assert [one.llm_logprob for one in query.claims] == [-0.5, None, None]


def test_vocabulary_of_a_tag_and_of_a_claim_is_read_and_is_the_catalog_s_own_where_none_is_named() -> None:
    item = types_pb2.Item(title="Brie")
    assert CODEC.tag_query(recommender_pb2.TagRequest(item=item)).vocabulary == ""
    assert CODEC.tag_query(recommender_pb2.TagRequest(item=item, vocabulary="diets")).vocabulary == "diets"
    claims = [
        ensemble_pb2.Claim(tag=ensemble_pb2.TagClaim(item=item, tag="vegan", vocabulary=name)) for name in ("", "diets")
    ]
    read = CODEC.score_query(ensemble_pb2.ScoreRequest(claims=claims)).claims
    assert [claim.vocabulary for claim in read if isinstance(claim, TagClaim)] == ["", "diets"]
    with pytest.raises(InvalidRequest, match="vocabulary"):
        CODEC.tag_query(recommender_pb2.TagRequest(item=item, vocabulary="x" * 10_000))


def test_characters_are_counted_and_not_bytes() -> None:
    assert CODEC.recommend_query(Recommend(user_id="é" * 20)).user_id == "é" * 20
    with pytest.raises(InvalidRequest, match="21 characters"):
        CODEC.recommend_query(Recommend(user_id="🥦" * 21))


def read_or_refuse(request: Message) -> object | None:
    """None where it was refused; any other error is the test's."""
    try:
        return read(request)
    except InvalidRequest:
        return None


REQUESTS: list[type[Message]] = [
    recommender_pb2.RecommendRequest,
    recommender_pb2.TagRequest,
    ensemble_pb2.ScoreRequest,
    recommender_pb2.RecordEventsRequest,
]


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
@given(data=st.binary(max_size=200))
def test_bytes_off_the_street_are_read_or_refused(kind: type[Message], data: bytes) -> None:
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return
    read_or_refuse(message)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
some_events = st.builds(
    Event,
    event_id=texts,
    user_id=texts,
    item_id=texts,
    kind=st.one_of(st.sampled_from(EVENT_KINDS), texts),
    value=st.floats(),
    timestamp=st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**33)),
    session_id=texts,
    place=texts,
    price=st.floats(),
)


@given(st.lists(some_events, max_size=6))
def test_whatever_passes_the_codec_can_be_recorded(sent: list[recommender_pb2.Event]) -> None:
    try:
        found = CODEC.events(events(*sent), NOW)
    except InvalidRequest:
        return
    assert len(found) == len(sent)
    for one in found:
        assert one.kind in EVENT_KINDS
        assert all((one.event_id, one.user_id, one.item_id, one.session_id))
        assert math.isfinite(one.value)
        assert one.value
        assert 0 <= one.price <= 1e9
        assert 631_152_000 <= one.timestamp <= WALL + 86_400


some_items = st.builds(
    Item, item_id=texts, title=texts, text=texts, attributes=st.dictionaries(texts, texts, max_size=4)
)
some_claims = st.builds(
    ensemble_pb2.Claim,
    tag=st.one_of(st.none(), st.builds(ensemble_pb2.TagClaim, item=some_items, tag=texts)),
    llm_logprob=st.one_of(st.none(), st.floats()),
)


@given(st.lists(some_claims, max_size=4), texts, st.integers(0, 2**32 - 1))
def test_claims_are_read_or_refused(sent: list[ensemble_pb2.Claim], request_id: str, deadline_ms: int) -> None:
    request = ensemble_pb2.ScoreRequest(claims=sent, request_id=request_id, deadline_ms=deadline_ms)
    found = read_or_refuse(request)
    assert found is None or (isinstance(found, ScoreQuery) and len(found.claims) == len(sent))


# --- out -------------------------------------------------------------------------------------------------------------

PROOF = Proof(
    Fact("contains", ("i1", "dairy")),
    "contents",
    "contents",
    (Proof(Fact("in_category", ("i1", "CHEESES")), None, "catalog"),),
)
HEADER = Header(
    "r1",
    "release-1",
    (Stage("ranking", 1.5), Stage("total", 2.0)),
    (Degradation("llm", "no time"),),
    Usage(10, 4, 0.25, False, "fake"),
)


def same(reply: Message) -> None:
    """What arrives is what was sent."""
    arrived = type(reply)()
    arrived.ParseFromString(reply.SerializeToString())
    assert arrived == reply


def test_recommendation_keeps_all_it_says() -> None:
    item = RecommendedItem(
        "i1",
        "Cheddar",
        0.75,
        ("llm", "index"),
        "guardrail",
        (Contribution("text_similarity", 0.5, -0.25),),
        (PROOF,),
        Judged(0.75, "accept", -0.125),
        {"category": "CHEESES"},
    )
    bare = RecommendedItem("i2", "Milk", -1.0, ("repeat",), "ranker")
    reply = codec.recommend_reply(Recommendation(HEADER, (item, bare), "cold_words", (PROOF,), ("x",), "few", NOW))
    same(reply)
    assert (reply.request_id, reply.release, reply.path, reply.shortfall) == ("r1", "release-1", "cold_words", "few")
    assert (list(reply.unknown_items), reply.as_of) == (["x"], NOW)
    assert [(stage.name, stage.ms) for stage in reply.stages] == [("ranking", 1.5), ("total", 2.0)]
    assert [(part.stage, part.cause) for part in reply.degraded] == [("llm", "no time")]
    usage = reply.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cost, usage.model) == (10, 4, 0.25, "fake")
    first, second = reply.items
    assert (first.item_id, first.title, first.score, first.decided_by) == ("i1", "Cheddar", 0.75, "guardrail")
    assert (list(first.sources), dict(first.attributes)) == (["llm", "index"], {"category": "CHEESES"})
    assert first.reasons[0] == types_pb2.Reason(feature="text_similarity", value=0.5, contribution=-0.25)
    assert (first.guardrail.probability, first.guardrail.verdict) == (0.75, types_pb2.VERDICT_ACCEPT)
    assert first.guardrail.llm_logprob == -0.125
    assert not second.HasField("guardrail")
    proof = first.facts[0]
    assert (proof.predicate, list(proof.args), proof.rule) == ("contains", ["i1", "dairy"], "contents")
    assert (proof.premises[0].rule, proof.premises[0].source) == ("", "catalog")
    assert reply.facts[0] == proof


def test_a_proof_says_what_was_absent_and_what_was_counted() -> None:
    absent = replace(PROOF, absent=(Fact("bought", ("ann", "?")),), aggregates=("2 = count I { bought(bob, I) }",))
    item = RecommendedItem("i1", "Cheddar", 0.5, ("repeat",), "ranker", facts=(absent,))
    (sent,) = codec.recommend_reply(Recommendation(HEADER, (item,), "known", (), (), "", NOW)).items
    assert list(sent.facts[0].conditions) == ["not bought(ann, ?)", "2 = count I { bought(bob, I) }"]


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        ("accept", types_pb2.VERDICT_ACCEPT),
        ("review", types_pb2.VERDICT_REVIEW),
        ("reject", types_pb2.VERDICT_REJECT),
    ],
)
def test_verdicts_have_a_code_each(verdict: str, code: int) -> None:
    reply = codec.score_reply(Scoring(HEADER, (Judgement(0.5, verdict, "graph", (), (PROOF,)),)))
    same(reply)
    assert (reply.judgements[0].verdict, reply.judgements[0].decided_by) == (code, "graph")
    assert reply.judgements[0].facts[0].predicate == "contains"


def test_tags_keep_evidence_and_logprob_where_there_are_any() -> None:
    said = ProposedTag("CHEESES", 0.9, "accept", ("llm",), "guardrail", ("title", 0, 6), (), (), -0.5, "Cheese")
    bare = ProposedTag("BEEF", 0.1, "reject", ("neighbours",), "graph", None, (PROOF,))
    reply = codec.tag_reply(Tagging(HEADER, (said, bare), abstained=True))
    same(reply)
    first, second = reply.tags
    assert first.evidence == recommender_pb2.Evidence(field="title", start=0, end=6, text="Cheese")
    assert (first.llm_logprob, reply.abstained) == (-0.5, True)
    assert not second.HasField("evidence")
    assert not second.HasField("llm_logprob")


def test_feature_nobody_knows_stays_unknown_on_the_wire() -> None:
    judgement = Judgement(0.5, "review", "guardrail", (Contribution("llm_logprob", math.nan, 0.0),))
    reply = codec.score_reply(Scoring(HEADER, (judgement,)))
    arrived = ensemble_pb2.ScoreReply.FromString(reply.SerializeToString())
    assert math.isnan(arrived.judgements[0].reasons[0].value)


def test_outage_while_recording_is_said_without_its_cause() -> None:
    reply = codec.record_reply("r1", RecordedEvents(2, 1, ("x",), "redis at 10.0.0.7 refused"))
    same(reply)
    assert (reply.recorded, reply.duplicates, list(reply.unknown_items)) == (2, 1, ["x"])
    assert reply.degraded[0].stage == "push"
    assert "10.0.0.7" not in str(reply)
    assert not codec.record_reply("r1", RecordedEvents(2, 1, (), "")).degraded
