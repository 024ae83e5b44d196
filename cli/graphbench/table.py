"""A report of `measure` as tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

WORKLOADS = ("closure", "chain", "same_generation", "reachability", "university", "family", "catalog")
_TIMES = ("tandem", "clingo", "owlrl", "networkx")


def show_report(report: dict[str, Any]) -> None:
    """Prints times, single questions and changes, targets, and what was left out."""
    console = Console()
    for table in (_times, _ratios, _single, _fallbacks, _targets):
        console.print(table(report))
    for name, reason in _skipped(report):
        console.print(f"{name}: {reason}", highlight=False)
    conditions = report["conditions"]
    console.print(
        f"{conditions['measured']}; {conditions['cores']} cores, load {conditions['load_before']:.1f} before; "
        f"compiled or read from the cache in {report['warm_up_s']:.1f} s",
        highlight=False,
    )


def _times(report: dict[str, Any]) -> Table:
    table = _table("CPU seconds to the fixpoint", ("workload", "derived", *_TIMES))
    for name, figures in _measured(report):
        times = (figures.get(f"{engine}_s") for engine in _TIMES)
        table.add_row(name, f"{figures['derived']:,}", *map(_seconds, times))
    return table


def _ratios(report: dict[str, Any]) -> Table:
    columns = ("workload", "derived", "read and ground", "ground alone", "tuples in Python")
    table = _table("Times faster than clingo", columns)
    for name, figures in _measured(report):
        if figures.get("clingo_s"):
            own = (figures["tandem_s"], figures["tandem_s"], figures["tandem_tuples_s"])
            theirs = (figures[f"clingo_{each}"] for each in ("s", "grounding_s", "tuples_s"))
            table.add_row(name, f"{figures['derived']:,}", *(f"{b / a:.1f}" for a, b in zip(own, theirs)))
    return table


def _single(report: dict[str, Any]) -> Table:
    table = _table("The catalog, one question or product at a time", ("what", "p50", "p99"))
    for part, unit in (("lookup", "µs"), ("change", "ms")):
        for name, figures in report[part].items():
            what = name.removesuffix("_us").removesuffix("_ms")
            table.add_row(what, f"{figures['p50']:.2f} {unit}", f"{figures['p99']:.2f} {unit}")
    return table


def _fallbacks(report: dict[str, Any]) -> Table:
    table = _table("Changes too wide for an update in place", ("what", "facts removed", "update s", "evaluation s"))
    for name, figures in report["fallback"].items():
        seconds = (_seconds(figures[each]) for each in ("update_s", "evaluation_s"))
        table.add_row(name, f"{figures['removed']:,}", *seconds)
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    return table


def _targets(report: dict[str, Any]) -> Table:
    table = _table("Targets", ("figure", "value", "target", ""))
    for name, figure in report["targets"].items():
        bound = "≥" if figure["bound"] == "at least" else "≤"
        met = Text("met", style="green") if figure["met"] else Text("not met", style="red")
        table.add_row(name, f"{figure['value']:.3g}", f"{bound} {figure['target']:g}", met)
    return table


def _measured(report: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((name, figures) for name in WORKLOADS for figures in report.get(name, {}).values())


def _skipped(report: dict[str, Any]) -> list[tuple[str, str]]:
    found = list(report["skipped"].items())
    for name in WORKLOADS:
        for size, figures in report.get(name, {}).items():
            found += [(f"{name} {size}, {peer}", reason) for peer, reason in figures["skipped"].items()]
    return found


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}" if value < 1 else f"{value:.2f}"
