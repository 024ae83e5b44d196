"""The faiss index against brute force."""

from pathlib import Path

import numpy as np
import pytest

from models.embedder import MiniLMEmbedder
from models.errors import ArtifactMismatch
from models.index import FLAT_BELOW, create_index, grown, load_index
from models.ports import FloatMatrix
from tests.fakes import ExactIndex

KINDS = "organic smoked frozen spicy sweet salted vegan light fresh dried"
FOODS = (
    "cheese milk yogurt butter bread pasta rice beef chicken pork salmon tuna apple banana orange carrot onion potato "
    "tomato spinach beans soup chips cookies chocolate candy cola coffee tea juice water beer wine soap shampoo paper"
)
SIZES = "1oz 2oz 4oz 8oz 16oz 32oz 1lb 2lb 5lb 6-pack 12-pack 24-pack small large family"


def unit_rows(count: int, dimension: int = 16, seed: int = 0) -> FloatMatrix:
    rows = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def test_a_small_index_is_exact() -> None:
    vectors, queries = unit_rows(500), unit_rows(20, seed=1)
    rows, similarities = create_index(vectors).search(queries, 10)
    expected_rows, expected = ExactIndex(vectors).search(queries, 10)
    assert (rows == expected_rows).all()
    np.testing.assert_allclose(similarities, expected, atol=1e-6)
    assert rows.dtype == np.int64
    assert similarities.dtype == np.float32


def test_a_graph_finds_95_of_100_neighbours_among_real_embeddings() -> None:
    texts = [f"{kind} {food} {size}" for kind in KINDS.split() for food in FOODS.split() for size in SIZES.split()]
    vectors = MiniLMEmbedder(device="cpu").embed(texts)
    assert len(vectors) >= FLAT_BELOW
    queries = vectors[::20]
    _, similarities = create_index(vectors).search(queries, 10)
    _, expected = ExactIndex(vectors).search(queries, 10)
    hits = (similarities >= expected[:, -1:] - 1e-6).mean(axis=1)  # by similarity: a tie may go to either row
    lower = hits.mean() - 2.58 * hits.std(ddof=1) / np.sqrt(len(hits))  # 99 % confidence
    assert lower >= 0.95


@pytest.mark.parametrize("count", [0, 3])
def test_fewer_rows_than_asked_for_are_filled_with_minus_one(count: int) -> None:
    rows, similarities = create_index(unit_rows(count)).search(unit_rows(2, seed=1), 5)
    assert rows.shape == similarities.shape == (2, 5)
    assert (rows[:, count:] == -1).all()
    assert (similarities[:, count:] == -np.inf).all()
    assert all(sorted(row[:count]) == list(range(count)) for row in rows)


def test_no_queries_have_no_neighbours() -> None:
    rows, _ = create_index(unit_rows(3)).search(unit_rows(0), 2)
    assert rows.shape == (0, 2)


def test_equal_rows_are_each_found() -> None:
    vectors = np.repeat(unit_rows(1), 4, axis=0)
    rows, similarities = create_index(vectors).search(vectors[:1], 4)
    assert sorted(rows[0]) == [0, 1, 2, 3]
    np.testing.assert_allclose(similarities, 1.0, atol=1e-6)


@pytest.mark.parametrize("count", [10, FLAT_BELOW])
def test_an_added_row_is_found_at_once_and_after_saving(count: int, tmp_path: Path) -> None:
    index = create_index(unit_rows(count))
    new = unit_rows(1, seed=9)
    index.add(new)
    index.save(tmp_path / "folder" / "items.faiss")
    loaded = load_index(tmp_path / "folder" / "items.faiss")
    for each in (index, loaded):
        assert len(each) == count + 1
        assert each.search(new, 1)[0].tolist() == [[count]]
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["items.faiss"]


def test_vectors_of_another_dimension_or_with_nan_are_refused() -> None:
    index = create_index(unit_rows(3))
    with pytest.raises(ValueError, match=r"shape \(2, 8\), the index holds \[n, 16\]"):
        index.search(unit_rows(2, 8), 1)
    with pytest.raises(ValueError, match="NaN"):
        index.add(np.full((1, 16), np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match="k is 0"):
        index.search(unit_rows(1), 0)
    with pytest.raises(ValueError, match="give"):
        create_index(np.zeros(3, dtype=np.float32))


@pytest.mark.parametrize("content", [None, b"", b"not an index at all"])
def test_an_absent_or_damaged_file_is_an_artifact_mismatch(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "items.faiss"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactMismatch, match=r"items\.faiss"):
        load_index(path)


def test_a_grown_index_is_exact_and_the_one_it_grew_from_stays() -> None:
    vectors, queries = unit_rows(900), unit_rows(20, seed=1)
    base = create_index(vectors[:500])
    before = base.search(queries, 10)
    one = grown(base, vectors[500:501])
    many = grown(one, vectors[501:])
    rows, similarities = many.search(queries, 10)
    expected_rows, expected = ExactIndex(vectors).search(queries, 10)
    assert (rows == expected_rows).all()
    np.testing.assert_allclose(similarities, expected, atol=1e-6)
    again = base.search(queries, 10)
    assert (before[0] == again[0]).all()
    assert (before[1] == again[1]).all()
    assert (one.search(queries, 10)[0] == ExactIndex(vectors[:501]).search(queries, 10)[0]).all()


@pytest.mark.parametrize("count", [0, 2])
def test_a_grown_index_fills_up_with_minus_one(count: int) -> None:
    index = grown(create_index(unit_rows(count)), unit_rows(1, seed=3))
    rows, similarities = index.search(unit_rows(1, seed=3), 5)
    assert rows[0, 0] == count
    assert (rows[0, count + 1 :] == -1).all()
    assert (similarities[0, count + 1 :] == -np.inf).all()


def test_many_additions_become_a_graph_and_a_new_part_begins() -> None:
    vectors = unit_rows(FLAT_BELOW + 30)
    index = grown(create_index(vectors[:10]), vectors[10 : FLAT_BELOW + 10])
    index = grown(index, vectors[FLAT_BELOW + 10 : FLAT_BELOW + 20])
    index = grown(index, vectors[FLAT_BELOW + 20 :])
    assert [len(part) for part in index._parts] == [10, FLAT_BELOW, 20]  # type: ignore[attr-defined]
    own = [0, 9, 10, 77, FLAT_BELOW + 9, FLAT_BELOW + 10, FLAT_BELOW + 29]
    assert index.search(vectors[own], 1)[0][:, 0].tolist() == own


def test_a_grown_index_is_saved_as_one(tmp_path: Path) -> None:
    vectors, queries = unit_rows(60), unit_rows(5, seed=1)
    index = grown(grown(create_index(vectors[:20]), vectors[20:40]), vectors[40:])
    index.save(tmp_path / "index.faiss")
    loaded = load_index(tmp_path / "index.faiss")
    assert (loaded.vectors() == vectors).all()
    assert (loaded.search(queries, 7)[0] == index.search(queries, 7)[0]).all()


def test_an_index_of_another_kind_does_not_grow() -> None:
    with pytest.raises(TypeError, match="ExactIndex does not grow"):
        grown(ExactIndex(unit_rows(3)), unit_rows(1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        grown(create_index(unit_rows(3)), unit_rows(1, dimension=8)).search(unit_rows(1), 1)
