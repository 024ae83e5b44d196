"""Quality monitors: what answers are worth, over a sliding window, by task and prompt version.

A broken prompt leaves every infrastructure metric green: the engine answers in time, with 200, nonsense. What shows
it is that answers fail validation (``malformed``), that asks end without one (``completion``), that they become longer
or shorter than they were (``length``), and that the guardrail judges them differently (``verdicts``).

Shares alarm where the 95 % Wilson bound is beyond the threshold, so that a few unlucky answers do not. Distributions
are compared with a reference by the population stability index, sum (p - q) ln(p / q) over bins; by common usage .1 is
a shift, .25 a large one. Two samples of one distribution differ by about (1/n + 1/m) chi2(bins - 1), so an alarm also
needs the index beyond the 99.9 % quantile of that.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from prometheus_client.core import GaugeMetricFamily
from pydantic import BaseModel, ConfigDict, Field

from serving.gateway.observe import Part
from serving.gateway.ports import Ask, Attempt, Outcome

Monitor = Literal["malformed", "completion", "length", "verdicts"]
VERDICTS: Final = ("accept", "review", "reject", "abstain")
LENGTHS: Final = 8
"""Bins of completion tokens: up to 7, 15, 31, ... 511, and longer."""
_Z: Final = 1.96
_RARE_Z: Final = 3.0902
"""One of 1,000, of the normal distribution."""
_KEYS: Final = 200
"""Pairs of task and prompt version kept at once; the one unused longest makes room."""


class MonitorConfig(BaseModel):
    """When answers are held to have become worse."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window_s: float = Field(default=600.0, gt=0)
    """Seconds looked back; a shorter window notices sooner and needs more traffic."""
    slices: int = Field(default=20, ge=2, le=200)
    """Parts of the window: old answers leave it in steps of window_s / slices."""
    least: int = Field(default=30, ge=1)
    """Answers in the window below which nothing is said."""
    malformed: float = Field(default=0.1, gt=0, lt=1)
    """Share of answers that fail validation above which there is an alarm."""
    completion: float = Field(default=0.9, gt=0, lt=1)
    """Share of asks put to an engine that end with a believed answer, below which there is an alarm."""
    shift: float = Field(default=0.25, gt=0)
    """Population stability index of output lengths and of verdicts above which there is an alarm."""
    reference: int = Field(default=300, ge=30)
    """Answers a distribution is compared with: the first so many of a task, where none come with the release."""


@dataclass(frozen=True, slots=True)
class Quality:
    """One monitor's value for a task and a prompt version over ``count`` answers, and whether it is an alarm."""

    monitor: Monitor
    task: str
    prompt: str
    value: float
    count: int
    alarm: bool


@dataclass(slots=True)
class _Slice:
    number: int
    answers: int = 0
    malformed: int = 0
    asks: int = 0
    completed: int = 0
    lengths: list[int] = field(default_factory=lambda: [0] * LENGTHS)
    verdicts: list[int] = field(default_factory=lambda: [0] * len(VERDICTS))


class Monitors(Part):
    """Watches answers that engines gave; cached ones were judged when they came. ``collect`` makes it a Prometheus
    collector: ``registry.register(monitors)``.

    ``lengths``: completion tokens of good answers by task, e.g. those of the prompt's evaluation, as reference.
    ``clock``: seconds, monotonic.
    """

    def __init__(
        self, config: MonitorConfig, clock: Callable[[], float], lengths: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        self._config, self._clock = config, clock
        self._slice_s = config.window_s / config.slices
        self._slices: OrderedDict[tuple[str, str], list[_Slice]] = OrderedDict()
        self._lengths = {task: _binned(given) for task, given in (lengths or {}).items() if given}
        self._given = frozenset(self._lengths)
        self._verdicts: dict[str, list[int]] = {}
        self._turn = threading.Lock()

    def attempted(self, ask: Ask, attempt: Attempt) -> None:
        # An engine that refuses has raised, and yet it is an answer: one with a problem.
        if attempt.shadow or (attempt.error and not attempt.problem):
            return
        with self._turn:
            part = self._part(ask.task, ask.prompt)
            part.answers += 1
            part.malformed += bool(attempt.problem)
            at = _bin(attempt.completion_tokens)
            part.lengths[at] += 1
            if not attempt.problem and ask.task not in self._given:
                self._learn(self._lengths.setdefault(ask.task, [0] * LENGTHS), at)

    def ended(self, ask: Ask, outcome: Outcome) -> None:
        # What ended before an engine was asked, for its budget or its deadline, says nothing of answers; nor does a
        # caller who went away.
        cached = outcome.answer is not None and outcome.answer.cache
        if not outcome.attempts or cached or outcome.error == "CancelledError":
            return
        with self._turn:
            part = self._part(ask.task, ask.prompt)
            part.asks += 1
            part.completed += outcome.answer is not None

    def judged(self, request_id: str, task: str, prompt: str, verdicts: Sequence[str]) -> None:  # noqa: ARG002 - a port's
        with self._turn:
            part = self._part(task, prompt)
            for verdict in verdicts:
                at = VERDICTS.index(verdict)
                part.verdicts[at] += 1
                self._learn(self._verdicts.setdefault(task, [0] * len(VERDICTS)), at)

    def quality(self) -> list[Quality]:
        """Every monitor's value where the window holds enough to tell."""
        found: list[Quality] = []
        with self._turn:
            oldest = self._number() - self._config.slices
            for (task, prompt), slices in list(self._slices.items()):
                slices[:] = [part for part in slices if part.number > oldest]
                if not slices:
                    del self._slices[task, prompt]
                    continue
                found += self._judge(task, prompt, slices)
        return found

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """For Prometheus: values are computed when asked for, not on the way of a request."""
        labels = ("monitor", "task", "prompt")
        value = GaugeMetricFamily("tandem_quality_value", "A monitor's value over its window.", labels=labels)
        alarm = GaugeMetricFamily("tandem_quality_alarm", "1 where the value is beyond its threshold.", labels=labels)
        for each in self.quality():
            value.add_metric((each.monitor, each.task, each.prompt), each.value)
            alarm.add_metric((each.monitor, each.task, each.prompt), float(each.alarm))
        yield value
        yield alarm

    def describe(self) -> list[GaugeMetricFamily]:
        """Names only: registering asks for no value."""
        return [GaugeMetricFamily(f"tandem_quality_{name}", "") for name in ("value", "alarm")]

    def _judge(self, task: str, prompt: str, slices: Sequence[_Slice]) -> Iterator[Quality]:
        config = self._config
        answers, asks = sum(part.answers for part in slices), sum(part.asks for part in slices)
        if answers >= config.least:
            malformed = sum(part.malformed for part in slices)
            low, _ = wilson(malformed, answers)
            yield Quality("malformed", task, prompt, malformed / answers, answers, low > config.malformed)
        if asks >= config.least:
            completed = sum(part.completed for part in slices)
            _, high = wilson(completed, asks)
            yield Quality("completion", task, prompt, completed / asks, asks, high < config.completion)
        for monitor, seen, reference in (
            ("length", _total([part.lengths for part in slices]), self._lengths.get(task)),
            ("verdicts", _total([part.verdicts for part in slices]), self._verdicts.get(task)),
        ):
            enough = reference is not None and (
                sum(reference) >= config.reference or (monitor == "length" and task in self._given)
            )
            if reference is not None and enough and sum(seen) >= config.least:
                shift, chance = stability_index(seen, reference)
                name: Monitor = "length" if monitor == "length" else "verdicts"
                yield Quality(name, task, prompt, shift, sum(seen), shift > max(chance, config.shift))

    def _learn(self, reference: list[int], at: int) -> None:
        if sum(reference) < self._config.reference:
            reference[at] += 1

    def _number(self) -> int:
        return int(self._clock() / self._slice_s)

    def _part(self, task: str, prompt: str) -> _Slice:
        key, number = (task, prompt), self._number()
        slices = self._slices.get(key)
        if slices is None:
            slices = self._slices[key] = []
            if len(self._slices) > _KEYS:
                self._slices.popitem(last=False)
        if not slices or slices[-1].number != number:
            self._slices.move_to_end(key)
            oldest = number - self._config.slices
            slices[:] = [part for part in slices if part.number > oldest]
            slices.append(_Slice(number))
        return slices[-1]


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share, after Wilson (JASA 1927); [0, 1] of nothing."""
    if not of:
        return 0.0, 1.0
    share, z2 = hits / of, _Z * _Z
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def stability_index(seen: Sequence[int], reference: Sequence[int]) -> tuple[float, float]:
    """How far counts have moved from a reference's, and how far chance alone moves them in one of 1,000 windows.

    Bins empty in both are left out, half a count is added to the others.
    """
    bins = [(new, old) for new, old in zip(seen, reference) if new or old]
    n, m = sum(new for new, _ in bins), sum(old for _, old in bins)
    index = 0.0
    for new, old in bins:
        p, q = (new + 0.5) / (n + 0.5 * len(bins)), (old + 0.5) / (m + 0.5 * len(bins))
        index += (p - q) * math.log(p / q)
    free = len(bins) - 1
    if not free:
        return 0.0, 0.0
    # Wilson and Hilferty (1931): the cube root of chi2(k) / k is nearly normal.
    spread = 2 / (9 * free)
    quantile = free * (1 - spread + _RARE_Z * math.sqrt(spread)) ** 3
    return index, (1 / n + 1 / m) * quantile


def _bin(tokens: int) -> int:
    return min(LENGTHS - 1, max(0, tokens.bit_length() - 3))


def _binned(lengths: Sequence[int]) -> list[int]:
    counts = [0] * LENGTHS
    for tokens in lengths:
        counts[_bin(tokens)] += 1
    return counts


def _total(parts: Sequence[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*parts)]
