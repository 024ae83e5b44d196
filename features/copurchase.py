"""Items bought together: cosine similarity of session membership, the best few per item."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MAX_SESSION = 100
"""Larger sessions say little about any pair and would dominate the cost; their first items are taken."""


def neighbours(
    session: npt.NDArray[np.int64], item: npt.NDArray[np.int64], items: int, top: int = 24, min_pairs: int = 3
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Best ``top`` neighbours per item: rows int32 [items, top] (-1 padded) and similarities float32 [items, top].

    ``session``, ``item``: events [n] as codes from 0. Similarity is the share pairs / sqrt(count_a * count_b), over
    pairs seen at least ``min_pairs`` times. Ties fall by row number.
    """
    from scipy import sparse

    rows = np.full((items, top), -1, np.int32)
    values = np.zeros((items, top), np.float32)
    if not len(session):
        return rows, values
    order = np.lexsort((item, session))
    pairs = np.unique(np.stack((session[order], item[order]), axis=1), axis=0)
    starts = np.flatnonzero(np.r_[True, np.diff(pairs[:, 0]) != 0])
    position = np.arange(len(pairs)) - np.repeat(starts, np.diff(np.r_[starts, len(pairs)]))
    pairs = pairs[position < MAX_SESSION]
    membership = sparse.csr_matrix(
        (np.ones(len(pairs), np.float32), (pairs[:, 0], pairs[:, 1])), shape=(int(pairs[:, 0].max()) + 1, items)
    )
    together = (membership.T @ membership).tocsr()
    together.setdiag(0)
    together.data[together.data < min_pairs] = 0
    together.eliminate_zeros()
    count = np.asarray(membership.sum(axis=0)).ravel()
    scale = np.zeros(items, np.float32)
    np.divide(1.0, np.sqrt(count), out=scale, where=count > 0)
    row_of = np.repeat(np.arange(items), np.diff(together.indptr))
    similarity = together.data * scale[row_of] * scale[together.indices]
    best = np.lexsort((together.indices, -similarity, row_of))
    row_of, column, similarity = row_of[best], together.indices[best], similarity[best]
    rank = np.arange(len(row_of)) - together.indptr[:-1][row_of]
    keep = rank < top
    rows[row_of[keep], rank[keep]] = column[keep]
    values[row_of[keep], rank[keep]] = similarity[keep]
    return rows, values
