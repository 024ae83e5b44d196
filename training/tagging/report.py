"""The tag evaluation for people: tables on a terminal, one HTML file, and a run in the MLflow store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from features.workspace import Workspace, write_atomically
from training.report import svg, tracking
from training.report.html import STYLE, data_table
from training.tagging.summary import SYSTEM, WITH_GRAPH

COLUMNS: Final = (
    "accuracy",
    "coverage@0.9",
    "coverage@0.95",
    "precision@0.95",
    "unit_precision@0.95",
    "item_precision@0.95",
    "coverage@0.98",
    "aurc",
    "augrc",
    "brier",
    "ece",
    "latency_ms",
    "cost",
)
_SHORT: Final = {
    "accuracy": "right",
    "coverage@0.9": "cov@90",
    "coverage@0.95": "cov@95",
    "precision@0.95": "prec@95",
    "coverage@0.98": "cov@98",
    "ece": "ECE",
}
"""What a terminal of 80 columns has room for; the page has all."""
_TUNED: Final = {
    "first shown": "first_shown",
    "LLM": "llm",
    "tuned": "fine_tuned",
    "trees": "trees",
    "with LLM": "both",
    "with tuned": "both_fine_tuned",
}
_TUNED_GAINS: Final = (
    "fine_tuned - llm",
    "fine_tuned - first_shown",
    "fine_tuned - trees",
    "both_fine_tuned - trees",
    "both_fine_tuned - both",
)
EXPERIMENT: Final = "tags"
_POSITIONS: Final = 10
"""Places at which curves are drawn."""


def render(result: Mapping[str, Any]) -> RenderableType:
    """A table of methods for every dataset, the coverage of each split, and the gains over the baselines."""
    parts: list[RenderableType] = []
    for name, found in result["datasets"].items():
        parts += [_methods(name, found), Text(_sentence(found) + "\n"), Text(_kept(found) + "\n")]
        parts += [_gains(found)] if "vocabularies" in found else [_splits(found), _gains(found)]
        if "llm" in found:
            parts += [_gold_sizes(found["llm"]), *_fine_tuned(found["llm"])]
        for vocabulary, own in found.get("vocabularies", {}).items():
            parts += [_methods(f"{name}/{vocabulary}", own), Text(_refused(own) + "\n"), _splits(own)]
    for reason in result.get("skipped", {}).values():
        parts.append(Text(f"skipped: {reason}"))
    return Group(*parts)


def write(workspace: Workspace, result: Mapping[str, Any]) -> Path:
    """Write the report as HTML and JSON into the workspace and keep a run in the MLflow store; the HTML's path.

    Raises MissingExtra where mlflow is not installed.
    """
    page, rendered = workspace.reports / "tags.html", html(result)
    write_atomically(page, rendered)
    write_atomically(workspace.reports / "tags.json", json.dumps(result, indent=2, allow_nan=False) + "\n")
    seeds = {f"{name}.seeds": str(found["seeds"]) for name, found in result["datasets"].items()}
    methods = {name: found["methods"] for name, found in result["datasets"].items()}
    tracking.record_run(workspace, EXPERIMENT, result, rendered, seeds, tracking.flat(methods))
    return page


def html(result: Mapping[str, Any]) -> str:
    """The page: no script, no font, no picture from anywhere else."""
    body = "".join(_dataset(name, found) for name, found in _with_vocabularies(result["datasets"]))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Tandem: tags</title><style>{STYLE}</style></head>\n"
        f"<body><main><h1>Tags one can publish</h1>{body}</main></body></html>\n"
    )


def _with_vocabularies(datasets: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for name, found in datasets.items():
        yield name, found
        for vocabulary, own in found.get("vocabularies", {}).items():
            yield f"{name}/{vocabulary}", own


def _methods(name: str, found: Mapping[str, Any]) -> Table:
    shown = Table(title=f"{name}: {found['groups']} groups, {found['labels']} labels", title_justify="left")
    for column in ("method", *_SHORT.values()):
        shown.add_column(column, justify="left" if column == "method" else "right", no_wrap=True)
    for method, values in found["methods"].items():
        style = "bold" if method in (SYSTEM, WITH_GRAPH) else ""
        shown.add_row(method, *(_number(values[column]) for column in _SHORT), style=style)
    return shown


def _splits(found: Mapping[str, Any]) -> Table:
    shown = Table(title="coverage at certified 95 %, by split", title_justify="left")
    shown.add_column("method")
    for seed in found["seeds"]:
        shown.add_column(str(seed), justify="right")
    for method, values in found["methods"].items():
        shown.add_row(method, *(_number(split["coverage"]) for split in values["by_seed@0.95"]))
    return shown


def _gains(found: Mapping[str, Any]) -> Table:
    shown = Table(title=f"{SYSTEM} minus method, 95 % intervals over groups", title_justify="left")
    for column in ("method", *_gained(found)):
        shown.add_column(column)
    for method, gains in found["gain"].get(SYSTEM, {}).items():
        shown.add_row(method, *(_span(gains[column]) for column in _gained(found)))
    return shown


def _gold_sizes(llm: Mapping[str, Any]) -> Table:
    """Where the LLM earns its place: accuracy by how many groups have gold."""
    shown = Table(
        title=f"accuracy by gold, {llm['asked_test']} groups asked about; {llm['model']}", title_justify="left"
    )
    for column in ("gold", "trees", "LLM", "both", "both minus trees"):
        shown.add_column(column, justify="right")
    for row in llm["by_gold_size"]:
        numbers = (_number(row[name]["mean"]) for name in ("trees", "llm", "both"))
        shown.add_row(str(row["gold"]), *numbers, _span(row["gain_of_llm"]))
    return shown


def _fine_tuned(llm: Mapping[str, Any]) -> Iterable[RenderableType]:
    """The same before and after fine-tuning; nothing where it was not fine-tuned."""
    if "fine_tuned" not in llm:
        return
    yield Text("\n" + _tuned_sentence(llm["fine_tuned"]))
    shown = Table(title="accuracy before and after fine-tuning, by gold", title_justify="left")
    for column in ("gold", *_TUNED):
        shown.add_column(column, justify="right")
    for name, cells in _tuned_rows(llm["fine_tuned"]):
        shown.add_row(name, *cells)
    yield shown
    gains = Table(title="gains, 95 % intervals over groups", title_justify="left")
    for column in ("gold", *_TUNED_GAINS):
        gains.add_column(column.replace("_", " "))
    for name, cells in _tuned_gains(llm["fine_tuned"]):
        gains.add_row(name, *cells)
    yield gains


def _tuned_sentence(tuned: Mapping[str, Any]) -> str:
    spent, config = tuned["training"], tuned["training"]["config"]
    lost = ", ".join(f"{loss:.3f}" for loss in spent["loss"])
    malformed = tuned["by_gold_size"][-1]["malformed"]
    how = f"LoRA of rank {config['rank']}, {spent['steps']} steps, {spent['seconds']:.0f} s on {spent['device']}"
    return (
        f"Fine-tuned: {tuned['model']}, on {tuned['pairs']} questions about {tuned['groups']} training groups that are "
        f"neither asked about nor evidence ({how}; loss by epoch {lost} nats a token). Malformed answers with all "
        f"gold: {malformed['llm']:.3f} before, {malformed['fine_tuned']:.3f} after."
    )


def _tuned_rows(tuned: Mapping[str, Any]) -> Iterable[tuple[str, Sequence[str]]]:
    for row in tuned["by_gold_size"]:
        yield str(row["gold"]), [_number(row[key]["mean"]) for key in _TUNED.values()]


def _tuned_gains(tuned: Mapping[str, Any]) -> Iterable[tuple[str, Sequence[str]]]:
    for row in tuned["by_gold_size"]:
        yield str(row["gold"]), [_span(row["gain"][name]) for name in _TUNED_GAINS]


def _llm_tables(llm: Mapping[str, Any]) -> str:
    """The tables about the LLM on the page."""
    columns = ("gold", "trees", "LLM", "both", "both minus trees")
    rows = [
        (
            str(row["gold"]),
            [*(_number(row[name]["mean"]) for name in ("trees", "llm", "both")), _span(row["gain_of_llm"])],
            False,
        )
        for row in llm["by_gold_size"]
    ]
    parts = [
        "<h3>Where the LLM earns its place</h3>",
        data_table(f"Accuracy by gold, {llm['asked_test']} groups asked about; {llm['model']}", columns, rows),
    ]
    if tuned := llm.get("fine_tuned"):
        parts += [
            f"<h3>Fine-tuned</h3><p>{escape(_tuned_sentence(tuned))}</p>",
            data_table(
                "Accuracy before and after fine-tuning, by gold",
                ("gold", *_TUNED),
                [(name, cells, False) for name, cells in _tuned_rows(tuned)],
            ),
            data_table(
                "Gains, with 95 % intervals over groups",
                ("gold", *(name.replace("_", " ") for name in _TUNED_GAINS)),
                [(name, cells, False) for name, cells in _tuned_gains(tuned)],
            ),
        ]
    return "".join(parts)


def _kept(found: Mapping[str, Any]) -> str:
    """The certificate of 95 % on gold drawn again and again, method by method."""
    tests = {method: values["certificate_test"] for method, values in found["methods"].items()}
    told = (
        f"{method} {test['violations']}/{test['rounds']} (at most {test['at_most']}, {test['accepting']} accept)"
        for method, test in tests.items()
        if test["rounds"]
    )
    return "certificates of 95 % broken over resplits: " + "; ".join(told)


def _gained(found: Mapping[str, Any]) -> Sequence[str]:
    """What a gain is told of: accuracy where a group has one tag, recall where it may have several."""
    several = any("recall" in gains for gains in found["gain"].get(SYSTEM, {}).values())
    return ("recall" if several else "accuracy", "coverage@0.9", "coverage@0.95")


def _refused(found: Mapping[str, Any]) -> str:
    """Why the guardrail accepts nothing at 95 %, split by split; empty where it always accepts."""
    if "vocabularies" in found:
        return ""
    splits = found["methods"].get(SYSTEM, {}).get("by_seed@0.95", ())
    reasons = [f"split {split['seed']}: {why}" for split in splits if (why := split["certificate"]["reason"])]
    return f"cannot accept at certified 95 % ({'; '.join(reasons)})" if reasons else ""


def _vetoes(found: Mapping[str, Any]) -> str:
    against = found.get("against_facts")
    if not against:
        return ""
    told = ", ".join(f"{method} {many}" for method, many in against.items())
    return f"Tags it would rather give than not although derived facts contradict them: {told}."


def _sentence(found: Mapping[str, Any]) -> str:
    best = found["methods"].get(SYSTEM)
    if best is None:
        return ""
    if "item_ceiling" not in found:
        return (
            f"At a certified precision of 95 % the guardrail publishes {best['coverage@0.95']:.1%} of the gold tags of "
            f"{found['groups']} products; of the products it publishes anything of, all is right for "
            f"{_number(best['unit_precision@0.95'])} (certified), and {_number(best['precision@0.95'])} of the tags "
            f"are. {_refused(found)}{_vetoes(found)}"
        )
    return (
        f"At a certified precision of 95 % the guardrail tags {best['coverage@0.95']:.1%} of the groups, of which "
        f"{_number(best['precision@0.95'])} are right (items, not certified: {_number(best['item_precision@0.95'])}). "
        f"{found['several_labels']} of {found['groups']} groups have items of several labels; a group is judged by the "
        f"label most of its items carry, which is right on {found['item_ceiling']:.1%} of items."
    )


def _dataset(name: str, found: Mapping[str, Any]) -> str:
    methods = found["methods"]
    rows = (
        (method, [_number(values.get(column)) for column in COLUMNS], method in (SYSTEM, WITH_GRAPH))
        for method, values in methods.items()
    )
    return "".join(
        (
            f"<h2>{escape(name)}</h2><p>{escape(_sentence(found))}</p><p>{escape(_kept(found))}</p>",
            data_table("Pooled over the splits; coverage is certified.", ("method", *COLUMNS), rows),
            svg.intervals("Coverage at certified 95 %", list(_coverage(methods)), "share of groups accepted"),
            "<h3>Risk and coverage</h3><p>The share of wrong tags among the surest, as more are accepted.</p>",
            svg.lines("Risk by coverage", _places(), list(_risk(methods)), "coverage"),
            "<h3>Reliability</h3><p>The share that is right by stated confidence; the better, the nearer to even.</p>",
            svg.lines("Reliability", _places(), list(_reliability(methods)), "stated confidence"),
            data_table(
                f"{SYSTEM} minus method, with 95 % intervals over groups",
                ("method", *_gained(found)),
                _gain_rows(found),
            ),
            _llm_tables(found["llm"]) if "llm" in found else "",
        )
    )


def _coverage(methods: Mapping[str, Any]) -> Iterable[svg.Point]:
    for method, values in methods.items():
        span = values["intervals"]["coverage@0.95"]
        if span["mean"] is not None:
            yield svg.Point(method, span["mean"], span["low"], span["high"], f"{span['mean']:.3f}", method == SYSTEM)


def _places() -> list[str]:
    return [f"{(at + 1) / _POSITIONS:.1f}" for at in range(_POSITIONS)]


def _risk(methods: Mapping[str, Any]) -> Iterable[svg.Line]:
    for method, values in methods.items():
        curve: Sequence[tuple[float, float]] = values["risk_coverage"]
        if not curve:
            continue
        coverage, risk = np.array(curve).T
        at = [float(risk[np.abs(coverage - (number + 1) / _POSITIONS).argmin()]) for number in range(_POSITIONS)]
        yield svg.Line(method, at, method == SYSTEM)


def _reliability(methods: Mapping[str, Any]) -> Iterable[svg.Line]:
    for method, values in methods.items():
        known = {min(int(stated * _POSITIONS), _POSITIONS - 1): true for stated, true, _ in values["reliability"]}
        yield svg.Line(method, [known.get(at) for at in range(_POSITIONS)], method == SYSTEM)


def _gain_rows(found: Mapping[str, Any]) -> Iterable[tuple[str, Sequence[str], bool]]:
    for method, gains in found["gain"].get(SYSTEM, {}).items():
        yield method, [_span(gains[column]) for column in _gained(found)], False


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _span(interval: Mapping[str, Any]) -> str:
    if interval["mean"] is None:
        return "-"
    unsure = "" if interval.get("excludes_zero", True) else " (0 inside)"
    return f"{interval['mean']:+.3f} [{interval['low']:+.3f}, {interval['high']:+.3f}]{unsure}"
