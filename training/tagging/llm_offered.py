"""An LLM's choice among candidates of which an item may have several or none, under four confidences of its own.

They are those of `llm_study`, tag by tag: the probability of its words, raw and calibrated; the share of several
samples that name the tag; and its own yes to the tag that it named. What it does not name it does not propose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from models import prompts
from models.ports import LLMRequest, LLMResult
from models.tagging import choice_schema, read_choices
from training.tagging.claims import ClaimOutcome, Claims, outcome
from training.tagging.kernels import IntArray
from training.tagging.learners import FloatArray
from training.tagging.llm import Ask
from training.tagging.llm_judged import SAMPLES, TEMPERATURE, UNSAID, isotonic
from training.tagging.llm_sizes import Progress
from training.tagging.llm_yes import Check, sureness, yes_or_no
from training.tagging.scores import BoolArray
from training.tagging.spent import Spent, several_questions

NONE: Final = "none of these"
_TOKENS: Final = 16
"""Of an answer, by the tag it may name: what the prompt of `Tag` allows for three."""
METHODS: Final = ("llm", "llm-isotonic", "llm-vote", "llm-yes")


@dataclass(frozen=True, slots=True)
class Described:
    """An item as an LLM reads it: name, further text, tagged examples."""

    title: str
    text: str = ""
    examples: str = "-"

    @property
    def whole(self) -> str:
        """Name and text, which begins where the name was cut."""
        return self.title + self.text


@dataclass(frozen=True, slots=True, eq=False)
class Offered:
    """Candidates [n] put before an LLM: of which item (counted from 0), which tag, how it reads, whether gold has it.

    ``items``: as they are described; ``gold`` int64 [items]: how many tags each truly has, offered or not; ``most``:
    how many it may name of one; ``check``: how it is asked whether one is right.
    """

    name: str
    most: int
    check: Check
    items: Sequence[Described]
    row: IntArray
    tag: IntArray
    told: Sequence[str]
    right: BoolArray
    gold: IntArray

    def questions(self) -> dict[int, tuple[LLMRequest, dict[str, int]]]:
        """By item that has candidates: the request to name some of them, and which candidate each choice is."""
        places: dict[int, dict[str, int]] = {}
        for place, row in enumerate(self.row.tolist()):
            places.setdefault(row, {})[self.told[place]] = place
        template = prompts.load("tag")
        found = {}
        for row, codes in places.items():
            choices, item = [*codes, NONE], self.items[row]
            values = {"title": item.title, "text": item.text or "-", "attributes": "-", "examples": item.examples}
            values["choices"] = "\n".join(f"- {choice}" for choice in choices)
            request = template.request(values, choice_schema("tags", choices, self.most))
            found[row] = replace(request, max_tokens=_TOKENS * self.most), codes
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Said:
    """Candidates [n] that were named, in the order of their items, how probable each is, and what that took."""

    place: IntArray
    probability: FloatArray
    spent: Spent


def outcomes(
    asker: Ask, offered: Offered, known: int, asked: IntArray, seed: int, progress: Progress
) -> list[ClaimOutcome]:
    """METHODS on the ``asked`` items, which come after the ``known`` ones: those certify, and calibrate.

    Candidate recall is that of what is offered.
    """
    greedy = _choose(asker, offered, 0.0, 0, partial(progress, f"LLM: {offered.name}"))
    samples = [
        _choose(asker, offered, TEMPERATURE, at + 1, partial(progress, f"LLM: {offered.name}, sample {at + 1}"))
        for at in range(SAMPLES)
    ]
    sure = _confirmed(asker, offered, greedy, partial(progress, f"LLM: {offered.name}, yes or no"))
    own = int((offered.row[greedy.place] < known).sum())
    likely = isotonic(greedy.probability, offered.right[greedy.place], own, seed)
    said = (greedy, replace(greedy, probability=likely), _voted(samples), sure)
    later = offered.row >= known
    recall = float(offered.right[later].sum() / max(1, offered.gold[known:].sum()))
    return [_judged(name, offered, known, asked, seed, one, recall) for name, one in zip(METHODS, said)]


def _judged(
    name: str, offered: Offered, known: int, asked: IntArray, seed: int, said: _Said, recall: float
) -> ClaimOutcome:
    at = said.place
    row, tag, right = offered.row[at], offered.tag[at], offered.right[at]
    claims = Claims(len(offered.items), row, tag, said.probability, right, offered.gold)
    held, others = claims.only(np.arange(known)), claims.only(np.arange(known, claims.units))
    return outcome(name, seed, asked, held, others, recall, None, said.spent)


def _choose(asker: Ask, offered: Offered, temperature: float, seed: int, progress: Callable[[float], None]) -> _Said:
    """What one answer about each item names, with the probability of its words."""
    questions = offered.questions()
    requests = {row: replace(one, temperature=temperature, seed=seed) for row, (one, _) in questions.items()}
    results = asker(requests, progress)
    place: list[int] = []
    logprob: list[float] = []
    for row, result in sorted(results.items()):
        read = read_choices(result, "tags", questions[row][1])
        place.extend(read.labels)
        logprob.extend(read.logprobs)
    likely: FloatArray = np.exp(np.nan_to_num(np.array(logprob, np.float64), nan=UNSAID))
    return _Said(np.array(place, np.int64), likely, _spent(offered, results))


def _voted(samples: Sequence[_Said]) -> _Said:
    """All that any sample names, with the share of the samples that do; one that failed names nothing."""
    place, many = np.unique(np.concatenate([one.place for one in samples]), return_counts=True)
    return _Said(place, many / len(samples), several_questions([one.spent for one in samples]))


def _confirmed(asker: Ask, offered: Offered, named: _Said, progress: Callable[[float], None]) -> _Said:
    """What was named, with the LLM's own probability that it is right; 0 where it gives no usable answer."""
    requests = {
        at: yes_or_no(offered.check, offered.items[offered.row[place]].whole, offered.told[place])
        for at, place in enumerate(named.place.tolist())
    }
    results = asker(requests, progress)
    spent = several_questions([named.spent, _spent(offered, results)])
    return _Said(named.place, sureness(results, len(requests)), spent)


def _spent(offered: Offered, results: Mapping[int, LLMResult]) -> Spent:
    return Spent.of(results.values(), len(offered.items))


def flat(shown: Iterable[Sequence[int]]) -> tuple[IntArray, IntArray]:
    """Rows and tags [n] of the tags shown for each item."""
    pairs = [(row, tag) for row, tags in enumerate(shown) for tag in tags]
    both = np.array(pairs, np.int64).reshape(len(pairs), 2)
    return both[:, 0], both[:, 1]
