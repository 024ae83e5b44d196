"""What a configured model is called before, or without, loading it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from models.errors import ArtifactMismatch
from models.llm.adapter import model_id
from models.llm.config import DEFAULT_MODEL, LLMConfig
from models.llm.weights import DEFAULT_NAME


def name_of(config: LLMConfig) -> str:
    """The ``model_id`` its engine will have; without the hash while the weights are not there yet."""
    if config.engine == "openai":
        return f"{config.model}@{urlsplit(config.base_url or '').hostname or ''}"
    folder = config.weights_dir / DEFAULT_NAME if config.model == DEFAULT_MODEL else Path(config.model)
    try:
        return model_id(folder, config.adapter)
    except (ArtifactMismatch, OSError):
        return folder.name
