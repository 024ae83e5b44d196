"""The ingress: gRPC methods of every service, one process that holds all but the LLM. RPC -> codec -> pipeline."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from features.workspace import Workspace
from protos.tandem.v1 import ensemble_pb2, graph_pb2, recommender_pb2
from serving import auth, codec, graphcodec, pipeline
from serving.clock import RequestClock
from serving.codec import Codec
from serving.config import ServeConfig
from serving.deployments import llm_provider
from serving.graphcodec import GraphCodec
from serving.load import COLD_GUARDRAIL, RANKER, TAG_GUARDRAIL, load_live
from serving.pipeline import graph
from serving.services import Services
from serving.status import status_of

_log = logging.getLogger("ray.serve")
Reply = TypeVar("Reply", bound=Message)

SERVICES = ("tandem.v1.Recommender", "tandem.v1.Ensemble", "tandem.v1.Graph", "grpc.health.v1.Health")
LLM_SERVICE = "tandem.llm"
"""Name under which the health service tells whether the LLM answers; the other services never wait for it."""


class Ingress:
    """One replica. Ray Serve calls a method by the RPC's name; every call is authenticated first."""

    def __init__(self, root: Path, config: ServeConfig, llm: Any = None, ranker: Any = None, ensemble: Any = None):
        workspace = Workspace(root)
        self._key = auth.read_key(workspace.api_key)
        self._codec = Codec(config.limits, config.default_deadline_ms)
        self._graph_codec = GraphCodec(self._codec, config.limits)
        self._llm = llm
        remote = None
        if ranker is not None:
            remote = {RANKER: ranker, TAG_GUARDRAIL: ensemble, COLD_GUARDRAIL: ensemble}
        self._live = load_live(workspace, config, llm_provider(llm) if llm is not None else None, remote)

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
                await pipeline.recommend(self._services, query, RequestClock(query.deadline_ms))
            )

        return await self._answer(request, grpc_context, answer, recommender_pb2.RecommendReply)

    async def Tag(  # noqa: N802 - an RPC's name
        self, request: recommender_pb2.TagRequest, grpc_context: Any
    ) -> recommender_pb2.TagReply:
        async def answer() -> recommender_pb2.TagReply:
            query = self._codec.tag_query(request)
            return codec.tag_reply(await pipeline.tag(self._services, query, RequestClock(query.deadline_ms)))

        return await self._answer(request, grpc_context, answer, recommender_pb2.TagReply)

    async def RecordEvents(  # noqa: N802 - an RPC's name
        self, request: recommender_pb2.RecordEventsRequest, grpc_context: Any
    ) -> recommender_pb2.RecordEventsReply:
        async def answer() -> recommender_pb2.RecordEventsReply:
            request_id = self._codec.request_id(request.request_id)
            now = int(time.time()) if self._services.config.clock == "wall" else self._services.config.data_end + 1
            events = self._codec.events(request, now)
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
            return codec.score_reply(await pipeline.score(self._services, query, RequestClock(query.deadline_ms)))

        return await self._answer(request, grpc_context, answer, ensemble_pb2.ScoreReply)

    # --- tandem.v1.Graph ---------------------------------------------------------------------------------------------

    async def Query(  # noqa: N802 - an RPC's name
        self, request: graph_pb2.QueryRequest, grpc_context: Any
    ) -> graph_pb2.QueryReply:
        async def answer() -> graph_pb2.QueryReply:
            services, query = self._services, self._graph_codec.fact_query(request)
            clock = RequestClock(query.deadline_ms)
            page = await graph.query(services, query, clock)
            return graphcodec.query_reply(query, page, services.release.id, clock)

        return await self._answer(request, grpc_context, answer, graph_pb2.QueryReply)

    async def Explain(  # noqa: N802 - an RPC's name
        self, request: graph_pb2.ExplainRequest, grpc_context: Any
    ) -> graph_pb2.ExplainReply:
        async def answer() -> graph_pb2.ExplainReply:
            services, query = self._services, self._graph_codec.explain_query(request)
            clock = RequestClock(query.deadline_ms)
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
        if self._llm is None:
            return False
        try:
            async with asyncio.timeout(2):
                return bool(await self._llm.ready.remote())
        except Exception:
            return False

    async def _answer(
        self, request: Any, context: Any, answer: Callable[[], Awaitable[Reply]], empty: Callable[[], Reply]
    ) -> Reply:
        """The reply, or an empty one with a status: Ray would send the text of an exception to the client."""
        try:
            auth.check(self._key, context.invocation_metadata())
            return await answer()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._refuse(context, error, getattr(request, "request_id", ""))
            return empty()

    def _refuse(self, context: Any, error: Exception, request_id: str = "") -> None:
        code, text = status_of(error)
        # !r: an id is a caller's text and must not write lines of its own.
        if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.FAILED_PRECONDITION):
            _log.error("request %.300r: %s: %s", request_id, code.name, error, exc_info=error)
        elif code is grpc.StatusCode.UNAVAILABLE:
            _log.warning("request %.300r: %s: %s", request_id, code.name, error)
        context.set_code(code)
        context.set_details(text)
