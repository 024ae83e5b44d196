"""Groups that may not accept: switched by what their audit found, reset by a person. A log, never changed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from features.sqlitefile import SqliteFile
from serving.errors import NotFound
from serving.review.audit import Finding, find
from serving.review.cases import Change

_log = logging.getLogger(__name__)
AUDIT = "audit"
"""Who switches a group where no person does."""


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """The audit of one group of tags under one release since it was last reset.

    ``cases``: audited ones, several of a unit too; ``pending`` of them nobody judged yet. ``switched``: since when and
    why the group goes to review, None where it may accept.
    """

    group: str
    release: str
    finding: Finding
    cases: int
    pending: int
    switched: Change | None


class Switches:
    """The switches and the figures behind them, in the queue's file. Raises StoreUnavailable.

    ``promise``: what a group without audits is held to; others to the promise their cases were accepted under.
    """

    def __init__(self, file: SqliteFile, promise: float, confidence: float, clock: Callable[[], float]) -> None:
        self._file = file
        self._promise = promise
        self._confidence = confidence
        self._clock = clock

    def on(self) -> dict[str, Change]:
        """The groups that go to review now."""
        with self._file.guard():
            rows = self._file.db.execute(
                "SELECT grp, switched, person, time, reason FROM switches WHERE seq IN "
                "(SELECT max(seq) FROM switches GROUP BY grp) AND switched"
            ).fetchall()
        return {row[0]: Change(row[0], True, *row[2:]) for row in rows}

    def figures(self, release: str) -> tuple[GroupFigures, ...]:
        """Of every group with audited cases under this release, and of every switched one, by name."""
        switched = self.on()
        with self._file.guard():
            rows = self._file.db.execute(
                "SELECT DISTINCT grp FROM cases WHERE kind = 'audit' AND release = ?", (release,)
            ).fetchall()
        groups = sorted({row[0] for row in rows} | set(switched))
        return tuple(self._figures(group, release, switched.get(group)) for group in groups)

    def check(self, group: str, release: str) -> Change | None:
        """Switch the group where its audit says so; the change, or None. Call it inside a transaction of the file."""
        if group in self.on():
            return None
        finding = self._figures(group, release, None).finding
        if not finding.switches:
            return None
        how = "refute" if finding.standing == "broken" else "do not show"
        reason = (
            f"{finding.wrong} wrong of {finding.audited} audited {how} a precision of {finding.promise:g}: lower bound "
            f"{finding.lower:.4f}, evidence against it {finding.evidence:.3g} (release {release})"
        )
        _log.warning("group %.300r goes to review: %s", group, reason)
        return self._append(Change(group, True, AUDIT, self._clock(), reason))

    def reset(self, group: str, person: str, reason: str) -> Change:
        """Let the group accept again; its audit begins anew. Raises NotFound where it is not switched."""
        with self._file.transaction():
            switched = self.on()
            if group not in switched:
                names = ", ".join(sorted(switched)[:20]) or "none is"
                raise NotFound(f"group {group[:100]!r} is not switched to review; switched: {names}")
            _log.warning("group %.300r may accept again: %.300r by %.300r", group, reason, person)
            return self._append(Change(group, False, person, self._clock(), reason))

    def _append(self, change: Change) -> Change:
        with self._file.guard():
            self._file.db.execute(
                "INSERT INTO switches (grp, switched, after_case, person, reason, time) "
                "VALUES (?, ?, (SELECT coalesce(max(id), 0) FROM cases), ?, ?, ?)",
                (change.group, change.on, change.person, change.reason, change.time),
            )
        return change

    def _figures(self, group: str, release: str, switched: Change | None) -> GroupFigures:
        with self._file.guard():
            (after,) = self._file.db.execute(
                "SELECT coalesce(max(after_case), 0) FROM switches WHERE grp = ? AND NOT switched", (group,)
            ).fetchone()
            scope = "FROM cases WHERE kind = 'audit' AND release = ? AND grp = ? AND id > ?"
            values = (release, group, after)
            cases, pending, promise = self._file.db.execute(
                f"SELECT count(*), coalesce(sum(saying = ''), 0), max(promised) {scope}", values
            ).fetchone()
            # With one min() SQLite takes the other columns from the row that has it: the unit's first judged case.
            audited, wrong = self._file.db.execute(
                "SELECT count(*), coalesce(sum(saying <> 'accept'), 0) FROM "
                f"(SELECT min(id), saying {scope} AND saying <> '' GROUP BY unit)",
                values,
            ).fetchone()
        finding = find(audited, wrong, promise or self._promise, self._confidence)
        return GroupFigures(group, release, finding, cases, pending, switched)
