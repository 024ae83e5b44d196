"""Nearest neighbours with faiss: exact below 5,000 rows, an HNSW graph from there on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import ArtifactMismatch, MissingExtra
from models.ports import FloatMatrix

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
