"""Calling Tandem from Python: a channel with the key, and plain errors. Light: gRPC and protobuf only."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from protos.tandem.v1 import (
    ensemble_pb2,
    ensemble_pb2_grpc,
    graph_pb2,
    graph_pb2_grpc,
    llm_pb2,
    llm_pb2_grpc,
    recommender_pb2,
    recommender_pb2_grpc,
    review_pb2,
    review_pb2_grpc,
    types_pb2,
)
from serving import auth
from serving.errors import ServingError


class CallFailed(ServingError):
    """A call was refused or not answered; ``code`` is gRPC's, the message the service's."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details


def find_key(workspace: Path) -> str:
    """The key from TANDEM_API_KEY, or from the workspace. Raises Unauthenticated."""
    return os.environ.get("TANDEM_API_KEY") or auth.read_key(workspace / "secrets" / "api_key")


class Client:
    """A connection to a Tandem service; use it as a context manager, from any number of threads."""

    def __init__(self, target: str = "127.0.0.1:9000", key: str = "", timeout_s: float = 60.0) -> None:
        self.target = target
        self.channel = grpc.insecure_channel(target)
        self._metadata = ((auth.HEADER, f"Bearer {key}"),)
        self._timeout_s = timeout_s
        self._recommender = recommender_pb2_grpc.RecommenderStub(self.channel)  # type: ignore[no-untyped-call]
        self._ensemble = ensemble_pb2_grpc.EnsembleStub(self.channel)  # type: ignore[no-untyped-call]
        self._graph = graph_pb2_grpc.GraphStub(self.channel)  # type: ignore[no-untyped-call]
        self._llm = llm_pb2_grpc.LLMStub(self.channel)  # type: ignore[no-untyped-call]
        self._review = review_pb2_grpc.ReviewStub(self.channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.channel.close()

    def recommend(self, request: recommender_pb2.RecommendRequest) -> recommender_pb2.RecommendReply:
        """Raises CallFailed."""
        reply: recommender_pb2.RecommendReply = self._call(self._recommender.Recommend, request)
        return reply

    def tag(self, request: recommender_pb2.TagRequest) -> recommender_pb2.TagReply:
        """Raises CallFailed."""
        reply: recommender_pb2.TagReply = self._call(self._recommender.Tag, request)
        return reply

    def record_events(self, events: Sequence[recommender_pb2.Event]) -> recommender_pb2.RecordEventsReply:
        """Raises CallFailed."""
        request = recommender_pb2.RecordEventsRequest(events=events)
        reply: recommender_pb2.RecordEventsReply = self._call(self._recommender.RecordEvents, request)
        return reply

    def upsert_items(self, items: Sequence[types_pb2.Item]) -> recommender_pb2.UpsertItemsReply:
        """Items for the catalog of the running service, without retraining; see `item`. Raises CallFailed."""
        request = recommender_pb2.UpsertItemsRequest(items=items)
        reply: recommender_pb2.UpsertItemsReply = self._call(self._recommender.UpsertItems, request)
        return reply

    def score(self, request: ensemble_pb2.ScoreRequest) -> ensemble_pb2.ScoreReply:
        """Raises CallFailed."""
        reply: ensemble_pb2.ScoreReply = self._call(self._ensemble.Score, request)
        return reply

    def score_stream(self, requests: Iterable[ensemble_pb2.ScoreRequest]) -> Iterator[ensemble_pb2.ScoreReply]:
        """Replies in the order of the requests, each as soon as it is there; one that failed says so in ``failure``.

        The deadline is each request's own. Raises CallFailed where the stream itself ends early.
        """
        try:
            yield from self._ensemble.ScoreStream(iter(requests), metadata=self._metadata)
        except grpc.RpcError as error:
            raise CallFailed(error.code(), error.details() or "") from error

    def facts(self, pattern: graph_pb2.Fact, page_size: int = 0) -> Iterator[graph_pb2.Fact]:
        """Every fact that matches, over as many pages as there are. Raises CallFailed."""
        token = ""
        while True:
            request = graph_pb2.QueryRequest(pattern=pattern, page_size=page_size, page_token=token)
            reply: graph_pb2.QueryReply = self._call(self._graph.Query, request)
            yield from reply.facts
            token = reply.next_page_token
            if not token:
                return

    def answers(self, literals: str, page_size: int = 0) -> tuple[list[str], list[list[str]]]:
        """Variables of a question of several literals and every answer, over all pages. Raises CallFailed."""
        token, found = "", list[list[str]]()
        while True:
            request = graph_pb2.QueryRequest(literals=literals, page_size=page_size, page_token=token)
            reply: graph_pb2.QueryReply = self._call(self._graph.Query, request)
            found += [list(answer.values) for answer in reply.answers]
            token = reply.next_page_token
            if not token:
                return list(reply.variables), found

    def explain(self, fact: graph_pb2.Fact) -> graph_pb2.ExplainReply:
        """Raises CallFailed."""
        reply: graph_pb2.ExplainReply = self._call(self._graph.Explain, graph_pb2.ExplainRequest(fact=fact))
        return reply

    def assert_facts(self, facts: Sequence[graph_pb2.Assertion], source: str) -> graph_pb2.AssertReply:
        """Facts that the service obeys from then on, kept over restarts. Raises CallFailed."""
        request = graph_pb2.AssertRequest(facts=facts, source=source)
        reply: graph_pb2.AssertReply = self._call(self._graph.Assert, request)
        return reply

    def retract_facts(self, facts: Sequence[graph_pb2.Fact], source: str = "") -> graph_pb2.RetractReply:
        """Take back what ``source`` (or anybody) asserted. Raises CallFailed."""
        request = graph_pb2.RetractRequest(facts=facts, source=source)
        reply: graph_pb2.RetractReply = self._call(self._graph.Retract, request)
        return reply

    def llm_status(self, request: llm_pb2.LLMStatusRequest) -> llm_pb2.LLMStatusReply:
        """Every language model the gateway may ask, as one replica sees it. Raises CallFailed."""
        reply: llm_pb2.LLMStatusReply = self._call(self._llm.Status, request)
        return reply

    def llm_ask(self, request: llm_pb2.LLMAskRequest) -> llm_pb2.LLMAskReply:
        """A prompt through the gateway. Raises CallFailed."""
        reply: llm_pb2.LLMAskReply = self._call(self._llm.Ask, request)
        return reply

    def llm_cost(self, request: llm_pb2.LLMCostRequest) -> llm_pb2.LLMCostReply:
        """What was spent on language models. Raises CallFailed."""
        reply: llm_pb2.LLMCostReply = self._call(self._llm.Cost, request)
        return reply

    def llm_context(self, request: llm_pb2.LLMContextRequest) -> llm_pb2.LLMContextReply:
        """What language models were told for a request, and answered. Raises CallFailed."""
        reply: llm_pb2.LLMContextReply = self._call(self._llm.Context, request)
        return reply

    def cases(self, wanted: review_pb2.CaseFilter, page_size: int = 0) -> Iterator[review_pb2.Case]:
        """Every case that matches, over as many pages as there are. Raises CallFailed."""
        token = ""
        while True:
            request = review_pb2.ListCasesRequest(filter=wanted, page_size=page_size, page_token=token)
            reply: review_pb2.ListCasesReply = self._call(self._review.ListCases, request)
            yield from reply.cases
            token = reply.next_page_token
            if not token:
                return

    def list_cases(self, request: review_pb2.ListCasesRequest) -> review_pb2.ListCasesReply:
        """One page of cases, and how many there are. Raises CallFailed."""
        reply: review_pb2.ListCasesReply = self._call(self._review.ListCases, request)
        return reply

    def claim(self, request: review_pb2.ClaimRequest) -> review_pb2.ClaimReply:
        """Cases held for one person until their lease ends. Raises CallFailed."""
        reply: review_pb2.ClaimReply = self._call(self._review.Claim, request)
        return reply

    def resolve(self, request: review_pb2.ResolveRequest) -> review_pb2.ResolveReply:
        """What a person says of a case, written down. Raises CallFailed."""
        reply: review_pb2.ResolveReply = self._call(self._review.Resolve, request)
        return reply

    def release_case(self, case_id: int, person: str) -> review_pb2.ReleaseReply:
        """Raises CallFailed."""
        request = review_pb2.ReleaseRequest(case_id=case_id, person=person)
        reply: review_pb2.ReleaseReply = self._call(self._review.Release, request)
        return reply

    def audit(self, release: str = "") -> review_pb2.AuditReply:
        """What the audit says of each group of tags. Raises CallFailed."""
        reply: review_pb2.AuditReply = self._call(self._review.Audit, review_pb2.AuditRequest(release=release))
        return reply

    def reset_group(self, group: str, person: str, reason: str) -> review_pb2.ResetReply:
        """Let a switched group accept again. Raises CallFailed."""
        request = review_pb2.ResetRequest(group=group, person=person, reason=reason)
        reply: review_pb2.ResetReply = self._call(self._review.Reset, request)
        return reply

    def serving(self, service: str = "") -> bool:
        """Whether the service (or ``tandem.llm``) says it is serving; False as well where nobody answers."""
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        try:
            reply = self._call(
                health_pb2_grpc.HealthStub(self.channel).Check, health_pb2.HealthCheckRequest(service=service)
            )
        except CallFailed:
            return False
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def _call(self, method: Any, request: object) -> Any:
        try:
            return method(request, metadata=self._metadata, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise CallFailed(error.code(), error.details() or "") from None


def item(title: str, text: str = "", attributes: Mapping[str, str] | None = None, item_id: str = "") -> types_pb2.Item:
    """A product for Tag, Score or UpsertItems; values of a list are joined by commas."""
    return types_pb2.Item(item_id=item_id, title=title, text=text, attributes=dict(attributes or {}))


def event(
    user_id: str,
    item_id: str,
    kind: str = "",
    value: float | None = None,
    timestamp: int = 0,
    *,
    session_id: str = "",
    place: str = "",
    price: float = 0.0,
    event_id: str = "",
) -> recommender_pb2.Event:
    """What a user did, for RecordEvents; what is left out takes the service's default."""
    return recommender_pb2.Event(
        event_id=event_id,
        user_id=user_id,
        item_id=item_id,
        kind=kind,
        value=value,
        timestamp=timestamp,
        session_id=session_id,
        place=place,
        price=price,
    )
