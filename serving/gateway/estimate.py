"""How long an answer will take, from how long the last ones took."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from models.ports import LLMResult
from serving.gateway.config import TargetConfig

_WEIGHT = 0.1
"""Of the newest observation in a moving average."""
_MEMORY_S = 30.0
"""An estimate nobody has confirmed for so long is forgotten: a target that was slow must get a chance to be fast."""
_ENOUGH = 3
"""Answers before an observation is believed more than the configuration."""
_LENGTHS = 256
_REFRESH = 16
"""Answers after which a task's quantiles are computed anew."""


class Lengths:
    """Tokens of the last answers of one task."""

    def __init__(self) -> None:
        self._last: deque[int] = deque(maxlen=_LENGTHS)
        self._sorted: list[int] = []
        self._new = 0

    def add(self, tokens: int) -> None:
        self._last.append(tokens)
        self._new += 1
        if self._new >= _REFRESH or len(self._last) <= _REFRESH:
            self._sorted = sorted(self._last)
            self._new = 0

    def quantile(self, share: float) -> int | None:
        """The length that a share of the answers does not pass; None before there is one."""
        return self._sorted[min(int(share * len(self._sorted)), len(self._sorted) - 1)] if self._sorted else None


class Estimator:
    """Of one target: tokens read and generated in a second (moving averages), tokens a character makes, and how long
    the answers of each task are. A call's waiting in the engine's queue is in its time, so load slows the estimate."""

    def __init__(self, config: TargetConfig, clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self._tokens_per_char = 0.25
        self._lengths: dict[str, Lengths] = {}
        self._excess = 0
        self._forget()

    @property
    def template_tokens(self) -> int:
        """Prompt tokens beyond one for each byte of the texts, as configured or as seen, whichever is more."""
        return max(self._config.template_tokens, self._excess)

    @property
    def output_tokens_per_s(self) -> float:
        """Tokens generated in a second for one request, as observed or else configured; NaN where nobody knows."""
        if self._seen >= _ENOUGH and self._output_s > 0:
            return 1.0 / self._output_s
        return self._config.output_tokens_per_s or math.nan

    def seconds(self, task: str, chars: int, max_tokens: int, share: float = 0.5) -> float:
        """Expected time of an answer; ``share`` of the answers of this task are no longer. 0.0 where nothing is known.

        A task without answers so far is expected to take ``max_tokens`` at a quantile of 1 only, else none of them.
        """
        if self._clock() - self._seen_at > _MEMORY_S:
            self._forget()
        known = self._seen >= _ENOUGH
        prompt_s = self._prompt_s if known else 1.0 / (self._config.prompt_tokens_per_s or math.inf)
        output_s = self._output_s if known else 1.0 / (self._config.output_tokens_per_s or math.inf)
        lengths = self._lengths.get(task)
        length = lengths.quantile(share) if lengths is not None else None
        if length is None:
            length = max_tokens if share >= 1.0 else 0
        return chars * self._tokens_per_char * prompt_s + min(length, max_tokens) * output_s

    def answered(self, task: str, chars: int, size: int, result: LLMResult, seconds: float) -> None:
        """Learn from an answer of ``seconds``; ``chars`` and ``size`` are the prompt's characters and bytes."""
        reading = result.first_token_s if math.isfinite(result.first_token_s) else 0.0
        writing = max(seconds - reading, 0.0) / max(result.completion_tokens, 1)
        self._seen += 1
        self._seen_at = self._clock()
        # The first few count alike: what came first was perhaps an engine that had to warm up.
        weight = max(_WEIGHT, 1.0 / self._seen)
        if reading:
            self._prompt_s += weight * (reading / max(result.prompt_tokens, 1) - self._prompt_s)
        self._output_s += weight * (writing - self._output_s)
        self._tokens_per_char += weight * (result.prompt_tokens / max(chars, 1) - self._tokens_per_char)
        self._excess = max(self._excess, result.prompt_tokens - size)
        self._lengths.setdefault(task, Lengths()).add(result.completion_tokens)

    def timed_out(self, task: str, chars: int, max_tokens: int, seconds: float) -> None:
        """Learn from a call that was given up after ``seconds``: it takes longer than that."""
        expected = self.seconds(task, chars, max_tokens)
        if 0.0 < expected < seconds:
            slower = 1.0 + _WEIGHT * (seconds / expected - 1.0)
            self._prompt_s *= slower
            self._output_s *= slower

    def _forget(self) -> None:
        """Back to what the configuration says; lengths stay, they are the task's."""
        self._seen = 0
        self._seen_at = self._clock()
        self._prompt_s = self._output_s = 0.0
