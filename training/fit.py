"""Fitting the ranker on a protocol's targets, for a release and for its evaluation alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.arrivals import catalog_items
from features.history import History
from features.items import ItemTable
from features.schema import RANKING_NAMES, TAG_COLUMNS, schema_hash
from features.statistics import Activity
from features.workspace import Workspace
from models import ranker
from models.ranker import LightGBMRanker, RankerConfig
from training.config import TrainConfig
from training.materialize import EventArrays, build_item_table, event_arrays, load_events, training_view
from training.metrics import Interval, bootstrap, per_target
from training.protocols import ItemSets, Protocol, truncated_at_random
from training.ranking import (
    CANDIDATES,
    Groups,
    Targets,
    best_rows,
    build_groups,
    in_time,
    informative,
    measure_repeats,
    some,
)

VIEWS: Final = (0.02, 0.25, 0.5, 0.75)
"""Quantiles of the targets' times at which neighbours and hazards are learned anew: each target uses the newest that
came before it, so no later basket speaks for it, and none is judged by knowledge a year old."""
SHORTENED: Final = 0.2
"""Further training targets with their histories cut short, as a share: the ranker must know new users as well."""
REPEATS_FROM: Final = 0.1
"""Share of repeated events from which on repeats are recommended; films and books stay far below."""
SEARCH_TARGETS: Final = 5_000
"""Targets on which parameters are compared before the chosen ones are fitted on all."""
SEARCH_TREES: Final = 40
SEARCH_BOOSTING: Final = {"learning_rate": 0.3, "patience": 10}
"""Quick fits, large steps: what is compared differs by far more than these cost."""
_CHUNK: Final = 500
_TAG_NAMES: Final = tuple(column.name for column in TAG_COLUMNS)

Progress = Callable[[str, float], None]


@dataclass(slots=True)
class Views:
    """Item tables as they could have been built at some times; `at` gives the newest one by a time."""

    times: list[int]
    tables: list[ItemTable]
    nothing: ItemTable
    """Before the first: no neighbours and no hazards."""

    @staticmethod
    def build(table: ItemTable, events: EventArrays, targets: npt.NDArray[np.int64]) -> Views:
        """``targets``: the times of all targets (seconds)."""
        quantiles = np.quantile(targets, VIEWS, method="lower") if len(targets) else np.empty(0)
        times = sorted({int(time) for time in quantiles})
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            # The last ones have most to count.
            tables = list(pool.map(lambda time: training_view(table, events, time), reversed(times)))[::-1]
        return Views(times, tables, training_view(table, events, int(events.time.min(initial=0))))

    def at(self, time: int) -> ItemTable:
        newest = int(np.searchsorted(self.times, time, side="right")) - 1
        return self.tables[newest] if newest >= 0 else self.nothing


@dataclass(frozen=True, slots=True, eq=False)
class TagTrial:
    """What published tags gain the ranker in NDCG@10 on validation, paired. ``other``: the ranker that does not serve,
    without tags where they are ``kept``, with them where they are not."""

    kept: bool
    gain: Interval
    other: LightGBMRanker


@dataclass(slots=True)
class Tandem:
    """The ranker as a recommender of one protocol: retrieval, features and trees, exactly as they serve."""

    protocol: Protocol
    views: Views
    ranker: LightGBMRanker
    repeats: bool
    trial: TagTrial | None = None
    name: str = field(default="tandem", init=False)

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {**self.ranker.manifest["parameters"], "rounds": self.ranker.manifest["rounds"]}

    @property
    def importance(self) -> Mapping[str, float]:
        return self.ranker.importance()

    @property
    def tags(self) -> tuple[Interval, Tandem, Tandem] | None:
        """What published tags gain on validation, and the system with and without them; None where there are none."""
        if self.trial is None:
            return None
        other = replace(self, ranker=self.trial.other, trial=None)
        return (self.trial.gain, self, other) if self.trial.kept else (self.trial.gain, other, self)

    def groups(self, targets: Targets, progress: Progress = lambda *_: None) -> Groups:
        """Candidates, features and relevance of the targets, with their whole histories."""
        return _groups(
            self.protocol,
            self.views,
            targets,
            self.protocol.since(targets),
            self.repeats,
            lambda done: progress("ranker: test features", done),
        )

    def wanted(self, targets: Targets) -> ItemSets:
        """What the targets want of what may be recommended to them."""
        return _wanted(self.protocol, targets, self.repeats)

    def recommend(self, targets: Targets, k: int, since: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.int64]:
        """Best item rows of each target [targets, k], padded with -1."""
        found = np.full((len(targets), k), -1, np.int64)
        since = self.protocol.since(targets) if since is None else since
        order = np.argsort(targets.time, kind="stable")
        for start in range(0, len(order), _CHUNK):
            chunk = order[start : start + _CHUNK]
            groups = _groups(self.protocol, self.views, targets.take(chunk), since[chunk], self.repeats)
            found[chunk] = best_rows(groups, self.ranker.predict(groups.matrix), k)
        return found


def repeats_of(config: TrainConfig, events: EventArrays) -> bool:
    """Whether items a user had are recommended again: as configured, or as measured."""
    if config.repeats == "measure":
        return measure_repeats(events) >= REPEATS_FROM
    return config.repeats == "always"


def system_of(
    workspace: Workspace, config: TrainConfig, progress: Progress = lambda *_: None
) -> tuple[Callable[[Protocol], Tandem], bool]:
    """What fits the system on a protocol's past, for its evaluation; and whether items are recommended again."""
    catalog, items = workspace.config(), catalog_items(workspace)
    repeats = repeats_of(config, event_arrays(load_events(workspace), items))

    def fit(protocol: Protocol) -> Tandem:
        table = build_item_table(catalog, items, protocol.events, config.item_tags)
        return fit_ranker(config, protocol, table, repeats, {"data_hash": catalog.data_hash}, progress)

    return fit, repeats


def fit_ranker(
    config: TrainConfig,
    protocol: Protocol,
    table: ItemTable,
    repeats: bool,
    facts: Mapping[str, Any],
    progress: Progress = lambda *_: None,
) -> Tandem:
    """Choose parameters on the validation targets, fit on the training targets, stop early by validation NDCG@10.

    ``table``: of the catalog; what it learned of neighbours and hazards is learned anew for each view.
    """
    events = protocol.events
    known = events.row >= 0
    # A protocol may move a basket by a second, over midnight: a day's counts must follow it.
    activity = Activity.count(events.user[known], events.row[known], events.time[known], len(table))
    views = Views.build(
        replace(table, activity=activity, _days={}),
        protocol.events,
        np.concatenate((protocol.train.time, protocol.valid.time, protocol.test.time)),
    )
    train, since = _training_targets(config, protocol, views)
    valid = in_time(some(protocol.valid, config.valid_sessions, config.seed + 1))

    def groups(name: str, targets: Targets, since: npt.NDArray[np.int64]) -> Groups:
        built = _groups(
            protocol, views, targets, since, repeats, lambda done: progress(f"ranker: {name} features", done)
        )
        return informative(built)

    learn = groups("train", train, since)
    stop = groups("valid", valid, protocol.since(valid))
    data = ranker.Binned.of(
        RANKING_NAMES,
        (learn.matrix, learn.relevance, learn.sizes),
        (stop.matrix, stop.relevance, stop.sizes),
        config.ranker.threads,
    )
    chosen = search(config.ranker, data, learn.sizes, progress) if config.search else config.ranker
    facts = {
        "schema_hash": schema_hash(),
        "protocol": protocol.name,
        "targets": {"train": len(train), "valid": len(valid)},
        "candidates": CANDIDATES,
        "repeats": repeats,
        **facts,
    }
    fitted = ranker.fit(chosen, data, facts, lambda done: progress("ranker: boosting", done))
    trial = None
    if table.tags:
        plain = ranker.fit(
            chosen, data, facts, lambda done: progress("ranker: boosting without tags", done), unused=_TAG_NAMES
        )
        gain = _gain(fitted, plain, stop, config.seed)
        kept = gain.low > 0
        fitted, other = (fitted, plain) if kept else (plain, fitted)
        fitted.manifest["tags"] = {"kept": kept, "validation": {"ndcg@10": gain.to_dict()}}
        trial = TagTrial(kept, gain, other)
    return Tandem(protocol, views, fitted, repeats, trial)


def _gain(model: LightGBMRanker, other: LightGBMRanker, groups: Groups, seed: int) -> Interval:
    """How much better one orders the candidates of the same targets than the other, in NDCG@10."""
    relevant = groups.relevance > 0
    owner = np.repeat(np.arange(len(groups.sizes)), groups.sizes)
    wanted = ItemSets.build(owner[relevant], groups.rows[relevant], len(groups.sizes))
    own, others = (
        per_target(best_rows(groups, one.predict(groups.matrix), 10), wanted, 10)["ndcg@10"] for one in (model, other)
    )
    return bootstrap(own - others, seed)


def search(config: RankerConfig, data: ranker.Binned, sizes: npt.NDArray[np.int32], progress: Progress) -> RankerConfig:
    """The best on validation of a few regularizations, compared on a part of the training data.

    ``sizes``: rows of each training target.
    """
    part = data.part(_rows_of_some(sizes, SEARCH_TARGETS))
    best, chosen = -1.0, config
    for number, change in enumerate(ranker.VARIANTS):
        progress("ranker: choosing parameters", number / len(ranker.VARIANTS))
        variant = config.model_copy(update=change)
        quick = variant.model_copy(update={**SEARCH_BOOSTING, "trees": min(config.trees, SEARCH_TREES)})
        score = float(ranker.fit(quick, part, {}).manifest["validation_ndcg@10"])
        if score > best:
            best, chosen = score, variant
    return chosen


def _rows_of_some(sizes: npt.NDArray[np.int32], targets: int) -> npt.NDArray[np.int64]:
    """Rows of every so manieth target, ``targets`` at most: spread over time as all of them are."""
    keep = np.zeros(len(sizes), bool)
    keep[np.linspace(0, len(sizes) - 1, min(targets, len(sizes))).astype(np.int64)] = True
    return np.flatnonzero(np.repeat(keep, sizes))


def _training_targets(config: TrainConfig, protocol: Protocol, views: Views) -> tuple[Targets, npt.NDArray[np.int64]]:
    """Targets with whole histories and some with shortened ones, by time; and the first event each may see."""
    known = protocol.train
    if views.times:
        # Before the first view there are no neighbours and no hazards: such targets would teach to do without.
        late = known.time >= views.times[0]
        known = known.take(late) if late.any() else known
    whole = some(known, config.train_sessions, config.seed)
    short = some(known, int(len(whole) * SHORTENED), config.seed + 3)
    targets = Targets(
        *(np.concatenate((getattr(whole, name), getattr(short, name))) for name in ("user", "time", "start", "end"))
    )
    since = np.concatenate((protocol.since(whole), truncated_at_random(protocol, short, config.seed)))
    order = np.argsort(targets.time, kind="stable")
    return targets.take(order), since[order]


def _wanted(protocol: Protocol, targets: Targets, repeats: bool) -> ItemSets:
    wanted = protocol.wanted_sets(targets)
    return wanted if repeats else wanted.keep(~wanted.inside(protocol.had_sets(targets)))


def _groups(
    protocol: Protocol,
    views: Views,
    targets: Targets,
    since: npt.NDArray[np.int64],
    repeats: bool,
    progress: Callable[[float], None] = lambda _: None,
) -> Groups:
    events = protocol.events
    wanted = _wanted(protocol, targets, repeats)

    def history(number: int) -> History:
        window = slice(int(since[number]), int(targets.start[number]))
        return History(
            events.key[window], events.time[window], events.session[window], events.kind[window], events.value[window]
        )

    return build_groups(history, views.at, targets, wanted.of, repeats, progress)
