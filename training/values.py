"""How often values of free attributes are right, counted on a catalog's own columns; certified on other product types.

Units (`models.units`: product types) are held out for the certificate, as for tags. Of the others a proposal is judged
by counts that its own fold of units has no part in. An item whose column is empty says nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from features.gold import value_gold, with_gold
from features.workspace import Workspace
from models import units, vocabulary
from models.attributes import Attribute, Value
from models.certify import certify, least_errorless
from models.errors import InvalidVocabulary
from models.policy import TagConfig, start_of
from models.tagging import TagItem
from models.values import Found, Known, ValueJudge, propose, rate, sign, unlearned, word

FOLDS: Final = 5
MOST_UNITS: Final = 2_000
"""Units of an attribute that are held out at most."""
MOST_ITEMS: Final = 5_000
"""Items of an attribute that are learned from at most."""
STOP: Final = 0.9
"""A value less probable than this goes to people even where the mixture with surer ones would keep the promise."""
LIST: Final = ", "
"""Between the values of a text column, of an attribute that allows several."""


@dataclass(frozen=True, slots=True, eq=False)
class _Gold:
    """Items [n] whose column is read: their words, keys of their values, unit and fold."""

    items: Sequence[TagItem]
    values: Sequence[frozenset[str]]
    words: Sequence[frozenset[str]]
    unit: npt.NDArray[np.int64]
    fold: npt.NDArray[np.int64]
    unread: int
    """Items whose column holds what the schema does not read."""


def learn_of(
    path: Path,
    workspace: Workspace,
    items: pl.DataFrame,
    text_of_row: npt.NDArray[np.int32],
    config: TagConfig,
    seed: int,
) -> tuple[ValueJudge, dict[str, Any]]:
    """`learn` for the attributes of a vocabulary's file; what people said of values counts more than the catalog.

    Raises InvalidVocabulary for a file that cannot be read or declares none, StoreUnavailable.
    """
    attributes = vocabulary.read(path).attributes
    if not attributes:
        raise InvalidVocabulary(f"{path} declares no attributes; list them under 'attributes'")
    for one in attributes:
        if items.schema.get(one.gold_column) == pl.String:
            items = with_gold(items, value_gold(workspace, one.name), one.gold_column)
    unit = units.unit_of_row(text_of_row, units.kinds_of(items))
    return learn(attributes, items, unit, config, seed)


def learn(
    attributes: Sequence[Attribute],
    items: pl.DataFrame,
    unit: npt.NDArray[np.int64],
    config: TagConfig,
    seed: int,
) -> tuple[ValueJudge, dict[str, Any]]:
    """A judge of the attributes' values, and figures by attribute.

    ``items``: the catalog (title, text and columns); ``unit`` int64 [n]: of each item. An attribute without a column is
    proposed and goes to people.
    """
    nothing = unlearned(attributes, config.certificate(), config.reject_below)
    known, figures = {}, {}
    for number, one in enumerate(attributes):
        rng = np.random.default_rng((seed, number))
        if one.gold_column not in items.columns:
            known[one.name] = replace(Known(), reason=f"the catalog has no column {one.gold_column!r} that shows gold")
            figures[one.name] = {"units": 0, "reason": known[one.name].reason}
            continue
        gold = _gold(one, items, unit, rng)
        known[one.name], figures[one.name] = _learn(one, gold, config, rng)
    return replace(nothing, known=known), figures


def _gold(one: Attribute, items: pl.DataFrame, unit: npt.NDArray[np.int64], rng: np.random.Generator) -> _Gold:
    rows = items.select("title", "text", one.gold_column).with_row_index().drop_nulls(one.gold_column)
    fold = rng.integers(0, FOLDS, int(unit.max(initial=-1)) + 1)
    found, values, kept, unread = [], [], [], 0
    for row, title, text, cell in rows.iter_rows():
        read = gold_values(one, cell)
        if not read:
            unread += 1
            continue
        found.append(TagItem(title, text or ""))
        values.append(read)
        kept.append(row)
    of = unit[np.array(kept, np.int64)]
    keys = [frozenset(value.key for value in read) for read in values]
    return _Gold(found, keys, [_words(one, read) for read in values], of, fold[of], unread)


def gold_values(one: Attribute, cell: Any) -> list[Value]:
    """The values that a cell of an attribute's column holds; none where the schema reads nothing there."""
    if isinstance(cell, list):
        parts = [str(part) for part in cell]
    else:
        parts = str(cell).split(LIST) if one.several else [str(cell)]
    return [value for words in parts if (value := one.read(words)) is not None]


def _words(one: Attribute, values: Sequence[Value]) -> frozenset[str]:
    return frozenset(word(one, value) for value in values)


def _learn(one: Attribute, gold: _Gold, config: TagConfig, rng: np.random.Generator) -> tuple[Known, dict[str, Any]]:
    units = np.unique(gold.unit)
    share = min(MOST_UNITS, int(config.held_out * len(units)))
    held = np.zeros(int(units.max(initial=-1)) + 1, bool)
    if share >= least_errorless(config.precision, config.confidence):
        held[rng.choice(units, share, replace=False)] = True
    learned = np.flatnonzero(~held[gold.unit])
    learned = np.sort(rng.choice(learned, min(MOST_ITEMS, len(learned)), replace=False))
    counts = _counted(one, gold, learned)
    # Signs and scores of a fold by the counts of the others.
    proposals: list[tuple[str, bool, int, int]] = []
    for fold in range(FOLDS):
        values = _without(counts, fold)
        for at in learned[gold.fold[learned] == fold].tolist():
            for found in propose(one, values, gold.items[at]):
                proposals.append((sign(one, values, found), found.value.key in gold.values[at], at, fold))
    known = Known(_without(counts, None), _rates(proposals))
    scores, right = _firsts(one, known, gold, _one_of_each(gold.unit, held, rng), rng)
    certificate = None
    if len(scores):
        begun = _start(proposals, gold.unit, len(scores), config)
        test = config.certificate().model_copy(update={"start": max(begun, STOP), "stop": STOP})
        certificate = certify(scores, right, test)
    reason = "" if certificate else f"{len(units)} product types with gold: too few to hold some out"
    accepted = certificate.accepts(scores) if certificate else np.zeros(len(scores), bool)
    figures = {
        "items": len(gold.items),
        "unread": gold.unread,
        "learned": len(learned),
        "proposed": len({at for _, _, at, _ in proposals}),
        "units": int(held.sum()),
        "units_proposed": len(scores),
        "precision": float(right.mean()) if len(right) else None,
        "accepted": int(accepted.sum()),
        "wrong": int((accepted & ~right).sum()),
        "threshold": certificate.threshold() if certificate and certificate.threshold() < inf else None,
    }
    return replace(known, certificate=certificate, reason=reason), figures


_Counts = dict[str, tuple[Counter[int], Counter[int]]]
"""By word: how many items that mention it have it as their value, and how many mention it; each by fold. A word that is
nobody's value is not among them."""


def _counted(one: Attribute, gold: _Gold, rows: npt.NDArray[np.int64]) -> _Counts:
    carried = {each for at in rows.tolist() for each in gold.words[at]}
    everything = dict.fromkeys(carried, (0, 0))
    counts: _Counts = {each: (Counter(), Counter()) for each in carried}
    for at in rows.tolist():
        fold = int(gold.fold[at])
        for said in {word(one, found.value) for found in propose(one, everything, gold.items[at])}:
            if said in counts:
                counts[said][0][fold] += said in gold.words[at]
                counts[said][1][fold] += 1
    return counts


def _without(counts: _Counts, fold: int | None) -> dict[str, tuple[int, int]]:
    """Of the other folds; values that those never have are unknown."""

    def total(by_fold: Counter[int]) -> int:
        return by_fold.total() - (0 if fold is None else by_fold[fold])

    kept = {said: (total(right), total(many)) for said, (right, many) in counts.items()}
    return {said: pair for said, pair in kept.items() if pair[0]}


def _rates(proposals: Sequence[tuple[str, bool, int, int]]) -> dict[str, tuple[int, int]]:
    right: Counter[str] = Counter()
    many: Counter[str] = Counter()
    for found, is_right, _, _ in proposals:
        many[found] += 1
        right[found] += is_right
    return {found: (right[found], many[found]) for found in sorted(many)}


def _one_of_each(
    unit: npt.NDArray[np.int64], held: npt.NDArray[np.bool_], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """One item of each held-out unit, drawn at random."""
    rows = rng.permutation(np.flatnonzero(held[unit]))
    _, first = np.unique(unit[rows], return_index=True)
    return np.asarray(rows[first], np.int64)


def _firsts(
    one: Attribute, known: Known, gold: _Gold, rows: npt.NDArray[np.int64], rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Of each row [n] that anything is proposed for: the score of the value that could be accepted (where several
    could, of one drawn at random), and whether it is right."""
    scores, right = [], []
    for at in rows.tolist():
        found = propose(one, known.values, gold.items[at])
        if found:
            chosen = found[int(rng.integers(len(found)))] if one.several else _first(one, known, found)
            scores.append(rate(known, one, chosen))
            right.append(chosen.value.key in gold.values[at])
    return np.array(scores, np.float64), np.array(right, bool)


def _first(one: Attribute, known: Known, found: Sequence[Found]) -> Found:
    """As `ValueJudge.propose` orders them."""
    return min(found, key=lambda each: (-rate(known, one, each), each.field != "title", each.start))


def _start(
    proposals: Sequence[tuple[str, bool, int, int]], unit: npt.NDArray[np.int64], gold: int, config: TagConfig
) -> float:
    """Where the test starts: by one proposal of each unit that is no gold, with its rate among the other folds."""
    by_fold = [_rates([each for each in proposals if each[3] != fold]) for fold in range(FOLDS)]
    of_unit: dict[int, tuple[float, bool]] = {}
    for found, is_right, at, fold in proposals:
        right, many = by_fold[fold].get(found, (0, 0))
        score = (right + 1) / (many + 2)
        if score > of_unit.get(int(unit[at]), (-1.0, False))[0]:
            of_unit[int(unit[at])] = (score, is_right)
    scores = np.array([score for score, _ in of_unit.values()], np.float64)
    return start_of(scores, np.array([is_right for _, is_right in of_unit.values()], bool), gold, config.certificate())
