"""From a request to prompt tokens and from generated tokens to text, the same for every local engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from models.errors import PromptTooLong
from models.ports import LLMRequest


def prompt_tokens(tokenizer: Any, request: LLMRequest, max_model_len: int) -> list[int]:
    """Token ids of the chat, with the model's own template.

    The spellings of control tokens are cut out of the texts, so that a product name cannot end the user's turn and
    begin the assistant's. Raises PromptTooLong where the ids and ``request.max_tokens`` pass ``max_model_len``.
    """
    messages = [
        {"role": role, "content": _without_control(tokenizer, content)}
        for role, content in (("system", request.system), ("user", request.user))
        if content
    ]
    ids: list[int] = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    if len(ids) + request.max_tokens > max_model_len:
        raise PromptTooLong(
            f"{len(ids)} prompt tokens and {request.max_tokens} to generate pass the context of {max_model_len}: "
            "shorten the prompt or raise max_model_len"
        )
    return ids


def token_texts(decode: Callable[[list[int]], str], ids: Sequence[int]) -> list[str]:
    """Text each id adds, so that the texts join to the text of all of them.

    A character that takes several tokens is given to its last one; the others are "". An unfinished character at the
    end becomes U+FFFD.
    """
    texts: list[str] = []
    start = done = 0  # ids[start:done] is decoded context for ids[done:]: some decoders treat the first id specially
    for position in range(1, len(ids) + 1):
        before, after = decode(list(ids[start:done])), decode(list(ids[start:position]))
        if after.endswith("�") and position < len(ids):
            texts.append("")
        else:
            texts.append(after[len(before) :])
            start, done = done, position
    return texts


def _without_control(tokenizer: Any, text: str) -> str:
    for token in tokenizer.added_tokens_decoder.values():
        if token.special:
            text = text.replace(token.content, " ")
    return text
