"""The evaluation behind ``tandem evaluate ranking``: both protocols, tuned baselines, the system, one result."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final
from typing import Protocol as Port

import numpy as np
import polars as pl

from features.arrivals import catalog_items
from features.keys import NOWHERE
from features.workspace import Workspace
from training.baselines.base import Baskets, Recommender
from training.baselines.tune import TUNING_TARGETS, Tuned, baselines_for, tune
from training.materialize import Progress, load_events
from training.metrics import Interval, all_metrics, bootstrap, means
from training.protocols import IntArray, ItemSets, Protocol, next_wish, temporal, truncated
from training.ranking import Targets
from training.report.build import (
    GAINS,
    MAIN_METRIC,
    SYSTEM,
    BucketOutcome,
    Facts,
    NewItems,
    Outcome,
    build,
    categories,
    gain_over_baselines,
)

K: Final = 20
MOST_TARGETS: Final = 5_000
"""Test targets, drawn where there are more: intervals are narrow long before."""


class System(Recommender, Port):
    """The system under test: a recommender that may say what its features are worth."""

    @property
    def new_items(self) -> Recommender:
        """Itself, asked for what a user has not had."""

    @property
    def importance(self) -> Mapping[str, float]:
        """Feature -> importance of any positive scale; empty where there is none."""

    @property
    def tags(self) -> tuple[Interval, Recommender, Recommender] | None:
        """What published tags gain it on validation, and itself with and without them; None where it has none."""


SystemFactory = Callable[[Protocol], System]
"""Fits the system on a protocol's train and validation targets: nothing at or after a test target's time counts."""


def evaluate_ranking(
    workspace: Workspace,
    system_factory: SystemFactory,
    *,
    repeats: bool,
    seed: int = 7,
    most_targets: int = MOST_TARGETS,
    tuning_targets: int = TUNING_TARGETS,
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """Run everything and return the report's numbers (see `build`), with ``seconds`` of each step.

    ``repeats``: whether items a user had may be shown and count; False leaves them out of what targets want.
    Raises WorkspaceError where nothing was ingested, MissingExtra without `implicit`.
    """
    config = workspace.config()
    items, users = catalog_items(workspace), pl.read_parquet(workspace.users)
    frame = load_events(workspace)
    clock = _Clock(progress)
    outcomes: list[Outcome] = []
    buckets: list[BucketOutcome] = []
    skipped: dict[str, str] = {}
    tags: dict[str, Any] = {}
    place: dict[str, Any] = {}
    main: System | None = None
    fitted: dict[str, dict[str, dict[str, Any]]] = {}
    for make in (partial(next_wish, repeats=repeats), temporal):
        protocol = make(frame, items)
        if protocol.reason is not None:
            skipped[protocol.name] = protocol.reason
            continue
        tuned = _tune(protocol, repeats, tuning_targets, clock)
        # Where nothing is shown again every list is one of new items already.
        tuned_new = _tune(protocol, False, tuning_targets, clock, " on new items") if repeats else {}
        with clock.step(f"{protocol.name}: fit {SYSTEM}"):
            system = system_factory(protocol)
        models = {**_recommenders(tuned), SYSTEM: system}
        fitted[protocol.name] = {SYSTEM: dict(system.parameters)}
        outcome = _outcome(protocol, models, tuned, repeats, most_targets, seed, clock)
        if repeats:
            models_new = {**_recommenders(tuned_new), SYSTEM: system.new_items}
            fitted[protocol.name][f"new_items.{SYSTEM}"] = dict(system.new_items.parameters)
            rows_new = _ask_all(models_new, protocol, outcome.targets, clock, " for new items")
            _only_new(rows_new, outcome.had)
            outcome = replace(outcome, new=NewItems(rows_new, tuned_new))
        outcomes.append(outcome)
        if system.tags is not None:
            with clock.step(f"{protocol.name}: with and without tags"):
                tags[protocol.name] = _tags(*system.tags, outcomes[-1], seed)
        if (outcome.targets.place != NOWHERE).any():
            with clock.step(f"{protocol.name}: without the place"):
                place[protocol.name] = _without_place(system, outcomes[-1], seed)
        if main is None:
            main = system
            with clock.step("buckets"):
                buckets = _buckets(outcomes[0], models, seed, progress)
    facts = Facts(
        repeats=repeats,
        seed=seed,
        data_hash=config.data_hash,
        revision=code_revision(),
        users=users if len(users) else None,
        category=categories(items, config.label_column),
        parameters={} if main is None else main.parameters,
        importance={} if main is None else main.importance,
    )
    with clock.step("metrics"):
        result = build(outcomes, buckets, facts, skipped)
    for name, own in fitted.items():
        result["protocols"][name]["fitted"] = own
    progress("measured", 1.0)
    return {**result, "tags": tags, "place": place, "dataset": config.dataset, "seconds": clock.seconds}


class _Clock:
    """Wall time by step (seconds), and the caller's progress."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, done: float = 0.0) -> Iterator[None]:
        self.progress(name, done)
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)


def _tune(protocol: Protocol, repeats: bool, most: int, clock: _Clock, what: str = "") -> dict[str, Tuned]:
    baskets = Baskets(protocol)
    tuned: dict[str, Tuned] = {}
    chosen = baselines_for(repeats)
    for number, baseline in enumerate(chosen):
        with clock.step(f"{protocol.name}: tune {baseline.name}{what}", number / len(chosen)):
            tuned[baseline.name] = tune(baseline, baskets, repeats, most)
    return tuned


def _recommenders(tuned: Mapping[str, Tuned]) -> dict[str, Recommender]:
    return {name: one.recommender for name, one in tuned.items()}


def _ask_all(
    models: Mapping[str, Recommender], protocol: Protocol, targets: Targets, clock: _Clock, what: str = ""
) -> dict[str, IntArray]:
    rows = {}
    for number, (name, model) in enumerate(models.items()):
        with clock.step(f"{protocol.name}: ask {name}{what}", number / len(models)):
            rows[name] = ask(model, targets, protocol.items)
    return rows


def _outcome(
    protocol: Protocol,
    models: Mapping[str, Recommender],
    tuned: Mapping[str, Tuned],
    repeats: bool,
    most: int,
    seed: int,
    clock: _Clock,
) -> Outcome:
    targets = protocol.test
    if len(targets) > most:
        targets = targets.take(np.sort(np.random.default_rng(seed).choice(len(targets), most, replace=False)))
    wanted, had = protocol.wanted_sets(targets), protocol.had_sets(targets)
    if not repeats:
        wanted = wanted.keep(~wanted.inside(had))
    return Outcome(protocol, targets, wanted, had, _ask_all(models, protocol, targets, clock), tuned)


def _tags(validation: Interval, tagged: Recommender, plain: Recommender, outcome: Outcome, seed: int) -> dict[str, Any]:
    """The system with published tags and without on the test targets, and the paired gain."""
    values = {
        name: all_metrics(ask(model, outcome.targets, outcome.protocol.items), outcome.wanted, outcome.had)
        for name, model in (("with", tagged), ("without", plain))
    }
    gain = {key: bootstrap(values["with"][key] - values["without"][key], seed).to_dict() for key in GAINS}
    return {
        "kept": validation.low > 0,
        "validation": {MAIN_METRIC: validation.to_dict()},
        "models": {name: means(own) for name, own in values.items()},
        "gain": gain,
    }


def _without_place(system: Recommender, outcome: Outcome, seed: int) -> dict[str, Any]:
    """What the system makes of requests that do not tell where the user is, against those that do, paired; and whether
    it is still ahead of the baselines, which read no places."""
    rows = {**outcome.rows, SYSTEM: ask(system, outcome.targets.anywhere, outcome.protocol.items)}
    told, untold = (
        {name: all_metrics(own, outcome.wanted, outcome.had) for name, own in lists.items()}
        for lists in ({SYSTEM: outcome.rows[SYSTEM]}, rows)
    )
    one, other = told[SYSTEM], untold[SYSTEM]
    return {
        "told": int((outcome.targets.place != NOWHERE).sum()),
        "models": {"told": means(one), "not_told": means(other)},
        "gain": {key: bootstrap(one[key] - other[key], seed).to_dict() for key in GAINS},
        "not_told": gain_over_baselines(untold, seed),
    }


def _buckets(outcome: Outcome, models: Mapping[str, Recommender], seed: int, progress: Progress) -> list[BucketOutcome]:
    """Every model asked again with truncated histories."""
    found = truncated(outcome.protocol, outcome.targets, seed)
    results = []
    for number, bucket in enumerate(found):
        progress(f"histories of {bucket.name} {outcome.protocol.unit}s", number / len(found))
        targets = outcome.targets.take(bucket.which)
        rows = {name: ask(model, targets, outcome.protocol.items, bucket.since) for name, model in models.items()}
        results.append(BucketOutcome(bucket, outcome.wanted.take(bucket.which), rows))
    return results


def ask(model: Recommender, targets: Targets, items: int, since: IntArray | None = None) -> IntArray:
    """A model's lists [targets, K], checked: a list that repeats an item would count its hit twice.

    Raises ValueError where a list is not K long, repeats an item or names a row outside the catalog.
    """
    rows = np.asarray(model.recommend(targets, K, since), np.int64)
    if rows.shape != (len(targets), K):
        raise ValueError(f"{model.name} answered an array of {rows.shape}, asked for ({len(targets)}, {K})")
    if rows.size and (rows.min() < -1 or rows.max() >= items):
        raise ValueError(f"{model.name} recommended rows {rows.min()}..{rows.max()}; the catalog has {items}")
    ordered = np.sort(rows, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise ValueError(f"{model.name} recommended an item twice in one list")
    return rows


def _only_new(rows: Mapping[str, IntArray], had: ItemSets) -> None:
    """Raises ValueError where a list of new items holds one that its user had."""
    for name, lists in rows.items():
        if had.contains(lists).any():
            raise ValueError(f"{name} was asked for new items and recommended some that users had")


def code_revision() -> str:
    """The commit of this code, with ``-dirty`` where files differ from it; ``unknown`` outside a git checkout."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--match="],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip() or "unknown"
