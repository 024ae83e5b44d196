"""The folder of a batch job: what it was asked, and one file per finished partition. What is there is whole.

    job.json                  the job: release, input, parameters, partitions
    part-00007.parquet        results of partition 7
    dead/part-00007.parquet   its rows that could not be done (row, their id, reason); absent where there are none
    users.parquet             for recommendations: whom the job is about, as of its start

A partition is finished when its two files together hold every one of its rows; a job that was killed does the others.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from features.workspace import write_atomically
from serving.errors import BackfillFailed

FORMAT = 2
_JOB = "job.json"
_USERS = "users.parquet"


@dataclass(frozen=True, slots=True)
class Job:
    """What decides a job's results; a folder holds one.

    ``input``: sha256 of the input and its rows. ``at``: seconds since 1970 features are computed at; None is what the
    service does for a dataset that ended: just after the user's last event.
    """

    kind: str
    release: str
    input: Mapping[str, Any]
    parameters: Mapping[str, Any]
    partition_rows: int
    at: int | None = None
    format: int = FORMAT

    @property
    def rows(self) -> int:
        return int(self.input["rows"])

    @property
    def partitions(self) -> tuple[Partition, ...]:
        starts = range(0, self.rows, self.partition_rows)
        return tuple(
            Partition(number, start, min(self.rows, start + self.partition_rows)) for number, start in enumerate(starts)
        )


@dataclass(frozen=True, slots=True)
class Partition:
    """Rows ``start`` up to ``stop`` of the input."""

    number: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Input rows of a finished partition: ``done``, of these answered in part by a fallback, and dead."""

    done: int
    degraded: int
    dead: int


class JobFolder:
    """One job's folder; every write is whole or not there, whatever is killed."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder: of two jobs that write to it the second is refused. Raises BackfillFailed."""
        try:
            (self.root / "dead").mkdir(parents=True, exist_ok=True)
            lock = (self.root / ".lock").open("a")
        except OSError as error:
            raise BackfillFailed(f"{self.root} cannot be written ({error.strerror}); check --output") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise BackfillFailed(
                    f"another backfill is writing to {self.root}; wait for it or choose another --output"
                ) from None
            for left in (*self.root.glob(".*.tmp"), *self.root.glob("dead/.*.tmp")):
                left.unlink(missing_ok=True)
            yield

    def claim(self, job: Job) -> Job:
        """Make the folder this job's, or find that it is: the job as it was first begun.

        Raises BackfillFailed where it holds another job's results, naming what differs.
        """
        try:
            begun = json.loads((self.root / _JOB).read_text())
            old = Job(**begun)
        except FileNotFoundError:
            known = ("dead", _USERS)
            others = [path.name for path in self.root.glob("[!.]*") if path.name not in known]
            if others:
                raise BackfillFailed(
                    f"{self.root} holds {sorted(others)[0]!r} and no {_JOB}; choose an empty --output"
                ) from None
            write_atomically(self.root / _JOB, json.dumps(asdict(job), indent=2, sort_keys=True) + "\n")
            return job
        except (ValueError, TypeError) as error:
            raise BackfillFailed(f"{self.root / _JOB} is damaged ({error}); delete {self.root}") from error
        there, wanted = _flat(asdict(old)), _flat(asdict(job))
        for name in {**wanted, **there}:
            # The time is the job's first start's: results of a resumed job are of one moment.
            if name != "at" and there.get(name) != wanted.get(name):
                raise BackfillFailed(
                    f"{self.root} holds a backfill with {name} {there.get(name)!r}, this one has {wanted.get(name)!r}; "
                    f"choose another --output or delete {self.root}"
                )
        return old

    def users(self) -> pl.DataFrame | None:
        """The users written by `write_users`, None before."""
        path = self.root / _USERS
        try:
            return pl.read_parquet(path, glob=False) if path.exists() else None
        except (OSError, pl.exceptions.PolarsError) as error:
            raise BackfillFailed(f"{path} is damaged ({error}); delete {self.root}") from error

    def write_users(self, users: pl.DataFrame) -> None:
        """Keep whom the job is about: users come and go while it is resumed."""
        _write(self.root / _USERS, users)

    def write(self, partition: Partition, results: pl.DataFrame, dead: pl.DataFrame) -> None:
        """Both files of a partition, the results last: where they are, the dead letters are."""
        letters = self._dead(partition)
        if len(dead):
            _write(letters, dead)
        else:
            letters.unlink(missing_ok=True)
        _write(self._part(partition), results)
        self._attempts(partition).unlink(missing_ok=True)

    def attempt(self, partition: Partition) -> int:
        """Note that a worker begins a partition; how often that was since the job was last started."""
        with self._attempts(partition).open("a") as file:
            file.write(".")
            file.flush()
            return file.tell()

    def outcome(self, partition: Partition) -> Outcome | None:
        """What a partition came to; None unless its files hold each of its rows once, done or dead."""
        try:
            part = pl.read_parquet(self._part(partition), columns=["row", "degraded"], glob=False)
            letters = self._dead(partition)
            dead = pl.read_parquet(letters, columns=["row"], glob=False)["row"].to_list() if letters.exists() else []
        except (OSError, pl.exceptions.PolarsError):
            return None
        done = part["row"].unique().to_list()
        if sorted([*done, *dead]) != list(range(partition.start, partition.stop)):
            return None
        degraded = part.filter(pl.col("degraded").list.len() > 0)["row"].n_unique()
        return Outcome(len(done), degraded, len(dead))

    def _part(self, partition: Partition) -> Path:
        return self.root / f"part-{partition.number:05d}.parquet"

    def _attempts(self, partition: Partition) -> Path:
        return self.root / f".attempts-{partition.number:05d}.tmp"

    def _dead(self, partition: Partition) -> Path:
        return self.root / "dead" / f"part-{partition.number:05d}.parquet"


def _write(path: Path, frame: pl.DataFrame) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o644)
            frame.write_parquet(file)
            file.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat
