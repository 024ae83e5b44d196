"""Claims as JSON lines, for `ScoreStream` from a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from google.protobuf import json_format

from protos.tandem.v1 import ensemble_pb2


@dataclass
class Lines:
    """Lines of a file; ``problems``: those that are no request, by number; ``failed``: for the reader to count."""

    file: IO[bytes]
    problems: list[str] = field(default_factory=list)
    failed: int = 0

    @staticmethod
    @contextmanager
    def open(path: Path) -> Iterator[Lines]:
        """``-`` is standard input. Raises OSError."""
        with nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb") as file:
            yield Lines(file)

    def requests(self) -> Iterator[ensemble_pb2.ScoreRequest]:
        """Each line's request as it is read; one without an id is called line-N. Empty lines are none."""
        for number, line in enumerate(self.file, 1):
            if not line.strip():
                continue
            try:
                request = json_format.Parse(line, ensemble_pb2.ScoreRequest())
            except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
                self.problems.append(f"line {number} is no ScoreRequest: {str(error).splitlines()[0][:200]}")
                continue
            request.request_id = request.request_id or f"line-{number}"
            yield request


def reply_line(reply: ensemble_pb2.ScoreReply) -> str:
    """A reply as one line of JSON, keys as in the proto."""
    return json_format.MessageToJson(
        reply, indent=None, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
