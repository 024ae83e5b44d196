"""Fitting the ranker on a protocol's targets, for a release and for its evaluation alike."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.arrivals import catalog_items
from features.daystates import DayStates
from features.history import History
from features.items import ItemTable
from features.keys import NOWHERE
from features.schema import RANKING_NAMES, TAG_COLUMNS, schema_hash
from features.statistics import Activity
from features.workspace import Workspace
from models import ranker
from models.blend import Blend
from models.ranker import LightGBMRanker, RankerConfig
from training import blending, discovery
from training.config import TrainConfig
from training.discovery import NewCandidates
from training.materialize import (
    EventArrays,
    build_item_table,
    event_arrays,
    load_events,
    place_activity,
    training_view,
)
from training.metrics import Interval, bootstrap, ndcg
from training.protocols import ItemSets, Protocol, truncated_at_random
from training.ranking import (
    CANDIDATES,
    Groups,
    Targets,
    best_rows,
    build_groups,
    informs,
    some,
)
from training.signals import REPEATS_FROM, counted, measure_repeats

VIEWS: Final = (0.02, 0.25, 0.5, 0.75)
"""Quantiles of the targets' times at which neighbours and hazards are learned anew: each target uses the newest that
came before it, so no later basket speaks for it, and none is judged by knowledge a year old."""
PLACE_HIDDEN: Final = 0.2
"""Share of the training targets whose place is not told."""
SHORTENED: Final = 0.2
"""Further training targets with their histories cut short, as a share: the ranker must know new users as well."""
SHORTENED_LIVES: Final = 10_000
"""At most so many where nothing is had twice, each target once and half of them without any history: targets are few
there and newcomers many, and what a short history is wanted for is not habits but, as of a long one, the new."""
EMPTY_LIVES: Final = 0.5
SEARCH_TARGETS: Final = 5_000
"""Targets on which parameters are compared before the chosen ones are fitted on all."""
SEARCH_TREES: Final = 40
SEARCH_RATE: Final = 0.3
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
    other: Blend


@dataclass(slots=True)
class Tandem:
    """The ranker as a recommender of one protocol: retrieval, features and scores, exactly as they serve.

    ``discovery``: the ranker of items a user has not had; None where ``ranker`` orders those as well.
    """

    protocol: Protocol
    views: Views
    ranker: Blend
    repeats: bool
    trial: TagTrial | None = None
    discovery: Blend | None = None
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

    @property
    def new_items(self) -> Tandem:
        """The system over candidates a user has not had, ordered as `Recommend` does where asked for those alone."""
        return replace(self, ranker=self.discovery or self.ranker, repeats=False, trial=None)

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
        return measure_repeats(events, counted(events)) >= REPEATS_FROM
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
    """Choose parameters on the validation targets, then fit on training and validation targets together.

    The validation targets are the nearest in time to what will be asked for. Figures on them, here and in the manifest,
    are of rankers that did not see them.

    ``table``: of the catalog; what it learned of neighbours and hazards is learned anew for each view.
    """
    events = protocol.events
    known = events.row >= 0
    # A protocol may move a basket by a second, over midnight: a day's counts must follow it.
    counted_at = np.maximum(events.time, events.recorded)
    activity = Activity.count(events.user[known], events.row[known], counted_at[known], len(table))
    views = Views.build(
        replace(
            table,
            activity=activity,
            places=place_activity(events, len(table)),
            _days=DayStates(),
            _place_days=DayStates(),
        ),
        protocol.events,
        np.concatenate((protocol.train.time, protocol.valid.time, protocol.test.time)),
    )
    targets, since, validates = _targets(config, protocol, views, repeats)
    asked = {"train": int((~validates).sum()), "valid": int(validates.sum())}
    new = _new_candidates(config, protocol, targets, since, validates) if repeats else None
    every = _groups(protocol, views, targets, since, repeats, lambda done: progress("ranker: features", done), new)
    validating = validates
    informing = informs(every)
    every, validates = every.keep(informing), validates[informing]
    data = ranker.Binned.of(RANKING_NAMES, (every.matrix, every.relevance, every.sizes), config.ranker.threads)
    (chosen, rounds, validation, quick), first = blending.together(
        lambda: choose(config, data, every.sizes, validates, repeats, progress),
        lambda: blending.fit_network(config, every, _few(validates)),
    )
    quick_blend, gain = None if quick is None else Blend(quick), None
    if quick is not None and first is not None:
        gain, both = blending.judge(every, validates, quick, first, config.seed)
        if gain.helps:
            quick_blend, validation = both, gain.ndcg
            larger = {"learning_rate": min(1.0, chosen.learning_rate * blending.STEPS)}
            chosen, rounds = chosen.model_copy(update=larger), math.ceil(rounds * blending.ROUNDS)
    facts = {
        "schema_hash": schema_hash(),
        "protocol": protocol.name,
        "targets": asked,
        "candidates": CANDIDATES,
        "repeats": repeats,
        "validation_ndcg@10": validation,
        **facts,
    }

    def fit(data: ranker.Binned, name: str, unused: Collection[str] = (), beside: bool = False) -> LightGBMRanker:
        own = blending.beside(chosen) if beside else chosen
        return ranker.fit(own, data, facts, lambda done: progress(f"ranker: {name}", done), unused, rounds)

    def fit_all(name: str, unused: Collection[str] = ()) -> Blend:
        if gain is None or not gain.helps:
            trees = fit(data, name, unused)
            if gain is not None:
                trees.manifest["network"] = gain.noted
            return Blend(trees)
        numbers = [RANKING_NAMES.index(column) for column in unused]
        trees, network = blending.together(
            lambda: fit(data, name, unused, beside=True),
            lambda: blending.fit_network(config, every, np.ones(len(every.sizes), bool), numbers),
        )
        assert network is not None  # there are more targets than the quick fit had
        return blending.join(trees, network, gain, config, every)

    fitted = fit_all("boosting")
    trial = None
    if table.tags:
        plain = fit_all("boosting without tags", _TAG_NAMES)
        better = _gain(fit, data, every, validates, config.seed)
        kept = better.low > 0
        fitted, other = (fitted, plain) if kept else (plain, fitted)
        fitted.manifest["tags"] = {"kept": kept, "validation": {"ndcg@10": better.to_dict()}}
        trial = TagTrial(kept, better, other)
    system = Tandem(protocol, views, fitted, repeats, trial)
    if new is not None and quick_blend is not None:
        unused = () if trial is None or trial.kept else _TAG_NAMES
        groups, numbers = new.groups()
        of_new, over_quick = discovery.fit(
            config,
            groups,
            validating[numbers],
            quick_blend,
            {**facts, "repeats": False, "validation_ndcg@10": None},
            lambda done: progress("ranker: boosting new items", done),
            unused,
        )
        system.discovery = of_new
        if over_quick is not None:
            told = {"kept": of_new is not None, "validation": {"over_a_quick_fit": {"ndcg@10": over_quick.to_dict()}}}
            fitted.manifest["discovery"] = told
    return system


def _new_candidates(
    config: TrainConfig,
    protocol: Protocol,
    targets: Targets,
    since: npt.NDArray[np.int64],
    validates: npt.NDArray[np.bool_],
) -> NewCandidates | None:
    """Collects what is new to some training targets and to all that validate; None where the settings want none.

    Of whole histories only: what a shortened one lacks is mostly habits, and the wish for those is no wish for the new.
    """
    if not config.discovery_sessions:
        return None
    train = np.flatnonzero(~validates & (since == protocol.since(targets)))
    which = validates.copy()
    which[np.random.default_rng(config.seed + 4).permutation(train)[: config.discovery_sessions]] = True
    return NewCandidates(which, _wanted(protocol, targets, False))


def _gain(
    fit: Callable[[ranker.Binned, str, Collection[str]], LightGBMRanker],
    data: ranker.Binned,
    groups: Groups,
    validates: npt.NDArray[np.bool_],
    seed: int,
) -> Interval:
    """How much better rankers that read tags order validation targets, which neither saw, in NDCG@10."""
    part = data.part(*(np.flatnonzero(np.repeat(mask, groups.sizes)) for mask in (~validates, validates)))
    held = groups.keep(validates)
    tagged, plain = (ndcg(held, fit(part, "trying tags", unused)) for unused in ((), _TAG_NAMES))
    return bootstrap(tagged - plain, seed)


def choose(
    config: TrainConfig,
    data: ranker.Binned,
    sizes: npt.NDArray[np.int32],
    validates: npt.NDArray[np.bool_],
    repeats: bool,
    progress: Progress,
) -> tuple[RankerConfig, int, float | None, LightGBMRanker | None]:
    """Parameters, rounds and the NDCG@10 they had on validation, by quick fits on a part of the training targets; and
    the quick fit that was best, which did not train on what validates.

    ``sizes`` [targets]: rows of each; ``validates`` [targets]: which judge and do not train here. Without ``repeats``
    few candidates are wanted, which a binary objective may learn better: validation decides. The final fit trains
    on these too, so nothing is left to stop it: it takes the rounds that were best here, at its own smaller steps, in
    proportion to the targets it has, and at most ``config.ranker.trees``. Without anything to judge by it takes all.
    """
    own = config.ranker
    if not validates.any() or validates.all():
        return own, own.trees, None, None
    train = np.flatnonzero(~validates)
    asked = _few(validates)
    part = data.part(*(np.flatnonzero(np.repeat(mask, sizes)) for mask in (asked, validates)))
    best, chosen, rounds, fitted = -1.0, own, own.trees, None
    variants = (*ranker.VARIANTS, *(() if repeats else ranker.FEW_WANTED)) if config.search else ({},)
    # The size of the trees is tried on what was best before, where that takes seconds or somebody asks for it.
    wide = config.search == "wide" or (config.search and len(train) < SEARCH_TARGETS)
    searches = (variants, *((ranker.SIZES,) if wide else ()))
    for changes in searches:
        start = chosen
        for number, change in enumerate(changes):
            progress("ranker: choosing parameters", number / len(changes))
            variant = start.model_copy(update=change)
            quick = variant.model_copy(update={"learning_rate": SEARCH_RATE, "trees": min(own.trees, SEARCH_TREES)})
            trial = ranker.fit(quick, part, {})
            found = trial.manifest
            if found["validation_ndcg@10"] > best:
                best, chosen, fitted = float(found["validation_ndcg@10"]), variant, trial
                steps = SEARCH_RATE / own.learning_rate * len(sizes) / asked.sum()
                rounds = min(own.trees, math.ceil(found["rounds"] * steps))
    return chosen, rounds, best, fitted


def _few(validates: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Targets [targets] that quick fits learn from: every so manieth, spread over time as all of them are."""
    train = np.flatnonzero(~validates)
    asked = np.zeros(len(validates), bool)
    if len(train):
        asked[train[np.linspace(0, len(train) - 1, min(SEARCH_TARGETS, len(train))).astype(np.int64)]] = True
    return asked


def _targets(
    config: TrainConfig, protocol: Protocol, views: Views, repeats: bool
) -> tuple[Targets, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Training and validation targets by time, the first event each may see, and which validate."""
    train, train_since = _training_targets(config, protocol, views, repeats)
    valid = some(protocol.valid, config.valid_sessions, config.seed + 1)
    targets = _together(train, valid)
    since = np.concatenate((train_since, protocol.since(valid)))
    order = np.argsort(targets.time, kind="stable")
    return targets.take(order), since[order], order >= len(train)


def _together(one: Targets, other: Targets) -> Targets:
    return Targets(*(np.concatenate(both) for both in zip(one.columns, other.columns)))


def _training_targets(
    config: TrainConfig, protocol: Protocol, views: Views, repeats: bool
) -> tuple[Targets, npt.NDArray[np.int64]]:
    """Targets with whole histories, then some with shortened ones; and the first event each may see."""
    known = protocol.train
    if views.times:
        # Before the first view there are no neighbours and no hazards: such targets would teach to do without.
        late = known.time >= views.times[0]
        known = known.take(late) if late.any() else known
    whole = some(known, config.train_sessions, config.seed)
    asked = int(len(whole) * SHORTENED)
    short = some(known, asked if repeats else max(asked, min(len(whole), SHORTENED_LIVES)), config.seed + 3)
    cut = truncated_at_random(protocol, short, config.seed, 0.0 if repeats else EMPTY_LIVES)
    since = np.concatenate((protocol.since(whole), cut))
    targets = _together(whole, short)
    # Requests need not tell a place: the ranker must have seen some that do not.
    hidden = np.random.default_rng(config.seed + 5).random(len(targets)) < PLACE_HIDDEN
    return replace(targets, place=np.where(hidden, NOWHERE, targets.place)), since


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
    new: NewCandidates | None = None,
) -> Groups:
    events = protocol.events
    wanted = _wanted(protocol, targets, repeats)

    def history(number: int) -> History:
        return events.seen(int(since[number]), int(targets.start[number]), int(targets.time[number]))

    return build_groups(history, views.at, targets, wanted.of, repeats, progress, None if new is None else new.add)
