"""A network beside the ranker's trees: whether it helps, how much it says, and both fitted at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from models import networkfit
from models.blend import Blend
from models.network import Network
from models.ports import FloatMatrix, FloatVector
from models.ranker import LightGBMRanker, RankerConfig
from training.config import TrainConfig
from training.metrics import Interval, bootstrap, ndcg_of
from training.ranking import Groups

One = TypeVar("One")
Other = TypeVar("Other")

SHARES: Final = (0.4, 0.6, 0.8)
"""How much of a score's spread within a target the network may have. The trees keep a part whatever validation says:
all of a network gains nothing over four fifths of one, and what trees say can be explained exactly."""
ROUNDS: Final = 1 / 3
STEPS: Final = 2.0
"""Trees beside a network: a third as many, at larger steps. Blends of them are as good, and sooner made and served."""
_EXPLAINED: Final = 4_000
"""Rows whose contributions say what a column is worth."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What a network of ``share`` gained over trees alone in NDCG@10 on validation, paired: both of quick fits."""

    share: float
    ndcg: float
    over_trees: Interval
    surely: bool = True
    """Whether the whole interval has to be above zero for the network to be kept, or the mean only."""

    @property
    def helps(self) -> bool:
        return (self.over_trees.low if self.surely else self.over_trees.mean) > 0

    @property
    def noted(self) -> dict[str, Any]:
        """For a manifest."""
        told = {"ndcg@10": self.ndcg, "over_trees": self.over_trees.to_dict()}
        return {"kept": self.helps, "share": self.share if self.helps else 0.0, "validation": told}


def together(one: Callable[[], One], other: Callable[[], Other]) -> tuple[One, Other]:
    """Both at once: neither library makes much of a second core."""
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(other)
        return one(), beside.result()


def beside(config: RankerConfig) -> RankerConfig:
    """Settings of trees that are trained while a network is: a core fewer."""
    threads = config.threads or os.cpu_count() or 1
    return config.model_copy(update={"threads": max(1, threads - 1)})


def fit_network(
    config: TrainConfig, groups: Groups, which: npt.NDArray[np.bool_], unused: Collection[int] = ()
) -> Network | None:
    """A network of the targets ``which`` [targets]; None where it is not wanted or they are too few to learn from."""
    if config.network is None or which.sum() < config.network.least_targets:
        return None
    return networkfit.fit(
        config.network, groups.matrix, groups.relevance, groups.sizes, np.flatnonzero(which), unused=unused
    )


def judge(
    groups: Groups,
    validates: npt.NDArray[np.bool_],
    trees: LightGBMRanker,
    network: Network,
    seed: int,
    surely: bool = True,
) -> tuple[Gain, Blend]:
    """The share that orders validation targets best, and the blend of these two fits, which did not train on them."""
    held = groups.keep(validates)
    own, other = trees.predict(held.matrix), network.predict(held.matrix)
    spreads = spread(own, held.sizes), spread(other, held.sizes)
    alone = ndcg_of(held, own)
    found = {share: ndcg_of(held, own + _factor(share, *spreads) * other) for share in SHARES}
    best = max(found, key=lambda share: float(found[share].mean()))
    gain = Gain(best, float(found[best].mean()), bootstrap(found[best] - alone, seed), surely)
    return gain, Blend(trees, network, _factor(best, *spreads))


def join(trees: LightGBMRanker, network: Network, gain: Gain, config: TrainConfig, groups: Groups) -> Blend:
    """What serves: both at the share of ``gain``, and in the manifest what says why."""
    assert config.network is not None
    own, other = _scores(trees, groups.matrix), _scores(network, groups.matrix)
    factor = _factor(gain.share, spread(own, groups.sizes), spread(other, groups.sizes))
    some = groups.matrix[:: max(1, len(groups.matrix) // _EXPLAINED)]
    shares = np.abs(trees.shares(some) + factor * network.shares(some))[:, :-1].mean(axis=0)
    trees.manifest["network"] = {
        **gain.noted,
        "parameters": config.network.model_dump(),
        "importance": {name: float(value) for name, value in zip(trees.columns, shares)},
    }
    return Blend(trees, network, factor)


def _scores(model: LightGBMRanker | Network, matrix: FloatMatrix) -> FloatVector:
    """Scores of many rows, on all cores: a row's does not depend on the others."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = np.array_split(matrix, os.cpu_count() or 1)
        return np.concatenate(list(pool.map(model.predict, parts)))


def spread(scores: FloatVector, sizes: npt.NDArray[np.int32]) -> float:
    """How far a target's scores [n] are apart, in standard deviations, the mean over targets; 1 where they are not."""
    ends = np.cumsum(sizes)
    begins, filled = (ends - sizes)[sizes > 0], sizes[sizes > 0]
    if not len(filled):
        return 1.0
    mean = np.add.reduceat(scores, begins) / filled
    off = scores - np.repeat(mean, filled)
    return float(np.sqrt(np.add.reduceat(off * off, begins) / filled).mean()) or 1.0


def _factor(share: float, of_trees: float, of_network: float) -> float:
    """What a network's scores are multiplied by to have their share of the spread."""
    return share / (1 - share) * of_trees / of_network
