"""The LLM as a tagger of groups: asked once, shown no gold of the group itself, and worth what it knows."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from models.ports import LLMRequest
from tests.unit.training.oracle import Oracle
from training.tagging import claims, llm, llm_several, llm_sizes, llm_study, report
from training.tagging.datasets import TagData
from training.tagging.evaluate import split
from training.tagging.llm import CachedEngine
from training.tagging.llm_sizes import Sample
from training.tagging.summary import SYSTEM, summary
from training.tagging.views import similarity, unit_rows

LABELS = tuple(f"LABEL {letter}" for letter in "ABCDEFGH")


@pytest.fixture(scope="module")
def data() -> TagData:
    return made_data()


def made_data() -> TagData:
    """320 groups of eight labels; what can be compared of them tells little."""
    rng = np.random.default_rng(1)
    gold = rng.integers(0, 8, 320)
    rows = unit_rows((0.35 * np.eye(8)[gold] + rng.normal(size=(320, 8)) * 0.5).astype(np.float32))
    return TagData(
        "made",
        tuple(f"group {row}" for row in range(320)),
        tuple(f"thing {row} of {LABELS[code]}" for row, code in enumerate(gold)),
        LABELS,
        np.eye(8)[gold],
        {"meaning": rows},
        {"text": {"meaning": 1.0}, "all": {"meaning": 1.0}},
        {"meaning": similarity(rows, np.eye(8, dtype=np.float32))},
        np.zeros((320, 1), np.float32),
        ("nothing",),
    )


def knowing(product: str, choices: list[str]) -> str:
    if choices == ["yes", "no"]:
        return "yes"
    return next((choice for choice in choices if product.endswith(choice)), choices[0])


def test_question_that_was_asked_before_is_answered_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "answers.jsonl"
    request = LLMRequest("s", "Product: x", 9, {"properties": {"tags": {"items": {"enum": ["a", "b"]}}}})
    first = Oracle(lambda _, choices: choices[0])
    told = asyncio.run(CachedEngine(first, path).generate(request))
    second = Oracle(lambda _, choices: choices[1])
    cached = CachedEngine(second, path)
    assert asyncio.run(cached.generate(request)) == told
    assert second.asked == 0
    other = LLMRequest("s", "Product: y", 9, request.json_schema)
    assert asyncio.run(cached.generate(other)).text == '{"tags": ["b"]}'
    path.write_text(path.read_text()[:-20])
    assert asyncio.run(CachedEngine(second, path).generate(other)).text == '{"tags": ["b"]}'
    assert second.asked == 2


def test_labels_shown_are_not_chosen_by_the_groups_own_gold(data: TagData) -> None:
    train, _ = split(320, 9001)
    own = train[:1]
    alone = llm.choose(data, own, own)
    assert alone == [np.argsort(-data.names["meaning"][own[0]], kind="stable")[: llm.BY_NAME].tolist()]
    assert all(len(shown) == len(set(shown)) for shown in llm.choose(data, train, train))


def test_engine_that_knows_lifts_the_trees_where_gold_is_short(data: TagData, tmp_path: Path) -> None:
    engine = Oracle(knowing)
    with llm.asking(engine, tmp_path / "answers.jsonl") as asker:
        found = llm_sizes.at_sizes(asker, data, 9001, Sample(60, 60), lambda *_: None, (0, 60))
    sizes = llm_study.by_gold_size(data, found, 9001)
    assert engine.closed
    assert [row["gold"] for row in sizes] == [0, 60]
    for row in sizes:
        assert row["llm"]["mean"] == row["shown_recall"]
        assert row["gain_of_llm"]["low"] > 0.0


def test_engine_that_guesses_gains_nothing_and_is_not_accepted(data: TagData, tmp_path: Path) -> None:
    guess = Oracle(lambda product, choices: choices[len(product) * 7 % len(choices)])
    found = llm_study.study(data, guess, tmp_path / "answers.jsonl", 9001, Sample(60, 60), lambda *_: None)
    assert {one.method for one in found.outcomes} == {"llm", "llm-isotonic", "llm-vote", "llm-yes"}
    numbers = summary(data, found.outcomes)["methods"]
    for values in numbers.values():
        assert values["n"] == 60
        assert values["coverage@0.95"] == 0.0
        assert values["seconds_per_item"] is None
        assert values["by_seed@0.95"][0]["certificate"]["reason"]
    assert found.facts["asked"] > 0
    assert found.facts["answer_s"] > 0
    # What an earlier run was told costs nothing, and says nothing of how long it took.
    again = llm_study.study(data, guess, tmp_path / "answers.jsonl", 9001, Sample(60, 60), lambda *_: None)
    assert (again.facts["asked"], again.facts["answer_s"]) == (0, None)
    assert numbers["llm-isotonic"]["ece"] < numbers["llm"]["ece"]
    assert found.facts["by_gold_size"][-1]["gain_of_llm"]["low"] < 0.05
    shown = StringIO()
    told = {"datasets": {"made": {**summary(data, found.outcomes), "llm": found.facts}}}
    Console(file=shown, width=160).print(report.render(told))
    assert "accuracy by gold, 60 groups asked about; oracle" in shown.getvalue()


def test_gain_over_a_sample_counts_the_groups_of_both(data: TagData, tmp_path: Path) -> None:
    with llm.asking(Oracle(lambda _, choices: choices[0]), tmp_path / "answers.jsonl") as asker:
        asked = llm_study.baselines(asker, data, 9001, Sample(20, 30), lambda *_: None)
    _, test = split(320, 9001)
    all_right = replace(asked[0], method=SYSTEM, test=test, label=data.gold[test], confidence=np.ones(len(test)))
    found = summary(data, [all_right, *asked])
    gain = found["gain"][SYSTEM]["llm"]["accuracy"]
    assert gain["n"] == 30
    assert gain["mean"] == pytest.approx(1.0 - found["methods"]["llm"]["accuracy"])
    assert gain["excludes_zero"]


def test_engine_tags_products_of_several_labels_or_none(data: TagData, tmp_path: Path) -> None:
    """One in two products has its label, the others have none; the engine knows half of those that have one."""
    rng = np.random.default_rng(3)
    has = rng.random(320) < 0.5
    texts = tuple(
        f"thing {row}, {LABELS[code].lower()}" if has[row] and row % 2 else f"thing {row}"
        for row, code in enumerate(data.gold)
    )
    made = replace(data, texts=texts, counts=data.counts * has[:, None], several=True)
    engine = Oracle(lambda product, choices: next((one for one in choices if product.endswith(one)), llm_several.NONE))
    (found,) = llm_several.run([made], engine, tmp_path / "answers.jsonl", 9001, Sample(60, 60), lambda *_: None)
    numbers = claims.summary(LABELS, np.arange(320), found, ())["methods"]
    assert set(numbers) == {"llm", "llm-isotonic"}
    assert numbers["llm"]["precision"] == 1.0
    assert 0.1 < numbers["llm"]["recall"] < 0.9
    assert numbers["llm"]["latency_ms"] is None
    assert numbers["llm-isotonic"]["brier"] < numbers["llm"]["brier"]
    assert engine.closed


def test_engine_that_names_nothing_has_nothing_to_judge(data: TagData, tmp_path: Path) -> None:
    engine = Oracle(lambda *_: llm_several.NONE)
    made = replace(data, several=True)
    (found,) = llm_several.run([made], engine, tmp_path / "answers.jsonl", 9001, Sample(20, 20), lambda *_: None)
    result = claims.summary(LABELS, np.arange(320), found, ())
    assert result["methods"]["llm"]["recall"] == 0.0
    assert "<h2>made</h2>" in report.html({"datasets": {"made": result}})
