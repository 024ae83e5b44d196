"""The ingress: gRPC methods of every service, one process that holds all but the LLM. RPC -> codec -> pipeline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from features.workspace import Workspace
from models import release
from protos.tandem.v1 import ensemble_pb2, graph_pb2, llm_pb2, recommender_pb2, review_pb2
from serving import auth, codec, graphcodec, llmcodec, pipeline, reviewcodec
from serving.codec import Codec
from serving.config import ServeConfig
from serving.graphcodec import GraphCodec
from serving.llmcodec import LLMCodec
from serving.llms import guard_logs, open_llms
from serving.load import COLD_GUARDRAIL, DISCOVERY, RANKER, TAG_GUARDRAIL, load_live
from serving.memory import keep_for_good
from serving.pipeline import graph, questions, review
from serving.pipeline.ask import ask_llm
from serving.pipeline.questions import LiteralsQuery
from serving.reviewcodec import ReviewCodec
from serving.services import Services
from serving.status import status_of
from serving.streaming import in_order

_log = logging.getLogger("ray.serve")
Reply = TypeVar("Reply", bound=Message)

SERVICES = (
    "tandem.v1.Recommender",
    "tandem.v1.Ensemble",
    "tandem.v1.Graph",
    "tandem.v1.Review",
    "tandem.v1.LLM",
    "grpc.health.v1.Health",
)
LLM_SERVICE = "tandem.llm"
"""Name under which the health service tells whether the LLM answers; the other services never wait for it."""


class Ingress:
    """One replica. Ray Serve calls a method by the RPC's name; every call is authenticated first.

    Made in the event loop that serves it, as Ray does.
    """

    def __init__(
        self,
        root: Path,
        config: ServeConfig,
        llms: Mapping[str, Any] | None = None,
        ranker: Any = None,
        ensemble: Any = None,
    ) -> None:
        self._closed = True  # nothing is open yet
        workspace = Workspace(root)
        self._key = auth.read_key(workspace.api_key)
        self._codec = Codec(config.limits, config.default_deadline_ms)
        self._graph_codec = GraphCodec(self._codec, config.limits)
        self._review_codec = ReviewCodec(self._codec, config.limits, config.review)
        self._llm_codec = LLMCodec(self._codec, config.limits)
        remote = None
        if ranker is not None:
            remote = {RANKER: ranker, DISCOVERY: ranker, TAG_GUARDRAIL: ensemble, COLD_GUARDRAIL: ensemble}
        current, _ = release.read(workspace.releases)
        guard_logs(config, self._key)
        self._llms = open_llms(workspace, config, current, "ingress", llms)
        self._clock = self._llms.telemetry.clock
        self._at_once = config.limits.stream
        self._live = load_live(workspace, config, self._llms, remote)
        keep_for_good()
        self._closed = False
        self._starting = asyncio.get_running_loop().create_task(self._llms.start())

    async def aclose(self) -> None:
        """Write what is not written yet, and let go of everything."""
        self._closed = True
        self._starting.cancel()
        await self._llms.aclose()
        self._live.close()
        if self._services.review is not None:
            self._services.review.close()

    def __del__(self) -> Awaitable[None] | None:
        """Ray awaits what this returns when it stops a replica; Python's own call comes later, when nothing is open."""
        return None if self._closed else self.aclose()

    @property
    def _services(self) -> Services:
        return self._live.services

    # --- tandem.v1.Recommender ---------------------------------------------------------------------------------------

    async def Recommend(  # noqa: N802 - an RPC's name
        self, request: recommender_pb2.RecommendRequest, grpc_context: Any
    ) -> recommender_pb2.RecommendReply:
        async def answer() -> recommender_pb2.RecommendReply:
            query = self._codec.recommend_query(request)
            return codec.recommend_reply(
                await pipeline.recommend(self._services, query, self._clock(query.deadline_ms))
            )

        return await self._answer(request, grpc_context, answer, recommender_pb2.RecommendReply)

    async def Tag(  # noqa: N802 - an RPC's name
        self, request: recommender_pb2.TagRequest, grpc_context: Any
    ) -> recommender_pb2.TagReply:
        async def answer() -> recommender_pb2.TagReply:
            services, query = self._services, self._codec.tag_query(request)
            clock = self._clock(query.deadline_ms)
            tagging = await pipeline.tag(services, query, clock)
            return codec.tag_reply(await review.put_up(services, query, tagging, clock))

        return await self._answer(request, grpc_context, answer, recommender_pb2.TagReply)

    async def RecordEvents(  # noqa: N802 - an RPC's name
        self, request: recommender_pb2.RecordEventsRequest, grpc_context: Any
    ) -> recommender_pb2.RecordEventsReply:
        async def answer() -> recommender_pb2.RecordEventsReply:
            request_id = self._codec.request_id(request.request_id)
            events = self._codec.events(request, self._services.recorded_at())
            return codec.record_reply(request_id, pipeline.record_events(self._services, events))

        return await self._answer(request, grpc_context, answer, recommender_pb2.RecordEventsReply)

    async def UpsertItems(  # noqa: N802 - an RPC's name
        self, request: recommender_pb2.UpsertItemsRequest, grpc_context: Any
    ) -> recommender_pb2.UpsertItemsReply:
        async def answer() -> recommender_pb2.UpsertItemsReply:
            request_id = self._codec.request_id(request.request_id)
            items = self._codec.catalog_items(request)
            return codec.upsert_reply(request_id, await pipeline.upsert_items(self._live, items))

        return await self._answer(request, grpc_context, answer, recommender_pb2.UpsertItemsReply)

    # --- tandem.v1.Ensemble ------------------------------------------------------------------------------------------

    async def Score(  # noqa: N802 - an RPC's name
        self, request: ensemble_pb2.ScoreRequest, grpc_context: Any
    ) -> ensemble_pb2.ScoreReply:
        async def answer() -> ensemble_pb2.ScoreReply:
            query = self._codec.score_query(request)
            return codec.score_reply(await pipeline.score(self._services, query, self._clock(query.deadline_ms)))

        return await self._answer(request, grpc_context, answer, ensemble_pb2.ScoreReply)

    async def ScoreStream(self, stream: Any, grpc_context: Any) -> AsyncIterator[Any]:  # noqa: N802 - an RPC's name
        try:
            auth.check(self._key, grpc_context.invocation_metadata())
        except Exception as error:
            self._refuse(grpc_context, error)
            return

        async def answer(request: ensemble_pb2.ScoreRequest) -> ensemble_pb2.ScoreReply:
            try:
                query = self._codec.score_query(request)
                answer = await pipeline.score(self._services, query, self._clock(query.deadline_ms))
                return codec.score_reply(answer)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                code, text = self._told(error, request.request_id)
                return codec.score_failure(request.request_id, code.name, text)

        async for reply in in_order(aiter(stream), answer, self._at_once):
            yield reply

    # --- tandem.v1.Graph ---------------------------------------------------------------------------------------------

    async def Query(  # noqa: N802 - an RPC's name
        self, request: graph_pb2.QueryRequest, grpc_context: Any
    ) -> graph_pb2.QueryReply:
        async def answer() -> graph_pb2.QueryReply:
            services, query = self._services, self._graph_codec.fact_query(request)
            clock = self._clock(query.deadline_ms)
            if isinstance(query, LiteralsQuery):
                answers = await questions.answers(services, query, clock)
                return graphcodec.answers_reply(query, answers, services.release.id, clock)
            page = await graph.query(services, query, clock)
            return graphcodec.query_reply(query, page, services.release.id, clock)

        return await self._answer(request, grpc_context, answer, graph_pb2.QueryReply)

    async def Explain(  # noqa: N802 - an RPC's name
        self, request: graph_pb2.ExplainRequest, grpc_context: Any
    ) -> graph_pb2.ExplainReply:
        async def answer() -> graph_pb2.ExplainReply:
            services, query = self._services, self._graph_codec.explain_query(request)
            clock = self._clock(query.deadline_ms)
            proof = await graph.explain(services, query.fact, clock)
            return graphcodec.explain_reply(query, proof, services, clock)

        return await self._answer(request, grpc_context, answer, graph_pb2.ExplainReply)

    async def Assert(  # noqa: N802 - an RPC's name
        self, request: graph_pb2.AssertRequest, grpc_context: Any
    ) -> graph_pb2.AssertReply:
        async def answer() -> graph_pb2.AssertReply:
            request_id = self._codec.request_id(request.request_id)
            told = self._graph_codec.assertions(request)
            return graphcodec.assert_reply(request_id, await graph.assert_facts(self._live, told))

        return await self._answer(request, grpc_context, answer, graph_pb2.AssertReply)

    async def Retract(  # noqa: N802 - an RPC's name
        self, request: graph_pb2.RetractRequest, grpc_context: Any
    ) -> graph_pb2.RetractReply:
        async def answer() -> graph_pb2.RetractReply:
            request_id = self._codec.request_id(request.request_id)
            facts, source = self._graph_codec.retracted_facts(request)
            return graphcodec.retract_reply(request_id, await graph.retract_facts(self._live, facts, source))

        return await self._answer(request, grpc_context, answer, graph_pb2.RetractReply)

    # --- tandem.v1.Review --------------------------------------------------------------------------------------------

    async def ListCases(  # noqa: N802 - an RPC's name
        self, request: review_pb2.ListCasesRequest, grpc_context: Any
    ) -> review_pb2.ListCasesReply:
        async def answer() -> review_pb2.ListCasesReply:
            query = self._review_codec.cases_query(request)
            return reviewcodec.cases_reply(query.request_id, await review.list_cases(self._services, query))

        return await self._answer(request, grpc_context, answer, review_pb2.ListCasesReply)

    async def Claim(  # noqa: N802 - an RPC's name
        self, request: review_pb2.ClaimRequest, grpc_context: Any
    ) -> review_pb2.ClaimReply:
        async def answer() -> review_pb2.ClaimReply:
            query = self._review_codec.claim_query(request)
            return reviewcodec.claim_reply(query.request_id, await review.claim(self._services, query))

        return await self._answer(request, grpc_context, answer, review_pb2.ClaimReply)

    async def Resolve(  # noqa: N802 - an RPC's name
        self, request: review_pb2.ResolveRequest, grpc_context: Any
    ) -> review_pb2.ResolveReply:
        async def answer() -> review_pb2.ResolveReply:
            query = self._review_codec.resolve_query(request)
            return reviewcodec.resolve_reply(query.request_id, await review.resolve(self._services, query))

        return await self._answer(request, grpc_context, answer, review_pb2.ResolveReply)

    async def Release(  # noqa: N802 - an RPC's name
        self, request: review_pb2.ReleaseRequest, grpc_context: Any
    ) -> review_pb2.ReleaseReply:
        async def answer() -> review_pb2.ReleaseReply:
            request_id, number, person = self._review_codec.release_query(request)
            released = await review.release(self._services, number, person)
            return review_pb2.ReleaseReply(request_id=request_id, released=released)

        return await self._answer(request, grpc_context, answer, review_pb2.ReleaseReply)

    async def Audit(  # noqa: N802 - an RPC's name
        self, request: review_pb2.AuditRequest, grpc_context: Any
    ) -> review_pb2.AuditReply:
        async def answer() -> review_pb2.AuditReply:
            request_id, of_release = self._review_codec.audit_query(request)
            return self._review_codec.audit_reply(request_id, await review.figures(self._services, of_release))

        return await self._answer(request, grpc_context, answer, review_pb2.AuditReply)

    async def Reset(  # noqa: N802 - an RPC's name
        self, request: review_pb2.ResetRequest, grpc_context: Any
    ) -> review_pb2.ResetReply:
        async def answer() -> review_pb2.ResetReply:
            request_id, group, person, reason = self._review_codec.reset_query(request)
            await review.reset(self._services, group, person, reason)
            return review_pb2.ResetReply(request_id=request_id, group=group)

        return await self._answer(request, grpc_context, answer, review_pb2.ResetReply)

    # --- tandem.v1.LLM -----------------------------------------------------------------------------------------------

    async def Status(  # noqa: N802 - an RPC's name
        self, request: llm_pb2.LLMStatusRequest, grpc_context: Any
    ) -> llm_pb2.LLMStatusReply:
        async def answer() -> llm_pb2.LLMStatusReply:
            request_id = self._codec.request_id(request.request_id)
            return llmcodec.status_reply(request_id, self._services.release.id, await self._llms.health())

        return await self._answer(request, grpc_context, answer, llm_pb2.LLMStatusReply)

    async def Ask(  # noqa: N802 - an RPC's name
        self, request: llm_pb2.LLMAskRequest, grpc_context: Any
    ) -> llm_pb2.LLMAskReply:
        async def answer() -> llm_pb2.LLMAskReply:
            services, query = self._services, self._llm_codec.query(request)
            asked = await ask_llm(services, query, self._clock(query.deadline_ms))
            return llmcodec.ask_reply(query.request_id, services.release.id, asked)

        return await self._answer(request, grpc_context, answer, llm_pb2.LLMAskReply)

    async def Cost(  # noqa: N802 - an RPC's name
        self, request: llm_pb2.LLMCostRequest, grpc_context: Any
    ) -> llm_pb2.LLMCostReply:
        async def answer() -> llm_pb2.LLMCostReply:
            request_id, days, tenant = self._llm_codec.cost_query(request)
            return llmcodec.cost_reply(request_id, await self._llms.spent(days, tenant))

        return await self._answer(request, grpc_context, answer, llm_pb2.LLMCostReply)

    async def Context(  # noqa: N802 - an RPC's name
        self, request: llm_pb2.LLMContextRequest, grpc_context: Any
    ) -> llm_pb2.LLMContextReply:
        async def answer() -> llm_pb2.LLMContextReply:
            request_id, of = self._llm_codec.context_query(request)
            return llmcodec.context_reply(request_id, await self._llms.contexts(of))

        return await self._answer(request, grpc_context, answer, llm_pb2.LLMContextReply)

    # --- grpc.health.v1.Health and reflection ------------------------------------------------------------------------

    async def Check(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - an RPC's name
        from grpc_health.v1 import health_pb2

        status = health_pb2.HealthCheckResponse

        async def answer() -> health_pb2.HealthCheckResponse:
            if request.service == LLM_SERVICE:
                return status(status=status.SERVING if await self._llm_ready() else status.NOT_SERVING)
            if request.service in ("", *SERVICES):
                return status(status=status.SERVING)
            grpc_context.set_code(grpc.StatusCode.NOT_FOUND)
            known = ", ".join([*SERVICES, LLM_SERVICE])
            grpc_context.set_details(f"no service {request.service[:100]!r}; there are {known}")
            return status(status=status.SERVICE_UNKNOWN)

        return await self._answer(request, grpc_context, answer, status)

    async def List(self, request: Any, grpc_context: Any) -> Any:  # noqa: N802 - an RPC's name
        from grpc_health.v1 import health_pb2

        status = health_pb2.HealthCheckResponse

        async def answer() -> health_pb2.HealthListResponse:
            llm = status.SERVING if await self._llm_ready() else status.NOT_SERVING
            told = {**dict.fromkeys(["", *SERVICES], status.SERVING), LLM_SERVICE: llm}
            return health_pb2.HealthListResponse(statuses={name: status(status=one) for name, one in told.items()})

        return await self._answer(request, grpc_context, answer, health_pb2.HealthListResponse)

    async def Watch(self, request: Any, grpc_context: Any) -> AsyncIterator[Any]:  # noqa: N802, ARG002 - an RPC's
        from grpc_health.v1 import health_pb2

        try:
            auth.check(self._key, grpc_context.invocation_metadata())
        except Exception as error:
            self._refuse(grpc_context, error)
            return
        # The health protocol lets a server refuse Watch this way; clients then poll Check.
        grpc_context.set_code(grpc.StatusCode.UNIMPLEMENTED)
        grpc_context.set_details("Watch is not served; poll Check")
        nothing: list[health_pb2.HealthCheckResponse] = []
        for message in nothing:
            yield message

    async def ServerReflectionInfo(self, stream: Any, grpc_context: Any) -> AsyncIterator[Any]:  # noqa: N802
        from grpc_reflection.v1alpha import reflection

        try:
            auth.check(self._key, grpc_context.invocation_metadata())
        except Exception as error:
            self._refuse(grpc_context, error)
            return
        servicer = reflection.ReflectionServicer([*SERVICES, reflection.SERVICE_NAME])
        async for request in stream:
            for reply in servicer.ServerReflectionInfo(iter([request]), None):
                yield reply

    # --- HTTP --------------------------------------------------------------------------------------------------------

    async def __call__(self, *_: Any) -> dict[str, str]:
        """Ray Serve opens an HTTP port whether asked or not; it says where the service is."""
        return {"service": "tandem", "protocol": "grpc", "services": ", ".join(SERVICES)}

    async def _llm_ready(self) -> bool:
        return any(not each.cause for each in await self._llms.health())

    async def _answer(
        self, request: Any, context: Any, answer: Callable[[], Awaitable[Reply]], empty: Callable[[], Reply]
    ) -> Reply:
        """The reply, or an empty one with a status: Ray would send the text of an exception to the client."""
        metadata, request_id = context.invocation_metadata(), getattr(request, "request_id", "")
        with self._llms.telemetry.rpc(type(request).__name__.removesuffix("Request"), metadata, request_id) as call:
            try:
                auth.check(self._key, metadata)
                return await answer()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                call.code = self._refuse(context, error, request_id)
                return empty()

    def _refuse(self, context: Any, error: Exception, request_id: str = "") -> str:
        """Tell the client; the code's name."""
        code, text = self._told(error, request_id)
        context.set_code(code)
        context.set_details(text)
        return str(code.name)

    def _told(self, error: Exception, request_id: str) -> tuple[grpc.StatusCode, str]:
        """What a client is told of an error; the log has what it is not told."""
        code, text = status_of(error)
        # !r: an id is a caller's text and must not write lines of its own.
        if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.FAILED_PRECONDITION):
            _log.error("request %.300r: %s: %s", request_id, code.name, error, exc_info=error)
        elif code is grpc.StatusCode.UNAVAILABLE:
            _log.warning("request %.300r: %s: %s", request_id, code.name, error)
        return code, text
