"""Protobuf to values and back: bounds are checked on the way in, nothing below this file knows a message type."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from features.arrivals import CatalogItem
from features.events import day_session
from features.history import EVENT_KINDS
from features.ports import Event
from graph.ports import Proof
from models.policy import Warrant
from models.ports import Contribution
from models.tagging import TagItem
from protos.tandem.v1 import ensemble_pb2, recommender_pb2, types_pb2
from serving.config import Limits
from serving.errors import InvalidRequest
from serving.messages import (
    CandidateClaim,
    Header,
    Judgement,
    ProposedTag,
    ProposedValue,
    Recommendation,
    RecommendedItem,
    RecommendQuery,
    ScoreQuery,
    Scoring,
    TagClaim,
    Tagging,
    TagQuery,
    UpsertedItems,
)
from serving.pipeline.record import RecordedEvents

_VERDICTS = {
    "accept": types_pb2.VERDICT_ACCEPT,
    "review": types_pb2.VERDICT_REVIEW,
    "reject": types_pb2.VERDICT_REJECT,
}
_EARLIEST = int(datetime(1990, 1, 1, tzinfo=UTC).timestamp())
_LATEST = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())
_AHEAD_S = 86_400
"""How far an event may lie in the future, as for ingest: clocks differ, and some call their local time UTC."""
_SMALLEST_PRICE = 1e-9
"""Features hold logs of 32-bit numbers, in which a price far below this is 0."""


class Codec:
    """Translates within the given limits; ``default_deadline_ms`` stands in where a request sets none.

    ``wall`` answers seconds since 1970: no event lies in its future.
    """

    def __init__(self, limits: Limits, default_deadline_ms: int, wall: Callable[[], float] = time.time) -> None:
        self._limits = limits
        self._wall = wall
        self._default_deadline_ms = default_deadline_ms

    # --- in ----------------------------------------------------------------------------------------------------------

    def recommend_query(self, request: recommender_pb2.RecommendRequest) -> RecommendQuery:
        """Raises InvalidRequest for a value out of bounds."""
        constraints = request.constraints
        if request.k > self._limits.k:
            raise InvalidRequest(f"k is {request.k}; at most {self._limits.k} items can be asked for")
        return RecommendQuery(
            request_id=self.request_id(request.request_id),
            deadline_ms=self.deadline_ms(request.deadline_ms),
            user_id=self._id("user_id", request.user_id),
            profile_text=self._text("profile_text", request.profile_text),
            k=request.k or 10,
            avoid=self._ids("constraints.avoid", constraints.avoid),
            require=self._ids("constraints.require", constraints.require),
            exclude_items=self._ids("constraints.exclude_items", constraints.exclude_items),
            at=_time("at", request.at) if request.at else None,
            explain=request.explain,
            tenant=self._id("tenant", request.tenant),
            new_only=request.new_only,
            place=self._id("place", request.place),
        )

    def tag_query(self, request: recommender_pb2.TagRequest) -> TagQuery:
        """Raises InvalidRequest for a value out of bounds."""
        if request.max_tags > self._limits.max_tags:
            raise InvalidRequest(f"max_tags is {request.max_tags}; at most {self._limits.max_tags} can be asked for")
        return TagQuery(
            request_id=self.request_id(request.request_id),
            deadline_ms=self.deadline_ms(request.deadline_ms),
            item_id=self._id("item.item_id", request.item.item_id),
            item=self._item("item", request.item),
            max_tags=request.max_tags or 5,
            tenant=self._id("tenant", request.tenant),
            vocabulary=self._id("vocabulary", request.vocabulary),
        )

    def product_query(self, item_id: str, item: TagItem) -> TagQuery:
        """A product of a batch within the bounds of one that is sent. Raises InvalidRequest."""
        return TagQuery("", self._default_deadline_ms, self._id("item_id", item_id), self._item("item", item), 5)

    def user_query(
        self, user_id: str, k: int, at: int | None, new_only: bool = False, place: str = ""
    ) -> RecommendQuery:
        """A user of a batch within the bounds of one who is asked for. Raises InvalidRequest."""
        user = self._id("user_id", user_id)
        shop = self._id("place", place)
        return RecommendQuery("", self._default_deadline_ms, user, "", k, at=at, new_only=new_only, place=shop)

    def score_query(self, request: ensemble_pb2.ScoreRequest) -> ScoreQuery:
        """Raises InvalidRequest for a value out of bounds or a claim of no kind."""
        if len(request.claims) > self._limits.list_length:
            raise InvalidRequest(f"{len(request.claims)} claims; at most {self._limits.list_length} go into one Score")
        claims: list[TagClaim | CandidateClaim] = []
        for number, claim in enumerate(request.claims):
            where = f"claims[{number}]"
            logprob = claim.llm_logprob if claim.HasField("llm_logprob") else None
            if logprob is not None and not (math.isfinite(logprob) and logprob <= 0):
                raise InvalidRequest(f"{where}.llm_logprob is {logprob}; a log-probability is a number up to 0")
            kind = claim.WhichOneof("claim")
            if kind == "tag":
                claims.append(
                    TagClaim(
                        self._id(f"{where}.tag.item.item_id", claim.tag.item.item_id),
                        self._item(f"{where}.tag.item", claim.tag.item),
                        self._id(f"{where}.tag.tag", claim.tag.tag),
                        logprob,
                        self._id(f"{where}.tag.vocabulary", claim.tag.vocabulary),
                    )
                )
            elif kind == "candidate":
                claims.append(
                    CandidateClaim(
                        self._text(f"{where}.candidate.profile_text", claim.candidate.profile_text),
                        self._id(f"{where}.candidate.item_id", claim.candidate.item_id),
                        logprob,
                    )
                )
            else:
                raise InvalidRequest(f"{where} claims nothing; set tag or candidate")
        return ScoreQuery(self.request_id(request.request_id), self.deadline_ms(request.deadline_ms), tuple(claims))

    def events(self, request: recommender_pb2.RecordEventsRequest, now: int) -> list[Event]:
        """``now`` (seconds) dates events that carry no time. Raises InvalidRequest: all events are taken or none."""
        if not request.events:
            raise InvalidRequest("events is empty; send at least one event")
        if len(request.events) > self._limits.events:
            raise InvalidRequest(f"{len(request.events)} events; at most {self._limits.events} go into one call")
        # On the data's clock too: a replay's events are past, and live ones may follow years after the data's end.
        latest = max(now, int(self._wall()))
        events = []
        for number, event in enumerate(request.events):
            where = f"events[{number}]"
            user = self._id(f"{where}.user_id", event.user_id)
            item = self._id(f"{where}.item_id", event.item_id)
            if not user or not item:
                raise InvalidRequest(f"{where} lacks {'user_id' if not user else 'item_id'}; an event names both")
            kind = event.kind or "purchase"
            if kind not in EVENT_KINDS:
                raise InvalidRequest(f"{where}.kind is {kind!r}; kinds are {', '.join(EVENT_KINDS)}")
            if not math.isfinite(event.value) or abs(event.value) > 1e9:
                raise InvalidRequest(f"{where}.value is {event.value}; give a number below a billion")
            if kind == "rating" and not event.HasField("value"):
                raise InvalidRequest(f"{where}.value is missing; a rating needs the number that was given, 0 too")
            if not (math.isfinite(event.price) and 0 <= event.price <= 1e9):
                raise InvalidRequest(f"{where}.price is {event.price}; give a number from 0 to a billion, 0 for none")
            if 0 < event.price < _SMALLEST_PRICE:
                raise InvalidRequest(
                    f"{where}.price is {event.price}; give a number from {_SMALLEST_PRICE} to a billion, 0 for none"
                )
            time_s = _time(f"{where}.timestamp", event.timestamp) if event.timestamp else now
            if time_s > latest + _AHEAD_S:
                raise InvalidRequest(
                    f"{where}.timestamp is {time_s} ({_date(time_s)}), more than a day after now, {latest} "
                    f"({_date(latest)}); give seconds since 1970 of when it happened, 0 for now"
                )
            events.append(
                Event(
                    self._id(f"{where}.event_id", event.event_id) or uuid.uuid4().hex,
                    user,
                    item,
                    kind,
                    event.value if kind == "rating" else event.value or 1.0,
                    time_s,
                    self._id(f"{where}.session_id", event.session_id) or day_session(user, time_s),
                    self._id(f"{where}.place", event.place),
                    event.price,
                )
            )
        return events

    def catalog_items(self, request: recommender_pb2.UpsertItemsRequest) -> list[CatalogItem]:
        """Raises InvalidRequest: all items are taken or none."""
        if not request.items:
            raise InvalidRequest("items is empty; send at least one item")
        if len(request.items) > self._limits.items:
            raise InvalidRequest(f"{len(request.items)} items; at most {self._limits.items} go into one call")
        items = [self._catalog_item(f"items[{number}]", item) for number, item in enumerate(request.items)]
        places: dict[str, int] = {}
        for number, item in enumerate(items):
            first = places.setdefault(item.item_id, number)
            if first != number:
                raise InvalidRequest(
                    f"items[{number}].item_id {item.item_id!r} is that of items[{first}] as well; send one version"
                )
        return items

    def _catalog_item(self, where: str, message: types_pb2.Item) -> CatalogItem:
        item_id, item = self._id(f"{where}.item_id", message.item_id), self._item(where, message)
        if not item_id.strip() or item_id != item_id.strip():
            raise InvalidRequest(f"{where}.item_id is {item_id!r}; give the catalog's id, without blanks around it")
        if not item.title.strip():
            raise InvalidRequest(
                f"{where}.title of item {item_id!r} is empty; give the product's name as its seller writes it"
            )
        if len(item.title) > self._limits.title_length:
            raise InvalidRequest(
                f"{where}.title of item {item_id!r} has {len(item.title)} characters; at most "
                f"{self._limits.title_length} are read: a description goes into text"
            )
        return CatalogItem(item_id, item.title, item.text, item.attributes)

    def request_id(self, value: str) -> str:
        return self._id("request_id", value) or uuid.uuid4().hex

    def bounded_id(self, where: str, value: str) -> str:
        """An id of the field ``where``. Raises InvalidRequest."""
        return self._id(where, value)

    def deadline_ms(self, value: int) -> int:
        if value > self._limits.deadline_ms:
            raise InvalidRequest(f"deadline_ms is {value}; at most {self._limits.deadline_ms} can be given")
        return value or self._default_deadline_ms

    def _item(self, where: str, item: types_pb2.Item | TagItem) -> TagItem:
        if len(item.attributes) > self._limits.list_length:
            raise InvalidRequest(
                f"{where}.attributes has {len(item.attributes)} entries; at most {self._limits.list_length} are read"
            )
        return TagItem(
            self._text(f"{where}.title", item.title),
            self._text(f"{where}.text", item.text),
            {
                self._id(f"{where}.attributes", name): self._text(f"{where}.attributes[{name[:50]}]", value)
                for name, value in item.attributes.items()
            },
        )

    def _ids(self, where: str, values: Sequence[str]) -> tuple[str, ...]:
        if len(values) > self._limits.list_length:
            raise InvalidRequest(f"{where} has {len(values)} entries; at most {self._limits.list_length} are read")
        return tuple(self._id(f"{where}[{number}]", value) for number, value in enumerate(values))

    def _id(self, where: str, value: str) -> str:
        if len(value) > self._limits.id_length:
            raise InvalidRequest(f"{where} has {len(value)} characters; at most {self._limits.id_length} are read")
        if "\x00" in value:
            raise InvalidRequest(f"{where} holds a NUL character; remove it")
        return value

    def _text(self, where: str, value: str) -> str:
        if len(value) > self._limits.text_length:
            raise InvalidRequest(f"{where} has {len(value)} characters; at most {self._limits.text_length} are read")
        if "\x00" in value:
            raise InvalidRequest(f"{where} holds a NUL character; remove it")
        return value


def _time(where: str, value: int) -> int:
    if not _EARLIEST <= value <= _LATEST:
        raise InvalidRequest(f"{where} is {value}; give seconds since 1970 between the years 1990 and 2100")
    return value


def _date(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


# --- out -------------------------------------------------------------------------------------------------------------


def recommend_reply(answer: Recommendation) -> recommender_pb2.RecommendReply:
    reply = recommender_pb2.RecommendReply(
        request_id=answer.header.request_id,
        release=answer.header.release,
        path=answer.path,
        stages=_stages(answer.header),
        degraded=_degraded(answer.header),
        usage=_usage(answer.header),
        facts=_proofs(answer.facts),
        unknown_items=answer.unknown_items,
        shortfall=answer.shortfall,
        as_of=answer.as_of,
    )
    # Items are made in their place: made apart, each would be copied into the reply, and half the time goes there.
    for item in answer.items:
        message = reply.items.add(
            item_id=item.item_id,
            title=item.title,
            score=item.score,
            sources=item.sources,
            decided_by=item.decided_by,
        )
        _complete(message, item)
    return reply


def tag_reply(answer: Tagging) -> recommender_pb2.TagReply:
    return recommender_pb2.TagReply(
        request_id=answer.header.request_id,
        release=answer.header.release,
        tags=[_tag(tag) for tag in answer.tags],
        abstained=answer.abstained,
        stages=_stages(answer.header),
        degraded=_degraded(answer.header),
        usage=_usage(answer.header),
        attributes=[_value(value) for value in answer.attributes],
    )


def score_reply(answer: Scoring) -> ensemble_pb2.ScoreReply:
    return ensemble_pb2.ScoreReply(
        request_id=answer.header.request_id,
        release=answer.header.release,
        judgements=[_judgement(judgement) for judgement in answer.judgements],
        stages=_stages(answer.header),
        degraded=_degraded(answer.header),
    )


def score_failure(request_id: str, code: str, message: str) -> ensemble_pb2.ScoreReply:
    """The answer to a request of a stream that cannot be answered."""
    return ensemble_pb2.ScoreReply(request_id=request_id, failure=ensemble_pb2.Failure(code=code, message=message))


def record_reply(request_id: str, answer: RecordedEvents) -> recommender_pb2.RecordEventsReply:
    degraded = []
    if answer.outage:
        cause = "the events are kept; the online store does not show them yet"
        degraded.append(types_pb2.Degradation(stage="push", cause=cause))
    return recommender_pb2.RecordEventsReply(
        request_id=request_id,
        recorded=answer.recorded,
        duplicates=answer.duplicates,
        unknown_items=answer.unknown_items,
        degraded=degraded,
    )


def upsert_reply(request_id: str, answer: UpsertedItems) -> recommender_pb2.UpsertItemsReply:
    return recommender_pb2.UpsertItemsReply(
        request_id=request_id,
        recorded=answer.recorded,
        updated=answer.updated,
        unchanged=answer.unchanged,
        rejected=[recommender_pb2.RejectedItem(item_id=item_id, reason=reason) for item_id, reason in answer.rejected],
        unknown_attributes=answer.unknown_attributes,
    )


def _complete(message: recommender_pb2.RecommendedItem, item: RecommendedItem) -> None:
    """Write what most items of a reply lack, and the attributes, one by one: a mapping as a whole takes longer."""
    attributes = message.attributes
    for name, value in item.attributes.items():
        attributes[name] = value
    if item.reasons:
        message.reasons.extend(_reasons(item.reasons))
    if item.facts:
        message.facts.extend(_proofs(item.facts))
    if item.guardrail is not None:
        message.guardrail.probability = item.guardrail.probability
        message.guardrail.verdict = _VERDICTS[item.guardrail.verdict]
        if item.guardrail.llm_logprob is not None:
            message.guardrail.llm_logprob = item.guardrail.llm_logprob


def _tag(tag: ProposedTag) -> recommender_pb2.Tag:
    message = recommender_pb2.Tag(
        tag=tag.tag,
        probability=tag.probability,
        verdict=_VERDICTS[tag.verdict],
        sources=tag.sources,
        facts=_proofs(tag.facts),
        reasons=_reasons(tag.reasons),
        decided_by=tag.decided_by,
        certificate=_certificate(tag.warrant),
    )
    if tag.evidence is not None:
        field, start, end = tag.evidence
        message.evidence.CopyFrom(recommender_pb2.Evidence(field=field, start=start, end=end, text=tag.evidence_text))
    if tag.llm_logprob is not None:
        message.llm_logprob = tag.llm_logprob
    return message


def _value(value: ProposedValue) -> recommender_pb2.AttributeValue:
    field, start, end = value.evidence
    return recommender_pb2.AttributeValue(
        attribute=value.attribute,
        value=value.value,
        number=value.number,
        unit=value.unit,
        probability=value.probability,
        verdict=_VERDICTS[value.verdict],
        sources=value.sources,
        evidence=recommender_pb2.Evidence(field=field, start=start, end=end, text=value.evidence_text),
        certificate=_certificate(value.warrant),
        llm_logprob=value.llm_logprob,
    )


def _judgement(judgement: Judgement) -> ensemble_pb2.Judgement:
    return ensemble_pb2.Judgement(
        probability=judgement.probability,
        verdict=_VERDICTS[judgement.verdict],
        reasons=_reasons(judgement.reasons),
        facts=_proofs(judgement.facts),
        decided_by=judgement.decided_by,
        certificate=_certificate(judgement.warrant),
    )


def _certificate(warrant: Warrant | None) -> types_pb2.Certificate | None:
    if warrant is None:
        return None
    return types_pb2.Certificate(
        group=warrant.group,
        certified=warrant.certified,
        evidence=warrant.evidence,
        score=warrant.score,
        threshold=warrant.threshold,
        precision=warrant.precision,
        confidence=warrant.confidence,
        units=warrant.bound.units,
        accepted=warrant.bound.accepted,
        wrong=warrant.bound.wrong,
        lower_bound=warrant.bound.lower,
        reason=warrant.reason,
    )


def _stages(header: Header) -> Iterable[types_pb2.Stage]:
    return [types_pb2.Stage(name=stage.name, ms=stage.ms) for stage in header.stages]


def _degraded(header: Header) -> Iterable[types_pb2.Degradation]:
    return [types_pb2.Degradation(stage=part.stage, cause=part.cause) for part in header.degraded]


def _usage(header: Header) -> types_pb2.Usage:
    usage = header.usage
    return types_pb2.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cost=usage.cost,
        cached=usage.cached,
        model=usage.model,
    )


def _reasons(reasons: Sequence[Contribution]) -> Iterable[types_pb2.Reason]:
    # NaN means "nobody said" inside; on the wire it stays NaN, which protobuf carries.
    return [
        types_pb2.Reason(feature=reason.feature, value=reason.value, contribution=reason.contribution)
        for reason in reasons
    ]


def _proofs(proofs: Sequence[Proof]) -> Iterable[types_pb2.Proof]:
    return [_proof(proof) for proof in proofs]


def _proof(proof: Proof) -> types_pb2.Proof:
    return types_pb2.Proof(
        predicate=proof.fact.predicate,
        args=proof.fact.args,
        rule=proof.rule or "",
        source=proof.source,
        premises=[_proof(premise) for premise in proof.premises],
        conditions=[text for text, _ in proof.conditions()],
    )
