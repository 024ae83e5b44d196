"""The trial of a prompt: refuses what is worse beyond noise, lets pass what is not, and holds its gold out."""

from __future__ import annotations

import json
import random
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from features.workspace import Workspace
from models import prompts, release
from models.attributes import Attribute
from models.certify import CertifyConfig
from models.errors import ArtifactMismatch, EngineUnavailable, PromptTooLong
from models.ports import LLMRequest, LLMResult
from models.prompts import Prompt
from models.values import unlearned
from tests.fakes import FakeLLM
from training import trial
from training.trial import Case, Trial

GOOD, BAD = '{"tags": ["MILK"]}', '{"tags": ["WINE"]}'


def prompt(system: str) -> Prompt:
    return prompts.parse("tag", f"[system]\n{system}\n[user]\n{{title}}\n[max_tokens]\n48\n", "test")


OLD, NEW = prompt("old"), prompt("new")


def _request(number: int, template: Prompt) -> LLMRequest:
    return LLMRequest(template.system, f"item {number}", template.max_tokens)


def cases(many: int) -> list[Case]:
    """Items whose gold is MILK."""
    codes = {"MILK": 0, "WINE": 1}
    return [
        Case(partial(_request, number), partial(trial._by_labels, "tags", codes, lambda named: float(named[0] == 0)))
        for number in range(many)
    ]


async def run(answer: dict[str, float], many: int = 100, seed: int = 1, malformed: str | None = None) -> Trial:
    """``answer``: share of right answers by the prompt's system text; the version ``malformed`` answers with prose."""
    draw = random.Random(seed)

    def say(request: LLMRequest) -> str:
        if request.system == malformed:
            return "Sure! Here is a poem."
        return GOOD if draw.random() < answer[request.system] else BAD

    return await trial.compare(cases(many), FakeLLM(say), OLD, NEW, seed)


async def test_figures_are_means_over_the_same_items() -> None:
    def say(request: LLMRequest) -> str | Exception:
        number = int(request.user.split()[1])
        if request.system == "old":
            return GOOD if number % 4 else BAD
        if number == 0:
            return PromptTooLong("too long")
        return "x" * 99 if number < 10 else GOOD

    result = await trial.compare(cases(100), FakeLLM(say), OLD, NEW, 1)
    assert (result.production.accuracy, result.production.malformed) == (0.75, 0.0)
    assert (result.candidate.accuracy, result.candidate.malformed) == (0.9, 0.1)
    assert (result.production.version, result.candidate.version) == (OLD.version, NEW.version)
    assert result.accuracy.mean == pytest.approx(0.15)
    assert result.lengths == (len(GOOD),) * 90
    # Ten cut-off answers more are beyond noise, whatever became better.
    assert result.worse == ("malformed",)


async def test_a_broken_prompt_is_refused_in_both_figures() -> None:
    result = await run({"old": 0.6}, malformed="new")
    assert result.worse == ("accuracy", "malformed")
    assert result.to_dict()["candidate"]["malformed"] == 1.0


async def test_equal_prompts_are_refused_no_more_often_than_the_interval_says() -> None:
    """A 95 % interval leaves 2.5 % on the wrong side; percentile intervals of 60 items a little more (4 % allowed)."""
    refused = sum([bool((await run({"old": 0.6, "new": 0.6}, 60, seed)).worse) for seed in range(100)])
    assert refused <= binom.ppf(0.999, 100, 0.04)


async def test_a_prompt_that_loses_a_third_of_the_right_answers_is_refused() -> None:
    refused = sum([bool((await run({"old": 0.9, "new": 0.6}, 60, seed)).worse) for seed in range(30)])
    assert refused >= 28


async def test_a_trial_that_cannot_be_finished_says_nothing() -> None:
    with pytest.raises(EngineUnavailable):
        await trial.compare(cases(30), FakeLLM(lambda _: EngineUnavailable("dead")), OLD, NEW, 1)
    with pytest.raises(ArtifactMismatch, match="10 of 10 gold items"):
        await trial.compare(cases(10), FakeLLM(GOOD), OLD, NEW, 1)


def test_a_seed_draws_the_same_gold_again(trained_workspace: Workspace) -> None:
    template = prompts.load("tag")
    drawn = [trial.gold_cases(trained_workspace, "tag", 30, seed) for seed in (3, 3, 4)]
    first, again, other = ([case.ask(template) for case in cases] for cases in drawn)
    assert first == again != other


@pytest.mark.parametrize("name", ["tag", "cold_start"])
def test_gold_cases_are_drawn_from_the_release_and_can_be_answered(trained_workspace: Workspace, name: str) -> None:
    drawn = trial.gold_cases(trained_workspace, name, 30, 3)
    requests = [case.ask(prompts.load(name)) for case in drawn]
    assert 20 <= len(drawn) <= 30
    possible = []
    for case, request in zip(drawn, requests):
        assert request is not None
        assert request.json_schema is not None
        ((field, values),) = request.json_schema["properties"].items()
        told = [case.score(said({field: [label]})) for label in values["items"]["enum"]]
        scores = [score for score in told if score is not None]
        assert len(scores) == len(told)
        assert case.score(said({field: ["none of these"]})) is None
        possible.append(max(scores))
        if name == "tag":
            assert sorted(scores)[-2:] == [0.0, 1.0]
    assert np.mean(possible) > 0.9


def said(answer: object) -> LLMResult:
    return LLMResult(json.dumps(answer), "stop", 1, 1)


def test_values_are_tried_where_the_catalog_has_them_and_the_words_say_them(
    trained_workspace: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactMismatch, match="reads no free attributes"):
        trial.gold_cases(trained_workspace, "attributes", 30, 3)
    place = Workspace(tmp_path / "workspace")
    shutil.copytree(trained_workspace.root, place.root)
    _, folder = release.read(place.releases)
    declared = [Attribute("brand", "text"), Attribute("nowhere", "text"), Attribute("package_size", "number")]
    unlearned(declared, CertifyConfig(), 0.1).save(folder / "attributes")
    drawn = trial.gold_cases(place, "attributes", 30, 3)
    assert len(drawn) == 30
    right = 0
    for case in drawn:
        request = case.ask(prompts.load("attributes"))
        assert request is not None
        assert request.json_schema is not None
        assert list(request.json_schema["properties"]) == ["brand"]
        marks = [case.score(said({"brand": [brand]})) for brand in ("National", "Private")]
        assert all(mark in (0.0, 1.0) for mark in marks)
        right += max(mark or 0.0 for mark in marks) == 1.0
        assert case.score(said({"brand": ["Acme"]})) == case.score(said({"brand": []})) == 0.0
        assert case.score(LLMResult("Sure! It is", "stop", 1, 1)) is None
    assert right == 30


def test_more_gold_than_there_is_is_refused_with_the_remedy(trained_workspace: Workspace) -> None:
    with pytest.raises(ArtifactMismatch, match="a trial needs 20; ask for more"):
        trial.gold_cases(trained_workspace, "tag", 5, 3)
