"""A ranker of its own for what users have not had: its training data, its fit, and whether it is worth keeping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.candidates import retrieve
from features.items import ItemTable
from features.schema import RANKING_NAMES
from features.transforms import Profile, assemble
from models import ranker
from models.ports import TreeModel
from models.ranker import LightGBMRanker
from training.config import TrainConfig
from training.metrics import FloatArray, Interval, bootstrap, per_target
from training.protocols import ItemSets
from training.ranking import CANDIDATES, Groups, best_rows, groups_of

LEAST_VALIDATION: Final = 30
"""Validation targets with a hit below which nothing is decided: a bootstrap over fewer trusts a few lucky ones."""


@dataclass(slots=True, eq=False)
class NewCandidates:
    """Collects groups of new items while `training.ranking.build_groups` sums up histories: these are read once.

    ``which`` bool [targets]: those to collect. ``wanted``: what each of them wants and never had. Only targets that
    want one of their candidates are kept: features of the others would cost time and teach nothing.
    """

    which: npt.NDArray[np.bool_]
    wanted: ItemSets
    _found: dict[int, tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int32]]] = field(
        default_factory=dict
    )

    def add(self, number: int, profile: Profile, items: ItemTable) -> None:
        """What is known of one target before its time. Called from several threads, once for each target."""
        if not self.which[number]:
            return
        candidates = retrieve(profile, items, CANDIDATES, new_only=True)
        hit = np.isin(candidates.rows, self.wanted.of(number))
        if hit.any():
            matrix = assemble(profile, items, candidates.rows, candidates.copurchase)
            self._found[number] = matrix, candidates.rows, hit.astype(np.int32)

    def groups(self) -> tuple[Groups, npt.NDArray[np.int64]]:
        """The groups kept, in the targets' order, and their numbers [kept]."""
        numbers = sorted(self._found)
        found = [self._found[number] for number in numbers]
        return groups_of(found, self.wanted.sizes[numbers]), np.array(numbers, np.int64)


def ndcg(groups: Groups, model: TreeModel) -> FloatArray:
    """NDCG@10 of each target's order of its own candidates [targets]; what retrieval missed does not count."""
    return ndcg_of(groups, model.predict(groups.matrix))


def ndcg_of(groups: Groups, scores: npt.NDArray[np.float64]) -> FloatArray:
    """The same of scores [n]."""
    relevant = groups.relevance > 0
    owner = np.repeat(np.arange(len(groups.sizes)), groups.sizes)
    wanted = ItemSets.build(owner[relevant], groups.rows[relevant], len(groups.sizes))
    return per_target(best_rows(groups, scores, 10), wanted, 10)["ndcg@10"]


def fit(
    config: TrainConfig,
    groups: Groups,
    validates: npt.NDArray[np.bool_],
    general: TreeModel,
    facts: Mapping[str, Any],
    progress: Callable[[float], None],
    unused: tuple[str, ...] = (),
) -> tuple[LightGBMRanker | None, Interval | None]:
    """The ranker of new items, and its gain in NDCG@10 on the targets that ``validates`` [targets], paired.

    ``general``: a ranker of all candidates, from less data than the one that would order these otherwise (see
    `against_final`). Neither trained on the targets that validate, and the ranker judged is the one that serves: it is
    None where the gain's interval reaches down to 0, or where too little is left to learn or to judge from (the gain is
    None then).
    """
    if validates.sum() < LEAST_VALIDATION or validates.all():
        return None, None
    train, held = groups.keep(~validates), groups.keep(validates)
    data = ranker.Binned.of(RANKING_NAMES, (train.matrix, train.relevance, train.sizes), config.discovery.threads)
    targets = {"train": len(train.sizes), "valid": len(held.sizes)}
    fitted = ranker.fit(
        config.discovery, data, {**facts, "targets": targets}, progress, unused, rounds=config.discovery.trees
    )
    gain = bootstrap(ndcg(held, fitted) - ndcg(held, general), config.seed)
    fitted.manifest["gain"] = {"validation": {"ndcg@10": gain.to_dict()}}
    return (fitted if gain.low > 0 else None), gain


def against_final(
    groups: Groups, validates: npt.NDArray[np.bool_], own: TreeModel, final: TreeModel, seed: int
) -> Interval:
    """What ``own`` gains on the same targets over the ``final`` ranker, which trained on them and is flattered: one
    that did not would cost another whole fit. Who is worse on average does not serve."""
    held = groups.keep(validates)
    return bootstrap(ndcg(held, own) - ndcg(held, final), seed)
