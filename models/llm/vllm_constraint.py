"""The JSON constraint as a vLLM logits processor; runs in vLLM's worker process.

vLLM's own structured output masks the logits before it computes `raw_logprobs`, so every forced token reads 0.0 and an
answer's probability says nothing. A logits processor runs after them: the reported logprobs are the model's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from models.llm.grammar import GrammarCompiler

if TYPE_CHECKING:
    import torch

SCHEMA = "tandem_json_schema"
"""Key of the schema's text in SamplingParams.extra_args."""


class JSONConstraint(AdapterLogitsProcessor):  # type: ignore[misc]
    """Constrains the requests that carry a schema, each row on its own."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        from transformers import AutoTokenizer

        super().__init__(vllm_config, device, is_pin_memory)
        model = vllm_config.model_config
        self._compiler = GrammarCompiler(AutoTokenizer.from_pretrained(model.tokenizer), model.get_vocab_size())

    def is_argmax_invariant(self) -> bool:
        return False

    def new_req_logits_processor(self, params: Any) -> Callable[[list[int], torch.Tensor], torch.Tensor] | None:
        schema = (params.extra_args or {}).get(SCHEMA)
        if schema is None:
            return None
        constraint = self._compiler.constrain(schema)

        def constrain(generated: list[int], logits: torch.Tensor) -> torch.Tensor:
            constraint.mask(generated, logits)
            return logits

        return constrain
