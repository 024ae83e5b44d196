"""What can be compared of two groups of items: one matrix of unit rows a view, made without any label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Rows: TypeAlias = Any
"""float matrix [groups, columns] of unit or zero rows, dense or scipy CSR (which has no type stubs)."""
Matrix: TypeAlias = npt.NDArray[np.float32]

_FACTORS: Final = 128
_SHRINK: Final = 5.0
"""Co-occurrences at which a pair's mutual information counts half: rare pairs look surprising by chance."""


def word_view(texts: Sequence[str]) -> Rows:
    """tf-idf of words and pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        lowercase=True, token_pattern=r"[a-z0-9]+", ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32
    )
    return vectorizer.fit_transform(texts)


def character_view(texts: Sequence[str], others: Sequence[str] = ()) -> tuple[Rows, Rows]:
    """tf-idf of two to five letters within words, which abbreviations share; rows of ``texts`` and of ``others``."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2, dtype=np.float32)
    rows = vectorizer.fit_transform([*texts, *others])
    return rows[: len(texts)], rows[len(texts) :]


def value_view(group: npt.NDArray[np.int64], values: Sequence[str | None], groups: int) -> Rows:
    """How often a group's items have each value, as square roots: a value had by a hundred items is no hundred facts.

    ``group`` int64 [items]; ``values`` [items], None where an item has none.
    """
    from scipy import sparse

    names = {value: code for code, value in enumerate(sorted({value for value in values if value is not None}))}
    code = np.array([-1 if value is None else names[value] for value in values], np.int64)
    known = code >= 0
    counts = sparse.csr_matrix(
        (np.ones(int(known.sum()), np.float32), (group[known], code[known])), shape=(groups, max(1, len(names)))
    )
    counts.sum_duplicates()
    counts.data = np.sqrt(counts.data)
    return unit_rows(counts)


def company_view(group: npt.NDArray[np.int64], place: npt.NDArray[np.int64], groups: int, seed: int = 0) -> Rows:
    """What a group is found together with: factors of the positive mutual information of groups that share places.

    ``group`` and ``place`` (a basket, a household) int64 [events]. Levy and Goldberg, NIPS 2014.
    """
    from sklearn.decomposition import TruncatedSVD

    positive = _information(group, place, groups, itself=False)
    factors = min(_FACTORS, groups - 1)
    if factors < 1 or not positive.nnz:
        return np.zeros((groups, 1), np.float32)
    return unit_rows(TruncatedSVD(factors, random_state=seed).fit_transform(positive).astype(np.float32))


def together_view(group: npt.NDArray[np.int64], place: npt.NDArray[np.int64], groups: int) -> Rows:
    """Which groups stand in the same places (an offer), and in the same company there; int64 [items of places].

    A group is in its own company, so that two that stand with each other and nobody else are alike. Who is bought
    together seldom is of a kind, which is why `company_view` leaves that out; who is offered together is.
    """
    return unit_rows(_information(group, place, groups, itself=True))


def _information(group: npt.NDArray[np.int64], place: npt.NDArray[np.int64], groups: int, itself: bool) -> Rows:
    """Positive mutual information of groups that share places, CSR [groups, groups]."""
    from scipy import sparse

    present = sparse.csr_matrix(
        (np.ones(len(group), np.float32), (group, place)), shape=(groups, int(place.max(initial=0)) + 1)
    )
    present.sum_duplicates()
    present.data[:] = 1.0
    together = (present @ present.T).tocsr()
    if not itself:
        together.setdiag(0)
        together.eliminate_zeros()
    often = np.asarray(together.sum(axis=1)).ravel()
    pairs = together.tocoo()
    expected = often[pairs.row] * often[pairs.col] / max(1.0, float(often.sum()))
    information = np.log(pairs.data / expected) * pairs.data / (pairs.data + _SHRINK)
    kept = information > 0
    return sparse.csr_matrix((information[kept], (pairs.row[kept], pairs.col[kept])), shape=(groups, groups))


def price_view(group: npt.NDArray[np.int64], price: npt.NDArray[np.float64], groups: int) -> Rows:
    """The median price of a group's purchases as a bump on a logarithmic scale; a zero row where nothing was sold.

    ``price`` float64 [events], NaN unknown.
    """
    known = price > 0
    logs, owner = np.log(price[known]), group[known]
    order = np.lexsort((logs, owner))
    owner, logs = owner[order], logs[order]
    starts = np.searchsorted(owner, np.arange(groups + 1))
    sizes = np.diff(starts)
    median = np.full(groups, np.nan)
    median[sizes > 0] = logs[(starts[:-1] + sizes // 2)[sizes > 0]]
    bumps = np.exp(-0.5 * ((median[:, None] - np.linspace(-1.5, 4.0, 12)) / 0.5) ** 2)
    return unit_rows(np.nan_to_num(bumps, nan=0.0).astype(np.float32))


def unit_rows(rows: Rows) -> Rows:
    """Rows scaled to length 1; zero rows stay."""
    from sklearn.preprocessing import normalize

    return normalize(rows)


def similarity(rows: Rows, others: Rows | None = None) -> Matrix:
    """Cosines of unit rows, float32 [n, m]."""
    product = rows @ (rows if others is None else others).T
    return np.asarray(product.todense() if hasattr(product, "todense") else product, np.float32)
