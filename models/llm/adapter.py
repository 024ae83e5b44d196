"""LoRA adapters: what names one beside the weights it changes, and what vLLM must know of it beforehand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from models.errors import ArtifactMismatch
from models.llm.weights import weights_id

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's kernels are made for."""


def model_id(folder: Path, adapter: Path | None) -> str:
    """`weights_id`, and where there is an adapter ``+name@hash`` of its weights."""
    base = weights_id(folder)
    if adapter is None:
        return base
    digest = hashlib.sha256()
    for path in sorted(adapter.glob("adapter_*")):
        digest.update(path.read_bytes())
    return f"{base}+{adapter.name}@{digest.hexdigest()[:12]}"


def vllm_rank(adapter: Path) -> int:
    """The least rank vLLM can be started with for this adapter. Raises ArtifactMismatch."""
    path = adapter / "adapter_config.json"
    try:
        rank = int(json.loads(path.read_text(encoding="utf-8"))["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactMismatch(
            f"{path} names no LoRA rank 'r' ({error!r}): save the adapter with PEFT again"
        ) from error
    for possible in _RANKS:
        if rank <= possible:
            return possible
    raise ArtifactMismatch(f"{path} has rank {rank}, vLLM's largest is {_RANKS[-1]}: train the adapter with less")
