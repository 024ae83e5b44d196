"""Tags for an item: who proposes them and what speaks for each. One code for training, serving, backfill and Score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from models.catalog import Catalog
from models.llm.spans import span_logprob, string_values
from models.ports import FloatMatrix, LLMRequest, LLMResult
from models.prompts import Prompt
from models.text import embedding_text, readable, words

NEIGHBOURS: Final = 32
BY_VOTE: Final = 8
BY_NAME: Final = 4
LLM_CHOICES: Final = 10
"""Labels shown to the LLM: few enough that a small model reads them all."""
LLM_TAGS: Final = 2
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


@dataclass(frozen=True, slots=True)
class TagItem:
    """A product to tag, as its seller describes it."""

    title: str
    text: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class LabelCounts:
    """Label counts per text and per attribute value, over some of a catalog's rows (all, or a training fold)."""

    by_text: tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float64]]
    by_value: Mapping[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float64]]]
    prior: npt.NDArray[np.float64]

    @staticmethod
    def build(catalog: Catalog, rows: npt.NDArray[np.bool_] | None = None) -> LabelCounts:
        chosen = catalog.label_of_row >= 0
        if rows is not None:
            chosen &= rows
        label = catalog.label_of_row[chosen]
        count = np.bincount(label, minlength=len(catalog.labels)) + 1.0
        return LabelCounts(
            _grouped(catalog.text_of_row[chosen], label, len(catalog.texts)),
            {
                name: _grouped(codes[chosen], label, len(catalog.values[name]))
                for name, codes in catalog.attributes.items()
            },
            count / count.sum(),
        )

    def of_text(self, text: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """Labels of a text's items and how many items carry each."""
        starts, labels, counts = self.by_text
        window = slice(starts[text], starts[text + 1])
        return labels[window], counts[window]

    def share(self, attribute: str, value: int, label: int) -> float:
        """Smoothed P(label | attribute value): towards the prior with the weight of a few rows."""
        starts, labels, counts = self.by_value[attribute]
        window = slice(starts[value], starts[value + 1])
        at = np.searchsorted(labels[window], label)
        found = labels[window]
        count = float(counts[window][at]) if at < len(found) and found[at] == label else 0.0
        return (count + _PRIOR_ROWS * float(self.prior[label])) / (float(counts[window].sum()) + _PRIOR_ROWS)


@dataclass(frozen=True, slots=True, eq=False)
class Retrieved:
    """What the index says of an item: its nearest texts, the labels they vote for, and the labels' own names."""

    item: TagItem
    votes: Mapping[int, float]
    label_best: Mapping[int, float]
    label_neighbours: Mapping[int, int]
    best: float
    names: npt.NDArray[np.float64]
    proposed: tuple[int, ...]
    by_name: frozenset[int]

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
    near = [(int(text), float(value)) for text, value in zip(found[0], similarity[0]) if text >= 0]
    pairs = [(text, value) for text, value in near if len(counts.of_text(text)[0])][:NEIGHBOURS]
    best = pairs[0][1] if pairs else 0.0
    votes: dict[int, float] = {}
    label_best: dict[int, float] = {}
    label_neighbours: dict[int, int] = {}
    for text, value in pairs:
        labels, count = counts.of_text(text)
        total = count.sum()
        for label, many in zip(labels.tolist(), count.tolist()):
            votes[label] = votes.get(label, 0.0) + float(np.exp(_SHARPNESS * (value - best))) * many / total
            label_best[label] = max(label_best.get(label, -1.0), value)
            label_neighbours[label] = label_neighbours.get(label, 0) + 1
    whole = sum(votes.values()) or 1.0
    votes = {label: vote / whole for label, vote in votes.items()}
    names = np.asarray(catalog.label_vectors @ vector, np.float64)
    by_vote = sorted(votes, key=lambda label: (-votes[label], label))[:BY_VOTE]
    by_name = np.lexsort((np.arange(len(names)), -names))[:BY_NAME].tolist()
    proposed = tuple(dict.fromkeys([*by_vote, *by_name]))
    return Retrieved(item, votes, label_best, label_neighbours, best, names, proposed, frozenset(by_name))


def prompt(template: Prompt, catalog: Catalog, found: Retrieved) -> LLMRequest | None:
    """The request that lets an LLM choose among the retrieved labels; None where there is nothing to choose."""
    choices = [catalog.labels[label] for label in found.choices]
    if not choices:
        return None
    attributes = "; ".join(f"{name}: {value}" for name, value in sorted(found.item.attributes.items()))
    return template.request(
        {
            "title": found.item.title[:300],
            "text": found.item.text[:600] or "-",
            "attributes": attributes[:300] or "-",
            "choices": "\n".join(f"- {choice}" for choice in choices),
        },
        schema=choice_schema("tags", choices, LLM_TAGS),
    )


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
    title = words(embedding_text(found.item.title, found.item.text))
    by_vote = sorted(found.votes, key=lambda label: (-found.votes[label], label))
    vote_rank = {label: rank for rank, label in enumerate(by_vote)}
    top_votes = [found.votes[label] for label in by_vote[:2]] + [0.0, 0.0]
    order = np.argsort(-found.names, kind="stable")
    name_rank = np.empty(len(order))
    name_rank[order] = np.arange(len(order))
    values = {
        name: _code(catalog.values[name], found.item.attributes.get(name)) for name in list(catalog.attributes)[:3]
    }
    for row, label in enumerate(labels):
        vote = found.votes.get(label, 0.0)
        label_words = words(readable(catalog.labels[label]))
        shared = len(title & label_words)
        line = matrix[row]
        line[0] = vote
        line[1] = vote_rank.get(label, np.nan)
        line[2] = vote - (top_votes[0] if vote < top_votes[0] else top_votes[1])
        line[3] = found.best
        line[4] = found.label_best.get(label, np.nan)
        line[5] = found.label_neighbours.get(label, 0)
        line[6] = found.names[label]
        line[7] = name_rank[label]
        line[8] = shared / max(1, len(title | label_words))
        line[9] = shared / max(1, len(label_words))
        line[10] = np.log(counts.prior[label])
        for slot, (name, value) in enumerate(values.items()):
            if value >= 0:
                line[11 + slot] = counts.share(name, value, label)
        line[14] = agreement.get(label, 0.0)
        line[15] = float(llm is not None)
        if llm is not None and label in llm.labels:
            rank = llm.labels.index(label)
            line[16] = rank
            line[17] = llm.logprobs[rank]
    return matrix


def evidence_span(item: TagItem, label: str) -> tuple[str, int, int] | None:
    """The field and character range of the item's first word that the label's name shares; None without one."""
    import re

    wanted = words(readable(label))
    for name, text in (("title", item.title), ("text", item.text)):
        for match in re.finditer(r"[A-Za-z0-9]+", text):
            if words(match.group()) & wanted:
                return name, match.start(), match.end()
    return None


def _code(values: Sequence[str], value: str | None) -> int:
    if value is None:
        return -1
    at = int(np.searchsorted(np.asarray(values, dtype=object), value)) if values else 0
    return at if at < len(values) and values[at] == value else -1


def _grouped(
    group: npt.NDArray[np.int32], label: npt.NDArray[np.int32], groups: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Label counts by group as (starts [groups + 1], labels, counts), labels ascending within a group."""
    known = group >= 0
    # One number for each pair: sorted ten times as fast as pairs are, which counts where items arrive while serving.
    labels = int(label.max(initial=-1)) + 1
    pairs, count = np.unique(group[known].astype(np.int64) * labels + label[known], return_counts=True)
    starts = np.searchsorted(pairs, np.arange(groups + 1) * labels)
    return starts, (pairs % max(1, labels)).astype(np.int32), count.astype(np.float64)
