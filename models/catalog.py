"""The catalog as vectors and counts: texts, labels, and how they go together.

Items of one text share one vector: 91,698 products of The Complete Journey have 4,394 texts once sizes are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from models import artifacts
from models.meanings import Meaning, meanings_of, stems_of, text_of, vectors_of
from models.ports import Embedder, FloatMatrix, VectorIndex
from models.several import Several
from models.text import embedding_text
from models.vocabulary import Vocabulary

KIND = "catalog"
_BATCH = 2_048
_DETERMINES = 0.9
"""From here on an attribute names the label, or the label it (see `predicts`): a relative, no evidence."""


@dataclass(frozen=True, slots=True, eq=False)
class Catalog:
    """n items, D distinct texts, L labels.

    ``texts`` [D] with unit ``vectors`` [D, d] behind ``index``; ``text_of_row`` int32 [n]. ``labels`` [L] with
    ``label_vectors`` [L, d]; ``label_of_row`` int32 [n], -1 where an item has none. ``attributes``: the columns whose
    values count as evidence for a label, with each row's code (int32 [n], -1 absent) and the values by code.
    ``numbers``: of the texts, by text; ``names``: of the labels whose vector is of words alone, by these words.

    With a vocabulary labels are the column's values, then its entries that no item carried in training; ``meanings``
    are what it says of them, by label, and ``source`` is its name. ``stems``: the words of each name of a label, by
    code.

    ``several``: who has which label where an item may have several (see `models.labelset`); ``label_of_row`` says
    nothing then. None where labels are the label column's, one an item.
    """

    texts: tuple[str, ...]
    vectors: FloatMatrix
    index: VectorIndex
    text_of_row: npt.NDArray[np.int32]
    rows_by_text: npt.NDArray[np.int64]
    text_starts: npt.NDArray[np.int64]
    labels: tuple[str, ...]
    label_vectors: FloatMatrix
    label_of_row: npt.NDArray[np.int32]
    attributes: Mapping[str, npt.NDArray[np.int32]]
    values: Mapping[str, tuple[str, ...]]
    numbers: Mapping[str, int]
    names: Mapping[str, int]
    stems: tuple[tuple[frozenset[str], ...], ...] = ()
    meanings: Mapping[str, Meaning] = field(default_factory=dict)
    source: str = ""
    several: Several | None = None

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Of which items [n] it is known what they are labelled."""
        return self.several.stated if self.several is not None else np.asarray(self.label_of_row >= 0)

    def labels_of(self, row: int) -> frozenset[int]:
        """The labels of an item; none also where nobody knows them."""
        if self.several is not None:
            return frozenset(self.several.of_row(row).tolist())
        label = int(self.label_of_row[row])
        return frozenset((label,)) if label >= 0 else frozenset()

    def labels_at(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """(row, label) of every label of these labelled items [m]."""
        return self.several.pairs(rows) if self.several is not None else (rows, self.label_of_row[rows])

    @property
    def carried(self) -> npt.NDArray[np.bool_]:
        """Whether an item has the label [L]."""
        return _carried(self)

    @property
    def wider(self) -> list[tuple[str, str]]:
        """Labels and wider ones, as the vocabulary says."""
        return [(label, parent) for label, meaning in self.meanings.items() for parent in meaning.parents]

    def rows(self, text: int) -> npt.NDArray[np.int64]:
        """Rows of the items that have this text."""
        return self.rows_by_text[self.text_starts[text] : self.text_starts[text + 1]]

    def number_of(self, text: str) -> int | None:
        """Which text this is; None for one that no item has."""
        return self.numbers.get(text)

    def vector_of(self, text: str) -> FloatMatrix | None:
        """The vector [d] that training gave a text of the catalog or a label's words; None for other words.

        The mere name of a label that a vocabulary says more of is such other words: its vector is of all that is said.

        A vector made anew lies a little apart where another kind of processor makes it (see MiniLMEmbedder).
        """
        if (number := self.numbers.get(text)) is not None:
            return np.asarray(self.vectors[number])
        if (label := self.names.get(text.lower())) is not None:
            return np.asarray(self.label_vectors[label])
        return None

    @staticmethod
    def build(
        items: pl.DataFrame,
        label_column: str | None,
        categorical: Sequence[str],
        embedder: Embedder,
        make_index: Callable[[FloatMatrix], VectorIndex],
        progress: Callable[[float], None] = lambda _: None,
        vocabulary: Vocabulary | None = None,
    ) -> Catalog:
        """Embed every distinct text and label of ``items`` (columns item_id, title, text and attributes).

        ``vocabulary``: what is known of the labels beside their names. Raises InvalidVocabulary as `meanings_of` does.
        """
        full = [embedding_text(title, text) for title, text in items.select("title", "text").iter_rows()]
        texts = tuple(sorted(set(full)))
        code = {text: number for number, text in enumerate(texts)}
        parts = []
        for start in range(0, len(texts), _BATCH):
            parts.append(embedder.embed(texts[start : start + _BATCH]))
            progress(min(1.0, (start + _BATCH) / len(texts)))
        vectors = np.concatenate(parts) if parts else np.empty((0, embedder.dimension), np.float32)
        labels, label_of_row = (
            codes_of(items[label_column]) if label_column else ((), np.full(len(items), -1, np.int32))
        )
        meanings: dict[str, Meaning] = {}
        if vocabulary is not None:
            own = {embedding_text(title, None).lower() for title in items["title"].unique().to_list()}
            meanings = meanings_of(vocabulary, labels, own.union(text.lower() for text in texts))
            labels = tuple(dict.fromkeys([*labels, *meanings]))
        label_vectors = (
            vectors_of(labels, meanings, embedder) if labels else np.empty((0, embedder.dimension), np.float32)
        )
        coded = {name: codes_of(items[name]) for name in categorical if name != label_column}
        evidence = {name: value for name, value in coded.items() if is_evidence(value[1], label_of_row)}
        return _assemble(
            texts,
            vectors,
            make_index(vectors),
            np.array([code[text] for text in full], np.int32),
            labels,
            label_vectors,
            label_of_row,
            {name: rows for name, (_, rows) in evidence.items()},
            {name: values for name, (values, _) in evidence.items()},
            named(labels, meanings),
            stems_of(labels, meanings),
            meanings,
            vocabulary.name if vocabulary is not None else "",
        )

    def with_items(
        self,
        rows: npt.NDArray[np.int64],
        items: pl.DataFrame,
        label_column: str | None,
        embed: Callable[[Sequence[str]], FloatMatrix],
        grow: Callable[[VectorIndex, FloatMatrix], VectorIndex],
    ) -> Catalog:
        """The catalog with other or further items: ``rows`` [m] below n are replaced, those from n on follow without a
        gap; ``items`` [m] has the columns ``build`` was given.

        Texts nobody had are embedded and numbered behind the known ones. Labels and attribute values stay those of
        training, which models know: another one counts as absent. The catalog itself is not changed.
        """
        full = [embedding_text(title, text) for title, text in items.select("title", "text").iter_rows()]
        fresh = list(dict.fromkeys(text for text in full if text not in self.numbers))
        code = {**self.numbers, **{text: len(self.texts) + number for number, text in enumerate(fresh)}}
        vectors, index = self.vectors, self.index
        if fresh:
            added = embed(fresh)
            vectors, index = np.concatenate((vectors, added)), grow(index, added)
        label = known_codes(items[label_column], self.labels) if label_column else np.full(len(rows), -1, np.int32)
        return _assemble(
            (*self.texts, *fresh),
            vectors,
            index,
            placed(self.text_of_row, rows, np.array([code[text] for text in full], np.int32)),
            self.labels,
            self.label_vectors,
            placed(self.label_of_row, rows, label),
            {
                name: placed(codes, rows, known_codes(items[name], self.values[name]))
                for name, codes in self.attributes.items()
            },
            self.values,
            self.names,
            self.stems,
            self.meanings,
            self.source,
        )

    def save(self, folder: Path, facts: Mapping[str, object]) -> None:
        def write(where: Path) -> None:
            self.index.save(where / "texts.faiss")
            np.save(where / "vectors.npy", self.vectors, allow_pickle=False)
            np.save(where / "text_of_row.npy", self.text_of_row, allow_pickle=False)
            np.save(where / "label_vectors.npy", self.label_vectors, allow_pickle=False)
            np.save(where / "label_of_row.npy", self.label_of_row, allow_pickle=False)
            for number, codes in enumerate(self.attributes.values()):
                np.save(where / f"attribute_{number}.npy", codes, allow_pickle=False)
            names: dict[str, object] = {"texts": self.texts, "labels": self.labels, "values": dict(self.values)}
            if self.meanings:
                rows = {label: meaning.to_row() for label, meaning in self.meanings.items()}
                names["vocabulary"] = {"name": self.source, "labels": rows}
            (where / "names.json").write_text(json.dumps(names))

        artifacts.save(folder, KIND, facts, write)

    @staticmethod
    def load(folder: Path, load_index: Callable[[Path], VectorIndex]) -> Catalog:
        """Raises ArtifactMismatch where files are damaged."""
        artifacts.load(folder, KIND)
        names = json.loads((folder / "names.json").read_text())

        told = names.get("vocabulary", {"name": "", "labels": {}})
        labels = tuple(names["labels"])
        meanings = {label: Meaning.from_row(row) for label, row in told["labels"].items()}

        def array(name: str) -> npt.NDArray[np.int32]:
            return np.asarray(np.load(folder / f"{name}.npy", allow_pickle=False))

        return _assemble(
            tuple(names["texts"]),
            np.load(folder / "vectors.npy", allow_pickle=False),
            load_index(folder / "texts.faiss"),
            array("text_of_row"),
            labels,
            np.load(folder / "label_vectors.npy", allow_pickle=False),
            array("label_of_row"),
            {name: array(f"attribute_{number}") for number, name in enumerate(names["values"])},
            {name: tuple(values) for name, values in names["values"].items()},
            named(labels, meanings),
            stems_of(labels, meanings),
            meanings,
            told["name"],
        )


@lru_cache(maxsize=4)  # of the catalog that is served and its label sets: requests ask, and rows are many
def _carried(catalog: Catalog) -> npt.NDArray[np.bool_]:
    _, known = catalog.labels_at(np.flatnonzero(catalog.labelled))
    return np.asarray(np.bincount(known, minlength=len(catalog.labels)) > 0)


def _assemble(
    texts: tuple[str, ...],
    vectors: FloatMatrix,
    index: VectorIndex,
    text_of_row: npt.NDArray[np.int32],
    labels: tuple[str, ...],
    label_vectors: FloatMatrix,
    label_of_row: npt.NDArray[np.int32],
    attributes: Mapping[str, npt.NDArray[np.int32]],
    values: Mapping[str, tuple[str, ...]],
    names: Mapping[str, int],
    stems: tuple[tuple[frozenset[str], ...], ...],
    meanings: Mapping[str, Meaning],
    source: str,
) -> Catalog:
    order = np.argsort(text_of_row, kind="stable")
    starts = np.searchsorted(text_of_row[order], np.arange(len(texts) + 1))
    return Catalog(
        texts,
        vectors,
        index,
        text_of_row,
        order,
        starts,
        labels,
        label_vectors,
        label_of_row,
        attributes,
        values,
        {text: number for number, text in enumerate(texts)},
        names,
        stems,
        meanings,
        source,
    )


def named(labels: Sequence[str], meanings: Mapping[str, Meaning]) -> dict[str, int]:
    """Labels whose vector is the embedding of these very words: those with examples are of more."""
    return {
        text_of(label, meaning): number
        for number, label in enumerate(labels)
        if (meaning := meanings.get(label)) is None or not meaning.examples
    }


def codes_of(column: pl.Series) -> tuple[tuple[str, ...], npt.NDArray[np.int32]]:
    text = column.cast(pl.String)
    names = tuple(sorted(text.drop_nulls().unique().to_list()))
    codes = text.replace_strict({name: number for number, name in enumerate(names)}, return_dtype=pl.Int32, default=-1)
    return names, codes.fill_null(-1).to_numpy()


def known_codes(column: pl.Series, values: Sequence[str]) -> npt.NDArray[np.int32]:
    """Codes of a column's values among those known, -1 for others."""
    code = {value: number for number, value in enumerate(values)}
    return np.array([code.get(value, -1) for value in column.cast(pl.String).to_list()], np.int32)


def placed(
    codes: npt.NDArray[np.int32], rows: npt.NDArray[np.int64], new: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    longer = np.full(max(len(codes), int(rows.max(initial=-1)) + 1), -1, np.int32)
    longer[: len(codes)] = codes
    longer[rows] = new
    return longer


def is_evidence(attribute: npt.NDArray[np.int32], label: npt.NDArray[np.int32]) -> bool:
    """Whether an attribute says something of the label without being its parent (department) or its twin (type)."""
    both = (attribute >= 0) & (label >= 0)
    if not both.any():
        return False
    return max(predicts(attribute[both], label[both]), predicts(label[both], attribute[both])) < _DETERMINES


def predicts(given: npt.NDArray[np.int32], of: npt.NDArray[np.int32]) -> float:
    """How well ``given`` names ``of``: Goodman and Kruskal's lambda, 0 no better than the commonest value, 1 always.

    A plain share of hits would take a brand that most products have for the parent of every category.
    """
    labels = int(of.max()) + 1
    pairs, count = np.unique(given.astype(np.int64) * labels + of, return_counts=True)
    best = np.zeros(int(given.max()) + 1)
    np.maximum.at(best, pairs // labels, count)
    commonest = int(np.bincount(of).max())
    if commonest == len(of):
        return 1.0
    return float((best.sum() - commonest) / (len(of) - commonest))
