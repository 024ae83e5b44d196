"""Tags for an item: who proposes them and what speaks for each. One code for training, serving, backfill and Score."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from models.catalog import Catalog
from models.labelcounts import LabelCounts
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


@dataclass(frozen=True, slots=True)
class TagItem:
    """A product to tag, as its seller describes it."""

    title: str
    text: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


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


def _code(values: Sequence[str], value: str | None) -> int:
    if value is None:
        return -1
    at = bisect_left(values, value)
    return at if at < len(values) and values[at] == value else -1
