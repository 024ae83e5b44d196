"""A replica of the service behind a real gRPC server in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from features.workspace import Workspace
from protos.tandem.v1 import ensemble_pb2_grpc, graph_pb2_grpc, llm_pb2_grpc, recommender_pb2_grpc, review_pb2_grpc
from serving import auth
from serving.client import Client
from serving.config import ServeConfig
from serving.ingress import Ingress


@contextmanager
def served(root: Path, config: ServeConfig) -> Iterator[tuple[Client, Ingress]]:
    """A replica as Ray runs it, behind gRPC's own server on a free port of the loopback."""
    key = auth.ensure_key(Workspace(root).api_key)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[Ingress, grpc.aio.Server, int]:
        ingress = Ingress(root, config)
        server = grpc.aio.server()
        recommender_pb2_grpc.add_RecommenderServicer_to_server(ingress, server)  # type: ignore[no-untyped-call]
        ensemble_pb2_grpc.add_EnsembleServicer_to_server(ingress, server)  # type: ignore[no-untyped-call]
        graph_pb2_grpc.add_GraphServicer_to_server(ingress, server)  # type: ignore[no-untyped-call]
        review_pb2_grpc.add_ReviewServicer_to_server(ingress, server)  # type: ignore[no-untyped-call]
        llm_pb2_grpc.add_LLMServicer_to_server(ingress, server)  # type: ignore[no-untyped-call]
        # The health protocol has a method more than Ray asks the ingress for.
        health = SimpleNamespace(Check=ingress.Check, Watch=ingress.Watch, List=None)
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(ingress, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return ingress, server, port

    ingress, server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(300)
    try:
        with Client(f"127.0.0.1:{port}", key) as client:
            yield client, ingress
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(1), loop).result(30)
        asyncio.run_coroutine_threadsafe(ingress.aclose(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
