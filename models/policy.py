"""What a release may accept: the certificates of its tag guardrail, and the verdict they allow for each tag.

ACCEPT needs three things: of all candidate labels of the item this one is the likeliest by evidence that the
certificate is about, its probability reaches the certified threshold of its group, and nobody switched the group to
review. The LLM's answer is no such evidence: gold with answers is scarce, and a promise made without them does not hold
for probabilities moved by them. So an LLM orders tags and sends them to review or rejects them; trees accept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from models.certify import POOLED, Bound, Certificate, CertifyConfig, lower_bound
from models.errors import ArtifactMismatch
from models.guardrail import TreesConfig, Verdict

Evidence = Literal["known words and attributes", "known words", "new words and attributes", "new words"]
"""What there was to go by: whether labelled items have the item's very words, and whether its attributes are named.
Each has a certificate of its own: new words are of product types that the catalog does not have."""
EVIDENCE: Final[tuple[Evidence, ...]] = (
    "known words and attributes",
    "known words",
    "new words and attributes",
    "new words",
)
MANIFEST_KEY: Final = "acceptance"
_START_ERRORS: Final = 3
_START_SHARE: Final = 0.5


class TagConfig(TreesConfig):
    """The tag guardrail and what its certificate promises; see CertifyConfig for the test."""

    examples: int = Field(default=2_400, ge=1)
    """Products the guardrail learns from at most, one of each text."""
    reject_below: float = Field(default=0.1, ge=0, lt=1)
    """Probability under which a tag is rejected rather than put up for review."""
    precision: float = Field(default=0.95, gt=0, lt=1)
    """Share of the accepted tags that must be right."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Probability, over the draw of gold, that the thresholds keep this promise."""
    held_out: float = Field(default=0.4, gt=0, lt=1)
    """Share of the product types that certify and that the guardrail never sees."""
    own_units: int = Field(default=300, ge=1)
    """Held-out product types from which on a group of labels has a certificate of its own; the others share one."""

    def certificate(self) -> CertifyConfig:
        """The test. Its start is set for each group by `start_of`."""
        return CertifyConfig(
            precision=self.precision, confidence=self.confidence, start=1.0, stop=0.5, own_units=self.own_units
        )


def start_of(
    scores: npt.NDArray[np.float64],
    right: npt.NDArray[np.bool_],
    units: int,
    config: CertifyConfig,
    worst: npt.NDArray[np.float64] | None = None,
) -> float:
    """Where the test of a group with so many gold ``units`` starts, from ``scores`` [n] and judgements of units that
    are no gold (``worst`` as in `certify`).

    Too strict a start accepts so few units that one mistake of a good guardrail ends the test. So it starts where half
    of those are accepted that these units would let be accepted, and at least as many as may hold three wrong ones.
    """
    if not len(scores):
        return config.start
    order = np.argsort(-scores, kind="stable")
    many = np.arange(1, len(scores) + 1)
    wrong = (
        np.cumsum(~right[order]) if worst is None else np.searchsorted(np.sort(-worst), -scores[order], side="right")
    )
    held = np.flatnonzero(lower_bound(many, wrong, config.confidence) >= config.precision)
    share = _START_SHARE * (held[-1] + 1) / len(scores) if len(held) else 0.0
    wanted = max(share, least_units(_START_ERRORS, config.precision, config.confidence) / max(1, units))
    rank = min(len(scores), int(np.ceil(wanted * len(scores)))) - 1
    return float(np.clip(scores[order][rank], config.stop, config.start))


def least_units(errors: int, precision: float, confidence: float) -> int:
    """The fewest units that show ``precision`` with so many wrong ones among them: 59, 93, 124, 153 at 95 %."""
    low, high = errors + 1, errors + 2
    while float(lower_bound(high, errors, confidence)) < precision:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if float(lower_bound(middle, errors, confidence)) < precision else (low, middle)
    return low


def likeliest(probability: npt.NDArray[np.float64], vetoed: npt.NDArray[np.bool_]) -> int:
    """The one label of an item that may be accepted: the likeliest that no fact contradicts; -1 where none is left."""
    if vetoed.all():
        return -1
    return int(np.where(vetoed, -inf, probability).argmax())


class Warrant(NamedTuple):  # twenty are made for a request: a frozen dataclass takes five times as long
    """What a verdict on a tag, or on an attribute's value (`models.values`), rests on.

    ``group``: of the tag. ``certified``: whose gold was counted, the group itself or `POOLED`. ``evidence``: what there
    was to go by, one of `EVIDENCE`, or of a value its sign. ``score``: the probability the certificate is about
    (without an LLM's answer). ``threshold`` is infinite where the group may accept nothing. ``reason`` says why it is
    not accepted; empty where it is.
    """

    group: str
    certified: str
    evidence: str
    score: float
    precision: float
    confidence: float
    bound: Bound
    reason: str = ""

    @property
    def threshold(self) -> float:
        return self.bound.threshold


def _nobody(group: str) -> bool:  # noqa: ARG001 - the shape of a hook
    return False


@dataclass(frozen=True, slots=True, eq=False)
class TagPolicy:
    """Verdicts under a release's certificates.

    ``certificates``: by what there was to go by. ``groups``: by label. ``required``: attributes an item must name for
    "attributes". ``unseen``: labels that no item had in training. ``review_only``: whether a group is switched to
    review (the audit does); asked for every tag that would be accepted, so it must be quick and never raise.
    ``several``: whether an item may have several of the labels accepted.
    """

    certificates: Mapping[Evidence, Certificate]
    groups: Mapping[str, str]
    required: tuple[str, ...]
    reject_below: float
    unseen: frozenset[str] = frozenset()
    several: bool = False
    review_only: Callable[[str], bool] = field(default=_nobody)

    def group_of(self, label: str) -> str:
        """The group of a label, `POOLED` where the catalog groups none."""
        return self.groups.get(label, POOLED)

    def evidence(self, known: bool, values: Mapping[str, int]) -> Evidence:
        """Which certificate an item falls under, by its attributes' codes (-1: absent or unknown to the catalog)."""
        named = bool(self.required) and all(values.get(name, -1) >= 0 for name in self.required)
        return EVIDENCE[(0 if known else 2) + (0 if named else 1)]

    def verdict(
        self, label: str, probability: float, score: float, best: bool, evidence: Evidence
    ) -> tuple[Verdict, Warrant]:
        """The verdict on a tag nobody vetoed.

        ``probability``: by all evidence, decides between review and reject. ``score``: without an LLM's answer;
        ``best``: whether no other label of the item scores higher, see `likeliest`; where several may be accepted,
        whether retrieval proposed it and no fact speaks against it.
        """
        group = self.group_of(label)
        certificate = self.certificates[evidence]
        certified, bound = certificate.of(group)
        reason = self._against(label, group, certified, bound, score, best)
        config = certificate.config
        warrant = Warrant(group, certified, evidence, score, config.precision, config.confidence, bound, reason)
        if not reason:
            return "accept", warrant
        return ("reject" if probability < self.reject_below else "review"), warrant

    def _against(self, label: str, group: str, certified: str, bound: Bound, score: float, best: bool) -> str:
        if label in self.unseen:
            return f"no item of the catalog was {label} in training: there is no gold that could show when it is right"
        if bound.threshold == inf:
            return f"{_shown(group, certified)} cannot accept: {bound.reason}"
        if not best:
            if self.several:
                return "a fact speaks against it, or nothing like it was found: no gold is about such tags"
            return "another tag of the item scores higher, and one is accepted at most"
        if not score >= bound.threshold:
            return f"scores {score:.4f}; {_shown(group, certified)} accepts from {bound.threshold:.4f} on"
        if self.review_only(group):
            return f"{group} is switched to review: its audit fell below the promise"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """For the guardrail's manifest."""
        return {
            "certificates": {name: certificate.to_dict() for name, certificate in self.certificates.items()},
            "groups": dict(self.groups),
            "required": list(self.required),
            "reject_below": self.reject_below,
            "unseen": sorted(self.unseen),
            "several": self.several,
        }

    @staticmethod
    def from_manifest(manifest: Mapping[str, Any]) -> TagPolicy:
        """The policy a tag guardrail was released with. Raises ArtifactMismatch where it has none, or a damaged one."""
        try:
            value = manifest[MANIFEST_KEY]
            return TagPolicy(
                {name: Certificate.from_dict(value["certificates"][name]) for name in EVIDENCE},
                {str(label): str(group) for label, group in value["groups"].items()},
                tuple(str(name) for name in value["required"]),
                float(value["reject_below"]),
                frozenset(str(label) for label in value.get("unseen", ())),
                bool(value.get("several", False)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactMismatch(
                f"the tag guardrail carries no certificate that can be read ({error!r}). Run: tandem train"
            ) from error


def _shown(group: str, certified: str) -> str:
    if certified == POOLED:
        return "the threshold that small groups share" if group != POOLED else "the release"
    return group
