"""Results of count, min and max for the groups an update touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graph.engine import kernel as k
from graph.engine.rewrite import Grouping
from graph.engine.store import Store
from graph.engine.symbols import Symbols, is_number

if TYPE_CHECKING:
    from graph.engine.update import Update


def recompute(store: Store, update: Update, grouping: Grouping) -> None:
    """Tells ``update`` the results that are new and withdraws those that are no longer right.

    A count is as high as the highest of its members' proofs, a minimum or maximum as its witness. Of witnesses that
    are equal as numbers the shortest text stands, then the first in order.
    """
    compiled = store.compiled
    values, results = compiled.predicates[grouping.values], compiled.predicates[grouping.results]
    found = _touched(store, update, values, grouping.arity)
    if found is None:
        return
    touched, rows = found
    args = store.arguments(values, rows)
    heights = store.words(rows, k.HEIGHT)
    if grouping.function == "count":
        groups, result, heights, witnesses = _count(store.symbols, args, heights)
    else:
        groups, result, heights, witnesses = _extreme(store.symbols, args, heights, rows, grouping.function == "max")
    columns = np.ascontiguousarray(np.column_stack([groups, result]).astype(np.int32))
    if touched is not None:
        known = _withdraw_others(store, update, results, touched, columns, heights)
        columns, heights, witnesses = columns[~known], heights[~known], witnesses[~known]
    why = np.full(len(columns), compiled.rules.index(grouping), np.int32)
    update.tell(results, columns, why, heights, witnesses)


def _touched(store: Store, update: Update, values: int, arity: int) -> tuple[k.Words | None, k.Words] | None:
    """Groups whose values changed and all values of those; None for the groups where every one is new."""
    fresh = store.rows_since(values, int(store.s[k.START]))
    gone = update.gone()
    gone = gone[(store.words(gone, k.HEAD) & k.PREDICATE) == values]
    if not len(fresh) and not len(gone):
        return None
    if store.s[k.START] == 0:
        return None, fresh
    changed = store.arguments(values, np.concatenate([fresh, gone]))[:, :-1]
    groups = np.ascontiguousarray(np.unique(changed, axis=0)) if arity > 1 else np.empty((1, 0), np.int32)
    return groups, store.collect(values, groups)


def _count(symbols: Symbols, args: k.Words, heights: k.Words) -> tuple[k.Words, k.Words, k.Words, k.Words]:
    order, starts = _sorted_groups(args[:, :-1])
    sizes, which = np.unique(np.diff([*starts, len(order)]), return_inverse=True)
    result = symbols.add_all([str(size) for size in sizes.tolist()])[which]
    highest = np.maximum.reduceat(heights[order], starts) if len(order) else heights
    return args[order[starts], :-1], result, highest, np.empty((len(starts), 0), np.int32)


def _extreme(
    symbols: Symbols, args: k.Words, heights: k.Words, rows: k.Words, is_max: bool
) -> tuple[k.Words, k.Words, k.Words, k.Words]:
    distinct, which = np.unique(args[:, -1], return_inverse=True)
    names = [symbols.name(symbol) for symbol in distinct.tolist()]
    sign = -1 if is_max else 1
    best = sorted(
        (i for i, name in enumerate(names) if is_number(name)),
        key=lambda i: (sign * float(names[i]), len(names[i]), names[i]),
    )
    rank = np.full(len(names), len(names), np.int64)
    rank[best] = np.arange(len(best))
    numbers = rank[which] < len(names)
    args, heights, rows, ranks = args[numbers], heights[numbers], rows[numbers], rank[which][numbers]
    order, starts = _sorted_groups(args[:, :-1], ranks)
    first = order[starts]
    return args[first, :-1], args[first, -1], heights[first], rows[first].reshape(-1, 1)


def _sorted_groups(groups: k.Words, ranks: k.Longs | None = None) -> tuple[k.Longs, k.Longs]:
    """An order in which equal groups stand together (by rank within), and where each begins in it."""
    columns = [*([] if ranks is None else [ranks]), *groups.T]
    order = np.lexsort(columns) if columns else np.arange(len(groups))
    ordered = groups[order]
    starts = np.ones(len(order), bool)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return order, np.flatnonzero(starts)


def _withdraw_others(
    store: Store, update: Update, results: int, touched: k.Words, columns: k.Words, heights: k.Words
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Withdraws results of the groups that are not among the new ones; says of which new ones hold already."""
    wanted = {(*map(int, columns[i]), int(heights[i])): i for i in range(len(columns))}
    known = np.zeros(len(columns), np.bool_)
    rows = store.collect(results, touched)
    old = zip(rows.tolist(), store.arguments(results, rows).tolist(), store.words(rows, k.HEIGHT).tolist())
    for row, args, height in old:
        at = wanted.get((*args, height))
        if at is None:
            update.withdraw(row)
        else:
            known[at] = True
    return known
