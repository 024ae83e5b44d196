"""Tags for an item: who proposes them and what speaks for each. One code for training, serving, backfill and Score."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from models.catalog import Catalog
from models.llm.spans import span_logprob, string_values
from models.meanings import choice_line
from models.neutral import neutralize
from models.ports import FloatMatrix, LLMRequest, LLMResult
from models.prompts import Prompt
from models.text import embedding_text, words

NEIGHBOURS: Final = 32
BY_VOTE: Final = 8
BY_NAME: Final = 4
LLM_CHOICES: Final = 10
"""Labels shown to the LLM: few enough that a small model reads them all."""
LLM_TAGS: Final = 2
EXAMPLES: Final = 4
"""Tagged texts shown to the LLM: every token of them is read on a CPU."""
_EXAMPLE_CHARS: Final = 60
KNOWN_FROM: Final = 0.9995
"""Similarity from which on an item's words are those of a catalog text: inner products of one text with itself differ
in last bits."""
_SHARPNESS: Final = 10.0
"""Weight of a neighbour: exp(_SHARPNESS * (similarity - best similarity))."""
_PRIOR_ROWS: Final = 5.0

TAG_COLUMNS: Final = (
    "vote_share",
    "vote_rank",
    "vote_margin",
    "best_similarity",
    "label_best_similarity",
    "label_neighbours",
    "name_similarity",
    "name_rank",
    "word_overlap",
    "words_covered",
    "log_prior",
    "attribute_0_share",
    "attribute_1_share",
    "attribute_2_share",
    "graph_agreement",
    "llm_answered",
    "llm_rank",
    "llm_logprob",
)
"""Evidence for one (item, label). Shares are probabilities, similarities cosines, ranks from 0, NaN means unsaid."""

MONOTONE: Final = {"vote_share": 1, "name_similarity": 1, "graph_agreement": 1}
_ATTRIBUTES: Final = slice(11, 14)
_LLM_ANSWERED: Final = 15
_OF_LLM: Final = slice(16, 18)
_UNNAMED: Final = 0.5
_TOKEN: Final = re.compile(r"[A-Za-z0-9]+")
_FILLER: Final = words("a an and as at by for from in is it of on or our that the this to with you your")
"""Words that two texts share whatever they are about."""
_COMMON: Final = 0.1
_COMMON_TEXTS: Final = 20
_READ: Final = 500
"""Words in more than this share of a catalog's texts, and in so many of the texts read for that, say nothing either."""
Span = tuple[str, int, int]
"""Field of an item (title or text), and where in it words begin and end."""


@dataclass(frozen=True, slots=True)
class TagItem:
    """A product to tag, as its seller describes it."""

    title: str
    text: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


class Grouped(NamedTuple):
    """Label counts by group (a text, an attribute's value): where each group's labels begin [groups + 1], the labels,
    ascending within a group, how many items carry each, and how many labelled items there are [groups]."""

    starts: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    counts: npt.NDArray[np.float64]
    items: npt.NDArray[np.float64]


class TextLabels(NamedTuple):
    """Of n texts: how many labels the items of each have, these labels and counts one text's after the other's, and how
    many labelled items each text has [n]."""

    sizes: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]
    counts: npt.NDArray[np.float64]
    items: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A labelled item that does not count: its labels, its text, its values of the attributes (-1: none)."""

    labels: tuple[int, ...]
    text: int
    values: Mapping[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class LabelCounts:
    """Label counts per text and per attribute value, over some of a catalog's rows (all, or a training fold).

    ``prior`` [L]: the smoothed share of the items that carry each label. ``several``: whether an item may carry
    several.
    """

    by_text: Grouped
    by_value: Mapping[str, Grouped]
    prior: npt.NDArray[np.float64]
    prior_total: float
    several: bool = False
    without_rows: tuple[LeftOut, ...] = ()
    """Items that are counted in the arrays and left out of every answer."""

    @staticmethod
    def build(catalog: Catalog, rows: npt.NDArray[np.bool_] | None = None) -> LabelCounts:
        chosen = np.flatnonzero(catalog.labelled if rows is None else catalog.labelled & rows)
        row, label = catalog.labels_at(chosen)
        count = np.bincount(label, minlength=len(catalog.labels)) + 1.0
        # One label an item: shares sum to 1. Several: each is a share of its own, of items that have it or not.
        total = count.sum() if catalog.several is None else len(chosen) + 2.0
        groups = {name: (codes, len(catalog.values[name])) for name, codes in catalog.attributes.items()}
        return LabelCounts(
            _grouped(catalog.text_of_row, row, label, chosen, len(catalog.texts)),
            {name: _grouped(codes, row, label, chosen, many) for name, (codes, many) in groups.items()},
            count / total,
            float(total),
            catalog.several is not None,
        )

    def without(self, catalog: Catalog, row: int) -> LabelCounts:
        """The counts with one labelled item of the catalog, which must be among the counted, left out as if new.

        The arrays are shared: training leaves out thousands of items one by one, and a copy for each of what a million
        items have would be terabytes.
        """
        labels = tuple(sorted(catalog.labels_of(row)))
        prior = self.prior * self.prior_total
        prior[list(labels)] -= 1.0
        values = {name: int(codes[row]) for name, codes in catalog.attributes.items()}
        out = LeftOut(labels, int(catalog.text_of_row[row]), values)
        fewer = self.prior_total - 1.0
        return LabelCounts(self.by_text, self.by_value, prior / fewer, fewer, self.several, (*self.without_rows, out))

    def of_text(self, text: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """Labels of a text's items and how many items carry each."""
        found = self.of_texts(np.array([text], np.int64))
        return found.labels, found.counts

    def of_texts(self, texts: npt.NDArray[np.int64]) -> TextLabels:
        """What the items of these texts [n] carry."""
        starts, known, many, all_items = self.by_text
        sizes = starts[texts + 1] - starts[texts]
        at = np.repeat(starts[texts] - np.concatenate(([0], np.cumsum(sizes)[:-1])), sizes) + np.arange(sizes.sum())
        labels, counts, items = known[at], many[at], all_items[texts]
        for out in self.without_rows:
            for place in np.flatnonzero(texts == out.text).tolist():
                items[place] -= 1.0
                first = int(sizes[:place].sum())
                gone = first + np.searchsorted(labels[first : first + int(sizes[place])], out.labels)
                counts[gone] -= 1.0
                empty = gone[counts[gone] == 0]
                labels, counts = np.delete(labels, empty), np.delete(counts, empty)
                sizes[place] -= len(empty)
        return TextLabels(sizes, labels, counts, items)

    def shares(self, attribute: str, value: int, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Smoothed P(label | attribute value) of each label [n]: towards the prior with the weight of a few rows."""
        starts, known, counts, items = self.by_value[attribute]
        window = slice(starts[value], starts[value + 1])
        found, many, total = known[window], counts[window], items[value]
        for out in self.without_rows:
            if out.values[attribute] == value:
                total -= 1.0
                many = many.copy()
                many[np.searchsorted(found, out.labels)] -= 1.0  # to 0: smoothed, that is a label nobody has
        return np.asarray(_smoothed(found, many, total, labels, self.prior, _PRIOR_ROWS))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _smoothed(
    found: npt.NDArray[np.int32],
    many: npt.NDArray[np.float64],
    items: float,
    labels: npt.NDArray[np.int64],
    prior: npt.NDArray[np.float64],
    rows: float,
) -> npt.NDArray[np.float64]:
    """Compiled: a dozen calls of numpy, made for three attributes, are 0.08 ms of a millisecond."""
    shares = np.empty(len(labels))
    total = items + rows
    for n, label in enumerate(labels):
        at = np.searchsorted(found, label)
        count = many[at] if at < len(found) and found[at] == label else 0.0
        shares[n] = (count + rows * prior[label]) / total
    return shares


@dataclass(frozen=True, slots=True)
class Example:
    """A tagged text of the catalog: its words, and the label that most of its items carry (of equals the first; -1
    where they carry none)."""

    text: str
    label: int


@dataclass(frozen=True, slots=True, eq=False)
class Retrieved:
    """What the index says of an item: its nearest texts, the labels they vote for, and the labels' own names.

    ``examples``: the nearest texts, nearest first. ``label_texts``: of each label that has a vote the nearest text that
    an item of this label has. Both are of the items that the counts know, and of no other.
    """

    item: TagItem
    votes: Mapping[int, float]
    label_best: Mapping[int, float]
    label_neighbours: Mapping[int, int]
    best: float
    names: npt.NDArray[np.float64]
    proposed: tuple[int, ...]
    by_name: frozenset[int]
    vector: npt.NDArray[np.float32]
    """The item's words, embedded: [d] of norm 1."""
    examples: tuple[Example, ...]
    label_texts: Mapping[int, str]

    @property
    def known(self) -> bool:
        """Whether labelled items have these very words."""
        return self.best >= KNOWN_FROM

    @property
    def choices(self) -> tuple[int, ...]:
        """The labels an LLM may choose from, likeliest first."""
        return self.proposed[:LLM_CHOICES]


@dataclass(frozen=True, slots=True)
class LLMTags:
    """What an LLM chose: label codes in its order, each with its log-probability (NaN unknown)."""

    labels: tuple[int, ...]
    logprobs: tuple[float, ...]


def retrieve(catalog: Catalog, counts: LabelCounts, item: TagItem, vector: npt.NDArray[np.float32]) -> Retrieved:
    """Nearest texts and candidate labels of an item with this embedding [d]; texts that ``counts`` lacks are unseen."""
    found, similarity = catalog.index.search(vector[None, :], min(2 * NEIGHBOURS, len(catalog.texts)))
    there = found[0] >= 0
    texts, near = found[0][there], _settled(similarity[0][there])
    # The labels of the neighbours that are labelled, one run after the other.
    of = counts.of_texts(texts)
    seen = np.flatnonzero(of.items)[:NEIGHBOURS]
    texts, near, sizes, items = texts[seen], near[seen], of.sizes[seen], of.items[seen]
    best = float(near[0]) if len(near) else 0.0
    labels, first, place = np.unique(of.labels[: sizes.sum()], return_index=True, return_inverse=True)
    weight = np.exp(_SHARPNESS * (near - best))
    each = np.repeat(weight, sizes) * of.counts[: sizes.sum()] / np.repeat(items, sizes)
    shares = np.bincount(place, each, len(labels))
    whole = float(weight.sum() if counts.several else shares.sum()) or 1.0
    nearest = np.full(len(labels), -1.0)
    np.maximum.at(nearest, place, np.repeat(near, sizes))
    codes: list[int] = labels.tolist()
    votes = dict(zip(codes, (shares / whole).tolist()))
    label_best = dict(zip(codes, nearest.tolist()))
    label_neighbours = dict(zip(codes, np.bincount(place, minlength=len(labels)).tolist()))
    label_texts = dict(zip(codes, (catalog.texts[text] for text in np.repeat(texts, sizes)[first].tolist())))
    examples = tuple(Example(catalog.texts[text], _commonest(counts, text)) for text in texts[:EXAMPLES].tolist())
    names = _settled(catalog.label_vectors @ vector)
    by_vote = sorted(votes, key=lambda label: (-votes[label], label))[:BY_VOTE]
    by_name = np.lexsort((np.arange(len(names)), -names))[:BY_NAME].tolist()
    proposed = tuple(dict.fromkeys([*by_vote, *by_name]))
    return Retrieved(
        item,
        votes,
        label_best,
        label_neighbours,
        best,
        names,
        proposed,
        frozenset(by_name),
        vector,
        examples,
        label_texts,
    )


def _commonest(counts: LabelCounts, text: int) -> int:
    labels, many = counts.of_text(text)
    return int(labels[np.argmax(many)]) if len(labels) else -1


def _settled(similarity: FloatMatrix) -> npt.NDArray[np.float64]:
    """Similarities with 1 for equal words: trees split where training stood, so last bits would decide."""
    exact = similarity.astype(np.float64)
    exact[exact >= KNOWN_FROM] = 1.0
    return exact


def prompt(template: Prompt, catalog: Catalog, found: Retrieved) -> LLMRequest | None:
    """The request that lets an LLM choose among the retrieved labels; None where there is nothing to choose."""
    choices = [catalog.labels[label] for label in found.choices]
    if not choices:
        return None
    item = found.item
    # Each before it is joined or cut: no part of a control token may be completed by what comes after it.
    pairs = sorted((neutralize(name), neutralize(value)) for name, value in item.attributes.items())
    return template.request(
        {
            "title": neutralize(item.title)[:300],
            "text": neutralize(item.text)[:600] or "-",
            "attributes": "; ".join(f"{name}: {value}" for name, value in pairs)[:300] or "-",
            "examples": told_examples((each.text, catalog.labels[each.label]) for each in found.examples),
            "choices": "\n".join(choice_line(choice, catalog.meanings.get(choice)) for choice in choices),
        },
        schema=choice_schema("tags", choices, LLM_TAGS),
    )


def told_examples(examples: Iterable[tuple[str, str]]) -> str:
    """Tagged texts with their labels as an LLM reads them, a line each; "-" without any.

    Each text is made harmless before it is cut or joined: a catalog's words are sellers' too. A label stands there
    letter by letter, as among the choices: it is what is to be answered.
    """
    lines = [f"- {neutralize(text)[:_EXAMPLE_CHARS].rstrip()} => {label}" for text, label in examples]
    return "\n".join(lines) or "-"


def choice_schema(field_name: str, choices: Sequence[str], most: int) -> dict[str, object]:
    """JSON schema of an object with one array of 1 to ``most`` of the choices: nothing else can be said."""
    return {
        "type": "object",
        "properties": {
            field_name: {
                "type": "array",
                "items": {"type": "string", "enum": list(choices)},
                "minItems": 1,
                "maxItems": most,
            }
        },
        "required": [field_name],
        "additionalProperties": False,
    }


def read_choices(result: LLMResult, field_name: str, codes: Mapping[str, int]) -> LLMTags:
    """The labels an LLM named, repeated and unknown ones left out, each with the log-probability of its words."""
    labels: list[int] = []
    logprobs: list[float] = []
    for value in string_values(result.text, field_name):
        code = codes.get(value.value)
        if code is not None and code not in labels:
            labels.append(code)
            logprobs.append(span_logprob(result, value.start, value.end))
    return LLMTags(tuple(labels), tuple(logprobs))


def evidence(
    catalog: Catalog,
    counts: LabelCounts,
    found: Retrieved,
    labels: Sequence[int],
    llm: LLMTags | None,
    agreement: Mapping[int, float],
) -> FloatMatrix:
    """Matrix [len(labels), len(TAG_COLUMNS)]. ``llm`` None: no LLM answered. ``agreement``: the graph's view by label,

    1 where facts of the item support the label, -1 where they contradict it, absent where it has none.
    """
    matrix = np.full((len(labels), len(TAG_COLUMNS)), np.nan, np.float32)
    codes = np.array(labels, np.int64)
    by_vote = sorted(found.votes, key=lambda label: (-found.votes[label], label))
    vote_rank = {label: rank for rank, label in enumerate(by_vote)}
    first, second = [*(found.votes[label] for label in by_vote[:2]), 0.0, 0.0][:2]
    votes = np.array([found.votes.get(label, 0.0) for label in labels])
    matrix[:, 0] = votes
    matrix[:, 1] = [vote_rank.get(label, np.nan) for label in labels]
    matrix[:, 2] = votes - np.where(votes < first, first, second)
    matrix[:, 3] = found.best
    matrix[:, 4] = [found.label_best.get(label, np.nan) for label in labels]
    matrix[:, 5] = [found.label_neighbours.get(label, 0) for label in labels]
    name_rank = np.empty(len(found.names))
    name_rank[np.argsort(-found.names, kind="stable")] = np.arange(len(found.names))
    matrix[:, 6] = found.names[codes]
    matrix[:, 7] = name_rank[codes]
    title = words(embedding_text(found.item.title, found.item.text))
    names = [_said_best(catalog.stems[label], title) for label in labels]
    shared = np.array([len(title & stems) for stems in names])
    of_name = np.array([len(stems) for stems in names])
    matrix[:, 8] = shared / np.maximum(1, len(title) + of_name - shared)
    matrix[:, 9] = shared / np.maximum(1, of_name)
    matrix[:, 10] = np.log(counts.prior[codes])
    for slot, (name, value) in enumerate(attribute_codes(catalog, found.item).items()):
        if value >= 0:
            matrix[:, _ATTRIBUTES.start + slot] = counts.shares(name, value, codes)
    matrix[:, 14] = [agreement.get(label, 0.0) for label in labels]
    matrix[:, _LLM_ANSWERED] = float(llm is not None)
    if llm is not None:
        for rank, (label, logprob) in enumerate(zip(llm.labels, llm.logprobs)):
            matrix[codes == label, _OF_LLM] = rank, logprob
    return matrix


def without_llm(matrix: FloatMatrix) -> FloatMatrix:
    """The evidence as it is where no LLM answered: a copy."""
    plain = matrix.copy()
    plain[:, _LLM_ANSWERED] = 0.0
    plain[:, _OF_LLM] = np.nan
    return plain


def words_alone(matrix: FloatMatrix) -> FloatMatrix:
    """The evidence as it is for an item without attributes and without an LLM's answer: a copy."""
    plain = without_llm(matrix)
    plain[:, _ATTRIBUTES] = np.nan
    return plain


def some_attributes(matrix: FloatMatrix, rng: np.random.Generator) -> FloatMatrix:
    """The evidence for an item of which a coin decides, for each attribute, whether the seller names it: a copy."""
    partly = matrix.copy()
    width = _ATTRIBUTES.stop - _ATTRIBUTES.start
    partly[:, _ATTRIBUTES.start + np.flatnonzero(rng.random(width) < _UNNAMED)] = np.nan
    return partly


def attribute_codes(catalog: Catalog, item: TagItem) -> dict[str, int]:
    """The item's values of the attributes that are evidence, as the catalog's codes; -1 where absent or unknown."""
    return {name: _code(catalog.values[name], item.attributes.get(name)) for name in list(catalog.attributes)[:3]}


def _said_best(names: tuple[frozenset[str], ...], title: frozenset[str]) -> frozenset[str]:
    """The words of the name that the title says most of; of equals the first, which is the label's own."""
    return names[0] if len(names) == 1 else max(names, key=lambda stems: len(title & stems) / max(1, len(stems)))


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """What is looked up of a catalog's labels: the code of each."""

    codes: Mapping[str, int]


@lru_cache(maxsize=4)
def vocabulary(labels: tuple[str, ...]) -> Vocabulary:
    """Made once for a catalog: its labels never change while it is served."""
    return Vocabulary({label: code for code, label in enumerate(labels)})


@dataclass(frozen=True, slots=True, eq=False)
class ItemWords:
    """Where an item's words (see `models.text.words`) stand: the first place of each, and all places in their order,
    the title before the text."""

    first: Mapping[str, Span]
    places: Sequence[tuple[str, Span]]


def word_spans(item: TagItem) -> ItemWords:
    """The places of an item's words."""
    first: dict[str, Span] = {}
    places: list[tuple[str, Span]] = []
    for name, text in (("title", item.title), ("text", item.text)):
        for match in _TOKEN.finditer(text):
            span = name, match.start(), match.end()
            for stem in words(match.group()):
                places.append((stem, span))
                first.setdefault(stem, span)
    return ItemWords(first, places)


@lru_cache(maxsize=8)  # of the catalog that is served and its label sets
def common_words(catalog: Catalog) -> frozenset[str]:
    """See `filler`. Read again for a catalog that has grown: two milliseconds."""
    return filler(catalog.texts)


def filler(texts: Sequence[str]) -> frozenset[str]:
    """Words that say nothing of a label: of English, and of phrases that these texts repeat ("National brand").

    Judged by 500 texts that lie evenly among them.
    """
    read = [texts[at] for at in np.linspace(0, len(texts) - 1, min(_READ, len(texts)), dtype=np.int64).tolist()]
    many = Counter(word for text in read for word in words(text))
    least = max(_COMMON_TEXTS, _COMMON * len(read))
    return _FILLER | {word for word, count in many.items() if count > least}


def evidence_span(
    spans: ItemWords, stems: frozenset[str], neighbour: str = "", nothing: frozenset[str] = _FILLER
) -> Span | None:
    """Where in an item's words (`word_spans`) a label shows: the first word that its name (``stems``) shares.

    Without one, the longest run of words that ``neighbour`` has too: the nearest text that an item of this label has
    (`Retrieved.label_texts`); in the title where it shares any, else in the text. None where nothing is shared but
    numbers and words that say ``nothing`` (`filler`).
    """
    if shared := [spans.first[stem] for stem in stems if stem in spans.first]:
        return min(shared, key=lambda span: (span[0] != "title", span[1]))
    return _longest_run(spans.places, words(neighbour), nothing) if neighbour else None


def _longest_run(places: Sequence[tuple[str, Span]], stems: frozenset[str], nothing: frozenset[str]) -> Span | None:
    """The run of the title's words, or else the text's, all among ``stems``, with most letters; of equals the first.

    Numbers and words that say ``nothing`` neither count nor begin or end a run.
    """
    best: Span | None = None
    most = letters = 0
    run: Span | None = None
    for stem, (name, start, end) in places:
        # A title says what a thing is; texts share phrases of packaging.
        if best is not None and best[0] != name:
            break
        if stem not in stems:
            run, letters = None, 0
            continue
        if stem in nothing or stem.isdigit():
            continue
        run = (name, run[1] if run is not None else start, end)
        letters += end - start
        if letters > most:
            best, most = run, letters
    return best


def _code(values: Sequence[str], value: str | None) -> int:
    if value is None:
        return -1
    at = bisect_left(values, value)
    return at if at < len(values) and values[at] == value else -1


def _grouped(
    group_of_row: npt.NDArray[np.int32],
    row: npt.NDArray[np.int64],
    label: npt.NDArray[np.int32],
    items: npt.NDArray[np.int64],
    groups: int,
) -> Grouped:
    """Counts of the pairs (``row``, ``label``) by the row's group, and of the labelled ``items``; -1 is no group."""
    group = group_of_row[row]
    known = group >= 0
    # One number for each pair: sorted ten times as fast as pairs are, which counts where items arrive while serving.
    labels = int(label.max(initial=-1)) + 1
    pairs, count = np.unique(group[known].astype(np.int64) * labels + label[known], return_counts=True)
    starts = np.searchsorted(pairs, np.arange(groups + 1) * labels)
    there = group_of_row[items]
    many = np.bincount(there[there >= 0], minlength=groups).astype(np.float64)
    return Grouped(starts, (pairs % max(1, labels)).astype(np.int32), count.astype(np.float64), many)
