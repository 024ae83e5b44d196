"""Items for somebody described in words: who proposes them and what speaks for each. Shared by training and serving."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from models.catalog import Catalog
from models.errors import ArtifactMismatch
from models.neutral import neutralize
from models.ports import Embedder, FloatMatrix, LLMRequest
from models.prompts import Prompt
from models.tagging import LLMTags, choice_schema
from models.text import readable

LLM_CHOICES: Final = 24
"""Categories shown to the LLM."""
LLM_LABELS: Final = 6
LABELS: Final = 16
"""Categories whose items become candidates."""
TEXTS: Final = 24
"""Nearest texts per phrase whose items become candidates."""
PER_LABEL: Final = 12
PER_TEXT: Final = 3
POPULAR: Final = 60
MOST_PHRASES: Final = 8

COLD_COLUMNS: Final = (
    "text_similarity",
    "label_similarity",
    "profile_similarity",
    "item_log_users",
    "item_share_of_label",
    "item_recent_share",
    "item_reorder",
    "label_log_users",
    "label_lift_with_proposed",
    "graph_serves_want",
    "label_rank",
    "llm_answered",
    "llm_rank",
    "llm_logprob",
)
"""Evidence that one item suits a person described in words. Similarities are cosines, shares of users or events."""

MONOTONE: Final = {"text_similarity": 1, "label_similarity": 1, "item_log_users": 1, "graph_serves_want": 1}

_SPLIT = re.compile(r"[,;.\n]|\band\b|\bbut\b|\bwho\b|\bwith\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What the catalog's users bought, by item and label; from events before a cut, so that training cannot peek.

    ``item_users`` [n] distinct users, ``item_recent`` [n] events of the last 28 days, ``reorder`` [n] repeat share,
    ``label_users`` [L] distinct users, ``lift`` [L, L]: how much likelier users of one label are to use the other.
    ``best_in_label``: per label its rows by users, best first; ``popular``: rows by recent events.
    """

    users: int
    item_users: npt.NDArray[np.float64]
    item_recent: npt.NDArray[np.float64]
    reorder: npt.NDArray[np.float64]
    label_users: npt.NDArray[np.float64]
    lift: npt.NDArray[np.float32]
    best_in_label: tuple[npt.NDArray[np.int64], ...]
    popular: npt.NDArray[np.int64]

    def save(self, path: Path) -> None:
        """Write an ``.npz``; what follows from the arrays is derived again by ``load``."""
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                users=np.array(self.users),
                item_users=self.item_users,
                item_recent=self.item_recent,
                reorder=self.reorder,
                label_users=self.label_users,
                lift=self.lift,
            )

    @staticmethod
    def load(path: Path, catalog: Catalog) -> Demand:
        """Raises ArtifactMismatch where the file is missing, damaged, or of another catalog."""
        try:
            with np.load(path, allow_pickle=False) as saved:
                arrays = {name: saved[name] for name in saved.files}
            demand = Demand._derive(
                catalog,
                int(arrays["users"]),
                arrays["item_users"],
                arrays["item_recent"],
                arrays["reorder"],
                arrays["label_users"],
                arrays["lift"],
            )
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise ArtifactMismatch(f"{path} is no demand table of this catalog ({error}). Run: tandem train") from error
        return demand

    @staticmethod
    def build(
        catalog: Catalog,
        user: npt.NDArray[np.int64],
        row: npt.NDArray[np.int64],
        month: npt.NDArray[np.float32],
        reorder: npt.NDArray[np.float32],
    ) -> Demand:
        """``user``, ``row``: events [e] (rows known). ``month``, ``reorder`` [n]: item statistics at the cut."""
        n, labels = len(catalog.text_of_row), len(catalog.labels)
        # Sorted, not np.unique: that hashes, and takes fifty times as long.
        events = np.sort(user * n + row)
        item_users = np.bincount(events[np.diff(events, prepend=-1) != 0] % max(1, n), minlength=n).astype(np.float64)
        distinct = int(np.count_nonzero(np.bincount(user)))
        uses = np.zeros((int(user.max(initial=0)) + 1, labels), np.float32)
        label = catalog.label_of_row[row]
        known = label >= 0
        uses[user[known], label[known]] = 1.0
        label_users = uses.sum(axis=0).astype(np.float64)
        expected = np.outer(label_users, label_users) / max(1, distinct)
        lift = ((uses.T @ uses) + 1.0) / (expected + 1.0)
        return Demand._derive(
            catalog,
            distinct,
            item_users,
            np.nan_to_num(month.astype(np.float64)),
            np.nan_to_num(reorder.astype(np.float64)),
            label_users,
            lift.astype(np.float32),
        )

    def of(self, catalog: Catalog) -> Demand:
        """This demand for a catalog whose items changed or became more: nobody has bought what came since."""

        def longer(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            return np.concatenate((values, np.zeros(len(catalog.text_of_row) - len(values))))

        return Demand._derive(
            catalog,
            self.users,
            longer(self.item_users),
            longer(self.item_recent),
            longer(self.reorder),
            self.label_users,
            self.lift,
        )

    @staticmethod
    def _derive(
        catalog: Catalog,
        users: int,
        item_users: npt.NDArray[np.float64],
        item_recent: npt.NDArray[np.float64],
        reorder: npt.NDArray[np.float64],
        label_users: npt.NDArray[np.float64],
        lift: npt.NDArray[np.float32],
    ) -> Demand:
        n = len(item_users)
        order = np.lexsort((np.arange(n), -item_users))
        by_label = order[np.argsort(catalog.label_of_row[order], kind="stable")]
        starts = np.searchsorted(catalog.label_of_row[by_label], np.arange(len(catalog.labels) + 1))
        return Demand(
            users=users,
            item_users=item_users,
            item_recent=item_recent,
            reorder=reorder,
            label_users=label_users,
            lift=lift,
            best_in_label=tuple(by_label[a:b][:200] for a, b in pairwise(starts.tolist())),
            popular=np.lexsort((np.arange(n), -item_recent))[:300],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """A person in words as the index sees it: phrases, vectors [phrases + 1, d] (the last is the whole text)."""

    text: str
    phrases: tuple[str, ...]
    vectors: FloatMatrix
    label_similarity: npt.NDArray[np.float64]
    label_order: tuple[int, ...]
    texts: Mapping[int, float]


def phrases(text: str) -> tuple[str, ...]:
    """The description's parts, each a thought of its own: one vector for all of them would blur them."""
    parts = [part.strip() for part in _SPLIT.split(text)]
    return tuple(dict.fromkeys(part for part in parts if len(part) > 2))[:MOST_PHRASES] or (text.strip(),)


def spoken(text: str, wants: Sequence[str] = ()) -> tuple[str, ...]:
    """What `describe` embeds: the phrases, then the whole text."""
    return (*dict.fromkeys([*phrases(text), *(readable(want.replace("_", " ")) for want in wants)]), text)


def describe(catalog: Catalog, embedder: Embedder, text: str, wants: Sequence[str] = ()) -> Described:
    """Embed a description and find the labels and texts nearest to any of its phrases.

    ``wants``: properties the graph derived ("mexican", "baby"); each is searched like a phrase.
    """
    *parts, _ = embedded = spoken(text, wants)
    vectors = embedder.embed(embedded)
    similarity = np.asarray(catalog.label_vectors @ vectors[:-1].T, np.float64)
    # A phrase that is near everything ("two adults") should not decide: what counts is how much nearer than usual.
    centred = similarity - similarity.mean(axis=0) if len(similarity) else similarity
    best = centred.max(axis=1) if len(centred) else np.zeros(0)
    # Labels of a vocabulary that nothing is sold under have nothing to show.
    order = np.lexsort((np.arange(len(best)), -best, ~catalog.carried))
    found, near = catalog.index.search(vectors[:-1], min(TEXTS, len(catalog.texts)))
    texts: dict[int, float] = {}
    for some, similarities in zip(found, near):
        for number, value in zip(some.tolist(), similarities.tolist()):
            if number >= 0:
                texts[number] = max(texts.get(number, -1.0), value)
    raw = similarity.max(axis=1) if len(similarity) else np.zeros(0)
    return Described(text, tuple(parts), vectors, raw, tuple(int(label) for label in order), texts)


def told(described: Described) -> str:
    """What a person said, as it stands in the prompt."""
    return neutralize(described.text)[:1_000]


def prompt(
    template: Prompt, catalog: Catalog, described: Described, banned: frozenset[int] = frozenset()
) -> LLMRequest | None:
    """The request that lets an LLM choose categories; ``banned`` labels (a hard rule forbids them) are not offered."""
    choices = [catalog.labels[label] for label in described.label_order if label not in banned][:LLM_CHOICES]
    if not choices:
        return None
    return template.request(
        {"profile": told(described), "choices": "\n".join(f"- {choice}" for choice in choices)},
        schema=choice_schema("categories", choices, LLM_LABELS),
    )


@dataclass(frozen=True, slots=True, eq=False)
class ColdCandidates:
    """Distinct rows [n]; which of them each source proposed, as boolean masks [n]."""

    rows: npt.NDArray[np.int64]
    by_llm: npt.NDArray[np.bool_]
    by_index: npt.NDArray[np.bool_]
    by_graph: npt.NDArray[np.bool_]
    by_popularity: npt.NDArray[np.bool_]


def candidates(
    catalog: Catalog, demand: Demand, described: Described, llm: LLMTags | None, graph_labels: Sequence[int]
) -> ColdCandidates:
    """Well-bought items of the labels the LLM, the graph and the index propose, items of near texts, popular items."""

    def of_labels(labels: Sequence[int]) -> npt.NDArray[np.int64]:
        parts = [demand.best_in_label[label][:PER_LABEL] for label in labels]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    from_llm = of_labels(llm.labels if llm else ())
    from_graph = of_labels(graph_labels[:LABELS])
    near = []
    for text in described.texts:
        rows = catalog.rows(text)
        near.append(rows[np.lexsort((rows, -demand.item_users[rows]))][:PER_TEXT])
    from_index = np.concatenate([of_labels(described.label_order[:LABELS]), *near])
    popular = demand.popular[:POPULAR]
    rows = np.unique(np.concatenate((from_llm, from_graph, from_index, popular)))
    return ColdCandidates(
        rows,
        np.isin(rows, from_llm),
        np.isin(rows, from_index),
        np.isin(rows, from_graph),
        np.isin(rows, popular),
    )


def evidence(
    catalog: Catalog,
    demand: Demand,
    described: Described,
    rows: npt.NDArray[np.int64],
    llm: LLMTags | None,
    serves: npt.NDArray[np.bool_],
) -> FloatMatrix:
    """Matrix [len(rows), len(COLD_COLUMNS)]. ``serves`` [len(rows)]: the graph derived that the item serves a want."""
    matrix = np.full((len(rows), len(COLD_COLUMNS)), np.nan, np.float32)
    vectors = catalog.vectors[catalog.text_of_row[rows]]
    near = vectors @ described.vectors.T
    label = catalog.label_of_row[rows]
    known = label >= 0
    at = np.where(known, label, 0)
    matrix[:, 0] = near[:, :-1].max(axis=1) if len(rows) else 0
    matrix[:, 2] = near[:, -1]
    matrix[:, 3] = np.log1p(demand.item_users[rows])
    matrix[:, 6] = demand.reorder[rows]
    if len(catalog.labels):
        label_users = demand.label_users[at]
        matrix[:, 1] = np.where(known, described.label_similarity[at], np.nan)
        matrix[:, 4] = np.where(known, demand.item_users[rows] / np.maximum(1.0, label_users), np.nan)
        matrix[:, 7] = np.where(known, np.log1p(label_users), np.nan)
        proposed = list(llm.labels) if llm else list(described.label_order[:LLM_LABELS])
        if proposed:
            matrix[:, 8] = np.where(known, np.log(demand.lift[at][:, proposed]).mean(axis=1), np.nan)
        rank = np.empty(len(catalog.labels))
        rank[list(described.label_order)] = np.arange(len(catalog.labels))
        matrix[:, 10] = np.where(known, rank[at], np.nan)
    matrix[:, 5] = demand.item_recent[rows] / max(1.0, float(demand.item_recent.sum()))
    matrix[:, 9] = serves
    matrix[:, 11] = float(llm is not None)
    if llm is not None:
        for place, (code, logprob) in enumerate(zip(llm.labels, llm.logprobs)):
            chosen = label == code
            matrix[chosen, 12] = place
            matrix[chosen, 13] = logprob
    return matrix


PERSONAL = ("text_similarity", "label_similarity", "profile_similarity", "label_lift_with_proposed")
"""Columns that depend on the words: a stranger without words has their usual values."""


def neutral(matrix: FloatMatrix, usual: Mapping[str, float]) -> FloatMatrix:
    """The same items for a person of whom nothing is known: their words are replaced by the usual ones."""
    plain = matrix.copy()
    for name, value in usual.items():
        column = COLD_COLUMNS.index(name)
        plain[:, column] = np.where(np.isnan(plain[:, column]), np.nan, value)
    plain[:, COLD_COLUMNS.index("graph_serves_want")] = 0.0
    for name in ("llm_rank", "llm_logprob"):
        plain[:, COLD_COLUMNS.index(name)] = np.nan
    rank = COLD_COLUMNS.index("label_rank")
    plain[:, rank] = np.where(np.isnan(plain[:, rank]), np.nan, usual.get("label_rank", np.nan))
    return plain


def usual_values(matrix: FloatMatrix) -> dict[str, float]:
    """Medians of the personal columns over training candidates, for `neutral`."""
    if not len(matrix):
        return {}
    columns = {name: matrix[:, COLD_COLUMNS.index(name)] for name in (*PERSONAL, "label_rank")}
    # A catalog without labels knows none of theirs.
    told = {name: column[~np.isnan(column)] for name, column in columns.items()}
    return {name: float(np.median(column)) if len(column) else float("nan") for name, column in told.items()}


def order_for_person(
    probability: npt.NDArray[np.float64],
    plain: npt.NDArray[np.float64],
    rows: npt.NDArray[np.int64],
    label: npt.NDArray[np.int32],
    k: int,
    share: float,
    wants: Sequence[npt.NDArray[np.bool_]],
) -> npt.NDArray[np.int64]:
    """Positions of the ``k`` items to show: what was asked for, what the words speak for, what is likeliest.

    Ordered by probability alone everybody gets milk and bananas: true, and of no use. ``wants`` [each n]: items that
    serve a want the graph derived from the words; each want gets its likeliest items, together at most half the list.
    Then a ``share`` of the list goes to items whose probability the words raise most over ``plain`` (the probability
    for a stranger without words), the rest to what is likeliest.
    """
    likely = np.lexsort((rows, -probability))
    chosen = np.empty(0, np.int64)
    if wants:
        each = max(1, k // (2 * len(wants)))
        for serves in wants[: max(1, k // 2)]:
            fresh = likely[serves[likely] & ~np.isin(likely, chosen)]
            chosen = np.concatenate((chosen, diversify(fresh, label, min(each, k - len(chosen)))))
    gain = probability - plain
    personal = np.lexsort((rows, -gain))
    personal = personal[(gain[personal] > 0) & ~np.isin(personal, chosen)]
    chosen = np.concatenate((chosen, diversify(personal, label, min(round(k * share), k - len(chosen)))))
    rest = diversify(likely[~np.isin(likely, chosen)], label, k - len(chosen))
    return np.concatenate((chosen, rest))


def diversify(
    order: npt.NDArray[np.int64], label: npt.NDArray[np.int32], k: int, per_label: int = 2
) -> npt.NDArray[np.int64]:
    """The first ``k`` of ``order`` with at most ``per_label`` of one label; the rest fills up where labels run out."""
    seen: dict[int, int] = {}
    first: list[int] = []
    later: list[int] = []
    for position in order.tolist():
        code = int(label[position])
        if code >= 0 and seen.get(code, 0) >= per_label:
            later.append(position)
            continue
        seen[code] = seen.get(code, 0) + 1
        first.append(position)
    return np.array([*first, *later][:k], np.int64)
