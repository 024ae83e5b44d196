"""The API key: made on first start, readable by its owner only, needed by every call."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Iterable
from pathlib import Path

from serving.errors import Unauthenticated

HEADER = "authorization"


def ensure_key(path: Path) -> str:
    """The workspace's key; a new one is written where there is none, never world-readable for an instant.

    Of two starts at once one makes the key, and neither sees half of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)
    return read_key(path)


def read_key(path: Path) -> str:
    """Raises Unauthenticated where there is no key or others may read it."""
    try:
        mode = path.stat().st_mode & 0o077
        key = path.read_text(errors="ignore").strip()
    except OSError:
        raise Unauthenticated(
            f"no API key in {path}; start the service once (tandem serve), set TANDEM_API_KEY, or name the workspace"
        ) from None
    if mode:
        raise Unauthenticated(f"{path} can be read by others; run: chmod 600 {path}")
    if len(key) < 16:
        raise Unauthenticated(f"{path} holds no usable key; delete the file and start the service again")
    return key


def check(key: str, metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """Raises Unauthenticated unless the call's metadata carries ``authorization: Bearer KEY``."""
    for name, value in metadata:
        if name == HEADER:
            given = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            if hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
                return
            raise Unauthenticated("the API key is not the service's; it is in secrets/api_key of the workspace")
    raise Unauthenticated("the call carries no API key; send the metadata 'authorization: Bearer KEY'")
