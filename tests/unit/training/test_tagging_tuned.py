"""What fine-tuning changes: it learns of groups that no answer which counts is about, and gains are told in pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from models.ports import LLMEngine
from tests.unit.training.oracle import Oracle
from tests.unit.training.test_tagging_llm import knowing, made_data
from training.finetune.pairs import Pair, tag_answer
from training.tagging import llm, llm_sizes, llm_study, llm_tuned, report
from training.tagging.datasets import TagData
from training.tagging.llm_sizes import Sample
from training.tagging.llm_study import Study
from training.tagging.llm_tuned import METHOD, Tuning
from training.tagging.summary import summary

SEED, SAMPLE, GROUPS = 9001, Sample(60, 60), 80


@pytest.fixture(scope="module")
def data() -> TagData:
    return made_data()


class Told:
    """Stands in for training: keeps what it was given, and opens an engine."""

    def __init__(self, engine: Oracle) -> None:
        self.pairs: list[Pair] = []
        self.engine = engine
        self.opened: list[Path] = []

    def fit(self, pairs: Sequence[Pair], within: Path, _: llm_sizes.Progress) -> tuple[Path, dict[str, Any]]:
        self.pairs = list(pairs)
        training = {"steps": 3, "seconds": 1.0, "device": "cpu", "loss": [0.5, 0.25]}
        return within / "adapter", {"training": training, "config": {"rank": 4}, "data_hash": "hash"}

    def open(self, adapter: Path) -> LLMEngine:
        self.opened.append(adapter)
        return self.engine


def tuned_study(data: TagData, told: Told, path: Path) -> Study:
    guess = Oracle(lambda product, choices: choices[len(product) * 7 % len(choices)])
    tuning = Tuning(told.fit, told.open, GROUPS)
    return llm_study.study(data, guess, path, SEED, SAMPLE, lambda *_: None, tuning)


@pytest.fixture(scope="module")
def learned(data: TagData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Told]:
    told = Told(Oracle(knowing, "oracle+adapter"))
    return tuned_study(data, told, tmp_path_factory.mktemp("study") / "answers.jsonl"), told


def titles(pairs: Sequence[Pair]) -> set[str]:
    return {pair.request.user.splitlines()[0].removeprefix("Product: ") for pair in pairs}


def test_it_learns_of_groups_that_are_neither_asked_about_nor_evidence(
    data: TagData, learned: tuple[Study, Told]
) -> None:
    _, told = learned
    order, asked = llm_sizes.drawn(data, SEED, SAMPLE)
    barred = {data.texts[group] for group in (*asked, *order[: SAMPLE.train])}
    free = {data.texts[group] for group in order[SAMPLE.train : SAMPLE.train + GROUPS]}
    taught = titles(told.pairs)
    assert taught
    assert not taught & barred
    assert taught <= free


def test_pairs_are_the_studys_own_questions_with_gold_and_without(data: TagData, learned: tuple[Study, Told]) -> None:
    _, told = learned
    gold = {text: data.labels[code] for text, code in zip(data.texts, data.gold)}
    many: list[int] = []
    for pair in told.pairs:
        (title,) = titles([pair])
        assert pair.answer == tag_answer(gold[title])
        assert pair.request.json_schema is not None
        choices = pair.request.json_schema["properties"]["tags"]["items"]["enum"]
        assert json.loads(pair.answer)["tags"][0] in choices
        many.append(len(choices))
    assert many.count(llm.BY_NAME) >= GROUPS // 4
    assert max(many) > llm.BY_NAME


def test_what_a_group_reads_is_not_chosen_by_gold_of_others_than_the_taught(data: TagData) -> None:
    """Gold that may not speak is made wrong; the pairs stay the same."""
    order, _ = llm_sizes.drawn(data, SEED, SAMPLE)
    groups, known = np.sort(order[60:140]), np.sort(order[:140])
    counts = data.counts.copy()
    others = np.setdiff1d(np.arange(len(data.groups)), known)
    counts[others] = np.roll(counts[others], 1, axis=1)
    spoiled = replace(data, counts=counts)
    assert llm_tuned.tag_pairs(spoiled, groups, known) == llm_tuned.tag_pairs(data, groups, known)


def test_gains_are_those_of_the_fine_tuned_answers(data: TagData, learned: tuple[Study, Told]) -> None:
    study, told = learned
    facts = study.facts["fine_tuned"]
    assert told.engine.closed
    assert facts["model"] == "oracle+adapter"
    assert facts["groups"] == GROUPS
    assert facts["pairs"] + facts["pairs_without_gold_shown"] == 2 * GROUPS
    rows = facts["by_gold_size"]
    assert [row["gold"] for row in rows] == [row["gold"] for row in study.facts["by_gold_size"]]
    for row, before in zip(rows, study.facts["by_gold_size"]):
        # It knows: right wherever the label is shown. The one before guessed.
        assert row["fine_tuned"]["mean"] == row["shown_recall"]
        assert (row["llm"], row["trees"], row["both"]) == (before["llm"], before["trees"], before["both"])
        assert row["gain"]["fine_tuned - llm"]["low"] > 0.0
        assert row["gain"]["fine_tuned - llm"]["mean"] == pytest.approx(row["fine_tuned"]["mean"] - row["llm"]["mean"])
        assert row["malformed"] == {"llm": 0.0, "fine_tuned": 0.0}
    assert rows[2]["gain"]["both_fine_tuned - both"]["low"] > 0.0
    numbers = summary(data, study.outcomes)["methods"]
    assert set(numbers) >= {"llm", METHOD, f"{METHOD}-isotonic"}
    assert numbers[METHOD]["accuracy"] == rows[-1]["fine_tuned"]["mean"]
    assert numbers[METHOD]["n"] == SAMPLE.test


def test_report_shows_before_and_after(data: TagData, learned: tuple[Study, Told]) -> None:
    study, _ = learned
    told = {"datasets": {"made": {**summary(data, study.outcomes), "llm": study.facts}}}
    json.dumps(told, allow_nan=False)
    shown = StringIO()
    Console(file=shown, width=200).print(report.render(told))
    page = report.html(told)
    for text in (shown.getvalue(), page):
        assert "Fine-tuned: oracle+adapter" in text
        assert "LoRA of rank 4, 3 steps, 1 s on cpu; loss by epoch 0.500, 0.250 nats" in " ".join(text.split())
        assert "before and after fine-tuning" in text
    without = {"datasets": {"made": {**summary(data, study.outcomes), "llm": dict(study.facts)}}}
    del without["datasets"]["made"]["llm"]["fine_tuned"]
    assert "Fine-tuned" not in report.html(without)


def test_answers_that_name_nothing_are_malformed_and_no_tags(data: TagData, tmp_path: Path) -> None:
    mute = Oracle(lambda *_: "nothing of the kind", "mute")
    study = tuned_study(data, Told(mute), tmp_path / "answers.jsonl")
    for row in study.facts["fine_tuned"]["by_gold_size"]:
        assert row["malformed"] == {"llm": 0.0, "fine_tuned": 1.0}
        assert row["fine_tuned"]["mean"] == 0.0
    assert summary(data, study.outcomes)["methods"][METHOD]["coverage@0.95"] == 0.0
