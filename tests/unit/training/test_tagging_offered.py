"""An LLM's choice among candidates of which an item may have several: what is asked, and how sure each way makes it."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from features.workspace import Workspace
from models.errors import EngineUnavailable
from models.ports import LLMRequest, LLMResult, Token
from tests.unit.training.oracle import Oracle
from tests.unit.training.test_tagging_public import LetterEmbedder, folder  # noqa: F401  a fixture
from training.llm import ask_all
from training.tagging import claims, llm_offered, report
from training.tagging.claims import ClaimOutcome
from training.tagging.kernels import IntArray
from training.tagging.llm_offered import METHODS, NONE, Described, Offered
from training.tagging.llm_sizes import Sample
from training.tagging.llm_yes import LABEL, VALUE, sureness, yes_or_no
from training.tagging.oamine import OA_MINE
from training.tagging.run import DATASETS, Setting
from training.tagging.spent import Price
from training.tagging.summary import SYSTEM

TAGS = ("red", "green", "blue")


@dataclass
class Naming:
    """An engine that names what it is told to, all of it with the probability ``likely``, and keeps its requests."""

    names: Callable[[LLMRequest], Sequence[str]]
    likely: float = 0.8
    model_id: str = "naming"
    alive: bool = True
    asked: list[LLMRequest] = field(default_factory=list)

    async def generate(self, request: LLMRequest) -> LLMResult:
        self.asked.append(request)
        assert request.json_schema is not None
        (name,) = request.json_schema["properties"]
        text = json.dumps({name: list(self.names(request))})
        return LLMResult(text, "stop", 10, 5, (Token(text, math.log(self.likely)),))

    async def aclose(self) -> None:
        """Nothing to close."""


def made(items: int, gold: Sequence[Sequence[int]]) -> Offered:
    """All of TAGS offered for every item."""
    row, tag = np.divmod(np.arange(items * len(TAGS)), len(TAGS))
    has = np.zeros((items, len(TAGS)), bool)
    for at, own in enumerate(gold):
        has[at, list(own)] = True
    return Offered(
        "made",
        2,
        LABEL,
        [Described(f"thing {at}", ", of wool") for at in range(items)],
        row,
        tag,
        [TAGS[each] for each in tag],
        has[row, tag],
        has.sum(axis=1).astype(np.int64),
    )


def judged(engine: Naming, offered: Offered, known: int, asked: IntArray) -> dict[str, ClaimOutcome]:
    def ask(requests: Mapping[int, LLMRequest], progress: Callable[[float], None]) -> Mapping[int, LLMResult]:
        return asyncio.run(ask_all(engine, requests, progress))

    found = llm_offered.outcomes(ask, offered, known, asked, 7, lambda *_: None)
    return {one.method: one for one in found}


def product(request: LLMRequest) -> int:
    return int(request.user.splitlines()[0].partition("thing ")[2].partition(",")[0])


def proposed(request: LLMRequest) -> str:
    (line,) = (line for line in request.user.splitlines() if line.startswith("Proposed label: "))
    return line.removeprefix("Proposed label: ")


def checking(request: LLMRequest) -> bool:
    return "Proposed label: " in request.user


def test_vote_of_a_tag_is_the_share_of_samples_that_name_it() -> None:
    """Only what is drawn votes; the surest answer, which names another tag, does not."""

    def names(request: LLMRequest) -> Sequence[str]:
        if checking(request):
            return ["yes"]
        if request.temperature == 0.0:
            return ["blue"]
        return ["red", "green"] if request.seed == 2 else ["red"]

    engine = Naming(names)
    found = judged(engine, made(4, [[0], [0, 1], [], [2]]), 2, np.array([5, 9]))
    own = found["llm-vote"].claims
    told = {(row, TAGS[tag]): sure for row, tag, sure in zip(own.unit, own.tag, own.probability)}
    assert told == {(at, tag): pytest.approx(sure) for at in (0, 1) for tag, sure in (("red", 1.0), ("green", 1 / 3))}
    assert own.right.tolist() == [False] * 4
    assert {TAGS[tag] for tag in found["llm"].claims.tag} == {"blue"}
    seeds = [request.seed for request in engine.asked if request.temperature > 0.0]
    assert sorted(seeds) == [1] * 4 + [2] * 4 + [3] * 4
    for one in found.values():
        assert one.recall == 1.0
        assert one.test.tolist() == [5, 9]


def test_own_yes_is_asked_about_every_tag_named_with_the_whole_of_the_text() -> None:
    def names(request: LLMRequest) -> Sequence[str]:
        if checking(request):
            return ["yes" if proposed(request) == "red" else "no"]
        return ["red", "blue"] if product(request) else [NONE]

    engine = Naming(names, 0.7)
    own = judged(engine, made(3, [[0], [0], [0, 1]]), 1, np.array([1, 2]))["llm-yes"].claims
    told = [(row, TAGS[tag], sure) for row, tag, sure in zip(own.unit, own.tag, own.probability)]
    assert told == [(at, tag, pytest.approx(sure)) for at in (0, 1) for tag, sure in (("red", 0.7), ("blue", 0.3))]
    checks = [request for request in engine.asked if checking(request)]
    assert [(product(one), proposed(one)) for one in checks] == [(1, "red"), (1, "blue"), (2, "red"), (2, "blue")]
    assert all("Product: thing" in one.user and ", of wool" in one.user for one in checks)


def test_question_without_a_usable_answer_is_no_yes() -> None:
    def said(text: str, logprob: float) -> LLMResult:
        return LLMResult(text, "stop", 1, 1, (Token(text, logprob),))

    yes, no = '{"answer": ["yes"]}', '{"answer": ["no"]}'
    results = {0: said(yes, math.log(0.6)), 1: said(no, math.log(0.6)), 2: said("maybe", 0.0), 4: said(yes, math.nan)}
    found = sureness({**results, 5: said(no, math.nan)}, 6)
    assert found.tolist() == [pytest.approx(0.6), pytest.approx(0.4), 0.0, 0.0, 1.0, 0.0]


def test_engine_that_knows_what_is_wrong_is_accepted_by_its_yes_alone() -> None:
    """It names one tag at random and knows, when asked, whether that is right: only this order can be certified."""
    rng = np.random.default_rng(11)
    gold = rng.integers(0, 3, 400)
    guess = rng.integers(0, 3, (400, 4))
    offered = made(400, [[int(each)] for each in gold])

    def names(request: LLMRequest) -> Sequence[str]:
        at = product(request)
        if checking(request):
            return ["yes" if TAGS[gold[at]] == proposed(request) else "no"]
        return [TAGS[guess[at, request.seed]]]

    found = judged(Naming(names, 0.9), offered, 300, np.arange(100))
    thresholds = {name: one.certificates[0.95].threshold() for name, one in found.items()}
    assert {name for name, at in thresholds.items() if math.isfinite(at)} == {"llm-yes"}
    told = claims.summary(TAGS, np.arange(100), list(found.values()), ())["methods"]
    assert told["llm-yes"]["precision@0.95"] == 1.0
    assert told["llm-yes"]["coverage@0.95"] == pytest.approx(float((guess[300:, 0] == gold[300:]).mean()))
    assert told["llm-yes"]["certificate_test"]["rounds"] > 0
    assert told["llm"]["coverage@0.95"] == told["llm-vote"]["coverage@0.95"] == 0.0


def test_samples_that_agree_where_they_are_right_are_accepted_by_their_vote() -> None:
    rng = np.random.default_rng(12)
    gold = rng.integers(0, 3, 400)
    sure = rng.random(400) < 0.6
    offered = made(400, [[int(each)] for each in gold])

    def names(request: LLMRequest) -> Sequence[str]:
        at = product(request)
        if checking(request):
            return ["yes"]
        return [TAGS[gold[at]] if sure[at] else TAGS[(gold[at] + 1 + request.seed) % 3]]

    found = judged(Naming(names, 0.9), offered, 300, np.arange(100))
    accepted = {name for name, one in found.items() if math.isfinite(one.certificates[0.95].threshold())}
    assert accepted == {"llm-vote"}
    told = claims.summary(TAGS, np.arange(100), [found["llm-vote"]], ())["methods"]["llm-vote"]
    assert told["coverage@0.95"] == pytest.approx(float(sure[300:].mean()))
    assert told["unit_precision@0.95"] == 1.0


def test_answers_of_every_way_are_counted_by_the_item() -> None:
    """Two tags named of every second item: one question, three samples, or one question and a check of each."""

    def names(request: LLMRequest) -> Sequence[str]:
        if checking(request):
            return ["yes"]
        return ["red", "green"] if product(request) % 2 else [NONE]

    found = judged(Naming(names), made(20, [[0]] * 20), 10, np.arange(10))
    told = claims.summary(TAGS, np.arange(10), list(found.values()), ())["methods"]
    assert {name: values["answers"] for name, values in told.items()} == {
        "llm": 1.0,
        "llm-isotonic": 1.0,
        "llm-vote": 3.0,
        "llm-yes": 2.0,
    }
    assert told["llm-vote"]["prompt_tokens"] == 30.0
    assert told["llm-yes"]["completion_tokens"] == 10.0


def test_sample_that_failed_votes_for_nothing() -> None:
    class Flaky(Naming):
        async def generate(self, request: LLMRequest) -> LLMResult:
            if request.seed == 3:
                raise EngineUnavailable("gone")
            return await super().generate(request)

    engine = Flaky(lambda request: ["yes"] if checking(request) else ["red"])
    found = judged(engine, made(4, [[0]] * 4), 2, np.arange(2))
    assert found["llm-vote"].claims.probability.tolist() == [pytest.approx(2 / 3)] * 2
    assert found["llm-vote"].spent is not None
    assert found["llm-vote"].spent.answers == 8


def test_item_without_candidates_is_asked_nothing() -> None:
    offered = made(3, [[0], [0], [0]])
    kept = offered.row != 1
    few = replace(
        offered,
        row=offered.row[kept],
        tag=offered.tag[kept],
        told=[TAGS[each] for each in offered.tag[kept]],
        right=offered.right[kept],
    )
    assert set(few.questions()) == {0, 2}
    request, codes = few.questions()[2]
    assert codes == {"red": 3, "green": 4, "blue": 5}
    assert request.json_schema is not None
    assert request.json_schema["properties"]["tags"]["items"]["enum"] == [*TAGS, NONE]
    assert request.json_schema["properties"]["tags"]["maxItems"] == 2


def test_check_names_what_it_asks_about() -> None:
    request = yes_or_no(VALUE, "Oak Tea, Mint", "Flavor: Mint")
    assert "Proposed attribute: Flavor: Mint" in request.user
    assert request.user.startswith("Product: Oak Tea, Mint\n")


def test_titles_report_all_confidences_with_what_they_cost(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    """As the command runs it: in the JSON, on the terminal and on the page."""
    root = tmp_path / "data"
    root.mkdir()
    (root / OA_MINE).symlink_to(folder)
    engine = Oracle(lambda _, choices: choices[0])
    setting = Setting(
        Workspace(tmp_path),
        root,
        LetterEmbedder(),
        (1,),
        llm=lambda: engine,
        sample=Sample(20, 20),
        price=Price(1.0, 2.0),
    )
    told = DATASETS[OA_MINE](setting)
    assert engine.closed
    json.dumps(told, allow_nan=False)
    assert set(METHODS) <= set(told["methods"])
    for name, answers in zip(METHODS, (1.0, 1.0, 3.0, 2.0)):
        values = told["methods"][name]
        assert values["answers"] == answers
        assert values["cost"] == pytest.approx(answers * (10.0 * 1.0 + 5.0 * 2.0) / 1_000.0)
        assert values["latency_ms"] > 0.0
        assert {"coverage@0.95", "precision@0.95", "ece", "aurc"} <= set(values["intervals"])
        assert {"coverage@0.95", "recall", "recall_unseen"} <= set(told["gain"][SYSTEM][name])
    assert (told["llm"]["model"], told["llm"]["asked_test"]) == ("oracle", 20)
    assert told["llm"]["asked"] == engine.asked
    result = {"datasets": {OA_MINE: told}}
    shown = StringIO()
    Console(file=shown, width=200).print(report.render(result))
    for text in (shown.getvalue(), report.html(result)):
        assert all(name in text for name in METHODS)
        assert "The LLM's lines are of oracle, split 1" in " ".join(text.replace("&#x27;", "'").split())
