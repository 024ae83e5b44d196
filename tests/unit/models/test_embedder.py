"""all-MiniLM-L6-v2 on the weights that come with its package."""

import numpy as np
import pytest

from models.embedder import MiniLMEmbedder
from models.ports import Embedder


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return MiniLMEmbedder(device="cpu")


def test_rows_are_unit_vectors_in_the_order_of_the_texts(embedder: Embedder) -> None:
    texts = ["a much longer text about aged cheddar cheese from a farm", "", "milk", "dairy " * 400]
    vectors = embedder.embed(texts)
    assert vectors.shape == (4, embedder.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    for text, vector in zip(texts, vectors):
        np.testing.assert_allclose(embedder.embed([text])[0], vector, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("cat", "kitten", "car"),
        ("cheddar cheese", "gouda", "shampoo"),
        ("How big is London", "London has 9,787,426 inhabitants", "I like trains"),
    ],
)
def test_related_texts_are_nearer(embedder: Embedder, text: str, near: str, far: str) -> None:
    a, b, c = embedder.embed([text, near, far])
    assert a @ b > a @ c


def test_no_texts_give_no_rows(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, 384)


def test_text_beyond_256_tokens_is_cut(embedder: Embedder) -> None:
    a, b = embedder.embed(["milk " * 300, "milk " * 300 + "car"])
    np.testing.assert_allclose(a, b, atol=1e-5)
