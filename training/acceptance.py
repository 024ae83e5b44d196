"""From held-out units to what may be accepted: the tag policy of a release, and the figures behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

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


@dataclass(frozen=True, slots=True, eq=False)
class Firsts:
    """The label of each item [m] that could be accepted: its score, whether it is right, its group of labels."""

    score: npt.NDArray[np.float64]
    right: npt.NDArray[np.bool_]
    group: npt.NDArray[np.str_]

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
    return Firsts(score, right, np.array(group, np.str_))


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
    for view in EVIDENCE:
        learned = first_labels(examples, probability, view, catalog.labels, groups)
        gold = (
            Firsts(np.empty(0), np.empty(0, bool), np.empty(0, np.str_))
            if held_out is None
            else first_labels(held_out, model.predict(held_out.matrix), view, catalog.labels, groups)
        )
        certificates[view] = _certificate(config, learned, gold)
        figures[view] = _figures(certificates[view], gold)
    coded = {name: catalog.attributes[name] for name in list(catalog.attributes)[:3]}
    labelled = catalog.label_of_row >= 0
    usual = [name for name, codes in coded.items() if labelled.any() and (codes[labelled] >= 0).mean() >= _USUAL]
    unseen = frozenset(label for label, carried in zip(catalog.labels, catalog.carried.tolist()) if not carried)
    return TagPolicy(certificates, groups, tuple(usual), config.reject_below, unseen), figures


def _certificate(config: TagConfig, learned: Firsts, gold: Firsts) -> Certificate:
    test = config.certificate()
    names, counts = np.unique(gold.group, return_counts=True)
    own = frozenset(names[(counts >= config.own_units) & (names != POOLED)].tolist())
    starts = {}
    for name in (*sorted(own), POOLED):
        part = learned.of(name, own)
        starts[name] = start_of(learned.score[part], learned.right[part], int(gold.of(name, own).sum()), test)
    return certify(gold.score, gold.right, test, gold.group.tolist(), starts)


def _figures(certificate: Certificate, gold: Firsts) -> dict[str, Any]:
    """What the held-out units show: of all, and of each group under the threshold that decides for it."""
    accepted = certificate.accepts(gold.score, gold.group.tolist())
    by_group = {}
    for name in sorted(set(gold.group.tolist())):
        inside = gold.group == name
        by_group[name] = {
            "certified": certificate.of(name)[0],
            "units": int(inside.sum()),
            "accepted": int((inside & accepted).sum()),
            "wrong": int((inside & accepted & ~gold.right).sum()),
        }
    n = max(1, len(gold.score))
    bins = np.minimum((gold.score * _BINS).astype(np.int64), _BINS - 1)
    gap = np.abs(np.bincount(bins, gold.score, _BINS) - np.bincount(bins, gold.right, _BINS))
    return {
        "units": len(gold.score),
        "accuracy": float(gold.right.mean()) if len(gold.right) else None,
        "coverage": float(accepted.sum() / n),
        "ece": float(gap.sum() / n),
        "groups": by_group,
    }
