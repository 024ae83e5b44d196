"""Attribute values as spans of a title: candidates, what speaks for each, and the methods that are compared.

A model of single words (logistic regression by category) and the values that training titles have propose spans; the
guardrail judges them by both, which neither can, and by how like an attribute's values they are worded. One value an
attribute is kept: the likeliest.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from training.tagging.claims import ClaimOutcome
from training.tagging.kernels import IntArray
from training.tagging.learners import FloatArray, fit_scorers
from training.tagging.lexicon import Lexicon, Span, Wording, lexicon
from training.tagging.oamine import AttributeData, Title
from training.tagging.scores import BoolArray
from training.tagging.several import FOLDS, Told, opinions, outcomes
from training.tagging.summary import SYSTEM
from training.tagging.tagger import LOGISTIC_EVIDENCE
from training.tagging.views import Matrix
from training.tagging.words import WordModel

INNER: Final = 4
"""Folds of the word model's probabilities that the guardrail learns from."""
_PROPOSED: Final = 0.15
"""Probability from which on a run of words is proposed beside the likeliest runs."""


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """Candidates [n]: ``row`` of the asked titles, ``slot``, the span, evidence [n, k] and whether gold has it."""

    row: IntArray
    slot: IntArray
    spans: Sequence[Span]
    matrix: Matrix
    right: FloatArray


def run(data: AttributeData, vectors: Matrix, seed: int, folds: int = FOLDS) -> list[ClaimOutcome]:
    """Every method on the published split. ``vectors`` [titles, d]: embeddings; ``seed`` draws folds and trees."""
    judge = _Judge(data, vectors, seed)
    found: list[ClaimOutcome] = []
    for method in (judge.neighbours, judge.lookup, judge.guardrail):
        found += outcomes(data.train, data.test, seed, method, data.gold, folds)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Guesses:
    """The likeliest span of each attribute by the word model alone [n]: of which asked title (from 0), for which slot,
    what it reads and whether gold has it."""

    row: IntArray
    slot: IntArray
    value: Sequence[str]
    right: BoolArray


def guesses(data: AttributeData, train: IntArray, asked: IntArray) -> Guesses:
    """What retrieval offers an LLM to choose from; ``asked`` and ``train`` share no title."""
    judge = _Judge(data, np.empty((0, 0), np.float32), 0)
    words = WordModel(data, train)
    shares = [words.predict(data.titles[row]) for row in asked]
    lines = judge.lines(asked, shares, lexicon(data, train), judge.wording(train))
    by_words = _by_words(lines)
    kept = _likeliest(lines, by_words)
    kept = kept[np.isfinite(by_words[kept])]
    values = [data.titles[asked[lines.row[at]]].value(*lines.spans[at]) for at in kept]
    return Guesses(lines.row[kept], lines.slot[kept], values, lines.right[kept] > 0)


class _Judge:
    def __init__(self, data: AttributeData, vectors: Matrix, seed: int) -> None:
        self._data, self._vectors, self._seed = data, vectors, seed
        self._slot = {slot: at for at, slot in enumerate(data.slots)}

    def neighbours(self, train: IntArray, asked: IntArray) -> Mapping[str, Told]:
        """Of each attribute the value that most of the ten nearest titles of the category have and the text has too."""
        begun = time.process_time()
        category = np.array([title.category for title in self._data.titles])
        alike = self._vectors[asked] @ self._vectors[train].T
        alike[category[asked][:, None] != category[train][None, :]] = -1.0
        near = np.argsort(-alike, axis=1, kind="stable")[:, :10]
        rows, slots, told, right = [], [], [], []
        for row, title in enumerate(self._titles(asked)):
            votes: dict[str, dict[str, float]] = {}
            for at in near[row]:
                for attribute, value in self._data.titles[train[at]].gold.items():
                    if title.places(value):
                        own = votes.setdefault(attribute, {})
                        own[value.lower()] = own.get(value.lower(), 0.0) + max(float(alike[row, at]), 0.0)
            for attribute, found in votes.items():
                value, weight = max(found.items(), key=lambda pair: pair[1])
                rows.append(row)
                slots.append(self._slot[title.category, attribute])
                told.append((weight, weight / max(1e-9, sum(found.values()))))
                right.append(title.gold.get(attribute) == title.value(*title.places(value)[0]))
        numbers = np.array(told, np.float32).reshape(len(rows), 2)
        seconds = time.process_time() - begun
        return {"neighbours-10": Told(np.array(rows), np.array(slots), numbers, np.array(right, bool), seconds)}

    def lookup(self, train: IntArray, asked: IntArray) -> Mapping[str, Told]:
        """The value of a training title that the text has: the oftenest, of equally many the longest."""
        known = lexicon(self._data, train)
        begun = time.process_time()
        rows, slots, told, right = [], [], [], []
        for row, title in enumerate(self._titles(asked)):
            for (category, attribute), values in _of(known.values, title.category).items():
                found = [value for value in values if title.places(value)]
                if not found:
                    continue
                best = max(found, key=lambda value: (len(values[value]), len(value)))
                first, last = title.places(best)[0]
                stands = max(1, len(known.mentioned[category, best]))
                rows.append(row)
                slots.append(self._slot[category, attribute])
                told.append((np.log(len(values[best])), len(values[best]) / stands, last - first + 1.0, len(found)))
                right.append(title.gold.get(attribute) == title.value(first, last))
        numbers = np.array(told, np.float32).reshape(len(rows), 4)
        seconds = time.process_time() - begun
        return {"lookup": Told(np.array(rows), np.array(slots), numbers, np.array(right, bool), seconds)}

    def guardrail(self, train: IntArray, asked: IntArray) -> Mapping[str, Told]:
        """XGBoost, LightGBM and logistic regression on evidence for spans; and the word model by itself."""
        fold = np.random.default_rng(self._seed + 1).permutation(len(train)) % INNER
        held: list[Matrix] = [np.empty((0, 0), np.float32)] * len(train)
        for number in range(INNER):
            words = WordModel(self._data, train[fold != number])
            for row in np.flatnonzero(fold == number):
                held[row] = words.predict(self._data.titles[train[row]])
        known, wording = lexicon(self._data, train), self.wording(train)
        words = WordModel(self._data, train)
        learned = self.lines(train, held, known, wording, own=set(train.tolist()))
        scorers = fit_scorers(learned.matrix, learned.right > 0, self._seed, _monotone(learned.matrix.shape[1]))
        begun = time.process_time()
        lines = self.lines(asked, [words.predict(title) for title in self._titles(asked)], known, wording)
        odds = np.stack([scorer(lines.matrix) for scorer in scorers], axis=1)
        seconds = time.process_time() - begun
        by_words = _by_words(lines)
        order = {SYSTEM: odds.mean(axis=1), LOGISTIC_EVIDENCE: odds[:, 2], "words": by_words}
        result = {}
        for name, numbers in {**opinions(SYSTEM, odds), "words": lines.matrix[:, _OF_WORDS]}.items():
            kept = _likeliest(lines, order[name])
            kept = kept[np.isfinite(order[name][kept])]
            right = lines.right[kept] > 0
            found = int((np.bincount(lines.row * len(self._slot) + lines.slot, lines.right) > 0).sum())
            result[name] = Told(lines.row[kept], lines.slot[kept], numbers[kept], right, seconds, found)
        return result

    def _titles(self, rows: IntArray) -> list[Title]:
        return [self._data.titles[row] for row in rows]

    def wording(self, train: IntArray) -> Wording:
        return Wording(self._titles(train))

    def lines(
        self,
        asked: IntArray,
        probability: Sequence[Matrix],
        lexicon: Lexicon,
        wording: Wording,
        own: Collection[int] = (),
    ) -> Lines:
        """``own``: asked titles that are counted themselves, whose gold must not speak for them."""
        rows, slots, spans, evidence, right = [], [], [], [], []
        for row, (index, shares) in enumerate(zip(asked.tolist(), probability)):
            title = self._data.titles[index]
            codes = self._data.attributes(title.category)
            hidden = index if index in own else -1
            own_words = wording.own(title) if index in own else ()
            for slot, values in _of(lexicon.values, title.category).items():
                code = codes[slot[1]]
                known = {value: sum(each != hidden for each in who) for value, who in values.items()}
                lexical = {place for value, many in known.items() if many for place in title.places(value)}
                runs = _runs(shares, code)
                for span in sorted(lexical | runs | _around(runs, len(title.tokens))):
                    value = title.value(*span)
                    rows.append(row)
                    slots.append(self._slot[slot])
                    spans.append(span)
                    right.append(title.gold.get(slot[1]) == value)
                    evidence.append(
                        _evidence(
                            title,
                            span,
                            shares,
                            code,
                            known.get(value.lower(), 0),
                            wording.standing(title, span, own_words),
                            lexicon.carriers[slot] / max(1, lexicon.titles[title.category]),
                            (span in runs, span in lexical, len(lexical), len(runs)),
                        )
                        + wording.evidence(title, span, slot, own_words)
                    )
        matrix = np.array(evidence, np.float32).reshape(len(rows), -1)
        return Lines(np.array(rows), np.array(slots), spans, matrix, np.array(right, np.float64))


_OF_KNOWN: Final = (10, 11)
"""Columns of evidence: how many titles have the span as this value, and which share of those where its words stand."""
_IS_RUN: Final = 15
_OF_WORDS: Final = [0, 1, 2, 3, 4, 5, 6, 7]
"""Columns of evidence: whether the span is a run of likely words, and what the word model says of its words."""


def _evidence(
    title: Title,
    span: Span,
    shares: Matrix,
    code: int,
    known: int,
    mentioned: int,
    carriers: float,
    how: tuple[float, ...],
) -> tuple[float, ...]:
    first, last = span
    own = shares[first : last + 1, code]
    others = np.delete(shares[first : last + 1], code, axis=1).max(axis=1)
    before = shares[first - 1, code] if first else 0.0
    after = shares[last + 1, code] if last + 1 < len(shares) else 0.0
    value = title.value(first, last)
    length = len(shares)
    return (
        float(np.log(own + 1e-6).mean()),
        float(np.log(own + 1e-6).min()),
        float(np.log(own + 1e-6).max()),
        float(max(before, 0.0)),
        float(max(after, 0.0)),
        float(others.mean()),
        float(others.max()),
        float(last - first + 1),
        first / length,
        (length - 1 - last) / length,
        float(np.log1p(known)),
        known / max(1, mentioned),
        float(np.log1p(mentioned)),
        carriers,
        float(any(letter.isdigit() for letter in value)),
        *(float(each) for each in how),
        float(shares[:, code].max()),
        float(own.mean() / max(1e-6, float(shares[:, code].sum()))),
    )


def _monotone(columns: int) -> list[int]:
    """More titles that have the very value can only speak for it."""
    return [int(at in _OF_KNOWN) for at in range(columns)]


def _runs(shares: Matrix, code: int) -> set[Span]:
    """Runs of words for which the attribute is the likeliest, and those for which it is not unlikely."""
    found: set[Span] = set()
    for inside in (shares.argmax(axis=1) == code, shares[:, code] >= _PROPOSED):
        edges = np.flatnonzero(np.diff(np.r_[False, inside, False]))
        found |= {(int(first), int(after) - 1) for first, after in zip(edges[::2], edges[1::2])}
    return found


def _around(runs: set[Span], tokens: int) -> set[Span]:
    """Runs a word longer or shorter at one end: words are judged one by one, and their borders suffer most."""
    moved = {(first + left, last + right) for first, last in runs for left, right in ((-1, 0), (1, 0), (0, -1), (0, 1))}
    return {(first, last) for first, last in moved if 0 <= first <= last < tokens}


def _by_words(lines: Lines) -> FloatArray:
    """The word model's log-probability of each candidate that is a run of its likely words; of any other -inf: a part
    of a run is likelier than the whole."""
    return np.where(lines.matrix[:, _IS_RUN] > 0, lines.matrix[:, 0], -np.inf).astype(np.float64)


def _likeliest(lines: Lines, odds: FloatArray) -> IntArray:
    """The candidate with the highest odds of each title and slot."""
    key = lines.row * (int(lines.slot.max(initial=0)) + 1) + lines.slot
    order = np.lexsort((odds, key))
    return np.sort(order[np.flatnonzero(np.diff(np.r_[key[order], -1]) != 0)])


def _of(values: Mapping[tuple[str, str], Any], category: str) -> dict[tuple[str, str], Any]:
    return {slot: found for slot, found in values.items() if slot[0] == category}
