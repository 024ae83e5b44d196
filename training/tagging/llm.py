"""Asking an LLM for the label of groups, with the labels that retrieval gives: those of the nearest training groups and
those whose names are nearest. Its answers are kept in a file under a hash of model and question, so that a second run
asks nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from models import prompts
from models.ports import LLMEngine, LLMRequest, LLMResult, Token
from models.prompts import Prompt
from models.tagging import choice_schema, read_choices
from training.llm import ask_all
from training.tagging.datasets import TagData
from training.tagging.kernels import IntArray, votes
from training.tagging.learners import FloatArray

BY_VOTE: Final = 6
BY_NAME: Final = 4
"""Labels shown: of the nearest groups, and by name; few enough that a small model reads them all."""
_KEPT: Final = ("text", "finish", "prompt_tokens", "completion_tokens")
_UNSAID: Final = -20.0
"""Log-probability of a label that the LLM did not name."""

Ask = Callable[[Mapping[int, LLMRequest], Callable[[float], None]], Mapping[int, LLMResult]]
"""Many questions by number -> their answers; failed ones are left out."""


class CachedEngine:
    """An engine that answers a question it was asked before from a file, one JSON object a line."""

    def __init__(self, engine: LLMEngine, path: Path) -> None:
        """Reads ``path`` where it exists; a last line that was cut off is asked again."""
        self._engine, self._path = engine, path
        self._known: dict[str, LLMResult] = {}
        self.asked = 0
        self.seconds = 0.0
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                kept = json.loads(line)
            except ValueError:
                continue
            tokens = tuple(Token(*token) for token in kept["tokens"])
            self._known[kept["key"]] = LLMResult(**{name: kept[name] for name in _KEPT}, tokens=tokens)

    @property
    def model_id(self) -> str:
        return self._engine.model_id

    @property
    def alive(self) -> bool:
        return self._engine.alive

    async def generate(self, request: LLMRequest) -> LLMResult:
        """See LLMEngine."""
        key = hashlib.sha256(repr((self.model_id, asdict(request))).encode()).hexdigest()
        if key in self._known:
            return self._known[key]
        started = time.perf_counter()
        result = await self._engine.generate(request)
        self.asked += 1
        self.seconds += time.perf_counter() - started
        tokens = [(token.text, token.logprob) for token in result.tokens]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            kept = {name: getattr(result, name) for name in _KEPT}
            file.write(json.dumps({"key": key, **kept, "tokens": tokens}) + "\n")
        self._known[key] = result
        return result

    async def aclose(self) -> None:
        await self._engine.aclose()


@contextmanager
def asking(engine: LLMEngine, path: Path, spent: dict[str, float | None] | None = None) -> Iterator[Ask]:
    """Ask an engine that is new, whose answers are kept in ``path``; it is closed at the end.

    ``spent`` is told, then, how many answers were no earlier run's, and how long one took among those asked at once
    (seconds; None where there were none).
    """
    cached = CachedEngine(engine, path)
    # One loop for all questions: an engine belongs to the loop of its first.
    with asyncio.Runner() as runner:
        try:
            yield lambda requests, progress: runner.run(ask_all(cached, requests, progress)) if requests else {}
        finally:
            runner.run(engine.aclose())
            if spent is not None:
                spent |= {"asked": cached.asked, "answer_s": cached.seconds / cached.asked if cached.asked else None}


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Of each asked group [m]: the label (-1 where nothing usable came) and its log-probability, tokens used."""

    groups: IntArray
    label: IntArray
    logprob: FloatArray
    tokens: int


def choose(data: TagData, train: IntArray, asked: IntArray) -> list[list[int]]:
    """The labels shown for each asked group; a group's own gold does not speak for it."""
    named = data.names["meaning"][asked]
    by_name = np.argsort(-named, axis=1, kind="stable")
    shown: list[list[int]] = [[] for _ in asked]
    others = np.setdiff1d(train, asked) if len(train) <= 1 else train
    if len(others):
        alike = np.array(data.kernels["meaning"][np.ix_(asked, others)])
        alike[asked[:, None] == others[None, :]] = -1e9
        share, _ = votes(alike, data.shares[others])
        order = np.argsort(-share, axis=1, kind="stable")[:, :BY_VOTE]
        shown = [[int(label) for label in order[row] if share[row, label] > 0] for row in range(len(asked))]
    return [list(dict.fromkeys([*own, *by_name[row, :BY_NAME].tolist()])) for row, own in enumerate(shown)]


def question(template: Prompt, data: TagData, group: int, shown: Sequence[int]) -> LLMRequest:
    """The request for one label of those ``shown`` for a group."""
    names = [data.labels[label] for label in shown]
    values = {
        "title": data.texts[group][:300],
        "text": "-",
        "attributes": "-",
        "choices": "\n".join(f"- {name}" for name in names),
    }
    return template.request(values, choice_schema("tags", names, 1))


def ask(
    asker: Ask,
    data: TagData,
    groups: IntArray,
    shown: Sequence[Sequence[int]],
    progress: Callable[[float], None],
    temperature: float = 0.0,
    seed: int = 0,
) -> Answers:
    """The one label that the LLM chooses of those shown, by the prompt that serving uses."""
    template = prompts.load("tag")
    requests = {}
    for row, (group, labels) in enumerate(zip(groups.tolist(), shown)):
        request = question(template, data, group, labels)
        requests[row] = replace(request, temperature=temperature, seed=seed)
    codes = {name: code for code, name in enumerate(data.labels)}
    return _read(groups, asker(requests, progress), "tags", codes)


def confirm(asker: Ask, data: TagData, answers: Answers, progress: Callable[[float], None]) -> FloatArray:
    """The LLM's own probability that its label is right [m], asked as yes or no; 0 where it gave no label."""
    requests = {
        row: LLMRequest(
            "You check the categories of supermarket products. Answer with JSON only.",
            f"Product: {data.texts[group][:300]}\nProposed category: {data.labels[label]}\n\n"
            'Does the product belong to this category? Answer as {"answer": ["yes"]} or {"answer": ["no"]}.',
            24,
            choice_schema("answer", ["yes", "no"], 1),
        )
        for row, (group, label) in enumerate(zip(answers.groups.tolist(), answers.label.tolist()))
        if label >= 0
    }
    said = _read(answers.groups, asker(requests, progress), "answer", {"yes": 1, "no": 0})
    probability = np.exp(np.nan_to_num(said.logprob, nan=_UNSAID))
    return np.where(said.label == 1, probability, np.where(said.label == 0, 1.0 - probability, 0.0))


def _read(groups: IntArray, results: Mapping[int, LLMResult], field: str, codes: Mapping[str, int]) -> Answers:
    label, logprob = np.full(len(groups), -1, np.int64), np.full(len(groups), np.nan)
    for row, result in results.items():
        said = read_choices(result, field, codes)
        if said.labels:
            label[row], logprob[row] = said.labels[0], said.logprobs[0]
    tokens = sum(result.prompt_tokens + result.completion_tokens for result in results.values())
    return Answers(groups, label, logprob, tokens)
