"""From recommended lists to the report's numbers: one dictionary, which is the JSON of ``tandem evaluate ranking``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl

from training.baselines.tune import Tuned
from training.metrics import (
    KS,
    FloatArray,
    all_metrics,
    beyond_accuracy,
    bootstrap,
    means,
    per_target,
    slices,
    worst_slice,
)
from training.protocols import Bucket, IntArray, ItemSets, Protocol
from training.ranking import Targets

SYSTEM: Final = "tandem"
MAIN_METRIC: Final = "ndcg@10"
GAINS: Final = ("ndcg@10", "recall@10", "phr@10", "ndcg@20", "recall@20", "phr@20")
EXPLORE: Final = "ndcg@10/explore"


@dataclass(frozen=True, slots=True, eq=False)
class NewItems:
    """Every model asked for items a target's user has not had: lists [targets, k], and how baselines were tuned for it.

    A list of repeats cannot hit a new item whatever its order of new ones, so the explore split of whole lists says how
    many new items they hold. This says how well they are ordered.
    """

    rows: Mapping[str, IntArray]
    tuned: Mapping[str, Tuned] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """One protocol's test: its targets, what they want and had, and the lists of every model [targets, k].

    ``new``: None where whole lists hold new items only.
    """

    protocol: Protocol
    targets: Targets
    wanted: ItemSets
    had: ItemSets
    rows: Mapping[str, IntArray]
    tuned: Mapping[str, Tuned] = field(default_factory=dict)
    new: NewItems | None = None


@dataclass(frozen=True, slots=True, eq=False)
class BucketOutcome:
    """One history length: its targets' wants and every model's lists."""

    bucket: Bucket
    wanted: ItemSets
    rows: Mapping[str, IntArray]


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What the report says about the run itself. ``users``: the users table; ``category`` int [items], -1 unknown."""

    repeats: bool
    seed: int
    data_hash: str
    revision: str
    users: pl.DataFrame | None = None
    category: IntArray | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    importance: Mapping[str, float] = field(default_factory=dict)


def build(
    outcomes: Sequence[Outcome], buckets: Sequence[BucketOutcome], facts: Facts, skipped: Mapping[str, str]
) -> dict[str, Any]:
    """Every number of the report; the first outcome is the one ``models`` and ``gain`` speak of.

    ``skipped``: protocols that could not be run and why. NaN never appears: what has no value is None.
    """
    values = [_values(outcome) for outcome in outcomes]
    protocols: dict[str, Any] = {
        outcome.protocol.name: _protocol(outcome, own, facts.seed) for outcome, own in zip(outcomes, values)
    }
    protocols |= {name: {"skipped": reason} for name, reason in skipped.items()}
    result: dict[str, Any] = {"models": {}, "gain": None, "new_items": None}
    if outcomes:
        main, first = outcomes[0], protocols[outcomes[0].protocol.name]
        result = {
            "models": first["models"],
            "gain": first["gain"],
            "new_items": first["new_items"],
            "protocol": main.protocol.name,
            "beyond_accuracy": {
                name: beyond_accuracy(rows, main.had, main.protocol.items, facts.category, 10)
                for name, rows in main.rows.items()
            },
            **_bias(main, values[0], first["gain"]["best_baseline"], facts),
        }
    return {
        **result,
        "buckets": [_bucket(outcome, facts.seed) for outcome in buckets],
        "protocols": protocols,
        "repeats": facts.repeats,
        "seed": facts.seed,
        "data_hash": facts.data_hash,
        "revision": facts.revision,
        "parameters": dict(facts.parameters),
        "importance": dict(facts.importance),
    }


def _values(outcome: Outcome) -> dict[str, dict[str, FloatArray]]:
    return {name: all_metrics(rows, outcome.wanted, outcome.had) for name, rows in outcome.rows.items()}


def _protocol(outcome: Outcome, values: Mapping[str, Mapping[str, FloatArray]], seed: int) -> dict[str, Any]:
    new = outcome.had.sizes == 0
    result = {
        "facts": dict(outcome.protocol.facts),
        "targets": int((outcome.wanted.sizes > 0).sum()),
        "models": {name: means(own) for name, own in values.items()},
        "gain": gain_over_baselines(values, seed),
        "new_items": None if outcome.new is None else _new_items(outcome, outcome.new, seed),
        "lift": {
            name: {MAIN_METRIC: _interval(values[SYSTEM][MAIN_METRIC] - own[MAIN_METRIC], seed)}
            for name, own in values.items()
            if name != SYSTEM
        },
        "tuned": _tuned(outcome.tuned),
    }
    if new.any() and not new.all():
        result["without_history"] = {
            "targets": int(new.sum()),
            "models": {
                name: means({metric: column[new] for metric, column in own.items() if "/" not in metric})
                for name, own in values.items()
            },
        }
    return result


def _tuned(found: Mapping[str, Tuned]) -> dict[str, Any]:
    return {
        name: {"parameters": dict(tuned.recommender.parameters), "tried": len(tuned.tried)}
        for name, tuned in found.items()
    }


def _new_items(outcome: Outcome, new: NewItems, seed: int) -> dict[str, Any]:
    """Metrics on what the targets want and never had, of lists of such items, and the gain over the best baseline."""
    wanted = outcome.wanted.keep(~outcome.wanted.inside(outcome.had))
    values = {
        name: {metric: column for k in KS for metric, column in per_target(rows, wanted, k).items()}
        for name, rows in new.rows.items()
    }
    best = _best(values, MAIN_METRIC)
    return {
        "targets": int((wanted.sizes > 0).sum()),
        "models": {name: means(own) for name, own in values.items()},
        "gain": {
            "best_baseline": best,
            **{metric: _interval(values[SYSTEM][metric] - values[best][metric], seed) for metric in GAINS},
        },
        "tuned": _tuned(new.tuned),
    }


def _best(values: Mapping[str, Mapping[str, FloatArray]], metric: str) -> str:
    """The baseline with the highest mean on these very targets: the hardest one to beat."""
    measured = {name: means(own)[metric] for name, own in values.items() if name != SYSTEM}
    return max(measured, key=lambda name: -1.0 if measured[name] is None else float(measured[name] or 0.0))


def _interval(values: FloatArray, seed: int) -> dict[str, Any]:
    return bootstrap(values, seed).to_dict()


def gain_over_baselines(values: Mapping[str, Mapping[str, FloatArray]], seed: int) -> dict[str, Any]:
    """The system minus the best baseline in NDCG@10, paired; explore items against their own best baseline."""
    best, explore = _best(values, MAIN_METRIC), _best(values, EXPLORE)
    system = values[SYSTEM]
    return {
        "best_baseline": best,
        **{metric: _interval(system[metric] - values[best][metric], seed) for metric in GAINS},
        "explore": {
            "best_baseline": explore,
            MAIN_METRIC: _interval(system[EXPLORE] - values[explore][EXPLORE], seed),
        },
    }


def _bucket(outcome: BucketOutcome, seed: int) -> dict[str, Any]:
    values = {name: per_target(rows, outcome.wanted, 10) for name, rows in outcome.rows.items()}
    best = _best(values, MAIN_METRIC)
    return {
        "baskets": outcome.bucket.name,
        "unit": f"{outcome.bucket.unit}s",
        "targets": int((outcome.wanted.sizes > 0).sum()),
        "mean_baskets": float(outcome.bucket.length.mean()),
        "models": {name: means(own) for name, own in values.items()},
        "gain": {
            "best_baseline": best,
            MAIN_METRIC: _interval(values[SYSTEM][MAIN_METRIC] - values[best][MAIN_METRIC], seed),
        },
    }


def _bias(outcome: Outcome, values: Mapping[str, Mapping[str, FloatArray]], best: str, facts: Facts) -> dict[str, Any]:
    """NDCG@10 of the system by user attribute, the worst slice, and where it gains least over the best baseline."""
    users = [outcome.protocol.events.users[user] for user in outcome.targets.user]
    ndcg = values[SYSTEM][MAIN_METRIC]
    found = slices(ndcg, users, facts.users, facts.seed)
    gains = slices(ndcg - values[best][MAIN_METRIC], users, facts.users, facts.seed)
    return {
        "slices": {
            attribute: {
                value: {**interval.to_dict(), "gain": gains[attribute][value].to_dict()}
                for value, interval in intervals.items()
            }
            for attribute, intervals in found.items()
        },
        "worst_slice": worst_slice(found),
        "least_gain_slice": worst_slice(gains),
        "everybody": _interval(ndcg, facts.seed),
    }


def categories(items: pl.DataFrame, column: str | None) -> IntArray | None:
    """Codes of a category column int64 [items], -1 where it is null; None without such a column."""
    if column is None or column not in items.columns:
        return None
    codes = items[column].cast(pl.String).rank("dense").cast(pl.Int64).fill_null(0).to_numpy() - 1
    return np.asarray(codes, np.int64)
