"""How things are timed: the best of a few runs, garbage collection off meanwhile.

Figures are CPU seconds of this process, all its threads counted: on a machine with a core to spare they are what a
clock shows, and a neighbour's load does not distort a ratio. Seconds on the clock are kept beside them.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RUNS = 5
BUDGET_S = 1.0
"""Runs of one measurement: at most so many, and none after so many CPU seconds; one that takes longer is run once."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The fastest of ``runs`` runs: CPU seconds of the process and seconds on the clock."""

    cpu_s: float
    wall_s: float
    runs: int


def best_of(ready: Callable[[], Callable[[], Any]], runs: int = RUNS) -> tuple[Timing, Any]:
    """The fastest of a few runs, and the result of the last. ``ready`` makes what is run; it is not measured."""
    timings: list[tuple[float, float]] = []
    result = None
    with collector_off():
        while len(timings) < runs and sum(cpu for cpu, _ in timings) < BUDGET_S:
            result = None  # the memory of one result at a time
            run = ready()
            wall, cpu = time.perf_counter(), time.process_time()
            result = run()
            timings.append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu_s, wall_s = min(timings)
    return Timing(cpu_s, wall_s, len(timings)), result


@contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection but one before."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def percentiles(seconds: Sequence[float] | NDArray[np.float64], unit: float) -> dict[str, float]:
    """{p50, p99, asked}, in units of ``unit`` seconds."""
    p50, p99 = np.percentile(np.asarray(seconds) / unit, (50, 99))
    return {"p50": float(p50), "p99": float(p99), "asked": len(seconds)}
