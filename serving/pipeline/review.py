"""The Review service, and cases of an answer to Tag: written down before it is given. Nothing blocks the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from features.gold import VALUE_GROUP
from graph.rules.names import did_you_mean
from models.labelset import set_of
from serving.clock import RequestClock
from serving.errors import InvalidRequest, NotReady
from serving.messages import Tagging, TagQuery
from serving.review.cases import Case, CasePage, Change, Resolved, Saying, Wanted, Word
from serving.review.desk import ReviewDesk
from serving.review.proposals import proposals
from serving.review.switches import GroupFigures
from serving.services import Services


@dataclass(frozen=True, slots=True)
class CasesQuery:
    """A page of cases."""

    request_id: str
    wanted: Wanted
    page_size: int
    page_token: str = ""


@dataclass(frozen=True, slots=True)
class ClaimQuery:
    """Cases by number, or the first ``count`` open ones that are ``wanted``; ``lease_s`` in seconds."""

    request_id: str
    person: str
    numbers: tuple[int, ...]
    wanted: Wanted
    count: int
    lease_s: float


@dataclass(frozen=True, slots=True)
class ResolveQuery:
    """What a person says of a case."""

    request_id: str
    number: int
    person: str
    saying: Saying
    correction: str
    reason: str
    overrule: bool


async def put_up(services: Services, query: TagQuery, answer: Tagging, clock: RequestClock) -> Tagging:
    """The answer once its cases are written; where they could not be in the caller's time, it says so as degraded."""
    desk = services.review
    found = proposals(services, desk, query, answer) if desk is not None else []
    if desk is None or not found:
        return answer
    with clock.stage("review"):
        problem = await desk.put_up(found, clock.remaining_s)
    if problem:
        clock.degrade("review", problem)
    return replace(answer, header=clock.header(query.request_id, answer.header.release, answer.header.usage))


async def list_cases(services: Services, query: CasesQuery) -> CasePage:
    """Raises InvalidRequest for a token of other cases."""
    queue = _desk(services).queue
    return await asyncio.to_thread(queue.page, query.wanted, query.page_size, query.page_token)


async def claim(services: Services, query: ClaimQuery) -> Sequence[Case]:
    """Raises NotFound and CaseTaken for cases that are named."""
    queue = _desk(services).queue
    if query.numbers:
        return await asyncio.to_thread(queue.claim, query.person, query.numbers, query.lease_s)
    return await asyncio.to_thread(queue.claim_next, query.person, query.wanted, query.count, query.lease_s)


async def resolve(services: Services, query: ResolveQuery) -> Resolved:
    """Raises NotFound, CaseTaken, and InvalidRequest for a correction that is no other tag of the taxonomy."""
    return await asyncio.to_thread(_resolve, services, query)


async def release(services: Services, number: int, person: str) -> bool:
    """Whether there was a claim to let go of. Raises NotFound and CaseTaken."""
    return await asyncio.to_thread(_desk(services).queue.release, person, number)


async def figures(services: Services, of_release: str) -> tuple[GroupFigures, ...]:
    """Of the release that is served where none is named."""
    return await asyncio.to_thread(_desk(services).queue.figures, of_release or services.release.id)


async def reset(services: Services, group: str, person: str, reason: str) -> Change:
    """Raises NotFound where the group is not switched."""
    return await asyncio.to_thread(_desk(services).reset, group, person, reason)


def _resolve(services: Services, query: ResolveQuery) -> Resolved:
    desk = _desk(services)
    if query.saying == "correct":
        _check_correction(services, desk.queue.case(query.number), query.correction)
    word = Word(query.saying, query.person, desk.clock(), query.correction, query.reason)
    return desk.resolve(query.number, word, services.release.id, overrule=query.overrule)


def _check_correction(services: Services, case: Case, correction: str) -> None:
    if correction == case.proposal.tag:
        raise InvalidRequest(f"correction is {correction!r}, the tag of case {case.id} itself; accept the case instead")
    if case.proposal.group.startswith(VALUE_GROUP):
        _check_value(services, case.proposal.group.removeprefix(VALUE_GROUP), correction)
        return
    if (name := set_of(case.proposal.group)) is not None:
        _check_label(services, name, correction)
        return
    if correction not in services.catalog.labels:
        remedy = did_you_mean(correction, services.catalog.labels) or "give a label of the catalog, or reject the tag"
        raise InvalidRequest(f"correction {correction[:100]!r} is no tag of the taxonomy; {remedy}")


def _check_label(services: Services, name: str, correction: str) -> None:
    if name not in services.sets:
        raise InvalidRequest(f"this release has no label set {name!r}; accept or reject the case's own label")
    labels = services.sets[name].catalog.labels
    own, _, label = correction.partition("/")
    if own != name or label not in labels:
        near = did_you_mean(label or own, labels)
        remedy = near or f"write {name}/LABEL with one of its labels, or reject the tag"
        raise InvalidRequest(f"correction {correction[:100]!r} is no label of {name!r} as SET/LABEL; {remedy}")


def _check_value(services: Services, attribute: str, correction: str) -> None:
    """A person may know of an item what its words do not say; a value of the schema it must be all the same."""
    declared = {one.name: one for one in services.values.attributes} if services.values else {}
    if attribute not in declared:
        raise InvalidRequest(f"this release has no attribute {attribute!r}; accept or reject the case's own value")
    name, _, words = correction.partition("=")
    value = declared[attribute].read(words) if name == attribute else None
    if value is None or value.text != words:
        normal = f"; say {attribute}={value.text}" if value else ""
        raise InvalidRequest(
            f"correction {correction[:100]!r} is no value of the attribute {attribute!r} as ATTRIBUTE=VALUE{normal}"
        )


def _desk(services: Services) -> ReviewDesk:
    if services.review is None:
        raise NotReady("this process keeps no review queue; ask the running service (tandem serve)")
    return services.review
