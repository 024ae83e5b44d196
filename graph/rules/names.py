"""Names of rules: which declaration a written name means, and what to suggest where it means none."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from graph.rules.syntax import is_predicted, predicted


def nearest(name: str, known: Iterable[str]) -> str:
    """A remedy that names the closest known predicate, or how to declare this one."""
    return did_you_mean(name, known) or f"declare it with '.decl {name}(...)' or correct the name"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` for the known name closest to ``name``, empty where none is close."""
    candidates = sorted(known)
    # Left out namespaces are no spelling mistake, so they go before similar letters.
    close = [known for known in candidates if known.endswith(f".{name}")]
    close = close or difflib.get_close_matches(name, candidates, n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def qualified(name: str, namespace: str) -> str:
    """The full name of what ``namespace`` declares as ``name``. A name with a dot is full already."""
    return f"{namespace}.{name}" if namespace and "." not in name else name


def shown(literal: object) -> str:
    """A literal as it was written: a variable that stands for ``_`` has a number of its own inside."""
    return re.sub(r"(?<![\w?])_[0-9]+\b", "_", str(literal))


def plain(predicate: str) -> str:
    """The declared predicate behind a predicted one; any other as it is."""
    return predicate.removeprefix("~")


class Names:
    """Every predicate declared in any file; ``broken`` are names whose declaration could not be read."""

    def __init__(self, declared: Iterable[str], broken: Iterable[str]) -> None:
        self._declared = frozenset(declared)
        self._broken = frozenset(broken)

    def resolve(self, predicate: str, namespace: str) -> str | None:
        """The full name of a predicate written in a file of ``namespace``: its own first, then global ones.

        None where nothing of the name is declared.
        """
        name = plain(predicate)
        for full in (qualified(name, namespace), name):
            if full in self._declared or full in self._broken:
                return predicted(full) if is_predicted(predicate) else full
        return None

    def remedy(self, predicate: str, namespace: str) -> str:
        """What to do about a predicate that ``resolve`` does not know."""
        own = [name.removeprefix(f"{namespace}.") for name in self._declared] if namespace else []
        return nearest(plain(predicate), {*self._declared, *own})
