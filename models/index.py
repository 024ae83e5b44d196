"""Nearest neighbours with faiss: exact below 5,000 rows, an HNSW graph from there on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import ArtifactMismatch, MissingExtra
from models.ports import FloatMatrix, VectorIndex

FLAT_BELOW = 5_000
"""Rows under which comparing with every one is as fast as a graph, and exact."""

_LINKS, _EF_CONSTRUCTION, _EF_SEARCH = 32, 200, 128


class FaissIndex:
    """Rows are numbered from 0 in the order they were added. Searching from several threads is safe, but not while
    another adds."""

    def __init__(self, index: Any) -> None:
        self._index = index

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        return int(self._index.d)

    def search(self, queries: FloatMatrix, k: int) -> tuple[npt.NDArray[np.int64], FloatMatrix]:
        """See VectorIndex. Where a row is -1, its similarity is -inf. Raises ValueError for another dimension."""
        queries = self._checked(queries)
        if k < 1:
            raise ValueError(f"k is {k}: ask for at least 1 neighbour")
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        similarities = np.full((len(queries), k), -np.inf, dtype=np.float32)
        if (found := min(k, len(self))) and len(queries):
            similarities[:, :found], rows[:, :found] = self._index.search(
                queries, found, params=self._parameters(found)
            )
        similarities[rows < 0] = -np.inf
        return rows, similarities

    def vectors(self) -> FloatMatrix:
        """The rows as they were added [n, dimension]."""
        return np.asarray(self._index.reconstruct_n(0, len(self)), np.float32).reshape(len(self), self.dimension)

    def add(self, rows: FloatMatrix) -> None:
        """Append rows; they are found at once. An index made flat stays flat. Raises ValueError."""
        rows = self._checked(rows)
        _use_threads(len(rows))
        self._index.add(rows)

    def save(self, path: Path) -> None:
        """Write faiss's own format (no pickle) in one step."""
        faiss = _faiss()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        faiss.write_index(self._index, str(temporary))
        temporary.replace(path)

    def _parameters(self, k: int) -> Any:
        faiss = _faiss()
        if isinstance(self._index, faiss.IndexHNSW):
            return faiss.SearchParametersHNSW(efSearch=max(_EF_SEARCH, 2 * k))
        return None

    def _checked(self, rows: FloatMatrix) -> FloatMatrix:
        if rows.ndim != 2 or rows.shape[1] != self.dimension:
            raise ValueError(
                f"vectors have shape {rows.shape}, the index holds [n, {self.dimension}]: use its embedder"
            )
        if not np.isfinite(rows).all():
            raise ValueError("vectors hold NaN or infinity: embed them again")
        return np.ascontiguousarray(rows, dtype=np.float32)


class GrowingIndex:
    """An index with rows added behind it, immutable: ``extended`` answers a new one, searches of the old go on.

    Parts behind the first are searched exactly until one holds FLAT_BELOW rows; then it is a graph and a new part is
    begun, so that neither a search nor an addition grows with all that was ever added.
    """

    def __init__(self, parts: Sequence[FaissIndex]) -> None:
        self._parts = tuple(parts)

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def search(self, queries: FloatMatrix, k: int) -> tuple[npt.NDArray[np.int64], FloatMatrix]:
        """See VectorIndex; of equally near rows the earlier comes first."""
        rows, similarities, start = [], [], 0
        for part in self._parts:
            found, near = part.search(queries, k)
            rows.append(np.where(found >= 0, found + start, -1))
            similarities.append(near)
            start += len(part)
        all_rows, all_near = np.concatenate(rows, axis=1), np.concatenate(similarities, axis=1)
        best = np.argsort(-all_near, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(all_rows, best, axis=1), np.take_along_axis(all_near, best, axis=1)

    def extended(self, vectors: FloatMatrix) -> GrowingIndex:
        """This index with rows behind its own, which keep their numbers. Raises ValueError for another dimension."""
        *sealed, last = self._parts
        if sealed and len(last) < FLAT_BELOW:
            return GrowingIndex([*sealed, create_index(np.concatenate((last.vectors(), vectors)))])
        return GrowingIndex([*self._parts, create_index(vectors)])

    def save(self, path: Path) -> None:
        """Write all parts as one index, as `load_index` reads it."""
        create_index(np.concatenate([part.vectors() for part in self._parts])).save(path)


def grown(index: VectorIndex, vectors: FloatMatrix) -> VectorIndex:
    """``index`` (from `create_index`, `load_index` or here) with rows behind its own; ``index`` stays as it is."""
    if not isinstance(index, (FaissIndex, GrowingIndex)):
        raise TypeError(f"an index of class {type(index).__name__} does not grow: use one of models.index")
    return (GrowingIndex([index]) if isinstance(index, FaissIndex) else index).extended(vectors)


def create_index(vectors: FloatMatrix) -> FaissIndex:
    """An index over unit rows [n, dimension]; n may be 0. Building a graph of 92,000 rows takes about a minute.

    HNSW: Malkov and Yashunin, https://arxiv.org/abs/1603.09320. Raises ValueError for an array that is not 2-D.
    """
    faiss = _faiss()
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise ValueError(f"vectors have shape {vectors.shape}: give [n, dimension]")
    dimension = vectors.shape[1]
    if len(vectors) < FLAT_BELOW:
        inner = faiss.IndexFlatIP(dimension)
    else:
        inner = faiss.IndexHNSWFlat(dimension, _LINKS, faiss.METRIC_INNER_PRODUCT)
        inner.hnsw.efConstruction = _EF_CONSTRUCTION
    index = FaissIndex(inner)
    index.add(vectors)
    return index


def load_index(path: Path) -> FaissIndex:
    """Read what FaissIndex.save wrote. Raises ArtifactMismatch where it is absent or damaged."""
    faiss = _faiss()
    try:
        return FaissIndex(faiss.read_index(str(path)))
    except RuntimeError as error:
        raise ArtifactMismatch(f"index {path} cannot be read ({str(error).splitlines()[-1]}): build it again") from None


def _use_threads(rows: int) -> None:
    """One for a single row: waking a team of threads costs more than the search. OpenMP keeps it per calling thread."""
    _faiss().omp_set_num_threads(1 if rows == 1 else len(os.sched_getaffinity(0)))


def _faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise MissingExtra("the vector index needs faiss: pip install 'tandem-rec[cpu]'") from error
    return faiss
