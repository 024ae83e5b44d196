"""A hash of canonical data that is the same for the same rows on every machine and polars version."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from hashlib import _Hash


def content_hash(frames: Mapping[str, pl.DataFrame]) -> str:
    """SHA-256 over names, dtypes and values; row order counts, column order does not."""
    digest = hashlib.sha256()
    for name, frame in sorted(frames.items()):
        digest.update(f"{name} {frame.height}\n".encode())
        for column in sorted(frame.columns):
            digest.update(f"{column} {frame.schema[column]}\n".encode())
            _update(digest, frame[column])
    return digest.hexdigest()


def _update(digest: _Hash, column: pl.Series) -> None:
    dtype = column.dtype
    if column.null_count():
        digest.update(np.packbits(column.is_null().to_numpy()).tobytes())
    if isinstance(dtype, pl.List):
        _update(digest, column.list.len().cast(pl.Int64))
        _update(digest, column.explode())
    elif isinstance(dtype, pl.Struct):
        for part in column.struct.unnest().iter_columns():
            _update(digest, part)
    elif dtype.is_integer() or dtype.is_float() or dtype.is_temporal():
        # + 0.0 makes one of the two zeros
        numbers = column.to_physical().fill_null(0).to_numpy()
        digest.update((numbers + numbers.dtype.type(0)).astype(numbers.dtype.newbyteorder("<")).tobytes())
    elif dtype == pl.Binary:
        _update(digest, column.bin.encode("hex"))
    else:
        text = column.cast(pl.String).fill_null("")
        digest.update(text.str.len_bytes().to_numpy().astype("<u4").tobytes())
        digest.update(str(text.str.join("").item()).encode())
