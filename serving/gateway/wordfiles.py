"""The word lists in ``words/``: data an operator can read and mend."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def words_of(name: str) -> frozenset[str]:
    """The words of ``words/NAME.txt``: lower case, separated by spaces; lines that begin with # are left out."""
    text = (Path(__file__).parent / "words" / f"{name}.txt").read_text(encoding="utf-8")
    return frozenset(word for line in text.splitlines() if not line.startswith("#") for word in line.split())
