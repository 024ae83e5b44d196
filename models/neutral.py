"""Words of a catalog or a person made harmless for a prompt: data that cannot become a turn, a section or a token.

A chat model is told where a turn begins by control tokens. A tokenizer finds their spelling in any text it is given,
also in a product's title; local engines cut those of their own model out (`models.llm.tokenization`), a vendor's
endpoint may not. Here the spellings of all families are cut, for every engine. What remains are words: an order in a
title is still there to be read, and the schema, the taxonomy and the guardrail are what keeps it from mattering.
"""

from __future__ import annotations

import re
from typing import Final

_INVISIBLE: Final = re.compile(
    # Controls but tab and line ends; soft hyphen; zero-width and direction marks; invisible operators; the byte order
    # mark; interlinear anchors; variation selectors; the tag characters that spell hidden ASCII; lone surrogates.
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ufe00-\ufe0f\ud800-\udfff"
    "\U000e0000-\U000e0fff\U0001d173-\U0001d17a]"
)
_LINES: Final = re.compile("[\t\n\x0b\x0c\r\x1c-\x1f\x85\u2028\u2029]+")

_BAR: Final = "[|\uff5c\u2502\u01c0]"
_NAME: Final = r"[\w./\u2581-]{1,60}"
_CONTROL: Final = re.compile(
    # <|im_start|>, <|eot_id|>, <｜User｜>; <|tool> and <tool|> of families that close one side only
    rf"[<\uff1c]{_BAR}{_NAME}{_BAR}?[>\uff1e]|[<\uff1c]{_NAME}{_BAR}[>\uff1e]"
    # Llama 2, Mistral, GLM, BERT
    r"|\[/?(?:INST|SYS|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|ARGS|CALL_ID|THINK|IMG"
    r"|MIDDLE|PREFIX|SUFFIX|gMASK|sMASK|CLS|SEP|PAD|MASK|UNK|BOS|EOS|control_\d+)\]"
    r"|<<\s?/?\s?SYS\s?>>"
    # T5, Gemma, Phi, Cohere, StarCoder and SmolLM; tools and reasoning
    r"|<\s?/?\s?(?:s|bos|eos|pad|unk|mask|cls|sep|sop|eop|start_of_turn|end_of_turn|start_of_image|end_of_image|think"
    r"|thinking|tools?|tool_calls?|tool_response|function_calls?|function|invoke|extra_id_\d+|unused\d+|reserved_\d+"
    r"|fim_\w+|repo_name|reponame|file_sep|filename|gh_stars|issue_\w+|jupyter_\w+|empty_output|endoftext|image"
    r"|system|user|assistant)\s?>",
    re.IGNORECASE,
)
_FENCE: Final = re.compile(r"`{3,}|~{3,}|#{3,}|-{4,}|={4,}|_{4,}|\*{4,}|<{3,}|>{3,}")
_ROLE: Final = re.compile(
    r"^(\W*(?:system|assistant|human|user|developer|tool))\s*:(?!\w)", re.IGNORECASE | re.MULTILINE
)
_SPACE: Final = re.compile(r" {2,}")


def neutralize(text: str) -> str:
    """The text on one line, without invisible characters, control tokens, fences, and role labels at a line's start.

    Pure, and no change to ordinary catalog text. What is cut leaves a space, and no control token holds one: a cut
    makes no new token of what stood around it. Not longer than the text; time grows linearly with it.
    """
    text = _LINES.sub("\n", _INVISIBLE.sub("", text))
    text = _FENCE.sub(" ", _CONTROL.sub(" ", text))
    text = _ROLE.sub(r"\1", text)
    return _SPACE.sub(" ", text.replace("\n", " ")).strip()
