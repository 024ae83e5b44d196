"""When a target is left alone, and how often one that failed is asked again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from serving.gateway.config import BreakerConfig, RetryConfig
from serving.gateway.ports import BreakerState

Clock = Callable[[], float]


class Breaker:
    """Circuit breaker over the calls of a sliding window.

    Closed lets every call through. Open lets none through until its rest is over, then it is half open: one call at a
    time tries; success closes it, failure opens it for twice as long. ``changed`` is told every new state.
    """

    def __init__(self, config: BreakerConfig, clock: Clock, changed: Callable[[BreakerState], None]) -> None:
        self._config = config
        self._clock = clock
        self._changed = changed
        self._calls: deque[tuple[float, bool]] = deque()
        self._failures = 0
        self._state: BreakerState = "closed"
        self._rest_s = config.rest_s
        self._until = 0.0
        self._trying = False

    @property
    def state(self) -> BreakerState:
        """Open turns half open with the first call after its rest, not before."""
        return self._state

    @property
    def rest_s(self) -> float:
        """Seconds until a call may be tried; 0 where one may now."""
        return max(0.0, self._until - self._clock()) if self._state == "open" else 0.0

    @property
    def ready(self) -> bool:
        """Whether `admit` would let a call through."""
        return self._state == "closed" or (self.rest_s == 0.0 and not self._trying)

    def admit(self) -> bool:
        """Whether a call may be made now. One that may must be followed by `succeeded`, `failed` or `abandoned`."""
        if self._state == "closed":
            return True
        if not self.ready:
            return False
        self._turn("half_open")
        self._trying = True
        return True

    def succeeded(self) -> None:
        """The target answered."""
        if self._state == "half_open":
            self._trying = False
            self._calls.clear()
            self._failures = 0
            self._rest_s = self._config.rest_s
            self._turn("closed")
        self._note(failed=False)

    def failed(self, rest_s: float = 0.0) -> None:
        """The target failed, and perhaps asked to be left alone for ``rest_s`` seconds: then it is."""
        self._note(failed=True)
        if rest_s > 0:
            self._open(min(rest_s, self._config.longest_rest_s))
        elif self._state == "half_open":
            self._rest_s = min(2 * self._rest_s, self._config.longest_rest_s)
            self._open(self._rest_s)
        elif (
            self._state == "closed"
            and len(self._calls) >= self._config.min_calls
            and self._failures >= self._config.failure_share * len(self._calls)
        ):
            self._open(self._rest_s)

    def abandoned(self) -> None:
        """The call ended without telling anything of the target: its caller went away or had no patience."""
        self._trying = False

    def _open(self, rest_s: float) -> None:
        self._trying = False
        self._until = max(self._until, self._clock() + rest_s)
        self._turn("open")

    def _note(self, *, failed: bool) -> None:
        now = self._clock()
        self._calls.append((now, failed))
        self._failures += failed
        while self._calls[0][0] < now - self._config.window_s:
            self._failures -= self._calls.popleft()[1]

    def _turn(self, state: BreakerState) -> None:
        if state != self._state:
            self._state = state
            self._changed(state)


class RetryBudget:
    """Token bucket: every ask adds its share, every retry takes one."""

    def __init__(self, config: RetryConfig) -> None:
        self._config = config
        self._tokens = config.burst

    def asked(self) -> None:
        """A new ask came."""
        self._tokens = min(self._config.burst, self._tokens + self._config.share)

    def take(self) -> bool:
        """Whether a retry may be made; it is then counted."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
