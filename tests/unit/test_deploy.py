"""The files under deploy/ say what the code does: settings are the defaults, the cluster file is one Ray takes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel, ValidationError

from cli import Settings
from features.store import OnlineStoreConfig
from models.guardrail import GuardrailConfig
from models.llm import LLMConfig
from models.networkfit import NetworkConfig
from models.policy import TagConfig
from models.ranker import RankerConfig
from serving import app
from serving.config import BackfillConfig, IngressConfig, Limits, ServeConfig, from_sections
from serving.gateway.cache import CacheConfig
from serving.gateway.config import BreakerConfig, BudgetConfig, GatewayConfig, RetryConfig, TargetConfig
from serving.gateway.contexts import ContextConfig
from serving.gateway.monitors import MonitorConfig
from serving.gateway.tracing import TraceConfig
from serving.review.config import ReviewConfig
from serving.telemetry import TelemetryConfig
from training.config import TrainConfig

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
TOML = DEPLOY / "tandem.toml"


def test_settings_file_states_the_defaults() -> None:
    settings = Settings.model_validate(tomllib.loads(TOML.read_text()))
    assert settings.train_config() == TrainConfig()
    assert settings.serve_config() == ServeConfig()


@pytest.mark.parametrize(
    "config",
    [
        OnlineStoreConfig,
        LLMConfig,
        TrainConfig,
        RankerConfig,
        NetworkConfig,
        GuardrailConfig,
        TagConfig,
        ServeConfig,
        IngressConfig,
        BackfillConfig,
        ReviewConfig,
        TargetConfig,
        GatewayConfig,
        BudgetConfig,
        RetryConfig,
        BreakerConfig,
        CacheConfig,
        TelemetryConfig,
        TraceConfig,
        ContextConfig,
        MonitorConfig,
        Limits,
    ],
)
def test_settings_file_names_every_setting(config: type[BaseModel]) -> None:
    text = TOML.read_text()
    sections = {"online_store", "llm", "gateway"}
    missing = [
        name
        for name in config.model_fields
        if name not in sections and f"\n{name} =" not in text and f"\n# {name}" not in text and f".{name}]" not in text
    ]
    assert not missing


@pytest.mark.parametrize("given", [{}, {"llm": False}, {"llm": True}, {"online_store": {"kind": "redis"}}])
def test_cluster_and_command_line_read_settings_alike(given: dict[str, Any]) -> None:
    sections = {**given, "serve": {"candidates": 50}, "train": {"seed": 1}}
    assert from_sections(sections) == Settings.model_validate(sections).serve_config()


def test_cluster_file_is_valid_and_names_our_servicers() -> None:
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(yaml.safe_load((DEPLOY / "serve.yaml").read_text()))
    assert tuple(schema.grpc_options.grpc_servicer_functions) == app.SERVICERS
    assert not schema.grpc_options.enable_reflection
    assert schema.applications[0].name == app.APP


def test_cluster_file_builds_the_application(tmp_path: Path) -> None:
    from ray._common.utils import import_attr
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
    from ray.serve._private.build_app import build_app

    (entry,) = yaml.safe_load((DEPLOY / "serve.yaml").read_text())["applications"]
    args = {**entry["args"], "workspace": str(tmp_path), "config": str(TOML)}
    application = call_user_app_builder_with_args_if_necessary(import_attr(entry["import_path"]), args)
    built = {deployment.name: deployment for deployment in build_app(application, name=app.APP).deployments}
    assert set(built) == {"Ingress", "LLM"}
    assert built["Ingress"].num_replicas == 2
    assert built["LLM"].ray_actor_options["num_gpus"] == 1.0
    assert (tmp_path / "secrets" / "api_key").stat().st_mode & 0o077 == 0


def test_cluster_arguments_refuse_unknown_keys(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="workspcae"):
        app.application({"workspace": str(tmp_path), "workspcae": "x"})
