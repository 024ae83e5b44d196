"""Counts of what is bought with what, as facts of the ontology ``copurchase``, whose rules hold the thresholds.

Expected counts are those of the configuration model on the network of pairs: with s_a the number of pairs that type a
takes part in and S the sum of s, E(a, b) = s_a * s_b / S (Newman 2006, Modularity and community structure in networks).
Plain lift takes every basket for equally full and finds a full basket's goods to go together. Two types are as alike as
the cosine of their positive pointwise mutual information with all other types (Bullinaria and Levy, 2007).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from graph.errors import OntologyError
from graph.ports import Fact

MIN_BASKETS: Final = 300
"""Rarer types have no facts: with fewer baskets hardly any pair could ever differ from chance."""
CHANCE: Final = 3.0
"""Standard deviations within which a pair is put down to chance and has no facts."""
_MIN_EVIDENCE: Final = 5

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Purchases:
    """Who bought what: codes from 0, int64[n] each; ``types[kind]`` and ``categories[shelf]`` spell them.

    ``buyer`` is the household, by which ``split`` takes halves that share nobody.
    """

    buyer: npt.NDArray[np.int64]
    basket: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int64]
    shelf: npt.NDArray[np.int64]
    types: tuple[str, ...]
    categories: tuple[str, ...]

    def __post_init__(self) -> None:
        sizes = {len(self.buyer), len(self.basket), len(self.kind), len(self.shelf)}
        if len(sizes) != 1:
            raise OntologyError(f"purchases have columns of {sorted(sizes)} rows; give columns of one length")

    def split(self) -> tuple[Purchases, Purchases]:
        """The purchases of the buyers with even and with odd codes."""
        return self._only(self.buyer % 2 == 0), self._only(self.buyer % 2 == 1)

    def _only(self, rows: npt.NDArray[np.bool_]) -> Purchases:
        return Purchases(
            self.buyer[rows], self.basket[rows], self.kind[rows], self.shelf[rows], self.types, self.categories
        )


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Types bought often enough, ``kinds`` int64[m] by code, and what is known of each pair of them, float64[m, m].

    ``baskets`` int64[m] counts a type's baskets, ``together`` a pair's.
    """

    kinds: npt.NDArray[np.int64]
    baskets: npt.NDArray[np.int64]
    together: Matrix
    expected: Matrix
    alike: Matrix

    @property
    def ratio(self) -> Matrix:
        """Times as often together as expected."""
        return np.asarray(self.together / np.maximum(self.expected, 1e-9))

    @property
    def deviations(self) -> Matrix:
        """Pearson residuals: standard deviations (Poisson) from what is expected."""
        return np.asarray((self.together - self.expected) / np.sqrt(np.maximum(self.expected, 1e-9)))


def count_pairs(purchases: Purchases, min_baskets: int = MIN_BASKETS) -> Pairs:
    """Pairs of the types bought in at least ``min_baskets`` baskets; a type counts once a basket."""
    baskets, pairs = _membership(purchases)
    kinds = np.flatnonzero(baskets >= min_baskets)
    degree = np.asarray(pairs.sum(axis=1), np.float64).ravel()
    rows = np.asarray(pairs[kinds].todense(), np.float64)
    total = max(degree.sum(), 1.0)
    expected = np.outer(degree[kinds], degree) / total
    return Pairs(kinds, baskets[kinds], rows[:, kinds], expected[:, kinds], _alike(rows, expected))


def pair_facts(purchases: Purchases, pairs: Pairs) -> Iterator[Fact]:
    """The facts of the types in ``pairs``, and of each pair that differs from chance, once, in order of codes."""
    names = [purchases.types[kind] for kind in pairs.kinds.tolist()]
    shelves = _main_shelf(purchases)
    for name, kind, baskets in zip(names, pairs.kinds.tolist(), pairs.baskets.tolist(), strict=True):
        yield Fact("bought", (name, str(baskets)))
        yield Fact("type_in", (name, purchases.categories[shelves[kind]]))
    ratio, deviations = pairs.ratio, pairs.deviations
    for a, b in np.argwhere(np.triu(np.abs(deviations) >= CHANCE, 1)).tolist():
        numbers = {
            "bought_together": f"{pairs.together[a, b]:.0f}",
            "expected": f"{pairs.expected[a, b]:.2f}",
            "times_expected": f"{ratio[a, b]:.3f}",
            "deviations": f"{deviations[a, b]:.2f}",
            "alike": f"{pairs.alike[a, b]:.3f}",
        }
        yield from (Fact(predicate, (names[a], names[b], number)) for predicate, number in numbers.items())


def _membership(purchases: Purchases) -> tuple[npt.NDArray[np.int64], Any]:
    """Baskets by type, and the sparse matrix of pairs of types by baskets they share, its diagonal empty."""
    from scipy import sparse

    once = np.unique(np.stack((purchases.basket, purchases.kind), axis=1), axis=0)
    baskets = int(once[:, 0].max(initial=-1)) + 1
    shape = (baskets, len(purchases.types))
    membership = sparse.csr_matrix((np.ones(len(once), np.int64), (once[:, 0], once[:, 1])), shape=shape)
    pairs = (membership.T @ membership).tolil()
    pairs.setdiag(0)
    return np.bincount(once[:, 1], minlength=len(purchases.types)), pairs.tocsr()


def _alike(together: Matrix, expected: Matrix) -> Matrix:
    """Cosine of positive PMI with every type, of the rows; counts too small to say anything are left out."""
    ratio = np.where(together >= _MIN_EVIDENCE, together / np.maximum(expected, 1e-9), 1.0)
    information = np.maximum(np.log(ratio), 0.0)
    length = np.maximum(np.linalg.norm(information, axis=1, keepdims=True), 1e-9)
    unit = information / length
    return np.asarray(unit @ unit.T)


def _main_shelf(purchases: Purchases) -> npt.NDArray[np.int64]:
    """The category most purchases of each type stand in; of equals, the first."""
    size = max(len(purchases.categories), 1)
    counts = np.bincount(purchases.kind * size + purchases.shelf, minlength=len(purchases.types) * size)
    return np.asarray(counts.reshape(len(purchases.types), size).argmax(axis=1))
