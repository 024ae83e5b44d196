"""Which accepted tags people check, and when what they find takes a group's right to accept away.

**The sample.** A tag is audited where a hash of (item, tag, release) falls below the rate: the same tag always or
never, whoever asks, in whatever order, and nothing the guardrail saw decides it.

**The unit** is what is independent: items of one product type (or text) share their mistakes, so of each unit only the
first case that was judged counts, as in the certificate (`models.certify`). Figures are of units that this release
accepted since the group was last reset.

**The rule.** The certificate promises a precision; "switch when its lower bound falls below the promise" cannot mean
the bound after every single audit: with few audits it is below any promise whatever the tags are worth (59 errorless
ones are the least for 95 %), and a bound of fixed sample size that is looked at after every word is broken far more
often than it states. So a group is switched where either holds:

- *unshown*: there are ``enough`` audits, and the Clopper-Pearson lower bound of the precision is below the promise.
  Enough (763 for 95 %) is the least number at which a group that makes half the errors it may make shows its promise
  with 98 % probability; over all later looks together such a group is switched with less than 5 % (a test computes it).
  From there on the burden of proof is the group's: one at the very edge of its promise cannot show it and is switched
  too, as no certificate would be given on the same evidence.
- *broken*: before that, the errors themselves refute the promise. The test is a mixture of likelihood ratios of the
  alternatives "more than 1 - promise of them are wrong" against the promise (Robbins, 1970; an e-value: Ramdas et al.,
  2023). It is a non-negative supermartingale where the promise is kept, so it ever reaches 1 / (1 - confidence) with
  probability 1 - confidence at most, however often one looks (Ville's inequality).

Both hold for each group by itself, not for all of them at once. The right of a group to accept comes back by a person's
reset only, which begins the count anew.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from models.certify import lower_bound

Standing = Literal["too few", "kept", "unshown", "broken"]
"""``too few``: neither shown nor refuted so far. ``unshown`` and ``broken`` switch a group to review."""
_SURE: Final = 0.98
_MARGIN: Final = 0.5
"""The share of the errors it may make that a group makes which has to pass ``unshown``."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the audit of one group says: ``audited`` units, ``wrong`` ones among them.

    ``precision`` is their share of right ones (NaN without any), ``lower`` its Clopper-Pearson bound at the stated
    confidence, ``evidence`` the e-value against the promise (20 refutes it at 95 %), ``enough`` the audits from which
    on the lower bound decides.
    """

    audited: int
    wrong: int
    promise: float
    precision: float
    lower: float
    evidence: float
    enough: int
    standing: Standing

    @property
    def switches(self) -> bool:
        return self.standing in ("unshown", "broken")


def sampled(item_id: str, tag: str, release: str, rate: float) -> bool:
    """Whether this accepted tag is audited at this rate. A higher rate audits more, and all that a lower one does."""
    key = "\0".join((item_id, tag, release)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) < rate * 2.0**64


def find(audited: int, wrong: int, promise: float, confidence: float) -> Finding:
    """The finding of ``wrong`` units among those ``audited``; see the head of this file."""
    least = enough(promise, confidence)
    lower = float(lower_bound(audited, wrong, confidence))
    against = evidence(audited, wrong, promise)
    standing: Standing = "kept" if lower >= promise else "too few"
    if audited >= least and lower < promise:
        standing = "unshown"
    if against >= 1.0 / (1.0 - confidence):
        standing = "broken"
    precision = (audited - wrong) / audited if audited else math.nan
    return Finding(audited, wrong, promise, precision, lower, against, least, standing)


def evidence(audited: int, wrong: int, promise: float) -> float:
    """The e-value against "at most 1 - ``promise`` of the tags are wrong", in any order of the audits; 1 with none.

    The alternatives are weighted by a Beta(1, 1 / (2 (1 - promise))) distribution cut off below 1 - promise: most
    weight on two to six times the errors that are allowed.
    """
    from scipy.special import betaln
    from scipy.stats import beta

    if not audited:
        return 1.0
    allowed, right = 1.0 - promise, audited - wrong
    a, b = 1.0, 0.5 / allowed
    found = (
        betaln(a + wrong, b + right)
        + beta.logsf(allowed, a + wrong, b + right)
        - betaln(a, b)
        - beta.logsf(allowed, a, b)
        - wrong * math.log(allowed)
        - right * math.log1p(-allowed)
    )
    return math.exp(min(float(found), 700.0))


@lru_cache(maxsize=64)
def enough(promise: float, confidence: float) -> int:
    """The fewest audits at which a group with half the errors its promise allows shows it with 98 % probability."""
    from scipy.stats import binom

    allowed = 1.0 - promise
    errors = 0
    while True:
        n = _fewest(errors, allowed, confidence)
        if binom.cdf(errors, n, _MARGIN * allowed) >= _SURE:
            return n
        errors += 1


def _fewest(errors: int, allowed: float, confidence: float) -> int:
    """The fewest audits of which so many may be wrong while the lower bound is not below the promise."""
    from scipy.stats import binom

    low, high = errors, max(2 * errors, 2)
    while binom.cdf(errors, high, allowed) > 1.0 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if binom.cdf(errors, middle, allowed) > 1.0 - confidence:
            low = middle
        else:
            high = middle
    return high
