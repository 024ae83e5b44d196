"""The targets (issue 4), and which of them a report meets. What was not measured is left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

Figure: TypeAlias = tuple[str, float | None, float, str]
"""Name, value, target, "at least" or "at most"."""

_LARGE = 100_000
"""Ratios to clingo hold from so many derived facts on; those to owlrl from 1,000."""
_CLINGO = {"closure": 3.0, "same_generation": 3.0, "catalog": 3.0, "chain": 1.2}
_IN_PYTHON = 10.0
_OWLRL = 100.0
_GROWTH = 3.0
_GROWING = ("closure", "chain", "same_generation", "university", "reachability")


def targets(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every figure with a target, by name: {value, target, bound, met}."""
    figures = [*_ratios(report), *_seconds(report), *_growth(report), *_one_by_one(report)]
    return {
        name: {"value": value, "target": target, "bound": bound, "met": _met(value, target, bound)}
        for name, value, target, bound in figures
        if value is not None
    }


def _met(value: float, target: float, bound: str) -> bool:
    return value >= target if bound == "at least" else value <= target


def _ratios(report: dict[str, Any]) -> Iterator[Figure]:
    for workload, size, figures in _measured(report):
        name = f"{workload} {size}"
        if figures["derived"] >= 0.9 * _LARGE:
            if workload in _CLINGO:
                yield f"{name}: × clingo", _ratio(figures, "clingo_s", "tandem_s"), _CLINGO[workload], "at least"
            tuples = _ratio(figures, "clingo_tuples_s", "tandem_tuples_s")
            yield f"{name}: × clingo, in Python", tuples, _IN_PYTHON, "at least"
        yield f"{name}: × owlrl", _ratio(figures, "owlrl_s", "tandem_s"), _OWLRL, "at least"


def _seconds(report: dict[str, Any]) -> Iterator[Figure]:
    catalog = report.get("catalog", {}).get("all", {})
    yield "catalog on ids, s", catalog.get("tandem_s"), 1.0, "at most"
    yield "catalog with names in and out, s", catalog.get("tandem_names_s"), 2.0, "at most"
    hops = report.get("reachability", {}).get(str(_LARGE), {})
    yield "reachability over 100,000 hops, s", hops.get("tandem_s"), 1.0, "at most"
    for workload, size, figures in _measured(report):
        if figures["derived"] >= 0.9 * _LARGE:
            yield f"{workload} {size}: bytes a fact", figures["bytes_per_fact"], 64.0, "at most"


def _growth(report: dict[str, Any]) -> Iterator[Figure]:
    for workload in _GROWING:
        sizes = report.get(workload, {})
        each = [sizes[size]["tandem_s"] / sizes[size]["derived"] for size in sizes if int(size) >= 10_000]
        if len(each) > 1:
            yield f"{workload}: time a fact over sizes, ×", max(each) / min(each), _GROWTH, "at most"


def _one_by_one(report: dict[str, Any]) -> Iterator[Figure]:
    for what in ("added", "changed", "deleted"):
        yield f"one product {what}, p99 ms", report.get("change", {}).get(f"{what}_ms", {}).get("p99"), 1.0, "at most"
    lookup = report.get("lookup", {})
    yield "point lookup, p99 µs", lookup.get("holds_us", {}).get("p99"), 5.0, "at most"
    yield "whole proof, p99 µs", lookup.get("proof_us", {}).get("p99"), 100.0, "at most"


def _measured(report: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for workload in (*_GROWING, "family", "catalog"):
        for size, figures in report.get(workload, {}).items():
            yield workload, size, figures


def _ratio(figures: dict[str, Any], above: str, below: str) -> float | None:
    value = figures.get(above)
    return None if value is None else value / figures[below]
