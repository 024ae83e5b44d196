"""How many names that nothing announces are taken out: ``python -m tests.benchmarks.names``.

220 customers' texts written by hand (by somebody who did not know the rules): 120 with names, 100 with brands, dishes
and places that could be taken for names. The rules were made looking at every other text ("seen"); the others were
only counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from serving.gateway.monitors import wilson
from serving.gateway.privacy import PatternRedactor

FOLDER = Path(__file__).parents[1] / "unit" / "serving" / "names"


def texts(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def left(row: Mapping[str, Any]) -> Iterator[str]:
    """The names of a text that are still there."""
    text = PatternRedactor().redact(row["text"], personal=True).text
    yield from (name for name in row["names"] if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text))


def measure() -> dict[str, dict[str, tuple[int, int]]]:
    """Names found of all, and texts without a name in which one was found, by half."""
    found = {}
    for half, start in (("seen", 0), ("unseen", 1)):
        named, unnamed = texts("names")[start::2], texts("no_names")[start::2]
        names = sum(len(row["names"]) for row in named)
        kept = sum(len(list(left(row))) for row in named)
        wrong = sum("[NAME]" in PatternRedactor().redact(row["text"], personal=True).text for row in unnamed)
        found[half] = {"names": (names - kept, names), "texts without names": (wrong, len(unnamed))}
    return found


def main() -> None:
    for half, figures in measure().items():
        for what, (hits, of) in figures.items():
            low, high = wilson(hits, of)
            print(f"{half}: {what}: taken out in {hits} of {of}, {hits / of:.2f} [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
