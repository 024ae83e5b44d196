"""From held-out units to what may be accepted: the tag policy of a release, and the figures behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import inf
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from models.catalog import Catalog
from models.certify import POOLED, Certificate, certify
from models.policy import EVIDENCE, Evidence, TagConfig, TagPolicy, likeliest, start_of
from models.ports import TreeModel

OTHER: Final = "other"
VIEWS: Final = (*EVIDENCE, OTHER)
"""What an example has to go by; the last is not certified."""
_USUAL: Final = 0.95
"""An attribute that this share of the labelled items have is one that an item "with its attributes" must name."""
_BINS: Final = 10


class Examples(Protocol):
    """What a guardrail learns from: ``group`` [n], the unit of each line, and whether gold agrees."""

    @property
    def group(self) -> npt.NDArray[np.int64]: ...

    @property
    def right(self) -> npt.NDArray[np.bool_]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """Proposed labels [n], those of one item and view together.

    ``matrix`` float32 [n, columns]: evidence. ``right``: whether gold agrees. ``group``: the unit they belong to;
    ``item``: the product, numbered from 0; ``view``: what of it is seen (`VIEWS`). ``label``: the proposal's code;
    ``vetoed``: whether a fact contradicts it.
    """

    matrix: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]
    group: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    view: npt.NDArray[np.int8]
    label: npt.NDArray[np.int64]
    vetoed: npt.NDArray[np.bool_]

    @staticmethod
    def joined(parts: Sequence[Proposals], columns: int) -> Proposals:
        """All of them; without any, none with so many ``columns``."""
        whole = np.empty(0, np.int64)
        none = np.empty(0, bool)
        nothing = Proposals(np.empty((0, columns), np.float32), none, whole, whole, np.empty(0, np.int8), whole, none)
        named = {
            column.name: np.concatenate([getattr(part, column.name) for part in (nothing, *parts)])
            for column in fields(Proposals)
        }
        return Proposals(**named)

    def where(self, chosen: npt.NDArray[np.bool_]) -> Proposals:
        """Those that ``chosen`` [n] names."""
        return Proposals(**{column.name: getattr(self, column.name)[chosen] for column in fields(Proposals)})


MIN_GROUPS: Final = 10
"""Groups of examples (product types, people) that a guardrail is learned from at least."""


def enough(examples: Examples) -> bool:
    """A guardrail needs right and wrong examples in several groups; without them there is none, and serving says so."""
    return bool(len(np.unique(examples.group)) >= MIN_GROUPS and examples.right.any() and not examples.right.all())


@dataclass(frozen=True, slots=True, eq=False)
class Firsts:
    """The label of each item [m] that could be accepted: its score, whether it is right, its group of labels.

    Where items may have several labels, a line is an item's surest label within a group, and ``worst`` the score of its
    surest wrong one there, -inf where none is wrong.
    """

    score: npt.NDArray[np.float64]
    right: npt.NDArray[np.bool_]
    group: npt.NDArray[np.str_]
    worst: npt.NDArray[np.float64]

    def of(self, group: str, own: frozenset[str]) -> npt.NDArray[np.bool_]:
        """Which are certified under this name: a group's own, or for the pooled one those that are in none of them."""
        return self.group == group if group in own else ~np.isin(self.group, sorted(own))


def first_labels(
    examples: Proposals,
    probability: npt.NDArray[np.float64],
    view: Evidence,
    labels: tuple[str, ...],
    groups: Mapping[str, str],
) -> Firsts:
    """What serving would put first of each item in this view. An item with nothing left to accept scores 0."""
    rows = np.flatnonzero(examples.view == VIEWS.index(view))
    starts = np.flatnonzero(np.diff(examples.item[rows], prepend=-1))
    score, right, group = np.zeros(len(starts)), np.zeros(len(starts), bool), [POOLED] * len(starts)
    for number, part in enumerate(np.split(rows, starts[1:]) if len(rows) else ()):
        at = likeliest(probability[part], examples.vetoed[part])
        if at >= 0:
            score[number], right[number] = probability[part[at]], examples.right[part[at]]
            group[number] = groups.get(labels[int(examples.label[part[at]])], POOLED)
    return Firsts(score, right, np.array(group, np.str_), np.where(right, -inf, score))


def own_groups(
    examples: Proposals, view: Evidence, labels: tuple[str, ...], groups: Mapping[str, str], config: TagConfig
) -> frozenset[str]:
    """Groups of which so many items have a label proposed that they are certified by themselves."""
    rows = np.flatnonzero((examples.view == VIEWS.index(view)) & ~examples.vetoed)
    pairs = zip(examples.item[rows].tolist(), examples.label[rows].tolist())
    counts = Counter(group for _, group in {(item, groups.get(labels[label], POOLED)) for item, label in pairs})
    return frozenset(name for name, count in counts.items() if count >= config.own_units and name != POOLED)


def surest_labels(
    examples: Proposals,
    probability: npt.NDArray[np.float64],
    view: Evidence,
    labels: tuple[str, ...],
    groups: Mapping[str, str],
    own: frozenset[str],
) -> Firsts:
    """As `first_labels` where an item may have several labels: a line for each item and group of its proposals, the
    groups that are not ``own`` taken together."""
    rows = np.flatnonzero((examples.view == VIEWS.index(view)) & ~examples.vetoed)
    found: dict[tuple[int, str], tuple[float, bool, float]] = {}
    for row in rows.tolist():
        group = groups.get(labels[int(examples.label[row])], POOLED)
        key = int(examples.item[row]), group if group in own else POOLED
        score, right = float(probability[row]), bool(examples.right[row])
        top, top_right, worst = found.get(key, (-inf, False, -inf))
        if score > top:
            top, top_right = score, right
        found[key] = top, top_right, worst if right else max(worst, score)
    lines = list(found.values())
    return Firsts(
        np.array([top for top, _, _ in lines], np.float64),
        np.array([right for _, right, _ in lines], bool),
        np.array([group for _, group in found], np.str_),
        np.array([worst for _, _, worst in lines], np.float64),
    )


def certified(
    config: TagConfig,
    model: TreeModel,
    examples: Proposals,
    probability: npt.NDArray[np.float64],
    held_out: Proposals | None,
    catalog: Catalog,
    groups: Mapping[str, str],
) -> tuple[TagPolicy, dict[str, Any]]:
    """The policy that the held-out units allow, and what they show.

    ``probability`` [n]: of the examples that the model was fitted to, each by models that did not see its unit; they
    set where the tests start. ``held_out``: of units that the model knows nothing of; None where there are none.
    """
    certificates: dict[Evidence, Certificate] = {}
    figures: dict[str, Any] = {}
    several = catalog.several is not None
    none = Proposals.joined((), examples.matrix.shape[1])
    gold_score = model.predict(held_out.matrix) if held_out is not None else np.empty(0)
    for view in EVIDENCE:
        if several:
            own = own_groups(held_out or none, view, catalog.labels, groups, config)
            learned = surest_labels(examples, probability, view, catalog.labels, groups, own)
            gold = surest_labels(held_out or none, gold_score, view, catalog.labels, groups, own)
        else:
            learned = first_labels(examples, probability, view, catalog.labels, groups)
            gold = first_labels(held_out or none, gold_score, view, catalog.labels, groups)
        certificates[view] = _certificate(config, learned, gold)
        figures[view] = _figures(certificates[view], gold, several)
    coded = {name: catalog.attributes[name] for name in list(catalog.attributes)[:3]}
    labelled = catalog.labelled
    usual = [name for name, codes in coded.items() if labelled.any() and (codes[labelled] >= 0).mean() >= _USUAL]
    unseen = frozenset(label for label, carried in zip(catalog.labels, catalog.carried.tolist()) if not carried)
    return TagPolicy(certificates, groups, tuple(usual), config.reject_below, unseen, several), figures


def _certificate(config: TagConfig, learned: Firsts, gold: Firsts) -> Certificate:
    test = config.certificate()
    names, counts = np.unique(gold.group, return_counts=True)
    own = frozenset(names[(counts >= config.own_units) & (names != POOLED)].tolist())
    starts = {}
    for name in (*sorted(own), POOLED):
        part = learned.of(name, own)
        units = int(gold.of(name, own).sum())
        starts[name] = start_of(learned.score[part], learned.right[part], units, test, learned.worst[part])
    return certify(gold.score, gold.right, test, gold.group.tolist(), starts, gold.worst)


def _figures(certificate: Certificate, gold: Firsts, several: bool) -> dict[str, Any]:
    """What the held-out units show: of all, and of each group under the threshold that decides for it.

    Of ``several`` labels most lines are about a label that the item does not have: accuracy is then the share of lines
    whose probability is on the right side of one half, and recall the share of the right surest labels that are
    accepted.
    """
    accepted = certificate.accepts(gold.score, gold.group.tolist())
    wrong = certificate.accepts(gold.worst, gold.group.tolist())
    by_group = {}
    for name in sorted(set(gold.group.tolist())):
        inside = gold.group == name
        by_group[name] = {
            "certified": certificate.of(name)[0],
            "units": int(inside.sum()),
            "accepted": int((inside & accepted).sum()),
            "wrong": int((inside & wrong).sum()),
        }
    n = max(1, len(gold.score))
    bins = np.minimum((gold.score * _BINS).astype(np.int64), _BINS - 1)
    gap = np.abs(np.bincount(bins, gold.score, _BINS) - np.bincount(bins, gold.right, _BINS))
    right = (gold.score >= 0.5) == gold.right if several else gold.right
    recall = float((accepted & gold.right).sum() / max(1, gold.right.sum()))
    return {
        "units": len(gold.score),
        "accuracy": float(right.mean()) if len(right) else None,
        "coverage": float(accepted.sum() / n),
        **({"recall": recall} if several else {}),
        "ece": float(gap.sum() / n),
        "groups": by_group,
    }
