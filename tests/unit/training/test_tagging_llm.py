"""The LLM as a tagger of groups: asked once, shown no gold of the group itself, and worth what it knows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from models import prompts
from models.ports import LLMRequest, LLMResult
from models.tagging import EXAMPLES
from tests.unit.training.oracle import Oracle
from training.tagging import claims, llm, llm_several, llm_sizes, llm_study, report
from training.tagging.datasets import TagData
from training.tagging.evaluate import split
from training.tagging.kernels import IntArray
from training.tagging.llm import CachedEngine
from training.tagging.llm_offered import METHODS, NONE
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


def examples_of(data: TagData, train: IntArray, group: int) -> list[tuple[str, str]]:
    """Words and gold of the groups that the question about a group shows as examples."""
    asked = np.array([group])
    ((near,), (shown,)) = llm.nearest(data, train, asked), llm.choose(data, train, asked)
    request = llm.question(prompts.load("tag"), data, group, shown, near)
    lines = [line for line in request.user.splitlines() if " => " in line]
    return [(text, label) for text, _, label in (line.removeprefix("- ").partition(" => ") for line in lines)]


def test_examples_shown_are_the_nearest_training_groups_with_their_gold(data: TagData) -> None:
    train, test = split(320, 9001)
    for group in (*train[:20].tolist(), *test[:20].tolist()):
        others = sorted((one for one in train.tolist() if one != group), key=lambda one: -alike(data, group, one))
        expected = [(data.texts[one], LABELS[data.gold[one]]) for one in others[:EXAMPLES]]
        assert examples_of(data, train, group) == expected
    few = test[:2]
    assert len(examples_of(data, few, int(few[0]))) == 1
    assert examples_of(data, few[:1], int(few[0])) == []
    assert examples_of(data, np.empty(0, np.int64), int(few[0])) == []


def alike(data: TagData, one: int, other: int) -> float:
    return float(data.kernels["meaning"][one, other])


def test_question_shows_neither_the_groups_own_gold_nor_that_of_others_than_the_taught(data: TagData) -> None:
    """Gold that may not speak is made wrong; the questions stay the same."""
    train, test = split(320, 9001)
    known, hidden = train[:100], np.concatenate((train[100:], test))
    for groups, wrong in ((test, hidden), (known[:1], np.append(hidden, known[:1]))):
        counts = data.counts.copy()
        counts[wrong] = np.roll(counts[wrong], 1, axis=1)
        spoiled = replace(data, counts=counts)
        asked = questions(data, known, groups)
        assert asked == questions(spoiled, known, groups)
        assert len(asked) == len(groups)
        assert all(" => " in question for question in asked)


def questions(data: TagData, known: IntArray, groups: IntArray) -> list[str]:
    asked: list[str] = []

    def note(requests: Mapping[int, LLMRequest], _: object) -> Mapping[int, LLMResult]:
        asked.extend(request.user for request in requests.values())
        return {}

    llm.ask(note, data, known, groups, llm.choose(data, known, groups), lambda _: None)
    return asked


def test_answer_that_other_gold_led_to_is_not_taken_for_this_questions(data: TagData, tmp_path: Path) -> None:
    """The same group and labels, another neighbour: asked anew, and kept beside the first."""
    train, test = split(320, 9001)
    asked, path = test[:1], tmp_path / "answers.jsonl"
    (shown,) = llm.choose(data, train, asked)
    (near,) = llm.nearest(data, train, asked)
    counts: list[int] = []
    for known in (train, train, np.setdiff1d(train, near[:1]), train):
        engine = Oracle(lambda _, choices: choices[0])
        with llm.asking(engine, path) as asker:
            llm.ask(asker, data, known, asked, [shown], lambda _: None)
        counts.append(engine.asked)
    assert counts == [1, 0, 1, 0]


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
        assert values["latency_ms"] > 0.0
        assert values["by_seed@0.95"][0]["certificate"]["reason"]
    assert found.facts["asked"] > 0
    assert found.facts["answer_s"] > 0
    # What an earlier run was told costs this one nothing; what it took then is kept.
    again = llm_study.study(data, guess, tmp_path / "answers.jsonl", 9001, Sample(60, 60), lambda *_: None)
    assert (again.facts["asked"], again.facts["answer_s"]) == (0, None)
    kept = summary(data, again.outcomes)["methods"]
    for name, values in numbers.items():
        assert kept[name]["latency_ms"] == pytest.approx(values["latency_ms"])
    assert numbers["llm-isotonic"]["ece"] < numbers["llm"]["ece"]
    assert found.facts["by_gold_size"][-1]["gain_of_llm"]["low"] < 0.05
    shown = StringIO()
    told = {"datasets": {"made": {**summary(data, found.outcomes), "llm": found.facts}}}
    Console(file=shown, width=160).print(report.render(told))
    assert "accuracy by gold, 60 groups asked about; oracle" in shown.getvalue()
    for text in (shown.getvalue(), report.html(told)):
        assert "a price of 0: the settings name none, as for a model in this process" in " ".join(text.split())


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
    engine = Oracle(lambda product, choices: next((one for one in choices if product.endswith(one)), NONE))
    asked = llm_several.run([made], engine, tmp_path / "answers.jsonl", 9001, Sample(60, 60), lambda *_: None)
    (found,) = asked.outcomes
    numbers = claims.summary(LABELS, np.arange(320), found, ())["methods"]
    assert set(numbers) == set(METHODS)
    assert numbers["llm"]["precision"] == numbers["llm-vote"]["precision"] == 1.0
    assert numbers["llm-vote"]["recall"] == numbers["llm"]["recall"] <= numbers["llm"]["candidate_recall"]
    assert 0.1 < numbers["llm"]["recall"] < 0.9
    assert numbers["llm"]["latency_ms"] > 0.0
    assert (numbers["llm"]["answers"], numbers["llm"]["prompt_tokens"]) == (1.0, 10.0)
    assert numbers["llm-isotonic"]["brier"] < numbers["llm"]["brier"]
    assert engine.closed


def test_examples_of_several_labels_or_none_say_so(data: TagData) -> None:
    counts = np.zeros_like(data.counts)
    counts[::2, :2] = 1.0
    made = replace(data, counts=counts, several=True)
    offered = llm_several.offer(made, np.arange(160), np.arange(160, 200))
    asked = [request.user for request, _ in offered.questions().values()]
    lines = [line.partition(" => ")[::2] for user in asked for line in user.splitlines() if " => " in line]
    assert len(lines) == 40 * EXAMPLES
    for text, told in lines:
        row = int(text.split()[2])
        assert told == (NONE if row % 2 else "label a, label b")
        assert row < 160


def test_engine_that_names_nothing_has_nothing_to_judge(data: TagData, tmp_path: Path) -> None:
    engine = Oracle(lambda *_: NONE)
    made = replace(data, several=True)
    asked = llm_several.run([made], engine, tmp_path / "answers.jsonl", 9001, Sample(20, 20), lambda *_: None)
    (found,) = asked.outcomes
    result = claims.summary(LABELS, np.arange(320), found, ())
    assert {name: values["recall"] for name, values in result["methods"].items()} == dict.fromkeys(METHODS, 0.0)
    assert "<h2>made</h2>" in report.html({"datasets": {"made": result}})
