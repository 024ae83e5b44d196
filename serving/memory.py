"""Memory: of processes on this machine, as Linux tells it, and this one's garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path

_PROC = Path("/proc")


def keep_for_good() -> None:
    """Take everything there is now out of the garbage collector's sight. To be called once, when all is loaded.

    What a service has loaded (modules, names, tables) lives as long as it does. Looking through all of it for garbage
    stops every request for a tenth of a second, now and then.
    """
    gc.collect()
    gc.freeze()


def descendants(root: int, title: str) -> list[int]:
    """Ids of the processes below ``root`` whose command line begins with ``title``, ascending.

    Only those below: another service on the machine has processes of the same title.
    """
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (parent := _status(int(entry.name)).get("PPid")):
            children.setdefault(int(parent), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            waiting.append(child)
            if _title(child).startswith(title):
                found.append(child)
    return sorted(found)


def resident_mib(processes: Sequence[int]) -> float:
    """Resident memory of the processes together (VmRSS), MiB; one that has ended counts nothing."""
    return sum(int(_status(process).get("VmRSS", "0 kB").split()[0]) for process in processes) / 1024


def _status(process: int) -> dict[str, str]:
    try:
        lines = (_PROC / str(process) / "status").read_text().splitlines()
    except OSError:  # it ended
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _title(process: int) -> str:
    try:
        return (_PROC / str(process) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
