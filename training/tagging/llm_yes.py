"""An LLM's own probability that a tag is right, asked as yes or no (Kadavath et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, isnan
from typing import Final

import numpy as np

from models.ports import LLMRequest, LLMResult
from models.tagging import choice_schema, read_choices
from training.tagging.learners import FloatArray

_CODES: Final = {"no": 0, "yes": 1}


@dataclass(frozen=True, slots=True)
class Check:
    """How it is asked: what is checked, what one tag is called, and the question."""

    checks: str
    tag: str
    question: str


CATEGORY: Final = Check(
    "the categories of supermarket products", "category", "Does the product belong to this category?"
)
LABEL: Final = Check("the labels of foods", "label", "Does this label hold for the product?")
VALUE: Final = Check("the attributes of products", "attribute", "Does the product have this value of the attribute?")


def yes_or_no(check: Check, product: str, tag: str) -> LLMRequest:
    """The question whether ``product`` has ``tag``."""
    return LLMRequest(
        f"You check {check.checks}. Answer with JSON only.",
        f"Product: {product}\nProposed {check.tag}: {tag}\n\n"
        f'{check.question} Answer as {{"answer": ["yes"]}} or {{"answer": ["no"]}}.',
        24,
        choice_schema("answer", ["yes", "no"], 1),
    )


def sureness(results: Mapping[int, LLMResult], questions: int) -> FloatArray:
    """The probability of yes by question [questions]; 0 where no usable answer came.

    Of an answer whose log-probability nobody told, the word itself counts.
    """
    sure = np.zeros(questions)
    for at, result in results.items():
        said = read_choices(result, "answer", _CODES)
        if said.labels:
            likely = 1.0 if isnan(said.logprobs[0]) else exp(said.logprobs[0])
            sure[at] = likely if said.labels[0] else 1.0 - likely
    return sure
