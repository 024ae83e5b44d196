"""What an LLM is fine-tuned on: requests as services make them, each with the answer they should have had."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from models.errors import ArtifactMismatch
from models.ports import LLMRequest

LEAST: Final = 8
"""Pairs below which nothing is learned but the pairs."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A request, and the whole text of its right answer: JSON that its schema allows, as an engine would write it."""

    request: LLMRequest
    answer: str


def tag_answer(label: str) -> str:
    """What an engine says that names one label and nothing else: compact, for its grammar leaves no free space."""
    return json.dumps({"tags": [label]}, ensure_ascii=False, separators=(",", ":"))


def data_hash(pairs: Sequence[Pair]) -> str:
    """SHA-256 of requests and answers in their order."""
    told = [(asdict(pair.request), pair.answer) for pair in pairs]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def enough(pairs: Sequence[Pair]) -> None:
    """Raises ArtifactMismatch for fewer than `LEAST`."""
    if len(pairs) < LEAST:
        raise ArtifactMismatch(
            f"there are {len(pairs)} pairs of request and right answer, and fine-tuning needs {LEAST}: ask for more, "
            "or label more items"
        )
