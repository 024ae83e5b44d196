"""Engine name to engine. A new engine is one file, one factory and one line here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from models.errors import ArtifactMismatch, EngineUnavailable, MissingExtra
from models.llm.config import LLMConfig
from models.llm.weights import local_folder
from models.ports import LLMEngine

Headers = Callable[[], Mapping[str, str]]


def create(config: LLMConfig, headers: Headers = dict) -> LLMEngine:
    """Load the engine a configuration names; blocks until it can answer (vLLM about a minute).

    ``headers``: asked at each call for what to send beside it to an endpoint, in the task that makes the call. Call it
    before serving. One engine belongs to one event loop: the loop of its first generate().
    Raises MissingExtra, ArtifactMismatch (no such weights) or EngineUnavailable (it does not start).
    """
    try:
        return ENGINES[config.engine](config, headers)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        wanted = {"vllm": "'tandem-rec[cpu]'", "peft": "'tandem-rec[lora]'"}.get(library, "'tandem-rec[serve]'")
        raise MissingExtra(f"LLM engine {config.engine!r} needs {library!r}: pip install {wanted}") from error


def _vllm(config: LLMConfig, _: Headers) -> LLMEngine:
    from models.llm.vllm_engine import VLLMEngine

    return VLLMEngine(
        local_folder(config),
        max_model_len=config.max_model_len,
        kv_cache_gib=config.kv_cache_gib,
        dtype=config.dtype,
        threads=config.threads,
        max_concurrency=config.max_concurrency,
        timeout_s=config.timeout_s,
        adapter=_adapter(config),
    )


def _transformers(config: LLMConfig, _: Headers) -> LLMEngine:
    from models.llm.transformers_engine import TransformersEngine

    return TransformersEngine(
        local_folder(config),
        max_model_len=config.max_model_len,
        dtype=config.dtype,
        threads=config.threads,
        timeout_s=config.timeout_s,
        adapter=_adapter(config),
    )


def _openai(config: LLMConfig, headers: Headers) -> LLMEngine:
    from models.llm.openai_engine import OpenAIEngine

    key = None
    if config.api_key_env is not None and not (key := os.environ.get(config.api_key_env)):
        raise EngineUnavailable(f"environment variable {config.api_key_env} is not set: put the key of the LLM in it")
    return OpenAIEngine(
        config.base_url or "",
        config.model,
        api_key=key,
        timeout_s=config.timeout_s,
        max_concurrency=config.max_concurrency,
        stream=config.stream,
        headers=headers,
    )


ENGINES: dict[str, Callable[[LLMConfig, Headers], LLMEngine]] = {
    "vllm": _vllm,
    "transformers": _transformers,
    "openai": _openai,
}


def _adapter(config: LLMConfig) -> Path | None:
    if config.adapter is not None and not (config.adapter / "adapter_config.json").is_file():
        raise ArtifactMismatch(
            f"{config.adapter} holds no LoRA adapter (no adapter_config.json): give the folder PEFT saved it to"
        )
    return config.adapter
