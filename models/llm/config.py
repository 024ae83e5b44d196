"""Which language model answers and with what resources."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

DEFAULT_MODEL = "default"


class LLMConfig(BaseModel):
    """Configuration of one engine; an unknown key is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["vllm", "transformers", "openai"] = "vllm"
    """Who runs the model: `vllm` (a child process, batched), `transformers` (this process, one request at a time), or
    any HTTP endpoint that speaks OpenAI's chat completions (`openai`)."""

    model: str = DEFAULT_MODEL
    """A local folder of safetensors weights with a tokenizer and a chat template, `default` for the embedded
    SmolLM2-135M-Instruct, or for `openai` the vendor's name of the model."""

    adapter: Path | None = None
    """A local folder with a LoRA adapter for the model (`adapter_config.json` and its weights, as PEFT saves them);
    None runs the model as it is. `vllm` and `transformers` only: an endpoint names an adapter in `model`."""

    weights_dir: Path = Path("workspace/llm")
    """Folder under which the `default` weights are unpacked once (270 MB)."""

    max_model_len: int = Field(default=2048, ge=16)
    """Tokens of prompt and completion together; a longer request raises PromptTooLong. Not applied to `openai`, whose
    server knows its own limit."""

    kv_cache_gib: float = Field(default=1.0, gt=0)
    """GiB vLLM reserves for attention keys and values; more of it keeps more requests and prefixes at once."""

    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Number format of weights and activations of a local model."""

    threads: int | None = Field(default=None, ge=1)
    """CPU threads of a local model; None takes the CPUs this process may use, all but one with `vllm` (its scheduler
    needs one) and torch's own default with `transformers`. No effect on a GPU."""

    max_concurrency: int = Field(default=32, ge=1)
    """Requests vLLM decodes in one batch, or connections held open to an `openai` endpoint; the others wait."""

    base_url: str | None = None
    """`openai` only: address up to and including the version, such as `http://host:8000/v1`."""

    api_key_env: str | None = None
    """`openai` only: NAME of the environment variable that holds the key; None sends no key."""

    stream: bool = True
    """`openai` only: have the answer sent token by token, so that the time to the first one is known and an answer that
    does not end is cut off here. False for an endpoint that streams no usage."""

    timeout_s: float = Field(default=30.0, gt=0)
    """Seconds one generate() may take, waiting in the engine's queue included, before it raises EngineTimeout. A
    backfill, for which nobody waits, allows weights of its own 600 at the least."""

    @model_validator(mode="after")
    def _fits_engine(self) -> Self:
        if self.engine == "openai":
            if self.base_url is None or self.model == DEFAULT_MODEL:
                raise ValueError("engine 'openai' needs base_url and model (the vendor's name of it)")
            if self.adapter is not None:
                raise ValueError("engine 'openai' loads no adapter: name it in model, as its server calls it")
        elif self.base_url is not None or self.api_key_env is not None:
            raise ValueError(f"base_url and api_key_env have no meaning for engine {self.engine!r}: remove them")
        return self
