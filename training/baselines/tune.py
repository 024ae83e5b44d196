"""Which baselines there are, and the choice of their parameters on validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from training.baselines.base import Baskets, Recommender
from training.baselines.latent import ALS, ItemKNN
from training.baselines.popular import OwnCounts, Popular
from training.baselines.tifu import TifuConfig, TifuKNN
from training.baselines.trees import CountTrees, CountTreesConfig
from training.metrics import per_target
from training.ranking import Targets

Build = Callable[[Baskets, bool, Mapping[str, Any]], Recommender]
TUNING_TARGETS: Final = 1_000
TUNING_METRIC: Final = "ndcg@10"


@dataclass(frozen=True, slots=True)
class Baseline:
    """How one is made from its parameters: where tuning ``start``s, and the values it tries, parameter by parameter.

    ``own``: it shows only what the user had, so there is nothing to it where repeats are not shown.
    """

    name: str
    build: Build
    start: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    own: bool = False


BASELINES: Final = (
    Baseline("g-topfreq", lambda baskets, repeats, _: Popular(baskets, repeats)),
    Baseline(
        "popular",
        lambda baskets, repeats, chosen: Popular(baskets, repeats, **chosen),
        {"days": 28},
        {"days": (3, 7, 14, 28, 56)},
    ),
    Baseline("p-topfreq", lambda baskets, _, __: OwnCounts(baskets, fallback=False), own=True),
    Baseline(
        "gp-topfreq",
        lambda baskets, _, chosen: OwnCounts(baskets, fallback=True, **chosen),
        {"ties": "first"},
        {"ties": ("first", "popular", "recent")},
        own=True,
    ),
    # With published parameters, as next-basket papers compare with it; the tuned one below is the stronger.
    Baseline(
        "tifu-knn-published",
        lambda baskets, repeats, chosen: TifuKNN(baskets, repeats, TifuConfig(**chosen), "tifu-knn-published"),
        {"group": 7, "within": 0.9, "across": 0.9, "alpha": 0.7, "neighbours": 300},
    ),
    Baseline(
        "tifu-knn",
        lambda baskets, repeats, chosen: TifuKNN(baskets, repeats, TifuConfig(**chosen)),
        {"group": 7, "within": 0.9, "across": 0.9, "alpha": 0.7, "neighbours": 300},
        {
            "across": (0.3, 0.5, 0.7, 0.9),
            "group": (3, 7, 14, 28),
            "within": (0.8, 0.9, 0.95, 1.0),
            "alpha": (0.5, 0.7, 0.9),
            "neighbours": (100, 300, 900),
        },
    ),
    Baseline(
        "lightgbm-counts",
        lambda baskets, _, chosen: CountTrees(baskets, CountTreesConfig(**chosen)),
        {"leaves": 31, "min_leaf": 20, "trees": 100},
        {"min_leaf": (20, 100, 500), "leaves": (15, 31), "trees": (50, 100, 200)},
        own=True,
    ),
    Baseline(
        "item-knn",
        lambda baskets, repeats, chosen: ItemKNN(baskets, repeats, **chosen),
        {"weighting": "bm25", "neighbours": 20},
        {"weighting": ("cosine", "tfidf", "bm25"), "neighbours": (5, 20, 100)},
    ),
    Baseline(
        "als",
        lambda baskets, repeats, chosen: ALS(baskets, repeats, **chosen),
        {"factors": 64, "alpha": 1.0},
        {"alpha": (0.3, 1.0, 10.0), "factors": (32, 64, 128)},
    ),
)


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """A baseline with the parameters chosen, and every setting tried with its score on validation."""

    recommender: Recommender
    tried: tuple[tuple[Mapping[str, Any], float], ...]


def latest(targets: Targets, most: int) -> Targets:
    """The ``most`` latest targets, in their order: few fits serve them all, and they are nearest to what is tested."""
    return targets.take(np.sort(np.argsort(targets.time, kind="stable")[-most:]))


def tune(baseline: Baseline, baskets: Baskets, repeats: bool, most: int = TUNING_TARGETS) -> Tuned:
    """Choose one parameter after the other by NDCG@10 on the latest validation targets; the first best value stays."""
    protocol = baskets.protocol
    targets = latest(protocol.valid, most)
    wanted = protocol.wanted_sets(targets)
    if not repeats:
        wanted = wanted.keep(~wanted.inside(protocol.had_sets(targets)))
    scores: dict[tuple[tuple[str, Any], ...], float] = {}

    def score(parameters: Mapping[str, Any]) -> float:
        key = tuple(sorted(parameters.items()))
        if key not in scores:
            rows = baseline.build(baskets, repeats, parameters).recommend(targets, 10)
            values = per_target(rows, wanted, 10)[TUNING_METRIC]
            scores[key] = float(np.nanmean(values)) if not np.isnan(values).all() else 0.0
        return scores[key]

    chosen = dict(baseline.start)
    if len(targets) and len(wanted.rows):
        for name, values in baseline.grid.items():
            chosen = max(({**chosen, name: value} for value in _start_first(chosen[name], values)), key=score)
    return Tuned(
        baseline.build(baskets, repeats, chosen),
        tuple((dict(parameters), value) for parameters, value in scores.items()),
    )


def _start_first(current: Any, values: Sequence[Any]) -> list[Any]:
    """The current value first, so that a tie changes nothing."""
    return [current, *(value for value in values if value != current)]


def baselines_for(repeats: bool) -> list[Baseline]:
    """Those that make sense: without repeats the user's own counts show nothing."""
    return [baseline for baseline in BASELINES if repeats or not baseline.own]
