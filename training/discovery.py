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
from models.blend import Blend
from models.ports import TreeModel
from models.ranker import LightGBMRanker
from training import blending
from training.config import TrainConfig
from training.metrics import Interval, bootstrap, ndcg
from training.protocols import ItemSets
from training.ranking import CANDIDATES, Groups, groups_of

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


def fit(
    config: TrainConfig,
    groups: Groups,
    validates: npt.NDArray[np.bool_],
    general: TreeModel,
    facts: Mapping[str, Any],
    progress: Callable[[float], None],
    unused: tuple[str, ...] = (),
) -> tuple[Blend | None, Interval | None]:
    """The ranker of new items, and its gain in NDCG@10 on the targets that ``validates`` [targets], paired.

    Trees and a network, as far as the blend is better there on average: what nobody had is judged by few targets.
    ``general``: a ranker of all candidates, of quick fits; on new items it does as well as the one that would order
    them otherwise (ARCHITECTURE.md), which no more than this one may have trained on what judges. Once judged, the same
    settings are fitted on what judged as well, the newest there is: that serves. None where the gain's interval reaches
    down to 0, or where too little is left to learn or to judge from (the gain is None then).
    """
    if validates.sum() < LEAST_VALIDATION or validates.all():
        return None, None
    own = config.discovery if config.network is None else blending.beside(config.discovery)
    data = ranker.Binned.of(RANKING_NAMES, (groups.matrix, groups.relevance, groups.sizes), own.threads)
    part = data.part(*(np.flatnonzero(np.repeat(mask, groups.sizes)) for mask in (~validates, validates)))
    facts = {**facts, "targets": {"train": int((~validates).sum()), "valid": int(validates.sum())}}
    numbers = [RANKING_NAMES.index(column) for column in unused]
    ran = 0

    def fit_trees(some: ranker.Binned) -> LightGBMRanker:
        nonlocal ran
        begun, ran = ran, ran + 1
        return ranker.fit(own, some, facts, lambda done: progress((begun + done) / 2), unused, rounds=own.trees)

    trees, network = blending.together(
        lambda: fit_trees(part), lambda: blending.fit_network(config, groups, ~validates, numbers)
    )
    judged, share = Blend(trees), None
    if network is not None:
        share, both = blending.judge(groups, validates, trees, network, config.seed, surely=False)
        judged = both if share.helps else judged
    held = groups.keep(validates)
    gain = bootstrap(ndcg(held, judged) - ndcg(held, general), config.seed)
    if gain.low <= 0:
        return None, gain
    keeps = share is not None and share.helps
    trees, network = blending.together(
        lambda: fit_trees(data),
        lambda: blending.fit_network(config, groups, np.ones(len(groups.sizes), bool), numbers) if keeps else None,
    )
    fitted = Blend(trees)
    if share is not None and network is not None:
        fitted = blending.join(trees, network, share, config, groups)
    elif share is not None:
        trees.manifest["network"] = share.noted
    fitted.manifest["gain"] = {"validation": {"ndcg@10": gain.to_dict()}}
    return fitted, gain
