"""Messages of constraints: ``{X}`` in one stands for the value of the head's variable ``X``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from graph.rules.syntax import Rule

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def placeholders(message: str) -> list[str]:
    """The names in braces, in order, each once."""
    return list(dict.fromkeys(_PLACEHOLDER.findall(message)))


def filled(rule: Rule, args: Sequence[str]) -> str:
    """The rule's message for a fact with ``args`` that the rule derived. Empty where the rule has none."""
    value = {str(term): arg for term, arg in zip(rule.head.terms, args, strict=True)}
    return _PLACEHOLDER.sub(lambda found: value[found.group(1)], rule.message)
