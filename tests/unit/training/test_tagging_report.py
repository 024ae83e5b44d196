"""The report of tags says every number that is asked of it, with its interval, for both systems."""

from __future__ import annotations

import copy
import re
from html import unescape
from io import StringIO
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from models.certify import certify
from tests.unit.training.test_tagging_llm import made_data
from training.tagging import report
from training.tagging.datasets import TagData
from training.tagging.evaluate import certificate_config, split
from training.tagging.summary import PRECISIONS, SYSTEM, WITH_GRAPH, Outcome, summary

METHODS = {SYSTEM: 0.8, WITH_GRAPH: 0.9, "svm": 0.6}
"""How often each of them is right."""


def answered(data: TagData, method: str, seed: int) -> Outcome:
    """Honest confidences around how often a method is right; wrong labels are the next ones."""
    _, test = split(len(data.groups), seed)
    rng = np.random.default_rng(len(method) + seed)
    confidence = np.clip(METHODS[method] + rng.normal(0, 0.1, len(test)), 0.05, 0.99)
    label = np.where(rng.random(len(test)) < confidence, data.gold[test], (data.gold[test] + 1) % len(data.labels))
    right = label == data.gold[test]
    certificates = {level: certify(confidence, right, certificate_config(method, level)) for level in PRECISIONS}
    return Outcome(method, seed, test, label, confidence, certificates, 0.875, 1.0, 0.5)


@pytest.fixture(scope="module")
def numbers() -> dict[str, Any]:
    data = made_data()
    return summary(data, [answered(data, method, seed) for method in METHODS for seed in (9001, 9002)])


@pytest.fixture(scope="module")
def page(numbers: dict[str, Any]) -> str:
    return report.html({"datasets": {"made": numbers}})


def table(page: str, caption: str) -> dict[str, dict[str, str]]:
    """Cells of the table whose caption begins so, by row and column."""
    (body,) = re.findall(rf"<caption>{re.escape(caption)}.*?</table>", page)
    columns = [unescape(each) for each in re.findall(r'<th scope="col">(.*?)</th>', body)][1:]
    rows = re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', body)
    return {
        unescape(name): dict(zip(columns, re.findall(r"<td>(.*?)</td>", cells), strict=True)) for name, cells in rows
    }


def terminal(numbers: dict[str, Any], width: int = 160) -> str:
    shown = StringIO()
    Console(file=shown, width=width).print(report.render({"datasets": {"made": numbers}}))
    return shown.getvalue()


WITH_INTERVAL = ("accuracy", "precision", "recall", "aurc", "augrc", "brier", "ece")


def test_every_measure_has_an_interval_that_holds_its_value(numbers: dict[str, Any]) -> None:
    for values in numbers["methods"].values():
        for name in WITH_INTERVAL:
            span = values["intervals"][name]
            assert span["low"] < values[name] < span["high"]
            assert span["mean"] == pytest.approx(values[name])


def test_group_of_two_splits_is_one_cluster(numbers: dict[str, Any]) -> None:
    data = made_data()
    both = np.concatenate([split(len(data.groups), seed)[1] for seed in (9001, 9002)])
    assert len(np.unique(both)) < len(both) == numbers["methods"][SYSTEM]["n"]
    for name in WITH_INTERVAL:
        assert numbers["methods"][SYSTEM]["intervals"][name]["n"] == len(np.unique(both))


def test_page_has_every_number_with_its_interval(numbers: dict[str, Any], page: str) -> None:
    found = table(page, "Pooled over the splits")
    assert set(found) == set(METHODS)
    for method, cells in found.items():
        values = numbers["methods"][method]
        for name in (*WITH_INTERVAL, "coverage@0.95"):
            span = values["intervals"][name]
            assert cells[name] == f"{values[name]:.4f} [{span['low']:.4f}, {span['high']:.4f}]"
        assert cells["candidate_recall"] == "0.8750"
        assert "precision@0.98" in cells


def test_gains_of_both_systems_are_on_the_page_and_on_the_terminal(numbers: dict[str, Any], page: str) -> None:
    shown = terminal(numbers)
    for system, others in ((SYSTEM, {WITH_GRAPH, "svm"}), (WITH_GRAPH, {SYSTEM, "svm"})):
        rows = table(page, f"{system} minus method")
        assert set(rows) == others
        assert f"{system} minus method" in shown
        gain = numbers["gain"][system]["svm"]["accuracy"]
        told = f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
        assert rows["svm"]["accuracy"].startswith(told)
        assert told in shown


def test_summary_says_what_retrieval_misses(numbers: dict[str, Any], page: str) -> None:
    told = (
        "87.5% of the groups have their label among the candidates that retrieval finds: a label that retrieval misses "
        "cannot be proposed."
    )
    assert told in page
    assert told in " ".join(terminal(numbers).split())


def test_terminal_of_80_columns_cuts_nothing_off(numbers: dict[str, Any]) -> None:
    narrow = terminal(numbers, 80)
    assert "…" not in narrow
    for column in ("prec", "recall", "cand", "prec@98", "AURC", "Brier"):
        assert f" {column} " in narrow


def test_result_of_an_older_version_is_shown_without_the_intervals_it_lacks(numbers: dict[str, Any]) -> None:
    older = copy.deepcopy(numbers)
    for values in older["methods"].values():
        for name in ("aurc", "augrc", "brier", "ece"):
            del values["intervals"][name]
    cells = table(report.html({"datasets": {"made": older}}), "Pooled over the splits")[SYSTEM]
    assert cells["ece"] == f"{older['methods'][SYSTEM]['ece']:.4f}"


def test_nothing_is_said_of_an_llm_that_was_not_asked(numbers: dict[str, Any], page: str) -> None:
    cells = table(page, "Pooled over the splits")[SYSTEM]
    assert not {"answers", "prompt_tokens", "seconds_per_answer", "recall_unseen"} & set(cells)
    assert "LLM" not in page
    assert "LLM" not in terminal(numbers)
