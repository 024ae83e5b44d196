"""Asking an LLM for the label of groups, with what retrieval gives: the nearest training groups as examples, the labels
they vote for and those whose names are nearest. Its answers are kept in a file under a hash of model and question, so
that a second run asks nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import nan
from pathlib import Path
from typing import Final

import numpy as np

from models import prompts
from models.ports import LLMEngine, LLMRequest, LLMResult, Token
from models.prompts import Prompt
from models.tagging import EXAMPLES, choice_schema, read_choices, told_examples
from training.llm import ask_all
from training.tagging.datasets import TagData
from training.tagging.kernels import IntArray, votes
from training.tagging.learners import FloatArray
from training.tagging.llm_yes import CATEGORY, sureness, yes_or_no
from training.tagging.spent import Spent, TimedResult
from training.tagging.views import Matrix

BY_VOTE: Final = 6
BY_NAME: Final = 4
"""Labels shown: of the nearest groups, and by name; few enough that a small model reads them all."""
_KEPT: Final = ("text", "finish", "prompt_tokens", "completion_tokens")
_ITSELF: Final = -1e9
"""Similarity of a group to itself: far from all."""

Ask = Callable[[Mapping[int, LLMRequest], Callable[[float], None]], Mapping[int, LLMResult]]
"""Many questions by number -> their answers; failed ones are left out."""


class CachedEngine:
    """An engine that answers a question it was asked before from a file, one JSON object a line, with the seconds that
    the answer took when it was new (see `TimedResult`); lines of older files have none."""

    def __init__(self, engine: LLMEngine, path: Path) -> None:
        """Reads ``path`` where it exists; a last line that was cut off is asked again."""
        self._engine, self._path = engine, path
        self._known: dict[str, TimedResult] = {}
        self.asked = 0
        self.seconds = 0.0
        # Of the time so far, what one question that ran all along would have had of it, and how many run now.
        self._share, self._running, self._seen = 0.0, 0, 0.0
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                kept = json.loads(line)
            except ValueError:
                continue
            tokens = tuple(Token(*token) for token in kept["tokens"])
            known = {name: kept[name] for name in _KEPT}
            self._known[kept["key"]] = TimedResult(**known, tokens=tokens, seconds=kept.get("seconds", nan))

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
        before = self._count(1)
        try:
            result = await self._engine.generate(request)
        finally:
            seconds = self._count(-1) - before
        self.asked += 1
        self.seconds += time.perf_counter() - started
        kept = {name: getattr(result, name) for name in _KEPT}
        tokens = [(token.text, token.logprob) for token in result.tokens]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, **kept, "seconds": seconds, "tokens": tokens}) + "\n")
        self._known[key] = TimedResult(**kept, tokens=result.tokens, seconds=seconds)
        return self._known[key]

    def _count(self, more: int) -> float:
        """The share so far, at a moment at which ``more`` questions begin to run."""
        now = time.perf_counter()
        self._share += (now - self._seen) / self._running if self._running else 0.0
        self._running, self._seen = self._running + more, now
        return self._share

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
    """Of each asked group [m]: the label (-1 where nothing usable came) and its log-probability; what all took."""

    groups: IntArray
    label: IntArray
    logprob: FloatArray
    spent: Spent


def choose(data: TagData, train: IntArray, asked: IntArray) -> list[list[int]]:
    """The labels shown for each asked group; a group's own gold does not speak for it."""
    named = data.names["meaning"][asked]
    by_name = np.argsort(-named, axis=1, kind="stable")
    shown: list[list[int]] = [[] for _ in asked]
    alike, others = _alike(data, train, asked)
    if len(others):
        share, _ = votes(alike, data.shares[others])
        order = np.argsort(-share, axis=1, kind="stable")[:, :BY_VOTE]
        shown = [[int(label) for label in order[row] if share[row, label] > 0] for row in range(len(asked))]
    return [list(dict.fromkeys([*own, *by_name[row, :BY_NAME].tolist()])) for row, own in enumerate(shown)]


def nearest(data: TagData, train: IntArray, asked: IntArray) -> list[list[int]]:
    """The training groups shown as examples for each asked group, nearest first; never the group itself."""
    alike, others = _alike(data, train, asked)
    order = np.argsort(-alike, axis=1, kind="stable")[:, :EXAMPLES]
    return [[int(others[at]) for at in row if alike[number, at] > _ITSELF] for number, row in enumerate(order)]


def _alike(data: TagData, train: IntArray, asked: IntArray) -> tuple[Matrix, IntArray]:
    """Similarities [asked, others] of the groups to ask about and the training groups that may speak for them."""
    others = np.setdiff1d(train, asked) if len(train) <= 1 else train
    alike = np.array(data.kernels["meaning"][np.ix_(asked, others)])
    alike[asked[:, None] == others[None, :]] = _ITSELF
    return alike, others


def question(template: Prompt, data: TagData, group: int, shown: Sequence[int], near: Sequence[int]) -> LLMRequest:
    """The request for one label of those ``shown`` for a group; ``near``: groups shown with their gold."""
    names = [data.labels[label] for label in shown]
    values = {
        "title": data.texts[group][:300],
        "text": "-",
        "attributes": "-",
        "examples": told_examples((data.texts[each], data.labels[data.gold[each]]) for each in near),
        "choices": "\n".join(f"- {name}" for name in names),
    }
    return template.request(values, choice_schema("tags", names, 1))


def ask(
    asker: Ask,
    data: TagData,
    train: IntArray,
    groups: IntArray,
    shown: Sequence[Sequence[int]],
    progress: Callable[[float], None],
    temperature: float = 0.0,
    seed: int = 0,
) -> Answers:
    """The one label that the LLM chooses of those shown, by the prompt that serving uses; ``train``: groups whose gold
    may stand in it."""
    template = prompts.load("tag")
    requests = {}
    for row, (group, labels, near) in enumerate(zip(groups.tolist(), shown, nearest(data, train, groups))):
        request = question(template, data, group, labels, near)
        requests[row] = replace(request, temperature=temperature, seed=seed)
    codes = {name: code for code, name in enumerate(data.labels)}
    return _read(groups, asker(requests, progress), "tags", codes)


def confirm(asker: Ask, data: TagData, answers: Answers, progress: Callable[[float], None]) -> tuple[FloatArray, Spent]:
    """The LLM's own probability that its label is right [m], asked as yes or no, 0 where it gave no label; and what
    these questions took."""
    requests = {
        row: yes_or_no(CATEGORY, data.texts[group][:300], data.labels[label])
        for row, (group, label) in enumerate(zip(answers.groups.tolist(), answers.label.tolist()))
        if label >= 0
    }
    results = asker(requests, progress)
    many = len(answers.groups)
    return sureness(results, many), Spent.of(results.values(), many)


def _read(groups: IntArray, results: Mapping[int, LLMResult], field: str, codes: Mapping[str, int]) -> Answers:
    label, logprob = np.full(len(groups), -1, np.int64), np.full(len(groups), np.nan)
    for row, result in results.items():
        said = read_choices(result, field, codes)
        if said.labels:
            label[row], logprob[row] = said.labels[0], said.logprobs[0]
    return Answers(groups, label, logprob, Spent.of(results.values(), len(groups)))
