"""The review queue in one SQLite file that all replicas of a machine share: nothing in it is lost or done twice.

What a person says is on disk (fsync) when the call returns. A case is in the operating system's hands then, so that
no end of a process loses it; `ReviewQueue.sync` brings it to the disk, for a power cut. A lost case would come back
with the next Tag of its item; a lost word would not.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from features.errors import StoreUnavailable
from features.sqlitefile import SqliteFile
from serving.errors import CaseTaken, InvalidRequest, NotFound
from serving.review import schema
from serving.review.cases import Case, CasePage, Change, Proposal, Resolved, Saying, Wanted, Word
from serving.review.config import ReviewConfig
from serving.review.switches import GroupFigures, Switches

_WHAT: Final = "review queue"
_JOURNAL: Final = 8 << 20
"""Bytes of SQLite's journal from which on it is brought into the file."""


class ReviewQueue:
    """Cases, claims and words; safe for several threads and processes. Raises StoreUnavailable.

    ``clock``: seconds since 1970, by which leases end.
    """

    def __init__(self, path: Path, config: ReviewConfig, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._file = SqliteFile(path, schema.SCHEMA, _WHAT)
        # Connections of their own: cases wait for no fsync, reading sees no open transaction of another thread, and
        # neither waits while the journal goes into the file.
        quick = "PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0;"
        self._incoming = SqliteFile(path, quick, _WHAT)
        self._at_once = SqliteFile(path, f"{quick} PRAGMA busy_timeout=0;", _WHAT)
        self._reading = SqliteFile(path, "", _WHAT)
        self._disk = SqliteFile(path, "", _WHAT)
        self._wal = path.with_name(path.name + "-wal")
        self._switches = Switches(self._file, config.promise, config.confidence, clock)
        self._switched = Switches(self._reading, config.promise, config.confidence, clock)

    # --- cases -------------------------------------------------------------------------------------------------------

    def put(self, proposals: Sequence[Proposal]) -> int:
        """Open a case for each proposal that has none; how many were opened. A repeated delivery is harmless."""
        return self._put(self._incoming, proposals)

    def put_at_once(self, proposals: Sequence[Proposal]) -> bool:
        """As `put`, from one thread only and without waiting: False where another one writes just now."""
        try:
            self._put(self._at_once, proposals)
        except StoreUnavailable as error:
            cause = error.__cause__
            if isinstance(cause, sqlite3.OperationalError) and cause.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                return False
            raise
        return True

    def _put(self, file: SqliteFile, proposals: Sequence[Proposal]) -> int:
        now = self._clock()
        rows = [schema.case_row(proposal, now) for proposal in proposals]
        with file.transaction(), file.guard():
            before = file.db.total_changes
            file.db.executemany(schema.INSERT, rows)
            return file.db.total_changes - before

    def sync(self) -> None:
        """Bring to the disk what `put` returned for; it goes on meanwhile."""
        with self._disk.guard():
            try:
                handle = os.open(self._wal, os.O_RDONLY)
            except FileNotFoundError:
                return
            try:
                os.fsync(handle)
                long = os.fstat(handle).st_size > _JOURNAL
            finally:
                os.close(handle)
            if long:
                self._disk.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def page(self, wanted: Wanted, size: int, token: str = "") -> CasePage:
        """At most ``size`` cases that match. Raises InvalidRequest for a token of other cases."""
        now = self._clock()
        where, values = _where(wanted, now)
        after, position = _after(wanted, token)
        column = "margin, id" if wanted.order == "uncertain" else "id"
        with self._reading.guard():
            db = self._reading.db
            (total,) = db.execute(f"SELECT count(*) FROM cases WHERE {where}", values).fetchone()
            rows = db.execute(
                f"SELECT {schema.COLUMNS}, margin FROM cases WHERE {where}{after} ORDER BY {column} LIMIT ?",
                [*values, *position, size + 1],
            ).fetchall()
            cases = self._cases(self._reading, [row[:-1] for row in rows[:size]], now)
        last = rows[size - 1] if len(rows) > size else None
        return CasePage(cases, _token(wanted, last[-1], last[0]) if last else "", total)

    def case(self, number: int) -> Case:
        """Raises NotFound."""
        return self._case(self._reading, number)

    # --- claims ------------------------------------------------------------------------------------------------------

    def claim(self, person: str, numbers: Sequence[int], lease_s: float) -> tuple[Case, ...]:
        """Hold these cases, all or none, or hold them longer. Raises NotFound and CaseTaken."""
        with self._file.transaction():
            for number in numbers:
                self._open_to(person, self._case(self._file, number))
            return self._hold(person, numbers, lease_s)

    def claim_next(self, person: str, wanted: Wanted, count: int, lease_s: float) -> tuple[Case, ...]:
        """Hold the first ``count`` of the open cases that match: fewer, or none, where there are not as many."""
        where, values = _where(wanted, self._clock())
        order = "margin, id" if wanted.order == "uncertain" else "id"
        with self._file.transaction():
            with self._file.guard():
                rows = self._file.db.execute(
                    f"SELECT id FROM cases WHERE {where} ORDER BY {order} LIMIT ?", [*values, count]
                ).fetchall()
            return self._hold(person, [row[0] for row in rows], lease_s)

    def release(self, person: str, number: int) -> bool:
        """Let go of a case; False where nobody holds it. Raises NotFound, and CaseTaken where another one does."""
        with self._file.transaction():
            case = self._case(self._file, number)
            if case.state != "claimed":
                return False
            self._open_to(person, case)
            with self._file.guard():
                self._file.db.execute("UPDATE cases SET claimed_by = '', claimed_until = 0 WHERE id = ?", (number,))
            return True

    # --- words -------------------------------------------------------------------------------------------------------

    def resolve(self, number: int, word: Word, release: str, *, overrule: bool = False) -> Resolved:
        """Write down what a person says; a claim on the case ends. Undoing it is another word, with ``overrule``.

        A word on an audited case of ``release``, the one that is served, may switch its group. Raises NotFound, and
        CaseTaken where another person holds the case or somebody decided it.
        """
        with self._file.transaction():
            case = self._case(self._file, number)
            if case.word is not None and _says(case.word) == _says(word):
                return Resolved(case, unchanged=True)
            self._open_to(word.person, case, overrule)
            with self._file.guard():
                self._file.db.execute(
                    "INSERT INTO words (case_id, saying, correction, person, reason, time) VALUES (?, ?, ?, ?, ?, ?)",
                    (number, word.saying, word.correction, word.person, word.reason, word.time),
                )
                self._file.db.execute(
                    "UPDATE cases SET saying = ?, person = ?, claimed_by = '', claimed_until = 0 WHERE id = ?",
                    (word.saying, word.person, number),
                )
            proposal = case.proposal
            audited = proposal.kind == "audit" and proposal.release == release
            change = self._switches.check(proposal.group, release) if audited else None
            return Resolved(self._case(self._file, number), switched=change.group if change else "")

    # --- the audit ---------------------------------------------------------------------------------------------------

    def switched(self) -> dict[str, Change]:
        """The groups that go to review now, with why; tens of microseconds."""
        return self._switched.on()

    def figures(self, release: str) -> tuple[GroupFigures, ...]:
        """The audit of every group under this release, see `Switches.figures`."""
        return self._switched.figures(release)

    def reset(self, group: str, person: str, reason: str) -> Change:
        """Let a switched group accept again. Raises NotFound where it is not switched."""
        return self._switches.reset(group, person, reason)

    def close(self) -> None:
        for file in (self._file, self._incoming, self._at_once, self._reading, self._disk):
            file.close()

    # --- parts -------------------------------------------------------------------------------------------------------

    def _case(self, file: SqliteFile, number: int) -> Case:
        with file.guard():
            rows = file.db.execute(f"SELECT {schema.COLUMNS} FROM cases WHERE id = ?", (number,)).fetchall()
            found = self._cases(file, rows, self._clock())
        if not found:
            raise NotFound(f"there is no case {number}; list the cases that are there")
        return found[0]

    def _cases(self, file: SqliteFile, rows: Sequence[Sequence[Any]], now: float) -> tuple[Case, ...]:
        words = schema.words_of(file.db, [row[0] for row in rows])
        return tuple(schema.case_of(row, words.get(row[0], ()), now) for row in rows)

    def _open_to(self, person: str, case: Case, overrule: bool = False) -> None:
        if case.word is not None and not overrule:
            raise CaseTaken(
                f"case {case.id} was decided by {case.word.person}: {case.word.saying}; list what is open, or resolve "
                "it with overrule to say otherwise"
            )
        if case.claimed_by and case.claimed_by != person:
            left = case.claimed_until - self._clock()
            raise CaseTaken(f"case {case.id} is held by {case.claimed_by} for {left:.0f} s more; claim another one")

    def _hold(self, person: str, numbers: Sequence[int], lease_s: float) -> tuple[Case, ...]:
        until = self._clock() + lease_s
        with self._file.guard():
            self._file.db.executemany(
                "UPDATE cases SET claimed_by = ?, claimed_until = ? WHERE id = ?",
                [(person, until, number) for number in numbers],
            )
        return tuple(self._case(self._file, number) for number in numbers)


def _says(word: Word) -> tuple[Saying, str, str]:
    return word.saying, word.correction, word.person


def _where(wanted: Wanted, now: float) -> tuple[str, list[Any]]:
    parts: list[str] = []
    values: list[Any] = []
    for column, value in (
        ("kind", wanted.kind),
        ("saying", wanted.saying),
        ("grp", wanted.group),
        ("release", wanted.release),
        ("item_id", wanted.item_id),
    ):
        if value:
            parts.append(f"{column} = ?")
            values.append(value)
    if wanted.state == "resolved":
        parts.append("saying <> ''")
    elif wanted.state is not None:
        parts.append(f"saying = '' AND claimed_until {'>' if wanted.state == 'claimed' else '<='} ?")
        values.append(now)
    if wanted.person:
        parts.append("(person = ? OR (claimed_by = ? AND claimed_until > ?))")
        values += [wanted.person, wanted.person, now]
    return " AND ".join(parts) or "1", values


def _digest(wanted: Wanted) -> str:
    return hashlib.sha256(json.dumps(asdict(wanted)).encode()).hexdigest()[:16]


def _token(wanted: Wanted, margin: float, number: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([_digest(wanted), margin, number]).encode()).decode()


def _after(wanted: Wanted, token: str) -> tuple[str, list[Any]]:
    """The condition that begins a page behind ``token``, with its values."""
    if not token:
        return "", []
    try:
        digest, margin, number = json.loads(base64.urlsafe_b64decode(token.encode()))
        if digest != _digest(wanted):
            raise ValueError("of other cases")
        position = [float(margin), int(number)]
    except (ValueError, TypeError) as error:
        raise InvalidRequest(
            "page_token is none of these cases'; send next_page_token as it came, with the request as it was"
        ) from error
    if wanted.order == "uncertain":
        return " AND (margin, id) > (?, ?)", position
    return " AND id > ?", position[1:]
