"""The queue's file: its tables, and rows to values and back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from models.ports import Contribution
from models.tagging import TagItem
from serving.review.cases import Case, Proposal, Span, State, Word

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS cases (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    item_id TEXT NOT NULL,
    tag TEXT NOT NULL,
    release TEXT NOT NULL,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    attributes TEXT NOT NULL,
    probability REAL NOT NULL,
    margin REAL NOT NULL,
    grp TEXT NOT NULL,
    unit TEXT NOT NULL,
    promised REAL NOT NULL,
    details TEXT NOT NULL,
    arrived REAL NOT NULL,
    claimed_by TEXT NOT NULL DEFAULT '',
    claimed_until REAL NOT NULL DEFAULT 0,
    saying TEXT NOT NULL DEFAULT '',
    person TEXT NOT NULL DEFAULT '',
    UNIQUE (item_id, tag, release, kind)
);
CREATE INDEX IF NOT EXISTS cases_uncertain ON cases (saying, margin, id);
CREATE INDEX IF NOT EXISTS cases_oldest ON cases (saying, id);
CREATE INDEX IF NOT EXISTS cases_audited ON cases (release, grp) WHERE kind = 'audit';
CREATE TABLE IF NOT EXISTS words (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    case_id INTEGER NOT NULL REFERENCES cases (id),
    saying TEXT NOT NULL,
    correction TEXT NOT NULL,
    person TEXT NOT NULL,
    reason TEXT NOT NULL,
    time REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS words_of_case ON words (case_id, seq);
CREATE TABLE IF NOT EXISTS switches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    grp TEXT NOT NULL,
    switched INTEGER NOT NULL,
    after_case INTEGER NOT NULL,
    person TEXT NOT NULL,
    reason TEXT NOT NULL,
    time REAL NOT NULL
);
CREATE TRIGGER IF NOT EXISTS words_stay BEFORE UPDATE ON words
    BEGIN SELECT RAISE(ABORT, 'what a person said is never changed: say something else'); END;
CREATE TRIGGER IF NOT EXISTS words_are_kept BEFORE DELETE ON words
    BEGIN SELECT RAISE(ABORT, 'what a person said is never deleted: say something else'); END;
CREATE TRIGGER IF NOT EXISTS switches_stay BEFORE UPDATE ON switches
    BEGIN SELECT RAISE(ABORT, 'a switch is never changed: reset it'); END;
CREATE TRIGGER IF NOT EXISTS switches_are_kept BEFORE DELETE ON switches
    BEGIN SELECT RAISE(ABORT, 'a switch is never deleted: reset it'); END;
CREATE VIEW IF NOT EXISTS gold AS
    WITH counting AS (
        SELECT c.item_id, c.tag, c.kind, c.release, c.title, w.*
        FROM words w JOIN cases c ON c.id = w.case_id
        WHERE w.seq = (SELECT max(seq) FROM words WHERE case_id = c.id)
    )
    SELECT item_id, tag AS label, saying = 'accept' AS right, saying AS verdict, person, time, kind AS source,
        release, reason, title, seq FROM counting
    UNION ALL
    SELECT item_id, correction, 1, saying, person, time, kind, release, reason, title, seq
    FROM counting WHERE saying = 'correct';
CREATE VIEW IF NOT EXISTS judged AS
    SELECT c.grp, g.* FROM gold g JOIN words w ON w.seq = g.seq JOIN cases c ON c.id = w.case_id;
"""
"""``details``: what is only shown, as JSON. ``margin``: distance of the probability from one half. ``saying`` and
``person`` repeat the newest word. The view ``judged`` is what `features.gold` reads; ``gold``, the same without groups,
is of files from before there were values of attributes among the cases."""

COLUMNS: Final = (
    "id, kind, item_id, tag, release, title, text, attributes, probability, grp, unit, promised, details, arrived, "
    "claimed_by, claimed_until, saying"
)

INSERT: Final = """
INSERT INTO cases (kind, item_id, tag, release, title, text, attributes, probability, margin, grp, unit, promised,
    details, arrived) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""


def case_row(proposal: Proposal, arrived: float) -> tuple[Any, ...]:
    """The values of `INSERT`."""
    details = {
        "sources": proposal.sources,
        "evidence": asdict(proposal.evidence) if proposal.evidence else None,
        "reasons": [[reason.feature, reason.value, reason.contribution] for reason in proposal.reasons],
        "facts": proposal.facts,
        "prompt": proposal.prompt,
        "model": proposal.model,
    }
    return (
        proposal.kind,
        proposal.item_id,
        proposal.tag,
        proposal.release,
        proposal.item.title,
        proposal.item.text,
        json.dumps(dict(proposal.item.attributes), sort_keys=True),
        proposal.probability,
        abs(proposal.probability - 0.5),
        proposal.group,
        proposal.unit,
        proposal.promised,
        json.dumps(details),
        arrived,
    )


def case_of(row: Sequence[Any], history: Sequence[Word], now: float) -> Case:
    """The case of a row of `COLUMNS`; a claim that ran out by ``now`` is none."""
    (number, kind, item_id, tag, release, title, text, attributes, probability) = row[:9]
    (group, unit, promised, raw, arrived, claimed_by, claimed_until, saying) = row[9:]
    details = json.loads(raw)
    proposal = Proposal(
        kind,
        item_id,
        TagItem(title, text, json.loads(attributes)),
        tag,
        probability,
        group,
        unit,
        release,
        promised,
        tuple(details["sources"]),
        Span(**details["evidence"]) if details["evidence"] else None,
        tuple(Contribution(*reason) for reason in details["reasons"]),
        tuple(details["facts"]),
        details["prompt"],
        details["model"],
    )
    held = claimed_until > now
    state: State = "resolved" if saying else "claimed" if held else "open"
    return Case(
        number,
        proposal,
        arrived,
        state,
        claimed_by if held else "",
        claimed_until if held else 0.0,
        tuple(history),
    )


def words_of(db: sqlite3.Connection, cases: Sequence[int]) -> dict[int, list[Word]]:
    """What was said of these cases, by case, the oldest first."""
    found: dict[int, list[Word]] = {}
    marks = ", ".join("?" * len(cases))
    rows = db.execute(
        f"SELECT case_id, saying, person, time, correction, reason FROM words WHERE case_id IN ({marks}) ORDER BY seq",
        list(cases),
    )
    for case, *word in rows:
        found.setdefault(case, []).append(Word(*word))
    return found
