"""A proof as a list: what files and messages hold of it, for they nest no deeper than their readers can follow."""

from __future__ import annotations

from graph.ports import Fact, Proof


def steps(proof: Proof) -> list[tuple[Proof, tuple[int, ...]]]:
    """Every fact of the proof once, premises before what they prove, with their places in the list; the goal is last.

    Not recursive: a proof may be deeper than Python's stack.
    """
    place: dict[Fact, int] = {}
    found: list[tuple[Proof, tuple[int, ...]]] = []
    stack = [(proof, False)]
    while stack:
        current, is_open = stack.pop()
        if current.fact in place:
            continue
        if not is_open:
            stack.append((current, True))
            stack.extend((premise, False) for premise in reversed(current.premises))
            continue
        place[current.fact] = len(found)
        found.append((current, tuple(place[premise.fact] for premise in current.premises)))
    return found
