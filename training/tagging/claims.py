"""Tags of which an item may have several, or none: judged one by one, certified by the item.

A unit (a product) is accepted at a threshold where any of its tags reaches it, and wrong there where any tag that
reaches it is wrong: what is certified is that the accepted tags of a unit are all right. Tags of one product share its
text and its mistakes, so that they are not the independent units that a bound may count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Any, Final

import numpy as np

from models.certify import POOLED, Bound, Certificate, CertifyConfig, certify, least_errorless, lower_bound
from training.metrics import Interval
from training.tagging import scores
from training.tagging.kernels import IntArray
from training.tagging.learners import FloatArray
from training.tagging.resplits import broken, together
from training.tagging.scores import BoolArray
from training.tagging.spent import Spent, per_item

PRECISIONS: Final = (0.9, 0.95, 0.98)
START_UNITS: Final = 2.1
START_SHARE: Final = 0.2
"""The first threshold is the score that so many units reach: START_UNITS times the fewest errorless ones (room for two
wrong units), or START_SHARE of all where that is more. Less was worse on the development seeds (of Open Food Facts, and
of OA-Mine's training titles). The scores alone decide, not their gold."""
MEASURES: Final = {
    "accuracy": "share of products whose tags with a probability of one half or more are exactly the gold ones",
    "precision, recall": "of tags with a probability of one half or more, over all products",
    "recall_seen, recall_unseen": "recall of gold values that training titles of the category have, and of the others",
    "named_seen, named_unseen": "the same of whatever is proposed, however improbable",
    "coverage@p": "share of the gold tags that are accepted (and right) under the certificate",
    "precision@p": "share of the accepted tags that are right, with an interval over clusters; not certified",
    "unit_precision@p": "share of the products with accepted tags whose accepted tags are all right: the certified one",
    "new_clusters@p": "the same for products of a brand that has none in training, for which nothing is promised",
    "aurc, augrc": "of each product's surest tag",
    "ece, brier": "of all proposed tags",
    "latency_ms": "processor time of one item among many, once everything is fitted, on one thread; of an LLM the "
    "share of the time in which answers were generated, all answers to the item together",
    "cost": "tokens per item times the settings' price of the LLM; 0 for a model in this process, and without an LLM",
}


@dataclass(frozen=True, slots=True, eq=False)
class Claims:
    """Proposed tags [n] of ``units`` products: of which unit each is, which tag, how probable, whether gold has it.

    ``gold`` int64 [units]: how many tags a unit truly has, proposed or not.
    """

    units: int
    unit: IntArray
    tag: IntArray
    probability: FloatArray
    right: BoolArray
    gold: IntArray

    def extremes(self) -> tuple[FloatArray, FloatArray]:
        """The surest tag's probability and the surest wrong tag's, both [units]; -inf where there is none."""
        top, worst = np.full(self.units, -inf), np.full(self.units, -inf)
        np.maximum.at(top, self.unit, self.probability)
        np.maximum.at(worst, self.unit[~self.right], self.probability[~self.right])
        return top, worst

    def only(self, units: IntArray) -> Claims:
        """Of these units [m] alone, ascending, numbered anew."""
        kept = np.isin(self.unit, units)
        unit = np.searchsorted(units, self.unit[kept])
        return Claims(len(units), unit, self.tag[kept], self.probability[kept], self.right[kept], self.gold[units])

    def count(self, chosen: BoolArray) -> FloatArray:
        """How many of the ``chosen`` [n] claims each unit has [units]."""
        return np.bincount(self.unit[chosen], minlength=self.units).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class ClaimOutcome:
    """One method on one split: claims of the test units, and the certificates that held-out training units gave."""

    method: str
    seed: int
    test: IntArray
    claims: Claims
    certificates: Mapping[float, Certificate]
    by_tag: Mapping[int, Bound]
    recall: float
    seconds: float | None
    resplit: Mapping[str, Any]
    spent: Spent | None = None


def outcome(
    method: str,
    seed: int,
    test: IntArray,
    held: Claims,
    asked: Claims,
    recall: float,
    seconds: float | None,
    spent: Spent | None = None,
) -> ClaimOutcome:
    """``held``: claims of the training units, each by models without its gold. ``seconds``: per unit asked, if
    timed. ``spent``: what an LLM's answers took, of the units of both."""
    certificates = {precision: certify_units(held, precision) for precision in PRECISIONS}
    return ClaimOutcome(
        method, seed, test, asked, certificates, certify_tags(held, 0.95), recall, seconds, resplit(held), spent
    )


def certify_units(held: Claims, precision: float) -> Certificate:
    """The one threshold at which the accepted tags of a unit are all right with this ``precision``.

    Fixed-sequence testing as in `models.certify`, where a unit's being wrong may depend on the threshold.
    """
    return _certified(*held.extremes(), precision)


def resplit(held: Claims) -> dict[str, Any]:
    """Whether `certify_units` keeps its promise of 95 %, by gold drawn again (see `resplits`)."""
    top, worst = held.extremes()
    return broken(top, worst, 0.95, lambda rows: _certified(top[rows], worst[rows], 0.95).bounds[POOLED])


def _certified(top: FloatArray, worst: FloatArray, precision: float) -> Certificate:
    least = least_errorless(precision, 0.95)
    config = _config(np.sort(top[np.isfinite(top)])[::-1], precision)
    grid = config.grid()
    accepted = (top[None, :] >= grid[:, None]).sum(axis=1)
    wrong = (worst[None, :] >= grid[:, None]).sum(axis=1)
    lower = lower_bound(accepted, wrong, config.confidence)
    failed = np.flatnonzero(lower < precision)
    passed = int(failed[0]) if len(failed) else len(grid)
    at = max(passed - 1, 0)
    seen = (len(top), int(accepted[at]), int(wrong[at]), float(lower[at]))
    if passed:
        return Certificate(config, {POOLED: Bound(float(grid[at]), *seen)})
    if accepted[0] < least:
        reason = f"{accepted[0]} of {len(top)} units score {config.start:.3f} or more: {least} errorless are the least"
    else:
        reason = f"{wrong[0]} of {accepted[0]} units at {config.start:.3f} are wrong: too many for {precision:.0%}"
    return Certificate(config, {POOLED: Bound(inf, *seen, reason)})


def certify_tags(held: Claims, precision: float) -> dict[int, Bound]:
    """Every tag by itself, for which a unit is one claim at most: what a group of its own could promise."""
    found = {}
    for tag in np.unique(held.tag):
        own = held.tag == tag
        probability = held.probability[own]
        config = _config(np.sort(probability)[::-1], precision)
        found[int(tag)] = certify(probability, held.right[own], config).bounds[POOLED]
    return found


def _config(falling: FloatArray, precision: float) -> CertifyConfig:
    """A grid that starts where START_UNITS and START_SHARE say, whatever the gold of the units."""
    wanted = max(ceil(START_UNITS * least_errorless(precision, 0.95)), ceil(START_SHARE * len(falling)))
    start = float(np.clip(falling[min(wanted, len(falling)) - 1], 0.3, 1.0)) if len(falling) else 1.0
    return CertifyConfig(precision=precision, start=start, stop=min(0.3, start))


def summary(
    labels: Sequence[str],
    clusters: IntArray,
    outcomes: Sequence[ClaimOutcome],
    system: Sequence[str],
    seed: int = 7,
    slices: Mapping[str, BoolArray] | None = None,
) -> dict[str, Any]:
    """The numbers of a dataset by method. ``clusters`` int [units of the dataset]: who is drawn together in the
    bootstrap (a brand); ``system``: the methods whose gain over each other one is given. ``slices``: gold tags by name
    [units of the dataset, tags], of each of which the recall is told, as ``recall_NAME``, and as
    ``named_NAME`` that of all proposals, however improbable: an LLM's are, whose values are of many tokens."""
    slices = slices or {}
    methods: dict[str, list[ClaimOutcome]] = {}
    for found in outcomes:
        methods.setdefault(found.method, []).append(found)
    first = next(iter(methods.values()))
    return {
        "groups": len(clusters),
        "clusters": len(np.unique(clusters)),
        "labels": len(labels),
        "gold": float(np.mean([found.claims.gold.sum() for found in first])),
        "seeds": list(dict.fromkeys(found.seed for found in first)),
        "measures": MEASURES,
        "slices": {name: int(np.mean([has[found.test].sum() for found in first])) for name, has in slices.items()},
        "methods": {name: _method(labels, clusters, found, seed, slices) for name, found in methods.items()},
        "gain": {
            own: {
                name: _gain(clusters, methods[own], found, seed, slices)
                for name, found in methods.items()
                if name != own
            }
            for own in system
            if own in methods
        },
    }


def pooled(
    parts: Sequence[tuple[Sequence[str], IntArray, Sequence[ClaimOutcome]]], system: Sequence[str]
) -> dict[str, Any]:
    """One summary of several vocabularies, each (labels, clusters, outcomes) with certificates of its own; a product
    counts once in each. New clusters are told of each vocabulary by itself only."""
    labels: list[str] = []
    clusters: list[IntArray] = []
    moved: list[ClaimOutcome] = []
    for own, groups, outcomes in parts:
        before = sum(map(len, clusters))
        for found in outcomes:
            claims = replace(found.claims, tag=found.claims.tag + len(labels))
            by_tag = {tag + len(labels): bound for tag, bound in found.by_tag.items()}
            moved.append(replace(found, test=found.test + before, claims=claims, by_tag=by_tag))
        labels.extend(own)
        clusters.append(groups)
    whole = summary(labels, np.concatenate(clusters), moved, system)
    for values in whole["methods"].values():
        # A product's brand is known here from its own claims in the other vocabularies.
        del values["new_clusters@0.95"]
    return whole


def _method(
    labels: Sequence[str],
    clusters: IntArray,
    outcomes: Sequence[ClaimOutcome],
    seed: int,
    slices: Mapping[str, BoolArray],
) -> dict[str, Any]:
    cluster = np.concatenate([clusters[found.test] for found in outcomes])
    probability = np.concatenate([found.claims.probability for found in outcomes])
    right = np.concatenate([found.claims.right for found in outcomes])
    gold = np.concatenate([found.claims.gold for found in outcomes]).astype(np.float64)
    given, hits = _counts(outcomes, [0.5] * len(outcomes))
    exact = ((given == hits) & (hits == gold)).astype(np.float64)
    ones = np.ones(len(gold))
    surest, surest_right, _ = _surest(outcomes)
    timed = [found.seconds for found in outcomes if found.seconds is not None]
    precision, recall = scores.ratio(hits, given, cluster, seed), scores.ratio(hits, gold, cluster, seed)
    sure = _resampled(clusters, outcomes, seed)
    result: dict[str, Any] = {
        "accuracy": float(exact.mean()),
        "precision": precision.to_dict()["mean"],
        "recall": recall.to_dict()["mean"],
        "aurc": scores.aurc(surest, surest_right) if len(surest) else None,
        "augrc": scores.augrc(surest, surest_right) if len(surest) else None,
        "brier": scores.brier(probability, right) if len(right) else None,
        "ece": scores.ece(probability, right),
        "candidate_recall": float(np.mean([found.recall for found in outcomes])),
        "latency_ms": 1_000.0 * float(np.mean(timed)) if timed else None,
        "cost": 0.0,
        **per_item(found.spent for found in outcomes),
        "certificate_test": together([found.resplit for found in outcomes]),
        "reliability": scores.reliability(probability, right),
        "risk_coverage": scores.curve(surest, surest_right) if len(surest) else [],
        "certificate_by_tag": {
            labels[tag]: _told(bound)
            for found in outcomes
            if found.seed == outcomes[0].seed
            for tag, bound in found.by_tag.items()
        },
        "intervals": {
            "accuracy": scores.ratio(exact, ones, cluster, seed).to_dict(),
            "precision": precision.to_dict(),
            "recall": recall.to_dict(),
            **{name: span.to_dict() for name, span in sure.items()},
        },
    }
    for name, has in slices.items():
        for told, least in ((f"recall_{name}", 0.5), (f"named_{name}", 0.0)):
            span = scores.ratio(*_within(outcomes, has, least), cluster, seed).to_dict()
            result["intervals"][told], result[told] = span, span["mean"]
    result["new_clusters@0.95"] = _new_clusters(clusters, outcomes)
    for level in PRECISIONS:
        kept, true = _counts(outcomes, [found.certificates[level].threshold() for found in outcomes])
        units, whole = (kept > 0).astype(np.float64), ((kept > 0) & (kept == true)).astype(np.float64)
        spans = {
            f"coverage@{level:g}": scores.ratio(true, gold, cluster, seed).to_dict(),
            f"precision@{level:g}": scores.ratio(true, kept, cluster, seed).to_dict(),
            f"unit_precision@{level:g}": scores.ratio(whole, units, cluster, seed).to_dict(),
            f"units@{level:g}": scores.ratio(units, ones, cluster, seed).to_dict(),
        }
        result |= {name: span["mean"] for name, span in spans.items()}
        result[f"by_seed@{level:g}"] = [_at(found, level) for found in outcomes]
        result["intervals"] |= spans
    return result


def _new_clusters(clusters: IntArray, outcomes: Sequence[ClaimOutcome]) -> dict[str, Any]:
    """Of units whose cluster has no other unit outside the test (a new brand), for which nothing is promised: how many,
    how many have accepted tags, and for which share of these all are right."""
    new = []
    for found in outcomes:
        others = np.delete(clusters, found.test)
        new.append(~np.isin(clusters[found.test], others))
    kept, true = _counts(outcomes, [found.certificates[0.95].threshold() for found in outcomes])
    chosen = np.concatenate(new) & (kept > 0)
    right = float((kept == true)[chosen].mean()) if chosen.any() else None
    return {"n": int(np.concatenate(new).sum()), "accepted": int(chosen.sum()), "unit_precision": right}


def _counts(outcomes: Sequence[ClaimOutcome], thresholds: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    """Tags at or above each outcome's threshold, and the right ones among them, by unit of all outcomes."""
    kept, true = [], []
    for found, threshold in zip(outcomes, thresholds):
        chosen = found.claims.probability >= threshold
        kept.append(found.claims.count(chosen))
        true.append(found.claims.count(chosen & found.claims.right))
    return np.concatenate(kept), np.concatenate(true)


def _within(outcomes: Sequence[ClaimOutcome], has: BoolArray, least: float = 0.5) -> tuple[FloatArray, FloatArray]:
    """By unit of all outcomes the gold tags of a slice whose probability is ``least`` or more, and how many there
    are."""
    hits, gold = [], []
    for found in outcomes:
        own = has[found.test]
        claims = found.claims
        hits.append(claims.count((claims.probability >= least) & claims.right & own[claims.unit, claims.tag]))
        gold.append(own.sum(axis=1).astype(np.float64))
    return np.concatenate(hits), np.concatenate(gold)


def _surest(outcomes: Sequence[ClaimOutcome]) -> tuple[FloatArray, BoolArray, IntArray]:
    """Probability of each unit's surest tag, whether it is right, and which unit of the dataset it is; a unit without a
    proposal has none of them."""
    best, right, unit = [], [], []
    for found in outcomes:
        order = np.lexsort((found.claims.probability, found.claims.unit))
        last = np.flatnonzero(np.diff(np.r_[found.claims.unit[order], found.claims.units]) != 0)
        best.append(found.claims.probability[order[last]])
        right.append(found.claims.right[order[last]])
        unit.append(found.test[found.claims.unit[order[last]]])
    return np.concatenate(best), np.concatenate(right), np.concatenate(unit)


def _resampled(clusters: IntArray, outcomes: Sequence[ClaimOutcome], seed: int) -> dict[str, Interval]:
    """Intervals over clusters: of the areas, for each unit's surest tag; of calibration, for all proposed tags."""
    surest, surest_right, unit = _surest(outcomes)
    probability = np.concatenate([found.claims.probability for found in outcomes])
    right = np.concatenate([found.claims.right for found in outcomes])
    owner = np.concatenate([found.test[found.claims.unit] for found in outcomes])
    of_units, of_claims = scores.of_confidences(surest, surest_right), scores.of_confidences(probability, right)
    return {
        **scores.resampled({name: of_units[name] for name in ("aurc", "augrc")}, clusters[unit], seed),
        **scores.resampled({name: of_claims[name] for name in ("brier", "ece")}, clusters[owner], seed),
    }


def _at(found: ClaimOutcome, level: float) -> dict[str, Any]:
    bound = found.certificates[level].bounds[POOLED]
    kept, true = _counts([found], [bound.threshold])
    return {
        "seed": found.seed,
        "coverage": float(true.sum() / max(1, found.claims.gold.sum())),
        "precision": float(true.sum() / kept.sum()) if kept.any() else None,
        "unit_precision": float((kept == true)[kept > 0].mean()) if kept.any() else None,
        "certificate": found.certificates[level].to_dict()["bounds"][POOLED],
    }


def _told(bound: Bound) -> dict[str, Any]:
    return {
        "units": bound.units,
        "threshold": None if bound.threshold == inf else bound.threshold,
        "reason": bound.reason,
    }


def _shared(
    system: Sequence[ClaimOutcome], other: Sequence[ClaimOutcome]
) -> tuple[list[ClaimOutcome], list[ClaimOutcome]]:
    """Both on the splits and units of the two: an LLM is asked about a sample."""
    first, second = [], []
    for own in system:
        for found in other:
            if own.seed == found.seed and len(same := np.intersect1d(own.test, found.test)):
                first.append(_only(own, same))
                second.append(_only(found, same))
    return first, second


def _only(found: ClaimOutcome, units: IntArray) -> ClaimOutcome:
    return replace(found, test=units, claims=found.claims.only(np.searchsorted(found.test, units)))


def _gain(
    clusters: IntArray,
    system: Sequence[ClaimOutcome],
    other: Sequence[ClaimOutcome],
    seed: int,
    slices: Mapping[str, BoolArray],
) -> dict[str, Any]:
    """System minus method on the units that both were asked about: gold tags accepted, and found at one half, of each
    slice too."""
    system, other = _shared(system, other)
    cluster = np.concatenate([clusters[found.test] for found in system])
    gold = np.concatenate([found.claims.gold for found in system]).astype(np.float64)

    def of(level: float | None) -> dict[str, Any]:
        parts = []
        for side in (system, other):
            at = [0.5 if level is None else found.certificates[level].threshold() for found in side]
            parts.append(_counts(side, at)[1])
        return scores.gain(parts[0] - parts[1], gold, cluster, seed)

    def within(has: BoolArray) -> dict[str, Any]:
        (first, wanted), (second, _) = _within(system, has), _within(other, has)
        return scores.gain(first - second, wanted, cluster, seed)

    return {
        "recall": of(None),
        **{f"recall_{name}": within(has) for name, has in slices.items()},
        **{f"coverage@{level:g}": of(level) for level in PRECISIONS},
    }
