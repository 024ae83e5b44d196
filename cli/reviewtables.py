"""Replies of the Review service as tables for people."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from protos.tandem.v1 import review_pb2

_WORDS = 80
_STANDING = {"kept": "green", "too few": "yellow", "unshown": "red", "broken": "red"}


def cases(reply: review_pb2.ListCasesReply) -> RenderableType:
    """A line a case; then how many there are, and how to go on."""
    parts: list[RenderableType] = [_table(f"{len(reply.cases)} of {reply.total:,} cases", reply.cases)]
    if reply.next_page_token:
        parts.append(Text(f"more: --page {reply.next_page_token}", style="dim"))
    return Group(*parts)


def claimed(reply: review_pb2.ClaimReply) -> RenderableType:
    return _table(f"{len(reply.cases)} cases held", reply.cases)


def audit(reply: review_pb2.AuditReply) -> RenderableType:
    """A line a group."""
    title = f"audit of {reply.rate:.0%} of the accepted tags, bounds at {reply.confidence:.0%}"
    table = Table(title=title, title_justify="left")
    for column in ("group", "promise", "audited", "wrong", "precision", "at least", "evidence", "open", "standing"):
        table.add_column(column, overflow="fold")
    notes = []
    for group in reply.groups:
        known = group.audited > 0
        table.add_row(
            group.group,
            f"{group.promise:.3g}",
            f"{group.audited:,} of {group.enough:,}",
            f"{group.wrong:,}",
            f"{group.precision:.4f}" if known else "",
            f"{group.lower:.4f}" if known else "",
            f"{group.evidence:.3g}",
            f"{group.pending:,}",
            Text(group.standing, style=_STANDING.get(group.standing, "")),
        )
        if group.HasField("switched"):
            switched = group.switched
            notes.append(
                Text(
                    f"{group.group} goes to review since {_time(switched.time)} ({switched.person}): {switched.reason}"
                )
            )
    return Group(table, *notes)


def _table(title: str, cases: Iterable[review_pb2.Case]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("case", "kind", "item", "words", "tag", "probability", "group", "evidence", "why", "state"):
        table.add_column(column, overflow="fold")
    for case in cases:
        words = f"{case.item.title} {case.item.text}".strip()
        table.add_row(
            str(case.case_id),
            "audit" if case.kind == review_pb2.CASE_KIND_AUDIT else "review",
            case.item.item_id,
            words if len(words) <= _WORDS else f"{words[:_WORDS]}…",
            case.tag,
            f"{case.probability:.3f}",
            case.group,
            case.evidence.text,
            ", ".join(f"{reason.feature} {reason.contribution:+.2f}" for reason in case.reasons[:3]),
            _state(case),
        )
    return table


def _state(case: review_pb2.Case) -> str:
    if case.history:
        word = case.history[-1]
        saying = review_pb2.Saying.Name(word.saying).rpartition("_")[2].lower()
        return f"{saying} {word.correction}".strip() + f" ({word.person}, {_time(word.time)})"
    if case.claimed_by:
        return f"held by {case.claimed_by} until {_time(case.claimed_until)}"
    return "open"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
