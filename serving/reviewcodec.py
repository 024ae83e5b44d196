"""Messages of the Review service to values and back; bounds are checked on the way in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, TypeVar

from protos.tandem.v1 import recommender_pb2, review_pb2, types_pb2
from serving.codec import Codec
from serving.config import Limits
from serving.errors import InvalidRequest
from serving.pipeline.review import CasesQuery, ClaimQuery, ResolveQuery
from serving.review.cases import KINDS, ORDERS, SAYINGS, STATES, Case, CasePage, Resolved, Wanted, Word
from serving.review.config import ReviewConfig
from serving.review.switches import GroupFigures

_TOKEN: Final = 4_096
Name = TypeVar("Name", bound=str)


class ReviewCodec:
    """Translates within ``limits`` and ``config``; request ids as ``codec`` does."""

    def __init__(self, codec: Codec, limits: Limits, config: ReviewConfig) -> None:
        self._codec = codec
        self._limits = limits
        self._config = config

    def cases_query(self, request: review_pb2.ListCasesRequest) -> CasesQuery:
        """Raises InvalidRequest for a value out of bounds."""
        if request.page_size > self._config.page:
            raise InvalidRequest(f"page_size is {request.page_size}; at most {self._config.page} cases fit on a page")
        if len(request.page_token) > _TOKEN:
            raise InvalidRequest("page_token is none of ours; send next_page_token as it came")
        return CasesQuery(
            self._codec.request_id(request.request_id),
            self._wanted(request.filter),
            request.page_size or self._config.page,
            request.page_token,
        )

    def claim_query(self, request: review_pb2.ClaimRequest) -> ClaimQuery:
        """Raises InvalidRequest for a value out of bounds, and where cases are both named and filtered."""
        many = max(len(request.case_ids), request.count)
        if many > self._config.page:
            raise InvalidRequest(f"{many} cases; at most {self._config.page} can be claimed at once")
        if request.case_ids and (request.count or request.HasField("filter")):
            raise InvalidRequest("case_ids and a filter or count are given; name cases, or say how many of which")
        if request.filter.state not in (review_pb2.CASE_STATE_UNSPECIFIED, review_pb2.CASE_STATE_OPEN):
            raise InvalidRequest("filter.state asks for cases that are not open; only open ones can be claimed")
        lease = request.lease_s
        if not (math.isfinite(lease) and 0 <= lease <= self._config.max_lease_s):
            raise InvalidRequest(f"lease_s is {lease}; give up to {self._config.max_lease_s:g} seconds")
        return ClaimQuery(
            self._codec.request_id(request.request_id),
            self._person(request.person),
            tuple(dict.fromkeys(_number("case_ids", number) for number in request.case_ids)),
            replace(self._wanted(request.filter), state="open"),
            request.count or 1,
            lease or self._config.lease_s,
        )

    def resolve_query(self, request: review_pb2.ResolveRequest) -> ResolveQuery:
        """Raises InvalidRequest for a value out of bounds, and for a correction that does not go with the saying."""
        saying = _named("saying", SAYINGS, request.saying)
        if saying is None:
            raise InvalidRequest("saying is not set; accept, correct or reject the tag")
        if bool(request.correction) != (saying == "correct"):
            raise InvalidRequest("correction names the tag the item carries instead: give it to correct, and only then")
        return ResolveQuery(
            self._codec.request_id(request.request_id),
            _number("case_id", request.case_id),
            self._person(request.person),
            saying,
            self._id("correction", request.correction),
            self._text("reason", request.reason),
            request.overrule,
        )

    def release_query(self, request: review_pb2.ReleaseRequest) -> tuple[str, int, str]:
        """Request id, case and person. Raises InvalidRequest."""
        request_id = self._codec.request_id(request.request_id)
        return request_id, _number("case_id", request.case_id), self._person(request.person)

    def audit_query(self, request: review_pb2.AuditRequest) -> tuple[str, str]:
        """Request id and release. Raises InvalidRequest."""
        return self._codec.request_id(request.request_id), self._id("release", request.release)

    def reset_query(self, request: review_pb2.ResetRequest) -> tuple[str, str, str, str]:
        """Request id, group, person and reason. Raises InvalidRequest: who lets a group accept again says why."""
        reason = self._text("reason", request.reason).strip()
        if not reason:
            raise InvalidRequest("reason is empty; say why the group may accept again")
        group = self._id("group", request.group)
        return self._codec.request_id(request.request_id), group, self._person(request.person), reason

    def audit_reply(self, request_id: str, groups: Sequence[GroupFigures]) -> review_pb2.AuditReply:
        return review_pb2.AuditReply(
            request_id=request_id,
            groups=[_group(each) for each in groups],
            rate=self._config.audit_rate,
            confidence=self._config.confidence,
        )

    def _wanted(self, message: review_pb2.CaseFilter) -> Wanted:
        if not 0 <= message.order < len(ORDERS):
            raise InvalidRequest(f"filter.order is {message.order}; orders are {', '.join(ORDERS)}")
        return Wanted(
            _named("filter.kind", KINDS, message.kind),
            _named("filter.state", STATES, message.state),
            _named("filter.saying", SAYINGS, message.saying),
            self._id("filter.group", message.group),
            self._id("filter.release", message.release),
            self._id("filter.item_id", message.item_id),
            self._id("filter.person", message.person),
            ORDERS[message.order],
        )

    def _person(self, value: str) -> str:
        person = " ".join(self._id("person", value).split())
        if not person:
            raise InvalidRequest("person is empty; say who claims, decides or resets")
        return person

    def _id(self, where: str, value: str) -> str:
        return _checked(where, value, self._limits.id_length)

    def _text(self, where: str, value: str) -> str:
        return _checked(where, value, self._limits.text_length)


def _checked(where: str, value: str, most: int) -> str:
    if len(value) > most:
        raise InvalidRequest(f"{where} has {len(value)} characters; at most {most} are read")
    if "\x00" in value:
        raise InvalidRequest(f"{where} holds a NUL character; remove it")
    return value


def _number(where: str, value: int) -> int:
    if not 0 < value < 2**63:
        raise InvalidRequest(f"{where} is {value}; give the number of a case as ListCases shows it")
    return value


def _named(where: str, names: Sequence[Name], value: int) -> Name | None:
    """The name of an enum's value: they are numbered from 1 in the order of ``names``, 0 is not set."""
    if not 0 <= value <= len(names):
        raise InvalidRequest(f"{where} is {value}; give one of {', '.join(names)}")
    return names[value - 1] if value else None


# --- out -------------------------------------------------------------------------------------------------------------


def cases_reply(request_id: str, page: CasePage) -> review_pb2.ListCasesReply:
    cases = [case_message(case) for case in page.cases]
    return review_pb2.ListCasesReply(
        request_id=request_id, cases=cases, next_page_token=page.next_token, total=page.total
    )


def claim_reply(request_id: str, cases: Sequence[Case]) -> review_pb2.ClaimReply:
    return review_pb2.ClaimReply(request_id=request_id, cases=[case_message(case) for case in cases])


def resolve_reply(request_id: str, answer: Resolved) -> review_pb2.ResolveReply:
    return review_pb2.ResolveReply(
        request_id=request_id,
        case=case_message(answer.case),
        unchanged=answer.unchanged,
        switched=answer.switched,
    )


def case_message(case: Case) -> review_pb2.Case:
    proposal = case.proposal
    span = proposal.evidence
    return review_pb2.Case(
        case_id=case.id,
        kind=KINDS.index(proposal.kind) + 1,  # type: ignore[arg-type]
        state=STATES.index(case.state) + 1,  # type: ignore[arg-type]
        item=types_pb2.Item(
            item_id=proposal.item_id,
            title=proposal.item.title,
            text=proposal.item.text,
            attributes=proposal.item.attributes,
        ),
        tag=proposal.tag,
        probability=proposal.probability,
        group=proposal.group,
        sources=proposal.sources,
        evidence=recommender_pb2.Evidence(field=span.field, start=span.start, end=span.end, text=span.text)
        if span
        else None,
        reasons=[
            types_pb2.Reason(feature=reason.feature, value=reason.value, contribution=reason.contribution)
            for reason in proposal.reasons
        ],
        facts=proposal.facts,
        release=proposal.release,
        prompt=proposal.prompt,
        model=proposal.model,
        arrived=case.arrived,
        claimed_by=case.claimed_by,
        claimed_until=case.claimed_until,
        history=[_word(word) for word in case.history],
        promised=proposal.promised,
        unit=proposal.unit,
    )


def _word(word: Word) -> review_pb2.Word:
    return review_pb2.Word(
        saying=SAYINGS.index(word.saying) + 1,  # type: ignore[arg-type]
        correction=word.correction,
        person=word.person,
        reason=word.reason,
        time=word.time,
    )


def _group(figures: GroupFigures) -> review_pb2.AuditedGroup:
    finding, switched = figures.finding, figures.switched
    return review_pb2.AuditedGroup(
        group=figures.group,
        release=figures.release,
        audited=finding.audited,
        wrong=finding.wrong,
        cases=figures.cases,
        pending=figures.pending,
        promise=finding.promise,
        precision=finding.precision,
        lower=finding.lower,
        evidence=finding.evidence,
        enough=finding.enough,
        standing=finding.standing,
        switched=review_pb2.Switch(person=switched.person, time=switched.time, reason=switched.reason)
        if switched
        else None,
    )
