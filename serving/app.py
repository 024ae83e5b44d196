"""Composition: which deployments there are, how they are joined, and how the service starts and stops.

The one place that configures Ray. Ray reads its flags from the environment when its processes start, so they are set
here before Ray is imported, one by one: each was tested (DESIGN.md; `tests/e2e`).
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from features.workspace import Workspace
from models import release
from serving import auth
from serving.config import IngressConfig, ServeConfig, from_sections
from serving.errors import NotReady
from serving.gateway.config import DEFAULT_TARGET

if TYPE_CHECKING:
    from ray.serve import Application

APP = "tandem"
_LOGGING = {"log_level": "WARNING", "enable_access_log": False}
SERVICERS = (
    "protos.tandem.v1.recommender_pb2_grpc.add_RecommenderServicer_to_server",
    "protos.tandem.v1.ensemble_pb2_grpc.add_EnsembleServicer_to_server",
    "protos.tandem.v1.graph_pb2_grpc.add_GraphServicer_to_server",
    "protos.tandem.v1.review_pb2_grpc.add_ReviewServicer_to_server",
    "protos.tandem.v1.llm_pb2_grpc.add_LLMServicer_to_server",
    "grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server",
    "grpc_reflection.v1alpha.reflection_pb2_grpc.add_ServerReflectionServicer_to_server",
)


def ray_environment(ingress: IngressConfig) -> dict[str, str]:
    """Ray's flags for this service: HAProxy in front, ports of our choosing, nothing sent anywhere."""
    base = ingress.internal_ports
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(base),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(base + 1),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(base + 2),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(base + 3),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(base + 100),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(base + 199),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(base + 300),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(base + 399),
        # On a busy machine of two cores the front end needs more than the 5 s after which Ray starts it over.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        # Ray waits 30 s for balancers elsewhere to notice a stopping replica; here HAProxy stops with it.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "HF_HUB_OFFLINE": "1",
    }


def build(workspace: Workspace, config: ServeConfig) -> Application:
    """The application: an ingress, the LLM beside it, and in the split topology the trees on their own."""
    from ray import serve

    from serving.deployments import LLMServer, TreeServer
    from serving.ingress import Ingress

    parts: dict[str, Any] = {"llms": {}}
    for name, target in config.llms.targets.items():
        if not target.own_weights:
            continue  # an endpoint is asked from the ingress itself
        parts["llms"][name] = serve.deployment(
            LLMServer,
            name="LLM" if name == DEFAULT_TARGET else f"LLM-{name}",
            max_ongoing_requests=target.max_concurrency,
            max_queued_requests=2 * target.max_concurrency,
            ray_actor_options={
                "num_cpus": config.llm_num_cpus if target.num_cpus is None else target.num_cpus,
                "num_gpus": config.llm_num_gpus if target.num_gpus is None else target.num_gpus,
            },
            health_check_period_s=5,
            graceful_shutdown_timeout_s=10,
        ).bind(target.model_copy(update={"weights_dir": workspace.llm}))
    if config.topology == "split":
        for name in ("ranker", "ensemble"):
            parts[name] = serve.deployment(
                TreeServer,
                name=name.capitalize(),
                max_ongoing_requests=config.ingress.max_ongoing,
                max_queued_requests=config.ingress.max_queued,
                ray_actor_options={"num_cpus": config.ingress.num_cpus},
            ).bind(workspace)
    return serve.deployment(
        Ingress,
        name="Ingress",
        num_replicas=config.ingress.replicas,
        max_ongoing_requests=config.ingress.max_ongoing,
        max_queued_requests=config.ingress.max_queued,
        ray_actor_options={"num_cpus": config.ingress.num_cpus},
        graceful_shutdown_timeout_s=5,
    ).bind(workspace.root, config, **parts)


class ApplicationArgs(BaseModel):
    """``args`` of the application in a Ray Serve config file (deploy/serve.yaml)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workspace: Path
    """On storage that every node mounts at this path."""
    config: Path | None = None
    """A settings file (deploy/tandem.toml) on that storage."""
    settings: dict[str, Any] = {}
    """The same sections inline; one given here replaces the file's."""


def application(args: dict[str, Any]) -> Application:
    """The builder that `serve deploy` and `serve run` call with a config file's ``args``: see ApplicationArgs.

    Ports, interface and Ray's own flags are the cluster's: they are set where Ray is started (deploy/README.md).
    """
    given = ApplicationArgs.model_validate(args)
    workspace = Workspace(given.workspace)
    sections = tomllib.loads(given.config.read_text()) if given.config is not None else {}
    auth.ensure_key(workspace.api_key)
    return build(workspace, from_sections({**sections, **given.settings}))


@contextmanager
def running(workspace: Workspace, config: ServeConfig, quiet: bool = False) -> Iterator[str]:
    """Serve while the context lasts; yields the gRPC address. Nothing is left running afterwards.

    Raises NotReady where a port is taken or nothing was trained, before anything is started.
    """
    release.read(workspace.releases)
    for port in (
        config.ingress.port,
        config.ingress.http_port,
        *range(config.ingress.internal_ports, config.ingress.internal_ports + 4),
    ):
        _check_free(config.ingress.host, port)
    auth.ensure_key(workspace.api_key)
    os.environ.update(ray_environment(config.ingress))
    if quiet:
        os.environ["RAY_SERVE_LOG_TO_STDERR"] = "0"
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions, gRPCOptions

    started_here = not ray.is_initialized()
    try:
        if started_here:
            on_sigterm = signal.getsignal(signal.SIGTERM)
            ray.init(
                address=os.environ.get("RAY_ADDRESS"),
                **({} if os.environ.get("RAY_ADDRESS") else _local_ray()),
                log_to_driver=not quiet,
                logging_level="ERROR" if quiet else "WARNING",
            )
            if on_sigterm is not None and threading.current_thread() is threading.main_thread():
                # Ray's own handler ends this process on the spot, and what it started would live on for a while.
                signal.signal(signal.SIGTERM, on_sigterm)
        serve.start(
            proxy_location="HeadOnly",
            http_options=HTTPOptions(host=config.ingress.host, port=config.ingress.http_port),
            grpc_options=gRPCOptions(
                port=config.ingress.port,
                grpc_servicer_functions=list(SERVICERS),
                # Ray would answer reflection on the replica's port without asking for the key; the ingress does ask.
                enable_reflection=False,
            ),
            logging_config=_LOGGING,
        )
        # Given twice: replicas do not take over what their controller and proxy were told.
        serve.run(build(workspace, config), name=APP, route_prefix="/", logging_config=_LOGGING)
        yield f"{config.ingress.host}:{config.ingress.port}"
    finally:
        if started_here and ray.is_initialized():
            serve.shutdown()
            ray.shutdown()


def _local_ray() -> dict[str, Any]:
    return {
        # Logical cores: ingress, LLM and trees each hold some, and a laptop with two must run them all.
        "num_cpus": max(4, os.cpu_count() or 1),
        "include_dashboard": False,
        "runtime_env": {"env_vars": {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}},
    }


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host if host not in ("*", "") else "0.0.0.0", port))
        except OSError as error:
            raise NotReady(
                f"port {port} on {host} cannot be used ({error.strerror}); end what listens there, or set "
                "ingress.port, ingress.http_port and ingress.internal_ports"
            ) from error
