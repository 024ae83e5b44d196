"""JSON-schema constraints on the next token (xgrammar), the same for every local engine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_CACHE_BYTES = 64 * 2**20


class Constraint:
    """How far one answer has followed its schema. Masks the logits of tokens that would leave it."""

    def __init__(self, compiled: Any) -> None:
        import xgrammar

        self._matcher = xgrammar.GrammarMatcher(compiled)
        self._bitmask = xgrammar.allocate_token_bitmask(1, compiled.tokenizer_info.vocab_size)
        self._apply = xgrammar.apply_token_bitmask_inplace
        self._seen = 0
        self._lost = False

    def mask(self, generated: Sequence[int], logits: torch.Tensor) -> None:
        """Set to -inf, in place, the logits [vocabulary] no valid continuation of ``generated`` begins with."""
        for token in generated[self._seen :]:
            # A token outside the grammar leaves the answer free: its reader checks the schema anyway, and raising in
            # here would end vLLM's engine for everybody.
            self._lost = self._lost or not (self._matcher.is_terminated() or self._matcher.accept_token(token))
        self._seen = len(generated)
        if not self._lost and not self._matcher.is_terminated():
            self._matcher.fill_next_token_bitmask(self._bitmask, 0)
            self._apply(logits[None], self._bitmask.to(logits.device))

    def accepts(self, answer: Sequence[int]) -> bool:
        """Whether these tokens, the one that ends the turn included, are a whole answer under the schema."""
        return all(self._matcher.accept_token(token) for token in answer) and bool(self._matcher.is_terminated())


class GrammarCompiler:
    """Compiles JSON schemas for one tokenizer; keeps 64 MiB of compiled ones."""

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        import xgrammar

        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocabulary)
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=2, cache_limit_bytes=_CACHE_BYTES)

    def constrain(self, schema: str) -> Constraint:
        """A fresh constraint for one answer, on one line without free whitespace: small models loop on it."""
        compiled = self._compiler.compile_json_schema(schema, any_whitespace=False, separators=(",", ":"))
        return Constraint(compiled)


def schema_text(schema: Mapping[str, Any]) -> str:
    """The schema as JSON text. Raises ValueError where xgrammar cannot enforce it."""
    import xgrammar

    try:
        text = json.dumps(dict(schema))
        xgrammar.Grammar.from_json_schema(text)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"JSON schema cannot be enforced: {error}") from error
    return text
