"""Items bought together: cosine similarity of session membership, the best few per item."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from features.keys import distinct

TOP = 24
"""Neighbours an item."""
MAX_SESSION = 100
"""Larger sessions say little about any pair and would dominate the cost: so many of their items are taken."""


def neighbours(
    session: npt.NDArray[np.int64],
    item: npt.NDArray[np.int64],
    items: int,
    top: int = TOP,
    min_pairs: int = 3,
    time: npt.NDArray[np.int64] | None = None,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Best ``top`` neighbours per item: rows int32 [items, top] (-1 padded) and similarities float32 [items, top].

    ``session``, ``item``: events [n] as codes from 0. Similarity is the share pairs / sqrt(count_a * count_b), over
    pairs seen at least ``min_pairs`` times. Ties fall by row number. ``time`` [n]: of a session with more than
    MAX_SESSION items the newest are taken; without, the first by row.
    """
    from scipy import sparse

    rows = np.full((items, top), -1, np.int32)
    values = np.zeros((items, top), np.float32)
    if not len(session):
        return rows, values
    pairs = distinct(session.astype(np.int64) * items + item)  # in 32 bits it would overflow
    of_session, of_item = np.divmod(pairs, items)
    if time is not None:
        # Sessions that last (a user's whole life) would else be known by the items with the lowest numbers.
        newest = np.zeros(len(pairs), np.int64)
        np.maximum.at(newest, np.searchsorted(pairs, session.astype(np.int64) * items + item), time)
        by_time = np.lexsort((of_item, -newest, of_session))
        of_session, of_item = of_session[by_time], of_item[by_time]
    starts = np.flatnonzero(np.diff(of_session, prepend=-1))
    position = np.arange(len(pairs)) - np.repeat(starts, np.diff(np.r_[starts, len(pairs)]))
    kept = position < MAX_SESSION
    of_session, of_item = of_session[kept], of_item[kept]
    count = np.bincount(of_item, minlength=items)
    # Who is seen less often than a pair must be is in no pair: most items of a long tail.
    often = count[of_item] >= min_pairs
    of_session, of_item = of_session[often], of_item[often]
    membership = sparse.csr_matrix(
        (np.ones(len(of_item), np.float32), (of_session, of_item)), shape=(int(session.max()) + 1, items)
    )
    together = membership.T.tocsr() @ membership
    row_of = np.repeat(np.arange(items, dtype=np.int32), np.diff(together.indptr))
    kept = (together.data >= min_pairs) & (row_of != together.indices)
    row_of, column, seen = row_of[kept], together.indices[kept], together.data[kept]
    scale = np.zeros(items, np.float32)
    np.divide(1.0, np.sqrt(count, dtype=np.float32), out=scale, where=count > 0)
    similarity = seen * scale[row_of] * scale[column]
    best = np.lexsort((column, -similarity, row_of))
    row_of, column, similarity = row_of[best], column[best], similarity[best]
    rank = np.arange(len(row_of)) - np.searchsorted(row_of, row_of)
    keep = rank < top
    rows[row_of[keep], rank[keep]] = column[keep]
    values[row_of[keep], rank[keep]] = similarity[keep]
    return rows, values
