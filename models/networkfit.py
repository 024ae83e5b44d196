"""Training the ranker's network: the only file of ranking that imports PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from models.network import Network, Scale, bucket_edges, buckets
from models.ports import FloatMatrix

_SAMPLE: Final = 200_000
"""Rows that a column's quantiles are read from."""
_TAIL: Final = 1e-3
"""Quantiles are cut here: what is rarer says no more."""
_WARM_UP: Final = 0.1
"""Share of the steps in which the step size grows."""


class NetworkConfig(BaseModel):
    """Settings of training; every one is recorded in the artifact's manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    units: tuple[int, int] = (128, 32)
    """Units of the two hidden layers."""
    least_targets: int = Field(default=2_000, ge=1)
    """Training targets below which there are trees alone."""
    epochs: int = Field(default=6, ge=1, le=1000)
    """Times each target is learned from; twice as many learn the targets by heart."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Of AdamW, at its highest: it rises over a tenth of the steps and falls along a cosine."""
    weight_decay: float = Field(default=0.01, ge=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    unwanted_share: float = Field(default=0.5, gt=0, le=1)
    """Share of the candidates nobody wanted that an epoch looks at, drawn anew for each: half the time, as good."""
    targets_a_step: int = Field(default=24, ge=1)
    seed: int = 7
    threads: int = Field(default=1, ge=1)
    """Threads of training: another takes little off its time, and sums of other numbers of them differ in last bits."""


def fit_scale(matrix: FloatMatrix, seed: int, unused: Collection[int] = ()) -> Scale:
    """Curves from each column's values in ``matrix`` [n, columns] to their normal quantiles, from a sample of the rows.

    ``unused``: columns whose values are all to count for the same.
    """
    from scipy.special import ndtri

    rows = np.arange(len(matrix))
    if len(rows) > _SAMPLE:
        rows = np.sort(np.random.default_rng(seed).choice(len(rows), _SAMPLE, replace=False))
    sample = matrix[rows]
    columns = matrix.shape[1]
    least, most = np.zeros(columns, np.float32), np.zeros(columns, np.float32)
    low, starts = np.zeros(columns, np.int32), np.zeros(columns + 1, np.int32)
    bases, slopes = [], []
    for column in range(columns):
        values = np.sort(sample[:, column][np.isfinite(sample[:, column])])
        base, slope = np.zeros(1), np.zeros(1)
        if column not in unused and len(values) and values[0] != values[-1]:
            least[column], most[column] = values[0], values[-1]
            bounds = buckets(values[[0, -1]]).astype(np.int64)
            low[column] = bounds[0]
            edges = np.clip(bucket_edges(np.arange(bounds[0], bounds[1] + 2)), values[0], values[-1])
            below, up_to = (np.searchsorted(values, edges.astype(np.float32), side) for side in ("left", "right"))
            # The middle of equal values' ranks.
            rank = ((below + up_to) / 2 + 0.5) / (len(values) + 1)
            quantile = ndtri(np.clip(rank, _TAIL, 1 - _TAIL))
            width = np.diff(edges)
            wide = width > 1e-30
            slope = np.where(wide, np.diff(quantile) / np.where(wide, width, 1.0), 0.0)
            base = quantile[:-1] - slope * edges[:-1]
        bases.append(base)
        slopes.append(slope)
        starts[column + 1] = starts[column] + len(base)
    curve = np.stack((np.concatenate(bases), np.concatenate(slopes)), axis=1)
    return Scale(least, most, low, starts, curve.astype(np.float32))


def fit(
    config: NetworkConfig,
    matrix: FloatMatrix,
    relevance: npt.NDArray[np.int32],
    sizes: npt.NDArray[np.int32],
    which: npt.NDArray[np.int64],
    progress: Callable[[float], None] = lambda _: None,
    unused: Collection[int] = (),
) -> Network:
    """Learn to order the candidates of the targets ``which``; all rows of the matrix [n, columns] say how columns vary.

    The loss is the softmax cross-entropy of a target's wanted candidates among all (ListNet's top-one likelihood; Cao
    et al., 2007), by the square root of how many they are: a large basket teaches more, but not in proportion.
    ``sizes`` [targets]: rows of each, one after the other. Every target in ``which`` must want a candidate. ``unused``:
    columns that shall not count.
    """
    import torch
    from torch.nn import functional

    rng = np.random.default_rng(config.seed)
    scale = fit_scale(matrix, config.seed, unused)
    ends = np.cumsum(sizes.astype(np.int64))
    begins = ends - sizes
    lost = np.isnan(matrix[:: max(1, len(matrix) // 20_000)])
    lost[:, list(unused)] = False
    absent = _patterns(lost)
    flags = np.flatnonzero(absent)
    one, two = config.units
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)

            def dropped(hidden: torch.Tensor) -> torch.Tensor:
                kept = torch.from_numpy(rng.random((1, hidden.shape[1]), np.float32) >= config.dropout)
                return hidden * (kept / (1 - config.dropout))

            layers = (
                torch.nn.Linear(matrix.shape[1] + len(flags), one),
                torch.nn.Linear(one, two),
                torch.nn.Linear(two, 1, bias=False),
            )
            weights = [weight for layer in layers for weight in layer.parameters()]
            optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay)
            chunks = max(1, len(which) // config.targets_a_step)
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, config.learning_rate, total_steps=config.epochs * chunks, pct_start=_WARM_UP
            )
            for epoch in range(config.epochs):
                for step, chunk in enumerate(np.array_split(rng.permutation(which), chunks)):
                    rows = np.concatenate([np.arange(begins[target], ends[target]) for target in chunk])
                    owner = np.repeat(np.arange(len(chunk)), sizes[chunk])
                    wanted = relevance[rows] > 0
                    kept = wanted | (rng.random(len(rows)) < config.unwanted_share)
                    rows, owner, wanted = rows[kept], owner[kept], wanted[kept]
                    scaled = scale.apply(matrix, rows)
                    lost = np.isnan(scaled)
                    inputs = torch.from_numpy(
                        np.concatenate((np.where(lost, np.float32(0), scaled), lost[:, flags].astype(np.float32)), 1)
                    )
                    hidden = dropped(functional.relu(layers[0](inputs)))
                    scores = layers[2](dropped(functional.relu(layers[1](hidden))))[:, 0]
                    # Targets side by side, to the length of the longest.
                    many = np.bincount(owner, minlength=len(chunk))
                    place = np.arange(len(rows)) - np.repeat(np.cumsum(many) - many, many)
                    at = (torch.from_numpy(owner), torch.from_numpy(place))
                    table = torch.full((len(chunk), int(many.max())), -1e9).index_put(at, scores)
                    right = torch.zeros_like(table).index_put(at, torch.from_numpy(wanted.astype(np.float32)))
                    chances = functional.log_softmax(table, 1)
                    loss = -((right * chances).sum(1) / right.sum(1).sqrt()).mean()
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    schedule.step()
                    if step % 20 == 0:
                        progress((epoch + step / chunks) / config.epochs)
            parts = [weight.detach().numpy().astype(np.float32) for weight in weights]
    finally:
        torch.set_num_threads(before)
    inner, first, between, second, last = parts
    value = np.ascontiguousarray(inner.T[: matrix.shape[1]])
    told = np.zeros_like(value)
    told[flags] = inner.T[matrix.shape[1] :]
    return Network(scale, value, told, absent, first, np.ascontiguousarray(between.T), second, last[0])


def _patterns(lost: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Columns [columns] whose being NaN is told: one of those that are NaN in the same of the rows [n, columns], and
    none that always is."""
    seen: set[bytes] = set()
    told = np.zeros(lost.shape[1], bool)
    for column in np.flatnonzero(lost.any(axis=0) & ~lost.all(axis=0)):
        pattern = lost[:, column].tobytes()
        told[column] = pattern not in seen
        seen.add(pattern)
    return told
