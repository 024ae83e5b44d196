"""What an evaluation of one tag a group found, as numbers: by method, by split, and the system's gain over each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.certify import POOLED, Certificate
from training.tagging import scores
from training.tagging.datasets import TagData
from training.tagging.kernels import IntArray
from training.tagging.learners import FloatArray
from training.tagging.resplits import together
from training.tagging.spent import Spent, per_item

PRECISIONS: Final = (0.9, 0.95, 0.98)
SYSTEM: Final = "guardrail"
WITH_GRAPH: Final = "guardrail+graph"


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """One method on one split: its tags of the test groups, and the certificate of each precision.

    ``seconds``: fitting and answering; ``answering``: processor seconds of all test groups once
    fitted, None where not timed apart. ``resplit``: whether the certificate of 95 % keeps its promise on gold
    drawn again (see `resplits`). ``spent``: what an LLM's answers took, of the groups asked.
    """

    method: str
    seed: int
    test: IntArray
    label: IntArray
    confidence: FloatArray
    certificates: Mapping[float, Certificate]
    recall: float
    seconds: float
    answering: float | None = None
    resplit: Mapping[str, Any] | None = None
    spent: Spent | None = None

    def accepted(self, precision: float) -> npt.NDArray[np.bool_]:
        return self.certificates[precision].accepts(self.confidence)


def summary(data: TagData, outcomes: Sequence[Outcome], seed: int = 7) -> dict[str, Any]:
    """The numbers of a dataset: ``methods`` by name, and the system's paired ``gain`` over each."""
    by_method: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_method.setdefault(outcome.method, []).append(outcome)
    systems = [name for name in (SYSTEM, WITH_GRAPH) if name in by_method]
    return {
        "groups": len(data.groups),
        "labels": len(data.labels),
        "items": int(data.counts.sum()),
        "several_labels": int((np.count_nonzero(data.counts, axis=1) > 1).sum()),
        "item_ceiling": float(data.counts.max(axis=1).sum() / data.counts.sum()),
        "seeds": [outcome.seed for outcome in next(iter(by_method.values()))],
        "methods": {name: _method(data, found, seed) for name, found in by_method.items()},
        "gain": {
            system: {
                name: _gains(data, by_method[system], found, seed)
                for name, found in by_method.items()
                if name != system
            }
            for system in systems
        },
    }


def _method(data: TagData, outcomes: Sequence[Outcome], seed: int) -> dict[str, Any]:
    test = np.concatenate([outcome.test for outcome in outcomes])
    label = np.concatenate([outcome.label for outcome in outcomes])
    confidence = np.concatenate([outcome.confidence for outcome in outcomes])
    right = label == data.gold[test]
    item_share = data.shares[test, label].astype(np.float64)
    ones = np.ones(len(test))
    gold = data.gold[test]
    precision, recall = scores.macro(label, gold)
    # A type that is tested under several seeds is one cluster, whose rows are drawn together.
    spans = scores.resampled(
        {
            **scores.of_confidences(confidence, right),
            "precision": lambda rows: scores.macro(label[rows], gold[rows])[0],
            "recall": lambda rows: scores.macro(label[rows], gold[rows])[1],
        },
        test,
        seed,
    )
    result: dict[str, Any] = {
        "n": len(test),
        "accuracy": float(right.mean()),
        "precision": precision,
        "recall": recall,
        "aurc": scores.aurc(confidence, right),
        "augrc": scores.augrc(confidence, right),
        "brier": scores.brier(confidence, right),
        "ece": scores.ece(confidence, right),
        "candidate_recall": float(np.mean([outcome.recall for outcome in outcomes])),
        # None of what is not timed as a whole: an LLM's answers may come from the file of an earlier run.
        "seconds_per_item": sum(outcome.seconds for outcome in outcomes) / len(test) or None,
        "latency_ms": _latency_ms(outcomes),
        "cost": 0.0,
        **per_item(outcome.spent for outcome in outcomes),
        "certificate_test": together([found.resplit for found in outcomes if found.resplit is not None]),
        "reliability": scores.reliability(confidence, right),
        "risk_coverage": scores.curve(confidence, right),
        "intervals": {
            "accuracy": scores.ratio(right.astype(float), ones, test, seed).to_dict(),
            **{name: span.to_dict() for name, span in spans.items()},
        },
    }
    items = data.counts[test].sum(axis=1)
    for level in PRECISIONS:
        accepted = np.concatenate([outcome.accepted(level) for outcome in outcomes])
        kept = accepted.astype(np.float64)
        name = f"{level:g}"
        result |= {
            f"coverage@{name}": float(accepted.mean()),
            f"precision@{name}": float(right[accepted].mean()) if accepted.any() else None,
            f"item_precision@{name}": float((item_share * items)[accepted].sum() / items[accepted].sum())
            if accepted.any()
            else None,
            f"by_seed@{name}": [_at(data, outcome, level) for outcome in outcomes],
        }
        result["intervals"] |= {
            f"coverage@{name}": scores.ratio(kept, ones, test, seed).to_dict(),
            f"precision@{name}": scores.ratio(kept * right, kept, test, seed).to_dict(),
            f"item_precision@{name}": scores.ratio(kept * item_share * items, kept * items, test, seed).to_dict(),
        }
    return result


def _latency_ms(outcomes: Sequence[Outcome]) -> float | None:
    """Processor time of one group among many, once everything is fitted."""
    timed = [outcome for outcome in outcomes if outcome.answering is not None]
    tested = sum(len(outcome.test) for outcome in timed)
    return 1_000.0 * sum(outcome.answering or 0.0 for outcome in timed) / tested if timed else None


def _at(data: TagData, outcome: Outcome, level: float) -> dict[str, Any]:
    accepted = outcome.accepted(level)
    right = outcome.label == data.gold[outcome.test]
    bound = outcome.certificates[level].to_dict()["bounds"][POOLED]
    return {
        "seed": outcome.seed,
        "coverage": float(accepted.mean()),
        "precision": float(right[accepted].mean()) if accepted.any() else None,
        "certificate": bound,
    }


def _shared(system: Sequence[Outcome], other: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """Both on the splits and groups of the two: an LLM is asked about a sample."""
    pairs = [(first, second) for first in system for second in other if first.seed == second.seed]
    kept = [(_only(first, second.test), _only(second, first.test)) for first, second in pairs]
    return [first for first, _ in kept], [second for _, second in kept]


def _only(outcome: Outcome, groups: IntArray) -> Outcome:
    rows = np.isin(outcome.test, groups)
    return replace(outcome, test=outcome.test[rows], label=outcome.label[rows], confidence=outcome.confidence[rows])


def _gains(data: TagData, system: Sequence[Outcome], other: Sequence[Outcome], seed: int) -> dict[str, Any]:
    """System minus method on the groups that both were asked about, with intervals over groups."""
    system, other = _shared(system, other)
    test = np.concatenate([outcome.test for outcome in system])
    ones = np.ones(len(test))

    def of(values: Callable[[Outcome], npt.NDArray[Any]]) -> dict[str, Any]:
        first, second = (np.concatenate([values(outcome) for outcome in part]) for part in (system, other))
        return scores.gain(first.astype(float) - second.astype(float), ones, test, seed)

    def accepted(level: float) -> dict[str, Any]:
        return of(lambda outcome: outcome.accepted(level))

    return {
        "accuracy": of(lambda outcome: outcome.label == data.gold[outcome.test]),
        **{f"coverage@{level:g}": accepted(level) for level in PRECISIONS},
    }
