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
from training.tagging import report_llm
from training.tagging.cells import cell, number, numbers, span
from training.tagging.summary import SYSTEM, WITH_GRAPH

SLICES: Final = ("recall_seen", "recall_unseen")
COLUMNS: Final = (
    "accuracy",
    "precision",
    "recall",
    "candidate_recall",
    *SLICES,
    "named_seen",
    "named_unseen",
    "coverage@0.9",
    "coverage@0.95",
    "precision@0.95",
    "unit_precision@0.95",
    "item_precision@0.95",
    "coverage@0.98",
    "precision@0.98",
    "aurc",
    "augrc",
    "brier",
    "ece",
    "latency_ms",
    "answers",
    "prompt_tokens",
    "completion_tokens",
    "seconds_per_answer",
    "cost",
)
"""Of the page, where any method of a dataset has it."""
_SHORT: Final = {
    "accuracy": "right",
    "coverage@0.9": "cov@90",
    "coverage@0.95": "cov@95",
    "precision@0.95": "prec@95",
    "coverage@0.98": "cov@98",
    "ece": "ECE",
}
_MORE: Final = {
    "precision": "prec",
    "recall": "recall",
    "candidate_recall": "cand",
    "precision@0.98": "prec@98",
    "aurc": "AURC",
    "brier": "Brier",
}
"""What a terminal of 80 columns has room for, in two tables; the page has all, with intervals."""
EXPERIMENT: Final = "tags"
_POSITIONS: Final = 10
"""Places at which curves are drawn."""


def render(result: Mapping[str, Any]) -> RenderableType:
    """A table of methods for every dataset, the coverage of each split, and the gains over the baselines."""
    parts: list[RenderableType] = []
    for name, found in result["datasets"].items():
        parts += [_methods(name, found), Text(_sentence(found) + "\n"), _found(name, found), Text(_kept(found) + "\n")]
        parts += [*_gains(found)] if "vocabularies" in found else [_splits(found), *_gains(found)]
        parts += [*_slices(found), *report_llm.taken(found)]
        if "llm" in found:
            parts += [report_llm.gold_sizes(found["llm"]), *report_llm.fine_tuned(found["llm"])]
        for vocabulary, own in found.get("vocabularies", {}).items():
            told = Text(_refused(own) + "\n")
            parts += [_methods(f"{name}/{vocabulary}", own), told, _found(f"{name}/{vocabulary}", own), _splits(own)]
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
    return numbers(f"{name}: {found['groups']} groups, {found['labels']} labels", found, _SHORT)


def _found(name: str, found: Mapping[str, Any]) -> Table:
    """What the methods find, what retrieval lets them find, and how well they know it."""
    return numbers(f"{name}: cand is recall of the candidates", found, _MORE)


def _slices(found: Mapping[str, Any]) -> Iterable[RenderableType]:
    """Recall by whether training titles have the value; nothing where that is not told apart."""
    if not found.get("slices"):
        return
    shown = Table(title="recall with 95 % intervals over groups", title_justify="left")
    for column in ("method", *SLICES):
        shown.add_column(column)
    for method, values in found["methods"].items():
        shown.add_row(method, *(cell(values, column) for column in SLICES))
    yield shown
    yield Text(_slices_sentence(found) + "\n")


def _slices_sentence(found: Mapping[str, Any]) -> str:
    many = found.get("slices")
    if not many:
        return ""
    return (
        f"Of the gold values of the test {many['seen']} stand in a training title of their category (seen) and "
        f"{many['unseen']} in none (unseen): what no neighbour has cannot be looked up."
    )


def _splits(found: Mapping[str, Any]) -> Table:
    shown = Table(title="coverage at certified 95 %, by split", title_justify="left")
    shown.add_column("method")
    for seed in found["seeds"]:
        shown.add_column(str(seed), justify="right")
    for method, values in found["methods"].items():
        shown.add_row(method, *(number(split["coverage"]) for split in values["by_seed@0.95"]))
    return shown


def _gains(found: Mapping[str, Any]) -> Iterable[Table]:
    """A table of each system: the guardrail, and the guardrail with the graph."""
    for system in found["gain"]:
        shown = Table(title=_gain_title(system), title_justify="left")
        for column in ("method", *_gained(found)):
            shown.add_column(column)
        for method, cells, _ in _gain_rows(found, system, _gained(found)):
            shown.add_row(method, *cells)
        yield shown


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
    several = any("recall" in gains for system in found["gain"].values() for gains in system.values())
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
            f"{number(best['unit_precision@0.95'])} (certified), and {number(best['precision@0.95'])} of the tags "
            f"are. {_candidates(best, 'of the gold tags are')} {_refused(found)}{_vetoes(found)}"
        )
    return (
        f"At a certified precision of 95 % the guardrail tags {best['coverage@0.95']:.1%} of the groups, of which "
        f"{number(best['precision@0.95'])} are right (items, not certified: {number(best['item_precision@0.95'])}). "
        f"{found['several_labels']} of {found['groups']} groups have items of several labels; a group is judged by the "
        f"label most of its items carry, which is right on {found['item_ceiling']:.1%} of items. "
        f"{_candidates(best, 'of the groups have their label')}"
    )


def _candidates(best: Mapping[str, Any], who: str) -> str:
    among = "among the candidates that retrieval finds: a label that retrieval misses cannot be proposed."
    return f"{best['candidate_recall']:.1%} {who} {among}"


def _dataset(name: str, found: Mapping[str, Any]) -> str:
    methods = found["methods"]
    gained = [*_gained(found), *(SLICES if found.get("slices") else ())]
    columns = [column for column in COLUMNS if any(column in values for values in methods.values())]
    rows = (
        (method, [cell(values, column) for column in columns], method in (SYSTEM, WITH_GRAPH))
        for method, values in methods.items()
    )
    return "".join(
        (
            f"<h2>{escape(name)}</h2><p>{escape(_sentence(found))}</p><p>{escape(_kept(found))}</p>",
            data_table(
                "Pooled over the splits, with 95 % intervals over groups; coverage is certified.",
                ("method", *columns),
                rows,
            ),
            f"<p>{escape(slices)}</p>" if (slices := _slices_sentence(found)) else "",
            f"<p>{escape(taken)}</p>" if (taken := report_llm.taken_sentence(found)) else "",
            svg.intervals("Coverage at certified 95 %", list(_coverage(methods)), "share of groups accepted"),
            "<h3>Risk and coverage</h3><p>The share of wrong tags among the surest, as more are accepted.</p>",
            svg.lines("Risk by coverage", _places(), list(_risk(methods)), "coverage"),
            "<h3>Reliability</h3><p>The share that is right by stated confidence; the better, the nearer to even.</p>",
            svg.lines("Reliability", _places(), list(_reliability(methods)), "stated confidence"),
            *(
                data_table(_gain_title(system), ("method", *gained), _gain_rows(found, system, gained))
                for system in found["gain"]
            ),
            report_llm.tables(found["llm"]) if "llm" in found else "",
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


def _gain_title(system: str) -> str:
    return f"{system} minus method, 95 % intervals over groups"


def _gain_rows(
    found: Mapping[str, Any], system: str, columns: Sequence[str]
) -> Iterable[tuple[str, Sequence[str], bool]]:
    for method, gains in found["gain"][system].items():
        yield method, [span(gains[column]) for column in columns], False
