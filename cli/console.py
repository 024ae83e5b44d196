"""What every command shares: options, progress, connections, errors."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from features.errors import WorkspaceError
from features.workspace import Workspace

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import RenderableType

    from serving.client import Client
    from training.datasets.report import Notice

err = Console(stderr=True)

WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", envvar="TANDEM_WORKSPACE", help="Folder of everything derived.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", envvar="TANDEM_CONFIG", help="Settings (TOML); see deploy/tandem.toml.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
TargetOption = Annotated[str, typer.Option("--target", envvar="TANDEM_TARGET", help="host:port of the service.")]
UINT32_MAX: Final = 2**32 - 1
"""What a number of the protocol holds: beyond it protobuf raises a ValueError, which says nothing of an option."""
DeadlineOption = Annotated[
    int, typer.Option(min=0, max=UINT32_MAX, help="Milliseconds to answer in; 0 takes the service's default.")
]
TimestampFormatOption = Annotated[
    str | None,
    typer.Option("--timestamp-format", help="How times are written, if not as ISO 8601 or epoch: %d.%m.%Y %H:%M"),
]
DEFAULT_WORKSPACE = Path("workspace")
DEFAULT_TARGET = "127.0.0.1:9000"


class UsageError(typer.TyperException):
    """A command cannot be meant as it was written."""

    exit_code = 2


@contextmanager
def progress_bar(title: str, quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """A bar on standard error that names the stage; nothing where output is for a script."""
    if quiet:
        yield lambda *_: None
        return
    columns = (TextColumn("{task.description:<40}"), BarColumn(bar_width=30), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=not err.is_terminal) as bars:
        task = bars.add_task(title, total=1.0)
        shown = [title]

        def update(stage: str, fraction: float) -> None:
            if not err.is_terminal and stage != shown[0]:
                # A log gets one line a stage instead of a bar that cannot move.
                print(f"{title}: {stage}", file=sys.stderr, flush=True)
                shown[0] = stage
            bars.update(task, description=stage, completed=fraction)

        yield update


@contextmanager
def connected(workspace: Path, target: str) -> Iterator[Client]:
    from serving.client import Client, find_key

    with Client(target, find_key(workspace)) as client:
        yield client


def print_notices(notices: Iterable[Notice]) -> None:
    """What was found in the data, a line each, on standard error."""
    for notice in notices:
        shown = f": {', '.join(notice.examples)}" if notice.examples else ""
        line = f"{notice.level}: {notice.table}: {notice.kind} ({notice.count:,}){shown}"
        err.print(line, highlight=False, markup=False, soft_wrap=True)


def label_of(workspace: Path) -> str:
    """The attribute that answers show beside the title: the workspace's label, where there is a workspace here."""
    try:
        return Workspace(workspace).config().label_column or "category"
    except (WorkspaceError, OSError):
        return "category"


def show_reply(reply: Message, table: Callable[[Any], RenderableType], as_json: bool) -> None:
    if as_json:
        from google.protobuf.json_format import MessageToDict

        # Keys are the proto's field names (protos/tandem/v1); fields without a value are there with their default.
        print(
            json.dumps(
                MessageToDict(reply, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
            )
        )
        return
    from serving import render

    render.show(table(reply))


def pairs(values: list[str] | None) -> dict[str, str]:
    pairs = {}
    for value in values or []:
        name, equals, content = value.partition("=")
        if not equals:
            raise UsageError(f"--attribute {value!r} is no name=value")
        pairs[name] = content
    return pairs


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends like Ctrl-C: the context managers stop what they started."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    yield


def wait_for_end() -> None:
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        err.print("stopping")


def fail(message: str) -> NoReturn:
    raise typer.TyperException(message)
