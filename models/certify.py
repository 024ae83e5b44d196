"""The accept threshold that keeps a promise: fixed-sequence testing with Clopper-Pearson bounds on independent units.

What is promised. A unit is what was drawn independently of the others (a product type, a cluster of near-duplicates),
never an item of it: items of one product type share their label and their mistakes, and bounds that count items are
broken several times as often as they state. Of the units whose score reaches the threshold at least ``precision`` are
right, with probability ``confidence`` over the draw of the gold units.

Why it holds. The thresholds of a grid are fixed before any gold is seen and tried from the strictest (``start``)
down. At each the hypothesis "more than 1 - precision of the accepted units are wrong" is tested at level 1 -
confidence: given how many units are accepted their errors are binomial, so the exact bound of Clopper and Pearson
(Biometrika 1934) rejects a true hypothesis with probability 1 - confidence at most. Testing stops at the first
hypothesis that stands. A broken promise needs the first true hypothesis on the way to be rejected: one event, so no
correction for the number of thresholds is due (fixed-sequence testing; Bauer 1991; Angelopoulos et al., "Learn then
Test", 2021).

What it needs. Scores of gold units from models that did not see their gold, units drawn as those to come will be, and
a ``start`` that was not chosen with the same gold. A unit counts as right or wrong as a whole: where its items have
several labels, the caller says which one is its gold, or draws one item of each unit.

Several labels. Where an item may carry several, its score is that of its surest label, and at a threshold it is wrong
where any label that reaches it is wrong: whoever falls with the threshold does so once, so the counts stay binomial.

Groups. A group of tags with ``own_units`` gold units has a threshold of its own; smaller groups share the one that is
certified on all of them together, which promises precision over that mixture and of no single group. Each certificate
holds with the stated confidence by itself, not all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, inf, log
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.errors import ArtifactMismatch

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

POOLED: Final = "*"
"""The name of the certificate that small groups share."""


class CertifyConfig(BaseModel):
    """The promise and the grid. All of it is fixed before gold is looked at."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    precision: float = Field(default=0.95, gt=0, lt=1)
    """Share of accepted units that must be right."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Probability, over gold, that the threshold keeps the promise."""
    start: float = Field(default=0.97, ge=0, le=1)
    """The first, strictest threshold. Too strict accepts too few units to show anything; too lax fails at once."""
    stop: float = Field(default=0.5, ge=0, le=1)
    """The last threshold that is tried."""
    step: float = Field(default=0.0025, gt=0, le=0.1)
    """Distance of two thresholds, in score."""
    own_units: int = Field(default=300, ge=1)
    """Gold units from which on a group of tags is certified by itself."""

    @model_validator(mode="after")
    def _descends(self) -> CertifyConfig:
        if self.stop > self.start:
            raise ValueError(f"stop {self.stop} is above start {self.start}: thresholds are tried downwards")
        return self

    def grid(self) -> FloatArray:
        """Thresholds from ``start`` down to ``stop``."""
        steps = np.arange(int((self.start - self.stop) / self.step + 1e-9) + 1)
        return np.asarray(self.start - self.step * steps, np.float64)


@dataclass(frozen=True, slots=True)
class Bound:
    """One certified threshold: what was seen of the units at or above it, and what follows.

    ``threshold`` is infinite where nothing may be accepted, and ``reason`` says why. ``lower``: the Clopper-Pearson
    lower bound of the precision at the threshold, or at ``start`` where even that failed.
    """

    threshold: float
    units: int
    accepted: int
    wrong: int
    lower: float
    reason: str | None = None
    start: float | None = None
    """The group's own first threshold; None where it is the configured one."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Thresholds by group of tags, and all that is needed to check them again."""

    config: CertifyConfig
    bounds: Mapping[str, Bound]

    def of(self, group: str = POOLED) -> tuple[str, Bound]:
        """Whose gold decides for this group, the group's own or the `POOLED` one, and what it shows."""
        if (own := self.bounds.get(group)) is not None:
            return group, own
        return POOLED, self.bounds.get(POOLED) or Bound(inf, 0, 0, 0, 0.0, "no gold units")

    def threshold(self, group: str = POOLED) -> float:
        """The score from which on a tag of this group is accepted; infinite where it never is."""
        return self.of(group)[1].threshold

    def accepts(self, scores: FloatArray, groups: Sequence[str] | None = None) -> BoolArray:
        """Whether each score [n] is accepted in its group [n]; NaN never is."""
        if groups is None:
            return np.asarray(scores >= self.threshold())
        return np.asarray(scores >= np.array([self.threshold(group) for group in groups]))

    def to_dict(self) -> dict[str, Any]:
        """For a manifest; an infinite threshold is null."""
        bounds = {
            name: {**asdict(bound), "threshold": None if bound.threshold == inf else bound.threshold}
            for name, bound in self.bounds.items()
        }
        return {"config": self.config.model_dump(), "bounds": bounds}

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> Certificate:
        """What ``to_dict`` gave. Raises ArtifactMismatch where it is something else, or where a threshold contradicts
        what was counted: a certificate that was edited by hand promises nothing."""
        try:
            config = CertifyConfig(**value["config"])
            bounds = {
                str(name): Bound(**{**bound, "threshold": inf if bound["threshold"] is None else bound["threshold"]})
                for name, bound in value["bounds"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactMismatch(f"the certificate cannot be read ({error}). Run: tandem train") from error
        for name, bound in bounds.items():
            shown = float(lower_bound(bound.accepted, bound.wrong, config.confidence))
            if bound.threshold < inf and shown < config.precision:
                raise ArtifactMismatch(
                    f"the certificate of {name!r} accepts from {bound.threshold} on, but {bound.wrong} wrong of "
                    f"{bound.accepted} show a precision of {shown:.4f} only, not {config.precision}. Run: tandem train"
                )
        return Certificate(config, bounds)


def least_errorless(precision: float, confidence: float) -> int:
    """The fewest units that can show ``precision``, all of them right: 59 for 95 %, 149 for 98 % (confidence 95 %)."""
    return ceil(log(1.0 - confidence) / log(precision))


def lower_bound(accepted: npt.ArrayLike, wrong: npt.ArrayLike, confidence: float) -> FloatArray:
    """Clopper-Pearson lower confidence bound of the share that is right; 0 where nothing is. Arrays broadcast."""
    from scipy.stats import beta

    n, errors = np.asarray(accepted, np.float64), np.asarray(wrong, np.float64)
    right = n - errors
    with np.errstate(invalid="ignore"):
        bound = beta.ppf(1.0 - confidence, right, errors + 1.0)
    return np.asarray(np.where(right > 0, bound, 0.0), np.float64)


def certify(
    scores: FloatArray,
    right: BoolArray,
    config: CertifyConfig,
    groups: Sequence[str] | None = None,
    starts: Mapping[str, float] | None = None,
    worst: FloatArray | None = None,
) -> Certificate:
    """The certificate of units with these held-out ``scores`` [n] in [0, 1] and judgements [n].

    ``groups``: the group of tags each unit belongs to; None puts all into the pooled one. ``starts``: first thresholds
    by group where they are not the configured one, chosen without this gold. ``worst``: of units with several labels
    the score from which on each is wrong [n], -inf where it never is; ``right`` is of the surest label alone and
    decides where there is no ``worst``. Raises ValueError where lengths differ or a score is NaN.
    """
    if worst is None:
        worst = np.where(right, -inf, scores)
    if len(scores) != len(right) or (groups is not None and len(groups) != len(scores)):
        raise ValueError(f"{len(scores)} scores and {len(right)} judgements: give one of each for every unit")
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} scores are NaN: score every unit, or leave it out of gold")
    names = np.full(len(scores), POOLED, object) if groups is None else np.asarray(groups, object)
    found, counts = np.unique(names.astype(str), return_counts=True)
    own = [str(name) for name, count in zip(found, counts) if count >= config.own_units and name != POOLED]
    rest = ~np.isin(names.astype(str), own)
    parts = {**{name: names == name for name in own}, POOLED: rest}
    starts = starts or {}
    return Certificate(
        config, {name: _bound(scores[part], worst[part], config, starts.get(name)) for name, part in parts.items()}
    )


def _bound(scores: FloatArray, worst: FloatArray, config: CertifyConfig, start: float | None = None) -> Bound:
    """Fixed-sequence testing down the grid."""
    if start is not None:
        config = config.model_copy(update={"start": max(start, config.stop)})
    grid = config.grid()
    # How many units reach each threshold, and how many of those are wrong.
    accepted = np.searchsorted(np.sort(-scores), -grid, side="right")
    wrong = np.searchsorted(np.sort(-worst), -grid, side="right")
    lower = lower_bound(accepted, wrong, config.confidence)
    failed = np.flatnonzero(lower < config.precision)
    passed = int(failed[0]) if len(failed) else len(grid)
    if passed:
        at = passed - 1
        return Bound(float(grid[at]), len(scores), int(accepted[at]), int(wrong[at]), float(lower[at]), start=start)
    least = least_errorless(config.precision, config.confidence)
    if len(scores) < least:
        reason = f"{len(scores)} gold units: {least} without an error are the least for {config.precision:.0%}"
    elif accepted[0] < least:
        reason = f"{accepted[0]} units score {config.start:g} or more: {least} without an error are the least"
    else:
        reason = f"{wrong[0]} of {accepted[0]} units at {config.start:g} are wrong: too many for {config.precision:.0%}"
    return Bound(inf, len(scores), int(accepted[0]), int(wrong[0]), float(lower[0]), reason, start)
