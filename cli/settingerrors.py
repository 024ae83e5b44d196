"""What is wrong with a settings file, in its own words: the key as it was written, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

_SECTION: Final = {"model_type", "model_attributes_type", "dict_type"}
"""pydantic's words for a value where a section is wanted."""


def explain(error: ValidationError, written: Mapping[str, Any], within: str = "") -> str:
    """Every problem once, in one line. ``written``: the file; ``within``: the section that was read, where one was.

    A key that the section lacks is one of those that training and serving share.
    """
    found: dict[str, str] = {}
    for part in error.errors():
        path = [str(step) for step in part["loc"]]
        if within and path and path[0] in written.get(within, {}):
            path = [within, *path]
        path = _as_written(path, written, part["type"] == "missing")
        told = _told(path, part["type"], part["msg"], part["input"])
        known = found.setdefault(".".join(path), told)
        if told != known and told.split(": ", 1)[-1] not in known:
            # Each member of a union says what it would have taken.
            found[".".join(path)] = f"{known}, or {told.split(': ', 1)[-1]}"
    return "; ".join(found.values())


def _told(path: Sequence[str], kind: str, message: str, value: Any) -> str:
    where = _where(path)
    if path[-1:] == ["llm"] and isinstance(value, bool) and kind in {"extra_forbidden", *_SECTION}:
        right = "write `llm = false` above every section" if not value else "leave it out: there is one by default"
        return f"{where} is {_shown(value)}; {right}"
    if kind == "extra_forbidden":
        return f"{where} is no setting{_instead(path)}"
    if kind == "missing":
        return f"{where} is missing; write it"
    if kind in _SECTION:
        return f"{where} is {_shown(value)}, and is a section: write [{'.'.join(path)}] and its keys below"
    shown = "" if isinstance(value, dict) else f" is {_shown(value)}"
    return f"{where}{shown}: {message.removeprefix('Value error, ')}"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _where(path: Sequence[str]) -> str:
    if not path:
        return "the file"
    section = ".".join(path[:-1])
    return f"{path[-1]} in [{section}]" if section else f"{path[-1]} above every section"


def _instead(path: Sequence[str]) -> str:
    """Where the key is known, else keys of its section that are near."""
    *section, key = path
    places = list(dict.fromkeys(_places(key, (), _sections())))
    if places:
        told = [
            f"[{'.'.join((*place, key))}]" if _fields(_at((*place, key))) else _where((*place, key)) for place in places
        ]
        return f"; there is {' and '.join(told[:3])}"
    names = _fields(_at(section)) if section else _sections()
    near = get_close_matches(key, names, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(sorted(names))}"


def _as_written(path: Sequence[str], written: Any, missing: bool) -> list[str]:
    """The path as far as it is in the file: pydantic adds the members of a union that it tried."""
    kept: list[str] = []
    for number, step in enumerate(path):
        if isinstance(written, Mapping) and step in written:
            written = written[step]
        elif isinstance(written, list) and step.isdigit() and int(step) < len(written):
            written = written[int(step)]
        elif not (missing and number == len(path) - 1):
            continue
        kept.append(step)
    return kept


def _sections() -> dict[str, Any]:
    """What stands above every section. Imported here: only a mistake needs all of it."""
    from features.store import OnlineStoreConfig
    from models.llm import LLMConfig
    from serving.config import ServeConfig
    from serving.gateway.config import GatewayConfig
    from training.config import TrainConfig

    return {
        "online_store": OnlineStoreConfig,
        "llm": LLMConfig,
        "gateway": GatewayConfig,
        "train": TrainConfig,
        "serve": ServeConfig,
    }


def _at(path: Sequence[str]) -> Any:
    """The type of what stands there, None where nothing does."""
    if not path:
        return None
    annotation = _sections().get(path[0])
    for step in path[1:]:
        annotation = next(filter(None, (_inner(each, step) for each in _members(annotation))), None)
    return annotation


def _inner(annotation: Any, step: str) -> Any:
    if get_origin(annotation) in (dict, Mapping):
        return get_args(annotation)[1]
    if get_origin(annotation) in (list, tuple):
        return get_args(annotation)[0]
    return _fields(annotation).get(step)


def _fields(annotation: Any) -> dict[str, Any]:
    """The keys of a section and their types."""
    return {
        name: field.annotation
        for each in _members(annotation)
        if isinstance(each, type) and issubclass(each, BaseModel)
        for name, field in each.model_fields.items()
    }


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _places(key: str, place: tuple[str, ...], fields: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Sections that have such a key; entries of lists and of tables with free names are left out."""
    if key in fields:
        yield place
    for name, annotation in fields.items():
        # [train] and [serve] take the shared sections too; one place for a key is enough.
        if not (place and name in _sections()):
            yield from _places(key, (*place, name), _fields(annotation))
