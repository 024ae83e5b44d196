"""What an LLM's answers take: kept with them, shared among those at once, and told by the item and the method."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from html import unescape
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from models.ports import LLMRequest, LLMResult
from tests.unit.training.oracle import Oracle
from tests.unit.training.test_tagging_llm import knowing, made_data
from training.tagging import llm, llm_study, report
from training.tagging.llm import CachedEngine
from training.tagging.llm_sizes import Sample
from training.tagging.spent import Price, Spent, TimedResult, per_item
from training.tagging.summary import summary


def question(product: str) -> LLMRequest:
    return LLMRequest("s", f"Product: {product}", 9, {"properties": {"tags": {"items": {"enum": ["a"]}}}})


def first(_: str, choices: list[str]) -> str:
    return choices[0]


def test_answer_from_the_file_still_knows_its_seconds(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    told = asyncio.run(CachedEngine(Oracle(first), path).generate(question("x")))
    kept = asyncio.run(CachedEngine(Oracle(first), path).generate(question("x")))
    assert isinstance(told, TimedResult)
    assert isinstance(kept, TimedResult)
    assert kept.seconds == told.seconds > 0.0


def test_answer_of_an_older_file_has_its_tokens_and_no_seconds(tmp_path: Path) -> None:
    path, engine = tmp_path / "answers.jsonl", Oracle(first)
    asyncio.run(CachedEngine(engine, path).generate(question("x")))
    line = json.loads(path.read_text())
    del line["seconds"]
    path.write_text(json.dumps(line) + "\n")
    old = asyncio.run(CachedEngine(engine, path).generate(question("x")))
    new = asyncio.run(CachedEngine(engine, path).generate(question("y")))
    assert engine.asked == 2
    found = Spent.of([old, new], 2).per_item()
    assert (found["seconds_per_answer"], found["latency_ms"]) == (None, None)
    assert (found["prompt_tokens"], found["completion_tokens"]) == (10.0, 5.0)
    assert Spent.of([new], 1).per_item()["seconds_per_answer"] > 0.0


class Waiting(Oracle):
    """Answers nobody before eight have asked."""

    def __init__(self) -> None:
        super().__init__(first)
        self._all = asyncio.Barrier(8)

    async def generate(self, request: LLMRequest) -> LLMResult:
        await self._all.wait()
        return await super().generate(request)


def test_questions_at_once_share_the_time(tmp_path: Path) -> None:
    """Their seconds add up to the time that passed, and not to eight times it."""

    async def all_at_once() -> tuple[CachedEngine, list[LLMResult]]:
        cached = CachedEngine(Waiting(), tmp_path / "answers.jsonl")
        return cached, await asyncio.gather(*(cached.generate(question(str(at))) for at in range(8)))

    begun = time.perf_counter()
    cached, results = asyncio.run(all_at_once())
    passed = time.perf_counter() - begun
    shares = [one.seconds for one in results if isinstance(one, TimedResult)]
    assert len(shares) == 8
    assert min(shares) > 0.0
    assert sum(shares) <= passed
    assert sum(shares) < cached.seconds


class Failing(Oracle):
    """Fails for what is bad, and knows how long it took for the rest."""

    passed = 0.0

    async def generate(self, request: LLMRequest) -> LLMResult:
        if "bad" in request.user:
            raise ValueError("no")
        begun = time.perf_counter()
        for _ in range(200):
            result = await super().generate(request)
        self.passed = time.perf_counter() - begun
        return result


def test_question_that_failed_takes_no_part_of_the_time_of_later_ones(tmp_path: Path) -> None:
    """Were it still counted as running, a later answer would have half of its time."""
    engine = Failing(first)
    cached = CachedEngine(engine, tmp_path / "answers.jsonl")
    with pytest.raises(ValueError, match="no"):
        asyncio.run(cached.generate(question("bad")))
    told = asyncio.run(cached.generate(question("good")))
    assert isinstance(told, TimedResult)
    assert engine.passed <= told.seconds <= cached.seconds


def test_every_method_counts_its_own_questions(tmp_path: Path) -> None:
    """Once; with three samples more; and asked again whether it is so."""
    data = made_data()
    with llm.asking(Oracle(knowing), tmp_path / "answers.jsonl") as asker:
        found = llm_study.baselines(asker, data, 9001, Sample(20, 30), lambda *_: None)
    numbers = summary(data, found)["methods"]
    wanted = {"llm": 1.0, "llm-isotonic": 1.0, "llm-vote": 4.0, "llm-yes": 2.0}
    assert {name: values["answers"] for name, values in numbers.items()} == wanted
    for name, values in numbers.items():
        assert (values["prompt_tokens"], values["completion_tokens"]) == (10 * wanted[name], 5 * wanted[name])
        assert values["latency_ms"] == pytest.approx(1_000 * wanted[name] * values["seconds_per_answer"])
        assert values["cost"] == 0.0


def test_report_shows_what_answers_took_and_at_what_price(tmp_path: Path) -> None:
    data = made_data()
    with llm.asking(Oracle(knowing), tmp_path / "answers.jsonl") as asker:
        (found, *_) = llm_study.baselines(asker, data, 9001, Sample(20, 30), lambda *_: None)
    assert found.spent is not None
    priced = replace(found, spent=replace(found.spent, price=Price(2.0, 4.0)))
    told = {"datasets": {"made": summary(data, [priced])}}
    shown = StringIO()
    Console(file=shown, width=80).print(report.render(told))
    page, terminal = report.html(told), shown.getvalue()
    for text in (page, " ".join(terminal.split())):
        assert "the settings' price (2 for 1,000 tokens read, 4 for 1,000 written)" in unescape(text)
        # 10 tokens read and 5 written an item.
        assert "0.0400" in text
    assert "…" not in terminal


def test_cost_is_tokens_times_the_price_and_splits_are_one_mean() -> None:
    """Two splits of 10 and 30 items; 100 tokens read and 20 written an item; 2 and 5 a thousand."""
    price = Price(2.0, 5.0)
    splits = [Spent(10, 10, 1_000, 200, 10, 5.0, price), Spent(30, 30, 3_000, 600, 30, 25.0, price), None]
    found = per_item(splits)
    assert found["cost"] == pytest.approx(0.1 * 2.0 + 0.02 * 5.0)
    assert (found["prompt_tokens"], found["completion_tokens"]) == (100.0, 20.0)
    assert found["seconds_per_answer"] == pytest.approx(30.0 / 40)
    assert found["latency_ms"] == pytest.approx(750.0)
    assert per_item([None]) == {}
