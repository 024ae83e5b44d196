"""Dashboard, scrape file and alert rules name metrics and labels that the service has, and use every one it has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry

from serving.gateway.metrics import Metrics
from serving.gateway.monitors import MonitorConfig, Monitors
from serving.telemetry import TelemetryConfig
from tests.unit.serving.observed import answered, ask, attempt, failed, one_ask

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
NAME = re.compile(r"\btandem_\w+")
_SELECTOR = re.compile(r"(tandem_\w+)\{([^}]*)\}")
_GROUPED = re.compile(r"by \(([^)]*)\) ?\(((?:[^()]|\([^()]*\))*)\)")


def series() -> dict[str, set[str]]:
    """Every series of a service that has seen everything once: its name and its labels."""
    registry = CollectorRegistry()
    told = Metrics(registry)
    watch = Monitors(MonitorConfig(least=1), lambda: 0.0)
    registry.register(watch)
    calls = [attempt(problem="schema", first_token_s=0.1), attempt(repair=True), attempt(shadow=True)]
    for observer in (told, watch):
        one_ask(observer, ask(), calls, answered(attempts=2))
        one_ask(observer, ask(), calls[:2], failed("BudgetExceeded", attempts=2))
    told.breaker("default", "open")
    told.rpc("Tag", "OK", 0.01)
    told.failed("x")
    told.dropped("x", 1)
    return {sample.name: set(sample.labels) for family in registry.collect() for sample in family.samples}


def expressions() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana" / "tandem.json").read_text())
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    return shown + [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def test_every_metric_that_is_named_exists() -> None:
    named = {name for expression in expressions() for name in NAME.findall(expression)}
    assert len(named) > 20
    assert named - set(series()) == set()


def test_every_metric_that_exists_is_shown() -> None:
    named = " ".join(expressions())
    families = {re.sub(r"_(bucket|sum|count|created|total)$", "", name) for name in series()}
    assert {name for name in families if name not in named} == set()


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_is_balanced_and_uses_labels_its_metrics_have(expression: str) -> None:
    known = series()
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)
    for name, selector in _SELECTOR.findall(expression):
        assert set(re.findall(r"(\w+)\s*(?:=|!)", selector)) <= known[name]
    for labels, inside in _GROUPED.findall(expression):
        wanted = {label.strip() for label in labels.split(",")}
        for name in NAME.findall(inside):
            assert wanted <= known[name], f"{name} has {known[name]}"


def test_an_alert_says_what_to_do() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["remedy"]


def test_prometheus_scrapes_the_ports_the_service_takes_first() -> None:
    scrape: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = scrape["scrape_configs"]
    config = TelemetryConfig()
    ports = [int(target.rpartition(":")[2]) for target in job["static_configs"][0]["targets"]]
    assert ports == list(range(config.metrics_port, config.metrics_port + config.metrics_ports))
    assert all((DEPLOY / "prometheus" / name).exists() for name in scrape["rule_files"])
    assert 'job="tandem"' in (DEPLOY / "prometheus" / "alerts.yml").read_text()
    assert job["job_name"] == "tandem"
